package talkingphoto

// This file closes the eyes: the lid's skin is stretched over the eye, and the
// lashes at its edge come along.

import (
	"image"
	"math"
)

// eye is one eye of the framed photo. Local coordinates: x from -1 at the left
// corner to 1 at the right one, v downwards in pixels.
type eye struct {
	origin Point
	ax, ay float64
	half   float64
	upper  poly // the upper lid's edge, v over x
	lower  poly
	skin   float64 // height of the skin above the lid that stretches
	lash   colour
	bounds image.Rectangle // in luma pixels
}

// newEyes measures both eyes; none for marked mouths, for eyes too small to see, and where
// the skin above one of them is not free: people blink with both.
func newEyes(f *Frame, l Landmarks) []eye {
	if l.Marked {
		return nil
	}
	var out []eye
	for _, at := range []struct{ first, brow int }{{36, 17}, {42, 22}} {
		p := l.Points[at.first : at.first+6]
		e := eye{origin: centroid(p[0], p[3]), half: distance(p[0], p[3]) / 2 * 1.22}
		if e.half < 4 {
			continue
		}
		d := distance(p[0], p[3])
		e.ax, e.ay = (p[3].X-p[0].X)/d, (p[3].Y-p[0].Y)/d
		_, brow := e.local(centroid(l.Points[at.brow : at.brow+5]...))
		e.measureLids(f, p)
		e.skin = clamp(e.upper.at(0)-brow, .5*e.half, 1.3*e.half) * .85
		e.lash = f.at(e.global(0, e.upper.at(0))).darker(.5)
		top, bottom := e.upper.at(0)-e.skin-2, e.lower.at(0)+.3*e.half
		b := boxAround(e.global(-1.05, top), e.global(1.05, top), e.global(-1.05, bottom), e.global(1.05, bottom))
		e.bounds = image.Rect(int(b.X)&^1, int(b.Y)&^1, int(b.X+b.W)+2, int(b.Y+b.H)+2).Intersect(image.Rect(0, 0, f.W, f.H))
		if !e.free(f) {
			return nil
		}
		out = append(out, e)
	}
	return out
}

// hardEdge is the step over a twelfth of half the eye's width in the skin above it, over
// the light of the skin below it, from which on it is no skin: 0.20 to 0.56 was measured
// over the lids and brows of ten portraits at several sizes, 0.69 and more over the frame
// of glasses and over shadows as deep as black.
const hardEdge = .62

// free says whether the skin that a closing lid stretches is free of what is no skin: the
// frame of glasses, or a deep shadow, would be drawn over the eye.
func (e *eye) free(f *Frame) bool {
	luma := f.luma()
	at := func(x, v float64) float64 {
		q := e.global(x, v)
		return float64(luma.sample(float32(q.X), float32(q.Y))) - 16
	}
	step, below, n := 0.0, 0.0, 0.0
	for x := -.7; x <= .7; x += .05 {
		up, low := e.upper.at(x), e.lower.at(x)
		for v := up - e.skin; v < up-.24*e.half; v += .03 * e.half {
			step = math.Max(step, math.Abs(at(x, v+.08*e.half)-at(x, v)))
		}
		for v := low + .35*e.half; v < low+.8*e.half; v += .05 * e.half {
			below += at(x, v)
			n++
		}
	}
	return step < hardEdge*below/n
}

func (e *eye) local(p Point) (x, v float64) {
	dx, dy := p.X-e.origin.X, p.Y-e.origin.Y
	return (dx*e.ax + dy*e.ay) / e.half, -dx*e.ay + dy*e.ax
}

func (e *eye) global(x, v float64) Point {
	u := x * e.half
	return Point{e.origin.X + u*e.ax - v*e.ay, e.origin.Y + u*e.ay + v*e.ax}
}

