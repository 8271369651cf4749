package talkingphoto

// This file finds the 68 landmarks of a face, and makes up landmarks where a
// person has marked the mouth by hand.

import (
	"errors"
	"fmt"
	"image"
	"math"
	"slices"
)

// Landmarks are the 68 points of the iBUG scheme in the picture's pixels:
// 0–16 jaw, 17–26 brows, 27–35 nose, 36–47 eyes, 48–59 outer lips, 60–67 inner
// lips. "Left" is the left of the picture.
type Landmarks struct {
	Points [68]Point
	// Marked says that a person marked the mouth and that everything else is
	// an average face around it; the eyes are then left alone.
	Marked bool
}

// landmarkMean is subtracted from RGB before division by 255.
var landmarkMean = [3]float32{122.782, 117.001, 104.298}

const landmarkSize = 112

// jitters are the crops whose answers are averaged: shift as a share of the
// box, size factor. Every second one looks at the mirrored picture, because the
// network leans to one side. One look is off by a pixel of the 112-pixel input,
// which is several pixels of the finished frame; the mean is far steadier.
var jitters = [...]struct{ dx, dy, size float64 }{
	{0, 0, 1.08}, {0, 0, 1.08}, {0.03, 0.02, 1.14}, {0.03, 0.02, 1.14}, {-0.03, -0.02, 1.14}, {-0.03, -0.02, 1.14}, {0, 0, 1.2}, {0, 0, 1.2},
}

// Landmarks locates the 68 points of a detected or hand-drawn face box. It
// fails with ErrNoFace when the points do not form a face.
func (m *FaceModel) Landmarks(img image.Image, face Box) (Landmarks, error) {
	if !(face.W >= 8 && face.H >= 8) {
		return Landmarks{}, fmt.Errorf("the face box is %.0f×%.0f pixels, too small to find eyes and mouth in: use a larger picture", face.W, face.H)
	}
	src := toRGBA(img)
	first := m.landmarksIn(src, face)
	// The detector's box is loose; the box of the points is what the network
	// was trained on.
	tight := boxAround(first[:]...)
	near := surroundings(tight)
	mirrored, axis := mirror(src, near), float64(near.Min.X+near.Max.X)
	var xs, ys [68][]float64
	for n, j := range jitters {
		side := math.Max(tight.W, tight.H) * j.size
		c := tight.Center()
		box := Box{c.X + j.dx*tight.W - side/2, c.Y + j.dy*tight.H - side/2, side, side}
		if n%2 == 1 {
			box.X = axis - box.X - box.W
			for i, p := range m.landmarksIn(mirrored, box) {
				i = mirrorIndex(i)
				xs[i], ys[i] = append(xs[i], axis-p.X), append(ys[i], p.Y)
			}
			continue
		}
		for i, p := range m.landmarksIn(src, box) {
			xs[i], ys[i] = append(xs[i], p.X), append(ys[i], p.Y)
		}
	}
	var out Landmarks
	for i := range out.Points {
		out.Points[i] = Point{trimmedMean(xs[i]), trimmedMean(ys[i])}
	}
	if !out.plausible() {
		return Landmarks{}, ErrNoFace
	}
	return out, nil
}

// trimmedMean is the mean without the lowest and the highest value.
func trimmedMean(v []float64) float64 {
	slices.Sort(v)
	total := 0.0
	for _, x := range v[1 : len(v)-1] {
		total += x
	}
	return total / float64(len(v)-2)
}

// surroundings is the part of a picture, around a face's points, within which all looks
// at it lie.
func surroundings(face Box) image.Rectangle {
	c, half := face.Center(), .75*math.Max(face.W, face.H)+1
	return image.Rect(int(c.X-half), int(c.Y-half), int(c.X+half)+1, int(c.Y+half)+1)
}

