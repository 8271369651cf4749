// What a lip-sync program finds in the folder that it runs in: the face, the speech, and
// where its own habits expect something.

package gpu

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

// prepare makes the program's folder with the face and the speech in it.
func (l *lipsyncProgram) prepare(ctx context.Context, a *Attempt) (*lipsyncWork, error) {
	work := &lipsyncWork{dir: filepath.Join(a.Dir, "program")}
	for _, folder := range []string{"result", "temp"} { // Wav2Lip and its like write into the second and do not make it
		if err := os.MkdirAll(filepath.Join(work.dir, folder), 0o700); err != nil {
			return nil, fmt.Errorf("cannot make the program's folder: %w", err)
		}
	}
	if err := linkInto(work.dir, l.folder, l.links...); err != nil {
		return nil, err
	}
	if err := l.prepareSpeech(ctx, a, work); err != nil {
		return nil, err
	}
	if len(a.Files["clip"]) > 0 {
		return work, l.prepareClip(ctx, a, work)
	}
	return work, l.preparePortrait(ctx, a, work)
}

// prepareSpeech writes the speech as such models take it, 16 kHz in one channel, and the
// silence after it, so that the mouth closes at the end.
func (l *lipsyncProgram) prepareSpeech(ctx context.Context, a *Attempt, work *lipsyncWork) error {
	speech, err := a.oneFile("speech")
	if err != nil {
		return err
	}
	out := filepath.Join(work.dir, "speech.wav")
	err = l.media.run(ctx, transcode{dir: work.dir, inputs: []mediaInput{{path: speech.Path}}, output: out, timeout: 5 * time.Minute,
		args: []string{"-map", "0:a:0", "-af", fmt.Sprintf("apad=pad_dur=%g", tail), "-ac", "1", "-ar", "16000", "-c:a", "pcm_s16le", "-f", "wav"}})
	if err != nil {
		return asInvalidInput(err, "the speech cannot be decoded", "run the speech stage again")
	}
	w, err := readWave(out)
	if err != nil {
		return err
	}
	if work.spoken = w.seconds() - tail; work.spoken <= 0 {
		return &TaskError{Class: events.ClassInvalidInput, Message: "the speech is empty", Hint: "run the speech stage again"}
	}
	work.speech = speech.Path
	return nil
}

// length sets how long the result is: the speech, and a moment after it.
func (w *lipsyncWork) length() int {
	frames := int(math.Ceil((w.spoken + tail) * w.fps))
	w.seconds = float64(frames) / w.fps
	return frames
}

// portraitShot is the portrait as it is shown.
type portraitShot struct {
	shot
	set setting
}

// preparePortrait writes the portrait anew, framed as the built-in engines frame it.
func (l *lipsyncProgram) preparePortrait(ctx context.Context, a *Attempt, work *lipsyncWork) error {
	portrait, err := a.oneFile("portrait")
	if err != nil {
		return err
	}
	s, err := shotOf(a)
	if err != nil {
		return err
	}
	if s.note != "" {
		work.notes = append(work.notes, s.note)
	}
	photo, err := loadPicture(portrait.Path)
	if err != nil {
		return err
	}
	work.face, work.w, work.h, work.fps = "face.png", s.w, s.h, float64(s.fps)
	work.length()
	fit, err := a.fit()
	if err != nil {
		return err
	}
	set := l.framing.setIn(ctx, photo, s.w, s.h, fit)
	work.portrait = &portraitShot{s, set}
	return savePicture(filepath.Join(work.dir, work.face), set.frame(), false)
}

// prepareClip writes the clip anew, as long as the speech, and smaller after each time
// that memory ran out.
func (l *lipsyncProgram) prepareClip(ctx context.Context, a *Attempt, work *lipsyncWork) error {
	in, err := a.oneFile("clip")
	if err != nil {
		return err
	}
	smaller := 1 << min(a.Reduce, 2)
	work.face = "face.mp4"
	clip, err := playback{spoken: work.spoken, smaller: smaller, out: filepath.Join(work.dir, work.face), progress: func(f float64) { a.report(lipsyncReady*f, "preparing the clip") }}.
		write(ctx, l.media, a.Dir, in.Path)
	if err != nil {
		return err
	}
	work.w, work.h, work.fps = clip.w, clip.h, float64(clip.fps)
	work.length()
	if smaller > 1 {
		work.notes = append(work.notes, drawnSmaller(clip, smaller))
	}
	return nil
}

func drawnSmaller(clip *clipFrames, smaller int) string {
	return fmt.Sprintf("the lips were drawn at %d×%d, because memory ran out before", clip.w/smaller, clip.h/smaller)
}

// playback is a clip made as long as a speech, played forth and back: some programs begin
// again at its first picture, which is seen.
type playback struct {
	spoken   float64 // seconds
	fps      float64 // of what is written; 0: the clip's own
	smaller  int     // how many times, 1 for not
	out      string
	progress func(fraction float64)
}

// write gives the clip as it was, closed.
func (p playback) write(ctx context.Context, media *mediaTool, dir, in string) (*clipFrames, error) {
	frames := func(fps int) int { return int(math.Ceil((p.spoken + tail) * float64(fps))) }
	clip, err := openClip(ctx, media, dir, in, frames(60)) // the most that a clip's rate can be
	if err != nil {
		return nil, err
	}
	defer clip.file.Close()
	filter := fmt.Sprintf("scale=trunc(iw/%d)*2:trunc(ih/%d)*2", 2*p.smaller, 2*p.smaller)
	if p.fps > 0 {
		filter = fmt.Sprintf("fps=%g,", p.fps) + filter
	}
	n := frames(clip.fps)
	return clip, media.run(ctx, transcode{
		dir: dir, inputs: []mediaInput{rawFrames("yuv420p", clip.w, clip.h, clip.fps)}, output: p.out, seconds: float64(n) / float64(clip.fps),
		args: append([]string{"-an", "-vf", filter}, h264Args("14")...),
		feed: func(w io.Writer) error {
			frame := talkingphoto.NewFrame(clip.w, clip.h)
			for i := range n {
				if err := clip.read(i, frame); err != nil {
					return err
				}
				if _, err := w.Write(frame.Pix); err != nil {
					return err
				}
			}
			return ctx.Err()
		},
		progress: p.progress, timeout: 10 * time.Minute,
	})
}

// withoutMouth shows the picture itself.
func (l *lipsyncProgram) withoutMouth(ctx context.Context, a *Attempt, work *lipsyncWork) (string, error) {
	if work.portrait == nil {
		work.notes = append(work.notes, "no face was found: the clip is shown without mouth movement")
		return filepath.Join(work.dir, work.face), nil
	}
	work.notes = append(work.notes, "no face was found: the video shows the photo without mouth movement")
	s := work.portrait.shot
	s.seconds = work.seconds
	silent := *a
	silent.Progress = nil
	path := filepath.Join(a.Dir, "still.mp4")
	return path, s.film(ctx, l.media, &silent, work.portrait.set, path)
}
