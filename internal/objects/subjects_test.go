// Tests of walking the bucket folder by folder, and of deleting one.

package objects

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
)

// folders are the tenant's, each with how much lies in it.
func folders(t *testing.T, s *Store, tenant string) (found []string) {
	t.Helper()
	for f, err := range s.Folders(t.Context(), tenant) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, fmt.Sprintf("%s %d", f.Subject, len(f.Objects)))
	}
	return found
}

func TestFoldersAreWalkedOneByOne(t *testing.T) {
	t.Parallel()
	s := open(t)
	if got := folders(t, s, "default"); len(got) > 0 {
		t.Errorf("an empty bucket has %v", got)
	}
	for _, folder := range []string{"default/-/u1", "default/-/u10", "default/-/u2", "default/p1/j1", "other/-/u3"} {
		place(t, s, folder, "png", "a face")
		place(t, s, folder, "json", "the record of "+folder)
	}
	place(t, s, "default/-/u2", "wav", "a voice")
	k := NewKeyring(s, [32]byte{1})
	for tenant, profile := range map[string]string{"default": "", "third": "p2"} {
		if _, _, err := k.Create(t.Context(), tenant, profile, "j2"); err != nil {
			t.Fatal(err)
		}
	}
	for key, err := range k.List(t.Context(), "third") {
		if err != nil || key.ID != "keys/third/p2/j2" || key.Subject != "third/p2/j2" || time.Since(key.Made).Abs() > time.Minute {
			t.Errorf("%+v, %v", key, err)
		}
	}
	if got, err := s.Tenants(t.Context()); err != nil || !slices.Equal(got, []string{"default", "other", "third"}) {
		t.Errorf("the tenants are %v, %v", got, err)
	}
	if got := folders(t, s, "default"); !slices.Equal(got, []string{"default/-/u1 2", "default/-/u10 2", "default/-/u2 3"}) {
		t.Errorf("the folders are %v", got)
	}
	for f, err := range s.Folders(t.Context(), "default") { // what is left of the walk is not asked for
		if err != nil || f.Subject != "default/-/u1" {
			t.Errorf("%s, %v", f.Subject, err)
		}
		core := minio.Core{Client: s.s3}
		if _, err := core.NewMultipartUpload(t.Context(), s.bucket, "default/-/u1/half.png", minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		if n, err := s.EraseFolder(t.Context(), f, f.Objects[0].URI); n != 3 || err != nil {
			t.Errorf("%d objects were deleted, %v", n, err)
		}
		if n, err := s.EraseFolder(t.Context(), f, f.Objects[0].URI); n != 0 || err != nil {
			t.Errorf("the second time: %d, %v", n, err)
		}
		break
	}
	if got := folders(t, s, "default"); len(got) != 2 {
		t.Errorf("left are %v", got)
	}
}

// Whoever is broken off has deleted everything but the last, in whatever order the names are.
func TestTheLastOfAFolderGoesLast(t *testing.T) {
	t.Parallel()
	for i := range 2 {
		s := open(t)
		place(t, s, "default/-/u1", "png", "a face")
		place(t, s, "default/-/u1", "json", "a record")
		cfg := config(t)
		cfg.Transport = &cutting{next: http.DefaultTransport, after: 1}
		broken, err := Open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		for f, err := range broken.Folders(t.Context(), "default") {
			if err != nil {
				t.Fatal(err)
			}
			last := f.Objects[i].URI
			if _, err := broken.EraseFolder(t.Context(), f, last); err == nil {
				t.Error("a folder that cannot be deleted whole says that all is well")
			}
			if got := keysOf(t, s); len(got) != 1 || s.uri(got[0]) != last {
				t.Errorf("left are %v, want %s", got, last)
			}
		}
	}
}

func TestVersionsOfAFolderAreErased(t *testing.T) {
	t.Parallel()
	b := &versionedBucket{versions: map[string][]string{"default/-/u1/00.png": {"v1", "v2"}, "default/-/u1/01.json": {"v3", "v4"}, "default/-/u10/00.png": {"v5"}}}
	server := httptest.NewServer(b)
	t.Cleanup(server.Close)
	s, err := Open(t.Context(), Config{Endpoint: server.URL, AccessKey: "a", SecretKey: "b", Bucket: "versioned"})
	if err != nil {
		t.Fatal(err)
	}
	f := Folder{Subject: "default/-/u1", Objects: []Info{{URI: s.uri("default/-/u1/00.png")}, {URI: s.uri("default/-/u1/01.json")}}}
	if n, err := s.EraseFolder(t.Context(), f, f.Objects[1].URI); n != 4 || err != nil || len(b.versions) != 1 {
		t.Errorf("%d versions, %v, left are %v", n, err, b.versions)
	}
	f.Subject = "default"
	if _, err := s.EraseFolder(t.Context(), f, ""); err == nil {
		t.Error("a tenant was taken for a folder")
	}
}
