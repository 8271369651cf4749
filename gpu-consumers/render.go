// render_video without a GPU: the portrait framed to the picture's size, with a
// slow camera move over it (Ken Burns).

package gpu

import (
	"context"
	"fmt"
	"image"
	"image/draw"
	"io"
	"math"
	"path/filepath"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

// kenBurns is the built-in renderer.
type kenBurns struct {
	media *mediaTool
	faces *faceNetworks // may be without weights
}

// Capability implements engine.
func (k *kenBurns) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	return k.media.capability(ctx, "render_video", events.LaneRender, "ken-burns", events.FidelityPreview)
}

// Run implements engine: portrait in; scene_image and clip out. The scene's
// description and a LoRA are not used, which the notes say.
func (k *kenBurns) Run(ctx context.Context, a *Attempt) (*Output, error) {
	portrait, err := a.oneFile("portrait")
	if err != nil {
		return nil, err
	}
	shot, err := shotOf(a)
	if err != nil {
		return nil, err
	}
	photo, err := loadPicture(portrait.Path)
	if err != nil {
		return nil, err
	}
	fit, err := a.fit()
	if err != nil {
		return nil, err
	}
	still := k.setIn(ctx, photo, shot.w, shot.h, fit)
	scene, clip := filepath.Join(a.Dir, "scene.jpg"), filepath.Join(a.Dir, "clip.mp4")
	if err := savePicture(scene, still.frame(), true); err != nil {
		return nil, err
	}
	a.report(10, "portrait framed")
	if err := shot.film(ctx, k.media, a, still, clip); err != nil {
		return nil, err
	}
	version, err := k.media.versionOf(ctx, "ken-burns")
	if err != nil {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "ffmpeg cannot be used", Hint: ffmpegInstall, Err: err}
	}
	notes := []string{"the built-in renderer moves a camera over the portrait and does not draw the scene"}
	if shot.note != "" {
		notes = append(notes, shot.note)
	}
	if len(a.Files["lora"]) > 0 {
		notes = append(notes, "the LoRA was not used: the built-in renderer shows the photo itself")
	}
	return &Output{
		Files: map[string][]File{
			"scene_image": {{Path: scene, Artifact: events.Artifact{Name: "scene.jpg", Type: "image", MediaType: "image/jpeg", Width: shot.w, Height: shot.h}}},
			"clip":        {{Path: clip, Artifact: shot.artifact("clip.mp4")}},
		},
		Fidelity: events.FidelityPreview, Engine: "ken-burns", Version: version, Notes: notes,
	}, nil
}

// cameraRoom is how much more than head and shoulders the picture shows, so
// that the camera can go nearer.
const cameraRoom = 1.2

// crop is the part of the photo to show: head and shoulders where the face
// networks find a face, else the upper part.
func (k *kenBurns) crop(ctx context.Context, photo *image.RGBA, w, h int) image.Rectangle {
	plain := frameCrop(photo.Rect.Dx(), photo.Rect.Dy(), w, h)
	model, err := k.faces.load()
	if err != nil {
		return plain
	}
	marks, _, err := locate(ctx, model, photo)
	if err != nil {
		return plain
	}
	framing, err := talkingphoto.FrameFace(photo.Rect, marks, w, h)
	if err != nil {
		return plain
	}
	return widen(framing.Crop, photo.Rect, cameraRoom)
}

// widen enlarges a part around its middle, keeping its aspect and within the
// whole.
func widen(part, whole image.Rectangle, factor float64) image.Rectangle {
	factor = min(factor, float64(whole.Dx())/float64(part.Dx()), float64(whole.Dy())/float64(part.Dy()))
	w, h := min(whole.Dx(), int(float64(part.Dx())*factor)), min(whole.Dy(), int(float64(part.Dy())*factor))
	x := max(whole.Min.X, min(whole.Max.X-w, part.Min.X-(w-part.Dx())/2))
	y := max(whole.Min.Y, min(whole.Max.Y-h, part.Min.Y-(h-part.Dy())/2))
	return image.Rect(x, y, x+w, y+h)
}

// shot is what to film: size in pixels, length in seconds, and the seed that
// chooses the camera's way.
type shot struct {
	w, h, fps int
	seconds   float64
	seed      int64
	note      string // why it is smaller than asked for
}

