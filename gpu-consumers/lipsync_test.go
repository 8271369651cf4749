// Lip-sync over photos and clips, following a face, and what happens without one.

package gpu

import (
	"context"
	"image"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

// testFaces are the networks that `make deps` fetches.
func testFaces() *faceNetworks { return &faceNetworks{folder: "../.deps/face"} }

// spoken is a short speech with its timing.
func spoken(t *testing.T, text string) map[string][]File {
	t.Helper()
	out, err := testSpeech().Run(context.Background(), &Attempt{Dir: t.TempDir(), Texts: map[string]string{"narration": text}})
	if err != nil {
		t.Fatal(err)
	}
	return out.Files
}

// talking runs lip-sync and returns its file, probed.
func talking(t *testing.T, files map[string][]File, params map[string]any) (*Output, *mediaInfo) {
	t.Helper()
	out, err := (&talkingPhoto{testTool(), testFaces()}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: files, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	info, err := testTool().probe(context.Background(), out.Files["talking"][0].Path)
	if err != nil {
		t.Fatal(err)
	}
	return out, info
}

// TestClipTalksWhileItMoves lays the speech on a camera move that is shorter
// than it: the face must change against the clip, and the rest must not.
func TestClipTalksWhileItMoves(t *testing.T) {
	t.Parallel()
	rendered, err := (&kenBurns{testTool(), testFaces()}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: map[string][]File{"portrait": input(portraitPath(t))},
		Params: map[string]any{"duration_seconds": 1.0, "resolution": "576p", "fps": 10.0, "seed": 4.0}})
	if err != nil {
		t.Fatal(err)
	}
	files := spoken(t, "Far away, over there.")
	files["clip"] = rendered.Files["clip"]
	clip, err := openClip(context.Background(), testTool(), t.TempDir(), files["clip"][0].Path, 100)
	if err != nil {
		t.Fatal(err)
	}
	defer clip.file.Close()
	a := &Attempt{Dir: t.TempDir(), Files: files}
	l := &talkingPhoto{testTool(), testFaces()}
	said, err := l.listen(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	if said.model, err = l.faces.load(); err != nil {
		t.Fatal(err)
	}
	f, _, err := l.overClip(context.Background(), a, said, false)
	if err != nil {
		t.Fatal(err)
	}
	defer f.clip.file.Close()
	plain, drawn := talkingphoto.NewFrame(f.w, f.h), talkingphoto.NewFrame(f.w, f.h)
	if err := clip.read(0, plain); err != nil {
		t.Fatal(err)
	}
	marks, _, err := locate(context.Background(), said.model, plain.RGBA())
	if err != nil {
		t.Fatal(err)
	}
	mouth, moved := marks.Points[62], 0.0
	for i := 2; i < f.frames-4; i++ {
		if err := clip.read(i, plain); err != nil {
			t.Fatal(err)
		}
		if err := f.draw(i, drawn); err != nil {
			t.Fatal(err)
		}
		moved = max(moved, lumaDifference(plain, drawn, image.Rect(int(mouth.X)-25, int(mouth.Y)-12, int(mouth.X)+25, int(mouth.Y)+35)))
		if d := lumaDifference(plain, drawn, image.Rect(0, f.h*9/10, f.w, f.h)); d > 0.5 {
			t.Fatalf("frame %d: what is far from the face changed by %g levels", i, d)
		}
	}
	if moved < 8 {
		t.Errorf("the mouth changed by %g levels at most", moved)
	}
	if err := l.encode(context.Background(), a, said, f); err != nil {
		t.Fatal(err)
	}
	info, err := testTool().probe(context.Background(), said.out)
	if err != nil {
		t.Fatal(err)
	}
	want := float64(files["speech"][0].Artifact.DurationMS)/1000 + tail
	if d := info.Video.Seconds - want; d < -0.01 || d > 0.11 || info.Video.FPS != 10 || info.Video.Width != 576 {
		t.Errorf("video %+v, want %g s", info.Video, want)
	}
}

// lumaDifference is the mean difference of two frames' luma within r.
func lumaDifference(a, b *talkingphoto.Frame, r image.Rectangle) float64 {
	r = r.Intersect(image.Rect(0, 0, a.W, a.H))
	total := 0.0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			total += math.Abs(float64(a.Pix[y*a.W+x]) - float64(b.Pix[y*a.W+x]))
		}
	}
	return total / float64(r.Dx()*r.Dy())
}