// mirror flips what of a part of a picture lies in it, left to right about the part's middle.
func mirror(src *image.RGBA, part image.Rectangle) *image.RGBA {
	in, ends := part.Intersect(src.Rect), part.Min.X+part.Max.X
	out := image.NewRGBA(image.Rect(ends-in.Max.X, in.Min.Y, ends-in.Min.X, in.Max.Y))
	for y := in.Min.Y; y < in.Max.Y; y++ {
		for x := in.Min.X; x < in.Max.X; x++ {
			from, to := src.PixOffset(x, y), out.PixOffset(ends-1-x, y)
			copy(out.Pix[to:to+4], src.Pix[from:from+4])
		}
	}
	return out
}

// mirrorIndex is the landmark that a point becomes in the mirrored picture.
func mirrorIndex(i int) int {
	switch {
	case i <= 16:
		return 16 - i
	case i <= 26:
		return 43 - i
	case i <= 30:
		return i
	case i <= 35:
		return 66 - i
	case i <= 39 || i >= 42 && i <= 45:
		return 81 - i
	case i <= 47: // lower lids: 40–41 and 46–47
		return 87 - i
	case i <= 54:
		return 102 - i
	case i <= 59:
		return 114 - i
	case i <= 64:
		return 124 - i
	}
	return 132 - i
}

// landmarksIn runs the network once on a box, which may reach outside src.
func (m *FaceModel) landmarksIn(src *image.RGBA, box Box) [68]Point {
	r := image.Rect(int(math.Round(box.X)), int(math.Round(box.Y)), int(math.Round(box.X+box.W)), int(math.Round(box.Y+box.H)))
	x, fit := networkInput(src, r, landmarkSize, true, landmarkMean)
	for i := range 4 {
		x = denseBlock(x, m.landmarks, fmt.Sprintf("dense%d", i), i == 0)
	}
	out := slices.Clone(m.landmarks["fc/bias"].data)
	accumulate(out, mean(x), m.landmarks["fc/weights"].data)
	var pts [68]Point
	for i := range pts {
		pts[i] = fit.invert(Point{float64(out[2*i]) * landmarkSize, float64(out[2*i+1]) * landmarkSize})
	}
	return pts
}

// separable is a depthwise convolution followed by a 1×1 one with bias.
func separable(x tensor, w map[string]weight, name string, stride int) tensor {
	return conv(depthwise(x, w[name+"/depthwise_filter"], stride), w[name+"/pointwise_filter"], w[name+"/bias"].data, 1)
}

// denseBlock is face-api's denseBlock4: four convolutions, each fed with the
// sum of all before it.
func denseBlock(x tensor, w map[string]weight, name string, first bool) tensor {
	var a tensor
	if first {
		a = conv(x, w[name+"/conv0/filters"], w[name+"/conv0/bias"].data, 2)
	} else {
		a = separable(x, w, name+"/conv0", 2)
	}
	a = leaky(a, 0)
	b := separable(a, w, name+"/conv1", 1)
	c := separable(leaky(sum(a, b), 0), w, name+"/conv2", 1)
	d := separable(leaky(sum(a, b, c), 0), w, name+"/conv3", 1)
	return leaky(sum(a, b, c, d), 0)
}

// plausible refuses point clouds that are not an upright face seen from about
// the front: the animation would tear such a picture apart.
func (l Landmarks) plausible() bool {
	p := &l.Points
	eyes := distance(centroid(p[36:42]...), centroid(p[42:48]...))
	down := l.toLocal()
	mouth, chin, nose := down(centroid(p[48:60]...)), down(p[8]), down(p[33])
	width := distance(p[48], p[54])
	return eyes > 3 && nose.Y > 0 && mouth.Y > nose.Y && chin.Y > mouth.Y &&
		width > 0.25*eyes && width < 2*eyes && math.Abs(mouth.X) < eyes && chin.Y > 0.8*eyes && chin.Y < 4*eyes
}