func shotOf(a *Attempt) (shot, error) {
	w, h, note, err := a.frameSize()
	if err != nil {
		return shot{}, err
	}
	fps, err := a.span("fps", 10, 60, 25)
	if err != nil {
		return shot{}, err
	}
	if a.draft() {
		fps = min(fps, draftFPS)
	}
	seconds, err := a.span("duration_seconds", 1, 60, 8)
	if err != nil {
		return shot{}, err
	}
	return shot{w: w, h: h, note: note, fps: int(math.Round(fps)), seconds: seconds, seed: int64(a.number("seed", 0))}, nil
}

func (s shot) frames() int { return max(1, int(math.Round(s.seconds*float64(s.fps)))) }

func (s shot) artifact(name string) events.Artifact {
	return events.Artifact{Name: name, Type: "video", MediaType: "video/mp4", Width: s.w, Height: s.h,
		DurationMS: int64(math.Round(float64(s.frames()) / float64(s.fps) * 1000))}
}

// rect is a part of a picture in shares of its sides: left, top, and the side's
// length, which is the same share both ways.
type rect struct{ x, y, side float64 }

// move is where the camera starts and ends. It goes in or out, drifting to one
// side, always around the upper part; 1.5 % a second keeps it slow.
func (s shot) move() (from, to rect) {
	depth := max(0.05, min(0.16, 0.015*s.seconds))
	way := s.seed % 6
	if way < 0 {
		way += 6
	}
	drift := []float64{0, -0.35, 0.35}[way/2]
	wide := rect{0, 0, 1}
	near := rect{depth * (0.5 + drift), depth * 0.15, 1 - depth} // close to the top: hair must not be cut
	if way%2 == 1 {
		return near, wide
	}
	return wide, near
}

// film encodes the camera move over the picture; what is around it stands still. The perspective filter samples
// between pixels, so that the slow move does not tremble as zoompan's whole
// pixels do; it eases in and out, so that the clip can also be played backwards.
func (s shot) film(ctx context.Context, media *mediaTool, a *Attempt, still setting, out string) error {
	from, to := s.move()
	ease := fmt.Sprintf("((1-cos(PI*min(1,on/%d)))/2)", max(1, s.frames()-1))
	between := func(side string, a, b float64) string { return fmt.Sprintf("%s*(%.6f+(%.6f)*%s)", side, a, b-a, ease) }
	left, right := between("W", from.x, to.x), between("W", from.x+from.side, to.x+to.side)
	top, bottom := between("H", from.y, to.y), between("H", from.y+from.side, to.y+to.side)
	filter := fmt.Sprintf("perspective=x0='%s':y0='%s':x1='%s':y1='%s':x2='%s':y2='%s':x3='%s':y3='%s':sense=source:eval=frame:interpolation=cubic",
		left, top, right, top, left, bottom, right, bottom)
	feed := still.picture
	if still.around != nil { // both as one picture, one above the other
		iw, ih := still.at.Dx(), still.at.Dy()
		feed = image.NewRGBA(image.Rect(0, 0, s.w, s.h+ih))
		copy(feed.Pix, still.around.Pix)
		draw.Draw(feed, image.Rect(0, s.h, iw, s.h+ih), still.picture, image.Point{}, draw.Src)
		filter = fmt.Sprintf("split[a][b];[a]crop=%d:%d:0:0[around];[b]crop=%d:%d:0:%d,%s[moving];[around][moving]overlay=%d:%d",
			s.w, s.h, iw, ih, s.h, filter, still.at.Min.X, still.at.Min.Y)
	}
	filter = fmt.Sprintf("loop=loop=-1:size=1,fps=%d,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,%s", s.fps, filter)
	return media.run(ctx, transcode{
		dir: a.Dir, inputs: []mediaInput{rawFrames("rgba", s.w, feed.Rect.Dy(), s.fps)}, output: out, seconds: s.seconds,
		args:     append([]string{"-vf", filter, "-frames:v", fmt.Sprint(s.frames()), "-an"}, h264Args("18")...),
		feed:     func(w io.Writer) error { _, err := w.Write(feed.Pix); return err },
		progress: func(f float64) { a.report(10+88*f, "rendering") },
		timeout:  20 * time.Minute,
	})
}
