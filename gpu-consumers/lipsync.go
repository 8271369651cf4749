// lipsync.apply without a GPU: the talking-photo renderer, over a portrait or
// over a moving clip.

package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"io"
	"math"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

const (
	faceWeightsHint = `run "make deps" or set engines.face.weights to the folder of the face networks`
	noFaceHint      = "use a photo that shows one face from the front and near, or set no_face to still for a video without mouth movement"
)

// faceNetworks are the networks that find faces, loaded at their first use. It
// is safe for concurrent use.
type faceNetworks struct {
	folder string

	mu    sync.Mutex
	model *talkingphoto.FaceModel
}

// load returns the networks; a failure is tried again at the next call.
func (n *faceNetworks) load() (*talkingphoto.FaceModel, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.model != nil {
		return n.model, nil
	}
	if n.folder == "" {
		return nil, errors.New("the folder of the face networks is not set")
	}
	model, err := talkingphoto.LoadFaceModel(n.folder)
	if err != nil {
		return nil, err
	}
	n.model = model
	return model, nil
}

// talkingPhoto is the built-in lip-sync engine.
type talkingPhoto struct {
	media *mediaTool
	faces *faceNetworks
}

// Capability implements engine.
func (l *talkingPhoto) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	if _, err := l.faces.load(); err != nil {
		return events.TaskCapability{}, &events.TaskGap{Task: "lipsync.apply", Engine: "talking-photo", Reason: err.Error(), Hint: faceWeightsHint, Builtin: true}
	}
	return l.media.capability(ctx, "lipsync.apply", events.LaneLipsync, "talking-photo", events.FidelityPreview)
}

// talk is one run: what is said, and where the result goes.
type talk struct {
	model  *talkingphoto.FaceModel
	sound  talkingphoto.PCM
	phones []talkingphoto.Phone
	wav    string // the speech as the encoder reads it
	out    string
}

// footage is a moving picture that is drawn frame by frame.
type footage struct {
	w, h, fps, frames int
	draw              func(i int, dst *talkingphoto.Frame) error
	clip              *clipFrames // what draw reads; nil for a portrait
}

// framesFor is the number of frames that show the speech and the tail after it.
func (t *talk) framesFor(fps int) int {
	return int(math.Ceil((t.sound.Seconds() + tail) * float64(fps)))
}

// Run implements engine: speech, timing (optional), and clip or portrait in;
// talking out, as long as the speech and 0.35 s more.
func (l *talkingPhoto) Run(ctx context.Context, a *Attempt) (*Output, error) {
	model, err := l.faces.load()
	if err != nil {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "the face networks cannot be used", Hint: faceWeightsHint, Err: err}
	}
	noFace := a.text("no_face", "fail")
	if noFace != "fail" && noFace != "still" {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the parameter no_face is unknown", Hint: "choose fail or still"}
	}
	t, f, notes, err := l.stage(ctx, a, model, noFace == "still")
	if err != nil {
		return nil, err
	}
	if f.clip != nil {
		defer f.clip.file.Close()
	}
	if err := l.encode(ctx, a, t, f); err != nil {
		return nil, err
	}
	version, err := l.media.versionOf(ctx, "talking-photo")
	if err != nil {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "ffmpeg cannot be used", Hint: ffmpegInstall, Err: err}
	}
	ms := int64(math.Round(float64(f.frames) / float64(f.fps) * 1000))
	return &Output{
		Files: map[string][]File{"talking": {{Path: t.out, Artifact: events.Artifact{Name: "talking.mp4", Type: "video", MediaType: "video/mp4",
			Width: f.w, Height: f.h, DurationMS: ms}}}},
		Fidelity: events.FidelityPreview, Engine: "talking-photo", Version: version, Notes: notes,
	}, nil
}

