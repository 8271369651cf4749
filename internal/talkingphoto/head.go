package talkingphoto

// This file turns and sways the head a little, as people do when they speak:
// a displacement that is full on the head, larger where the face is nearer to
// the camera, and fades into the background.

import (
	"math"
)

// Weights are fixed-point numbers of 12 bits, displacements of 8.
const (
	weightBits = 12
	subBits    = 8
	// stride is how many pixels of a row lie between two of which the movement is worked
	// out; between them it is a straight line. By the curves' bend that is off by some
	// fiftieth of a pixel where a head fills a frame of 720, by more in a tiny one.
	stride = 8
)

// headPlane is the movement table of one plane: per pixel the share in the
// head's movement and the depth, and the first and last moving pixel per row.
type headPlane struct {
	weights []headWeight
	spans   [][2]int
}

type headWeight struct{ move, depth int16 }

type head struct {
	width  float64 // of the face, luma pixels
	pivotX float64 // the neck, about which the head rolls
	pivotY float64
	tables [2]headPlane // luma, chroma
}

func newHead(f *Frame, l Landmarks) *head {
	p := &l.Points
	brows, chin := centroid(p[17:27]...), p[8]
	h := &head{width: distance(p[0], p[16])}
	h.pivotX, h.pivotY = chin.X, chin.Y+.35*h.width
	c := Point{(brows.X + chin.X) / 2, (brows.Y+chin.Y)/2 - .12*h.width}
	nose := p[30]
	for i, step := range []int{1, 2} {
		w, ht := f.W/step, f.H/step
		t := headPlane{weights: make([]headWeight, w*ht), spans: make([][2]int, ht)}
		parallelRows(ht, func(from, to int) {
			for y := from; y < to; y++ {
				t.spans[y] = [2]int{w, 0}
				for x := range w {
					g := Point{float64(x*step) + float64(step-1)/2, float64(y*step) + float64(step-1)/2}
					weight := h.weight(g, c, nose)
					if weight.move == 0 {
						continue
					}
					t.weights[y*w+x] = weight
					t.spans[y][0], t.spans[y][1] = min(t.spans[y][0], x), x+1
				}
			}
		})
		h.tables[i] = t
	}
	return h
}

func (h *head) weight(g, c, nose Point) headWeight {
	w := h.width
	far := math.Hypot(g.X-c.X, (g.Y-c.Y)/1.25)
	move := 1 - smooth(.62*w, 1.3*w, far)
	dx, dy := (g.X-c.X)/(.66*w), (g.Y-c.Y)/(.9*w)
	round := math.Max(0, 1-dx*dx-dy*dy)
	n := distance(g, nose) / (.17 * w)
	depth := .8*round + .2*math.Exp(-n*n)
	return headWeight{int16(move * (1 << weightBits)), int16(depth * move * (1 << weightBits))}
}

// sway is the head's displacement at one moment, in luma pixels and radians.
type sway struct{ x, y, roll, yaw, pitch float64 }

// swayAt is a slow, never repeating drift; stress is the loudness around the
// moment and makes the head nod.
func (h *head) swayAt(t, stress float64) sway {
	w := h.width
	return sway{
		x:     w * .008 * (math.Sin(.9*t) + .5*math.Sin(2.07*t+1)),
		y:     w * (.006*math.Sin(1.27*t+.5) + .006*stress),
		roll:  .010*math.Sin(.71*t+2) + .004*math.Sin(1.9*t),
		yaw:   w * (.016*math.Sin(.53*t+.3) + .006*math.Sin(1.61*t)),
		pitch: w * (.007*math.Sin(.83*t+1.2) + .012*(stress-.4)),
	}
}

// draw moves src into dst; both must not share memory.
func (h *head) draw(src, dst *Frame, s sway) {
	from, to := src.planes(), dst.planes()
	// The chroma's rows follow the luma's, so that no processor waits between the two.
	parallelRows(src.H+src.H/2, func(r0, r1 int) {
		for y := r0; y < r1; y++ {
			if y < src.H {
				h.drawRow(&h.tables[0], from[:1], to[:1], y, s)
			} else {
				h.drawRow(&h.tables[1], from[1:], to[1:], y-src.H, s)
			}
		}
	})
}

// drawRow is the inner loop of the renderer: integers only. The planes share
// their positions: luma alone, or both chroma planes.
func (h *head) drawRow(t *headPlane, from, to []plane, y int, s sway) {
	w, ht, step := from[0].w, from[0].h, from[0].step
	row := y * w
	x0, x1 := t.spans[y][0], t.spans[y][1]
	if x0 >= x1 {
		x0, x1 = w, w
	}
	for i := range from {
		copy(to[i].pix[row:row+x0], from[i].pix[row:row+x0])
		copy(to[i].pix[row+x1:row+w], from[i].pix[row+x1:row+w])
	}
	const (
		one  = 1 << subBits
		fine = 16 // further bits of moveY, which grows along the row
	)
	unit := float64(one) / float64(step)
	// A roll moves a pixel sideways by its height over the pivot, and up or
	// down by its distance to the side of it.
	moveX := int((s.x - s.roll*(float64(y*step)-h.pivotY)) * unit)
	yaw, pitch := int(s.yaw*unit), int(s.pitch*unit)
	moveY := int((s.y + s.roll*(float64(x0*step)-h.pivotX)) * unit * (1 << fine))
	moveYStep := int(s.roll * one * (1 << fine))
	weights := t.weights[row : row+w]
	// shift is how far the pixel at x is moved, in 1/256 of 1/4096 of a pixel.
	shift := func(x int) (dx, dy int) {
		mv, dp := int(weights[min(x, w-1)].move), int(weights[min(x, w-1)].depth)
		return mv*moveX + dp*yaw, mv*((moveY+(x-x0)*moveYStep)>>fine) + dp*pitch
	}
	maxX, maxY := (w-1)*one-1, (ht-1)*one-1
	a, b := from[0].pix, to[0].pix[row:row+w]
	var a2, b2 []byte
	if len(from) > 1 {
		a2, b2 = from[1].pix, to[1].pix[row:row+w]
	}
	nextX, nextY := shift(x0)
	for begin := x0; begin < x1; begin += stride {
		end := min(begin+stride, x1)
		dx, dy := nextX, nextY
		nextX, nextY = shift(end)
		stepX, stepY := (nextX-dx)/(end-begin), (nextY-dy)/(end-begin)
		for x := begin; x < end; x++ {
			sx, sy := x*one-dx>>weightBits, y*one-dy>>weightBits
			dx, dy = dx+stepX, dy+stepY
			sx, sy = max(0, min(sx, maxX)), max(0, min(sy, maxY))
			at := (sy>>subBits)*w + sx>>subBits
			fx, fy := uint(sx&(one-1)), uint(sy&(one-1))
			b[x] = lerp4(a[at:at+2:at+2], a[at+w:at+w+2:at+w+2], fx, fy)
			if a2 != nil {
				b2[x] = lerp4(a2[at:at+2:at+2], a2[at+w:at+w+2:at+w+2], fx, fy)
			}
		}
	}
}

// lerp4 interpolates between the first two pixels of p and of q, the row
// below; fx and fy count 1/256. It is written to be inlined.
func lerp4(p, q []byte, fx, fy uint) byte {
	top := uint(p[0])*(256-fx) + uint(p[1])*fx
	low := uint(q[0])*(256-fx) + uint(q[1])*fx
	return byte((top*(256-fy) + low*fy + 1<<15) >> 16 & 0xff)
}
