package talkingphoto

// This file holds points, boxes and the small scalar functions that the rest
// of the package shapes its movements with.

import "math"

// Point is a position in pixels; x grows to the right, y downwards.
type Point struct{ X, Y float64 }

// Box is an axis-parallel rectangle in pixels.
type Box struct{ X, Y, W, H float64 }

// Center is the middle of the box.
func (b Box) Center() Point { return Point{b.X + b.W/2, b.Y + b.H/2} }

// overlap is the intersection of two boxes divided by their union, 0 to 1.
func (b Box) overlap(o Box) float64 {
	w := math.Min(b.X+b.W, o.X+o.W) - math.Max(b.X, o.X)
	h := math.Min(b.Y+b.H, o.Y+o.H) - math.Max(b.Y, o.Y)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h / (b.W*b.H + o.W*o.H - w*h)
}

// boxAround is the smallest box that holds all points.
func boxAround(ps ...Point) Box {
	lo, hi := ps[0], ps[0]
	for _, p := range ps {
		lo = Point{math.Min(lo.X, p.X), math.Min(lo.Y, p.Y)}
		hi = Point{math.Max(hi.X, p.X), math.Max(hi.Y, p.Y)}
	}
	return Box{lo.X, lo.Y, hi.X - lo.X, hi.Y - lo.Y}
}

// centroid is the mean of the points.
func centroid(ps ...Point) Point {
	var c Point
	for _, p := range ps {
		c.X += p.X
		c.Y += p.Y
	}
	n := float64(len(ps))
	return Point{c.X / n, c.Y / n}
}

func distance(a, b Point) float64 { return math.Hypot(a.X-b.X, a.Y-b.Y) }

func clamp(x, lo, hi float64) float64 { return math.Max(lo, math.Min(hi, x)) }

// smooth rises from 0 at a to 1 at b with flat ends (the cubic smoothstep).
func smooth(a, b, x float64) float64 {
	x = clamp((x-a)/(b-a), 0, 1)
	return x * x * (3 - 2*x)
}

func mix(a, b, x float64) float64 { return a + (b-a)*x }
