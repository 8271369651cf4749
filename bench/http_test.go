package main

// Tests of the loads that ask the API over HTTP.

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

func TestEverySubmissionMustBeAccepted(t *testing.T) {
	t.Parallel()
	var posts atomic.Int64
	var full atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		if full.Load() || r.Header.Get("Prefer") != "respond-async" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	got, err := submitAll(t.Context(), server.URL, 500)
	if err != nil || len(got.took) != 500 || got.rate <= 0 || posts.Load() < 500 {
		t.Errorf("%d of %d posts measured, %g a second: %v", len(got.took), posts.Load(), got.rate, err)
	}
	full.Store(true)
	if _, err := submitAll(t.Context(), server.URL, 1); err == nil {
		t.Error("a refused submission was counted")
	}
}

func TestTheBareHandlerWritesWhatItAccepts(t *testing.T) {
	t.Parallel()
	_, log := fakeDeployment(t)
	b, err := startBare(log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.stop() }()
	resp, err := http.Post(b.url, "application/json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	n := 0
	_, err = log.Read(t.Context(), log.Whole(events.TopicDeadLetters), func(r []eventlog.Record) error { n += len(r); return nil })
	if resp.StatusCode != http.StatusAccepted || n != 1 || err != nil {
		t.Errorf("answer %d, %d records: %v", resp.StatusCode, n, err)
	}
}

func TestListedJobsAreOfEveryKind(t *testing.T) {
	t.Parallel()
	rows, offset := projections.NewMemory(), int64(0)
	for n := range 1000 {
		for _, m := range listedJob(n) {
			r, err := record(events.TopicJobEvents, m)
			if err != nil {
				t.Fatal(err)
			}
			r.Offset = offset
			offset++
			if err := rows.Apply([]eventlog.Record{r}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if c := rows.Counts(); c.Applied != offset || c.Rejected != 0 {
		t.Errorf("of %d facts %+v", offset, c)
	}
}

func TestInTurnDoesAllOrSaysWhy(t *testing.T) {
	t.Parallel()
	var done atomic.Int64
	took, err := inTurn(t.Context(), 101, func(int) error { done.Add(1); return nil })
	if err != nil || len(took) != 101 || done.Load() != 101 {
		t.Errorf("%d of 101 done, %d taken: %v", done.Load(), len(took), err)
	}
	broken := errors.New("broken")
	if _, err := inTurn(t.Context(), 101, func(n int) error {
		if n == 50 {
			return broken
		}
		return nil
	}); !errors.Is(err, broken) {
		t.Errorf("a failure became %v", err)
	}
}

// TestAWatcherNotesWhatComesLive has a stream with what went before and a beat.
func TestAWatcherNotesWhatComesLive(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	w := &watched{id: "job", facts: factsOf(1)}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = fmt.Fprint(c, "HTTP/1.1 200 OK\r\n\r\nretry: 1000\n\n: still here\n\n")
		for n := range w.facts {
			_, _ = fmt.Fprintf(c, "id: 0:%d\nevent: event\ndata: {}\n\n", n)
		}
	}()
	if err := w.connect(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	w.read()
	if len(w.seen) != len(w.facts)-factsBefore || w.seen[0].Before(began) {
		t.Errorf("%d events seen", len(w.seen))
	}
}
