package talkingphoto

// This file chooses which part of a photo the clip shows and scales it.

import (
	"fmt"
	"image"
	"math"

	xdraw "golang.org/x/image/draw"
)

// Framing is the part of a photo that fills the frame. Coordinates of the
// photo carry over with Point.
type Framing struct {
	Crop image.Rectangle // in the photo's pixels
	W, H int             // of the frame
}

const (
	faceShare     = 0.40 // of the frame's height, hairline to chin
	faceShareWide = 0.55 // of the frame's width at most, ear to ear
	maxUpscale    = 3.5
	faceLevel     = 0.44 // where the middle of the face stands, from the top
	crownFactor   = 1.30 // hairline to chin over brows to chin, an average
)

// FrameFace chooses a crop with the frame's aspect around a face: head and
// shoulders, the face about 40 % of the height, never enlarged more than 3.5
// times unless the photo is too small to avoid it, never beyond the photo.
func FrameFace(photo image.Rectangle, l Landmarks, w, h int) (Framing, error) {
	if err := checkSize(w, h); err != nil {
		return Framing{}, err
	}
	if photo.Dx() < 16 || photo.Dy() < 16 {
		return Framing{}, fmt.Errorf("the photo is %d×%d pixels: use one that is larger than 16×16", photo.Dx(), photo.Dy())
	}
	p := &l.Points
	brows := centroid(p[17:27]...)
	height := distance(brows, p[8]) * crownFactor
	width := distance(p[0], p[16])
	middle := Point{(brows.X + p[8].X) / 2, p[8].Y + (brows.Y-p[8].Y)*crownFactor/2}

	aspect := float64(w) / float64(h)
	cropH := math.Max(height/faceShare, width/faceShareWide/aspect)
	cropH = math.Max(cropH, float64(h)/maxUpscale)
	cropH = math.Min(cropH, math.Min(float64(photo.Dy()), float64(photo.Dx())/aspect))
	ch := max(8, int(math.Round(cropH)))
	cw := clampInt(int(math.Round(cropH*aspect)), 8, photo.Dx())
	x := clampInt(int(math.Round(middle.X-float64(cw)/2)), photo.Min.X, photo.Max.X-cw)
	y := clampInt(int(math.Round(middle.Y-faceLevel*float64(ch))), photo.Min.Y, photo.Max.Y-ch)
	return Framing{Crop: image.Rect(x, y, x+cw, y+ch), W: w, H: h}, nil
}

// Point maps the photo's coordinates to the frame's; both count from the
// middle of their first pixel.
func (f Framing) Point(p Point) Point {
	return Point{
		(p.X+.5-float64(f.Crop.Min.X))*float64(f.W)/float64(f.Crop.Dx()) - .5,
		(p.Y+.5-float64(f.Crop.Min.Y))*float64(f.H)/float64(f.Crop.Dy()) - .5,
	}
}

// Landmarks maps all points.
func (f Framing) Landmarks(l Landmarks) Landmarks {
	for i, p := range l.Points {
		l.Points[i] = f.Point(p)
	}
	return l
}

// Picture cuts and scales the photo.
func (f Framing) Picture(photo image.Image) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, f.W, f.H))
	xdraw.CatmullRom.Scale(out, out.Rect, toRGBA(photo), f.Crop, xdraw.Src, nil)
	return out
}
