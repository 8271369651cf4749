// Faces that nobody could see speak: too small, covered, or turned away. They are told
// before anything is drawn, and not by a failed check at the end.

package gpu

import (
	"context"
	"image"
	"image/color"
	"image/draw"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

// testPortrait is a portrait by its name.
func testPortrait(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs("../internal/talkingphoto/testdata/portraits/" + name + ".jpg")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// covered is a portrait with a grey sheet over the part of it below a height, in shares.
func covered(t *testing.T, path string, from, to float64) string {
	t.Helper()
	img, err := loadPicture(path)
	if err != nil {
		t.Fatal(err)
	}
	h := float64(img.Rect.Dy())
	sheet := image.Rect(0, int(from*h), img.Rect.Dx(), int(to*h))
	draw.Draw(img, sheet, image.NewUniform(color.RGBA{150, 150, 150, 255}), image.Point{}, draw.Src)
	out := filepath.Join(t.TempDir(), "covered.png")
	if err := savePicture(out, img, false); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestFacesThatCannotBeSeenToSpeakAreToldFirst(t *testing.T) {
	t.Parallel()
	said := spoken(t, "Hi.")
	for name, c := range map[string]struct {
		portrait string
		params   map[string]any
		says     string
	}{
		"on a card":              {testPortrait(t, "maury"), nil, "its eyes are 12 pixels apart, and should be 18 at least"},
		"small in its frame":     {testPortrait(t, "humboldt"), map[string]any{"fit": "contain", "aspect": "16:9", "resolution": "576p", "draft": true}, "the face is too small"},
		"all of it is covered":   {covered(t, testPortrait(t, "jemison"), 0.2, 0.75), nil, "no face was found"},
		"the lower half covered": {covered(t, testPortrait(t, "jemison"), 0.52, 0.75), nil, "no face was found"},
		"the upper half covered": {covered(t, testPortrait(t, "jemison"), 0, 0.45), nil, "no face was found"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			params := map[string]any{"resolution": "576p", "fps": 10.0}
			for k, v := range c.params {
				params[k] = v
			}
			files := map[string][]File{"speech": said["speech"], "timing": said["timing"], "portrait": input(c.portrait)}
			_, err := (&talkingPhoto{testTool(), testFaces()}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: files, Params: params})
			if te := wantTaskError(t, err, events.ClassInvalidInput); !strings.Contains(te.Message, c.says) || !strings.Contains(te.Hint, "near") || !strings.Contains(te.Hint, "no_face to still") {
				t.Errorf("message %q, hint %q; want %q", te.Message, te.Hint, c.says)
			}
			params["no_face"] = "still"
			out, info := talking(t, files, params)
			if notes := strings.Join(out.Notes, " "); info.Video == nil || !strings.Contains(notes, "without mouth movement") || !strings.Contains(notes, c.says) {
				t.Errorf("notes %q, video %+v", out.Notes, info.Video)
			}
		})
	}
}

// The limit of the check has room to both sides: a bearded man who speaks slowly and
// quietly, of all portraits the one whose lips are seen to move least, and the portrait
// that trembles most while it is still.
func TestMovingMouthsAreFarFromTheLimit(t *testing.T) {
	t.Parallel()
	model, err := testFaces().load()
	if err != nil {
		t.Fatal(err)
	}
	moved := func(video string, seconds float64) float64 {
		frames, err := testTool().stills(t.Context(), t.TempDir(), video, mouthFrames/seconds, mouthFrames, nil, 576, 576)
		if err != nil {
			t.Fatal(err)
		}
		gaps, err := lips(t.Context(), model, frames)
		if err != nil || len(gaps) < mouthFrames-1 {
			t.Fatalf("the lips are seen in %d frames, %v", len(gaps), err)
		}
		return deviation(gaps)
	}
	said, err := testSpeech().Run(t.Context(), &Attempt{Dir: t.TempDir(), Texts: map[string]string{"narration": "We have seen many of them."}, Params: map[string]any{"speed": 0.5, "voice": "kal"}})
	if err != nil {
		t.Fatal(err)
	}
	speech := said.Files["speech"][0]
	quiet := File{Path: makeMedia(t, "quiet.wav", "-i", speech.Path, "-af", "volume=-25dB"), Artifact: speech.Artifact}
	seconds := float64(speech.Artifact.DurationMS) / 1000
	params := map[string]any{"resolution": "576p", "fps": 12.0, "duration_seconds": seconds}
	speaks, _ := talking(t, map[string][]File{"speech": {quiet}, "timing": said.Files["timing"], "portrait": input(testPortrait(t, "douglass"))}, params)
	if m := moved(speaks.Files["talking"][0].Path, seconds); m < 1.25*mouthMoves {
		t.Errorf("the lips of one who speaks move by %.4f; the limit is %.4f", m, mouthMoves)
	}
	still, err := (&kenBurns{testTool(), testFaces()}).Run(t.Context(), &Attempt{Dir: t.TempDir(), Files: map[string][]File{"portrait": input(testPortrait(t, "hopper"))}, Params: params})
	if err != nil {
		t.Fatal(err)
	}
	if m := moved(still.Files["clip"][0].Path, seconds); m > mouthMoves/1.25 {
		t.Errorf("the lips of a still move by %.4f; the limit is %.4f", m, mouthMoves)
	}
}

// A photo whose skin above the eyes is not free does not blink, since the frame of the
// glasses would be drawn over the eyes.
func TestGlassesKeepEyesOpen(t *testing.T) {
	t.Parallel()
	model, err := testFaces().load()
	if err != nil {
		t.Fatal(err)
	}
	for name, blinks := range map[string]bool{"hopper": false, "douglass": false, "jemison": true, "thoreau": true, "mona_lisa": true} {
		photo, err := loadPicture(testPortrait(t, name))
		if err != nil {
			t.Fatal(err)
		}
		marks, _, err := locate(t.Context(), model, photo)
		if err != nil {
			t.Fatal(err)
		}
		for _, side := range []int{360, 720, 1080} {
			a, err := talkingphoto.NewAnimator(talkingphoto.AnimatorOptions{Photo: photo, Landmarks: marks, W: side, H: side})
			if err != nil {
				t.Fatal(err)
			}
			if a.Blinks() != blinks {
				t.Errorf("%s at %d pixels: blinks is %v", name, side, a.Blinks())
			}
		}
	}
}
