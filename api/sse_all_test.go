// Tests of streams over cuts: whatever happens to its connections, a client sees every
// event once and in order.

package api

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
)

// openEvents starts a stream of all jobs behind an id.
func (w *world) openEvents(query, lastID string) *client {
	w.t.Helper()
	return w.openStreamAt("/api/events"+query, lastID)
}

// followed is a client over all of its connections.
type followed struct {
	open   func(lastID string) *client
	wants  func(e *eventView) bool
	conn   *client
	lastID string
	seen   []eventView
}

// take reads n events, and cuts the connection behind them.
func (f *followed) take(t *rapid.T, n int) {
	if n == 0 {
		return
	}
	if f.conn == nil {
		f.conn = f.open(f.lastID)
	}
	for range n {
		for {
			x, open := f.conn.next()
			if !open {
				t.Fatalf("the stream ended behind %q", f.lastID)
			}
			if x.kind == "event" {
				f.seen, f.lastID = append(f.seen, x.event), x.id
				break
			}
		}
	}
}

func (f *followed) cut() {
	if f.conn != nil {
		f.conn.close()
		f.conn = nil
	}
}

// happen writes n events of the job to the log; the last one ends it if end says so.
func (w *world) happen(job string, version *int64, n int, end bool) {
	for i := range n {
		*version++
		id := events.NameID(job, fmt.Sprint(*version))
		m := events.Message{ID: id, SchemaVersion: 1, AggregateType: events.AggregateJob, AggregateID: job, Version: *version, OccurredAt: time.Now().UTC(),
			CommandID: "c", CausationID: "c", CorrelationID: "c", Tenant: tenant, Actor: "test",
			Columns: events.Columns{JobID: job, Variant: "sadtalker"}, Data: events.JobCancelRequested{}}
		if *version > 1 {
			m.PrevID = events.NameID(job, fmt.Sprint(*version-1))
		}
		m.SchemaVersion = m.Data.SchemaVersion()
		if *version == 1 {
			m.Data = events.JobSubmitted{}
			m.SchemaVersion = m.Data.SchemaVersion()
		}
		if end && i == n-1 {
			m.Data = events.JobCancelled{}
			m.SchemaVersion = m.Data.SchemaVersion()
		}
		w.produce(events.TopicJobEvents, m)
	}
}

// forgetRing is as if the API had started now.
func (w *world) forgetRing() {
	f := w.server.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range f.ring {
		f.begin[e.at.partition] = max(f.begin[e.at.partition], e.at.offset+1)
	}
	f.ring, f.first = nil, 0
}

// told is what a client that missed nothing has seen of the log since.
func (w *world) told(since int, wants func(*eventView) bool) map[int32][]string {
	out := map[int32][]string{}
	for _, r := range w.records(events.TopicJobEvents)[since:] {
		e, err := readEvent(r)
		ok(w.t, err)
		if wants(e) {
			out[r.Partition] = append(out[r.Partition], e.EventID)
		}
	}
	return out
}

// Clients of one job and of many, cut at any place, with the log, the ring and the
// tables as far as they happen to be, see each event once and in order.
func TestClientsThatAreCutSeeEachEventOnceAndInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		jobs := make([]string, rapid.IntRange(1, 4).Draw(rt, "jobs"))
		versions, ended := make([]int64, len(jobs)), make([]bool, len(jobs))
		ours := func(e *eventView) bool { return slices.Contains(jobs, e.JobID) }
		for i := range jobs {
			jobs[i] = events.NameID("job", fmt.Sprint(round), fmt.Sprint(i))
			w.happen(jobs[i], &versions[i], 1, false)
		}
		for i := range jobs {
			w.inTables(jobs[i], 1)
		}
		start := w.openEvents("?job_id="+strings.Join(jobs, ","), "")
		begun := start.first()
		start.close()
		pending := map[*followed]int{}
		all := &followed{lastID: begun, wants: ours, open: func(id string) *client { return w.openEvents("?job_id="+strings.Join(jobs, ","), id) }}
		first := &followed{wants: func(e *eventView) bool { return e.JobID == jobs[0] }, open: func(id string) *client { return w.openStream(jobs[0], id) }}
		pending[first] = 1
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"happen", "happen", "read", "cut", "forget"}).Draw(rt, "step") {
			case "happen":
				i, n := rapid.IntRange(0, len(jobs)-1).Draw(rt, "job"), rapid.IntRange(1, 3).Draw(rt, "events")
				if ended[i] {
					continue
				}
				ended[i] = i > 0 && rapid.IntRange(0, 9).Draw(rt, "end") == 0
				w.happen(jobs[i], &versions[i], n, ended[i])
				pending[all] += n
				if i == 0 {
					pending[first] += n
				}
			case "read":
				f := rapid.SampledFrom([]*followed{all, first}).Draw(rt, "client")
				n := rapid.IntRange(0, pending[f]).Draw(rt, "taken")
				f.take(rt, n)
				pending[f] -= n
			case "cut":
				rapid.SampledFrom([]*followed{all, first}).Draw(rt, "client").cut()
			case "forget":
				w.forgetRing()
			}
		}
		for f, n := range pending {
			f.take(rt, n)
			f.cut()
		}
		for name, f := range map[string]*followed{"all": all, "one": first} {
			got := map[int32][]string{}
			for i := range f.seen {
				p, _ := parsePosition(f.seen[i].Position)
				got[p.partition] = append(got[p.partition], f.seen[i].EventID)
			}
			want := w.told(0, f.wants)
			if name == "all" { // it began behind the first event of each job
				for p, ids := range want {
					want[p] = slices.DeleteFunc(ids, func(id string) bool {
						return slices.ContainsFunc(jobs, func(j string) bool { return id == events.NameID(j, "1") })
					})
				}
			}
			for p := range int32(2) {
				if !slices.Equal(got[p], want[p]) {
					rt.Fatalf("%s: partition %d: saw %v, want %v", name, p, got[p], want[p])
				}
			}
		}
	})
}

func TestOddStreamsOfAllJobsAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	stream := func(id string) map[string]string {
		h := map[string]string{"Accept": "text/event-stream"}
		if id != "" {
			h["Last-Event-ID"] = id
		}
		return h
	}
	w.want(406, w.get("/api/events"))
	for _, query := range []string{"?type=job.danced", "?job_id=nonsense", "?type=,", "?status=failed"} {
		w.want(400, w.do("GET", "/api/events"+query, stream(""), nil))
	}
	for _, id := range []string{"nonsense!", "AA", "AAAAAA", placeText([]int64{1 << 40, 0})} {
		w.want(400, w.do("GET", "/api/events", stream(id), nil))
	}
	w.tableNet.Cut()
	w.want(503, w.do("GET", "/api/events", stream(""), nil))
	w.openEvents("", placeText([]int64{0, 0})).close() // the log itself says what comes
}

func TestAStreamOfAllJobsIsNarrowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	c := w.openEvents("?type=job.cancelled,progress&variant=sadtalker", "")
	beats := w.openEvents("?type=progress", "")
	c.first()
	beats.first()
	var version int64
	job := events.NameID("narrowed")
	w.happen(job, &version, 3, true)
	if f, _ := c.next(); f.event.Type != "job.cancelled" || f.event.Version != 3 || f.event.JobID != job {
		t.Errorf("frame %+v", f)
	}
	w.progress(job, "script", 10)
	if f, _ := beats.next(); f.kind != "progress" || f.progress.Percent != 10 || f.id != "" {
		t.Errorf("frame %+v", f)
	}
}

// A thousand clients, one in twenty of which has stopped reading: the others see
// everything, and those are cut.
func TestFrozenClientsKeepNoOthersWaiting(t *testing.T) {
	t.Parallel()
	const clients, frozenShare, watchedJobs = 1000, 20, 5
	w := newWorld(t, options{manual: true, config: func(c *Config) { c.MaxStreams = clients + 100; c.WriteTimeout = 2 * time.Second }})
	jobs, versions := make([]string, watchedJobs), make([]int64, watchedJobs)
	for i := range jobs {
		jobs[i] = events.NameID("crowd", fmt.Sprint(i))
		w.happen(jobs[i], &versions[i], 1, false)
		w.inTables(jobs[i], 1)
	}
	var reading sync.WaitGroup
	dialing := make(chan struct{}, 8)
	for i := range clients {
		if i%frozenShare == 0 {
			w.openFrozen(jobs[0])
			continue
		}
		job := jobs[1+i%(watchedJobs-1)]
		if i < frozenShare/2 {
			job = jobs[0] // beside those that are frozen
		}
		reading.Go(func() { w.readWhole(job, 6, dialing) })
	}
	eventually(t, "all streams are open", func() bool { return len(w.server.streams) == clients })
	// More than a frozen client's socket takes, told to all of its job's.
	large := &progressView{JobID: jobs[0], Stage: "script", Attempt: 1, Message: strings.Repeat("x", 64<<10), tenant: tenant}
	crowd := w.server.feed
	eventually(t, "the frozen clients fill up", func() bool {
		crowd.mu.Lock()
		defer crowd.mu.Unlock()
		full := 0
		for sub := range crowd.subs[jobs[0]] {
			if len(sub.queue) <= queueSize/4 && cap(sub.queue) == queueSize {
				sub.queue <- frame{progress: large}
			} else {
				full++
			}
		}
		return full >= clients/frozenShare || len(w.server.streams) < clients
	})
	for i := range jobs {
		w.happen(jobs[i], &versions[i], 5, true)
	}
	reading.Wait()
	eventually(t, "the frozen clients are cut", func() bool { return len(w.server.streams) == 0 })
}

// openFrozen begins a stream that nobody reads.
func (w *world) openFrozen(job string) {
	conn, err := net.Dial("tcp", w.server.Addr())
	ok(w.t, err)
	w.t.Cleanup(func() { _ = conn.Close() })
	ok(w.t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
	_, err = io.WriteString(conn, "GET /api/jobs/"+job+"/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n")
	ok(w.t, err)
}

// readWhole follows a job to its end, over as many connections as that takes, and
// sees each of its n events once and in order.
func (w *world) readWhole(job string, n int64, dialing chan struct{}) {
	lastID, seen := "", int64(0)
	for seen < n {
		dialing <- struct{}{}
		c, err := w.dialStream("/api/jobs/"+job+"/events", lastID)
		<-dialing
		if err != nil && strings.Contains(err.Error(), "503") {
			continue // as it was told: again
		}
		if err != nil {
			w.t.Error(err)
			return
		}
		for f := range c.frames {
			if f.kind != "event" {
				continue
			}
			if f.event.Version != seen+1 {
				w.t.Errorf("version %d behind %d", f.event.Version, seen)
			}
			seen, lastID = f.event.Version, f.id
		}
		c.close()
	}
}