// transformed is the portrait's luma moved by a pose, brighter by some levels.
func transformed(src *image.RGBA, p pose, brighter float64) *talkingphoto.Frame {
	f := talkingphoto.NewFrame(src.Rect.Dx(), src.Rect.Dy())
	grey := &luma{w: f.W, h: f.H, pix: make([]float32, f.W*f.H)}
	for y := range f.H {
		for x := range f.W {
			c := src.RGBAAt(x, y)
			grey.pix[y*f.W+x] = 16 + 0.18*float32(c.R) + 0.61*float32(c.G) + 0.06*float32(c.B)
		}
	}
	for y := range f.H {
		for x := range f.W {
			v, _ := grey.at(p.invert(complex(float64(x), float64(y))))
			f.Pix[y*f.W+x] = byte(max(0, min(255, v+brighter+0.5)))
		}
	}
	return f
}

func TestFaceIsFollowedExactly(t *testing.T) {
	t.Parallel()
	photo, err := loadPicture(portraitPath(t))
	if err != nil {
		t.Fatal(err)
	}
	photo = scaleCrop(photo, image.Rect(100, 0, 356, 256), 512, 512)
	model, err := testFaces().load()
	if err != nil {
		t.Fatal(err)
	}
	// Shift, turn and scale grow from frame to frame, as a camera moves; the
	// last one is too far from the one before and must be found anew.
	var truth []pose
	for _, k := range []float64{0, 1, 2, 3, 4, 30} {
		turn := complex(1+0.004*k, 0.003*k)
		truth = append(truth, pose{turn: turn, shift: complex(2.3*k, -1.1*k), brightness: 2 * k})
	}
	path := filepath.Join(t.TempDir(), "frames")
	var raw []byte
	for _, p := range truth {
		raw = append(raw, transformed(photo, p, min(10, p.brightness)).Pix...)
	}
	raw = append(raw, talkingphoto.NewFrame(512, 512).Pix...) // and a black frame has none
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	clip := &clipFrames{file: file, w: 512, h: 512, fps: 25, frames: len(truth) + 1}
	face, err := findFace(context.Background(), model, clip)
	if err != nil {
		t.Fatal(err)
	}
	frame := talkingphoto.NewFrame(512, 512)
	last := pose{turn: 1}
	nose := complex(face.marks.Points[30].X, face.marks.Points[30].Y)
	for i, want := range truth {
		if err := clip.read(i, frame); err != nil {
			t.Fatal(err)
		}
		got, rigid := face.find(context.Background(), model, frame, last)
		for _, z := range []complex128{nose, nose - 60 - 60i, nose + 60 + 60i} {
			if d := got.apply(z) - want.apply(z); got.lost || math.Hypot(real(d), imag(d)) > 0.35 {
				t.Errorf("frame %d: a point is off by %.2f pixels (lost %v)", i, math.Hypot(real(d), imag(d)), got.lost)
			}
		}
		if !rigid {
			t.Errorf("frame %d: a moved still is not seen as one", i)
		}
		last = got
	}
	moves, err := face.follow(context.Background(), model, clip, func(float64) {})
	if err != nil || moves.lost != 1 || !moves.pose[len(truth)].lost {
		t.Errorf("lost %d frames, error %v; want the black one alone", moves.lost, err)
	}
}

func TestPlaybackGoesForthAndBack(t *testing.T) {
	t.Parallel()
	c := &clipFrames{frames: 4}
	want := []int{0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2}
	for i, w := range want {
		if got := c.index(i); got != w {
			t.Errorf("frame %d shows %d, want %d", i, got, w)
		}
	}
	if c.frames = 1; c.index(7) != 0 {
		t.Error("a clip of one frame has no frame but the first")
	}
}

func TestLowerFaceMaskLeavesTheEyes(t *testing.T) {
	t.Parallel()
	marks, err := talkingphoto.MarkMouth(talkingphoto.Box{X: 80, Y: 130, W: 40, H: 10})
	if err != nil {
		t.Fatal(err)
	}
	const side = 200
	mask := lowerFaceMask(side, marks)
	at := func(i int) float32 {
		p := marks.Points[i]
		return mask[int(p.Y)*side+int(p.X)]
	}
	for i, want := range map[int]float32{37: 0, 44: 0, 19: 0, 62: 1, 66: 1, 51: 1} {
		if got := at(i); math.Abs(float64(got-want)) > 0.1 {
			t.Errorf("landmark %d has weight %g, want %g", i, got, want)
		}
	}
	if chin := at(8); chin < 0.5 {
		t.Errorf("the chin has weight %g", chin)
	}
}

