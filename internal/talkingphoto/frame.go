package talkingphoto

// This file holds the picture format of the renderer: planar YUV 4:2:0, BT.709,
// limited range, exactly what the encoder takes. Warping three small planes
// costs half of warping RGBA, and nothing is left to convert afterwards.

import (
	"fmt"
	"image"
)

// Frame is a picture of W×H pixels (both even): W·H bytes of luma followed by
// two planes of W/2·H/2 bytes, U and V; BT.709, limited range (16–235).
type Frame struct {
	W, H int
	Pix  []byte
}

// NewFrame returns a black frame; odd sizes are refused by checkSize earlier.
func NewFrame(w, h int) *Frame {
	f := &Frame{W: w, H: h, Pix: make([]byte, w*h*3/2)}
	for i := range f.Pix {
		f.Pix[i] = 128
	}
	for i := range f.luma().pix {
		f.Pix[i] = 16
	}
	return f
}

// plane is one component of a frame. step is its sampling distance in luma
// pixels: 1 or 2.
type plane struct {
	w, h, step int
	pix        []byte
}

func (f *Frame) luma() plane { return plane{f.W, f.H, 1, f.Pix[:f.W*f.H]} }

func (f *Frame) planes() [3]plane {
	n, c := f.W*f.H, f.W*f.H/4
	return [3]plane{
		{f.W, f.H, 1, f.Pix[:n]},
		{f.W / 2, f.H / 2, 2, f.Pix[n : n+c]},
		{f.W / 2, f.H / 2, 2, f.Pix[n+c : n+2*c]},
	}
}

// sample interpolates bilinearly at a position in plane pixels; positions
// outside are moved to the border.
func (p plane) sample(x, y float32) float32 {
	x, y = within(x, float32(p.w)-1.001), within(y, float32(p.h)-1.001)
	xi, yi := int(x), int(y)
	fx, fy := x-float32(xi), y-float32(yi)
	at := yi*p.w + xi
	top, bottom := p.pix[at:at+2:at+2], p.pix[at+p.w:at+p.w+2:at+p.w+2]
	a := float32(top[0]) + (float32(top[1])-float32(top[0]))*fx
	b := float32(bottom[0]) + (float32(bottom[1])-float32(bottom[0]))*fx
	return a + (b-a)*fy
}

// within clamps to 0…hi; what is not a number becomes 0, so that no picture,
// however odd its landmarks, can index outside of a plane.
func within(x, hi float32) float32 {
	if !(x > 0) {
		return 0
	}
	if x > hi {
		return hi
	}
	return x
}

// sampleLuma is sample at a position in luma pixels, whatever the plane.
func (p plane) sampleLuma(x, y float32) float32 {
	if p.step == 1 {
		return p.sample(x, y)
	}
	return p.sample((x-.5)/2, (y-.5)/2)
}

// colour is a point in YUV, limited range.
type colour [3]float32

// yuv converts 8-bit RGB to BT.709, limited range (ITU-R BT.709-6).
func yuv(r, g, b float32) colour {
	return colour{
		16 + .1826*r + .6142*g + .0620*b,
		128 - .1006*r - .3386*g + .4392*b,
		128 + .4392*r - .3989*g - .0403*b,
	}
}

// rgb is the inverse of yuv, not clamped.
func (c colour) rgb() (r, g, b float32) {
	y, u, v := 1.1644*(c[0]-16), c[1]-128, c[2]-128
	return y + 1.7927*v, y - .2132*u - .5329*v, y + 2.1124*u
}

// darker scales the light of a colour, chroma included; 0 is black.
func (c colour) darker(by float32) colour {
	return colour{16 + (c[0]-16)*by, 128 + (c[1]-128)*by, 128 + (c[2]-128)*by}
}

// vivid scales the distance of a colour from grey.
func (c colour) vivid(by float32) colour {
	return colour{c[0], 128 + (c[1]-128)*by, 128 + (c[2]-128)*by}
}

func (c colour) mix(o colour, x float32) colour {
	return colour{c[0] + (o[0]-c[0])*x, c[1] + (o[1]-c[1])*x, c[2] + (o[2]-c[2])*x}
}

// at reads the colour of a frame at a position in luma pixels.
func (f *Frame) at(p Point) colour {
	var c colour
	for i, pl := range f.planes() {
		c[i] = pl.sampleLuma(float32(p.X), float32(p.Y))
	}
	return c
}

// FrameOf converts an opaque picture with its origin at 0,0 and even sides.
func FrameOf(m *image.RGBA) *Frame { return fromRGBA(m) }

// Paste lays a picture at an even place, where it must fit in.
func (f *Frame) Paste(o *Frame, at image.Point) {
	from, to := o.planes(), f.planes()
	for i := range from {
		src, dst := from[i], to[i]
		for y := range src.h {
			copy(dst.pix[(at.Y/dst.step+y)*dst.w+at.X/dst.step:][:src.w], src.pix[y*src.w:][:src.w])
		}
	}
}

// fromRGBA converts an opaque picture of even size.
func fromRGBA(m *image.RGBA) *Frame {
	w, h := m.Rect.Dx(), m.Rect.Dy()
	f := NewFrame(w, h)
	ps := f.planes()
	parallelRows(h/2, func(from, to int) {
		for cy := from; cy < to; cy++ {
			for cx := range w / 2 {
				var total colour
				for k := range 4 {
					x, y := cx*2+k%2, cy*2+k/2
					px := m.Pix[y*m.Stride+x*4:]
					c := yuv(float32(px[0]), float32(px[1]), float32(px[2]))
					ps[0].pix[y*w+x] = toByte(c[0])
					total[1] += c[1] / 4
					total[2] += c[2] / 4
				}
				ps[1].pix[cy*w/2+cx] = toByte(total[1])
				ps[2].pix[cy*w/2+cx] = toByte(total[2])
			}
		}
	})
	return f
}

// RGBA converts the frame for looking at it.
func (f *Frame) RGBA() *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, f.W, f.H))
	ps := f.planes()
	for y := range f.H {
		for x := range f.W {
			c := colour{float32(ps[0].pix[y*f.W+x]), ps[1].sampleLuma(float32(x), float32(y)), ps[2].sampleLuma(float32(x), float32(y))}
			r, g, b := c.rgb()
			copy(m.Pix[y*m.Stride+x*4:], []byte{toByte(r), toByte(g), toByte(b), 255})
		}
	}
	return m
}

func toByte(v float32) byte { return byte(max(0, min(255, v+.5))) }

// checkSize refuses frame sizes that the encoder or this renderer cannot take.
func checkSize(w, h int) error {
	if w < 64 || h < 64 || w > 3840 || h > 3840 || w%2 != 0 || h%2 != 0 {
		return fmt.Errorf("the frame size %d×%d is not possible: width and height must be even numbers from 64 to 3840", w, h)
	}
	return nil
}
