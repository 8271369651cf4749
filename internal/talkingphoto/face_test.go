package talkingphoto

// Tests of the face networks: their weights, detection and landmarks.

import (
	"context"
	"errors"
	"image"
	"image/draw"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var background = context.Background()

func TestDetectFindsThePortraitsFace(t *testing.T) {
	t.Parallel()
	f := portrait(t).face
	want := Box{165, 78, 112, 108}
	if f.Score < 0.8 || f.overlap(want) < 0.7 {
		t.Errorf("face %+v, want one close to %+v", f, want)
	}
}

func TestDetectFindsSmallFaces(t *testing.T) {
	t.Parallel()
	m, img := loadModel(t), portrait(t).img
	// The face becomes 100 pixels wide: 17 of the first pass's 416.
	canvas := drawing(2400, 1600)
	scaleInto(canvas, image.Rect(1600, 300, 1600+450, 300+450), img, img.Rect)
	faces, err := m.Detect(background, canvas)
	if err != nil {
		t.Fatal(err)
	}
	const f = 450. / 512
	want := Box{1600 + 165*f, 300 + 78*f, 112 * f, 108 * f}
	if faces[0].overlap(want) < 0.5 {
		t.Errorf("found %+v, want %+v first", faces, want)
	}
}

func TestDetectPutsTheLargestFaceFirst(t *testing.T) {
	t.Parallel()
	m, img := loadModel(t), portrait(t).img
	canvas := drawing(1100, 600)
	scaleInto(canvas, image.Rect(0, 100, 450, 550), img, img.Rect)
	scaleInto(canvas, image.Rect(500, 0, 1100, 600), img, img.Rect)
	faces, err := m.Detect(background, canvas)
	if err != nil {
		t.Fatal(err)
	}
	if len(faces) != 2 || faces[0].X < 500 || faces[1].X > 450 {
		t.Errorf("found %+v, want the right face, then the left one", faces)
	}
}

func TestDetectWithoutAFace(t *testing.T) {
	t.Parallel()
	m := loadModel(t)
	for name, img := range map[string]image.Image{
		"a landscape": drawing(900, 700), "one colour": image.NewRGBA(image.Rect(0, 0, 300, 200)), "a pixel": image.NewGray(image.Rect(0, 0, 1, 1)),
	} {
		faces, err := m.Detect(background, img)
		if !errors.Is(err, ErrNoFace) {
			t.Errorf("%s: %+v, %v; want ErrNoFace", name, faces, err)
		}
	}
	if !strings.Contains(ErrNoFace.Error(), "use a photo that shows one face from the front") {
		t.Errorf("%q does not tell what to do", ErrNoFace)
	}
}

func TestDetectStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(background)
	cancel()
	if _, err := loadModel(t).Detect(ctx, drawing(2000, 1500)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

// The boxes were read off the enlarged portrait by eye.
func TestLandmarksLieOnTheFeatures(t *testing.T) {
	t.Parallel()
	p := portrait(t).marks.Points
	for _, c := range []struct {
		name   string
		points []int
		box    Box
	}{
		{"left eye", []int{36, 37, 38, 39, 40, 41}, Box{191, 94, 25, 13}},
		{"right eye", []int{42, 43, 44, 45, 46, 47}, Box{233, 96, 27, 13}},
		{"nose tip", []int{30}, Box{217, 124, 14, 10}},
		{"left corner of the mouth", []int{48}, Box{198, 136, 9, 9}},
		{"right corner of the mouth", []int{54}, Box{241, 137, 9, 9}},
		{"upper lip's inner edge", []int{61, 62, 63}, Box{212, 139, 22, 7}},
		{"lower lip's inner edge", []int{65, 66, 67}, Box{212, 145, 22, 7}},
		{"chin", []int{8}, Box{212, 172, 20, 10}},
	} {
		for _, i := range c.points {
			if q := p[i]; q.X < c.box.X || q.X > c.box.X+c.box.W || q.Y < c.box.Y || q.Y > c.box.Y+c.box.H {
				t.Errorf("%s: landmark %d at %.1f, %.1f lies outside of %+v", c.name, i, q.X, q.Y, c.box)
			}
		}
	}
}

func TestLandmarksFollowAMovedFace(t *testing.T) {
	t.Parallel()
	m, p := loadModel(t), portrait(t)
	moved := image.NewRGBA(image.Rect(-50, -20, 600, 600))
	draw.Draw(moved, p.img.Rect.Add(image.Pt(37, 21)), p.img, image.Point{}, draw.Src)
	marks, err := m.Landmarks(moved, Box{p.face.X + 37, p.face.Y + 21, p.face.W, p.face.H})
	if err != nil {
		t.Fatal(err)
	}
	for i, q := range marks.Points {
		if d := distance(q, Point{p.marks.Points[i].X + 37, p.marks.Points[i].Y + 21}); d > 1.5 {
			t.Errorf("landmark %d is off by %.1f pixels", i, d)
		}
	}
}

func TestLandmarksRefuseWhatIsNoFace(t *testing.T) {
	t.Parallel()
	m := loadModel(t)
	if l, err := m.Landmarks(drawing(600, 400), Box{100, 100, 200, 200}); !errors.Is(err, ErrNoFace) {
		t.Errorf("a hill with a house: %+v, %v", l, err)
	}
	for _, b := range []Box{{0, 0, 2, 2}, {0, 0, math.NaN(), 50}, {0, 0, -10, 10}} {
		if _, err := m.Landmarks(drawing(600, 400), b); err == nil || !strings.Contains(err.Error(), "too small") {
			t.Errorf("box %+v: %v", b, err)
		}
	}
}

func TestMirrorIndexIsItsOwnInverse(t *testing.T) {
	t.Parallel()
	for i := range 68 {
		j := mirrorIndex(i)
		if mirrorIndex(j) != i {
			t.Errorf("%d becomes %d becomes %d", i, j, mirrorIndex(j))
		}
		// The average face is symmetric, so its mirrored points tell the pairs.
		if a, b := averageFace[i], averageFace[j]; math.Abs(a.X+b.X) > .01 || math.Abs(a.Y-b.Y) > .01 {
			t.Errorf("points %d %v and %d %v are no mirror images", i, a, j, b)
		}
	}
}

func TestMarkMouth(t *testing.T) {
	t.Parallel()
	l, err := MarkMouth(Box{100, 200, 60, 20})
	if err != nil {
		t.Fatal(err)
	}
	if l.Points[48] != (Point{100, 210}) || l.Points[54] != (Point{160, 210}) || !l.Marked {
		t.Errorf("corners at %v and %v", l.Points[48], l.Points[54])
	}
	if !l.plausible() {
		t.Error("the average face is not plausible")
	}
	if _, err := MarkMouth(Box{0, 0, 1, 1}); err == nil || !strings.Contains(err.Error(), "from one corner of the mouth to the other") {
		t.Errorf("a pixel as mouth: %v", err)
	}
}

func TestLoadFaceModelNamesTheBrokenFile(t *testing.T) {
	t.Parallel()
	loadModel(t)
	for name, c := range map[string]struct {
		spoil func(t *testing.T, dir string)
		sums  map[string]string
		want  []string
	}{
		"missing": {func(t *testing.T, dir string) { remove(t, filepath.Join(dir, landmarkName+".bin")) }, pins,
			[]string{"there is no file", landmarkName + ".bin", "make deps", "engines.face.weights"}},
		"truncated": {func(t *testing.T, dir string) {
			edit(t, dir, detectorName+".bin", func(b []byte) []byte { return b[:1000] })
		}, nil,
			[]string{"ends after 1000 bytes", "truncated", "make deps"}},
		"too long": {func(t *testing.T, dir string) {
			edit(t, dir, detectorName+".bin", func(b []byte) []byte { return append(b, 1) })
		}, nil,
			[]string{"193322 bytes, 193321 were expected"}},
		"changed": {func(t *testing.T, dir string) {
			edit(t, dir, landmarkName+".bin", func(b []byte) []byte { b[7]++; return b })
		}, pins,
			[]string{landmarkName + ".bin", "SHA-256 differs", "make deps"}},
		"not JSON": {func(t *testing.T, dir string) {
			edit(t, dir, detectorName+"-weights_manifest.json", func([]byte) []byte { return []byte("<html>") })
		}, nil,
			[]string{"is not a weights manifest", detectorName}},
		"foreign": {func(t *testing.T, dir string) {
			edit(t, dir, detectorName+"-weights_manifest.json", func(b []byte) []byte {
				return []byte(strings.Replace(string(b), "conv0/filters", "conv0/other", 1))
			})
		}, nil,
			[]string{`"conv0/other"`, "not of the tiny_face_detector_model network"}},
		"lacking": {func(t *testing.T, dir string) {
			edit(t, dir, detectorName+"-weights_manifest.json", func([]byte) []byte { return []byte("[]") })
		}, nil, []string{"lacks"}},
	} {
		dir := t.TempDir()
		for file := range pins {
			data, err := os.ReadFile(filepath.Join(weightsDir, file))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, file), data)
		}
		c.spoil(t, dir)
		_, err := loadFaceModel(dir, c.sums)
		if err == nil {
			t.Errorf("%s: accepted", name)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q does not say %q", name, err, w)
			}
		}
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func edit(t *testing.T, dir, file string, change func([]byte) []byte) {
	t.Helper()
	path := filepath.Join(dir, file)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, change(data))
}
