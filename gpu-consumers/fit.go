// How a picture of one shape fills a frame of another: cut around the face, whole
// between black bars, or whole over a blurred copy of itself.

package gpu

import (
	"context"
	"fmt"
	"image"
	"image/draw"
	"math"

	xdraw "golang.org/x/image/draw"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

// The values of the parameter fit.
const (
	fitCover   = "cover"
	fitContain = "contain"
	fitBlur    = "blur"
)

const (
	blurredTo   = 24   // pixels of the long side that a backdrop is blurred through
	backdropDim = 0.75 // of its brightness, so that the picture stands out
	sameShape   = 0.02 // share by which a shape may differ and still count as the frame's
)

// fit is the parameter fit.
func (a *Attempt) fit() (string, error) {
	switch f := a.text("fit", fitCover); f {
	case fitCover, fitContain, fitBlur:
		return f, nil
	}
	return "", &TaskError{Class: events.ClassInvalidInput, Message: "the way to fit the picture is unknown", Hint: "choose cover, contain or blur"}
}

// aspectOf is the parameter aspect as width over height; missing, it is square.
func (a *Attempt) aspectOf() (float64, error) {
	switch a.text("aspect", "1:1") {
	case "1:1":
		return 1, nil
	case "16:9":
		return 16.0 / 9, nil
	case "9:16":
		return 9.0 / 16, nil
	}
	return 0, &TaskError{Class: events.ClassInvalidInput, Message: "the aspect is unknown", Hint: "choose 16:9, 9:16 or 1:1"}
}

// setting is a photo in a frame: the picture that is shown, and what stands around it.
type setting struct {
	picture *image.RGBA     // as it is shown, origin at 0,0; both sides even
	at      image.Rectangle // in the frame, at even places
	around  *image.RGBA     // of the frame's size; nil where the picture fills it
}

// setIn puts a photo into a frame of w×h pixels, both even.
func (k *kenBurns) setIn(ctx context.Context, photo *image.RGBA, w, h int, fit string) setting {
	at := whole(photo.Rect.Dx(), photo.Rect.Dy(), w, h)
	switch {
	case fit == fitCover:
		at = image.Rect(0, 0, w, h)
		return setting{picture: scaleCrop(photo, k.crop(ctx, photo, w, h), w, h), at: at}
	case at == image.Rect(0, 0, w, h):
		return setting{picture: scaleCrop(photo, photo.Rect, w, h), at: at}
	}
	around := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.Draw(around, around.Rect, image.Black, image.Point{}, draw.Src)
	if fit == fitBlur {
		around = backdrop(photo, w, h)
	}
	return setting{picture: scaleCrop(photo, photo.Rect, at.Dx(), at.Dy()), at: at, around: around}
}

// frame is the whole frame as a picture.
func (s setting) frame() *image.RGBA {
	if s.around == nil {
		return s.picture
	}
	out := image.NewRGBA(s.around.Rect)
	copy(out.Pix, s.around.Pix)
	draw.Draw(out, s.at, s.picture, image.Point{}, draw.Src)
	return out
}

// whole is where the largest picture of pw×ph's shape stands in the middle of a frame
// of w×h: at even places, with even sides. It fills the frame where the shapes are alike.
func whole(pw, ph, w, h int) image.Rectangle {
	shape, want := float64(pw)/float64(ph), float64(w)/float64(h)
	if math.Abs(shape/want-1) < sameShape {
		return image.Rect(0, 0, w, h)
	}
	iw, ih := w, h
	if shape > want {
		ih = max(2, int(math.Round(float64(w)/shape))&^1)
	} else {
		iw = max(2, int(math.Round(float64(h)*shape))&^1)
	}
	x, y := (w-iw)/2&^1, (h-ih)/2&^1
	return image.Rect(x, y, x+iw, y+ih)
}

// backdrop fills a frame with a blurred and darkened copy of the photo.
func backdrop(photo *image.RGBA, w, h int) *image.RGBA {
	scale := float64(blurredTo) / float64(max(w, h))
	small := image.NewRGBA(image.Rect(0, 0, max(2, int(float64(w)*scale)), max(2, int(float64(h)*scale))))
	xdraw.BiLinear.Scale(small, small.Rect, photo, frameCrop(photo.Rect.Dx(), photo.Rect.Dy(), w, h), xdraw.Src, nil)
	for i, v := range small.Pix {
		if i%4 != 3 {
			small.Pix[i] = byte(float64(v) * backdropDim)
		}
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	xdraw.CatmullRom.Scale(out, out.Rect, small, small.Rect, xdraw.Src, nil)
	for i := 3; i < len(out.Pix); i += 4 {
		out.Pix[i] = 255
	}
	return out
}

// fitFilters bring a video of w×h to another shape, and give the size that comes out.
// There are none where the shape is the wanted one. part says which part of the picture
// cover keeps, for a frame of the given size.
func fitFilters(w, h int, aspect float64, fit string, part func(w, h int) image.Rectangle) (filters []string, fw, fh int) {
	if math.Abs(float64(w)/float64(h)/aspect-1) < sameShape {
		return nil, w, h
	}
	even := func(v float64) int { return max(2, int(math.Round(v/2))*2) }
	wide := float64(w)/float64(h) > aspect
	if fit == fitCover {
		fw, fh = w&^1, even(float64(w)/aspect)
		if wide {
			fw, fh = even(float64(h)*aspect), h&^1
		}
		r := part(fw, fh)
		return []string{fmt.Sprintf("crop=%d:%d:%d:%d", min(fw, w), min(fh, h), r.Min.X, r.Min.Y), fmt.Sprintf("scale=%d:%d", fw, fh)}, fw, fh
	}
	fw, fh = even(float64(h)*aspect), h&^1
	if wide {
		fw, fh = w&^1, even(float64(w)/aspect)
	}
	at := whole(w, h, fw, fh)
	if fit == fitContain {
		return []string{fmt.Sprintf("scale=%d:%d", at.Dx(), at.Dy()), fmt.Sprintf("pad=%d:%d:%d:%d:black", fw, fh, at.Min.X, at.Min.Y)}, fw, fh
	}
	small := fmt.Sprintf("scale=%d:%d:force_original_aspect_ratio=increase", even(blurredTo*min(1, aspect)), even(blurredTo*min(1, 1/aspect)))
	return []string{fmt.Sprintf("split[front][back];[back]%s,crop=%d:%d,scale=%d:%d:flags=bicubic,lutyuv=y='16+(val-16)*%g'[around];[front]scale=%d:%d[whole];[around][whole]overlay=%d:%d",
		small, even(blurredTo*min(1, aspect)), even(blurredTo*min(1, 1/aspect)), fw, fh, backdropDim, at.Dx(), at.Dy(), at.Min.X, at.Min.Y)}, fw, fh
}

// onStill has the face of a photo speak that is set in a frame and shown whole; marks are
// in the photo's pixels.
func (l *talkingPhoto) onStill(t *talk, s setting, photo image.Rectangle, marks talkingphoto.Landmarks, f *footage, seed int64) error {
	inner := talkingphoto.FrameOf(s.picture)
	marks = talkingphoto.Framing{Crop: photo, W: inner.W, H: inner.H}.Landmarks(marks)
	around := talkingphoto.FrameOf(s.frame())
	mouth, err := newOverlay(&reference{frame: inner, marks: marks}, t, true, seed)
	if err != nil {
		return err
	}
	shown := talkingphoto.NewFrame(inner.W, inner.H)
	f.draw = func(i int, dst *talkingphoto.Frame) error {
		copy(shown.Pix, inner.Pix)
		if err := mouth.draw(shown, float64(i)/float64(f.fps), pose{turn: 1}); err != nil {
			return err
		}
		copy(dst.Pix, around.Pix)
		dst.Paste(shown, s.at.Min)
		return nil
	}
	return nil
}
