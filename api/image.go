// Uploaded images: bounded by their header, decoded whole, turned as their EXIF
// says, and encoded anew, so that nothing but pixels is kept.

package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"golang.org/x/image/webp"
)

const (
	minSide = 64 // pixels
	quality = 95 // of a JPEG that was a JPEG
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

var configs = map[string]func(io.Reader) (image.Config, error){"png": png.DecodeConfig, "jpeg": jpeg.DecodeConfig, "webp": webp.DecodeConfig}

// cleanImage makes a new file of the picture at path: JPEG stays JPEG, the rest becomes PNG.
func (s *Server) cleanImage(ctx context.Context, dir, path, format string) (cleaned, error) {
	source, err := os.Open(path)
	if err != nil {
		return cleaned{}, fmt.Errorf("cannot read an upload back: %w", err)
	}
	defer func() { _ = source.Close() }() // only read
	// The header first: a few hundred kilobytes can stand for gigabytes of pixels.
	if _, err := s.checkSize(source, format); err != nil {
		return cleaned{}, err
	}
	turn, err := orientation(source, format)
	if err != nil {
		return cleaned{}, err
	}
	if format == "webp" {
		path = filepath.Join(dir, "webp.png")
		if err := s.pngOfWebP(ctx, dir, source.Name(), path); err != nil {
			return cleaned{}, err
		}
		picture, err := os.Open(path)
		if err != nil {
			return cleaned{}, fmt.Errorf("cannot read a converted image back: %w", err)
		}
		defer func() { _ = picture.Close() }() // only read
		source, format = picture, "png"
	}
	return s.encodeAnew(ctx, dir, source, format, turn)
}

// checkSize refuses a picture by what its header says.
func (s *Server) checkSize(f *os.File, format string) (image.Config, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return image.Config{}, fmt.Errorf("cannot read an upload again: %w", err)
	}
	config, err := configs[format](bufio.NewReader(f))
	switch {
	case err != nil:
		return config, refuseFile("the image cannot be read: %s; save it again", sentence(err))
	case config.Width < minSide || config.Height < minSide:
		return config, refuseFile("the image has %d×%d pixels; at least %d×%d are needed", config.Width, config.Height, minSide, minSide)
	case config.Width > s.cfg.Uploads.Pixels/config.Height:
		return config, refuseFile("the image has %d×%d pixels; at most %s are allowed: make it smaller", config.Width, config.Height, megapixels(s.cfg.Uploads.Pixels))
	}
	return config, nil
}

// pngOfWebP converts by ffmpeg: a lossless WebP of some hundred kilobytes may hold so
// many code tables that they take gigabytes, which are then those of a process that may not have them.
func (s *Server) pngOfWebP(ctx context.Context, dir, from, to string) error {
	if err := checkRIFF(from); err != nil {
		return err
	}
	args := append(quietFFmpeg(), "-max_pixels", strconv.Itoa(s.cfg.Uploads.Pixels), "-noautorotate")
	args = append(append(args, safeInput(from, "webp_pipe")...), "-map", "0:v:0", "-frames:v", "1", "-map_metadata", "-1", "-pix_fmt", "rgba", "-c:v", "png", "-f", "image2pipe", "file:"+to)
	_, err := runTool(ctx, s.cfg.FFmpeg, dir, decodeTimeout, args)
	return asDamaged(err)
}

// encodeAnew decodes the picture whole, within the memory that there is for pictures.
func (s *Server) encodeAnew(ctx context.Context, dir string, source *os.File, format string, turn int) (cleaned, error) {
	config, err := s.checkSize(source, format)
	if err != nil {
		return cleaned{}, err
	}
	need, copied, err := memoryOf(source, format, config, turn)
	switch {
	case err != nil:
		return cleaned{}, refuseFile("the image cannot be read: %s; save it again", sentence(err))
	case need > decodeMemory:
		return cleaned{}, refuseFile("decoding the image takes %d MiB, and at most %d are allowed; save it with 8 bits a colour, neither progressive nor interlaced, or make it smaller",
			need>>20, decodeMemory>>20)
	}
	end, err := s.decoding.begin(ctx, need)
	if err != nil {
		return cleaned{}, err
	}
	defer end()
	picture, err := decodeImage(ctx, source, format)
	if err != nil {
		return cleaned{}, err
	}
	if copied {
		runtime.GC() // what the decoder left behind must not stand beside the copy
		picture = turned(picture, turn)
	}
	return writeImage(dir, picture, format)
}

// memoryOf is how many bytes the picture takes, and whether a copy of it is made.
func memoryOf(f *os.File, format string, config image.Config, turn int) (need int64, copied bool, err error) {
	width, height := int64(config.Width), int64(config.Height)
	copied = turn > 1
	var c cost
	if format == "jpeg" {
		info, err := f.Stat()
		if err != nil {
			return 0, false, err
		}
		c, err = costOfJPEG(f, info.Size(), width, height)
		return c.need(copied, width*height), copied, err
	}
	c, deep, err := costOfPNG(f, width*height)
	copied = copied || deep
	return c.need(copied, width*height), copied, err
}

func decodeImage(ctx context.Context, f *os.File, format string) (image.Image, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("cannot read an upload again: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, decodeTimeout)
	defer cancel()
	decode := png.Decode
	if format == "jpeg" {
		decode = jpeg.Decode
	}
	picture, err := decode(bufio.NewReader(&patientFile{from: f, ctx: ctx, jpeg: format == "jpeg"}))
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, refuseFile("decoding the image takes longer than %v; save it as a baseline JPEG or a PNG", decodeTimeout)
	case err != nil:
		return nil, refuseFile("the image is damaged: %s; save it again", sentence(err))
	}
	return picture, nil
}

func writeImage(dir string, picture image.Image, format string) (cleaned, error) {
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

// sentence is a decoder's error without the file's content.
func sentence(err error) string {
	if errors.Is(err, errScans) {
		return errScans.Error()
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return "it ends too early"
	}
	return shortened(err.Error())
}

// turned is a copy in eight bits a colour, with an EXIF orientation (1 to 8) applied.
// It goes row by row, so that no more than one copy is in memory.
func turned(picture image.Image, turn int) *image.NRGBA {
	b := picture.Bounds()
	w, h := b.Dx(), b.Dy()
	out := image.NewNRGBA(image.Rect(0, 0, w, h))
	if turn >= 5 {
		out = image.NewNRGBA(image.Rect(0, 0, h, w))
	}
	row := image.NewNRGBA(image.Rect(0, 0, w, 1))
	for y := range h {
		draw.Draw(row, row.Rect, picture, image.Pt(b.Min.X, b.Min.Y+y), draw.Src)
		for x := range w {
			tx, ty := place(x, y, w, h, turn)
			copy(out.Pix[out.PixOffset(tx, ty):][:4], row.Pix[4*x:][:4])
		}
	}
	return out
}

// place is where a pixel of a w×h picture goes.
func place(x, y, w, h, turn int) (tx, ty int) {
	switch turn {
	case 2:
		return w - 1 - x, y
	case 3:
		return w - 1 - x, h - 1 - y
	case 4:
		return x, h - 1 - y
	case 5:
		return y, x
	case 6:
		return h - 1 - y, x
	case 7:
		return h - 1 - y, w - 1 - x
	case 8:
		return y, w - 1 - x
	}
	return x, y
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
