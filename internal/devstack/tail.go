// The last lines of a child's output, kept for error messages.

package devstack

import (
	"bytes"
	"io"
	"strings"
	"sync"
)

const (
	tailLines = 20
	tailWidth = 2000 // bytes kept of one line
)

// tail passes what is written to it on to another writer and keeps its last lines. A failing
// writer never stops the child: its error is dropped, and the lines are still kept.
type tail struct {
	mu      sync.Mutex
	to      io.Writer
	partial []byte
	lines   []string
}

func newTail(to io.Writer) *tail {
	return &tail{to: to}
}

// Write never fails.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.to != nil {
		_, _ = t.to.Write(b) // see the type: the child's life does not depend on its reader
	}
	rest := b
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		t.partial = append(t.partial, line[:min(len(line), max(0, tailWidth-len(t.partial)))]...)
		if !found {
			return len(b), nil
		}
		t.keep()
		rest = after
	}
}

// flush keeps an unfinished last line.
func (t *tail) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keep()
}

func (t *tail) keep() {
	if len(t.partial) == 0 {
		return
	}
	t.lines = append(t.lines, string(t.partial))
	t.partial = t.partial[:0]
	if over := len(t.lines) - tailLines; over > 0 {
		t.lines = append(t.lines[:0], t.lines[over:]...)
	}
}

// contains reports whether one of the last lines holds s.
func (t *tail) contains(s string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range t.lines {
		if strings.Contains(line, s) {
			return true
		}
	}
	return false
}

// String is ready to be put behind an error: empty, or a heading and the lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 {
		return ""
	}
	return "; its last lines:\n  " + strings.Join(t.lines, "\n  ")
}
