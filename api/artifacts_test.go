// Tests of files: ranges, headers, links, erasure.

package api

import (
	"bytes"
	"io"
	"net/http"
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
		{"another unit", map[string]string{"Range": "lines=0-1"}, 200, 0, n},
		{"the right version", map[string]string{"Range": "bytes=0-9", "If-Range": tag}, 206, 0, 10},
		{"another version", map[string]string{"Range": "bytes=0-9", "If-Range": `"old"`}, 200, 0, n},
	} {
		got := w.do("GET", a.ContentURL, c.header, nil)
		if got.status != c.status || !bytes.Equal(got.body, whole[c.from:c.to]) {
			t.Errorf("%s: %d with %d bytes, want %d with %d", c.name, got.status, len(got.body), c.status, c.to-c.from)
		}
		if got.header.Get("X-Content-Type-Options") != "nosniff" || got.header.Get("Etag") != tag || got.header.Get("Content-Type") != "video/mp4" ||
			!strings.HasPrefix(got.header.Get("Content-Disposition"), "inline") {
			t.Errorf("%s: headers %v", c.name, got.header)
		}
	}
	for _, bad := range []string{"bytes=99999999-", "bytes=9-3", "bytes=x", "bytes=-0", "bytes=-"} {
		if got := w.want(416, w.do("GET", a.ContentURL, map[string]string{"Range": bad}, nil)); !strings.HasPrefix(got.header.Get("Content-Range"), "bytes */") {
			t.Errorf("%s: %v", bad, got.header)
		}
	}
	w.want(304, w.do("GET", a.ContentURL, map[string]string{"If-None-Match": tag}, nil))
	head := w.want(200, w.do("HEAD", a.ContentURL, nil, nil))
	if len(head.body) != 0 || head.header.Get("Content-Length") == "0" {
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