// check refuses landmarks that cannot be of a photo with these bounds. A face
// may reach over the photo's edge, but its mouth may not lie elsewhere.
func (l Landmarks) check(photo image.Rectangle) error {
	w, h := float64(photo.Dx()), float64(photo.Dy())
	for i, p := range l.Points {
		x, y := (p.X-float64(photo.Min.X))/w, (p.Y-float64(photo.Min.Y))/h
		if !(x > -2 && x < 3 && y > -2 && y < 3) {
			return fmt.Errorf("landmark %d lies at %g, %g, far outside of the photo", i, p.X, p.Y)
		}
	}
	if distance(l.Points[48], l.Points[54]) < 2 {
		return errors.New("the landmarks have no mouth: find them in a photo with a face first")
	}
	return nil
}

// toLocal maps a point to a frame whose origin lies between the eyes and whose
// x axis runs from the left eye to the right one.
func (l Landmarks) toLocal() func(Point) Point {
	left, right := centroid(l.Points[36:42]...), centroid(l.Points[42:48]...)
	o := centroid(left, right)
	d := math.Max(distance(left, right), 1e-9)
	ax, ay := (right.X-left.X)/d, (right.Y-left.Y)/d
	return func(p Point) Point {
		dx, dy := p.X-o.X, p.Y-o.Y
		return Point{dx*ax + dy*ay, -dx*ay + dy*ax}
	}
}

// averageFace is a neutral frontal face in units of half the mouth's width,
// origin in the middle of the mouth.
var averageFace = [68]Point{
	{-2.75, -2.35}, {-2.70, -1.55}, {-2.58, -0.78}, {-2.40, -0.02}, {-2.10, 0.66}, {-1.65, 1.24}, {-1.12, 1.68}, {-0.57, 1.98}, {0, 2.06},
	{0.57, 1.98}, {1.12, 1.68}, {1.65, 1.24}, {2.10, 0.66}, {2.40, -0.02}, {2.58, -0.78}, {2.70, -1.55}, {2.75, -2.35},
	{-2.20, -3.30}, {-1.85, -3.60}, {-1.40, -3.68}, {-0.92, -3.58}, {-0.50, -3.42},
	{0.50, -3.42}, {0.92, -3.58}, {1.40, -3.68}, {1.85, -3.60}, {2.20, -3.30},
	{0, -2.80}, {0, -2.30}, {0, -1.82}, {0, -1.40}, {-0.55, -1.02}, {-0.28, -0.92}, {0, -0.86}, {0.28, -0.92}, {0.55, -1.02},
	{-1.75, -2.70}, {-1.45, -2.90}, {-1.08, -2.90}, {-0.78, -2.66}, {-1.10, -2.56}, {-1.46, -2.56},
	{0.78, -2.66}, {1.08, -2.90}, {1.45, -2.90}, {1.75, -2.70}, {1.46, -2.56}, {1.10, -2.56},
	{-1, 0}, {-0.62, -0.22}, {-0.24, -0.34}, {0, -0.29}, {0.24, -0.34}, {0.62, -0.22}, {1, 0},
	{0.62, 0.30}, {0.26, 0.43}, {0, 0.45}, {-0.26, 0.43}, {-0.62, 0.30},
	{-0.86, 0}, {-0.24, -0.05}, {0, -0.03}, {0.24, -0.05}, {0.86, 0}, {0.24, 0.02}, {0, 0.03}, {-0.24, 0.02},
}

// MarkMouth makes landmarks for a mouth that a person has marked with a box
// from corner to corner: for drawings, animals, or a face among several. The
// mouth's corners are the middles of the box's left and right sides.
func MarkMouth(mouth Box) (Landmarks, error) {
	if !(mouth.W >= 4) || mouth.H < 0 {
		return Landmarks{}, fmt.Errorf("the marked mouth is %.0f×%.0f pixels: mark a box from one corner of the mouth to the other", mouth.W, mouth.H)
	}
	out := Landmarks{Marked: true}
	c := mouth.Center()
	for i, p := range averageFace {
		out.Points[i] = Point{c.X + p.X*mouth.W/2, c.Y + p.Y*mouth.W/2}
	}
	return out, nil
}
