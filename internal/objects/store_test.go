// Tests of writing and reading against the embedded S3 server.

package objects

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/devstack"
)

// server is the S3 server that all tests of this package share; each has its own bucket.
var server *devstack.HelperServer

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "objects-test-")
	if err == nil {
		server, err = devstack.StartHelper(ctx, devstack.Helper{Dir: dir, NoLog: true})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot start the S3 server of the tests:", err)
		return 1
	}
	defer func() {
		_ = server.Stop(context.Background())
		_ = os.RemoveAll(dir)
	}()
	return m.Run()
}

// config is a bucket of the test's own, not yet made.
func config(t *testing.T) Config {
	t.Helper()
	sum := sha256.Sum256([]byte(t.Name()))
	return Config{
		Endpoint: server.S3(), AccessKey: server.AccessKey, SecretKey: server.SecretKey,
		Bucket: "test-" + hex.EncodeToString(sum[:8]),
	}
}

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(t.Context(), config(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const subject = "default/-/job1"

func put(t *testing.T, s *Store, text string) events.Artifact {
	t.Helper()
	a, err := s.Put(t.Context(), subject, "txt", "text/plain", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func TestPutNamesObjectsByTheirContent(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := put(t, s, "hello")
	want := events.Artifact{
		URI:    "s3://" + s.bucket + "/" + subject + "/" + digest([]byte("hello")) + ".txt",
		SHA256: digest([]byte("hello")), Size: 5, MediaType: "text/plain",
	}
	if a != want {
		t.Errorf("Put = %+v\nwant %+v", a, want)
	}
	info, err := s.Stat(t.Context(), a.URI)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size != 5 || info.SHA256 != a.SHA256 || info.MediaType != "text/plain" || info.Modified.IsZero() {
		t.Errorf("Stat = %+v", info)
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again, err := s.PutFile(t.Context(), subject, "txt", "text/plain", path); err != nil || again != want {
		t.Errorf("PutFile of the same bytes = %+v, %v", again, err)
	}
	if later, err := s.Stat(t.Context(), a.URI); err != nil || !later.Modified.Equal(info.Modified) {
		t.Errorf("the object was written again: %v, then %v (%v)", info.Modified, later.Modified, err)
	}
}

func TestWritersOfTheSameBytesAgree(t *testing.T) {
	t.Parallel()
	s := open(t)
	for round := range 5 {
		text := strings.Repeat("x", round+1)
		var wait sync.WaitGroup
		for range 8 {
			wait.Go(func() {
				a, err := s.Put(t.Context(), subject, "txt", "text/plain", strings.NewReader(text))
				if err != nil || a.SHA256 != digest([]byte(text)) {
					t.Errorf("Put = %+v, %v", a, err)
				}
			})
		}
		wait.Wait()
	}
	if n := len(uris(t, s, "")); n != 5 {
		t.Errorf("%d objects, want 5", n)
	}
}

func TestPutRepairsADamagedObject(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := put(t, s, "hello")
	key, err := s.key(a.URI)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.s3.PutObject(t.Context(), s.bucket, key, strings.NewReader("hel"), 3, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Fetch(t.Context(), a, filepath.Join(t.TempDir(), "f")); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("Fetch of damaged bytes = %v, want ErrCorrupt", err)
	}
	put(t, s, "hello")
	if err := s.Fetch(t.Context(), a, filepath.Join(t.TempDir(), "f")); err != nil {
		t.Errorf("after a second Put: %v", err)
	}
}

func TestLargeObjectsRoundTrip(t *testing.T) {
	t.Parallel()
	s := open(t)
	body := make([]byte, 2*partSize+12345) // three parts
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(body)
	a, err := s.Put(t.Context(), subject, "bin", "application/octet-stream", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "copy")
	if err := s.Fetch(t.Context(), a, path); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("fetched bytes differ (%d of %d, %v)", len(got), len(body), err)
	}
	r, err := s.Open(t.Context(), a.URI)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	at := int64(partSize + 77)
	if _, err := r.Seek(at, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 1000)
	if _, err := io.ReadFull(r, part); err != nil || !bytes.Equal(part, body[at:at+1000]) {
		t.Errorf("the range after Seek differs (%v)", err)
	}
	if _, err := r.ReadAt(part, 5); err != nil || !bytes.Equal(part, body[5:1005]) {
		t.Errorf("the range of ReadAt differs (%v)", err)
	}
}

func TestMissingAndForeignObjects(t *testing.T) {
	t.Parallel()
	s := open(t)
	missing := "s3://" + s.bucket + "/" + subject + "/" + digest(nil) + ".txt"
	path := filepath.Join(t.TempDir(), "f")
	if _, err := s.Open(t.Context(), missing); !errors.Is(err, ErrMissing) {
		t.Errorf("Open = %v, want ErrMissing", err)
	}
	if _, err := s.Stat(t.Context(), missing); !errors.Is(err, ErrMissing) {
		t.Errorf("Stat = %v, want ErrMissing", err)
	}
	if err := s.Fetch(t.Context(), events.Artifact{URI: missing}, path); !errors.Is(err, ErrMissing) {
		t.Errorf("Fetch = %v, want ErrMissing", err)
	}
	if err := s.Delete(t.Context(), missing); err != nil {
		t.Errorf("Delete of an absent object = %v", err)
	}
	for _, uri := range []string{
		"", "s3://", "s3://other/default/-/job1/x.txt", "http://" + s.bucket + "/default/-/job1/x.txt",
		"s3://" + s.bucket, "s3://" + s.bucket + "/", "s3://" + s.bucket + "/x.txt",
		"s3://" + s.bucket + "/keys/default/-/job1", "s3://" + s.bucket + "/keys/-/job1/x",
		"s3://" + s.bucket + "/default/../job1/x.txt", "s3://" + s.bucket + "/default/-/job1/..",
		"s3://" + s.bucket + "/default/-/job1/", "s3://" + s.bucket + "/default/-/job1/a/b.txt",
	} {
		if _, err := s.Open(t.Context(), uri); !errors.Is(err, ErrForeign) {
			t.Errorf("Open(%q) = %v, want ErrForeign", uri, err)
		}
		if _, err := s.Presign(t.Context(), uri, time.Minute, ""); !errors.Is(err, ErrForeign) {
			t.Errorf("Presign(%q) = %v, want ErrForeign", uri, err)
		}
		if err := s.Delete(t.Context(), uri); !errors.Is(err, ErrForeign) {
			t.Errorf("Delete(%q) = %v, want ErrForeign", uri, err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a failed Fetch left a file (%v)", err)
	}
}

func TestBadNamesAreRefusedBeforeUpload(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, c := range []struct{ subject, ext string }{
		{"", "txt"}, {"a/b", "txt"}, {"a/b/c/d", "txt"}, {"keys/-/job", "txt"}, {"-/-/job", "txt"},
		{"a/-/..", "txt"}, {"a/-/j b", "txt"}, {subject, ""}, {subject, ".txt"}, {subject, "TXT"},
	} {
		if _, err := s.Put(t.Context(), c.subject, c.ext, "text/plain", strings.NewReader("x")); err == nil {
			t.Errorf("Put(%q, %q) was accepted", c.subject, c.ext)
		}
	}
	for _, err := range s.List(t.Context(), "") {
		t.Errorf("the bucket is not empty (%v)", err)
	}
}

func TestPresignedLinksExpireAndAreNeededToRead(t *testing.T) {
	t.Parallel()
	s := open(t)
	a := put(t, s, "hello")
	link, err := s.Presign(t.Context(), a.URI, time.Minute, `my "video".txt`)
	if err != nil {
		t.Fatal(err)
	}
	status, header, body := get(t, link.String())
	if status != http.StatusOK || body != "hello" {
		t.Errorf("the link answers %d %q", status, body)
	}
	if got := header.Get("Content-Disposition"); got != `attachment; filename="my \"video\".txt"` {
		t.Errorf("Content-Disposition = %s", got)
	}
	if status, _, _ := get(t, strings.Split(link.String(), "?")[0]); status != http.StatusForbidden {
		t.Errorf("without a signature the object answers %d, want 403", status)
	}
	if status, _, _ := get(t, strings.Replace(link.String(), "X-Amz-Expires=60", "X-Amz-Expires=99", 1)); status != http.StatusForbidden {
		t.Errorf("a changed link answers %d, want 403", status)
	}
	if _, err := s.Presign(t.Context(), a.URI, 0, ""); err == nil {
		t.Error("a link without a life was signed")
	}
}

func TestPresignUsesThePublicEndpoint(t *testing.T) {
	t.Parallel()
	c := config(t)
	c.PublicEndpoint = "https://video.example.org"
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	link, err := s.Presign(t.Context(), put(t, s, "x").URI, time.Minute, "")
	if err != nil || link.Scheme != "https" || link.Host != "video.example.org" {
		t.Errorf("link = %v, %v", link, err)
	}
}

func get(t *testing.T, url string) (int, http.Header, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(body)
}

func TestListAndDelete(t *testing.T) {
	t.Parallel()
	s := open(t)
	a, b := put(t, s, "a"), put(t, s, "b")
	other, err := s.Put(t.Context(), "default/-/job10", "txt", "text/plain", strings.NewReader("c"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := NewKeyring(s, [32]byte{}).Create(t.Context(), "default", "", "job1"); err != nil {
		t.Fatal(err)
	}
	if got := uris(t, s, subject+"/"); len(got) != 2 || !got[a.URI] || !got[b.URI] {
		t.Errorf("the subject holds %v", got)
	}
	if got := uris(t, s, ""); len(got) != 3 || !got[other.URI] {
		t.Errorf("the bucket shows %v, want three objects and no key", got)
	}
	if err := s.Delete(t.Context(), a.URI); err != nil {
		t.Fatal(err)
	}
	if got := uris(t, s, subject+"/"); len(got) != 1 || !got[b.URI] {
		t.Errorf("after Delete the subject holds %v", got)
	}
}

func uris(t *testing.T, s *Store, prefix string) map[string]bool {
	t.Helper()
	got := map[string]bool{}
	for o, err := range s.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		got[o.URI] = true
	}
	return got
}

func TestOpenIsRepeatableAndRefusesBadConfigs(t *testing.T) {
	t.Parallel()
	var wait sync.WaitGroup
	for range 4 { // processes that start together must not fall over the new bucket
		wait.Go(func() {
			if s, err := Open(t.Context(), config(t)); err != nil {
				t.Error(err)
			} else if err := s.Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	wrong := config(t)
	wrong.SecretKey = "not-the-secret"
	if _, err := Open(t.Context(), wrong); err == nil {
		t.Error("a wrong secret was accepted")
	}
	if _, err := Open(t.Context(), Config{}); err == nil || !strings.Contains(err.Error(), "endpoint") || !strings.Contains(err.Error(), "bucket") {
		t.Errorf("an empty configuration: %v, want every fault", err)
	}
	for _, endpoint := range []string{"ftp://x", "http://", "http://x/path", "a b"} {
		c := config(t)
		c.Endpoint = endpoint
		if _, err := Open(t.Context(), c); err == nil {
			t.Errorf("endpoint %q was accepted", endpoint)
		}
	}
}

func TestAnAbsentServerIsUnavailable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := config(t)
	c.Endpoint = l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), c); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Open = %v, want ErrUnavailable", err)
	}
	s := open(t)
	a := put(t, s, "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Open(ctx, a.URI); !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnavailable) {
		t.Errorf("with a cancelled context: %v, want context.Canceled alone", err)
	}
}
