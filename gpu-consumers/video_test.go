// Rendering, upscaling, assembling and checking, each with the real ffmpeg on
// small inputs, and the whole chain of them.

package gpu

import (
	"context"
	"image"
	"image/jpeg"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// input is an attempt's file.
func input(path string) []File { return []File{{Path: path}} }

// frameAt decodes one frame of a video.
func frameAt(t *testing.T, video, seconds string) *image.RGBA {
	t.Helper()
	img, err := loadPicture(makeMedia(t, "frame.png", "-ss", seconds, "-i", video, "-frames:v", "1"))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// unlikeness is the mean difference of two pictures of one size, 0 to 255.
func unlikeness(a, b *image.RGBA) float64 {
	total := 0.0
	for i := range a.Pix {
		total += math.Abs(float64(a.Pix[i]) - float64(b.Pix[i]))
	}
	return total / float64(len(a.Pix))
}

func TestRenderMovesThePortrait(t *testing.T) {
	t.Parallel()
	k := &kenBurns{testTool(), &faceNetworks{}}
	var last float64
	a := &Attempt{Dir: t.TempDir(), Files: map[string][]File{"portrait": input(portraitPath(t)), "lora": input("/unused")},
		Params:   map[string]any{"duration_seconds": 1.5, "resolution": "576p", "aspect": "9:16", "fps": 12.0, "seed": 1.0},
		Progress: func(p float64, _ string) { last = max(last, p) }}
	out, err := k.Run(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	clip, scene := out.Files["clip"][0], out.Files["scene_image"][0]
	info, err := k.media.probe(context.Background(), clip.Path)
	if err != nil {
		t.Fatal(err)
	}
	v := info.Video
	if info.Audio != nil || v.Codec != "h264" || v.Width != 576 || v.Height != 1024 || v.FPS != 12 || math.Abs(v.Seconds-1.5) > 0.01 {
		t.Errorf("video %+v, audio %v", v, info.Audio)
	}
	if clip.Artifact.DurationMS != 1500 || clip.Artifact.Width != 576 || last < 50 {
		t.Errorf("artifact %+v, progress %g", clip.Artifact, last)
	}
	still, err := loadPicture(scene.Path)
	if err != nil || still.Rect != image.Rect(0, 0, 576, 1024) {
		t.Fatalf("scene %v, %v", still.Rect, err)
	}
	first, end := frameAt(t, clip.Path, "0"), frameAt(t, clip.Path, "1.4")
	if d := unlikeness(first, end); d < 2 {
		t.Errorf("the first and the last frame differ by %g only", d)
	}
	if d := unlikeness(end, still); d > 6 {
		t.Errorf("a way out of the near view ends %g away from the framed portrait", d)
	}
	if !strings.Contains(strings.Join(out.Notes, " "), "LoRA was not used") || out.Fidelity != events.FidelityPreview {
		t.Errorf("notes %q, fidelity %s", out.Notes, out.Fidelity)
	}
}

func TestCameraStaysInsideThePicture(t *testing.T) {
	t.Parallel()
	ways := map[[2]rect]bool{}
	for seed := int64(-7); seed < 7; seed++ {
		for _, seconds := range []float64{1, 8, 60} {
			from, to := shot{seconds: seconds, seed: seed}.move()
			for _, r := range []rect{from, to} {
				if r.x < 0 || r.y < 0 || r.side < 0.8 || r.x+r.side > 1+1e-9 || r.y+r.side > 1+1e-9 {
					t.Errorf("seed %d, %g s: %+v", seed, seconds, r)
				}
			}
			ways[[2]rect{from, to}] = true
		}
	}
	if len(ways) != 3*6 {
		t.Errorf("%d different moves, want 6 for each length", len(ways))
	}
}

func TestVideoEnginesRefuse(t *testing.T) {
	t.Parallel()
	m := testTool()
	portrait, playlist := input(portraitPath(t)), input(writeFile(t, "list.mp4", []byte("#EXTM3U\nfile:///etc/passwd\n")))
	cut, err := os.ReadFile(makeClip(t, "1"))
	if err != nil {
		t.Fatal(err)
	}
	broken := input(writeFile(t, "broken.mp4", cut[:300]))
	for name, c := range map[string]struct {
		e      engine
		files  map[string][]File
		params map[string]any
	}{
		"no portrait":      {&kenBurns{m, &faceNetworks{}}, nil, nil},
		"hostile portrait": {&kenBurns{m, &faceNetworks{}}, map[string][]File{"portrait": playlist}, nil},
		"resolution":       {&kenBurns{m, &faceNetworks{}}, map[string][]File{"portrait": portrait}, map[string]any{"resolution": "8K"}},
		"aspect":           {&kenBurns{m, &faceNetworks{}}, map[string][]File{"portrait": portrait}, map[string]any{"aspect": "2:1"}},
		"duration":         {&kenBurns{m, &faceNetworks{}}, map[string][]File{"portrait": portrait}, map[string]any{"duration_seconds": 1e9}},
		"fps":              {&kenBurns{m, &faceNetworks{}}, map[string][]File{"portrait": portrait}, map[string]any{"fps": math.NaN()}},
		"playlist":         {&lanczos{m}, map[string][]File{"video": playlist}, nil},
		"broken video":     {&lanczos{m}, map[string][]File{"video": broken}, nil},
		"factor":           {&lanczos{m}, map[string][]File{"video": broken}, map[string]any{"factor": 3.0}},
		"no speech":        {&assembler{m, testFaces()}, map[string][]File{"video": broken}, nil},
		"broken":           {&assembler{m, testFaces()}, map[string][]File{"video": broken, "speech": playlist}, nil},
		"check":            {&checker{m, testFaces()}, map[string][]File{"video": playlist, "speech": broken}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := c.e.Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: c.files, Params: c.params})
			if te := wantTaskError(t, err, events.ClassInvalidInput); te.Hint == "" || strings.Contains(te.Message, "passwd") {
				t.Errorf("%v, hint %q", te, te.Hint)
			}
		})
	}
}

