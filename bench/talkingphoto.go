package main

// This file measures the built-in talking photo against x264 alone, which is given the very same
// frames with the very same settings. A check before the first round holds both to that: the two
// encoders must write the same packets.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/png" // the sample portrait
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

const (
	photoSide = 720 // pixels
	photoFPS  = 25
	// photoText takes flite's voice slt a little more than eight seconds.
	photoText = "Hello, my name is Eileen, and this is a test of the talking photo. Bob and Mary made a fine film about five blue boats. It runs here."
	peerX264  = "x264 alone"
)

// photoBench is one clip, ready to be made again and again.
type photoBench struct {
	options talkingphoto.Options
	sound   talkingphoto.PCM
	dir     string
	frames  string  // file with all frames, raw yuv420p
	seconds float64 // of video
	count   int     // of frames
}

// photoRound is what one round took.
type photoRound struct {
	render, x264, draw work
}

// work is time on the wall and on the processors, in seconds.
type work struct{ wall, cpu float64 }

func measureTalkingPhoto(ctx context.Context, s setting) ([]Result, error) {
	b, err := newPhotoBench(ctx, s, photoText)
	if err != nil {
		return nil, err
	}
	if err := b.checkPeer(ctx); err != nil {
		return nil, err
	}
	var speed, peer, draw, cpu, peerCPU []float64
	for i := range s.rounds {
		r, err := b.round(ctx)
		if err != nil {
			return nil, err
		}
		speed, peer, draw = append(speed, b.seconds/r.render.wall), append(peer, b.seconds/r.x264.wall), append(draw, b.seconds/r.draw.wall)
		cpu, peerCPU = append(cpu, r.render.cpu/b.seconds), append(peerCPU, r.x264.cpu/b.seconds)
		fmt.Fprintf(s.progress, "  round %d: %.2f s of video in %.2f s, x264 alone %.2f s, drawing alone %.2f s\n",
			i+1, b.seconds, r.render.wall, r.x264.wall, r.draw.wall)
	}
	return []Result{
		newResult("talking_photo", "× real time", speed).against(peerX264, peer),
		newResult("talking_photo.drawing", "× real time", draw).against(peerX264, peer),
		newResult("talking_photo.cpu", "CPU s per s of video", cpu).against(peerX264, peerCPU),
	}, nil
}

// newPhotoBench speaks the text, finds the face, renders the clip once, and keeps its frames for
// the peer.
func newPhotoBench(ctx context.Context, s setting, text string) (*photoBench, error) {
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		return nil, fmt.Errorf("cannot find ffmpeg; run `make deps`: %w", err)
	}
	if ffmpeg, err = filepath.Abs(ffmpeg); err != nil {
		return nil, fmt.Errorf("cannot find ffmpeg: %w", err)
	}
	wav := filepath.Join(s.dir, "speech.wav")
	said, err := child(ctx, "flite", "-voice", "slt", "-psdur", "-t", text, "-o", wav)
	if err != nil {
		return nil, err
	}
	phones, err := talkingphoto.ParseFlite(string(said))
	if err != nil {
		return nil, err
	}
	photo, marks, err := samplePortrait(ctx, s.root)
	if err != nil {
		return nil, err
	}
	b := &photoBench{dir: s.dir, frames: filepath.Join(s.dir, "frames.yuv"), options: talkingphoto.Options{Photo: photo, Landmarks: marks, Phones: phones,
		WAV: wav, W: photoSide, H: photoSide, FPS: photoFPS, FFmpeg: ffmpeg, Out: filepath.Join(s.dir, "ours.mp4")}}
	if b.sound, err = talkingphoto.ReadWAV(wav); err != nil {
		return nil, err
	}
	made, err := talkingphoto.Render(ctx, b.options)
	if err != nil {
		return nil, err
	}
	b.count, b.seconds = made.Frames, made.Seconds
	return b, b.keepFrames()
}

func samplePortrait(ctx context.Context, root string) (image.Image, talkingphoto.Landmarks, error) {
	f, err := os.Open(filepath.Join(root, "deploy", "demo", "portrait.png"))
	if err != nil {
		return nil, talkingphoto.Landmarks{}, fmt.Errorf("cannot open the sample portrait: %w", err)
	}
	defer f.Close()
	photo, _, err := image.Decode(f)
	if err != nil {
		return nil, talkingphoto.Landmarks{}, fmt.Errorf("cannot decode the sample portrait: %w", err)
	}
	model, err := talkingphoto.LoadFaceModel(filepath.Join(root, ".deps", "face"))
	if err != nil {
		return nil, talkingphoto.Landmarks{}, err
	}
	faces, err := model.Detect(ctx, photo)
	if err != nil {
		return nil, talkingphoto.Landmarks{}, err
	}
	marks, err := model.Landmarks(photo, faces[0].Box)
	return photo, marks, err
}

