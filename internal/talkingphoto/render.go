package talkingphoto

// This file renders a whole clip: frames from the animator, encoded by ffmpeg
// together with the speech.

import (
	"context"
	"errors"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
)

// Options describe one clip.
type Options struct {
	Photo     image.Image
	Landmarks Landmarks // of the photo, from FaceModel.Landmarks or MarkMouth
	Phones    []Phone   // empty when unknown: loudness alone moves the mouth
	WAV       string    // the speech; PCM or float WAV
	W, H      int       // even, 64 to 3840
	FPS       int       // 1 to 60
	FFmpeg    string    // path or name; empty searches PATH
	Out       string    // the MP4 to write; replaced if it exists
	Comment   string    // the file's comment tag; provenance belongs here

	// Progress is called from one goroutine after every frame; may be nil.
	Progress func(done, total int)
}

// Result tells what was rendered.
type Result struct {
	Frames  int
	Seconds float64 // of video; the sound is padded to it
	Framing Framing
	// Mouth and Face are the regions for MouthMotion and FaceSimilarity, in
	// the clip's pixels; Still is the framed photo to compare the face with.
	Mouth, Face image.Rectangle
	Still       *Frame
}

// tailSeconds is how long the face stays after the last sound, so that it can
// come to rest.
const tailSeconds = 0.3

// Render writes an MP4 (H.264 yuv420p, AAC 48 kHz, index at the front). On an
// error or when ctx ends no file is left behind, ffmpeg is gone, and the error
// holds ffmpeg's own words.
func Render(ctx context.Context, o Options) (Result, error) {
	if o.FPS < 1 || o.FPS > 60 {
		return Result{}, fmt.Errorf("%d frames per second are not possible: use 1 to 60", o.FPS)
	}
	if o.Out == "" {
		return Result{}, errors.New("cannot render: no output path was given")
	}
	ffmpeg, err := findFFmpeg(o.FFmpeg)
	if err != nil {
		return Result{}, err
	}
	wav, err := filepath.Abs(o.WAV)
	if err != nil {
		return Result{}, fmt.Errorf("cannot find the speech: %w", err)
	}
	out, err := filepath.Abs(o.Out)
	if err != nil {
		return Result{}, fmt.Errorf("cannot place the clip: %w", err)
	}
	sound, err := ReadWAV(wav)
	if err != nil {
		return Result{}, err
	}
	a, err := NewAnimator(AnimatorOptions{Photo: o.Photo, Landmarks: o.Landmarks, W: o.W, H: o.H, Phones: o.Phones, Sound: sound})
	if err != nil {
		return Result{}, err
	}
	// The sound decides the length; phones that claim more do not.
	frames := int(math.Ceil((sound.Seconds() + tailSeconds) * float64(o.FPS)))
	e, err := startEncoder(ctx, encodeArgs{ffmpeg: ffmpeg, w: o.W, h: o.H, fps: o.FPS, frames: frames, wav: wav, out: out, comment: o.Comment})
	if err != nil {
		return Result{}, err
	}
	if err := e.finish(ctx, a.play(ctx, e, frames, o.FPS, o.Progress)); err != nil {
		os.Remove(out)
		return Result{}, err
	}
	return Result{
		Frames: frames, Seconds: float64(frames) / float64(o.FPS),
		Framing: a.framing, Mouth: a.MouthRegion(), Face: a.FaceRegion(), Still: a.photo,
	}, nil
}

// play draws all frames and sends them; the next frame is drawn while ffmpeg
// takes the last one.
func (a *Animator) play(ctx context.Context, e *encoder, frames, fps int, progress func(done, total int)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	empty, full := make(chan *Frame, 3), make(chan *Frame, 3)
	for range cap(empty) {
		empty <- NewFrame(a.photo.W, a.photo.H)
	}
	failed := make(chan error, 1)
	go func() {
		defer close(full)
		for i := range frames {
			select {
			case <-ctx.Done():
				return
			case f := <-empty:
				if err := a.Frame(float64(i)/float64(fps), f); err != nil {
					failed <- err
					return
				}
				full <- f
			}
		}
	}()
	// The animator must be at rest before its owner sees it again.
	defer func() {
		stop()
		for range full {
		}
	}()
	done := 0
	for f := range full {
		if err := e.write(f); err != nil {
			return err
		}
		empty <- f
		done++
		if progress != nil {
			progress(done, frames)
		}
	}
	select {
	case err := <-failed:
		return err
	default:
		return ctx.Err()
	}
}
