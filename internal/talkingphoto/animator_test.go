package talkingphoto

// Tests of framing, of the warp and of single frames.

import (
	"bytes"
	"image"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestFrameFace(t *testing.T) {
	t.Parallel()
	p := portrait(t)
	for _, size := range [][2]int{{720, 720}, {1280, 720}, {720, 1280}, {64, 64}, {1920, 1080}} {
		w, h := size[0], size[1]
		f, err := FrameFace(p.img.Rect, p.marks, w, h)
		if err != nil {
			t.Fatal(err)
		}
		if !f.Crop.In(p.img.Rect) {
			t.Errorf("%dx%d: crop %v leaves the photo", w, h, f.Crop)
		}
		if a, b := float64(f.Crop.Dx())/float64(f.Crop.Dy()), float64(w)/float64(h); math.Abs(a/b-1) > .01 {
			t.Errorf("%dx%d: crop %v distorts by %.3f", w, h, f.Crop, a/b)
		}
		marks := f.Landmarks(p.marks)
		face := distance(centroid(marks.Points[17:27]...), marks.Points[8]) * crownFactor / float64(h)
		scale := float64(h) / float64(f.Crop.Dy())
		if (face < .3 || face > .5) && scale < maxUpscale*.99 {
			t.Errorf("%dx%d: the face fills %.0f %% of the height at scale %.2f", w, h, face*100, scale)
		}
		if c := marks.Points[30]; c.X < .3*float64(w) || c.X > .7*float64(w) || c.Y < .25*float64(h) || c.Y > .65*float64(h) {
			t.Errorf("%dx%d: the nose is at %v", w, h, c)
		}
	}
}

func TestFrameFaceCarriesPoints(t *testing.T) {
	t.Parallel()
	// A white dot in the photo must be white where Point says.
	photo := drawing(800, 600)
	for y := 300; y < 306; y++ {
		for x := 410; x < 416; x++ {
			copy(photo.Pix[photo.PixOffset(x, y):], []byte{255, 255, 255, 255})
		}
	}
	marks, err := MarkMouth(Box{380, 300, 40, 12})
	if err != nil {
		t.Fatal(err)
	}
	f, err := FrameFace(photo.Rect, marks, 640, 480)
	if err != nil {
		t.Fatal(err)
	}
	at := f.Point(Point{412.5, 302.5})
	if c := f.Picture(photo).RGBAAt(int(math.Round(at.X)), int(math.Round(at.Y))); c.R < 250 || c.B < 250 {
		t.Errorf("at %v the picture is %v, not white", at, c)
	}
}

func TestFrameSizesAreChecked(t *testing.T) {
	t.Parallel()
	p := portrait(t)
	for _, size := range [][2]int{{721, 720}, {720, 0}, {-2, 720}, {8000, 720}} {
		if _, err := FrameFace(p.img.Rect, p.marks, size[0], size[1]); err == nil || !strings.Contains(err.Error(), "even numbers") {
			t.Errorf("%v: %v", size, err)
		}
	}
}

func TestFramesAreDeterministic(t *testing.T) {
	t.Parallel()
	a, b := newTestAnimator(t, 360, 360), newTestAnimator(t, 360, 360)
	f, g := NewFrame(360, 360), NewFrame(360, 360)
	// The second animator visits the moments in another order.
	for _, at := range []float64{0, 1.2, 1.16, 3.3, .4} {
		if err := a.Frame(at, f); err != nil {
			t.Fatal(err)
		}
		for _, other := range []float64{5, 1.2, at} {
			if err := b.Frame(other, g); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(f.Pix, g.Pix) {
			t.Errorf("at %g s two animators differ", at)
		}
	}
}

func TestSpeechMovesTheMouthAlone(t *testing.T) {
	t.Parallel()
	a := newTestAnimator(t, 480, 480)
	region := a.lips.bounds()
	for name, s := range map[string]shape{"aa": soundAA.shape, "uw": soundUW.shape, "iy": soundIY.shape, "m": soundM.shape, "f": soundF.shape} {
		a.drawFace(s, 0)
		if d := difference(a.photo, a.face, a.MouthRegion()); d < 2 {
			t.Errorf("%s: the mouth hardly changes: %.2f", name, d)
		}
		for y := range 480 {
			for x := range 480 {
				if !image.Pt(x, y).In(region) && a.face.Pix[y*480+x] != a.photo.Pix[y*480+x] {
					t.Fatalf("%s: pixel %d, %d outside of %v has changed", name, x, y, region)
				}
			}
		}
		if d := difference(a.photo, a.face, a.eyeStrip()); d != 0 {
			t.Errorf("%s: the eyes have changed by %.2f", name, d)
		}
	}
	a.drawFace(resting, 0)
	if d := difference(a.photo, a.face, region); d > .6 {
		t.Errorf("at rest the face differs from the photo by %.2f", d)
	}
}

// eyeStrip is a band of pixels through the eyes.
func (a *Animator) eyeStrip() image.Rectangle {
	p := &a.marks.Points
	return a.inFrame(boxAround(p[36], p[38], p[41], p[43], p[45], p[46]))
}

// bounds is the rectangle of all luma pixels that lips may change.
func (k *lips) bounds() image.Rectangle {
	var r image.Rectangle
	for _, s := range k.regions[0].rows {
		r = r.Union(image.Rect(s.x0, s.y, s.x1, s.y+1))
	}
	return r
}

func TestLipsMeetAndPart(t *testing.T) {
	t.Parallel()
	a := newTestAnimator(t, 720, 720)
	mid := len(a.lips.centre) / 2
	gap := func(s shape) float64 {
		a.lips.pose(s, a.upper, a.low)
		return float64(a.low[mid] - a.upper[mid])
	}
	if g := gap(soundM.shape); g != 0 {
		t.Errorf("m leaves a gap of %.1f pixels", g)
	}
	if g := gap(resting); math.Abs(g-a.lips.gap) > 1 {
		t.Errorf("rest shows a gap of %.1f, the photo %.1f", g, a.lips.gap)
	}
	if aa, eh := gap(soundAA.shape), gap(soundEH.shape); aa < 20 || eh > aa-5 {
		t.Errorf("aa opens by %.1f, eh by %.1f pixels", aa, eh)
	}
}

// The warp must not fold: down every column, source rows may not run backwards.
func TestTheWarpDoesNotTear(t *testing.T) {
	t.Parallel()
	a := newTestAnimator(t, 720, 720)
	k := a.lips
	for name, s := range map[string]shape{"aa": soundAA.shape, "uw": soundUW.shape, "iy": soundIY.shape, "m": soundM.shape, "f": soundF.shape, "still": {}} {
		p := k.pose(s, a.upper, a.low)
		for u := -k.jawL; u <= k.jawR; u += 3 {
			last := math.Inf(-1)
			for v := -1.6 * k.half; v < 1.75*k.chin; v++ {
				px := k.pixel(u, v)
				_, sv, _ := k.source(&px, &p, .6)
				if float64(sv) < last-.05 {
					t.Fatalf("%s: at u=%.0f v=%.0f the source runs back from %.1f to %.1f", name, u, v, last, sv)
				}
				if step := float64(sv) - last; step > 9+float64(k.gap) && !math.IsInf(step, 1) {
					t.Fatalf("%s: at u=%.0f v=%.0f the source jumps by %.1f", name, u, v, step)
				}
				last = float64(sv)
			}
		}
	}
}

func TestBlink(t *testing.T) {
	t.Parallel()
	a := newTestAnimator(t, 720, 720)
	if len(a.eyes) != 2 {
		t.Fatalf("%d eyes", len(a.eyes))
	}
	// An eye is the part with contrast; a lid is smooth.
	a.drawFace(resting, 1)
	for i, e := range a.eyes {
		c := e.global(0, (e.upper.at(0)+e.lower.at(0))/2)
		pupil := image.Rect(int(c.X)-4, int(c.Y)-4, int(c.X)+5, int(c.Y)+5)
		open, shut := average(luminances(a.photo, pupil)), average(luminances(a.face, pupil))
		if shut < open+25 {
			t.Errorf("eye %d: the lid (%.0f) is not lighter than the eye (%.0f)", i, shut, open)
		}
	}
	a.drawFace(resting, 0)
	if d := difference(a.photo, a.face, a.eyeStrip()); d != 0 {
		t.Errorf("the eyes did not open again: %.2f", d)
	}
	var shut, closedFrames int
	for i := range 25 * 60 {
		if b := blinkAt(float64(i)/25, 0); b > .9 {
			closedFrames++
			if blinkAt(float64(i-1)/25, 0) <= .9 {
				shut++
			}
		}
	}
	if shut < 12 || shut > 25 || closedFrames > 4*shut {
		t.Errorf("%d blinks a minute, %d closed frames", shut, closedFrames)
	}
}

func luminances(f *Frame, r image.Rectangle) []float64 {
	var out []float64
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			out = append(out, float64(f.Pix[y*f.W+x]))
		}
	}
	return out
}

