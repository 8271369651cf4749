package talkingphoto

// This file holds what several tests share: the sample portrait, its
// landmarks, spoken sentences and drawn pictures.

import (
	"image"
	"image/color"
	_ "image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	weightsDir   = "../../.deps/face"
	portraitPath = "../../deploy/demo/portrait.png"
	sentence     = "Hello, my name is Eileen, and this is a test of the talking photo. Bob and Mary made a fine film about five blue boats."
)

// loadModel fails, rather than skips, without the weights: a green run must
// mean that the faces were looked for.
func loadModel(t testing.TB) *FaceModel {
	t.Helper()
	m, err := LoadFaceModel(weightsDir)
	if err != nil {
		t.Fatalf("run make deps: %v", err)
	}
	return m
}

// portraitFace is computed once; tests only read it.
var portraitFace = sync.OnceValues(func() (portraitResult, error) {
	f, err := os.Open(portraitPath)
	if err != nil {
		return portraitResult{}, err
	}
	defer f.Close()
	img, _, err := image.Decode(f)
	if err != nil {
		return portraitResult{}, err
	}
	m, err := LoadFaceModel(weightsDir)
	if err != nil {
		return portraitResult{}, err
	}
	r := portraitResult{img: toRGBA(img)}
	faces, err := m.Detect(background, img)
	if err != nil {
		return r, err
	}
	r.face = faces[0]
	r.marks, err = m.Landmarks(img, faces[0].Box)
	return r, err
})

type portraitResult struct {
	img   *image.RGBA
	face  Face
	marks Landmarks
}

func portrait(t testing.TB) portraitResult {
	t.Helper()
	r, err := portraitFace()
	if err != nil {
		t.Fatalf("run make deps: %v", err)
	}
	return r
}

// speak says a text with flite and returns the WAV's path and the phones.
func speak(t testing.TB, text string) (string, []Phone) {
	t.Helper()
	return speakAs(t, "slt", text)
}

func speakAs(t testing.TB, voice, text string) (string, []Phone) {
	t.Helper()
	wav := filepath.Join(t.TempDir(), "speech.wav")
	out, err := exec.Command("flite", "-voice", voice, "-psdur", "-t", text, "-o", wav).Output()
	if err != nil {
		t.Fatalf("flite, which the tests need, could not speak: %v", err)
	}
	phones := parseFlite(t, string(out))
	return wav, phones
}

func newTestAnimator(t testing.TB, w, h int) *Animator {
	t.Helper()
	p := portrait(t)
	wav, phones := speak(t, sentence)
	sound, err := ReadWAV(wav)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAnimator(AnimatorOptions{Photo: p.img, Landmarks: p.marks, W: w, H: h, Phones: phones, Sound: sound})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// drawing is a picture without a face: a sky, a hill and a house.
func drawing(w, h int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			c := color.RGBA{120, 170, byte(200 + 50*y/h), 255}
			if y > h*2/3 {
				c = color.RGBA{60, byte(120 + (x*7+y*13)%40), 50, 255}
			}
			if x > w/3 && x < w/2 && y > h/2 && y < h*3/4 {
				c = color.RGBA{150, 60, 50, 255}
			}
			m.SetRGBA(x, y, c)
		}
	}
	return m
}

// difference is the mean absolute difference of luma within a rectangle.
func difference(a, b *Frame, r image.Rectangle) float64 {
	total := 0
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			d := int(a.Pix[y*a.W+x]) - int(b.Pix[y*b.W+x])
			total += max(d, -d)
		}
	}
	return float64(total) / float64(r.Dx()*r.Dy())
}

// parseFlite reads what "flite -psdur" prints: symbols with the times of their
// ends in seconds, "pau:0.164 hh:0.255 …".
func parseFlite(t testing.TB, out string) []Phone {
	t.Helper()
	var phones []Phone
	start := 0.0
	for _, field := range strings.Fields(out) {
		symbol, at, found := strings.Cut(field, ":")
		end, err := strconv.ParseFloat(at, 64)
		if !found || err != nil || !(end >= start) {
			t.Fatalf("cannot read flite's phone times: %q is not symbol:end-in-seconds after %.3f", field, start)
		}
		phones = append(phones, Phone{symbol, start, end})
		start = end
	}
	return phones
}
