// Tests of erasing a profile: everything of it goes, nothing else does.

package objects

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
)

// keysOf are all keys of the bucket, those of key objects too.
func keysOf(t *testing.T, s *Store) (keys []string) {
	t.Helper()
	for o, err := range s.below(t.Context(), "", false) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
	return keys
}

// place stores a text in a folder.
func place(t *testing.T, s *Store, folder, ext, text string) {
	t.Helper()
	if _, err := s.Put(t.Context(), folder, ext, "text/plain", strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
}

func TestEraseProfile(t *testing.T) {
	t.Parallel()
	s := open(t)
	ours, theirs := NewKeyring(s, [32]byte{1}), NewKeyring(s, [32]byte{1})
	sealed := map[string]string{}
	for _, job := range []string{"default/p1/j1", "default/p1/j2", "default/p10/j3", "default/p/j4", "other/p1/j5"} {
		parts := strings.Split(job, "/")
		id, _, err := ours.Create(t.Context(), parts[0], parts[1], parts[2])
		if err != nil {
			t.Fatal(err)
		}
		place(t, s, job, "mp4", "video of "+job)
		sealed[job] = id
	}
	place(t, s, "default/p1/j1", "png", "a face")
	place(t, s, "default/-/u1", "png", "a face")
	place(t, s, "default/-/u1", "json", "the record of u1")
	place(t, s, "default/-/u2", "png", "another face")
	place(t, s, "other/-/u3", "png", "a face")
	core := minio.Core{Client: s.s3}
	if _, err := core.NewMultipartUpload(t.Context(), s.bucket, "default/p1/j1/half.mp4", minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	jobs, err := ours.Jobs(t.Context(), "default", "p1")
	if err != nil || !slices.Equal(jobs, []string{"j1", "j2"}) {
		t.Errorf("its jobs are %v, %v", jobs, err)
	}
	if n, err := ours.EraseProfile(t.Context(), "default", "p1"); n != 2 || err != nil {
		t.Errorf("%d keys, %v", n, err)
	}
	if n, err := s.EraseProfile(t.Context(), "default", "p1"); n != 6 || err != nil { // 3 objects, the upload of 2, the unfinished one
		t.Errorf("%d objects, %v", n, err)
	}
	for job, id := range sealed {
		for name, k := range map[string]*Keyring{"the eraser": ours, "another process": theirs} {
			_, err := k.Key(t.Context(), id)
			if want := strings.HasPrefix(job, "default/p1/"); errors.Is(err, ErrErased) != want || !want && err != nil {
				t.Errorf("the key of %s in %s: %v", job, name, err)
			}
		}
	}
	for _, key := range keysOf(t, s) {
		if strings.Contains(key, "default/p1/") || strings.HasPrefix(key, "default/-/u1/") {
			t.Errorf("%s is left", key)
		}
	}
	if left := len(keysOf(t, s)); left != 3+3+2 { // keys and videos of the others, and two uploads
		t.Errorf("%d objects are left: %v", left, keysOf(t, s))
	}
	// Asked again it has nothing to do.
	for _, erase := range []func(context.Context, string, string) (int, error){ours.EraseProfile, s.EraseProfile} {
		if n, err := erase(t.Context(), "default", "p1"); n != 0 || err != nil {
			t.Errorf("the second time: %d, %v", n, err)
		}
	}
}

// TestAnInterruptedErasureIsFinished breaks off while the objects are deleted: what is
// left names the uploads and objects that are still to go.
func TestAnInterruptedErasureIsFinished(t *testing.T) {
	t.Parallel()
	s := open(t)
	for i := range 3 {
		place(t, s, fmt.Sprint("default/p1/j", i), "png", fmt.Sprint("face ", i))
		place(t, s, fmt.Sprint("default/-/u", i), "png", fmt.Sprint("face ", i))
	}
	for fail := range 6 {
		cut := &cutting{next: http.DefaultTransport, after: fail}
		cfg := config(t)
		cfg.Transport = cut
		broken, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := broken.EraseProfile(t.Context(), "default", "p1"); err == nil && fail < 1 {
			t.Error("an erasure that cannot delete says that all is well")
		}
	}
	if _, err := s.EraseProfile(t.Context(), "default", "p1"); err != nil {
		t.Fatal(err)
	}
	if left := keysOf(t, s); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

// cutting fails every deletion after the first few.
type cutting struct {
	next  http.RoundTripper
	mu    sync.Mutex
	after int
}

func (c *cutting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodDelete {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.after--; c.after < 0 {
			return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		}
	}
	return c.next.RoundTrip(r)
}

func TestOnlyProfilesAreErased(t *testing.T) {
	t.Parallel()
	s := open(t)
	k := NewKeyring(s, [32]byte{1})
	place(t, s, "default/-/u1", "png", "a face")
	for _, c := range [][2]string{{"default", ""}, {"default", "-"}, {"default", "p1/j1"}, {"", "p1"}, {"keys", "p1"}, {"default", ".."}} {
		_, one := k.EraseProfile(t.Context(), c[0], c[1])
		_, two := s.EraseProfile(t.Context(), c[0], c[1])
		if _, three := k.Jobs(t.Context(), c[0], c[1]); one == nil || two == nil || three == nil {
			t.Errorf("%q: %v, %v, %v", c, one, two, three)
		}
	}
	if left := keysOf(t, s); len(left) != 1 {
		t.Errorf("left are %v", left)
	}
}

// TestVersionsAreErased runs against a bucket that keeps versions, of which the embedded
// store has none.
func TestVersionsAreErased(t *testing.T) {
	t.Parallel()
	b := &versionedBucket{versions: map[string][]string{"default/p1/j1/00.mp4": {"v1", "v2"}, "keys/default/p1/j1": {"v3"}, "default/p2/j2/00.mp4": {"v4"}}}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	s, err := Open(t.Context(), Config{Endpoint: server.URL, AccessKey: "a", SecretKey: "b", Bucket: "versioned"})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := NewKeyring(s, [32]byte{1}).EraseProfile(t.Context(), "default", "p1"); n != 1 || err != nil {
		t.Errorf("%d keys, %v", n, err)
	}
	if n, err := s.EraseProfile(t.Context(), "default", "p1"); n != 2 || err != nil {
		t.Errorf("%d versions, %v", n, err)
	}
	if len(b.versions) != 1 || len(b.versions["default/p2/j2/00.mp4"]) != 1 {
		t.Errorf("left are %v", b.versions)
	}
	b.status = http.StatusForbidden
	if _, err := s.EraseProfile(t.Context(), "default", "p1"); err == nil {
		t.Error("a bucket that does not say whether it keeps versions counts as erased")
	}
}

// versionedBucket is as much of S3 as erasing needs.
type versionedBucket struct {
	mu       sync.Mutex
	versions map[string][]string // ids by key
	status   int                 // what is answered to the question whether it keeps versions
}

func (b *versionedBucket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q, key := r.URL.Query(), strings.TrimPrefix(r.URL.Path, "/versioned/")
	switch {
	case r.Method == http.MethodDelete:
		left := slices.DeleteFunc(b.versions[key], func(v string) bool { return v == q.Get("versionId") })
		if b.versions[key] = left; len(left) == 0 {
			delete(b.versions, key)
		}
		w.WriteHeader(http.StatusNoContent)
	case q.Has("versioning") && b.status != 0:
		w.WriteHeader(b.status)
	case q.Has("versioning"):
		fmt.Fprint(w, `<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>`)
	case q.Has("uploads"):
		fmt.Fprint(w, `<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>`)
	case r.Method == http.MethodGet:
		b.list(w, q.Get("prefix"), q.Has("versions"))
	}
}

func (b *versionedBucket) list(w http.ResponseWriter, prefix string, versions bool) {
	type entry struct {
		XMLName              xml.Name
		Key, VersionId, Size string //nolint:revive // the words of S3
	}
	root := "ListBucketResult"
	if versions {
		root = "ListVersionsResult"
	}
	fmt.Fprintf(w, "<%s><IsTruncated>false</IsTruncated>", root)
	for key, ids := range b.versions {
		for i, id := range ids {
			if !strings.HasPrefix(key, prefix) || !versions && i > 0 {
				continue
			}
			name := map[bool]string{true: "Version", false: "Contents"}[versions]
			text, _ := xml.Marshal(entry{XMLName: xml.Name{Local: name}, Key: key, VersionId: id, Size: "1"})
			_, _ = w.Write(text)
		}
	}
	fmt.Fprintf(w, "</%s>", root)
}
