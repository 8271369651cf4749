// The clients of a cluster under chaos: they submit, repeat, cancel, approve, and
// note what they were told.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// told is one thing that a client asked for, and the last answer to it.
type told struct {
	kind   string // submit, cancel, approve, deny, retry
	key    string // Idempotency-Key
	jobID  string
	body   string
	status int // HTTP; 0: the client never got an answer
	code   string
	tries  int
}

// load is a number of clients.
type load struct {
	urls   []string
	client *http.Client

	mu    sync.Mutex
	calls []told
}

func newLoad(urls []string) *load {
	return &load{urls: urls, client: &http.Client{Timeout: 8 * time.Second}}
}

// run submits jobs at a steady pace until ctx ends; then what is under way is finished.
func (l *load) run(ctx context.Context, perSecond int) {
	var clients sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			clients.Wait()
			return
		case <-tick.C:
			clients.Go(func() { l.job(rand.New(rand.NewPCG(uint64(n), 4)), n) })
		}
	}
}

// job is the life of one job as its client sees it. n decides everything that the
// client does, so that a run can be told apart from the next by its faults alone.
func (l *load) job(rng *rand.Rand, n int) {
	body := map[string]any{"mode": "diagnostic", "variant": "noop"}
	options := map[string]any{"work_ms": rng.IntN(4) * 150}
	if rng.IntN(5) == 0 {
		options["fail_attempts"] = 1
	}
	body["options"] = options
	approval := rng.IntN(8) == 0
	if approval {
		body["approval"] = true
	}
	if rng.IntN(5) == 0 {
		body["priority"] = "batch"
	}
	if rng.IntN(10) == 0 {
		body["not_before"] = time.Now().Add(3 * time.Second).UTC().Format(time.RFC3339)
	}
	key := fmt.Sprintf("chaos-%d", n)
	first := l.post("submit", "/api/jobs", key, body, 60)
	if first.jobID == "" {
		return
	}
	switch rng.IntN(12) {
	case 0: // the same again
		l.post("submit", "/api/jobs", key, body, 20)
	case 1: // the key for something else
		l.post("submit", "/api/jobs", key, map[string]any{"mode": "diagnostic", "variant": "noop", "options": map[string]any{"work_ms": 7}}, 20)
	case 2, 3:
		<-time.After(time.Duration(rng.IntN(3000)) * time.Millisecond)
		l.post("cancel", "/api/jobs/"+first.jobID+"/cancel", "", nil, 20)
	}
	if !approval {
		return
	}
	verb := "approve"
	if rng.IntN(4) == 0 {
		verb = "deny"
	}
	for range 200 { // until the gate is reached, or the job is over
		<-time.After(500 * time.Millisecond)
		// 202 says that it was asked for and not yet answered: perhaps too early.
		answer := l.post(verb, "/api/jobs/"+first.jobID+"/"+verb, "", nil, 20)
		if answer.status == http.StatusOK || answer.code == "job_ended" {
			return
		}
	}
}

// post asks until there is an answer that says more than "try again", or the client
// has lost patience. It notes the last answer.
func (l *load) post(kind, path, key string, body any, patience int) told {
	t := told{kind: kind, key: key}
	if body != nil {
		b, _ := json.Marshal(body) //nolint:errcheck // strings and numbers
		t.body = string(b)
	}
	for t.tries = 1; t.tries <= patience; t.tries++ {
		t.status, t.code, t.jobID = l.once(path, key, t.body, t.jobID)
		if t.status != 0 && t.status != http.StatusServiceUnavailable {
			break
		}
		<-time.After(400 * time.Millisecond)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, t)
	return t
}

func (l *load) once(path, key, body, known string) (status int, code, jobID string) {
	url := l.urls[rand.IntN(len(l.urls))]
	req, err := http.NewRequest(http.MethodPost, url+path, bytes.NewReader([]byte(body)))
	if err != nil {
		return 0, err.Error(), known
	}
	req.Header.Set("Content-Type", "application/json")
	if body == "" {
		req.Header.Del("Content-Type")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, err.Error(), known
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error(), known
	}
	var answer struct {
		ID    string `json:"id"`
		JobID string `json:"job_id"`
		Code  string `json:"code"`
	}
	if json.Unmarshal(b, &answer) != nil {
		return resp.StatusCode, string(b), known
	}
	for _, id := range []string{answer.ID, answer.JobID} {
		if id != "" {
			known = id
		}
	}
	return resp.StatusCode, answer.Code, known
}

func (l *load) told() []told {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]told(nil), l.calls...)
}