func TestHeadSwaysAndTheEdgeStays(t *testing.T) {
	t.Parallel()
	a := newTestAnimator(t, 720, 720)
	f, g := NewFrame(720, 720), NewFrame(720, 720)
	if err := a.Frame(.5, f); err != nil {
		t.Fatal(err)
	}
	if err := a.Frame(2.5, g); err != nil {
		t.Fatal(err)
	}
	if d := difference(f, g, a.FaceRegion()); d < .5 {
		t.Errorf("in two seconds the head moves by %.2f only", d)
	}
	corner := image.Rect(0, 0, 60, 60)
	if d := difference(a.photo, f, corner) + difference(a.photo, g, corner); d != 0 {
		t.Errorf("the corner of the picture moves: %.2f", d)
	}
	// A sway of nothing is the photo itself.
	a.head.draw(a.photo, f, sway{})
	if !bytes.Equal(f.Pix, a.photo.Pix) {
		t.Error("without sway the picture changes")
	}
}

func TestClosedMouthsOpenToo(t *testing.T) {
	t.Parallel()
	// The portrait with its lips closed is a photo of a closed mouth.
	closed := newTestAnimator(t, 720, 720)
	closed.drawFace(shape{press: .3}, 0)
	photo := closed.face.RGBA()
	m := loadModel(t)
	faces, err := m.Detect(background, photo)
	if err != nil {
		t.Fatal(err)
	}
	marks, err := m.Landmarks(photo, faces[0].Box)
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAnimator(AnimatorOptions{Photo: photo, Landmarks: marks, W: 720, H: 720})
	if err != nil {
		t.Fatal(err)
	}
	if a.lips.gap != 0 {
		t.Fatalf("the closed mouth has a gap of %.1f", a.lips.gap)
	}
	a.drawFace(soundAA.shape, 0)
	c := a.lips.global(0, a.lips.lower.at(0)+.4*a.lips.maxGap)
	inside := image.Rect(int(c.X)-5, int(c.Y)-2, int(c.X)+6, int(c.Y)+3)
	if before, after := average(luminances(a.photo, inside)), average(luminances(a.face, inside)); after > before-25 {
		t.Errorf("the open mouth is not dark inside: %.0f before, %.0f after", before, after)
	}
}

