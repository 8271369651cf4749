// Manifests of results, and copies that share nothing.

package objects

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

func TestManifestsAreWrittenOnceUnlessReplaced(t *testing.T) {
	t.Parallel()
	s := open(t)
	if _, err := s.Manifest(t.Context(), "t1", "h1"); !errors.Is(err, ErrMissing) {
		t.Errorf("an absent manifest: %v", err)
	}
	for _, step := range []struct {
		value   string
		replace bool
		written bool
		want    string
	}{{"one", false, true, "one"}, {"two", false, false, "one"}, {"three", true, true, "three"}} {
		written, err := s.PutManifest(t.Context(), "t1", "h1", []byte(step.value), step.replace)
		if err != nil || written != step.written {
			t.Errorf("writing %q: %v, %v", step.value, written, err)
		}
		if got, err := s.Manifest(t.Context(), "t1", "h1"); err != nil || string(got) != step.want {
			t.Errorf("after %q it is %q, %v", step.value, got, err)
		}
	}
	if _, err := s.Manifest(t.Context(), "t2", "h1"); !errors.Is(err, ErrMissing) {
		t.Errorf("another tenant's manifest: %v", err)
	}
	for _, bad := range [][2]string{{"keys", "h1"}, {"t1", "../h1"}, {"t1", ""}, {"a/b", "h1"}} {
		if _, err := s.Manifest(t.Context(), bad[0], bad[1]); !errors.Is(err, ErrForeign) {
			t.Errorf("manifest %q: %v", bad, err)
		}
		if _, err := s.PutManifest(t.Context(), bad[0], bad[1], nil, true); !errors.Is(err, ErrForeign) {
			t.Errorf("writing manifest %q: %v", bad, err)
		}
	}
	if _, err := s.PutManifest(t.Context(), "t1", "h2", make([]byte, maxManifest+1), false); err == nil {
		t.Error("a manifest without bound was written")
	}
	// It is no artifact: nothing lists it, opens it or deletes it as one.
	if got := uris(t, s, "t1/"); len(got) != 0 {
		t.Errorf("listed: %v", got)
	}
	if _, err := s.Open(t.Context(), s.uri("t1/results/h1.json")); !errors.Is(err, ErrForeign) {
		t.Errorf("opened as an object: %v", err)
	}
}

func TestCopiesShareNothing(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := put(t, s, "hello")
	a.Name, a.Width = "hello.txt", 7
	const other = "default/p1/job2"
	c, err := s.Copy(t.Context(), a, other)
	want := a
	want.URI = "s3://" + s.bucket + "/" + other + "/" + a.SHA256 + ".txt"
	if err != nil || c != want {
		t.Fatalf("Copy = %+v, %v\nwant %+v", c, err, want)
	}
	if again, err := s.Copy(t.Context(), a, other); err != nil || again != want {
		t.Errorf("a second Copy = %+v, %v", again, err)
	}
	if same, err := s.Copy(t.Context(), a, subject); err != nil || same != a {
		t.Errorf("a Copy in place = %+v, %v", same, err)
	}
	if err := s.Delete(t.Context(), a.URI); err != nil {
		t.Fatal(err)
	}
	if err := s.Fetch(t.Context(), c, filepath.Join(t.TempDir(), "f")); err != nil {
		t.Errorf("with the original gone: %v", err)
	}
	if info, err := s.Stat(t.Context(), c.URI); err != nil || info.MediaType != "text/plain" || info.SHA256 != a.SHA256 {
		t.Errorf("Stat = %+v, %v", info, err)
	}
	if _, err := s.Copy(t.Context(), a, "default/-/job3"); !errors.Is(err, ErrMissing) {
		t.Errorf("copying what is gone: %v", err)
	}
	wrong := c
	wrong.Size++
	if _, err := s.Copy(t.Context(), wrong, "default/-/job3"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("copying what has another size: %v", err)
	}
	wrong = c
	wrong.URI = strings.Replace(c.URI, s.bucket, "elsewhere", 1)
	if _, err := s.Copy(t.Context(), wrong, "default/-/job3"); !errors.Is(err, ErrForeign) {
		t.Errorf("copying from elsewhere: %v", err)
	}
	if got := uris(t, s, "default/-/job3"); len(got) != 0 {
		t.Errorf("failed copies left %v", got)
	}
}

// What a server that cannot copy makes necessary.
func TestStreamedCopies(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := put(t, s, "hello")
	from, err := s.key(a.URI)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.stream(t.Context(), a, from, "default/-/job2")
	if err != nil || !strings.HasSuffix(c.URI, "/default/-/job2/"+a.SHA256+".txt") {
		t.Errorf("stream = %+v, %v", c, err)
	}
	promised := events.Artifact{URI: a.URI, SHA256: strings.Repeat("0", 64), Size: a.Size}
	if _, err := s.stream(t.Context(), promised, from, "default/-/job3"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("streaming other bytes than promised: %v", err)
	}
}
