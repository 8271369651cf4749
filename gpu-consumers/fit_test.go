// Pictures of one shape in frames of another.

package gpu

import (
	"context"
	"image"
	"math"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

// brightness is the mean of a part of a picture, 0 to 255.
func brightness(img *image.RGBA, part image.Rectangle) float64 {
	total := 0.0
	for y := part.Min.Y; y < part.Max.Y; y++ {
		for x := part.Min.X; x < part.Max.X; x++ {
			p := img.Pix[y*img.Stride+x*4:]
			total += (float64(p[0]) + float64(p[1]) + float64(p[2])) / 3
		}
	}
	return total / float64(part.Dx()*part.Dy())
}

// The portrait is square: upright, cover fills the frame with a part of it, contain leaves
// black above and below, blur something of its colours. All of it moves and speaks.
func TestAPortraitFillsAnUprightFrame(t *testing.T) {
	t.Parallel()
	files := spoken(t, "Far away.")
	files["portrait"] = input(portraitPath(t))
	for _, fit := range []string{fitCover, fitContain, fitBlur} {
		t.Run(fit, func(t *testing.T) {
			t.Parallel()
			params := map[string]any{"fit": fit, "aspect": "9:16", "draft": true, "duration_seconds": 1.0, "seed": 2.0}
			rendered, err := (&kenBurns{testTool(), testFaces()}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Files: files, Params: params})
			if err != nil {
				t.Fatal(err)
			}
			head, info := talking(t, files, params)
			if v := info.Video; v.Width != 360 || v.Height != 640 || v.FPS != draftFPS {
				t.Errorf("a draft of %+v", v)
			}
			for name, video := range map[string]string{"render": rendered.Files["clip"][0].Path, "lipsync": head.Files["talking"][0].Path} {
				first, later := frameAt(t, video, "0"), frameAt(t, video, "0.6")
				bar, middle := image.Rect(0, 0, 360, 130), image.Rect(0, 150, 360, 490)
				top := brightness(first, bar)
				if black := top < 4; black != (fit == fitContain) {
					t.Errorf("%s: above the picture the brightness is %.1f", name, top)
				}
				if fit != fitCover && unlikeness(part(first, bar), part(later, bar)) > 1.5 {
					t.Errorf("%s: what is around the picture moves", name)
				}
				if unlikeness(part(first, middle), part(later, middle)) < 0.3 {
					t.Errorf("%s: the picture stands still", name)
				}
			}
		})
	}
}

func part(img *image.RGBA, r image.Rectangle) *image.RGBA {
	return flatten(img.SubImage(r).(*image.RGBA))
}

// An engine may give another shape than was asked for: the last stage puts it right.
func TestAssembleBringsAnyPictureIntoShape(t *testing.T) {
	t.Parallel()
	video := makeMedia(t, "v.mp4", append([]string{"-f", "lavfi", "-i", "color=white:size=640x640:rate=10", "-t", "2"}, h264Args("18")...)...)
	speech := makeMedia(t, "s.wav", "-f", "lavfi", "-i", "sine", "-t", "1.6")
	for _, c := range []struct {
		fit, aspect string
		w, h        int
		corner      [2]float64 // between which the brightness of the corner lies
	}{
		{fitCover, "9:16", 360, 640, [2]float64{250, 255}}, {fitContain, "9:16", 640, 1138, [2]float64{0, 3}}, {fitBlur, "9:16", 640, 1138, [2]float64{150, 230}},
		{fitCover, "16:9", 640, 360, [2]float64{250, 255}}, {fitBlur, "16:9", 1138, 640, [2]float64{150, 230}}, {fitBlur, "1:1", 640, 640, [2]float64{250, 255}},
	} {
		t.Run(c.fit+" "+strings.ReplaceAll(c.aspect, ":", "to"), func(t *testing.T) {
			t.Parallel()
			out, err := (&assembler{testTool(), &faceNetworks{}}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Texts: map[string]string{"narration": "A word."},
				Params: map[string]any{"fit": c.fit, "aspect": c.aspect, "captions": "burned"}, Files: map[string][]File{"video": input(video), "speech": input(speech)}})
			if err != nil {
				t.Fatal(err)
			}
			made := out.Files["video"][0]
			if made.Artifact.Width != c.w || made.Artifact.Height != c.h {
				t.Fatalf("%d×%d, want %d×%d", made.Artifact.Width, made.Artifact.Height, c.w, c.h)
			}
			if b := brightness(frameAt(t, made.Path, "0.05"), image.Rect(0, 0, 20, 20)); b < c.corner[0] || b > c.corner[1] {
				t.Errorf("the corner's brightness is %.0f", b)
			}
			if thumb := out.Files["thumbnail"][0].Artifact; thumb.Width*c.h/c.w-thumb.Height > 2 || thumb.Width*c.h/c.w-thumb.Height < -2 {
				t.Errorf("the thumbnail has %d×%d pixels", thumb.Width, thumb.Height)
			}
		})
	}
}

