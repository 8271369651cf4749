package talkingphoto

// Tests of the measurements: of pictures that speak, and of such that only seem
// to. Clips made here are not encoded, but for those that DecodeClip reads.

import (
	"context"
	"errors"
	"image"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// drawn is the animator's first n frames a 25th of a second apart, as a clip.
func drawn(t *testing.T, a *Animator, n int) *Clip {
	t.Helper()
	f := NewFrame(a.photo.W, a.photo.H)
	clip := &Clip{W: f.W, H: f.H, FPS: 25}
	for i := range n {
		if err := a.Frame(float64(i)/25, f); err != nil {
			t.Fatal(err)
		}
		clip.Frames = append(clip.Frames, slices.Clone(f.luma().pix))
	}
	return clip
}

// Voices differ, and so do sentences; sync must not hang on one of them, nor on
// knowing the phones.
func TestEveryVoiceIsInSync(t *testing.T) {
	t.Parallel()
	p := portrait(t)
	for _, c := range []struct {
		voice, text string
		deaf        bool // to phones: loudness alone moves the mouth
	}{
		{"rms", "The quick brown fox jumps over the lazy dog, while seven wizards mix potions.", false},
		{"awb", "Space is big. Really big. You just will not believe how vastly, hugely, mind bogglingly big it is.", false},
		{"kal", "Good morning everyone. Today I want to tell you about our new product!", false},
		{"slt", sentence, true},
	} {
		wav, phones := speakAs(t, c.voice, c.text)
		sound, err := ReadWAV(wav)
		if err != nil {
			t.Fatal(err)
		}
		if c.deaf {
			phones = nil
		}
		a, err := NewAnimator(AnimatorOptions{Photo: p.img, Landmarks: p.marks, W: 240, H: 240, Phones: phones, Sound: sound})
		if err != nil {
			t.Fatal(err)
		}
		clip := drawn(t, a, int((a.Seconds()+.3)*25))
		lag, corr := BestLag(clip.MouthOpening(a.MouthRegion(), 240), a.loud, 25)
		t.Logf("%s: lag %.0f ms, correlation %.2f", c.voice, lag, corr)
		if math.Abs(lag) > 80 || corr < .3 {
			t.Errorf("%s: lag %.0f ms, correlation %.2f", c.voice, lag, corr)
		}
	}
}

// The clip's face is the photo's, and not that of the same region of others.
func TestFaceSimilarityTellsPicturesApart(t *testing.T) {
	t.Parallel()
	a := newTestAnimator(t, 360, 360)
	clip, still := drawn(t, a, 60), a.Still()
	if s := clip.FaceSimilarity(still, a.FaceRegion()); s < .93 {
		t.Errorf("the face is the photo's by %.3f only", s)
	}
	for name, other := range map[string]*Frame{
		"mirrored": fromRGBA(mirror(still.RGBA(), image.Rect(0, 0, 360, 360))),
		"drawing":  fromRGBA(drawing(360, 360)),
		"shifted":  fromRGBA(shifted(still.RGBA(), 45, 30)),
	} {
		s := clip.FaceSimilarity(other, a.FaceRegion())
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

func TestDecodeClip(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "clip.mp4")
	if out, err := exec.Command("ffmpeg", "-nostdin", "-v", "error", "-f", "lavfi", "-i", "testsrc=size=720x480:rate=12:duration=2", "-pix_fmt", "yuv420p", path).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range []struct {
		options      ClipOptions
		w, h, frames int
	}{{ClipOptions{}, 360, 240, 24}, {ClipOptions{Width: 900, MaxFrames: 5}, 720, 480, 5}} {
		clip, err := DecodeClip(background, path, c.options)
		if err != nil {
			t.Fatal(err)
		}
		if clip.W != c.w || clip.H != c.h || clip.FPS != 12 || len(clip.Frames) != c.frames || slices.Equal(clip.Frames[0], clip.Frames[c.frames-1]) {
			t.Errorf("%+v: %d frames of %d×%d at %g", c.options, len(clip.Frames), clip.W, clip.H, clip.FPS)
		}
	}
	if _, err := DecodeClip(background, path, ClipOptions{FFmpeg: filepath.Join(t.TempDir(), "absent")}); err == nil || !strings.Contains(err.Error(), "install it") {
		t.Errorf("without ffmpeg: %v", err)
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
