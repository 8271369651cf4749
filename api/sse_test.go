// Tests of live streams: every event once and in order, over reconnects and outages.

package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// client reads one stream.
type client struct {
	w      *world
	res    *http.Response
	frames chan received
	begins chan string // the first id that brings no event
	close  context.CancelFunc
}

type received struct {
	id, kind string
	event    eventView
	progress progressView
}

// openStream starts a job's stream behind an id; the test fails unless it begins.
func (w *world) openStream(job, lastID string) *client {
	w.t.Helper()
	return w.openStreamAt("/api/jobs/"+job+"/events", lastID)
}

func (w *world) openStreamAt(path, lastID string) *client {
	w.t.Helper()
	c, err := w.dialStream(path, lastID)
	ok(w.t, err)
	w.t.Cleanup(c.close)
	return c
}

// dialStream starts a stream for whoever may not fail the test.
func (w *world) dialStream(path, lastID string) (*client, error) {
	ctx, cancel := context.WithCancel(context.Background())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.server.Addr()+path, nil)
	if err != nil {
		cancel()
		return nil, err
	}
	req.Header.Set("Accept", "text/event-stream")
	w.showKey(req.Header)
	if w.tenant != "" {
		req.Header.Set(testTenant, w.tenant)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		cancel()
		return nil, err
	}
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		cancel()
		return nil, fmt.Errorf("stream: %d %s", res.StatusCode, b)
	}
	c := &client{w: w, res: res, frames: make(chan received, 1000), begins: make(chan string, 1), close: cancel}
	go c.read()
	return c, nil
}

// first is the id that the stream of all jobs begins with.
func (c *client) first() string {
	c.w.t.Helper()
	select {
	case id := <-c.begins:
		return id
	case <-time.After(15 * time.Second):
		c.w.t.Fatal("the stream has not begun")
	}
	return ""
}

func (c *client) read() {
	defer close(c.frames)
	defer c.res.Body.Close()
	var f received
	lines := bufio.NewScanner(c.res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch field {
		case "": // a blank line ends a frame
			if f.kind != "" {
				c.frames <- f
			} else if f.id != "" {
				select {
				case c.begins <- f.id:
				default:
				}
			}
			f = received{}
		case "id":
			f.id = value
		case "event":
			f.kind = value
		case "data":
			var v any
			if json.Unmarshal([]byte(value), &v) != nil {
				return // the stream was cut within a frame
			}
			name := map[string]string{"event": "Event", "progress": "Progress", "problem": "Problem"}[f.kind]
			if faults := c.w.server.contract.check(name, v); len(faults) > 0 {
				c.w.t.Errorf("a frame is not as the contract says: %v: %s", faults, value)
			}
			if f.kind == "event" {
				_ = json.Unmarshal([]byte(value), &f.event)
			} else {
				_ = json.Unmarshal([]byte(value), &f.progress)
			}
		}
	}
}

// next is the next frame; ok is false at the end of the stream.
func (c *client) next() (received, bool) {
	c.w.t.Helper()
	select {
	case f, ok := <-c.frames:
		return f, ok
	case <-time.After(15 * time.Second):
		c.w.t.Fatal("no frame came")
	}
	return received{}, false
}

// versions reads n events, or to the end.
func (c *client) versions(n int) (versions []int64, last string) {
	c.w.t.Helper()
	for n <= 0 || len(versions) < n {
		f, open := c.next()
		if !open {
			return versions, last
		}
		if f.kind == "event" {
			versions, last = append(versions, f.event.Version), f.id
		}
	}
	return versions, last
}

func wantVersions(t *testing.T, got []int64, from, to int64) {
	t.Helper()
	for i, v := range got {
		if v != from+int64(i) {
			t.Fatalf("versions %v, want %d to %d, each once", got, from, to)
		}
	}
	if len(got) == 0 || got[len(got)-1] != to {
		t.Fatalf("versions %v, want %d to %d", got, from, to)
	}
}

func (w *world) newJob() string {
	w.t.Helper()
	return w.submit(`{"variant":"sadtalker","script":"hello","portrait":"` + w.portrait() + `"}`).ID
}

