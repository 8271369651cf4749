// Files that the tests upload, good and hostile.

package api

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"
)

// quarters is a picture whose four quarters differ, so that a turn shows.
func quarters(w, h int) image.Image {
	p := image.NewRGBA(image.Rect(0, 0, w, h))
	colors := []color.RGBA{{200, 0, 0, 255}, {0, 200, 0, 255}, {0, 0, 200, 255}, {200, 200, 0, 255}}
	for y := range h {
		for x := range w {
			p.Set(x, y, colors[2*y/h*2+2*x/w])
		}
	}
	return p
}

func pngFile(t testing.TB, w, h int) []byte {
	t.Helper()
	var b bytes.Buffer
	ok(t, png.Encode(&b, quarters(w, h)))
	return b.Bytes()
}

// jpegFile has EXIF with an orientation and a note that must not survive.
func jpegFile(t testing.TB, w, h, orientation int) []byte {
	t.Helper()
	var b bytes.Buffer
	ok(t, jpeg.Encode(&b, quarters(w, h), nil))
	tiff := []byte("MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00exif-canary")
	tiff[19] = byte(orientation)
	body := append([]byte("Exif\x00\x00"), tiff...)
	out := []byte{0xff, 0xd8, 0xff, 0xe1}
	out = binary.BigEndian.AppendUint16(out, uint16(len(body)+2))
	return append(append(out, body...), b.Bytes()[2:]...)
}

// bombFile is a valid grey PNG of w×h pixels that are all alike.
func bombFile(t testing.TB, w, h int) []byte {
	t.Helper()
	var pixels bytes.Buffer
	z, err := zlib.NewWriterLevel(&pixels, zlib.BestSpeed)
	ok(t, err)
	line := make([]byte, w+1)
	for range h {
		_, err := z.Write(line)
		ok(t, err)
	}
	ok(t, z.Close())
	head := binary.BigEndian.AppendUint32(nil, uint32(w))
	head = append(binary.BigEndian.AppendUint32(head, uint32(h)), 8, 0, 0, 0, 0)
	out := []byte("\x89PNG\r\n\x1a\n")
	for _, c := range []struct {
		name string
		body []byte
	}{{"IHDR", head}, {"IDAT", pixels.Bytes()}, {"IEND", nil}} {
		out = binary.BigEndian.AppendUint32(out, uint32(len(c.body)))
		named := append([]byte(c.name), c.body...)
		out = binary.BigEndian.AppendUint32(append(out, named...), crc32.ChecksumIEEE(named))
	}
	return out
}

// wavFile is a tone of some seconds at 16 kHz.
func wavFile(seconds float64) []byte {
	n := int(seconds * 16_000)
	data := make([]byte, 0, 2*n)
	for i := range n {
		data = binary.LittleEndian.AppendUint16(data, uint16(int16(8000*math.Sin(float64(i)/16_000*2*math.Pi*440))))
	}
	out := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(36+len(data)))
	out = binary.LittleEndian.AppendUint32(append(out, "WAVEfmt "...), 16)
	out = append(out, 1, 0, 1, 0)
	out = binary.LittleEndian.AppendUint32(out, 16_000)
	out = binary.LittleEndian.AppendUint32(out, 32_000)
	out = append(out, 2, 0, 16, 0)
	out = binary.LittleEndian.AppendUint32(append(out, "data"...), uint32(len(data)))
	return append(out, data...)
}

// encoded is a file that ffmpeg makes.
func encoded(t testing.TB, name string, args ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	out, err := exec.Command("ffmpeg", append(append([]string{"-nostdin", "-v", "error", "-y"}, args...), path)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

// form is a multipart body with the file in a field.
func form(t testing.TB, field string, file []byte) (contentType string, body io.Reader) {
	t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	part, err := m.CreateFormFile(field, "portrait.png")
	ok(t, err)
	_, err = part.Write(file)
	ok(t, err)
	ok(t, m.Close())
	return m.FormDataContentType(), &b
}

func (w *world) upload(file []byte) answer {
	w.t.Helper()
	media, body := form(w.t, "file", file)
	return w.do(http.MethodPost, "/api/uploads", map[string]string{"Content-Type": media}, body)
}

func (w *world) uploaded(file []byte) string {
	w.t.Helper()
	var u uploadView
	w.want(http.StatusCreated, w.upload(file)).decode(w.t, &u)
	return u.ID
}
