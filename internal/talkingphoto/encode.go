package talkingphoto

// This file runs ffmpeg as a child process: frames go in through a pipe, its
// last words come back when it fails.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// encoder is a running ffmpeg that takes raw frames.
type encoder struct {
	cmd    *exec.Cmd
	frames io.WriteCloser
	stderr *tail
}

// encodeArgs are what the encoder needs to know.
type encodeArgs struct {
	ffmpeg   string
	w, h     int
	fps      int
	frames   int
	wav, out string
	comment  string
}

func startEncoder(ctx context.Context, a encodeArgs) (*encoder, error) {
	seconds := strconv.FormatFloat(float64(a.frames)/float64(a.fps), 'f', 4, 64)
	args := []string{
		"-nostdin", "-hide_banner", "-loglevel", "error", "-y",
		"-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", fmt.Sprintf("%dx%d", a.w, a.h), "-framerate", strconv.Itoa(a.fps), "-i", "pipe:0",
		"-f", "wav", "-i", "file:" + a.wav,
		"-map", "0:v:0", "-map", "1:a:0", "-map_metadata", "-1",
		"-af", "apad", "-t", seconds,
		"-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p",
		"-color_range", "tv", "-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709",
		"-c:a", "aac", "-b:a", "128k", "-ar", "48000",
	}
	if a.comment != "" {
		args = append(args, "-metadata", "comment="+a.comment)
	}
	args = append(args, "-movflags", "+faststart", "-f", "mp4", "file:"+a.out)
	cmd, stderr := command(ctx, a.ffmpeg, args)
	frames, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot connect to ffmpeg: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start ffmpeg at %s: %w; set media.ffmpeg to where it is installed", a.ffmpeg, err)
	}
	return &encoder{cmd: cmd, frames: frames, stderr: stderr}, nil
}

// write sends one frame. A broken pipe means that ffmpeg has gone; finish
// tells why.
func (e *encoder) write(f *Frame) error {
	_, err := e.frames.Write(f.Pix)
	return err
}

// finish closes the pipe and waits. writeErr is what went wrong on this side,
// nil if nothing did; ffmpeg's own reason goes first, because a broken pipe is
// only its echo.
func (e *encoder) finish(ctx context.Context, writeErr error) error {
	e.frames.Close()
	if writeErr != nil && !errors.Is(writeErr, syscall.EPIPE) {
		// Without frames there is nothing left to encode.
		_ = killGroup(e.cmd)
	}
	err := e.cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("the talking photo was stopped: %w", context.Cause(ctx))
	case writeErr != nil && !errors.Is(writeErr, syscall.EPIPE):
		return writeErr
	case err != nil:
		return fmt.Errorf("ffmpeg could not encode the talking photo: %w: %s", err, e.stderr)
	case writeErr != nil:
		return fmt.Errorf("ffmpeg stopped taking frames: %w: %s", writeErr, e.stderr)
	}
	return nil
}

// command prepares a child in a process group of its own that dies with ctx.
func command(ctx context.Context, path string, args []string) (*exec.Cmd, *tail) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return killGroup(cmd) }
	cmd.WaitDelay = 5 * time.Second
	stderr := &tail{limit: 2000}
	cmd.Stderr = stderr
	return cmd, stderr
}

func killGroup(cmd *exec.Cmd) error {
	if cmd.Process == nil {
		return nil
	}
	return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
}

// findFFmpeg makes the path absolute, searching PATH when it is a bare name.
func findFFmpeg(path string) (string, error) {
	if path == "" {
		path = "ffmpeg"
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("cannot find ffmpeg: %w; install it or set media.ffmpeg to its path", err)
	}
	return filepath.Abs(found)
}

// tail keeps the last bytes written to it.
type tail struct {
	mu    sync.Mutex
	limit int
	data  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if extra := len(t.data) - t.limit; extra > 0 {
		t.data = append(t.data[:0], t.data[extra:]...)
	}
	return len(p), nil
}

// String is the text in one line; "it gave no reason" when there is none.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(t.data), "?")), " ")
	if s == "" {
		return "it gave no reason"
	}
	return s
}
