package main

// This file measures the lane that makes photos talk against x264 alone, which is given the very
// same frames with the very same settings. A check before the first round holds both to that: the
// two encoders must write the same packets.

import (
	"bytes"
	"context"
	"encoding/json"
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

	gpu "github.com/myspinbot/myspinbot/gpu-consumers"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

const (
	photoSide = 720 // pixels
	photoFPS  = 25
	// photoText takes flite's voice slt a little more than eight seconds.
	photoText = "Hello, my name is Eileen, and this is a test of the talking photo. Bob and Mary made a fine film about five blue boats. It runs here."
	peerX264  = "x264 alone"
)

// engine is what bench needs of the lanes' engines.
type engine func(ctx context.Context, a *gpu.Attempt) (*gpu.Output, error)

// photoBench is one clip, ready to be made again and again.
type photoBench struct {
	lipsync engine
	inputs  map[string][]gpu.File // speech, timing, portrait
	dir     string
	ffmpeg  string
	first   string // folder of the first run: its video, and the speech as the lane reads it
	frames  string // file with all frames, raw yuv420p
	photo   talkingphoto.AnimatorOptions
	seconds float64 // of video
	count   int     // of frames
}

// photoRound is what one round took.
type photoRound struct {
	lane, x264, draw work
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
		speed, peer, draw = append(speed, b.seconds/r.lane.wall), append(peer, b.seconds/r.x264.wall), append(draw, b.seconds/r.draw.wall)
		cpu, peerCPU = append(cpu, r.lane.cpu/b.seconds), append(peerCPU, r.x264.cpu/b.seconds)
		fmt.Fprintf(s.progress, "  round %d: %.2f s of video in %.2f s, x264 alone %.2f s, drawing alone %.2f s\n",
			i+1, b.seconds, r.lane.wall, r.x264.wall, r.draw.wall)
	}
	return []Result{
		newResult("talking_photo", "× real time", speed).against(peerX264, peer),
		newResult("talking_photo.drawing", "× real time", draw).against(peerX264, peer),
		newResult("talking_photo.cpu", "CPU s per s of video", cpu).against(peerX264, peerCPU),
	}, nil
}

// newPhotoBench has the lanes speak the text and make the clip once, and keeps its frames for the
// peer.
func newPhotoBench(ctx context.Context, s setting, text string) (*photoBench, error) {
	ffmpeg, err := exec.LookPath("ffmpeg")
	if err != nil {
		return nil, fmt.Errorf("cannot find ffmpeg; run `make deps`: %w", err)
	}
	if ffmpeg, err = filepath.Abs(ffmpeg); err != nil {
		return nil, fmt.Errorf("cannot find ffmpeg: %w", err)
	}
	faces, portrait := filepath.Join(s.root, ".deps", "face"), filepath.Join(s.root, "deploy", "demo", "portrait.png")
	lanes, err := engines(ctx, gpu.EngineConfig{FFmpeg: ffmpeg, FaceWeights: faces}, "tts.synthesize", "lipsync.apply")
	if err != nil {
		return nil, err
	}
	b := &photoBench{lipsync: lanes["lipsync.apply"], dir: s.dir, ffmpeg: ffmpeg, first: filepath.Join(s.dir, "first"), frames: filepath.Join(s.dir, "frames.yuv")}
	spoken := filepath.Join(s.dir, "speech")
	if err := errors.Join(os.Mkdir(b.first, 0o700), os.Mkdir(spoken, 0o700)); err != nil {
		return nil, fmt.Errorf("cannot make a temporary folder: %w", err)
	}
	said, err := lanes["tts.synthesize"](ctx, &gpu.Attempt{Dir: spoken, Texts: map[string]string{"narration": text}})
	if err != nil {
		return nil, fmt.Errorf("cannot speak: %w", err)
	}
	b.inputs = said.Files
	b.inputs["portrait"] = []gpu.File{{Path: portrait}}
	if err := b.run(ctx, b.first); err != nil {
		return nil, err
	}
	if b.photo, err = b.animation(ctx, faces, portrait); err != nil {
		return nil, err
	}
	return b, b.keepFrames()
}

// engines are the built-in engines of some tasks, all of which must be able to run here.
func engines(ctx context.Context, c gpu.EngineConfig, tasks ...string) (map[string]engine, error) {
	found := map[string]engine{}
	for _, e := range gpu.BuiltinEngines(c) {
		if capability, gap := e.Capability(ctx); gap == nil {
			found[capability.Task] = e.Run
		}
	}
	for _, task := range tasks {
		if found[task] == nil {
			return nil, fmt.Errorf("the lanes cannot do %s here; run `make deps`, and `bin/myspinbot doctor` to see what is missing", task)
		}
	}
	return found, nil
}

