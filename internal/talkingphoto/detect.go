package talkingphoto

// This file finds faces: the tiny YOLO-like detector, its decoding, and the
// second look at parts of a picture in which faces are small.

import (
	"context"
	"errors"
	"image"
	"image/draw"
	"math"
	"slices"

	xdraw "golang.org/x/image/draw"
)

// ErrNoFace says that no face was found; its text is fit for the user.
var ErrNoFace = errors.New("no face was found in the picture: use a photo that shows one face from the front")

// Face is a detection; Score is the network's confidence, 0 to 1.
type Face struct {
	Box
	Score float64
}

const (
	detectorSize  = 416
	detectorLarge = 608
	minScore      = 0.5
	sureScore     = 0.8  // of a face that needs no second look
	hintScore     = 0.35 // worth a second look
	minNearScore  = 0.6  // at the second look, where a face is large
	nmsOverlap    = 0.4
	cellsPerSize  = 32
)

// detectorMean is subtracted from RGB before division by 255.
var detectorMean = [3]float32{117.001, 114.697, 97.404}

// anchors are the box sizes of the detector in cells (face-api.js,
// tinyFaceDetector/const.ts).
var anchors = [5][2]float64{{1.603231, 2.094468}, {6.041143, 7.080126}, {2.882459, 3.518061}, {4.266906, 5.178857}, {9.041765, 10.66308}}

// Detect returns the faces of img, the largest first, in img's coordinates.
// A picture without a face is ErrNoFace. When nothing is found at the usual
// size, the picture is looked at again larger and then in overlapping tiles,
// so that faces from about a twentieth of the picture's width are found too.
// The context ends the search early.
func (m *FaceModel) Detect(ctx context.Context, img image.Image) ([]Face, error) {
	if img.Bounds().Dx() < 16 || img.Bounds().Dy() < 16 {
		return nil, ErrNoFace
	}
	src := toRGBA(img)
	faces := m.confirm(src, m.detectIn(src, src.Rect, detectorSize, minScore))
	if len(faces) == 0 {
		faces = m.confirm(src, m.detectIn(src, src.Rect, detectorLarge, hintScore))
	}
	for n := 2; len(faces) == 0 && n <= 4 && n*detectorSize <= max(src.Rect.Dx(), src.Rect.Dy()); n++ {
		for _, tile := range tiles(src.Rect, n) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			faces = append(faces, m.detectIn(src, tile, detectorSize, hintScore)...)
		}
		faces = m.confirm(src, suppress(faces))
	}
	if len(faces) == 0 {
		return nil, ErrNoFace
	}
	slices.SortStableFunc(faces, func(a, b Face) int { return sign(b.W*b.H - a.W*a.H) })
	return faces, nil
}

// confirm looks again, enlarged, at faces that the network is not sure of: a
// badge that is no face from near goes, and the loose box of a small face
// becomes exact.
func (m *FaceModel) confirm(src *image.RGBA, found []Face) []Face {
	var out []Face
	for _, f := range found {
		if f.Score >= sureScore {
			out = append(out, f)
			continue
		}
		c, side := f.Center(), math.Max(f.W, f.H)
		for _, half := range [2]float64{side, 2 * side} {
			near := image.Rect(int(c.X-half), int(c.Y-half), int(c.X+half), int(c.Y+half)).Intersect(src.Rect)
			if near.Dx() >= 16 && near.Dy() >= 16 {
				out = append(out, m.detectIn(src, near, detectorSize, minNearScore)...)
			}
		}
	}
	return suppress(out)
}

// tiles cuts r into n×n tiles that overlap by half a tile's side.
func tiles(r image.Rectangle, n int) []image.Rectangle {
	w, h := 2*r.Dx()/(n+1), 2*r.Dy()/(n+1)
	var out []image.Rectangle
	for j := range n {
		for i := range n {
			x, y := r.Min.X+i*(r.Dx()-w)/(n-1), r.Min.Y+j*(r.Dy()-h)/(n-1)
			out = append(out, image.Rect(x, y, x+w, y+h))
		}
	}
	return out
}

