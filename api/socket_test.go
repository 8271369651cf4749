// Tests of the WebSocket: jobs side by side, faults that stay with their job, and clients
// that are cut.

package api

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/myspinbot/myspinbot/events"
)

// socketClient is a client of the WebSocket.
type socketClient struct {
	w  *world
	ws *websocket.Conn
}

func (w *world) openSocket() *socketClient {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 15*time.Second)
	defer cancel()
	header := http.Header{}
	w.showKey(header)
	if w.tenant != "" {
		header.Set(testTenant, w.tenant)
	}
	ws, res, err := websocket.Dial(ctx, "ws://"+w.server.Addr()+"/ws", &websocket.DialOptions{HTTPHeader: header})
	ok(w.t, err)
	if res.Body != nil {
		_ = res.Body.Close()
	}
	w.t.Cleanup(func() { _ = ws.CloseNow() })
	return &socketClient{w, ws}
}

func (c *socketClient) send(text string) {
	c.w.t.Helper()
	ctx, cancel := context.WithTimeout(c.w.t.Context(), 15*time.Second)
	defer cancel()
	ok(c.w.t, c.ws.Write(ctx, websocket.MessageText, []byte(text)))
}

// said is any of the server's messages.
type said struct {
	socketUpdate
	Code    string `json:"code"`
	Message string `json:"message"`
}

// next is the next message, held against the contract.
func (c *socketClient) next() said {
	c.w.t.Helper()
	ctx, cancel := context.WithTimeout(c.w.t.Context(), 15*time.Second)
	defer cancel()
	_, text, err := c.ws.Read(ctx)
	ok(c.w.t, err)
	var v any
	ok(c.w.t, json.Unmarshal(text, &v))
	var m said
	ok(c.w.t, json.Unmarshal(text, &m))
	name := map[string]string{"update": "SocketUpdate", "error": "SocketFault", "unsubscribed": "SocketLeft"}[m.Type]
	if faults := c.w.server.contract.check(name, v); len(faults) > 0 {
		c.w.t.Errorf("a message is not as the contract says: %v: %s", faults, text)
	}
	return m
}

// closed reads to the end of the connection, and says how it was closed.
func (c *socketClient) closed() websocket.StatusCode {
	c.w.t.Helper()
	ctx, cancel := context.WithTimeout(c.w.t.Context(), 15*time.Second)
	defer cancel()
	for {
		if _, _, err := c.ws.Read(ctx); err != nil {
			return websocket.CloseStatus(err)
		}
	}
}

func TestASocketTellsHowAJobGoesToItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.newJob()
	planned := w.planned(job)
	c := w.openSocket()
	c.send(`{"action":"subscribe","jobId":"` + job + `"}`)
	first := c.next()
	for first.Version < planned {
		first = c.next()
	}
	if first.Type != "update" || first.JobID != job || first.Status != "queued" || first.State != "queued" || len(first.Stages) == 0 || first.Ended {
		t.Errorf("first update %+v", first)
	}
	w.decider.next(job, func(events.Message) events.Payload { return events.TaskAccepted{LeaseMS: 15_000} })
	for m := c.next(); m.Status != "running"; m = c.next() {
		continue
	}
	w.progress(job, "script", 40)
	m := c.next()
	for m.Stages[0].Progress != .4 {
		m = c.next()
	}
	if m.Stages[0].Status != "running" || *m.Stages[0].Message != "working" || m.Progress <= 0 {
		t.Errorf("update in a stage %+v", m)
	}
	last := w.finish(job)
	version, progress := m.Version, m.Progress
	for !m.Ended {
		m = c.next()
		if m.Version < version || m.Progress < progress-.1 {
			t.Errorf("went back from %d (%v) to %+v", version, progress, m)
		}
		version, progress = m.Version, m.Progress
	}
	if m.Version != last || m.Status != "completed" || m.State != "succeeded" || m.Progress != 1 {
		t.Errorf("last update %+v, want version %d", m, last)
	}
	w.inTables(job, last)
	c.send(`{"action":"subscribe","jobId":"` + job + `"}`) // over already: told once
	if m := c.next(); !m.Ended || m.Version != last {
		t.Errorf("afterwards %+v", m)
	}
	if got := c.closed(); got != websocket.StatusNormalClosure { // nothing is left to be told
		t.Errorf("closed with %v", got)
	}
}

func TestABadIDDisturbsNoOtherJobOfASocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, config: func(c *Config) { c.IdleTimeout = time.Minute }})
	good, other := w.newJob(), w.newJob()
	w.planned(good)
	w.planned(other)
	const unknown = "6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"
	c := w.openSocket()
	c.send(`{"action":"subscribe","jobIds":["nonsense","` + good + `","` + unknown + `","` + other + `"]}`)
	codes, seen := map[string]string{}, map[string]bool{}
	for len(codes)+len(seen) < 4 {
		if m := c.next(); m.Type == "error" {
			codes[m.JobID] = m.Code
		} else {
			seen[m.JobID] = true
		}
	}
	if codes["nonsense"] != codeIDInvalid || codes[unknown] != codeNotFound || !seen[good] || !seen[other] {
		t.Errorf("codes %v, updates of %v", codes, seen)
	}
	for _, text := range []string{"{", "[]", `{"action":"subscribe"}`, `{"action":"dance","jobId":"` + good + `"}`, `{"action":"subscribe","job":"x"}`} {
		c.send(text)
		m := c.next()
		for m.Type != "error" {
			m = c.next()
		}
		if m.Code != codeInvalid || m.JobID != "" {
			t.Errorf("%s: %+v", text, m)
		}
	}
	c.send(`{"action":"unsubscribe","jobId":"` + other + `"}`)
	for m := c.next(); m.Type != "unsubscribed" || m.JobID != other; m = c.next() {
		continue
	}
	w.finish(other)
	// The tables going away disturbs none that is followed already.
	w.tableNet.Cut()
	c.send(`{"action":"subscribe","jobId":"` + other + `"}`)
	for m := c.next(); m.Type != "error" || m.Code != codeTablesDown; m = c.next() {
		continue
	}
	last := w.finish(good)
	m := c.next()
	for !m.Ended {
		m = c.next()
	}
	if m.JobID != good || m.Version != last || m.Status != "completed" {
		t.Errorf("last update %+v, want version %d of %s", m, last, good)
	}
}

func TestASocketSaysWhyAJobFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.newJob()
	w.planned(job)
	c := w.openSocket()
	c.send(`{"action":"subscribe","jobId":"` + job + `"}`)
	c.next()
	w.decider.next(job, func(events.Message) events.Payload { return events.TaskAccepted{LeaseMS: 15_000} })
	w.decider.nextFailed(job, events.ClassInvalidInput)
	m := c.next()
	for !m.Ended {
		m = c.next()
	}
	if m.Status != "failed" || m.Error == nil || *m.Error.Class != events.ClassInvalidInput || m.Error.Message != "no" {
		t.Errorf("update %+v", m)
	}
}

func TestOddSocketsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, noProjector: true, config: func(c *Config) { c.MaxStreams = 1; c.IdleTimeout = time.Minute }})
	upgrade := func(more ...string) map[string]string {
		h := map[string]string{"Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	if a := w.want(426, w.get("/ws")); a.header.Get("Upgrade") != "websocket" {
		t.Errorf("headers %v", a.header)
	}
	w.want(426, w.do("GET", "/ws", upgrade("Sec-WebSocket-Version", "8"), nil))
	w.want(400, w.do("GET", "/ws", upgrade("Sec-WebSocket-Key", "short"), nil))
	w.want(405, w.do("POST", "/ws", upgrade(), nil))
	for _, origin := range []string{"https://evil.example", "null", "http://localhost.evil.example"} {
		w.want(403, w.do("GET", "/ws", upgrade("Origin", origin), nil))
	}
	c := w.openSocket()
	eventually(t, "the place is taken", func() bool { return len(w.server.streams) == 1 })
	w.want(503, w.do("GET", "/ws", upgrade("Origin", "http://"+w.server.Addr()), nil))
	c.send(strings.Repeat("x", socketMessage+1))
	if got := c.closed(); got != websocket.StatusMessageTooBig {
		t.Errorf("a large message closed with %v", got)
	}
	eventually(t, "the place is free", func() bool { return len(w.server.streams) == 0 })
}

func TestASlowSocketIsCutAndToldWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.newJob()
	w.planned(job)
	c := w.openSocket()
	c.send(`{"action":"subscribe","jobId":"` + job + `"}`)
	c.next()
	w.server.feed.mu.Lock()
	for sub := range w.server.feed.subs[job] {
		w.server.feed.drop(sub) // as send does with a queue that is full
	}
	w.server.feed.mu.Unlock()
	if got := c.closed(); got != websocket.StatusTryAgainLater {
		t.Errorf("closed with %v", got)
	}
}

func TestAFrozenSocketIsCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, config: func(c *Config) { c.WriteTimeout = 300 * time.Millisecond }})
	job := w.newJob()
	w.planned(job)
	c := w.openSocket()
	c.send(`{"action":"subscribe","jobId":"` + job + `"}`)
	c.next()
	w.decider.next(job, func(events.Message) events.Payload { return events.TaskAccepted{LeaseMS: 15_000} })
	// From here on it reads nothing.
	large := progressView{JobID: job, Stage: "script", Attempt: 1, Message: strings.Repeat("x", 256<<10), tenant: tenant}
	eventually(t, "the connection is cut", func() bool {
		w.server.feed.mu.Lock()
		w.server.feed.progress[job] = map[string]progressView{"script": large}
		w.server.feed.send(job, frame{progress: &large})
		w.server.feed.mu.Unlock()
		return len(w.server.streams) == 0
	})
}

func TestSocketsEndWithTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, noProjector: true, config: func(c *Config) { c.IdleTimeout = time.Minute }})
	c := w.openSocket()
	c.send(`{}`)
	c.next()
	w.stop()
	if got := c.closed(); got != websocket.StatusGoingAway {
		t.Errorf("closed with %v", got)
	}
	err := <-w.stopped
	w.stopped <- err
	if err != nil {
		t.Error("Run:", err)
	}
}

// The user's page shows what the server says and understands.
func TestTheSocketExampleOfTheUsersPageWorks(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/user.md")
	ok(t, err)
	_, section, _ := strings.Cut(string(page), "## Watching")
	examples := regexp.MustCompile("(?s)```json\n(.*?)\n```").FindAllStringSubmatch(section, 2)
	if len(examples) != 2 {
		t.Fatalf("the page shows %d messages", len(examples))
	}
	w := newWorld(t, options{manual: true})
	job := w.newJob()
	w.planned(job)
	c := w.openSocket()
	c.send(strings.ReplaceAll(examples[0][1], "JOB", job))
	got := map[string]any{}
	b, err := json.Marshal(c.next().socketUpdate)
	ok(t, err)
	ok(t, json.Unmarshal(b, &got))
	var shown map[string]any
	ok(t, json.Unmarshal([]byte(examples[1][1]), &shown))
	for name := range shown {
		if _, there := got[name]; !there {
			t.Errorf("the page shows %q, which no update has", name)
		}
	}
	if got["type"] != "update" || got["jobId"] != job {
		t.Errorf("update %s", b)
	}
	if a := w.get("/api/events"); a.status != http.StatusNotAcceptable {
		t.Errorf("a stream without Accept: %d", a.status)
	}
}
