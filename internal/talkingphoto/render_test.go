package talkingphoto

// Tests of whole clips: the encoder, its failures, and the measurements of a
// finished MP4.

import (
	"context"
	"encoding/json"
	"errors"
	"image"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// probe is what ffprobe tells about a file.
type probe struct {
	Streams []struct {
		Codec    string `json:"codec_name"`
		Kind     string `json:"codec_type"`
		W        int    `json:"width"`
		H        int    `json:"height"`
		Pixels   string `json:"pix_fmt"`
		Rate     string `json:"avg_frame_rate"`
		Sampling string `json:"sample_rate"`
		Duration string `json:"duration"`
		Colour   string `json:"color_space"`
	} `json:"streams"`
	Format struct {
		Tags map[string]string `json:"tags"`
	} `json:"format"`
}

func runProbe(t *testing.T, path string) probe {
	t.Helper()
	out, err := exec.Command("ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var p probe
	if err := json.Unmarshal(out, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRenderMakesAClipThatSpeaks(t *testing.T) {
	t.Parallel()
	p := portrait(t)
	wav, phones := speak(t, sentence)
	out := filepath.Join(t.TempDir(), "clip.mp4")
	var last, total, calls int
	r, err := Render(background, Options{
		Photo: p.img, Landmarks: p.marks, Phones: phones, WAV: wav, W: 720, H: 720, FPS: 25, Out: out, Comment: "preview (CPU)",
		Progress: func(d, n int) { last, total, calls = d, n, calls+1 },
	})
	if err != nil {
		t.Fatal(err)
	}
	if last != r.Frames || total != r.Frames || calls != r.Frames {
		t.Errorf("progress ended at %d of %d after %d calls; %d frames", last, total, calls, r.Frames)
	}
	checkStreams(t, out, r)

	clip, err := DecodeClip(background, out, ClipOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if len(clip.Frames) != r.Frames || clip.FPS != 25 || clip.W != 360 {
		t.Fatalf("decoded %d frames of %dx%d at %g", len(clip.Frames), clip.W, clip.H, clip.FPS)
	}
	sound, err := ReadWAV(wav)
	if err != nil {
		t.Fatal(err)
	}
	opening := clip.MouthOpening(r.Mouth, r.Still.W)
	lag, corr := BestLag(opening, NewLoudness(sound), clip.FPS)
	t.Logf("lag %.0f ms, correlation %.2f, face similarity %.3f", lag, corr, clip.FaceSimilarity(r.Still, r.Face))
	if math.Abs(lag) > 80 || corr < .3 {
		t.Errorf("lag %.0f ms, correlation %.2f", lag, corr)
	}
	// The measure must notice sound that comes late.
	late := PCM{Rate: sound.Rate, Samples: append(make([]float32, sound.Rate*3/10), sound.Samples...)}
	if lag, _ := BestLag(opening, NewLoudness(late), clip.FPS); math.Abs(lag+300) > 80 {
		t.Errorf("sound that is 300 ms late measures as %.0f ms", lag)
	}
	checkFace(t, clip, r)
}

func checkStreams(t *testing.T, out string, r Result) {
	t.Helper()
	info := runProbe(t, out)
	if len(info.Streams) != 2 {
		t.Fatalf("%d streams", len(info.Streams))
	}
	v, a := info.Streams[0], info.Streams[1]
	if v.Codec != "h264" || v.W != 720 || v.H != 720 || v.Pixels != "yuv420p" || v.Rate != "25/1" || v.Colour != "bt709" {
		t.Errorf("video: %+v", v)
	}
	if a.Codec != "aac" || a.Sampling != "48000" {
		t.Errorf("audio: %+v", a)
	}
	vd, _ := strconv.ParseFloat(v.Duration, 64)
	ad, _ := strconv.ParseFloat(a.Duration, 64)
	if math.Abs(vd-ad) > .1 || math.Abs(vd-r.Seconds) > .05 {
		t.Errorf("video %.3f s, audio %.3f s, result %.3f s", vd, ad, r.Seconds)
	}
	if info.Format.Tags["comment"] != "preview (CPU)" {
		t.Errorf("tags: %v", info.Format.Tags)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if i, j := strings.Index(string(data), "moov"), strings.Index(string(data), "mdat"); i < 0 || i > j {
		t.Errorf("moov at %d, mdat at %d: the index is not at the front", i, j)
	}
}

// checkFace holds the clip's face against its photo and against others.
func checkFace(t *testing.T, clip *Clip, r Result) {
	t.Helper()
	if s := clip.FaceSimilarity(r.Still, r.Face); s < .93 {
		t.Errorf("the face is the photo's by %.3f only", s)
	}
	// The same region of other pictures: mirrored, another part, a drawing.
	others := map[string]*Frame{
		"mirrored": fromRGBA(mirror(r.Still.RGBA())),
		"drawing":  fromRGBA(drawing(720, 720)),
		"shifted":  fromRGBA(shifted(r.Still.RGBA(), 90, 60)),
	}
	for name, still := range others {
		s := clip.FaceSimilarity(still, r.Face)
		t.Logf("%s: face similarity %.3f", name, s)
		if s > .8 {
			t.Errorf("%s: similarity %.3f does not tell the pictures apart", name, s)
		}
	}
}

func shifted(m *image.RGBA, dx, dy int) *image.RGBA {
	out := image.NewRGBA(m.Rect)
	scaleInto(out, m.Rect, m, m.Rect.Add(image.Pt(dx, dy)))
	return out
}

func TestRenderWithoutPhones(t *testing.T) {
	t.Parallel()
	p := portrait(t)
	wav, _ := speak(t, sentence)
	out := filepath.Join(t.TempDir(), "clip.mp4")
	r, err := Render(background, Options{Photo: p.img, Landmarks: p.marks, WAV: wav, W: 320, H: 480, FPS: 25, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	clip, err := DecodeClip(background, out, ClipOptions{MaxFrames: 150})
	if err != nil {
		t.Fatal(err)
	}
	sound, err := ReadWAV(wav)
	if err != nil {
		t.Fatal(err)
	}
	sound.Samples = sound.Samples[:sound.Rate*6]
	lag, corr := BestLag(clip.MouthOpening(r.Mouth, 320), NewLoudness(sound), clip.FPS)
	t.Logf("lag %.0f ms, correlation %.2f", lag, corr)
	if len(clip.Frames) != 150 || math.Abs(lag) > 80 || corr < .3 {
		t.Errorf("%d frames, lag %.0f ms, correlation %.2f", len(clip.Frames), lag, corr)
	}
}

// Voices differ, and so do sentences; sync must not hang on one of them.
func TestEveryVoiceIsInSync(t *testing.T) {
	t.Parallel()
	p := portrait(t)
	for _, c := range []struct{ voice, text string }{
		{"rms", "The quick brown fox jumps over the lazy dog, while seven wizards mix potions."},
		{"awb", "Space is big. Really big. You just will not believe how vastly, hugely, mind bogglingly big it is."},
		{"kal", "Good morning everyone. Today I want to tell you about our new product!"},
	} {
		wav, phones := speakAs(t, c.voice, c.text)
		sound, err := ReadWAV(wav)
		if err != nil {
			t.Fatal(err)
		}
		a, err := NewAnimator(AnimatorOptions{Photo: p.img, Landmarks: p.marks, W: 240, H: 240, Phones: phones, Sound: sound})
		if err != nil {
			t.Fatal(err)
		}
		clip, f := &Clip{W: 240, H: 240, FPS: 25}, NewFrame(240, 240)
		for i := range int((a.Seconds() + tailSeconds) * 25) {
			if err := a.Frame(float64(i)/25, f); err != nil {
				t.Fatal(err)
			}
			clip.Frames = append(clip.Frames, slices.Clone(f.luma().pix))
		}
		lag, corr := BestLag(clip.MouthOpening(a.MouthRegion(), 240), a.loud, 25)
		t.Logf("%s: lag %.0f ms, correlation %.2f", c.voice, lag, corr)
		if math.Abs(lag) > 80 || corr < .3 {
			t.Errorf("%s: lag %.0f ms, correlation %.2f", c.voice, lag, corr)
		}
	}
}

// waitFor polls a condition for up to ten seconds.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestRenderStopsWithItsContext(t *testing.T) {
	t.Parallel()
	p := portrait(t)
	wav, phones := speak(t, strings.Repeat(sentence+" ", 4))
	dir := t.TempDir()
	out, pidFile := filepath.Join(dir, "clip.mp4"), filepath.Join(dir, "pid")
	script := filepath.Join(dir, "ffmpeg")
	// A child of the script must die too.
	write(t, script, []byte("#!/bin/sh\necho $$ > '"+pidFile+"'\ntouch '"+out+"'\ncat > /dev/null\n"))
	if err := os.Chmod(script, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	_, err := Render(ctx, Options{Photo: p.img, Landmarks: p.marks, Phones: phones, WAV: wav, W: 320, H: 320, FPS: 25, FFmpeg: script, Out: out,
		Progress: func(done, _ int) {
			if done == 10 {
				cancel()
			}
		}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a clip is left: %v", err)
	}
	pid, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the process group is gone", func() bool {
		out, _ := exec.Command("ps", "-o", "pid=,stat=", "-g", strings.TrimSpace(string(pid))).Output()
		return !strings.Contains(string(out), "S") && !strings.Contains(string(out), "R")
	})
}

func TestRenderTellsFFmpegsReason(t *testing.T) {
	t.Parallel()
	p := portrait(t)
	wav, phones := speak(t, "Hello there.")
	dir := t.TempDir()
	script := filepath.Join(dir, "ffmpeg")
	write(t, script, []byte("#!/bin/sh\nhead -c 1000 > /dev/null\necho 'No space left on the moon' >&2\nexit 3\n"))
	if err := os.Chmod(script, 0o700); err != nil {
		t.Fatal(err)
	}
	good := Options{Photo: p.img, Landmarks: p.marks, Phones: phones, WAV: wav, W: 320, H: 320, FPS: 25, Out: filepath.Join(dir, "o.mp4")}
	for want, change := range map[string]func(o *Options){
		"No space left on the moon":   func(o *Options) { o.FFmpeg = script },
		"No such file or directory":   func(o *Options) { o.Out = filepath.Join(dir, "nowhere", "o.mp4") },
		"install it or set":           func(o *Options) { o.FFmpeg = filepath.Join(dir, "absent") },
		"use 1 to 60":                 func(o *Options) { o.FPS = 0 },
		"no output path":              func(o *Options) { o.Out = "" },
		"it is not a WAV file":        func(o *Options) { o.WAV = script },
		"cannot read the speech":      func(o *Options) { o.WAV = filepath.Join(dir, "absent.wav") },
		"the landmarks have no mouth": func(o *Options) { o.Landmarks = Landmarks{} },
	} {
		o := good
		change(&o)
		if _, err := Render(background, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestDecodeClipRefusesWhatIsNoVideo(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.mp4")
	write(t, path, []byte("this is no video at all"))
	if _, err := DecodeClip(background, path, ClipOptions{}); err == nil || !strings.Contains(err.Error(), "could not decode") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := DecodeClip(ctx, path, ClipOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A head that nods with the speech while its lips are still is no talking
// photo, and must not measure as one.
func TestANoddingHeadDoesNotPassForSpeech(t *testing.T) {
	t.Parallel()
	a := newTestAnimator(t, 240, 240)
	speaking, nodding := &Clip{W: 240, H: 240, FPS: 25}, &Clip{W: 240, H: 240, FPS: 25}
	f := NewFrame(240, 240)
	for i := range int(a.Seconds() * 25) {
		at := float64(i) / 25
		if err := a.Frame(at, f); err != nil {
			t.Fatal(err)
		}
		speaking.Frames = append(speaking.Frames, slices.Clone(f.luma().pix))
		a.head.draw(a.photo, f, a.head.swayAt(at, a.stress(at)))
		nodding.Frames = append(nodding.Frames, slices.Clone(f.luma().pix))
	}
	measure := func(c *Clip) (lag, corr, motion float64) {
		lag, corr = BestLag(c.MouthOpening(a.MouthRegion(), 240), a.loud, 25)
		return lag, corr, average(c.MouthMotion(a.MouthRegion(), 240))
	}
	lag, corr, motion := measure(speaking)
	nodLag, nodCorr, nodMotion := measure(nodding)
	t.Logf("speech: lag %.0f ms, correlation %.2f, motion %.2f; nodding: %.0f ms, %.2f, %.2f", lag, corr, motion, nodLag, nodCorr, nodMotion)
	if math.Abs(lag) > 80 || corr < .3 {
		t.Errorf("speech: lag %.0f ms, correlation %.2f", lag, corr)
	}
	if nodMotion > motion/4 || nodCorr > .3 {
		t.Errorf("nodding measures as speech: motion %.2f of %.2f, correlation %.2f", nodMotion, motion, nodCorr)
	}
}

func TestBestLagOfMadeUpMouths(t *testing.T) {
	t.Parallel()
	course := func(at float64) float64 { // irregular, so that one lag alone fits
		return math.Max(0, math.Sin(at*5)+.8*math.Sin(at*7.3+1))
	}
	loud := NewLoudness(tone(8, 200, course))
	for _, want := range []float64{-240, 0, 160} {
		opening := make([]float64, 200)
		for i := range opening {
			opening[i] = 6 * course(float64(i)/25-want/1000)
		}
		lag, corr := BestLag(opening, loud, 25)
		if math.Abs(lag-want) > 40 || corr < .8 {
			t.Errorf("a lag of %g ms measures as %g, correlation %.2f", want, lag, corr)
		}
	}
	if _, corr := BestLag(make([]float64, 200), loud, 25); corr != 0 {
		t.Errorf("a still picture correlates by %.2f", corr)
	}
	if _, corr := BestLag(make([]float64, 200), NewLoudness(PCM{}), 25); corr != 0 {
		t.Errorf("no sound correlates by %.2f", corr)
	}
}