// stage reads the speech, finds the face and sets how the frames are drawn. Over a
// portrait it listens and looks at the same time.
func (l *talkingPhoto) stage(ctx context.Context, a *Attempt, model *talkingphoto.FaceModel, still bool) (*talk, *footage, []string, error) {
	if len(a.Files["clip"]) > 0 {
		t, err := l.listen(ctx, a)
		if err != nil {
			return nil, nil, nil, err
		}
		t.model = model
		f, notes, err := l.overClip(ctx, a, t, still)
		return t, f, notes, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	type look struct {
		sitter *sitter
		err    error
	}
	looking := make(chan look, 1)
	go func() {
		s, err := l.look(ctx, a, model)
		looking <- look{s, err}
	}()
	t, err := l.listen(ctx, a)
	if err != nil {
		stop()
	}
	seen := <-looking // it has ended before the attempt does
	if err = cmp.Or(err, seen.err); err != nil {
		return nil, nil, nil, err
	}
	t.model = model
	f, notes, err := l.overPortrait(ctx, a, t, seen.sitter, still)
	return t, f, notes, err
}

// listen reads the speech and its timing.
func (l *talkingPhoto) listen(ctx context.Context, a *Attempt) (*talk, error) {
	speech, err := a.oneFile("speech")
	if err != nil {
		return nil, err
	}
	t := &talk{wav: filepath.Join(a.Dir, "speech-mono.wav"), out: filepath.Join(a.Dir, "talking.mp4")}
	err = l.media.run(ctx, transcode{dir: a.Dir, inputs: []mediaInput{{path: speech.Path}}, output: t.wav, timeout: 5 * time.Minute,
		args: []string{"-map", "0:a:0", "-ac", "1", "-ar", strconv.Itoa(speechRate), "-c:a", "pcm_s16le", "-f", "wav"}})
	if err != nil {
		return nil, asInvalidInput(err, "the speech cannot be decoded", "run the speech stage again")
	}
	w, err := readWave(t.wav)
	if err != nil {
		return nil, err
	}
	if len(w.samples) == 0 {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the speech is empty", Hint: "run the speech stage again"}
	}
	t.sound = talkingphoto.PCM{Rate: w.rate, Samples: w.samples}
	if len(a.Files["timing"]) > 0 {
		times, err := readTiming(a.Files["timing"][0].Path)
		if err != nil {
			return nil, err
		}
		for _, p := range times.Phones {
			t.phones = append(t.phones, talkingphoto.Phone{Symbol: p.Symbol, Start: p.Start, End: p.End})
		}
	}
	return t, nil
}

// sitter is who sits for a portrait.
type sitter struct {
	shot   shot
	fit    string
	photo  *image.RGBA
	marks  talkingphoto.Landmarks
	faces  int
	absent error // why nobody can be seen to speak, an ErrNoFace or smallFace; nil: somebody can
}

// look opens the portrait and finds its largest face.
func (l *talkingPhoto) look(ctx context.Context, a *Attempt, model *talkingphoto.FaceModel) (*sitter, error) {
	portrait, err := a.oneFile("portrait")
	if err != nil {
		return nil, err
	}
	s := &sitter{}
	if s.shot, err = shotOf(a); err != nil {
		return nil, err
	}
	if s.fit, err = a.fit(); err != nil {
		return nil, err
	}
	if s.photo, err = loadPicture(portrait.Path); err != nil {
		return nil, err
	}
	s.marks, s.faces, err = locate(ctx, model, s.photo)
	if err == nil {
		err = legible(s.eyes())
	}
	if absence(err) != "" {
		s.absent = err
		return s, nil
	}
	if err != nil {
		return nil, faceError(err)
	}
	return s, nil
}

// leastEyes is how many pixels the eyes must stand apart, in the photo and in the picture
// that the last check looks at: with 18 the check followed every portrait's lips, in every
// shape of the picture; with 14 half of them were no face to it.
const leastEyes = 18

// smallFace is a face that nobody could see speak.
type smallFace struct{ eyes float64 }

func (s *smallFace) Error() string {
	return fmt.Sprintf("the face is too small: its eyes are %.0f pixels apart, and should be %d at least", s.eyes, leastEyes)
}

// absence says why nobody can be seen to speak; empty for other errors, and for none.
func absence(err error) string {
	var small *smallFace
	switch {
	case errors.As(err, &small):
		return small.Error()
	case errors.Is(err, talkingphoto.ErrNoFace):
		return "no face was found"
	}
	return ""
}

// eyes is how many pixels the eyes stand apart in the photo, or in the picture that is
// looked at last, where that shows them smaller.
func (s *sitter) eyes() float64 {
	eyes := s.marks.Eyes()
	if s.fit == fitCover {
		return eyes
	}
	// The whole photo stands within the frame.
	within := min(float64(s.shot.w)/float64(s.photo.Rect.Dx()), float64(s.shot.h)/float64(s.photo.Rect.Dy()))
	return min(eyes, eyes*within*min(1, mouthWidth/float64(min(s.shot.w, s.shot.h))))
}

// legible refuses a face that is too small for anybody to see it speak.
func legible(eyes float64) error {
	if eyes < leastEyes {
		return &smallFace{eyes}
	}
	return nil
}

// overPortrait frames the largest face of a photo and has it speak.
func (l *talkingPhoto) overPortrait(ctx context.Context, a *Attempt, t *talk, s *sitter, still bool) (*footage, []string, error) {
	f := &footage{w: s.shot.w, h: s.shot.h, fps: s.shot.fps, frames: t.framesFor(s.shot.fps)}
	if s.absent != nil && still {
		return l.overStill(ctx, a, f, s)
	}
	err := s.absent
	if err == nil {
		err = l.drawPortrait(ctx, t, s.shot, f, s.photo, s.marks, s.fit)
	}
	if err != nil {
		return nil, nil, faceError(err)
	}
	notes := []string{"a preview: the photo's own pixels move with the speech, and the scene is not drawn"}
	if s.faces > 1 {
		notes = append(notes, fmt.Sprintf("the photo shows %d faces; the largest one speaks", s.faces))
	}
	return f, notes, nil
}

// drawPortrait sets how the frames of a speaking photo are drawn: head and shoulders of
// it fill the frame, or the whole of it stands within.
func (l *talkingPhoto) drawPortrait(ctx context.Context, t *talk, s shot, f *footage, photo *image.RGBA, marks talkingphoto.Landmarks, fit string) error {
	if fit != fitCover {
		return l.onStill(t, (&kenBurns{l.media, l.faces}).setIn(ctx, photo, s.w, s.h, fit), photo.Rect, marks, f, s.seed)
	}
	animator, err := talkingphoto.NewAnimator(talkingphoto.AnimatorOptions{Photo: photo, Landmarks: marks, W: s.w, H: s.h, Phones: t.phones, Sound: t.sound, Seed: s.seed})
	if err != nil {
		return err
	}
	f.draw = func(i int, dst *talkingphoto.Frame) error { return animator.Frame(float64(i)/float64(s.fps), dst) }
	return nil
}

// overStill films the photo without a face.
func (l *talkingPhoto) overStill(ctx context.Context, a *Attempt, f *footage, s *sitter) (*footage, []string, error) {
	s.shot.seconds = float64(f.frames) / float64(f.fps)
	path := filepath.Join(a.Dir, "still.mp4")
	still := (&kenBurns{l.media, l.faces}).setIn(ctx, s.photo, s.shot.w, s.shot.h, s.fit)
	silent := *a
	silent.Progress = nil
	if err := s.shot.film(ctx, l.media, &silent, still, path); err != nil {
		return nil, nil, err
	}
	clip, err := openClip(ctx, l.media, a.Dir, path, f.frames)
	if err != nil {
		return nil, nil, err
	}
	f.draw, f.clip = clip.read, clip
	return f, []string{absence(s.absent) + ": the video shows the photo without mouth movement"}, nil
}

// locate finds the largest face of a picture, its landmarks, and how many faces
// there are.
func locate(ctx context.Context, model *talkingphoto.FaceModel, img image.Image) (talkingphoto.Landmarks, int, error) {
	faces, err := model.Detect(ctx, img)
	if err != nil {
		return talkingphoto.Landmarks{}, 0, err
	}
	marks, err := model.Landmarks(img, faces[0].Box) // the largest comes first
	return marks, len(faces), err
}

// faceError gives a failure of the renderer its class.
func faceError(err error) error {
	var small *smallFace
	switch {
	case errors.As(err, &small):
		return &TaskError{Class: events.ClassInvalidInput, Message: small.Error(), Hint: noFaceHint}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("finding the face was stopped: %w", err)
	case errors.Is(err, talkingphoto.ErrNoFace):
		return &TaskError{Class: events.ClassInvalidInput, Message: "no face was found in the picture", Hint: noFaceHint}
	}
	return &TaskError{Class: events.ClassInvalidInput, Message: "the face in the picture cannot be animated", Hint: noFaceHint, Err: err}
}

// encode draws all frames and has ffmpeg encode them, one while the other draws
// the next, and join them with the speech.
func (l *talkingPhoto) encode(ctx context.Context, a *Attempt, t *talk, f *footage) error {
	seconds := float64(f.frames) / float64(f.fps)
	length := strconv.FormatFloat(seconds, 'f', 4, 64)
	return l.media.run(ctx, transcode{
		dir: a.Dir, inputs: []mediaInput{rawFrames("yuv420p", f.w, f.h, f.fps), {path: t.wav, format: "wav"}}, output: t.out, seconds: seconds,
		args: append(h264Args("18"), "-map", "0:v:0", "-map", "1:a:0", "-af", "apad", "-t", length, "-c:a", "aac", "-b:a", "128k", "-ar", "48000"),
		feed: func(w io.Writer) error {
			done := 0
			return talkingphoto.Stream(ctx, f.w, f.h, f.frames, func(i int, dst *talkingphoto.Frame) error {
				if err := f.draw(i, dst); err != nil {
					return fmt.Errorf("cannot draw a frame: %w", err)
				}
				return nil
			}, func(frame *talkingphoto.Frame) error {
				if _, err := w.Write(frame.Pix); err != nil {
					return err
				}
				done++
				a.report(30+68*float64(done)/float64(f.frames), "moving the lips")
				return nil
			})
		},
		timeout: 60 * time.Minute,
	})
}