func TestSettingsAreEvenAndInside(t *testing.T) {
	t.Parallel()
	for _, p := range [][2]int{{512, 512}, {333, 777}, {4000, 301}, {64, 1999}, {720, 1281}} {
		for _, f := range [][2]int{{720, 720}, {1280, 720}, {360, 640}} {
			r := whole(p[0], p[1], f[0], f[1])
			shape := float64(r.Dx()) / float64(r.Dy()) / (float64(p[0]) / float64(p[1]))
			if !r.In(image.Rect(0, 0, f[0], f[1])) || r.Min.X%2+r.Min.Y%2+r.Dx()%2+r.Dy()%2 != 0 || math.Abs(shape-1) > 0.1 || (r.Dx() < f[0] && r.Dy() < f[1]) {
				t.Errorf("%v in %v is %v", p, f, r)
			}
		}
	}
	face := image.Rect(500, 100, 600, 220)
	if got := around(face, image.Rect(0, 0, 1000, 562), image.Pt(316, 562)); got != image.Rect(392, 0, 708, 562) {
		t.Errorf("around the face: %v", got)
	}
	if got := around(image.Rect(960, 0, 1000, 40), image.Rect(0, 0, 1000, 562), image.Pt(316, 562)); got.Max.X != 1000 {
		t.Errorf("at the edge: %v", got)
	}
}

// Another seed is another take of the same words: it moves otherwise, and the same one
// moves the same.
func TestASeedIsATakeOfATalkingHead(t *testing.T) {
	t.Parallel()
	files := spoken(t, "Far.")
	files["portrait"] = input(portraitPath(t))
	frames := map[string]*image.RGBA{}
	for _, take := range []string{"7", "7 again", "8"} {
		out, _ := talking(t, files, map[string]any{"draft": true, "seed": float64(take[0] - '0')})
		frames[take] = frameAt(t, out.Files["talking"][0].Path, "0.3")
	}
	if d := unlikeness(frames["7"], frames["7 again"]); d != 0 {
		t.Errorf("the same seed gives pictures that differ by %g", d)
	}
	if d := unlikeness(frames["7"], frames["8"]); d < 0.3 {
		t.Errorf("another seed gives pictures that differ by %g only", d)
	}
}

// Of frames of which one shows the person with open eyes, that one is the thumbnail.
func TestTheThumbnailShowsThePerson(t *testing.T) {
	t.Parallel()
	photo, err := loadPicture(portraitPath(t))
	if err != nil {
		t.Fatal(err)
	}
	person := scaleCrop(photo, photo.Rect, 360, 360)
	black, grey := image.NewRGBA(person.Rect), image.NewRGBA(person.Rect)
	for i := range grey.Pix {
		grey.Pix[i] = 128
	}
	for _, model := range []*faceNetworks{testFaces(), {}} {
		m := &assembler{testTool(), model}
		for at := range 3 {
			frames := []*image.RGBA{black, grey, black}
			frames[at] = person
			if best := m.best(context.Background(), frames); best != at {
				t.Errorf("of three frames the person is in number %d, and %d was chosen", at, best)
			}
		}
	}
	model, err := testFaces().load()
	if err != nil {
		t.Fatal(err)
	}
	marks, _, err := locate(context.Background(), model, person)
	if err != nil {
		t.Fatal(err)
	}
	shut := marks
	for _, lid := range [][2]int{{37, 41}, {38, 40}, {43, 47}, {44, 46}} {
		shut.Points[lid[0]] = shut.Points[lid[1]]
	}
	if open, closed := marks.EyesOpen(), shut.EyesOpen(); open < 0.2 || closed > 0.02 {
		t.Errorf("eyes open by %g, closed by %g", open, closed)
	}
	wide := talkingphoto.Landmarks{Points: marks.Points}
	for i := 65; i <= 67; i++ {
		wide.Points[i].Y += 20
	}
	if gap, more := marks.MouthGap(), wide.MouthGap(); more < gap+0.1 {
		t.Errorf("the mouth is open by %g, and by %g with its lower lip 20 pixels lower", gap, more)
	}
}
