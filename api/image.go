// Uploaded images: bounded by their header, decoded whole, turned as their EXIF
// says, and encoded anew, so that nothing but pixels is kept.

package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/image/webp"
)

const (
	maxPixels = 16_000_000 // of an uploaded image
	minSide   = 64         // pixels
	quality   = 95         // of a JPEG that was a JPEG
)

// imageFormat names the format by its first bytes, or nothing.
func imageFormat(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("\x89PNG\r\n\x1a\n")):
		return "png"
	case bytes.HasPrefix(head, []byte("\xff\xd8\xff")):
		return "jpeg"
	case bytes.HasPrefix(head, []byte("RIFF")) && len(head) >= 12 && string(head[8:12]) == "WEBP":
		return "webp"
	}
	return ""
}

type decoder struct {
	config func(io.Reader) (image.Config, error)
	decode func(io.Reader) (image.Image, error)
}

var decoders = map[string]decoder{
	"png":  {png.DecodeConfig, png.Decode},
	"jpeg": {jpeg.DecodeConfig, jpeg.Decode},
	"webp": {webp.DecodeConfig, webp.Decode},
}

// cleanImage makes a new file of the picture at path: JPEG stays JPEG, the rest becomes PNG.
func cleanImage(dir, path, format string) (cleaned, error) {
	picture, err := decodeImage(path, format)
	if err != nil {
		return cleaned{}, err
	}
	size := picture.Bounds()
	out := cleaned{path: filepath.Join(dir, "clean"), kind: uploadImage, ext: "png", mediaType: "image/png", width: size.Dx(), height: size.Dy()}
	encode := func(w io.Writer) error { return (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(w, picture) }
	if format == "jpeg" {
		out.ext, out.mediaType = "jpg", "image/jpeg"
		encode = func(w io.Writer) error { return jpeg.Encode(w, picture, &jpeg.Options{Quality: quality}) }
	}
	if err := writeFile(out.path, encode); err != nil {
		return cleaned{}, fmt.Errorf("cannot write a cleaned image: %w", err)
	}
	return out, nil
}

func decodeImage(path, format string) (image.Image, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read an upload back: %w", err)
	}
	defer f.Close()
	d := decoders[format]
	// The header first: a few hundred kilobytes can stand for gigabytes of pixels.
	config, err := d.config(bufio.NewReader(f))
	switch {
	case err != nil:
		return nil, refuseFile("the image cannot be read: %s", sentence(err))
	case config.Width < minSide || config.Height < minSide:
		return nil, refuseFile("the image has %d×%d pixels; at least %d×%d are needed", config.Width, config.Height, minSide, minSide)
	case config.Width > maxPixels/config.Height:
		return nil, refuseFile("the image has %d×%d pixels; at most 16 megapixels are allowed: make it smaller", config.Width, config.Height)
	}
	turn, err := orientation(f, format)
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("cannot read an upload again: %w", err)
	}
	picture, err := d.decode(bufio.NewReader(f))
	if err != nil {
		return nil, refuseFile("the image is damaged: %s", sentence(err))
	}
	return turned(flat(picture), turn), nil
}

// sentence is a decoder's error without the file's content.
func sentence(err error) string {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return "it ends too early"
	}
	return shortened(err.Error())
}

// flat is the picture in eight bits a colour.
func flat(picture image.Image) *image.NRGBA {
	if p, ok := picture.(*image.NRGBA); ok && p.Rect.Min == (image.Point{}) {
		return p
	}
	b := picture.Bounds()
	out := image.NewNRGBA(image.Rect(0, 0, b.Dx(), b.Dy()))
	draw.Draw(out, out.Rect, picture, b.Min, draw.Src)
	return out
}

// turned applies an EXIF orientation (1 to 8).
func turned(p *image.NRGBA, turn int) *image.NRGBA {
	if turn < 2 || turn > 8 {
		return p
	}
	w, h := p.Rect.Dx(), p.Rect.Dy()
	out := image.NewNRGBA(image.Rect(0, 0, w, h))
	if turn >= 5 {
		out = image.NewNRGBA(image.Rect(0, 0, h, w))
	}
	for y := range h {
		for x := range w {
			tx, ty := x, y
			switch turn {
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
			copy(out.Pix[out.PixOffset(tx, ty):][:4], p.Pix[p.PixOffset(x, y):][:4])
		}
	}
	return out
}

func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	return errors.Join(write(w), w.Flush())
}