func TestMarkedMouthSpeaksWithoutBlinking(t *testing.T) {
	t.Parallel()
	marks, err := MarkMouth(Box{300, 400, 90, 20})
	if err != nil {
		t.Fatal(err)
	}
	a, err := NewAnimator(AnimatorOptions{Photo: drawing(800, 800), Landmarks: marks, W: 480, H: 480, Phones: word(.2, "pau", "aa", "m", "pau")})
	if err != nil {
		t.Fatal(err)
	}
	if len(a.eyes) != 0 {
		t.Error("a marked mouth has eyes that blink")
	}
	f, g := NewFrame(480, 480), NewFrame(480, 480)
	if err := a.Frame(.3-lead, f); err != nil {
		t.Fatal(err)
	}
	if err := a.Frame(.5-lead, g); err != nil {
		t.Fatal(err)
	}
	if d := difference(f, g, a.MouthRegion()); d < 1 {
		t.Errorf("the mouth does not move: %.2f", d)
	}
}

func TestNewAnimatorRefusesNonsense(t *testing.T) {
	t.Parallel()
	p := portrait(t)
	good := AnimatorOptions{Photo: p.img, Landmarks: p.marks, W: 480, H: 480}
	tiny, err := MarkMouth(Box{3, 5, 4, 1})
	if err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(o *AnimatorOptions){
		"needs a photo":            func(o *AnimatorOptions) { o.Photo = nil },
		"have no mouth":            func(o *AnimatorOptions) { o.Landmarks = Landmarks{} },
		"far outside of the photo": func(o *AnimatorOptions) { o.Landmarks.Points[8].X = math.NaN() },
		"even numbers":             func(o *AnimatorOptions) { o.W = 481 },
		"must not be negative":     func(o *AnimatorOptions) { o.Phones = []Phone{{"aa", -1, 0}} },
		"larger than 16×16":        func(o *AnimatorOptions) { o.Photo, o.Landmarks = drawing(10, 10), tiny },
	} {
		o := good
		change(&o)
		if _, err := NewAnimator(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
	a, err := NewAnimator(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Frame(0, NewFrame(64, 64)); err == nil || !strings.Contains(err.Error(), "480×480") {
		t.Errorf("a wrong frame: %v", err)
	}
}

// Whatever the landmarks, a frame comes out or a sentence does.
func TestOddLandmarksDoNoHarm(t *testing.T) {
	t.Parallel()
	p := portrait(t)
	r := rand.New(rand.NewPCG(1, 2))
	drawn := 0
	for range 60 {
		marks := p.marks
		spread := math.Pow(10, 3*r.Float64()) // 1 to 1,000 pixels
		for i := range marks.Points {
			marks.Points[i].X += spread * r.NormFloat64()
			marks.Points[i].Y += spread * r.NormFloat64()
		}
		w, h := 64+2*r.IntN(60), 64+2*r.IntN(60)
		a, err := NewAnimator(AnimatorOptions{Photo: p.img, Landmarks: marks, W: w, H: h, Phones: word(.2, "aa", "uw", "m", "f")})
		if err != nil {
			continue
		}
		drawn++
		f := NewFrame(w, h)
		for _, at := range []float64{.1, .3, .5, .7} {
			if err := a.Frame(at, f); err != nil {
				t.Fatal(err)
			}
		}
		a.drawFace(soundAA.shape, 1)
	}
	if drawn < 20 {
		t.Errorf("only %d of 60 were drawn: the test sees too little", drawn)
	}
}

func TestColoursSurviveTheRoundTrip(t *testing.T) {
	t.Parallel()
	for _, c := range [][3]float32{{0, 0, 0}, {255, 255, 255}, {200, 30, 60}, {10, 120, 240}} {
		r, g, b := yuv(c[0], c[1], c[2]).rgb()
		for i, v := range []float32{r, g, b} {
			if math.Abs(float64(v-c[i])) > 1 {
				t.Errorf("%v became %v %v %v", c, r, g, b)
			}
		}
	}
	if w := yuv(255, 255, 255); math.Abs(float64(w[0]-235)) > .5 || math.Abs(float64(w[1]-128)) > .5 {
		t.Errorf("white is %v, want luma 235", w)
	}
}
