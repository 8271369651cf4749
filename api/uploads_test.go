// Tests of uploads: what is stored, and that nothing is stored of what is refused.

package api

import (
	"bytes"
	"image"
	"image/color"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// content is the stored bytes of an upload.
func (w *world) content(id string) []byte {
	w.t.Helper()
	u, err := w.server.findUpload(w.t.Context(), tenant, id)
	ok(w.t, err)
	r, err := w.objects.Open(w.t.Context(), u.URI)
	ok(w.t, err)
	defer r.Close()
	b, err := io.ReadAll(r)
	ok(w.t, err)
	return b
}

func TestImagesAreTurnedUprightAndLoseTheirMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	// Where the red quarter (top left as stored) belongs, by orientation (EXIF 2.3, 4.6.4).
	red := map[int]image.Point{1: {0, 0}, 2: {1, 0}, 3: {1, 1}, 4: {0, 1}, 5: {0, 0}, 6: {1, 0}, 7: {1, 1}, 8: {0, 1}}
	for turn := 1; turn <= 8; turn++ {
		var u uploadView
		w.want(http.StatusCreated, w.upload(jpegFile(t, 96, 64, turn))).decode(t, &u)
		wantW, wantH := 96, 64
		if turn >= 5 {
			wantW, wantH = 64, 96
		}
		stored := w.content(u.ID)
		p, format, err := image.Decode(bytes.NewReader(stored))
		ok(t, err)
		b := p.Bounds()
		if b.Dx() != wantW || b.Dy() != wantH || *u.Width != wantW || *u.Height != wantH || format != "jpeg" || u.MediaType != "image/jpeg" || u.Type != "image" {
			t.Errorf("orientation %d: %d×%d %s, answer %+v", turn, b.Dx(), b.Dy(), format, u)
		}
		for _, corner := range []image.Point{{0, 0}, {1, 0}, {0, 1}, {1, 1}} {
			r, g, _, _ := p.At(b.Dx()/4+corner.X*b.Dx()/2, b.Dy()/4+corner.Y*b.Dy()/2).RGBA()
			if isRed := r>>8 > 150 && g>>8 < 80; isRed != (corner == red[turn]) {
				t.Errorf("orientation %d: corner %v is red: %v", turn, corner, isRed)
			}
		}
		if bytes.Contains(stored, []byte("canary")) {
			t.Errorf("orientation %d: metadata survived", turn)
		}
	}
}

func TestPicturesOfOtherFormatsBecomePNG(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	webp, err := os.ReadFile(encoded(t, "p.webp", "-f", "lavfi", "-i", "color=red:s=80x72:d=0.04", "-frames:v", "1", "-lossless", "1"))
	ok(t, err)
	for name, file := range map[string][]byte{"png": pngFile(t, 80, 72), "webp": webp} {
		var u uploadView
		w.want(http.StatusCreated, w.upload(file)).decode(t, &u)
		p, format, err := image.Decode(bytes.NewReader(w.content(u.ID)))
		if err != nil || format != "png" || p.Bounds().Dx() != 80 || u.DurationMS != nil || u.Size != int64(len(w.content(u.ID))) {
			t.Errorf("%s: %s %v, %+v, %v", name, format, p.Bounds(), u, err)
		}
	}
}

func TestSoundBecomesFLACWithoutMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	tone := []string{"-f", "lavfi", "-i", "sine=frequency=440:duration=1.5", "-metadata", "title=meta-canary"}
	for _, name := range []string{"a.wav", "a.flac", "a.mp3", "a.ogg", "a.m4a"} {
		file, err := os.ReadFile(encoded(t, name, tone...))
		ok(t, err)
		var u uploadView
		w.want(http.StatusCreated, w.upload(file)).decode(t, &u)
		stored := w.content(u.ID)
		if u.Type != "audio" || u.MediaType != "audio/flac" || *u.DurationMS < 1450 || *u.DurationMS > 1650 || u.Width != nil ||
			!bytes.HasPrefix(stored, []byte("fLaC")) || bytes.Contains(stored, []byte("canary")) {
			t.Errorf("%s: %+v", name, u)
		}
	}
}

// hostile is an upload that must be refused.
type hostile struct {
	name   string
	file   []byte
	status int
	says   string
}