func TestUpscale(t *testing.T) {
	t.Parallel()
	l := &lanczos{testTool()}
	out, err := l.Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: map[string][]File{"video": input(makeClip(t, "1"))}, Params: map[string]any{"factor": 4.0}})
	if err != nil {
		t.Fatal(err)
	}
	info, err := l.media.probe(context.Background(), out.Files["video"][0].Path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Video.Width != 512 || info.Video.Height != 384 || info.Audio == nil || info.Audio.Codec != "aac" || math.Abs(info.Video.Seconds-1) > 0.05 {
		t.Errorf("video %+v, audio %+v", info.Video, info.Audio)
	}
	for _, c := range []struct {
		w, h   int
		factor float64
		ww, wh int
	}{{720, 720, 2, 1440, 1440}, {720, 720, 4, 2160, 2160}, {1920, 1080, 4, 3840, 2160}, {1080, 1920, 2, 2160, 3840}, {4096, 2304, 2, 4096, 2304}, {101, 57, 1, 102, 58}} {
		if w, h := upscaledSize(c.w, c.h, c.factor); w != c.ww || h != c.wh {
			t.Errorf("%d×%d by %g: %d×%d", c.w, c.h, c.factor, w, h)
		}
	}
}

// assembled runs media.assemble over a 720×720 picture and a spoken sentence.
func assembled(t *testing.T, pictureSeconds string, params map[string]any) (*Output, *Attempt) {
	t.Helper()
	text := "This is the whole story of a small video."
	dir := t.TempDir()
	said, err := testSpeech().Run(context.Background(), &Attempt{Dir: dir, Texts: map[string]string{"narration": text}})
	if err != nil {
		t.Fatal(err)
	}
	video := makeMedia(t, "v.mp4", append([]string{"-f", "lavfi", "-i", "testsrc=size=720x720:rate=10", "-t", pictureSeconds, "-metadata", "title=canary"}, h264Args("18")...)...)
	a := &Attempt{Dir: t.TempDir(), Params: params, Texts: map[string]string{"narration": text},
		Files: map[string][]File{"video": input(video), "speech": said.Files["speech"], "timing": said.Files["timing"]}}
	out, err := (&assembler{testTool(), testFaces()}).Run(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	return out, a
}

func TestAssembleAndCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		picture string
		params  map[string]any
	}{
		"picture too short, captions burned": {"1", map[string]any{"captions": "burned"}},
		"picture too long":                   {"6", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, a := assembled(t, c.picture, c.params)
			video := out.Files["video"][0].Path
			m := testTool()
			info, err := m.probe(context.Background(), video)
			if err != nil {
				t.Fatal(err)
			}
			spoken := float64(a.Files["speech"][0].Artifact.DurationMS) / 1000
			if d := info.Video.Seconds - spoken - tail; d < -0.01 || d > 0.15 || math.Abs(info.Video.Seconds-info.Audio.Seconds) > streamsWithin {
				t.Errorf("picture %g s, sound %g s, speech %g s", info.Video.Seconds, info.Audio.Seconds, spoken)
			}
			content, err := os.ReadFile(video)
			if err != nil {
				t.Fatal(err)
			}
			if info.Comment != provenance || strings.Contains(string(content), "canary") || strings.Index(string(content), "moov") > strings.Index(string(content), "mdat") {
				t.Errorf("comment %q, or a foreign tag, or the index behind the data", info.Comment)
			}
			if lufs, _, err := m.loudness(context.Background(), a.Dir, video); err != nil || math.Abs(lufs-speechLUFS) > 0.6 {
				t.Errorf("loudness %g, error %v", lufs, err)
			}
			srt, err := os.ReadFile(out.Files["captions_srt"][0].Path)
			if err != nil || !strings.Contains(string(srt), "This is the whole story") {
				t.Errorf("captions %q, error %v", srt, err)
			}
			thumb, err := os.Open(out.Files["thumbnail"][0].Path)
			if err != nil {
				t.Fatal(err)
			}
			defer thumb.Close()
			if size, err := jpeg.DecodeConfig(thumb); err != nil || size.Width != 720 || size.Height != out.Files["thumbnail"][0].Artifact.Height {
				t.Errorf("thumbnail %v, error %v", size, err)
			}
			burned := unlikeness(bottom(frameAt(t, video, "0.75")), bottom(frameAt(t, a.Files["video"][0].Path, "0.75")))
			if wants := c.params["captions"] == "burned"; wants != (burned > 4) {
				t.Errorf("the lower part differs by %g from the input's", burned)
			}
			checked, err := (&checker{m, testFaces()}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: map[string][]File{"video": out.Files["video"], "speech": a.Files["speech"]}, Params: map[string]any{"no_face": "still"}})
			if err != nil || !checked.Verdict.Allowed {
				t.Errorf("verdict %+v, error %v", checked, err)
			}
		})
	}
}

