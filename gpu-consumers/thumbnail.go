// The picture that stands for the video: of some frames, the one that shows the person
// best.

package gpu

import (
	"context"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

const (
	thumbnailFrames = 6    // that are looked at
	thumbnailSide   = 1280 // pixels of the long side, at most
)

// thumbnail is a picture in a file.
type thumbnail struct {
	path string
	size image.Point
}

// thumbnail chooses a frame of the video, without captions but with the label.
func (m *assembler) thumbnail(ctx context.Context, a *Attempt, c *cutting) (*thumbnail, error) {
	a.report(88, "choosing the thumbnail")
	scale := min(1, float64(thumbnailSide)/float64(max(c.w, c.h)))
	w, h := max(2, int(float64(c.w)*scale)&^1), max(2, int(float64(c.h)*scale)&^1)
	frames, err := m.media.stills(ctx, a.Dir, c.videoPath, thumbnailFrames/min(c.seconds, max(0.1, c.video.Video.Seconds)), thumbnailFrames,
		append(append([]string{}, c.shape...), append(c.label, fmt.Sprintf("scale=%d:%d", w, h))...), w, h)
	if err != nil {
		return nil, err
	}
	t := &thumbnail{filepath.Join(a.Dir, "thumbnail.jpg"), image.Pt(w, h)}
	return t, savePicture(t.path, frames[m.best(ctx, frames)], true)
}

// best is the frame with the most to see: bright and sharp, a face with open eyes and a
// mouth that is not just wide open. Frames near the middle win where nothing parts them.
func (m *assembler) best(ctx context.Context, frames []*image.RGBA) int {
	model, err := m.faces.load()
	if err != nil {
		model = nil // pictures are still told apart without faces
	}
	best, top := 0, math.Inf(-1)
	var before *talkingphoto.Landmarks
	for i, f := range frames {
		score := looks(f) - 0.05*math.Abs(float64(i)-float64(len(frames)-1)/2)
		if model != nil {
			if marks, ok := faceIn(ctx, model, f, before); ok {
				before = &marks
				score += 2 + 8*min(0.35, marks.EyesOpen()) - 3*marks.MouthGap()
			}
		}
		if score > top {
			best, top = i, score
		}
	}
	return best
}

// faceIn finds the largest face, near where it was before if it is known.
func faceIn(ctx context.Context, model *talkingphoto.FaceModel, f *image.RGBA, before *talkingphoto.Landmarks) (talkingphoto.Landmarks, bool) {
	if before != nil {
		if marks, err := model.Follow(f, *before); err == nil {
			return marks, true
		}
	}
	marks, _, err := locate(ctx, model, f)
	return marks, err == nil
}

// looks is how much there is to see in a picture: about 0 for one that is black, white or
// of one colour, up to 1.
func looks(f *image.RGBA) float64 {
	grey := func(x, y int) float64 {
		p := f.Pix[y*f.Stride+x*4:]
		return 0.2126*float64(p[0]) + 0.7152*float64(p[1]) + 0.0722*float64(p[2])
	}
	total, edges, n := 0.0, 0.0, 0.0
	for y := 0; y+2 < f.Rect.Dy(); y += 2 {
		for x := 0; x+2 < f.Rect.Dx(); x += 2 {
			v := grey(x, y)
			total += v
			edges += math.Abs(grey(x+2, y)-v) + math.Abs(grey(x, y+2)-v)
			n++
		}
	}
	if n == 0 {
		return 0
	}
	light := 1 - math.Abs(total/n-118)/138
	return 0.5*max(0, light) + 0.5*min(1, edges/n/12)
}

// stills decodes at most n frames, so many a second, through filters that end in w×h.
func (m *mediaTool) stills(ctx context.Context, dir, video string, perSecond float64, n int, filters []string, w, h int) ([]*image.RGBA, error) {
	raw := filepath.Join(dir, "stills.rgba")
	filters = append([]string{fmt.Sprintf("fps=%.4f", perSecond)}, filters...)
	err := m.run(ctx, transcode{dir: dir, inputs: []mediaInput{{path: video}}, output: raw, timeout: 5 * time.Minute,
		args: []string{"-map", "0:v:0", "-vf", strings.Join(append(filters, "format=rgba"), ","), "-frames:v", fmt.Sprint(n), "-f", "rawvideo"}})
	if err != nil {
		return nil, err
	}
	pix, err := os.ReadFile(raw)
	if err == nil {
		err = os.Remove(raw)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read decoded frames: %w", err)
	}
	var out []*image.RGBA
	for size := w * h * 4; len(pix) >= size; pix = pix[size:] {
		out = append(out, &image.RGBA{Pix: pix[:size:size], Stride: w * 4, Rect: image.Rect(0, 0, w, h)})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the video %s gave no frame", filepath.Base(video))
	}
	return out, nil
}

// faceOf is where the largest face is in the middle of the video, in its pixels.
func (m *assembler) faceOf(ctx context.Context, a *Attempt, c *cutting) (image.Rectangle, bool) {
	model, err := m.faces.load()
	if err != nil {
		return image.Rectangle{}, false
	}
	v := c.video.Video
	frames, err := m.media.stills(ctx, a.Dir, c.videoPath, 2/max(0.1, v.Seconds), 2, nil, v.Width, v.Height)
	if err != nil {
		return image.Rectangle{}, false // the encoder tells what is wrong with it
	}
	faces, err := model.Detect(ctx, frames[len(frames)-1])
	if err != nil {
		return image.Rectangle{}, false
	}
	b := faces[0].Box
	return image.Rect(int(b.X), int(b.Y), int(b.X+b.W), int(b.Y+b.H)), true
}

// around is a part of the whole of the given size, with the face in its middle across and
// a little above its middle in height.
func around(face, whole image.Rectangle, size image.Point) image.Rectangle {
	size = image.Pt(min(size.X, whole.Dx()), min(size.Y, whole.Dy()))
	x := (face.Min.X+face.Max.X)/2 - size.X/2
	y := (face.Min.Y+face.Max.Y)/2 - int(float64(size.Y)*0.44)
	x, y = max(0, min(x, whole.Dx()-size.X)), max(0, min(y, whole.Dy()-size.Y))
	return image.Rectangle{Min: image.Pt(x, y), Max: image.Pt(x, y).Add(size)}
}
