// Tests of files: ranges, headers, links, erasure.

package api

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/projections"
)

// videoOf is the finished video of a new job.
func (w *world) videoOf() artifactView {
	w.t.Helper()
	job := w.newJob()
	var got jobView
	eventually(w.t, "the job succeeds", func() bool {
		w.get("/api/jobs/"+job).decode(w.t, &got)
		return got.Status == "succeeded"
	})
	for _, a := range got.Artifacts {
		if a.ID == got.Outputs["video"][0] {
			return a
		}
	}
	w.t.Fatal("the job lists no video")
	return artifactView{}
}

func TestContentIsServedWholeAndInRanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	a := w.videoOf()
	var record artifactView
	w.want(200, w.get("/api/artifacts/"+a.ID)).decode(t, &record)
	if record != a && (record.ID != a.ID || record.SHA256 != a.SHA256) {
		t.Errorf("record %+v, want %+v", record, a)
	}
	r, err := w.objects.Open(t.Context(), a.URI)
	ok(t, err)
	defer r.Close()
	whole, err := io.ReadAll(r)
	ok(t, err)
	n := len(whole)
	tag := `"` + a.SHA256 + `"`
	for _, c := range []struct {
		name   string
		header map[string]string
		status int
		from   int
		to     int
	}{
		{"whole", nil, 200, 0, n},
		{"first bytes", map[string]string{"Range": "bytes=0-9"}, 206, 0, 10},
		{"from the middle", map[string]string{"Range": "bytes=5000-"}, 206, 5000, n},
		{"last bytes", map[string]string{"Range": "bytes=-7"}, 206, n - 7, n},
		{"more than there is", map[string]string{"Range": "bytes=10-99999999"}, 206, 10, n},
		{"a tail longer than the file", map[string]string{"Range": "bytes=-99999999"}, 206, 0, n},
		{"several ranges", map[string]string{"Range": "bytes=0-1,4-5"}, 200, 0, n},
		{"a last byte beyond every number", map[string]string{"Range": "bytes=10-99999999999999999999"}, 206, 10, n},
		{"the largest number", map[string]string{"Range": "bytes=10-9223372036854775807"}, 206, 10, n},
		{"a unit in large letters", map[string]string{"Range": "BYTES=0-9"}, 206, 0, 10},
		{"a weak version", map[string]string{"Range": "bytes=0-9", "If-Range": "W/" + tag}, 200, 0, n},
		{"a date in place of a version", map[string]string{"Range": "bytes=0-9", "If-Range": "Mon, 23 Nov 2026 12:00:00 GMT"}, 200, 0, n},
		{"another unit", map[string]string{"Range": "lines=0-1"}, 200, 0, n},
		{"the right version", map[string]string{"Range": "bytes=0-9", "If-Range": tag}, 206, 0, 10},
		{"another version", map[string]string{"Range": "bytes=0-9", "If-Range": `"old"`}, 200, 0, n},
	} {
		got := w.do("GET", a.ContentURL, c.header, nil)
		if got.status != c.status || !bytes.Equal(got.body, whole[c.from:c.to]) {
			t.Errorf("%s: %d with %d bytes, want %d with %d", c.name, got.status, len(got.body), c.status, c.to-c.from)
		}
		if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Etag") != tag || got.header.Get("Content-Type") != "video/mp4" ||
			!strings.HasPrefix(got.header.Get("Content-Disposition"), "inline") || got.header.Get("Content-Security-Policy") != "default-src 'none'; sandbox" ||
			got.header.Get("Accept-Ranges") != "bytes" || got.header.Get("Content-Length") != strconv.Itoa(c.to-c.from) {
			t.Errorf("%s: headers %v", c.name, got.header)
		}
	}
	for _, bad := range []string{"bytes=99999999-", "bytes=9-3", "bytes=x", "bytes=-0", "bytes=-", "bytes=+5-", "bytes=", "bytes=1--2", "bytes=99999999999999999999-"} {
		if got := w.want(416, w.do("GET", a.ContentURL, map[string]string{"Range": bad}, nil)); !strings.HasPrefix(got.header.Get("Content-Range"), "bytes */") {
			t.Errorf("%s: %v", bad, got.header)
		}
	}
	for _, known := range []string{tag, "W/" + tag, `"old", ` + tag, "*"} {
		if got := w.want(304, w.do("GET", a.ContentURL, map[string]string{"If-None-Match": known}, nil)); got.header.Get("Etag") != tag {
			t.Errorf("304 for %s: %v", known, got.header)
		}
	}
	w.want(200, w.do("GET", a.ContentURL, map[string]string{"If-None-Match": `"old"`}, nil))
	head := w.want(200, w.do("HEAD", a.ContentURL, map[string]string{"Range": "bytes=0-9"}, nil))
	if len(head.body) != 0 || head.header.Get("Content-Length") != strconv.Itoa(n) || head.header.Get("Etag") != tag {
		t.Errorf("HEAD: %d bytes, %v", len(head.body), head.header)
	}
	if d := w.want(200, w.get(a.ContentURL+"?download=1")).header.Get("Content-Disposition"); !strings.HasPrefix(d, "attachment") {
		t.Errorf("download: %q", d)
	}
	link := w.want(307, w.get(a.ContentURL+"?via=link")).header.Get("Location")
	res, err := http.Get(link)
	ok(t, err)
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(b, whole) {
		t.Errorf("the link gives %d bytes, %v", len(b), err)
	}
	w.want(400, w.get(a.ContentURL+"?via=mail"))
	w.want(404, w.get("/api/artifacts/6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d/content"))

	ok(t, w.objects.Delete(t.Context(), a.URI))
	w.want(410, w.get(a.ContentURL))
}

func TestOnlyMediaIsShownInTheBrowser(t *testing.T) {
	t.Parallel()
	for media, want := range map[string]string{
		"video/mp4": "inline", "audio/flac": "inline", "image/png": "inline", "text/vtt": "inline",
		"image/svg+xml": "attachment", "text/html": "attachment", "application/zip": "attachment", "": "attachment",
	} {
		if got := disposition(&projections.Artifact{MediaType: media}); got != want {
			t.Errorf("%q is %s, want %s", media, got, want)
		}
	}
}

func TestNamesOfDownloadsAreSafe(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"video.mp4": "video.mp4", "Grüße 世界.mp4": "Grüße 世界.mp4", "../../etc/passwd": "_.._etc_passwd", `C:\evil.exe`: "C__evil.exe",
		"a\r\nSet-Cookie: x=1": "aSet-Cookie_ x=1", "photo\u202egpj.exe": "photogpj.exe", ".bashrc": "bashrc", "...": "file", "": "file",
		`say "hi".mp4`: "say _hi_.mp4", strings.Repeat("x", 300) + ".mp4": strings.Repeat("x", 116) + ".mp4",
	} {
		if got := safeName(name); got != want {
			t.Errorf("%q becomes %q, want %q", name, got, want)
		}
	}
}
