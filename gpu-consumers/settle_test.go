// When an attempt of another worker counts as over.

package gpu

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// awaitingEnd is a settler on a log of its own, with a network that can be cut.
type awaitingEnd struct {
	t       *testing.T
	log     *eventlog.Log // the other worker's
	net     *eventlogtest.Network
	settler *settler
}

func newAwaitingEnd(t *testing.T) *awaitingEnd {
	t.Helper()
	_, cfg := eventlogtest.Fake(t)
	w := &awaitingEnd{t: t, log: eventlogtest.Open(t, cfg), net: &eventlogtest.Network{}}
	cfg.Dial = w.net.Dial
	ours, err := eventlog.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ours.Close)
	w.settler = &settler{log: ours, lease: time.Second, warn: func(string, ...any) {}}
	return w
}

// say writes what the other worker says of its attempt.
func (w *awaitingEnd) say(topic, stage string, data events.Payload) {
	w.t.Helper()
	now := time.Now().UTC()
	r, err := record(topic, events.Message{
		ID: events.EventID(now, stage+data.EventType(), 0), AggregateType: events.AggregateJob, AggregateID: benchJob, OccurredAt: now,
		CommandID: "c", CausationID: "c", CorrelationID: "c", Tenant: "default", Actor: "w2",
		Columns: events.Columns{JobID: benchJob, Stage: stage, Task: benchTask.Task, Attempt: 1, Worker: "w2"}, Data: data,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.log.Produce(w.t.Context(), r); err != nil {
		w.t.Fatal(err)
	}
}

// settled waits for the end of the stage's first attempt in the background.
func (w *awaitingEnd) settled(ctx context.Context, stage string, lease time.Duration) <-chan error {
	done := make(chan error, 1)
	m := mark{events.AttemptID(benchJob, stage, 1), benchJob, time.Now(), lease}
	go func() { done <- w.settler.settled(ctx, eventlog.Accepted{Partition: 1, By: "w2", Attempt: m.String()}) }()
	return done
}

func (w *awaitingEnd) watched() {
	w.t.Helper()
	eventlogtest.Eventually(w.t, patience, "the reader is current", func() bool {
		w.settler.mu.Lock()
		defer w.settler.mu.Unlock()
		return w.settler.current
	})
}

func (w *awaitingEnd) want(done <-chan error) {
	w.t.Helper()
	select {
	case err := <-done:
		if err != nil {
			w.t.Fatalf("settled = %v", err)
		}
	case <-time.After(patience):
		w.t.Fatal("never settled")
	}
}

func TestAnEndIsFoundInThePastAndSeenWhenItComes(t *testing.T) {
	t.Parallel()
	w := newAwaitingEnd(t)
	w.say(events.TopicTaskEvents, "past", events.TaskAccepted{})
	w.say(events.TopicTaskEvents, "past", events.TaskCancelled{})
	past, coming := w.settled(t.Context(), "past", time.Hour), w.settled(t.Context(), "coming", time.Hour)
	w.want(past)
	w.watched()
	w.say(events.TopicTaskEvents, "coming", events.TaskAccepted{})
	w.say(events.TopicTaskEvents, "another", events.TaskSucceeded{})
	select {
	case err := <-coming:
		t.Fatalf("it counted as over while it ran: %v", err)
	default:
	}
	late := w.settled(t.Context(), "past", time.Hour) // with the reader under way
	w.want(late)
	w.say(events.TopicTaskEvents, "coming", events.TaskSucceeded{})
	w.want(coming)
	w.settler.mu.Lock()
	defer w.settler.mu.Unlock()
	if w.settler.stop != nil || len(w.settler.waiting) != 0 {
		t.Error("the reader goes on with nobody waiting")
	}
}

func TestASilentLeaseIsTheEnd(t *testing.T) {
	t.Parallel()
	w := newAwaitingEnd(t)
	const lease = 400 * time.Millisecond
	began := time.Now()
	w.want(w.settled(t.Context(), "silent", lease))
	if took := time.Since(began); took < lease {
		t.Errorf("a lease of %v was watched for %v", lease, took)
	}
	// An attempt in the form of an older version: without job or lease.
	if err := w.settler.settled(t.Context(), eventlog.Accepted{Attempt: events.AttemptID(benchJob, "old", 1)}); err != nil {
		t.Error(err)
	}
}

func TestBeatsKeepAPartitionClosed(t *testing.T) {
	t.Parallel()
	w := newAwaitingEnd(t)
	const lease = 500 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := w.settled(ctx, "beating", lease)
	w.watched()
	beat, enough := time.NewTicker(lease/10), time.After(3*lease)
	defer beat.Stop()
	for beating := true; beating; {
		select {
		case err := <-done:
			t.Fatalf("it counted as over between two beats: %v", err)
		case <-beat.C:
			w.say(events.TopicTaskProgress, "beating", events.TaskProgress{})
		case <-enough:
			beating = false
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("settled = %v", err)
	}
}

func TestSilenceThatIsNotWatchedDoesNotCount(t *testing.T) {
	t.Parallel()
	s := &settler{}
	a := &awaited{mark: mark{lease: 10 * time.Second}}
	const step = 250 * time.Millisecond
	for range 100 {
		if s.wait(a, step, step) {
			t.Fatal("time in which nothing was read counted")
		}
	}
	s.current = true
	for i := range 39 {
		if s.wait(a, step, step) {
			t.Fatalf("enough after %d steps", i)
		}
	}
	if s.wait(a, time.Minute, step) || a.silent != 0 {
		t.Fatal("time in which this process stood still counted")
	}
	for range 39 {
		s.wait(a, step, step)
	}
	s.current = false
	s.wait(a, step, step)
	s.current = true
	for range 39 {
		if s.wait(a, step, step) {
			t.Fatal("an interruption did not start the lease anew")
		}
	}
	if !s.wait(a, step, step) {
		t.Error("a watched lease was not enough")
	}
}

func TestMarksAreReadBack(t *testing.T) {
	t.Parallel()
	m := mark{"attempt", "job", time.UnixMilli(1_700_000_000_123), 15 * time.Second}
	if got := parseMark(m.String(), time.Hour); got != m {
		t.Errorf("%q was read as %+v", m.String(), got)
	}
	for _, text := range []string{"attempt", "attempt job x 5", "attempt job 5 0", "attempt job"} {
		if got := parseMark(text, time.Hour); got != (mark{attempt: "attempt", lease: time.Hour}) {
			t.Errorf("%q was read as %+v", text, got)
		}
	}
	if got := parseMark("", time.Hour); got != (mark{lease: time.Hour}) {
		t.Errorf("nothing was read as %+v", got)
	}
}

// Through a worker: its predecessor's attempt keeps the partition closed until that
// attempt's end is reported, here by the one that told what was left undone.
func TestAKilledWorkersPartitionOpensAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t, engineOf(func(context.Context, *Attempt) (*Output, error) { return &Output{Engine: "test"}, nil }))
	b.acceptAndDie(b.send("render", events.TaskRun{}))
	b.start()
	b.send("next", events.TaskRun{})
	b.await("task.succeeded", "next")
	if len(b.of("task.failed", "render")) != 1 {
		t.Errorf("the interrupted attempt was reported %d times", len(b.of("task.failed", "render")))
	}
}
