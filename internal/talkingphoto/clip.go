package talkingphoto

// This file has ffmpeg decode a finished clip, so that it can be measured.

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Clip is a decoded video in grey.
type Clip struct {
	W, H   int
	FPS    float64
	Frames [][]byte // W·H bytes each
}

// ClipOptions bound what DecodeClip reads.
type ClipOptions struct {
	FFmpeg    string // path or name; empty searches PATH
	Width     int    // frames are scaled to this width at most; 0 = 360
	MaxFrames int    // 0 = 1,500
}

const maxClipPixels = 4096 * 4096

// DecodeClip reads the first video stream of an MP4 as grey frames.
func DecodeClip(ctx context.Context, path string, o ClipOptions) (*Clip, error) {
	ffmpeg, err := findFFmpeg(o.FFmpeg)
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("cannot find the clip: %w", err)
	}
	width, limit := o.Width, o.MaxFrames
	if width <= 0 {
		width = 360
	}
	if limit <= 0 {
		limit = 1500
	}
	// yuv4mpegpipe carries size and rate in its header.
	cmd := exec.CommandContext(ctx, ffmpeg,
		"-nostdin", "-hide_banner", "-loglevel", "error", "-f", "mov", "-i", "file:"+path, "-map", "0:v:0", "-frames:v", strconv.Itoa(limit),
		"-vf", fmt.Sprintf("scale='min(%d,iw)':-2:flags=area,format=gray", width), "-f", "yuv4mpegpipe", "-strict", "-1", "pipe:1")
	cmd.WaitDelay = 5 * time.Second
	stderr := &tail{limit: 2000}
	cmd.Stderr = stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("cannot connect to ffmpeg: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start ffmpeg at %s: %w", ffmpeg, err)
	}
	clip, readErr := readY4M(bufio.NewReaderSize(pipe, 1<<20), limit)
	if readErr != nil {
		_ = cmd.Process.Kill() // it may have ended by itself
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && readErr == nil, errors.Is(readErr, errNoVideo):
		return nil, fmt.Errorf("ffmpeg could not decode %s: %s", path, stderr)
	case readErr != nil:
		return nil, fmt.Errorf("cannot read ffmpeg's frames of %s: %w", path, readErr)
	}
	return clip, nil
}

var errNoVideo = errors.New("there is no video")

// readY4M reads a YUV4MPEG2 stream of grey frames.
func readY4M(r *bufio.Reader, limit int) (*Clip, error) {
	header, err := r.ReadString('\n')
	if err != nil {
		return nil, errNoVideo
	}
	fields := strings.Fields(header)
	if len(fields) == 0 || fields[0] != "YUV4MPEG2" {
		return nil, errors.New("the stream does not begin with YUV4MPEG2")
	}
	c := &Clip{}
	for _, f := range fields[1:] {
		switch value := f[1:]; f[0] {
		case 'W':
			c.W, _ = strconv.Atoi(value)
		case 'H':
			c.H, _ = strconv.Atoi(value)
		case 'F':
			n, d, _ := strings.Cut(value, ":")
			num, _ := strconv.ParseFloat(n, 64)
			den, _ := strconv.ParseFloat(d, 64)
			c.FPS = num / den
		}
	}
	if c.W < 1 || c.H < 1 || c.W*c.H > maxClipPixels || !(c.FPS > 0 && c.FPS < 1000) {
		return nil, fmt.Errorf("the stream's header is not usable: %q", strings.TrimSpace(header))
	}
	for len(c.Frames) < limit {
		if _, err := r.ReadString('\n'); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
		frame := make([]byte, c.W*c.H)
		if _, err := io.ReadFull(r, frame); err != nil {
			return nil, fmt.Errorf("frame %d is cut short: %w", len(c.Frames)+1, err)
		}
		c.Frames = append(c.Frames, frame)
	}
	if len(c.Frames) == 0 {
		return nil, errNoVideo
	}
	return c, nil
}

// findFFmpeg makes the path absolute, searching PATH when it is a bare name.
func findFFmpeg(path string) (string, error) {
	if path == "" {
		path = "ffmpeg"
	}
	found, err := exec.LookPath(path)
	if err != nil {
		return "", fmt.Errorf("cannot find ffmpeg: %w; install it, or name its path", err)
	}
	return filepath.Abs(found)
}

// tail keeps the last bytes written to it.
type tail struct {
	limit int
	data  []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.data = append(t.data, p...)
	if extra := len(t.data) - t.limit; extra > 0 {
		t.data = append(t.data[:0], t.data[extra:]...)
	}
	return len(p), nil
}

// String is the text in one line; "it gave no reason" when there is none.
func (t *tail) String() string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(t.data), "?")), " ")
	if s == "" {
		return "it gave no reason"
	}
	return s
}