// bottom is where captions stand.
func bottom(img *image.RGBA) *image.RGBA {
	part := img.SubImage(image.Rect(100, 620, 620, 690)).(*image.RGBA)
	return flatten(part)
}

func TestAssembleWithoutTimingEstimates(t *testing.T) {
	t.Parallel()
	timing := writeFile(t, "timing.json", []byte(`{"duration":2,"source":"engine","words":[]}`))
	a := &Attempt{Texts: map[string]string{"narration": "One two three."}, Files: map[string][]File{"timing": input(timing)}}
	words, note, err := captionWords(a, 2)
	got := captionsOf(words, 2, captionLine)
	if err != nil || len(got) != 1 || got[0].lines[0] != "One two three." || !strings.Contains(note, "estimated") {
		t.Errorf("captions %v, note %q, error %v", got, note, err)
	}
	a.Files["timing"] = input(writeFile(t, "t.json", []byte(`{"words":[{"word":"x","start":2,"end":1}]}`)))
	if _, _, err := captionWords(a, 2); err == nil {
		t.Error("a timing that runs backwards was accepted")
	}
}

// TestCancelStopsARender has the context end while ffmpeg works.
func TestCancelStopsARender(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a := &Attempt{Dir: t.TempDir(), Files: map[string][]File{"portrait": input(portraitPath(t))}, Params: map[string]any{"duration_seconds": 60.0, "resolution": "576p"},
		Progress: func(p float64, _ string) {
			if p > 10 {
				cancel()
			}
		}}
	_, err := (&kenBurns{testTool(), &faceNetworks{}}).Run(ctx, a)
	if err == nil || ctx.Err() == nil {
		t.Fatalf("error %v, context %v", err, ctx.Err())
	}
	if _, err := os.Stat(filepath.Join(a.Dir, "clip.mp4")); err != nil {
		t.Errorf("the render was stopped before it began: %v", err)
	}
}

// A change of our own code, or of ffmpeg, is another version of the result.
func TestVersionsNameBothParts(t *testing.T) {
	t.Parallel()
	for engine, revision := range revisions {
		version, err := testTool().versionOf(context.Background(), engine)
		if err != nil || !strings.HasPrefix(version, revision+" (ffmpeg ") || len(version) < len(revision)+len(" (ffmpeg x)") {
			t.Errorf("%s has version %q, %v", engine, version, err)
		}
	}
	gone := &mediaTool{ffmpeg: "/nowhere/ffmpeg", ffprobe: "/nowhere/ffprobe"}
	if version, err := gone.versionOf(context.Background(), "ffmpeg"); err == nil {
		t.Errorf("without ffmpeg the version is %q", version)
	}
}
