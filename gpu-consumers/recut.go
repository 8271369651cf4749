// What other programs and servers made, made anew: sizes, rate and sound as asked for,
// and nothing in it of what they write into their files.

package gpu

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// recut is what somebody's video is made into.
type recut struct {
	raw         string // the video, taken away afterwards
	whose, hint string // who made it, and what to do when it is none
	out         string
	w, h        int
	fps         float64
	atMost      float64 // seconds; 0: all of it
	exactly     float64 // seconds, the last picture standing where there are too few; 0: as long as it is
	speech      string  // file whose sound goes with it, and silence after it
	sound       string  // file whose sound is taken over as it is
}

// cutShort is how much less than it claims a video may hold, in seconds.
const cutShort = 0.5

// recut encodes the video anew and takes the raw file away. It gives the seconds of
// picture that the raw file says it has. The sound is always our own file's. A file that
// is no video, or that holds less than it says, is engine_rejected.
func (m *mediaTool) recut(ctx context.Context, dir string, c recut, progress func(float64)) (float64, error) {
	refuse := func(what string, err error) error {
		return &TaskError{Class: events.ClassEngineRejected, Message: c.whose + "'s result " + what, Hint: c.hint, Err: err}
	}
	info, err := m.probe(ctx, c.raw)
	if ctx.Err() != nil {
		return 0, err
	}
	if err != nil || info.Video == nil || info.Video.Width < 16 || info.Video.Height < 16 || info.Video.Seconds <= 0 {
		return 0, refuse("is no video that can be read", err)
	}
	made, seconds := info.Video.Seconds, info.Video.Seconds
	filters := []string{fmt.Sprintf("fps=%g", c.fps), fmt.Sprintf("scale=%d:%d:flags=lanczos:force_original_aspect_ratio=increase:out_color_matrix=bt709:out_range=tv", c.w, c.h),
		fmt.Sprintf("crop=%d:%d", c.w, c.h)}
	switch {
	case c.exactly > 0:
		seconds = c.exactly
		if short := seconds - made; short > 0 {
			filters = append(filters, fmt.Sprintf("tpad=stop_mode=clone:stop_duration=%.3f", short+0.1))
		}
	case c.atMost > 0:
		seconds = min(seconds, c.atMost)
	}
	inputs, args := []mediaInput{{path: c.raw}}, []string{"-map", "0:v:0"}
	switch {
	case c.speech != "":
		inputs = append(inputs, mediaInput{path: c.speech})
		args = append(args, "-map", "1:a:0", "-af", "apad", "-c:a", "aac", "-b:a", "128k", "-ar", "48000")
	case c.sound != "":
		inputs = append(inputs, mediaInput{path: c.sound})
		args = append(args, "-map", "1:a:0", "-c:a", "copy")
	default:
		args = append(args, "-an")
	}
	args = append(args, "-vf", strings.Join(append(filters, "format=yuv420p"), ","), "-t", fmt.Sprintf("%.4f", seconds))
	err = m.run(ctx, transcode{dir: dir, inputs: inputs, output: c.out, seconds: seconds, args: append(args, h264Args("18")...), progress: progress, timeout: 30 * time.Minute})
	if err != nil {
		return 0, err
	}
	if err := os.Remove(c.raw); err != nil {
		return 0, fmt.Errorf("cannot remove the file that was made anew: %w", err)
	}
	out, err := m.probe(ctx, c.out)
	if err != nil {
		return 0, err
	}
	if out.Video == nil || out.Video.Seconds < min(seconds, made)-cutShort {
		return 0, refuse("is cut: it holds less picture than it says", nil)
	}
	return made, nil
}