// planned waits until the job's first stage is scheduled, and returns its version.
func (w *world) planned(job string) int64 {
	w.t.Helper()
	eventually(w.t, "the job is planned", func() bool { return len(w.decider.state(job).Stages) > 0 })
	return w.decider.state(job).Chain.Version
}

func (w *world) finish(job string) int64 {
	w.t.Helper()
	for range 50 {
		if w.decider.state(job).Terminal() {
			break
		}
		w.decider.step(job)
	}
	return w.decider.state(job).Chain.Version
}

func (w *world) inTables(job string, version int64) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	ok(w.t, w.server.cfg.Tables.WaitFor(ctx, tenant, job, version))
}

func TestAStreamBeginsBeforeTheTablesHaveTheJobAndEndsWithIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, noProjector: true})
	job := w.newJob()
	c := w.openStream(job, "")
	planned := w.planned(job)
	got, _ := c.versions(int(planned))
	wantVersions(t, got, 1, planned)
	w.progress(job, "script", 40)
	if f, _ := c.next(); f.kind != "progress" || f.id != "" || f.progress.Percent != 40 || f.progress.Stage != "script" {
		t.Errorf("frame %+v, want progress without id", f)
	}
	last := w.finish(job)
	got, _ = c.versions(0)
	wantVersions(t, got, planned+1, last)
}

func (w *world) progress(job, stage string, percent float64) {
	w.t.Helper()
	w.produce(events.TopicTaskProgress, events.Message{ID: "p", SchemaVersion: 1, AggregateType: events.AggregateJob, AggregateID: job, OccurredAt: time.Now().UTC(),
		CommandID: "p", CausationID: "p", CorrelationID: "p", Tenant: tenant, Actor: "worker-1",
		Columns: events.Columns{JobID: job, Stage: stage, Attempt: 1}, Data: events.TaskProgress{Percent: percent, Message: "working"}})
}

func TestAClientThatComesBackMissesNothingAndSeesNothingTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.newJob()
	w.planned(job)
	seen, lastID := int64(0), ""
	// Cut after a few events each time, while the job goes on.
	for !w.decider.state(job).Terminal() {
		w.decider.step(job)
		c := w.openStream(job, lastID)
		got, id := c.versions(2)
		wantVersions(t, got, seen+1, seen+2)
		seen, lastID = seen+2, id
		c.close()
	}
	last := w.decider.state(job).Chain.Version
	got, id := w.openStream(job, lastID).versions(0)
	wantVersions(t, got, seen+1, last)

	// Whoever has seen the end is told to stop, from the ring and from the tables.
	w.inTables(job, last)
	for range 2 {
		a := w.do(http.MethodGet, "/api/jobs/"+job+"/events", map[string]string{"Accept": "text/event-stream", "Last-Event-ID": id}, nil)
		if a.status != http.StatusNoContent {
			t.Errorf("after the end: %d %s", a.status, a.body)
		}
		w.server.feed.mu.Lock()
		for p, o := range w.server.feed.begin { // as after many other jobs
			w.server.feed.begin[p] = max(o, 1_000)
		}
		w.server.feed.ring = nil
		w.server.feed.mu.Unlock()
	}
}

func TestAStreamJoinsTablesLogAndRing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.newJob()
	planned := w.planned(job)
	w.inTables(job, planned)
	w.stopProjector()
	w.stopProjector = nil
	w.decider.step(job)
	gap := w.decider.state(job).Chain.Version
	eventually(t, "the ring has the events", func() bool { return w.held(job) == int(gap) })

	// The tables end at planned; forget the ring up to gap, as an API does that starts now.
	w.server.feed.mu.Lock()
	for _, e := range w.server.feed.ring {
		w.server.feed.begin[e.at.partition] = e.at.offset + 1
	}
	w.server.feed.ring = nil
	w.server.feed.mu.Unlock()
	w.decider.step(job)
	c := w.openStream(job, "")
	last := w.finish(job)
	got, _ := c.versions(0)
	wantVersions(t, got, 1, last)
}