// measureLids fits the lids' edges. The landmarks lie inside the visible eye;
// the upper edge is moved to the lash line, the darkest row just above them,
// because an edge inside the eye would drag white of the eye over the cheek.
func (e *eye) measureLids(f *Frame, p []Point) {
	var up, low leastSquares
	for i := range 4 {
		x, v := e.local(p[i])
		up.add(x, v, 1)
	}
	for _, i := range []int{0, 5, 4, 3} {
		x, v := e.local(p[i])
		low.add(x, v, 1)
	}
	up.add(-1, 0, 1)
	up.add(1, 0, 1)
	low.add(-1, 0, 1)
	low.add(1, 0, 1)
	rough := up.solve(2)
	e.lower = low.solve(2)
	luma := f.luma()
	var fit leastSquares
	for x := -.7; x <= .7; x += .1 {
		base := rough.at(x)
		best, at := math.Inf(1), base
		for v := base - .34*e.half; v <= base+.02*e.half; v += .5 {
			q := e.global(x, v)
			light := float64(luma.sample(float32(q.X), float32(q.Y)))
			if light < best {
				best, at = light, v
			}
		}
		fit.add(x, at, 1)
	}
	fit.add(-1, 0, 2)
	fit.add(1, 0, 2)
	e.upper = fit.solve(2)
	// The closed lid must cover the whole eye.
	if e.lower.at(0) < e.upper.at(0)+.25*e.half {
		e.lower[0] = e.upper.at(0) + .25*e.half
	}
}

// draw closes the eye by c (0 open, 1 closed), reading from the photo.
func (e *eye) draw(photo, out *Frame, c float64) {
	src, dst := photo.planes(), out.planes()
	for i := range src {
		s := src[i].step
		for y := e.bounds.Min.Y / s; y < e.bounds.Max.Y/s; y++ {
			for x := e.bounds.Min.X / s; x < e.bounds.Max.X/s; x++ {
				shift := float64(s-1) / 2
				ex, v := e.local(Point{float64(x*s) + shift, float64(y*s) + shift})
				sv, lash := e.source(ex, v, c)
				if sv == v && lash == 0 {
					continue
				}
				q := e.global(ex, sv)
				value := src[i].sampleLuma(float32(q.X), float32(q.Y))
				value += (e.lash[i] - value) * float32(lash)
				dst[i].pix[y*dst[i].w+x] = toByte(value)
			}
		}
	}
}

// source tells from which height of the photo a pixel comes, and how much of
// the lashes lies on it.
func (e *eye) source(x, v, c float64) (from, lash float64) {
	if x <= -1 || x >= 1 {
		return v, 0
	}
	up, low := e.upper.at(x), e.lower.at(x)
	open := math.Max(0, low-up)
	edge := up + c*(open+.09*e.half)
	fade := 1 - smooth(.7, 1, math.Abs(x))
	top := up - e.skin*(.4+.6*fade)
	if v <= top {
		return v, 0
	}
	dark := .4 * c * fade * (1 - smooth(0, .09*e.half, math.Abs(v-edge)))
	if v > edge {
		return v, dark
	}
	// The lashes keep their height, the skin above them stretches.
	lashes := math.Min(.16*e.half, .5*(up-top))
	if v > edge-lashes {
		return v - (edge - up), dark
	}
	return top + (v-top)*(up-lashes-top)/(edge-lashes-top), dark
}

// blinkAt is how far the eyes are closed at a time. Blinks come every 2.4 to
// 5.2 seconds, irregular but the same in every render of one seed.
func blinkAt(t float64, seed uint32) float64 {
	start := 1.1
	if seed != 0 {
		start += 2 * hash01(seed)
	}
	for i := uint32(0); start < t+1; i++ {
		if d := t - start; d >= 0 && d < .27 {
			switch { // closing is twice as fast as opening
			case d < .09:
				return smooth(0, .09, d)
			case d < .12:
				return 1
			default:
				return 1 - smooth(.12, .27, d)
			}
		}
		start += 2.4 + 2.8*hash01(i+seed)
	}
	return 0
}

// hash01 spreads i over [0, 1): the finaliser of MurmurHash3.
func hash01(i uint32) float64 {
	i = (i + 0x9E3779B9) * 0x85EBCA6B
	i ^= i >> 13
	i *= 0xC2B2AE35
	i ^= i >> 16
	return float64(i) / (1 << 32)
}
