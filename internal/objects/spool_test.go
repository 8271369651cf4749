// Tests of the temporary file between a reader and the store.

package objects

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// watching looks into the folder whenever it is read.
type watching struct {
	from io.Reader
	look func()
}

func (w watching) Read(p []byte) (int, error) { w.look(); return w.from.Read(p) }

// What is killed while it stores bytes leaves no file behind, for there is none with a name.
func TestPutSpoolsWhereItIsToldAndNamelessly(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.TempDir = t.TempDir()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	pipe, fill := io.Pipe()
	go func() {
		_ = fill.CloseWithError(errors.Join(second(io.WriteString(fill, "half")), second(io.WriteString(fill, "half"))))
	}()
	looks := 0
	if _, err := s.Put(t.Context(), subject, "txt", "text/plain", watching{pipe, func() {
		looks++
		if left, err := os.ReadDir(cfg.TempDir); err != nil || len(left) > 0 {
			t.Errorf("while storing, the folder holds %v, %v", left, err)
		}
	}}); err != nil || looks < 2 {
		t.Fatalf("after %d looks: %v", looks, err)
	}
	s.tempDir = filepath.Join(cfg.TempDir, "missing")
	if _, err := s.Put(t.Context(), subject, "txt", "text/plain", pipe); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Put without its folder: %v", err)
	}
}

func second(_ int, err error) error { return err }