// held is how many events of the job the ring has.
func (w *world) held(job string) int {
	w.server.feed.mu.Lock()
	defer w.server.feed.mu.Unlock()
	n := 0
	for _, e := range w.server.feed.ring {
		if e.JobID == job {
			n++
		}
	}
	return n
}

func TestAStreamResumesWithTheTablesDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.newJob()
	planned := w.planned(job)
	c := w.openStream(job, "")
	_, id := c.versions(2)
	c.close()
	w.tableNet.Cut()
	// From the ring.
	got, _ := w.openStream(job, id).versions(int(planned) - 2)
	wantVersions(t, got, 3, planned)
	// From the log itself.
	w.server.feed.mu.Lock()
	for _, e := range w.server.feed.ring {
		w.server.feed.begin[e.at.partition] = e.at.offset + 1
	}
	w.server.feed.ring = nil
	w.server.feed.mu.Unlock()
	got, _ = w.openStream(job, id).versions(int(planned) - 2)
	wantVersions(t, got, 3, planned)
	// Without an id the beginning is unknown.
	a := w.do(http.MethodGet, "/api/jobs/"+job+"/events", map[string]string{"Accept": "text/event-stream"}, nil)
	if w.want(503, a); !strings.Contains(string(a.body), codeTablesDown) {
		t.Errorf("problem %s", a.body)
	}
}

func TestOddStreamsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, config: func(c *Config) { c.MaxStreams = 1 }})
	job := w.newJob()
	w.planned(job)
	stream := map[string]string{"Accept": "text/event-stream"}
	w.want(404, w.do("GET", "/api/jobs/6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d/events", stream, nil))
	w.want(422, w.do("GET", "/api/jobs/nonsense/events", stream, nil))
	for _, id := range []string{"nonsense", "7:1", "-1:2", "0:x"} {
		w.want(400, w.do("GET", "/api/jobs/"+job+"/events", map[string]string{"Accept": "text/event-stream", "Last-Event-ID": id}, nil))
	}
	c := w.openStream(job, "")
	w.want(503, w.do("GET", "/api/jobs/"+job+"/events", stream, nil))
	c.close()
	eventually(t, "the place is free again", func() bool {
		w.progress(job, "script", 1) // the server notices by writing
		return len(w.server.streams) == 0
	})
}

func TestStreamsEndWithTheServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.newJob()
	c := w.openStream(job, "")
	c.versions(int(w.planned(job)))
	begin := time.Now()
	w.stop()
	if f, open := c.next(); open {
		t.Errorf("a frame came after the stop: %+v", f)
	}
	err := <-w.stopped
	w.stopped <- err
	if took := time.Since(begin); err != nil || took > 2*time.Second {
		t.Errorf("stop took %v, error %v", took, err)
	}
}

func TestAClientThatReadsNothingIsCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, config: func(c *Config) { c.WriteTimeout = 300 * time.Millisecond }})
	job := w.newJob()
	w.planned(job)
	conn, err := net.Dial("tcp", w.server.Addr())
	ok(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "GET /api/jobs/"+job+"/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
	ok(t, err)
	eventually(t, "the stream is open", func() bool { return len(w.server.streams) == 1 })
	large := &progressView{JobID: job, Message: strings.Repeat("x", 256<<10), tenant: tenant}
	eventually(t, "the stream is cut", func() bool {
		w.server.feed.mu.Lock()
		defer w.server.feed.mu.Unlock()
		w.server.feed.send(job, frame{progress: large})
		return len(w.server.streams) == 0
	})
}

func TestAQuietStreamOutlivesTheWriteTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, config: func(c *Config) { c.WriteTimeout = 200 * time.Millisecond }})
	job := w.newJob()
	c := w.openStream(job, "")
	planned := w.planned(job)
	c.versions(int(planned))
	<-time.After(600 * time.Millisecond) // nothing is written for three time-outs
	last := w.finish(job)
	got, _ := c.versions(0)
	wantVersions(t, got, planned+1, last)
}
