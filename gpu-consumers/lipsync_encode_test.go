// The finished file of lip-sync, measured, and that a cancel leaves nothing of it running.

package gpu

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

// longSentence takes the built-in voice some seven seconds.
const longSentence = "Hello, my name is Eileen, and this is a test of the talking photo. Bob and Mary made a fine film about five blue boats."

// TestPortraitTalks measures a whole file: what it is made of, how long it is,
// that the mouth moves with the file's own sound, and whose face it shows.
func TestPortraitTalks(t *testing.T) {
	t.Parallel()
	files := spoken(t, longSentence)
	files["portrait"] = input(portraitPath(t))
	reports, last := 0, 0.0
	out, err := (&talkingPhoto{testTool(), testFaces()}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: files, Progress: func(percent float64, _ string) {
		if percent < last || percent > 100 {
			t.Errorf("progress went from %g to %g", last, percent)
		}
		reports, last = reports+1, percent
	}})
	if err != nil {
		t.Fatal(err)
	}
	path := out.Files["talking"][0].Path
	seconds := float64(files["speech"][0].Artifact.DurationMS)/1000 + tail
	checkTalkingStreams(t, path, seconds)
	if out.Fidelity != events.FidelityPreview || out.Engine != "talking-photo" {
		t.Errorf("fidelity %s, engine %s", out.Fidelity, out.Engine)
	}

	clip, err := talkingphoto.DecodeClip(context.Background(), path, talkingphoto.ClipOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(clip.Frames); n != int(math.Ceil(seconds*25-1e-6)) || reports < n || last < 98 {
		t.Errorf("%d frames in %g s, %d reports up to %g %%", n, seconds, reports, last)
	}
	sound, err := talkingphoto.ReadWAV(makeMedia(t, "sound.wav", "-i", path, "-ac", "1"))
	if err != nil {
		t.Fatal(err)
	}
	a := portraitAnimator(t)
	lag, corr := talkingphoto.BestLag(clip.MouthOpening(a.MouthRegion(), 720), talkingphoto.NewLoudness(sound), clip.FPS)
	similarity := clip.FaceSimilarity(a.Still(), a.FaceRegion())
	t.Logf("lag %.0f ms, correlation %.2f, face similarity %.3f", lag, corr, similarity)
	if math.Abs(lag) > 80 || corr < 0.3 || similarity < 0.85 {
		t.Errorf("lag %.0f ms, correlation %.2f, face similarity %.3f", lag, corr, similarity)
	}
}

// checkTalkingStreams holds a file against what players need.
func checkTalkingStreams(t *testing.T, path string, seconds float64) {
	t.Helper()
	info, err := testTool().probe(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	v, a := info.Video, info.Audio
	if v.Codec != "h264" || v.Width != 720 || v.Height != 720 || v.FPS != 25 || a.Codec != "aac" || a.Rate != 48000 || info.Comment != provenance {
		t.Errorf("video %+v, audio %+v, comment %q", v, a, info.Comment)
	}
	if d := v.Seconds - seconds; d < -0.01 || d > 1.0/25+0.01 || math.Abs(a.Seconds-v.Seconds) > 0.1 {
		t.Errorf("picture %g s, sound %g s, want %g s", v.Seconds, a.Seconds, seconds)
	}
	colours, err := child{name: "ffprobe", path: "ffprobe", dir: t.TempDir(),
		args: []string{"-v", "error", "-select_streams", "v:0", "-show_entries", "stream=pix_fmt,color_space", "-of", "csv=p=0", path}}.run(context.Background())
	if err != nil || strings.TrimSpace(string(colours)) != "yuv420p,bt709" {
		t.Errorf("colours %q, %v", colours, err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if i, j := bytes.Index(content, []byte("moov")), bytes.Index(content, []byte("mdat")); i < 0 || i > j {
		t.Errorf("moov at %d, mdat at %d: the index is not at the front", i, j)
	}
}

// portraitAnimator frames the sample portrait as lip-sync does by default.
func portraitAnimator(t *testing.T) *talkingphoto.Animator {
	t.Helper()
	photo, err := loadPicture(portraitPath(t))
	if err != nil {
		t.Fatal(err)
	}
	model, err := testFaces().load()
	if err != nil {
		t.Fatal(err)
	}
	marks, _, err := locate(context.Background(), model, photo)
	if err != nil {
		t.Fatal(err)
	}
	a, err := talkingphoto.NewAnimator(talkingphoto.AnimatorOptions{Photo: photo, Landmarks: marks, W: 720, H: 720})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// processesIn are those that were given a path below dir.
func processesIn(t *testing.T, dir string) (pids []int) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		line, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(line, []byte(dir+"/")) { // a process that ended meanwhile has none
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// TestCancelStopsLipsync cancels while frames are drawn and encoded: both must
// end, and with them ffmpeg.
func TestCancelStopsLipsync(t *testing.T) {
	t.Parallel()
	files := spoken(t, strings.Repeat(longSentence+" ", 4))
	files["portrait"] = input(portraitPath(t))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a := &Attempt{Dir: t.TempDir(), Files: files, Params: map[string]any{"resolution": "576p"}}
	after, encoders := 0, []int(nil)
	a.Progress = func(percent float64, message string) {
		switch {
		case ctx.Err() != nil:
			after++
		case percent > 33 && message == "moving the lips":
			encoders = processesIn(t, a.Dir)
			cancel()
		}
	}
	_, err := (&talkingPhoto{testTool(), testFaces()}).Run(ctx, a)
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if len(encoders) != 1 || after > 0 {
		t.Errorf("encoders %v at the cancel, %d reports after it", encoders, after)
	}
	if left := processesIn(t, a.Dir); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}
