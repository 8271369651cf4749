// Tests of what a key must not do: keep a stream open that it opens no more, and be seen.

package api

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/access"
)

// TestStreamsEndWithTheirKey opens every kind of stream by keys, which are revoked or expire.
func TestStreamsEndWithTheirKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{keys: true, manual: true})
	job := w.newJob()
	w.planned(job)
	world := w.key
	for _, way := range []string{"revoked", "expires"} {
		for _, kind := range []string{"/api/jobs/" + job + "/events", "/api/events", "/ws", "cookie"} {
			o := access.Order{Name: "watcher", Scopes: access.Read}
			if way == "expires" {
				o.For = 3 * time.Second
			}
			k := w.issue(o)
			w.key = k.text
			other := w.openStreamAt("/api/events", "") // the same key
			w.key = world
			kept := w.openStreamAt("/api/events", "") // another's
			over, said := w.watching(kind, job, k.text)
			if way == "revoked" {
				w.revoke(k)
			}
			began := time.Now()
			select {
			case <-over:
			case <-time.After(20 * time.Second):
				t.Fatalf("%s goes on although the key is %s", kind, way)
			}
			if took := time.Since(began); way == "revoked" && took > 5*time.Second {
				t.Errorf("%s ends %v after its key", kind, took)
			}
			if words := said(); !strings.Contains(words, kinds[codeKeyUnknown].title) {
				t.Errorf("%s ends with %q", kind, words)
			}
			for f := range other.frames {
				if f.kind == "problem" {
					break
				}
			}
			w.progress(job, "script", 40)
			for f := range kept.frames {
				if f.kind == "problem" {
					t.Error("another key's stream ends as well")
				}
				if f.kind == "progress" {
					break
				}
			}
			kept.close()
			if a := w.do("GET", "/api/jobs", bearer(k.text), nil); a.status != 401 {
				t.Errorf("the key opens a page still: %d", a.status)
			}
		}
	}
}

// watching opens a stream by a key. The channel is closed when it has ended; then said is its last word.
func (w *world) watching(kind, job, key string) (over <-chan struct{}, said func() string) {
	w.t.Helper()
	done, last := make(chan struct{}), ""
	before := w.key
	defer func() { w.key = before }()
	w.key = key
	if kind == "/ws" {
		c := w.openSocket()
		c.send(`{"action":"subscribe","jobId":"` + job + `"}`)
		go func() {
			defer close(done)
			var err error
			for err == nil {
				_, _, err = c.ws.Read(w.t.Context())
			}
			if websocket.CloseStatus(err) == websocket.StatusPolicyViolation {
				last = err.Error()
			}
		}()
		return done, func() string { return last }
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+w.server.Addr()+kind, nil)
	if kind == "cookie" {
		req, err = http.NewRequestWithContext(w.t.Context(), http.MethodGet, "http://"+w.server.Addr()+"/api/events", nil)
	}
	ok(w.t, err)
	req.Header.Set("Accept", "text/event-stream")
	if kind == "cookie" {
		req.AddCookie(&http.Cookie{Name: sessionCookie, Value: key})
	}
	w.showKey(req.Header)
	res, err := http.DefaultClient.Do(req)
	ok(w.t, err)
	if res.StatusCode != 200 {
		w.t.Fatalf("%s: %d", kind, res.StatusCode)
	}
	go func() {
		defer close(done)
		defer res.Body.Close()
		var all bytes.Buffer
		_, _ = all.ReadFrom(res.Body)
		_, last, _ = strings.Cut(all.String(), "event: problem\ndata: ")
	}()
	return done, func() string { return last }
}

// A key never stands where others read: lines of the log, answers, metrics, records.
func TestAKeyIsShownNowhere(t *testing.T) {
	t.Parallel()
	var lines lockedBuffer
	w := newWorld(t, options{keys: true, config: func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}})
	key, wrong := w.issue(access.Order{Name: "ada", Scopes: access.All}).text, "msb_"+uuid.NewString()
	secrets := []string{key, wrong, w.key}
	var said bytes.Buffer
	keep := func(a answer) { fmt.Fprintln(&said, a.status, string(a.body)); _ = a.header.Write(&said) }
	for _, k := range []string{key, wrong} {
		for _, h := range []map[string]string{bearer(k), {"Cookie": sessionCookie + "=" + k}, {"Authorization": "Bearer  " + k + " "}, {"Authorization": "bearer " + k, "Content-Type": "application/json"}} {
			for _, path := range []string{"/api/jobs", "/api/session", "/api/nothing", "/api/jobs/x", "/metrics", "/api/jobs?limit=x"} {
				for _, method := range []string{"GET", "POST", "DELETE", "BREW"} {
					keep(w.do(method, path, h, strings.NewReader(`{"mode":"diagnostic"}`)))
				}
			}
		}
		a := w.post("/api/session", jsonBody(t, map[string]string{"key": k}), "Authorization", "Bearer "+k)
		a.header.Del("Set-Cookie") // which is for it
		keep(a)
		for _, body := range []map[string]any{{"key": []string{k}}, {"key": k + " "}, {"key": map[string]string{"a": k}}, {"key": strings.Repeat(k, 90)}} {
			keep(w.post("/api/session", jsonBody(t, body)))
		}
	}
	w.objectNet.Cut() // a failure that the log tells of
	keep(w.do("POST", "/api/uploads/tickets", bearer(key), nil))
	metrics := w.want(200, w.get("/metrics"))
	for what, text := range map[string]string{"the lines of the log": lines.String(), "answers": said.String(), "metrics": string(metrics.body)} {
		for _, secret := range secrets {
			if strings.Contains(text, secret) || strings.Contains(text, strings.TrimPrefix(secret, "msb_")) {
				t.Errorf("%s show a key", what)
			}
		}
	}
	if !strings.Contains(lines.String(), "actor=key:ada") || said.Len() < 10_000 {
		t.Errorf("the lines do not say who asked, or little was tried: %d", said.Len())
	}
	for _, topic := range []string{events.TopicJobCommands, events.TopicJobEvents, events.TopicSettings, events.TopicDeadLetters} {
		for _, r := range w.records(topic) {
			for _, secret := range secrets {
				if strings.Contains(fmt.Sprint(r.Key, string(r.Value), r.Headers), secret) {
					t.Errorf("a record on %s shows a key", topic)
				}
			}
		}
	}
}

// lockedBuffer is written and read by several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}
