// Tests of incoming files: what the policy lets through, and what it does not.

package objects

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// post sends a form to the store and gives the status.
func post(t *testing.T, url string, fields map[string]string, file []byte) int {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for name, value := range fields {
		if err := form.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	part, err := form.CreateFormFile("file", "whatever.html")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(url, form.FormDataContentType(), &body)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.StatusCode
}

func changed(fields map[string]string, name, value string) map[string]string {
	out := map[string]string{name: value}
	for k, v := range fields {
		if k != name {
			out[k] = v
		}
	}
	return out
}

func TestAPolicyTakesOneFileOfABoundedSize(t *testing.T) {
	t.Parallel()
	s := open(t)
	const id = "01919b2e-6a2c-7c3e-9a44-6d6f1f0c7a11"
	url, fields, err := s.PostPolicy(t.Context(), "default", id, 1000, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	_, late, err := s.PostPolicy(t.Context(), "default", id, 1000, time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		fields map[string]string
		size   int
	}{
		"a byte too much":   {fields, 1001},
		"nothing":           {fields, 0},
		"another key":       {changed(fields, "key", "default/-/other/file"), 10},
		"another tenant":    {changed(fields, "key", "else/incoming/"+id), 10},
		"as a web page":     {changed(fields, "Content-Type", "text/html"), 10},
		"another signature": {changed(fields, "x-amz-signature", strings.Repeat("0", 64)), 10},
		"after its end":     {late, 10},
	} {
		if status := post(t, url, c.fields, make([]byte, c.size)); status < 400 || status >= 500 {
			t.Errorf("%s: the store answers %d", name, status)
		}
	}
	if files, err := s.ListIncoming(t.Context()); err != nil || len(files) != 0 {
		t.Fatalf("what was refused is there: %v, %v", files, err)
	}
	if status := post(t, url, fields, bytes.Repeat([]byte("x"), 1000)); status != http.StatusNoContent {
		t.Fatalf("a file of the right size: the store answers %d", status)
	}
}

func TestIncomingFilesOfAllTenantsAreListed(t *testing.T) {
	t.Parallel()
	s := open(t)
	want := map[string]string{"acme": "01919b2e-6a2c-7c3e-9a44-6d6f1f0c7a11", "default": "01919b2e-6a2c-7c3e-9a44-6d6f1f0c7a12"}
	for tenant, id := range want {
		url, fields, err := s.PostPolicy(t.Context(), tenant, id, 1000, time.Now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if status := post(t, url, fields, []byte("hello")); status != http.StatusNoContent {
			t.Fatalf("the store answers %d", status)
		}
	}
	// Beside them lie keys, and things of a tenant that has posted nothing.
	if _, _, err := NewKeyring(s, [32]byte{1}).Create(t.Context(), "acme", NoProfile, "job"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Put(t.Context(), "quiet/-/job", "txt", "text/plain", strings.NewReader("x")); err != nil {
		t.Fatal(err)
	}
	files, err := s.ListIncoming(t.Context())
	got := map[string]string{}
	for _, f := range files {
		got[f.Tenant] = f.ID
	}
	if err != nil || !maps.Equal(got, want) || len(files) != 2 {
		t.Errorf("listed %+v, %v", files, err)
	}
}

// The log's records say whose a file and a text is by the places that this package makes.
func TestPlacesTellTheirOwner(t *testing.T) {
	t.Parallel()
	s := open(t)
	for _, profile := range []string{"", "prof"} {
		subject, err := Subject("acme", profile, "job")
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Put(t.Context(), subject, "txt", "text/plain", strings.NewReader("x"))
		if err != nil || a.Owner() != "acme" {
			t.Errorf("%s is %q's, %v", a.URI, a.Owner(), err)
		}
		if text := (events.Sealed{Key: KeyID(subject)}); text.Owner() != "acme" {
			t.Errorf("%s is %q's", text.Key, text.Owner())
		}
	}
}

func TestIncomingFilesAreNobodysObjects(t *testing.T) {
	t.Parallel()
	s := open(t)
	const id = "01919b2e-6a2c-7c3e-9a44-6d6f1f0c7a11"
	if _, err := s.StatIncoming(t.Context(), "default", id); !errors.Is(err, ErrMissing) {
		t.Errorf("before the post: %v, want ErrMissing", err)
	}
	url, fields, err := s.PostPolicy(t.Context(), "default", id, 1000, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if status := post(t, url, fields, []byte("hello")); status != http.StatusNoContent {
		t.Fatalf("the store answers %d", status)
	}
	if info, err := s.StatIncoming(t.Context(), "default", id); err != nil || info.Size != 5 || time.Since(info.Modified) > time.Hour {
		t.Errorf("%+v, %v", info, err)
	}
	if got := uris(t, s, ""); len(got) != 0 {
		t.Errorf("List shows %v", got)
	}
	if _, err := s.Open(t.Context(), s.uri("default/incoming/"+id)); !errors.Is(err, ErrForeign) {
		t.Errorf("Open = %v, want ErrForeign", err)
	}
	path := filepath.Join(t.TempDir(), "f")
	if n, err := s.FetchIncoming(t.Context(), "default", id, path, 3); n != 3 || err != nil {
		t.Errorf("FetchIncoming = %d, %v", n, err)
	}
	if b, err := os.ReadFile(path); string(b) != "hel" {
		t.Errorf("fetched %q, %v", b, err)
	}
	for range 2 { // a repeat is no error
		if err := s.RemoveIncoming(t.Context(), "default", id); err != nil {
			t.Fatal(err)
		}
	}
	gone := filepath.Join(t.TempDir(), "g")
	if _, err := s.FetchIncoming(t.Context(), "default", id, gone, 3); !errors.Is(err, ErrMissing) {
		t.Errorf("after the removal: %v, want ErrMissing", err)
	}
	if _, err := os.Stat(gone); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
	for _, bad := range []string{"", "../x", "a/b"} {
		if _, _, err := s.PostPolicy(t.Context(), "default", bad, 1, time.Now().Add(time.Hour)); !errors.Is(err, ErrForeign) {
			t.Errorf("a policy for %q: %v", bad, err)
		}
	}
}
