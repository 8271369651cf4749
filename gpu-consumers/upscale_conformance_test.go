// Everything that enlarges, held to what all of them must do.

package gpu

import (
	"bytes"
	"math"
	"os"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// toEnlarge is an attempt with a film that has sound, to be made twice as large.
func toEnlarge(t *testing.T) *Attempt {
	film := makeMedia(t, "film.mp4", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=10", "-f", "lavfi", "-i", "sine=frequency=300",
		"-t", "2", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac")
	return &Attempt{Params: map[string]any{"factor": 2.0}, Files: map[string][]File{"video": {{Path: film, Artifact: events.Artifact{DurationMS: 2000}}}}}
}

// enlargesWell holds a film against the one that it was made of.
func enlargesWell(t *testing.T, _ *Attempt, out *Output) {
	t.Helper()
	f := out.Files["video"][0]
	info, err := testTool().probe(t.Context(), f.Path)
	if err != nil {
		t.Fatal(err)
	}
	v, s := info.Video, info.Audio
	if v == nil || v.Codec != "h264" || v.Width != 640 || v.Height != 480 || f.Artifact.Width != 640 || f.Artifact.Height != 480 || math.Abs(v.Seconds-2) > 0.11 || v.FPS != 10 || math.Abs(float64(f.Artifact.DurationMS)/1000-v.Seconds) > 0.1 {
		t.Errorf("video %+v, artifact %+v", v, f.Artifact)
	}
	if s == nil || s.Codec != "aac" || math.Abs(s.Seconds-2) > 0.15 {
		t.Errorf("sound %+v", s)
	}
	if film, err := os.ReadFile(f.Path); err != nil || bytes.Contains(film, []byte("secret")) {
		t.Errorf("the result tells of what it should not: %v", err)
	}
}

func TestUpscalersConform(t *testing.T) {
	t.Parallel()
	for _, tr := range []engineTrial{
		{name: "lanczos", task: "upscale_video", lane: events.LaneUpscale, fidelity: events.FidelityPreview, attempt: toEnlarge, check: enlargesWell, classes: builtInClasses,
			begin: func(t *testing.T, behaviour string) trialEngine {
				program := plantFFmpeg(t, behaviour)
				return plantedEngine(t, program, &lanczos{&mediaTool{ffmpeg: program, ffprobe: "ffprobe"}}, nothing)
			}},
		comfyTrial("upscale", "upscale_video", events.LaneUpscale, toEnlarge, enlargesWell),
	} {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			tr.conforms(t)
		})
	}
}
