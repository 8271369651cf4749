// The last look at a finished video: each of its checks is shown to fail by a video that
// was spoiled in that one way.

package gpu

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// judged judges a video against a speech.
func verdictOf(t *testing.T, video, speech string, params map[string]any) *Output {
	t.Helper()
	out, err := (&checker{testTool(), testFaces()}).Run(context.Background(),
		&Attempt{Dir: t.TempDir(), Files: map[string][]File{"video": input(video), "speech": input(speech)}, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wantReasons holds a verdict against the codes of its reasons, each of which is a sentence.
func wantReasons(t *testing.T, out *Output, want ...string) {
	t.Helper()
	var codes []string
	for _, r := range out.Verdict.Reasons {
		codes = append(codes, r.Code)
		if len(strings.Fields(r.Detail)) < 4 {
			t.Errorf("%s says %q", r.Code, r.Detail)
		}
	}
	if !slices.Equal(codes, want) || out.Verdict.Allowed != (len(want) == 0) {
		t.Errorf("allowed %v, reasons %v, want %v", out.Verdict.Allowed, out.Verdict.Reasons, want)
	}
}

func TestCheckFindsEveryFaultOfTheFile(t *testing.T) {
	t.Parallel()
	speech := makeMedia(t, "s.wav", "-f", "lavfi", "-i", "sine=frequency=200", "-t", "2")
	picture, sound := []string{"-f", "lavfi", "-i", "testsrc=size=512x512:rate=10"}, []string{"-f", "lavfi", "-i", "sine,volume=5dB"}
	coded := []string{"-t", "2", "-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac"}
	for name, c := range map[string]struct {
		args  []string
		codes []string
	}{
		"good":        {slices.Concat(picture, sound, coded), nil},
		"black":       {slices.Concat([]string{"-f", "lavfi", "-i", "color=black:size=512x512:rate=10"}, sound, coded), []string{"black"}},
		"silent":      {slices.Concat(picture, []string{"-f", "lavfi", "-i", "anullsrc"}, coded), []string{"silent"}},
		"quiet":       {slices.Concat(picture, []string{"-f", "lavfi", "-i", "sine,volume=-9dB"}, coded), []string{"loudness"}},
		"loud":        {slices.Concat(picture, []string{"-f", "lavfi", "-i", "sine,volume=14dB"}, coded), []string{"loudness"}},
		"small":       {slices.Concat([]string{"-f", "lavfi", "-i", "testsrc=size=320x568:rate=10"}, sound, coded), []string{"too_small"}},
		"short":       {slices.Concat([]string{"-f", "lavfi", "-i", "testsrc=size=512x512:rate=10:duration=1"}, sound, coded), []string{"cut_off", "lengths_differ"}},
		"no sound":    {slices.Concat(picture, coded), []string{"no_sound"}},
		"no picture":  {slices.Concat(sound, coded), []string{"no_picture"}},
		"other codec": {slices.Concat(picture, sound, []string{"-t", "2", "-c:v", "mpeg4", "-c:a", "mp3"}), []string{"video_codec", "audio_codec"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			video := makeMedia(t, "v.mp4", append(c.args, "-pix_fmt", "yuv420p")...)
			wantReasons(t, verdictOf(t, video, speech, map[string]any{"no_face": "still"}), c.codes...)
		})
	}
	t.Run("a draft may be small", func(t *testing.T) {
		t.Parallel()
		video := makeMedia(t, "v.mp4", slices.Concat([]string{"-f", "lavfi", "-i", "testsrc=size=360x640:rate=10"}, sound, coded)...)
		wantReasons(t, verdictOf(t, video, speech, map[string]any{"no_face": "still", "draft": true}))
	})
	t.Run("nobody is in it", func(t *testing.T) {
		t.Parallel()
		plain := []string{"-f", "lavfi", "-i", "gradients=size=512x512:rate=10:speed=0.1:seed=1"}
		video := makeMedia(t, "v.mp4", slices.Concat(plain, sound, coded)...)
		wantReasons(t, verdictOf(t, video, speech, nil), "no_face")
	})
}

// The lips of a face that speaks pass; those of the same face under a moving camera do not,
// though every pixel of the picture changes.
func TestCheckLooksAtTheMouth(t *testing.T) {
	t.Parallel()
	files := spoken(t, "Far away, over there, we have seen many more of them.")
	files["portrait"] = input(portraitPath(t))
	params := map[string]any{"fps": 12.0, "resolution": "576p", "duration_seconds": 4.0}
	said, _ := talking(t, files, params)
	moving, err := (&kenBurns{testTool(), testFaces()}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: files, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		picture string
		codes   []string
	}{
		"speaks":     {said.Files["talking"][0].Path, nil},
		"only moves": {moving.Files["clip"][0].Path, []string{"mouth_still"}},
		// As after an engine that made too little: the last picture stands in for the rest.
		"freezes": {makeMedia(t, "short.mp4", append([]string{"-i", said.Files["talking"][0].Path, "-an", "-t", "1.2"}, h264Args("18")...)...), []string{"frozen"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := (&assembler{testTool(), testFaces()}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Texts: map[string]string{"narration": "x"},
				Files: map[string][]File{"video": input(c.picture), "speech": files["speech"]}})
			if err != nil {
				t.Fatal(err)
			}
			wantReasons(t, verdictOf(t, out.Files["video"][0].Path, files["speech"][0].Path, nil), c.codes...)
		})
	}
}

func TestCheckSaysWhatItDidNotLookAt(t *testing.T) {
	t.Parallel()
	k := &checker{testTool(), &faceNetworks{}}
	reasons, note, err := k.mouth(context.Background(), &Attempt{Dir: t.TempDir()}, "", &mediaInfo{Video: &videoInfo{}}, 1)
	if err != nil || len(reasons) > 0 || !strings.Contains(note, "not checked") {
		t.Errorf("%v, %q, %v", reasons, note, err)
	}
	if _, gap := k.Capability(context.Background()); gap != nil {
		t.Errorf("without face networks the check is not announced: %+v", gap)
	}
	if can, _ := k.Capability(context.Background()); can.Fidelity != events.FidelityFull {
		t.Errorf("%+v", can)
	}
}
