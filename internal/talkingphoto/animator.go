package talkingphoto

// This file joins mouth, eyes and head into frames.

import (
	"errors"
	"fmt"
	"image"
	"math"
)

// AnimatorOptions describe one talking photo.
type AnimatorOptions struct {
	Photo     image.Image
	Landmarks Landmarks // of the photo, in its pixels
	W, H      int       // of the frames; even, 64 to 3840
	// Phones are the sounds in order of time; empty when unknown, then the
	// loudness alone moves the mouth.
	Phones []Phone
	// Sound is the speech; its loudness scales the opening. May be empty when
	// Phones are given.
	Sound PCM
	// Seed chooses when the eyes blink and how the head sways; 0 is a choice like others.
	Seed int64
}

// Animator draws the frames of one talking photo. It is not safe for
// concurrent use; a frame uses all processors by itself.
type Animator struct {
	framing Framing
	marks   Landmarks // in the frame
	photo   *Frame
	face    *Frame // the photo with this frame's mouth and eyes
	lips    *lips
	eyes    []eye
	head    *head
	seed    uint32
	drift   float64 // seconds into the head's drift that the clip begins at
	track   track
	loud    *Loudness
	end     float64

	upper, low []float32 // scratch of lips.pose
	mouth      shape     // what face shows, once drawn
	drawn      bool
	blinked    bool
}

// NewAnimator frames the photo and prepares everything that does not change
// from frame to frame.
func NewAnimator(o AnimatorOptions) (*Animator, error) {
	if o.Photo == nil {
		return nil, errors.New("a talking photo needs a photo")
	}
	if err := checkPhones(o.Phones); err != nil {
		return nil, err
	}
	if err := o.Landmarks.check(o.Photo.Bounds()); err != nil {
		return nil, err
	}
	framing, err := FrameFace(o.Photo.Bounds(), o.Landmarks, o.W, o.H)
	if err != nil {
		return nil, err
	}
	a := &Animator{framing: framing, marks: framing.Landmarks(o.Landmarks)}
	a.photo = fromRGBA(framing.Picture(o.Photo))
	a.face = &Frame{W: o.W, H: o.H, Pix: append([]byte(nil), a.photo.Pix...)}
	a.lips = newLips(a.photo, a.marks)
	a.eyes = newEyes(a.photo, a.marks)
	a.head = newHead(a.photo, a.marks)
	if o.Seed != 0 {
		a.seed = uint32(o.Seed) ^ uint32(o.Seed>>32) //nolint:gosec // every bit counts, its value does not
		a.drift = 300 * hash01(a.seed)
	}
	a.loud = NewLoudness(o.Sound)
	a.track = newTrack(o.Phones, a.loud)
	a.end = o.Sound.Seconds()
	if n := len(o.Phones); n > 0 {
		a.end = math.Max(a.end, o.Phones[n-1].End)
	}
	a.upper, a.low = make([]float32, len(a.lips.centre)), make([]float32, len(a.lips.centre))
	return a, nil
}

// Seconds is the length of the speech.
func (a *Animator) Seconds() float64 { return a.end }

// Blinks says whether the eyes close now and then.
func (a *Animator) Blinks() bool { return len(a.eyes) > 0 }

// Framing tells which part of the photo the frames show.
func (a *Animator) Framing() Framing { return a.framing }

// Still is the framed photo, which FaceSimilarity compares clips with. It is the
// animator's own: do not change it.
func (a *Animator) Still() *Frame { return a.photo }

// Frame draws the picture at t seconds into dst, which must have the
// animator's size. Equal times give equal pictures.
func (a *Animator) Frame(t float64, dst *Frame) error {
	if dst == nil || dst.W != a.photo.W || dst.H != a.photo.H || len(dst.Pix) != len(a.photo.Pix) {
		return fmt.Errorf("cannot draw: the target frame must be %d×%d", a.photo.W, a.photo.H)
	}
	a.drawFace(a.track.at(t), a.blink(t))
	a.head.draw(a.face, dst, a.head.swayAt(t+a.drift, a.stress(t)))
	return nil
}

// blink keeps the eyes open in the first and last moments, so that a thumbnail
// of either shows them open.
func (a *Animator) blink(t float64) float64 {
	if t > a.end-.35 {
		return 0
	}
	return blinkAt(t, a.seed)
}

// drawFace puts a mouth shape and closed eyes on the still photo.
func (a *Animator) drawFace(s shape, blink float64) {
	if !a.drawn || s != a.mouth {
		p := a.lips.pose(s, a.upper, a.low)
		a.lips.draw(a.photo, a.face, &p)
		a.mouth, a.drawn = s, true
	}
	if blink == 0 && !a.blinked {
		return
	}
	for i := range a.eyes {
		a.face.copyFrom(a.photo, a.eyes[i].bounds)
		if blink > 0 {
			a.eyes[i].draw(a.photo, a.face, blink)
		}
	}
	a.blinked = blink > 0
}

// stress is the loudness around t, smoothed over half a second.
func (a *Animator) stress(t float64) float64 {
	var total, weight float64
	for d := -.3; d <= .3; d += .05 {
		w := 1 - math.Abs(d)/.35
		total += w * a.loud.at(t+d)
		weight += w
	}
	return total / weight
}

// copyFrom copies a rectangle, in luma pixels with even corners, from o.
func (f *Frame) copyFrom(o *Frame, r image.Rectangle) {
	src, dst := o.planes(), f.planes()
	for i := range src {
		s := src[i].step
		for y := r.Min.Y / s; y < (r.Max.Y+s-1)/s; y++ {
			a, b := y*src[i].w+r.Min.X/s, y*src[i].w+(r.Max.X+s-1)/s
			copy(dst[i].pix[a:b], src[i].pix[a:b])
		}
	}
}

// MouthRegion is the part of the frame in which lips and jaw move, in pixels.
func (a *Animator) MouthRegion() image.Rectangle {
	l := a.lips
	w, top, bottom := 1.25*l.half, -.75*l.half, 1.0*l.half
	return a.inFrame(boxAround(l.global(-w, top), l.global(w, top), l.global(-w, bottom), l.global(w, bottom)))
}

// FaceRegion is the part of the frame that shows brows, eyes and nose, which
// speech leaves as the photo has them.
func (a *Animator) FaceRegion() image.Rectangle {
	p := &a.marks.Points
	b := boxAround(append(append([]Point{}, p[17:36]...), p[1], p[15])...)
	return a.inFrame(Box{b.X, b.Y - .06*b.H, b.W, b.H * 1.06})
}

func (a *Animator) inFrame(b Box) image.Rectangle {
	return image.Rect(int(b.X), int(b.Y), int(b.X+b.W), int(b.Y+b.H)).Intersect(image.Rect(0, 0, a.photo.W, a.photo.H))
}