// faceless is a picture of stripes.
func faceless(t *testing.T) string {
	img := image.NewRGBA(image.Rect(0, 0, 300, 300))
	for y := range 300 {
		for x := range 300 {
			img.SetRGBA(x, y, color.RGBA{uint8(x / 3), uint8(y / 2), uint8(90 + x%40), 255})
		}
	}
	path := filepath.Join(t.TempDir(), "faceless.png")
	if err := savePicture(path, img, false); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNoFace(t *testing.T) {
	t.Parallel()
	files := spoken(t, "Hi.")
	photo := faceless(t)
	clip := makeMedia(t, "clip.mp4", "-loop", "1", "-i", photo, "-t", "0.5", "-r", "10", "-pix_fmt", "yuv420p")
	for name, in := range map[string]string{"portrait": photo, "clip": clip} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			with := map[string][]File{"speech": files["speech"], "timing": files["timing"], name: input(in)}
			params := map[string]any{"resolution": "576p", "fps": 10.0}
			_, err := (&talkingPhoto{testTool(), testFaces()}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: with, Params: params})
			if te := wantTaskError(t, err, events.ClassInvalidInput); !strings.Contains(te.Message, "no face") || !strings.Contains(te.Hint, "still") {
				t.Errorf("message %q, hint %q", te.Message, te.Hint)
			}
			params["no_face"] = "still"
			out, info := talking(t, with, params)
			if info.Audio == nil || info.Video == nil || !strings.Contains(strings.Join(out.Notes, " "), "without mouth movement") {
				t.Errorf("notes %q, info %+v", out.Notes, info)
			}
		})
	}
}

func TestLipsyncRefuses(t *testing.T) {
	t.Parallel()
	speech := makeMedia(t, "s.wav", "-f", "lavfi", "-i", "sine", "-t", "0.5")
	playlist := input(writeFile(t, "c.mp4", []byte("#EXTM3U\nfile:///etc/passwd\n")))
	for name, c := range map[string]struct {
		files  map[string][]File
		params map[string]any
	}{
		"no speech":          {map[string][]File{"portrait": input(portraitPath(t))}, nil},
		"hostile speech":     {map[string][]File{"speech": playlist, "portrait": input(portraitPath(t))}, nil},
		"nothing to animate": {map[string][]File{"speech": input(speech)}, nil},
		"hostile clip":       {map[string][]File{"speech": input(speech), "clip": playlist}, nil},
		"hostile portrait":   {map[string][]File{"speech": input(speech), "portrait": playlist}, nil},
		"no_face":            {map[string][]File{"speech": input(speech)}, map[string]any{"no_face": "maybe"}},
	} {
		_, err := (&talkingPhoto{testTool(), testFaces()}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: c.files, Params: c.params})
		if te := wantTaskError(t, err, events.ClassInvalidInput); te.Hint == "" {
			t.Errorf("%s: no hint with %v", name, te)
		}
	}
}

func TestLipsyncWithoutWeightsIsAGap(t *testing.T) {
	t.Parallel()
	for _, folder := range []string{"", t.TempDir()} {
		l := &talkingPhoto{testTool(), &faceNetworks{folder: folder}}
		if _, gap := l.Capability(context.Background()); gap == nil || !strings.Contains(gap.Hint, "make deps") || gap.Reason == "" {
			t.Errorf("gap %+v", gap)
		}
		_, err := l.Run(context.Background(), &Attempt{Dir: t.TempDir()})
		wantTaskError(t, err, events.ClassEngineUnavailable)
	}
}

func TestBuiltinEnginesAnnounceEveryTask(t *testing.T) {
	t.Parallel()
	recorder := false
	want := map[string]string{"train_lora": events.LaneTrain, "train_voice": events.LaneTrain, "tts.synthesize": events.LaneTTS, "render_video": events.LaneRender,
		"lipsync.apply": events.LaneLipsync, "upscale_video": events.LaneUpscale, "media.assemble": events.LaneMedia, "media.check": events.LaneMedia}
	for _, e := range BuiltinEngines(EngineConfig{FaceWeights: "../.deps/face"}) {
		c, gap := e.Capability(context.Background())
		if c.Takes == events.InputRecording && !recorder { // for speech there is a voice as well
			recorder = c.Engine == "recording" && c.Task == taskSpeech && c.Lane == events.LaneTTS && c.Builtin && c.Fidelity == events.FidelityFull
			continue
		}
		if gap != nil || want[c.Task] != c.Lane || c.Engine == "" || c.Fidelity == "" {
			t.Errorf("capability %+v, gap %+v", c, gap)
		}
		delete(want, c.Task)
	}
	if len(want) > 0 || !recorder {
		t.Errorf("no engine for %v; for recordings %v", want, recorder)
	}
}