// run makes the clip in an empty folder.
func (b *photoBench) run(ctx context.Context, dir string) error {
	out, err := b.lipsync(ctx, &gpu.Attempt{Dir: dir, Files: b.inputs, Params: map[string]any{"resolution": "720p", "aspect": "1:1", "fps": float64(photoFPS)}})
	if err != nil {
		return fmt.Errorf("cannot make the clip: %w", err)
	}
	b.seconds = float64(out.Files["talking"][0].Artifact.DurationMS) / 1000
	b.count = int(math.Round(b.seconds * photoFPS))
	return nil
}

// animation is what the lane draws from: portrait, face, sound and phones.
func (b *photoBench) animation(ctx context.Context, faces, portrait string) (o talkingphoto.AnimatorOptions, err error) {
	o.W, o.H = photoSide, photoSide
	data, err := os.ReadFile(portrait)
	if err != nil {
		return o, fmt.Errorf("cannot open the sample portrait: %w", err)
	}
	if o.Photo, _, err = image.Decode(bytes.NewReader(data)); err != nil {
		return o, fmt.Errorf("cannot decode the sample portrait: %w", err)
	}
	model, err := talkingphoto.LoadFaceModel(faces)
	if err != nil {
		return o, err
	}
	found, err := model.Detect(ctx, o.Photo)
	if err != nil {
		return o, err
	}
	if o.Landmarks, err = model.Landmarks(o.Photo, found[0].Box); err != nil {
		return o, err
	}
	if o.Sound, err = talkingphoto.ReadWAV(filepath.Join(b.first, "speech-mono.wav")); err != nil {
		return o, err
	}
	if data, err = os.ReadFile(b.inputs["timing"][0].Path); err != nil {
		return o, fmt.Errorf("cannot read the timing: %w", err)
	}
	var timing struct{ Phones []talkingphoto.Phone }
	if err := json.Unmarshal(data, &timing); err != nil {
		return o, fmt.Errorf("cannot read the timing: %w", err)
	}
	o.Phones = timing.Phones
	return o, nil
}

// checkPeer has x264 encode the kept frames and compares the packets with the lane's.
func (b *photoBench) checkPeer(ctx context.Context) error {
	if err := b.x264(ctx); err != nil {
		return err
	}
	ours, err := b.packets(ctx, filepath.Join(b.first, "talking.mp4"))
	if err != nil {
		return err
	}
	theirs, err := b.packets(ctx, b.peerOut())
	if err != nil {
		return err
	}
	if !bytes.Equal(ours, theirs) {
		return errors.New("x264 alone wrote other packets than the lane: its frames or settings are not the lane's, so comparing them would say nothing; " +
			"make the arguments in bench/talkingphoto.go those of gpu-consumers/lipsync.go")
	}
	return nil
}

// round makes the clip, has x264 encode the kept frames, and draws without encoding.
func (b *photoBench) round(ctx context.Context) (r photoRound, err error) {
	dir := filepath.Join(b.dir, "round")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return r, fmt.Errorf("cannot make a temporary folder: %w", err)
	}
	if r.lane, err = timed(func() error { return b.run(ctx, dir) }); err != nil {
		return r, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return r, fmt.Errorf("cannot clear a temporary folder: %w", err)
	}
	if r.x264, err = timed(func() error { return b.x264(ctx) }); err != nil {
		return r, err
	}
	r.draw, err = timed(func() error { return b.draw(func([]byte) error { return ctx.Err() }) })
	return r, err
}

// draw draws every frame and passes on its pixels, which hold until take returns.
func (b *photoBench) draw(take func(pix []byte) error) error {
	a, err := talkingphoto.NewAnimator(b.photo)
	if err != nil {
		return err
	}
	frame := talkingphoto.NewFrame(photoSide, photoSide)
	for i := range b.count {
		if err := a.Frame(float64(i)/photoFPS, frame); err != nil {
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

// x264 encodes the kept frames as the lane does, without drawing, pipe or sound.
func (b *photoBench) x264(ctx context.Context) error {
	size := fmt.Sprintf("%dx%d", photoSide, photoSide)
	_, err := child(ctx, b.ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error", "-y",
		"-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", size, "-framerate", fmt.Sprint(photoFPS), "-i", "file:"+b.frames,
		"-map", "0:v:0", "-c:v", "libx264", "-preset", "veryfast", "-crf", "18", "-pix_fmt", "yuv420p",
		"-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709",
		"-movflags", "+faststart", "-f", "mp4", "file:"+b.peerOut())
	return err
}

// packets is a digest of the encoded pictures, x264's own settings included.
func (b *photoBench) packets(ctx context.Context, path string) ([]byte, error) {
	return child(ctx, b.ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error", "-f", "mp4", "-i", "file:"+path,
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
