package talkingphoto

// This file follows a face through the frames of a video, and measures what its
// landmarks say of mouth and eyes.

import (
	"image"
	"math"
)

// followSize is the box of the look at a frame, over the box of the points before.
const followSize = 1.1

// Follow locates the landmarks of a face that stood at before a moment ago. It looks
// twice, once at the mirrored picture: a quarter of the work of Landmarks, and less
// steady. It fails with ErrNoFace when the points do not form a face.
func (m *FaceModel) Follow(img image.Image, before Landmarks) (Landmarks, error) {
	tight := boxAround(before.Points[:]...)
	c, side := tight.Center(), math.Max(tight.W, tight.H)*followSize
	if !(side >= 8) {
		return Landmarks{}, ErrNoFace
	}
	src := toRGBA(img)
	box := Box{c.X - side/2, c.Y - side/2, side, side}
	straight := m.landmarksIn(src, box)
	axis := float64(src.Rect.Min.X + src.Rect.Max.X)
	box.X = axis - box.X - box.W
	var out Landmarks
	for i, p := range m.landmarksIn(mirror(src), box) {
		i = mirrorIndex(i)
		out.Points[i] = Point{(straight[i].X + axis - p.X) / 2, (straight[i].Y + p.Y) / 2}
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

// JawDrop is how far the chin stands under the nose, over the distance of the eyes.
func (l Landmarks) JawDrop() float64 {
	down := l.toLocal()
	return (down(l.Points[8]).Y - down(l.Points[33]).Y) / l.eyeDistance()
}

// EyesOpen is how far the lids stand apart, over the width of the eye; the mean of both.
func (l Landmarks) EyesOpen() float64 {
	p := &l.Points
	one := func(i int) float64 {
		return (distance(p[i+1], p[i+5]) + distance(p[i+2], p[i+4])) / 2 / math.Max(distance(p[i], p[i+3]), 1e-9)
	}
	return (one(36) + one(42)) / 2
}

func (l Landmarks) eyeDistance() float64 {
	return math.Max(distance(centroid(l.Points[36:42]...), centroid(l.Points[42:48]...)), 1e-9)
}