// checkPeer has x264 encode the kept frames and compares the packets with the renderer's.
func (b *photoBench) checkPeer(ctx context.Context) error {
	if err := b.x264(ctx); err != nil {
		return err
	}
	ours, err := b.packets(ctx, b.options.Out)
	if err != nil {
		return err
	}
	theirs, err := b.packets(ctx, b.peerOut())
	if err != nil {
		return err
	}
	if !bytes.Equal(ours, theirs) {
		return errors.New("x264 alone wrote other packets than the renderer: its frames or settings are not the renderer's, so comparing them would say nothing; " +
			"make the arguments in bench/talkingphoto.go those of internal/talkingphoto/encode.go")
	}
	return nil
}

// round makes the clip, has x264 encode the kept frames, and draws without encoding.
func (b *photoBench) round(ctx context.Context) (r photoRound, err error) {
	if r.render, err = timed(func() error { _, err := talkingphoto.Render(ctx, b.options); return err }); err != nil {
		return r, err
	}
	if r.x264, err = timed(func() error { return b.x264(ctx) }); err != nil {
		return r, err
	}
	r.draw, err = timed(func() error { return b.draw(func([]byte) error { return ctx.Err() }) })
	return r, err
}

// draw draws every frame and passes on its pixels, which hold until take returns.
func (b *photoBench) draw(take func(pix []byte) error) error {
	o := b.options
	a, err := talkingphoto.NewAnimator(talkingphoto.AnimatorOptions{Photo: o.Photo, Landmarks: o.Landmarks, W: o.W, H: o.H, Phones: o.Phones, Sound: b.sound})
	if err != nil {
		return err
	}
	frame := talkingphoto.NewFrame(o.W, o.H)
	for i := range b.count {
		if err := a.Frame(float64(i)/float64(o.FPS), frame); err != nil {
			return err
		}
		if err := take(frame.Pix); err != nil {
			return err
		}
	}
	return nil
}

// keepFrames writes all frames into a file. It is synced, so that the disk has nothing left to do
// when the rounds begin, and lies in the page cache, so that reading it costs next to nothing.
func (b *photoBench) keepFrames() error {
	f, err := os.Create(b.frames)
	if err != nil {
		return fmt.Errorf("cannot keep the frames: %w", err)
	}
	err = b.draw(func(pix []byte) error { _, err := f.Write(pix); return err })
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot keep the frames: %w", err)
	}
	return nil
}

func (b *photoBench) peerOut() string { return filepath.Join(b.dir, "x264.mp4") }

// x264 encodes the kept frames as the renderer does, without drawing, pipe or sound.
func (b *photoBench) x264(ctx context.Context) error {
	size := fmt.Sprintf("%dx%d", b.options.W, b.options.H)
	_, err := child(ctx, b.options.FFmpeg, "-nostdin", "-hide_banner", "-loglevel", "error", "-y",
		"-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", size, "-framerate", fmt.Sprint(b.options.FPS), "-i", "file:"+b.frames,
		"-map", "0:v:0", "-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p",
		"-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709",
		"-movflags", "+faststart", "-f", "mp4", "file:"+b.peerOut())
	return err
}

// packets is a digest of the encoded pictures, x264's own settings included.
func (b *photoBench) packets(ctx context.Context, path string) ([]byte, error) {
	return child(ctx, b.options.FFmpeg, "-nostdin", "-hide_banner", "-loglevel", "error", "-f", "mp4", "-i", "file:"+path,
		"-map", "0:v:0", "-c", "copy", "-f", "md5", "-")
}

// child runs a program and returns what it printed.
func child(ctx context.Context, program string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, args...).Output()
	if exit, failed := errors.AsType[*exec.ExitError](err); failed {
		last := bytes.TrimSpace(exit.Stderr)
		return nil, fmt.Errorf("%s failed: %w: %s", filepath.Base(program), err, last[max(0, len(last)-1000):])
	}
	if err != nil {
		return nil, fmt.Errorf("cannot run %s; run `make deps`: %w", program, err)
	}
	return out, nil
}

// timed tells what fn took; the processor time is this process's own and that of the children
// that ended meanwhile.
func timed(fn func() error) (work, error) {
	before, start := processorSeconds(), time.Now()
	err := fn()
	return work{wall: time.Since(start).Seconds(), cpu: processorSeconds() - before}, err
}

// processorSeconds is NaN where the system does not tell.
func processorSeconds() float64 {
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if syscall.Getrusage(who, &u) != nil {
			return math.NaN()
		}
		total += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return total.Seconds()
}