func hostileFiles(t *testing.T) []hostile {
	video, err := os.ReadFile(encoded(t, "v.mp4", "-f", "lavfi", "-i", "testsrc=s=64x64:d=1", "-f", "lavfi", "-i", "sine=duration=1", "-shortest"))
	ok(t, err)
	long, err := os.ReadFile(encoded(t, "long.mp3", "-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono", "-t", "615", "-b:a", "8k"))
	ok(t, err)
	lying := wavFile(1)
	copy(lying[40:], "\xff\xff\xff\x7f") // claims 2 GiB of sound
	whole := pngFile(t, 200, 200)
	return []hostile{
		{"an empty file", nil, 422, "empty"},
		{"a text", []byte("this is no picture, whatever its name says"), 415, "allowed are images (JPEG, PNG, WebP"},
		{"a playlist named .mp4", []byte("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"), 415, "audio (WAV"},
		{"a concat script", []byte("ffconcat version 1.0\nfile '/etc/passwd'\n"), 415, "neither"},
		{"an SVG", []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`), 415, "neither"},
		{"a GIF", []byte("GIF89a\x01\x00\x01\x00"), 415, "JPEG, PNG, WebP"},
		{"256 megapixels in a small file", bombFile(t, 16_000, 16_000), 422, "at most 16 megapixels"},
		{"a picture one pixel too large", bombFile(t, 16_000, 1_001), 422, "16000×1001"},
		{"a tiny picture", pngFile(t, 8, 8), 422, "at least 64×64"},
		{"half a PNG", whole[:len(whole)/2], 422, "damaged"},
		{"a PNG of a head alone", whole[:20], 422, "cannot be read"},
		{"half a JPEG", jpegFile(t, 96, 64, 1)[:200], 422, "image"},
		{"a WebP of nonsense", []byte("RIFF\x20\x00\x00\x00WEBPVP8 nonsensenonsense"), 422, "image"},
		{"a playlist behind the magic of MP3", append([]byte("ID3"), "#EXTM3U\nfile:///etc/passwd\n"...), 422, "also a playlist"},
		{"a concat script behind ftyp", []byte("\x00\x00\x00\x08ftypffconcat version 1.0\nfile '/etc/passwd'\n"), 422, "also a playlist"},
		{"a video", video, 422, "is a video"},
		{"more than ten minutes", long, 422, "longer than 10 minutes"},
		{"a blink of sound", wavFile(0.05), 422, "shorter"},
	}
}

func TestHostileFilesAreRefusedAndLeaveNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	for _, h := range hostileFiles(t) {
		a := w.upload(h.file)
		var p problem
		a.decode(t, &p)
		if a.status != h.status || !strings.Contains(p.Detail, h.says) || strings.Contains(string(a.body), "root:") {
			t.Errorf("%s: %d %s; want %d with %q", h.name, a.status, a.body, h.status, h.says)
		}
	}
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects are left in the store", n)
	}
	left, err := os.ReadDir(w.server.cfg.TempDir)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the temporary folder: %v, %v", left, err)
	}
}

func TestOddFormsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, config: func(c *Config) { c.Uploads.Bytes = 1 << 20 }})
	media, body := form(t, "picture", pngFile(t, 64, 64))
	w.want(422, w.do("POST", "/api/uploads", map[string]string{"Content-Type": media}, body))
	w.want(415, w.do("POST", "/api/uploads", map[string]string{"Content-Type": "image/png"}, bytes.NewReader(pngFile(t, 64, 64))))
	w.want(400, w.do("POST", "/api/uploads", map[string]string{"Content-Type": `multipart/form-data; boundary="x"`}, strings.NewReader("nothing of a form")))
	w.want(400, w.do("POST", "/api/uploads", map[string]string{"Content-Type": `multipart/form-data; boundary="x"`}, strings.NewReader(partHead+string(pngFile(t, 64, 64))+"\r\n")))
	w.want(400, w.do("POST", "/api/uploads", map[string]string{"Content-Type": `multipart/form-data; boundary="x"`}, strings.NewReader("--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\nit breaks o")))
	w.want(422, w.do("POST", "/api/uploads", map[string]string{"Content-Type": `multipart/form-data; boundary="x"`}, strings.NewReader("--x--\r\n")))
	// Two files in one form.
	two := "--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nabc\r\n--x\r\nContent-Disposition: form-data; name=\"file\"; filename=\"b\"\r\n\r\nabc\r\n--x--\r\n"
	w.want(422, w.do("POST", "/api/uploads", map[string]string{"Content-Type": `multipart/form-data; boundary="x"`}, strings.NewReader(two)))
	// Over the limit, with the length announced and without.
	media, body = form(t, "file", make([]byte, 1<<20+1))
	w.want(413, w.do("POST", "/api/uploads", map[string]string{"Content-Type": media}, body))
	media, body = form(t, "file", make([]byte, 1<<20+1))
	w.want(413, w.do("POST", "/api/uploads", map[string]string{"Content-Type": media}, io.MultiReader(body)))
	if n := w.stored(); n != 0 {
		t.Errorf("%d objects are left in the store", n)
	}
}

func TestUploadsOfOthersDoNotExist(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	id := w.portrait()
	if _, err := w.server.findUpload(t.Context(), "somebody-else", id); err == nil {
		t.Error("another tenant found the upload")
	}
	if _, err := w.server.findUpload(t.Context(), tenant, uuid.NewString()); err == nil {
		t.Error("an upload was found that does not exist")
	}
	if _, err := w.server.findUpload(t.Context(), tenant, id); err != nil {
		t.Error("the tenant does not find its own upload:", err)
	}
}

func TestATransparentPictureKeepsItsColours(t *testing.T) {
	t.Parallel()
	p := image.NewNRGBA64(image.Rect(5, 5, 8, 8))
	p.Set(5, 5, color.NRGBA{10, 20, 30, 255})
	if got := turned(p, 1).NRGBAAt(0, 0); got != (color.NRGBA{10, 20, 30, 255}) {
		t.Errorf("pixel %v", got)
	}
}
