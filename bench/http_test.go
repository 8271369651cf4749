package main

// Tests of the loads that ask the API over HTTP.

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

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
		if full.Load() || r.Header.Get("Prefer") != briefly {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	defer server.Close()
	got, err := submitAll(t.Context(), server.URL, briefly, 500)
	if err != nil || len(got.took) != 500 || got.rate <= 0 || posts.Load() < 500 {
		t.Errorf("%d of %d posts measured, %g a second: %v", len(got.took), posts.Load(), got.rate, err)
	}
	full.Store(true)
	if _, err := submitAll(t.Context(), server.URL, briefly, 1); err == nil {
		t.Error("a refused submission was counted")
	}
}

func TestTheBareHandlerWritesWhatItAccepts(t *testing.T) {
	t.Parallel()
	_, log := fakeDeployment(t)
	addr, err := freeAddr()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	var ending error
	go func() { defer close(ended); ending = serveBare(ctx, log, addr) }()
	defer func() {
		stop()
		if <-ended; ending != nil {
			t.Error(ending)
		}
	}()
	if err := awaitAccepting(t.Context(), "http://"+addr+"/", ended); err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post("http://"+addr+"/", "application/json", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	n := 0
	_, err = log.Read(t.Context(), log.Whole(events.TopicDeadLetters), func(r []eventlog.Record) error { n += len(r); return nil })
	if resp.StatusCode != http.StatusAccepted || n != 2 || err != nil {
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

// TestWatchersNoteWhatComesLive has streams of each way, with what went before, a beat, and
// updates that stand for more than one event.
func TestWatchersNoteWhatComesLive(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	facts := factsOf(1)
	stream := func(from int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprint(w, "retry: 1000\n\nid: begin\n\n: still here\n\nevent: progress\ndata: {\"percent\":3}\n\n")
			for n := from; n < len(facts); n++ {
				_, _ = fmt.Fprintf(w, "id: 0:%d\nevent: event\ndata: {\"version\":%d}\n\n", n, n+1)
			}
		}
	}
	mux.HandleFunc("GET /api/jobs/job/events", stream(0))
	mux.HandleFunc("GET /api/events", stream(factsBefore))
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		_, _, _ = c.Read(r.Context())
		for n := factsBefore; n < len(facts)+3; n += 3 {
			_ = c.Write(r.Context(), websocket.MessageText, fmt.Appendf(nil, `{"type":"update","version":%d}`, min(n, len(facts))))
		}
		_, _, _ = c.Read(r.Context())
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	for name, by := range map[string]follow{"a job": followJob, "all jobs": followAll, "a socket": followSocket} {
		client, err := by(t.Context(), server.Listener.Addr().String(), "job")
		if err != nil {
			t.Fatal(name, err)
		}
		w, began := &watched{id: "job", facts: facts, client: client}, time.Now()
		w.read()
		client.close()
		if len(w.seen) != len(facts)-factsBefore || w.seen[0].Before(began) {
			t.Errorf("%s: %d events seen", name, len(w.seen))
		}
	}
}
