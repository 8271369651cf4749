// upscale_video without a GPU: Lanczos resampling by ffmpeg.

package gpu

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Upscaled pictures keep within 4K either way up.
const (
	maxLongSide  = 3840
	maxShortSide = 2160
)

// lanczos is the built-in upscaler.
type lanczos struct{ media *mediaTool }

// Capability implements engine.
func (l *lanczos) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	return l.media.capability(ctx, "upscale_video", events.LaneUpscale, "lanczos", events.FidelityPreview)
}

// Run implements engine: video in, video out; sound is taken over as it is.
func (l *lanczos) Run(ctx context.Context, a *Attempt) (*Output, error) {
	in, err := a.oneFile("video")
	if err != nil {
		return nil, err
	}
	factor := a.number("factor", 2)
	if factor != 1 && factor != 2 && factor != 4 {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the upscaling factor is unknown", Hint: "choose 1, 2 or 4"}
	}
	asked := factor
	for range min(a.Reduce, 2) {
		factor = max(1, factor/2)
	}
	info, err := l.media.probe(ctx, in.Path)
	if err != nil {
		return nil, err
	}
	if info.Video == nil {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the file to upscale holds no picture", Hint: "the stage before it made no video"}
	}
	version, err := l.media.versionOf(ctx, "lanczos")
	if err != nil {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "ffmpeg cannot be used", Hint: ffmpegInstall, Err: err}
	}
	w, h := upscaledSize(info.Video.Width, info.Video.Height, factor)
	out := filepath.Join(a.Dir, "upscaled.mp4")
	a.report(20, "upscaling")
	err = l.media.run(ctx, transcode{
		dir: a.Dir, inputs: []mediaInput{{path: in.Path}}, output: out, seconds: info.Seconds,
		args: append([]string{"-map", "0:v:0", "-map", "0:a:0?", "-c:a", "copy",
			"-vf", fmt.Sprintf("scale=%d:%d:flags=lanczos", w, h)}, h264Args("18")...),
		progress: func(f float64) { a.report(20+78*f, "upscaling") },
		timeout:  30 * time.Minute,
	})
	if err != nil {
		return nil, err
	}
	notes := []string{"enlarged by resampling, which adds no detail"}
	if factor < asked {
		notes = append(notes, fmt.Sprintf("enlarged %g times in place of %g, because memory ran out before", factor, asked))
	}
	if float64(w) < factor*float64(info.Video.Width)-2 {
		notes = append(notes, "the size was limited to 4K")
	}
	return &Output{
		Files: map[string][]File{"video": {{Path: out, Artifact: events.Artifact{Name: "upscaled.mp4", Type: "video", MediaType: "video/mp4",
			Width: w, Height: h, DurationMS: int64(info.Seconds * 1000)}}}},
		Fidelity: events.FidelityPreview, Engine: "lanczos", Version: version, Notes: notes,
	}, nil
}

// upscaledSize multiplies a size, keeps it within 4K and makes its sides even.
// A picture that is larger already keeps its size.
func upscaledSize(w, h int, factor float64) (int, int) {
	long, short := float64(max(w, h)), float64(min(w, h))
	factor = max(1, min(factor, maxLongSide/long, maxShortSide/short))
	even := func(side int) int { return max(2, int(math.Round(float64(side)*factor/2))*2) }
	return even(w), even(h)
}
