package talkingphoto

// This file follows a face through the frames of a video, and measures what its
// landmarks say of mouth and eyes.

import (
	"image"
	"math"
)

// followSizes are the boxes of the looks at a frame, over the box of the points before.
var followSizes = [...]float64{1.05, 1.2}

// Follow locates the landmarks of a face that stood at before a moment ago. It looks
// twice, and twice at the mirrored picture: half of the work of Landmarks, and nearly as
// steady. It fails with ErrNoFace when the points do not form a face.
func (m *FaceModel) Follow(img image.Image, before Landmarks) (Landmarks, error) {
	tight := boxAround(before.Points[:]...)
	c, side := tight.Center(), math.Max(tight.W, tight.H)
	if !(side >= 8) {
		return Landmarks{}, ErrNoFace
	}
	src := toRGBA(img)
	near := surroundings(tight)
	mirrored, axis := mirror(src, near), float64(near.Min.X+near.Max.X)
	var out Landmarks
	for _, size := range followSizes {
		side := side * size
		box := Box{c.X - side/2, c.Y - side/2, side, side}
		const share = 1 / float64(2*len(followSizes))
		for i, p := range m.landmarksIn(src, box) {
			out.Points[i].X += share * p.X
			out.Points[i].Y += share * p.Y
		}
		box.X = axis - box.X - box.W
		for i, p := range m.landmarksIn(mirrored, box) {
			i = mirrorIndex(i)
			out.Points[i].X += share * (axis - p.X)
			out.Points[i].Y += share * p.Y
		}
	}
	if !out.plausible() {
		return Landmarks{}, ErrNoFace
	}
	return out, nil
}

// MouthGap is how far the lips stand apart: the mean distance of upper and lower
// inner lip over the distance of the eyes. It does not depend on where the face is,
// how large, or how it is turned in the picture.
func (l Landmarks) MouthGap() float64 {
	p, down := &l.Points, l.toLocal()
	gap := 0.0
	for i, upper := range [3]int{61, 62, 63} {
		gap += down(p[67-i]).Y - down(p[upper]).Y
	}
	return gap / 3 / l.eyeDistance()
}

// EyesOpen is how far the lids stand apart, over the width of the eye; the mean of both.
func (l Landmarks) EyesOpen() float64 {
	p := &l.Points
	one := func(i int) float64 {
		return (distance(p[i+1], p[i+5]) + distance(p[i+2], p[i+4])) / 2 / math.Max(distance(p[i], p[i+3]), 1e-9)
	}
	return (one(36) + one(42)) / 2
}

// Eyes is how many pixels the eyes stand apart: the face's size.
func (l Landmarks) Eyes() float64 { return l.eyeDistance() }

func (l Landmarks) eyeDistance() float64 {
	return math.Max(distance(centroid(l.Points[36:42]...), centroid(l.Points[42:48]...)), 1e-9)
}
