// Which pictures are refused, and where they are cropped.

package gpu

import (
	"encoding/binary"
	"hash/crc32"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// portraitPath is the sample portrait that the project ships.
func portraitPath(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../deploy/demo/portrait.png")
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// pngHeader is a PNG file that announces w×h pixels and then holds size bytes
// of nothing.
func pngHeader(w, h uint32, size int) []byte {
	ihdr := []byte("IHDR")
	ihdr = binary.BigEndian.AppendUint32(ihdr, w)
	ihdr = binary.BigEndian.AppendUint32(ihdr, h)
	ihdr = append(ihdr, 8, 2, 0, 0, 0)
	out := []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d")
	out = append(out, ihdr...)
	out = binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(ihdr))
	return append(out, make([]byte, size)...)
}

func TestLoadPictureRefuses(t *testing.T) {
	t.Parallel()
	portrait, err := os.ReadFile(portraitPath(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		content []byte
		says    string
	}{
		"bomb":      {pngHeader(16000, 16000, 700<<10), "16000×16000"},
		"empty":     {nil, "empty"},
		"playlist":  {[]byte("#EXTM3U\nfile:///etc/passwd\n"), "no JPEG"},
		"truncated": {portrait[:len(portrait)/2], "damaged or cut off"},
		"header":    {portrait[:20], "header"},
		"tiny":      {pngHeader(8, 8, 10), "8×8"},
		"gif":       {[]byte("GIF89a\x01\x00\x01\x00\x80\x00\x00"), "no JPEG"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadPicture(writeFile(t, "picture", c.content))
			te := wantTaskError(t, err, events.ClassInvalidInput)
			if !strings.Contains(te.Message, c.says) {
				t.Errorf("message %q, want %q in it", te.Message, c.says)
			}
		})
	}
}

func TestFrameCrop(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		w, h, tw, th int
		want         image.Rectangle
	}{
		{512, 512, 720, 720, image.Rect(0, 0, 512, 512)},
		{600, 1000, 720, 720, image.Rect(0, 80, 600, 680)},   // upper part of a tall photo
		{1000, 600, 720, 720, image.Rect(200, 0, 800, 600)},  // middle of a wide one
		{512, 512, 1280, 720, image.Rect(0, 51, 512, 339)},   // a strip with the face
		{512, 512, 720, 1280, image.Rect(112, 0, 400, 512)},  // a column
		{4000, 64, 720, 1280, image.Rect(1982, 0, 2018, 64)}, // nothing runs out of the picture
	} {
		if got := frameCrop(c.w, c.h, c.tw, c.th); got != c.want {
			t.Errorf("%d×%d for %d×%d: %v, want %v", c.w, c.h, c.tw, c.th, got, c.want)
		}
	}
}
