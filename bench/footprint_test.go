package main

// Tests of what the footprint is read from.

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"
)

func TestReadyNeedsEveryServiceAndNoWorker(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		status     int
		want       bool
	}{
		{"no workers", `{"status":"degraded","dependencies":{"log":"ok","tables":"ok","objects":"ok","workers":"none is running"}}`, 200, true},
		{"no tables", `{"status":"degraded","dependencies":{"log":"ok","tables":"unavailable","objects":"ok"}}`, 200, false},
		{"no log", `{"dependencies":{"log":"unavailable","tables":"ok","objects":"ok"}}`, 200, false},
		{"stopping", `{"dependencies":{"log":"ok","tables":"ok","objects":"ok"}}`, 503, false},
		{"no JSON", `hello`, 200, false},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		}))
		defer server.Close()
		if answer, ok := askReady(context.Background(), server.URL); ok != c.want {
			t.Errorf("%s: ready %v (%s)", c.name, ok, answer)
		}
	}
}

func TestAwaitReadyEndsWithTheProgram(t *testing.T) {
	t.Parallel()
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	close(ended)
	err = awaitReady(context.Background(), addr, ended)
	if err == nil || !strings.Contains(err.Error(), "it ended by itself") {
		t.Errorf("got %v", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := wait(ctx, time.Hour, nil); err == nil {
		t.Error("an ended context did not end the waiting")
	}
	if err := wait(context.Background(), time.Millisecond, nil); err != nil {
		t.Error(err)
	}
}

func TestOneStartTellsWhyAProgramEnded(t *testing.T) {
	t.Parallel()
	_, err := (&services{dir: t.TempDir()}).oneStart(context.Background(), "/bin/sh", "api", 0)
	// A shell knows no script named run, and says so.
	if err == nil || !strings.Contains(err.Error(), "did not become ready") || !strings.Contains(err.Error(), "last words") || !strings.Contains(err.Error(), "run") {
		t.Errorf("got %v", err)
	}
}

func TestMemoryIsReadFromTheKernel(t *testing.T) {
	t.Parallel()
	status := "Name:\tx\nVmHWM:\t   99999 kB\nVmRSS:\t   30000 kB\nRssAnon:\t 1 kB\n"
	for line, want := range map[string]int64{"VmRSS": 30000 * 1024, "VmHWM": 99999 * 1024} {
		if got, err := parseMemory(status, line); err != nil || got != want {
			t.Errorf("%s: got %d, %v", line, got, err)
		}
	}
	if _, err := parseMemory("Name:\tx\n", "VmRSS"); err == nil || !strings.Contains(err.Error(), "measure on Linux") {
		t.Errorf("got %v", err)
	}
	if own, err := residentBytes(os.Getpid()); err != nil || own < 1<<20 {
		t.Errorf("this process has %d bytes, %v", own, err)
	}
}
