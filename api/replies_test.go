// Tests of what the job handler's replies make of an answer: one key is one job in
// every process, and what is not known is not claimed.

package api

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

const diagnostic = `{"mode":"diagnostic"}`

// submissions counts the jobs that lie on the log.
func (w *world) submissions() int {
	w.t.Helper()
	n := 0
	for _, r := range w.records(events.TopicJobEvents) {
		if r.Header("ce_type") == "job.submitted" || strings.Contains(string(r.Value), `"event_type":"job.submitted"`) {
			n++
		}
	}
	return n
}

func TestAHundredPostsOfOneKeyAreOneJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, noProjector: true})
	other := w.another()
	var wg sync.WaitGroup
	var mu sync.Mutex
	ids := map[string]int{}
	for i := range 100 {
		at := []*world{w, other}[i%2]
		wg.Go(func() {
			// A busy machine may be too slow for all of them at once: then the same request again is right.
			a := at.post("/api/jobs", diagnostic, "Idempotency-Key", "one")
			for tries := 0; a.status == http.StatusServiceUnavailable && tries < 100; tries++ {
				a = at.post("/api/jobs", diagnostic, "Idempotency-Key", "one")
			}
			mu.Lock()
			defer mu.Unlock()
			var job accepted
			if a.status == http.StatusAccepted {
				a.decode(t, &job)
			}
			ids[job.ID]++
			if !strings.HasPrefix(job.Position, job.ID+":") {
				t.Errorf("answer %d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if n := w.submissions(); len(ids) != 1 || ids[events.JobID(tenant, "/api/jobs", "one")] != 100 || n != 1 {
		t.Errorf("ids %v, %d jobs on the log", ids, n)
	}
}

func TestAKeyIsOneRequestInEveryProcess(t *testing.T) {
	t.Parallel()
	for _, tables := range []bool{true, false} {
		t.Run(map[bool]string{true: "with tables", false: "without tables"}[tables], func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{manual: true})
			other := w.another()
			first := w.submit(diagnostic, "Idempotency-Key", "k")
			if !strings.HasSuffix(first.Position, ":3") { // submitted, planned, scheduled
				t.Errorf("position %s is not that of the job after the command", first.Position)
			}
			w.inTables(first.ID, 3)
			if !tables {
				w.tableNet.Cut()
			}
			for _, at := range []*world{w, other} {
				var p problem
				at.want(422, at.post("/api/jobs", `{"mode":"diagnostic","options":{"work_ms":7}}`, "Idempotency-Key", "k")).decode(t, &p)
				if p.Code != codeKeyConflict || !strings.Contains(p.Detail, first.ID) {
					t.Errorf("problem %+v", p)
				}
				if again := at.submit(` {"mode" : "diagnostic"}`, "Idempotency-Key", "k"); again.ID != first.ID || again.Position != first.Position {
					t.Errorf("repeat %s at %s, want %s at %s", again.ID, again.Position, first.ID, first.Position)
				}
			}
			if n := w.submissions(); n != 1 {
				t.Errorf("%d jobs on the log", n)
			}
		})
	}
}

// A process that got no reply has promised nothing about the key: it neither refuses
// the request that the key belongs to nor answers for the other one.
func TestWithoutAReplyNothingIsClaimed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, noProjector: true})
	first := w.submit(diagnostic, "Idempotency-Key", "k")
	other := w.another()
	other.server.cfg.ReplyTimeout = 50 * time.Millisecond
	w.decider.mute.Store(true)
	const foreign = `{"mode":"diagnostic","options":{"work_ms":7}}`
	if job := other.submit(foreign, "Idempotency-Key", "k"); job.ID != first.ID || job.Status != "queued" || job.Position != first.ID+":1" {
		t.Errorf("without a reply: %+v", job)
	}
	if job := other.submit(diagnostic, "Idempotency-Key", "new"); job.Position != job.ID+":1" {
		t.Errorf("a new job without a reply: position %s", job.Position)
	}
	w.decider.mute.Store(false)
	other.server.cfg.ReplyTimeout = 10 * time.Second
	if again := other.submit(diagnostic, "Idempotency-Key", "k"); again.ID != first.ID || again.Position != first.Position {
		t.Errorf("the request that the key belongs to: %s at %s", again.ID, again.Position)
	}
	other.want(422, other.post("/api/jobs", foreign, "Idempotency-Key", "k"))
}

func TestALateReplyIsStillTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, noProjector: true, config: func(c *Config) { c.ReplyTimeout = 50 * time.Millisecond }})
	w.decider.mute.Store(true)
	job := w.submit(diagnostic)
	w.planned(job.ID)
	known, _ := w.server.accepted.find(tenant, job.ID)
	m := commandMessage(&everybody, job.ID, known.command, time.Now().UTC(), events.JobCancel{})
	w.produce(events.TopicJobReplies, replyTo(m, w.decider.state(job.ID), 1, nil))
	eventually(t, "the submission is confirmed", func() bool { return !w.server.accepted.open(job.ID) })
	if known, _ = w.server.accepted.find(tenant, job.ID); known.version != 3 {
		t.Errorf("confirmed at version %d", known.version)
	}

	// A refused one is forgotten: this process knows of no such job.
	job = w.submit(diagnostic)
	known, _ = w.server.accepted.find(tenant, job.ID)
	m = commandMessage(&everybody, job.ID, known.command, time.Now().UTC(), events.JobCancel{})
	w.produce(events.TopicJobReplies, replyTo(m, aggregates.Job{}, 0, &events.Reason{Code: aggregates.CodeIdempotencyConflict}))
	eventually(t, "the submission is forgotten", func() bool { return !w.server.accepted.has(tenant, job.ID) })
}

func TestRefusalsOfTheJobHandler(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		aggregates.CodeJobUnknown: codeNotFound, aggregates.CodeJobEnded: codeJobEnded, aggregates.CodeNotWaiting: codeNotWaiting,
		aggregates.CodeJobArchived: codeJobArchived, aggregates.CodeIdempotencyConflict: codeKeyConflict, "of_a_newer_handler": codeCommandRefused,
	} {
		if r := refusedCommand("j", events.CommandReplied{Outcome: events.OutcomeRefused, Code: code, Detail: "why"}); r.code != want || r.code != codeNotFound && r.detail != "why" {
			t.Errorf("%s is %+v, want %s", code, r, want)
		}
	}
}
