// Pictures that users upload: decoded here, in Go, and only re-encoded pixels
// ever reach another program.

package gpu

import (
	"bufio"
	"bytes"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"os"

	xdraw "golang.org/x/image/draw"
	"golang.org/x/image/webp"

	"github.com/myspinbot/myspinbot/events"
)

const (
	maxPictureBytes = 64 << 20
	minPictureSide  = 64 // pixels; smaller ones show no person
)

// badPicture refuses a picture with the reason.
func badPicture(reason string, err error) error {
	return &TaskError{Class: events.ClassInvalidInput, Message: "a picture was refused: " + reason,
		Hint: "use a JPEG, PNG or WebP photo with sides of at least 64 pixels and at most 16 megapixels", Err: err}
}

// loadPicture decodes a JPEG, PNG or WebP file of at most 16 megapixels, laid on
// white where it is transparent. It does not turn it: intake has turned every
// picture upright and dropped its metadata. The size is read from the header before any pixel is. The result's origin is
// 0,0. What it refuses is invalid_input.
func loadPicture(path string) (*image.RGBA, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open a picture: %w", err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() > maxPictureBytes {
		return nil, badPicture(fmt.Sprintf("its file is larger than %d MiB", maxPictureBytes>>20), err)
	}
	head := make([]byte, 12)
	if _, err := io.ReadFull(f, head); err != nil {
		return nil, badPicture("its file is empty or cut off", nil)
	}
	config, decode := codecFor(head)
	if decode == nil {
		return nil, badPicture("it is no JPEG, PNG or WebP file", nil)
	}
	size, err := readFromStart(f, config)
	if err != nil {
		return nil, badPicture("its header is damaged", err)
	}
	if size.Width < minPictureSide || size.Height < minPictureSide {
		return nil, badPicture(fmt.Sprintf("it has %d×%d pixels", size.Width, size.Height), nil)
	}
	if int64(size.Width)*int64(size.Height) > maxPixels {
		return nil, badPicture(fmt.Sprintf("it has %d×%d pixels, more than %d", size.Width, size.Height, maxPixels), nil)
	}
	img, err := readFromStart(f, decode)
	if err != nil {
		return nil, badPicture("its data is damaged or cut off", err)
	}
	return flatten(img), nil
}

// codecFor picks the decoders by the file's first twelve bytes.
func codecFor(head []byte) (func(io.Reader) (image.Config, error), func(io.Reader) (image.Image, error)) {
	switch {
	case bytes.HasPrefix(head, []byte("\xff\xd8\xff")):
		return jpeg.DecodeConfig, jpeg.Decode
	case bytes.HasPrefix(head, []byte("\x89PNG\r\n\x1a\n")):
		return png.DecodeConfig, png.Decode
	case bytes.HasPrefix(head, []byte("RIFF")) && bytes.Equal(head[8:12], []byte("WEBP")):
		return webp.DecodeConfig, webp.Decode
	}
	return nil, nil
}

// readFromStart rewinds the file and reads it with the given function.
func readFromStart[T any](f *os.File, read func(io.Reader) (T, error)) (T, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		var none T
		return none, err
	}
	return read(bufio.NewReaderSize(f, 64<<10))
}

// flatten copies a picture into an opaque one with its origin at 0,0.
func flatten(img image.Image) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, img.Bounds().Dx(), img.Bounds().Dy()))
	draw.Draw(out, out.Rect, image.White, image.Point{}, draw.Src)
	draw.Draw(out, out.Rect, img, img.Bounds().Min, draw.Over)
	return out
}

// faceHeight is where, as a share of a portrait's height, its face is assumed.
const faceHeight = 0.38

// frameCrop is the largest part of a w×h picture with the aspect of tw×th: in
// the middle across, and around the upper part, where portraits have their face.
func frameCrop(w, h, tw, th int) image.Rectangle {
	cw, ch := w, int(math.Round(float64(w)*float64(th)/float64(tw)))
	if ch > h {
		cw, ch = int(math.Round(float64(h)*float64(tw)/float64(th))), h
	}
	cw, ch = max(1, min(cw, w)), max(1, ch)
	y := int(math.Round(float64(h)*faceHeight)) - ch/2
	y = max(0, min(y, h-ch))
	x := (w - cw) / 2
	return image.Rect(x, y, x+cw, y+ch)
}

// scaleCrop is a part of src at w×h pixels.
func scaleCrop(src *image.RGBA, part image.Rectangle, w, h int) *image.RGBA {
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	xdraw.CatmullRom.Scale(out, out.Rect, src, part, xdraw.Src, nil)
	return out
}

// savePicture writes img to a new file, as JPEG or PNG.
func savePicture(path string, img image.Image, asJPEG bool) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot write a picture: %w", err)
	}
	if asJPEG {
		err = jpeg.Encode(f, img, &jpeg.Options{Quality: 92})
	} else {
		err = (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(f, img)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("cannot write a picture: %w", err)
	}
	return nil
}
