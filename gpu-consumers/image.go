// Pictures that users upload: decoded here, in Go, and only re-encoded pixels
// ever reach another program.

package gpu

import (
	"bufio"
	"bytes"
	"encoding/binary"
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
	exifReach       = 256 << 10
)

// badPicture refuses a picture with the reason.
func badPicture(reason string, err error) error {
	return &TaskError{Class: events.ClassInvalidInput, Message: "a picture was refused: " + reason,
		Hint: "use a JPEG, PNG or WebP photo with sides of at least 64 pixels and at most 16 megapixels", Err: err}
}

// loadPicture decodes a JPEG, PNG or WebP file of at most 16 megapixels, turned
// upright by its EXIF orientation and laid on white where it is transparent.
// The size is read from the header before any pixel is. The result's origin is
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
	orientation, err := readFromStart(f, exifOrientation)
	if err != nil {
		return nil, fmt.Errorf("cannot read a picture: %w", err)
	}
	return upright(flatten(img), orientation), nil
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

// exifOrientation finds the orientation, 1 to 8, in a JPEG's EXIF block (Exif
// 2.32, 4.6.4 A); 1 stands for upright and for everything unclear.
func exifOrientation(r io.Reader) (int, error) {
	data, err := io.ReadAll(io.LimitReader(r, exifReach))
	if err != nil {
		return 1, err
	}
	for at := 2; at+4 <= len(data) && data[at] == 0xff; {
		marker, size := data[at+1], int(binary.BigEndian.Uint16(data[at+2:]))
		if marker == 0xda || size < 2 || at+2+size > len(data) {
			break
		}
		if body := data[at+4 : at+2+size]; marker == 0xe1 && bytes.HasPrefix(body, []byte("Exif\x00\x00")) {
			return tiffOrientation(body[6:]), nil
		}
		at += 2 + size
	}
	return 1, nil
}

// tiffOrientation reads tag 274 of a TIFF block's first directory.
func tiffOrientation(tiff []byte) int {
	if len(tiff) < 8 {
		return 1
	}
	var order binary.ByteOrder = binary.BigEndian
	if bytes.HasPrefix(tiff, []byte("II")) {
		order = binary.LittleEndian
	}
	at := int64(order.Uint32(tiff[4:]))
	if at+2 > int64(len(tiff)) {
		return 1
	}
	entries := int(order.Uint16(tiff[at:]))
	for i := range entries {
		e := at + 2 + int64(i)*12
		if e+12 > int64(len(tiff)) {
			break
		}
		if order.Uint16(tiff[e:]) == 274 {
			if v := int(order.Uint16(tiff[e+8:])); v >= 1 && v <= 8 {
				return v
			}
		}
	}
	return 1
}

// upright turns and mirrors a picture by its EXIF orientation.
func upright(src *image.RGBA, orientation int) *image.RGBA {
	if orientation <= 1 || orientation > 8 {
		return src
	}
	w, h := src.Rect.Dx(), src.Rect.Dy()
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	if orientation >= 5 { // the sides change places
		out = image.NewRGBA(image.Rect(0, 0, h, w))
	}
	for y := range h {
		for x := range w {
			tx, ty := x, y
			switch orientation {
			case 2:
				tx = w - 1 - x
			case 3:
				tx, ty = w-1-x, h-1-y
			case 4:
				ty = h - 1 - y
			case 5:
				tx, ty = y, x
			case 6:
				tx, ty = h-1-y, x
			case 7:
				tx, ty = h-1-y, w-1-x
			case 8:
				tx, ty = y, w-1-x
			}
			copy(out.Pix[out.PixOffset(tx, ty):][:4], src.Pix[src.PixOffset(x, y):][:4])
		}
	}
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