// detectIn runs the detector on one part of src, scaled so that its longer
// side is size pixels.
func (m *FaceModel) detectIn(src *image.RGBA, part image.Rectangle, size int, threshold float64) []Face {
	x, fit := networkInput(src, part, size, false, detectorMean)
	o := leaky(conv(x, m.detector["conv0/filters"], m.detector["conv0/bias"].data, 1), 0.1)
	for _, name := range []string{"conv1", "conv2", "conv3", "conv4", "conv5"} {
		o = leaky(separable(maxPool(o, 2), m.detector, name, 1), 0.1)
	}
	o = conv(maxPool(o, 1), m.detector["conv8/filters"], m.detector["conv8/bias"].data, 1)
	var faces []Face
	for y := range o.h {
		for xx := range o.w {
			for a, anchor := range anchors {
				v := o.data[(y*o.w+xx)*o.c+a*5:]
				score := sigmoid(v[4])
				if score < threshold {
					continue
				}
				c := fit.invert(Point{(float64(xx) + sigmoid(v[0])) * cellsPerSize, (float64(y) + sigmoid(v[1])) * cellsPerSize})
				w := math.Exp(float64(v[2])) * anchor[0] * cellsPerSize / fit.scale
				h := math.Exp(float64(v[3])) * anchor[1] * cellsPerSize / fit.scale
				faces = append(faces, Face{Box{c.X - w/2, c.Y - h/2, w, h}, score})
			}
		}
	}
	return suppress(faces)
}

// suppress keeps the most confident of faces that overlap.
func suppress(faces []Face) []Face {
	slices.SortStableFunc(faces, func(a, b Face) int { return sign(b.Score - a.Score) })
	var kept []Face
	for _, f := range faces {
		if !slices.ContainsFunc(kept, func(k Face) bool { return k.overlap(f.Box) > nmsOverlap }) {
			kept = append(kept, f)
		}
	}
	return kept
}

func sign(x float64) int {
	switch {
	case x < 0:
		return -1
	case x > 0:
		return 1
	}
	return 0
}

func sigmoid(v float32) float64 { return 1 / (1 + math.Exp(-float64(v))) }

// fitting maps source pixels to network pixels: n = (p - origin)·scale + pad.
type fitting struct {
	origin, pad Point
	scale       float64
}

func (f fitting) invert(p Point) Point {
	return Point{(p.X-f.pad.X)/f.scale + f.origin.X, (p.Y-f.pad.Y)/f.scale + f.origin.Y}
}

// networkInput scales one part of src so that its longer side is size pixels,
// pads it with black to a square (centred, or to the right and below), and
// subtracts the mean. What lies outside src is black too.
func networkInput(src *image.RGBA, part image.Rectangle, size int, centred bool, mean [3]float32) (tensor, fitting) {
	scale := float64(size) / float64(max(part.Dx(), part.Dy()))
	w := clampInt(int(math.Round(float64(part.Dx())*scale)), 1, size)
	h := clampInt(int(math.Round(float64(part.Dy())*scale)), 1, size)
	fit := fitting{origin: Point{float64(part.Min.X), float64(part.Min.Y)}, scale: scale}
	var at image.Point
	if centred {
		at = image.Pt((size-w)/2, (size-h)/2)
		fit.pad = Point{float64(at.X), float64(at.Y)}
	}
	canvas := image.NewRGBA(image.Rect(0, 0, size, size))
	scaleInto(canvas, image.Rectangle{at, at.Add(image.Pt(w, h))}, src, part)
	t := newTensor(size, size, 3)
	for i := range size * size {
		p := canvas.Pix[i*4 : i*4+3 : i*4+3]
		for c := range 3 {
			t.data[i*3+c] = (float32(p[c]) - mean[c]) / 255
		}
	}
	return t, fit
}

// scaleInto draws part of src into the rectangle to of dst. Parts outside src
// stay black. The kernel averages when it shrinks.
func scaleInto(dst *image.RGBA, to image.Rectangle, src *image.RGBA, part image.Rectangle) {
	in := part.Intersect(src.Rect)
	if in.Empty() {
		return
	}
	fx, fy := float64(to.Dx())/float64(part.Dx()), float64(to.Dy())/float64(part.Dy())
	to = image.Rect(
		to.Min.X+int(math.Round(float64(in.Min.X-part.Min.X)*fx)), to.Min.Y+int(math.Round(float64(in.Min.Y-part.Min.Y)*fy)),
		to.Min.X+int(math.Round(float64(in.Max.X-part.Min.X)*fx)), to.Min.Y+int(math.Round(float64(in.Max.Y-part.Min.Y)*fy)))
	xdraw.BiLinear.Scale(dst, to, src, in, xdraw.Src, nil)
}

// toRGBA copies img into an opaque RGBA picture with its origin at its own
// Min; transparent pixels are laid on white, as photo editors show them.
func toRGBA(img image.Image) *image.RGBA {
	if m, ok := img.(*image.RGBA); ok && m.Opaque() {
		return m
	}
	out := image.NewRGBA(img.Bounds())
	draw.Draw(out, out.Rect, image.White, image.Point{}, draw.Src)
	draw.Draw(out, out.Rect, img, img.Bounds().Min, draw.Over)
	return out
}

func clampInt(x, lo, hi int) int { return max(lo, min(hi, x)) }
