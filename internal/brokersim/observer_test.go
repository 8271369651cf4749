//go:build synctests

// The observer: it reads everything that is committed, as it comes, over a network
// to which nothing happens.

package brokersim_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/handlers"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/invariants"
)

// seen is what the observer has read.
type seen struct {
	mu      sync.Mutex
	records map[string][]eventlog.Record
	jobs    map[string]aggregates.Job
	next    eventlog.Offsets
	grown   chan struct{} // closed and replaced with every batch
}

func newSeen() *seen {
	return &seen{records: map[string][]eventlog.Record{}, jobs: map[string]aggregates.Job{}, next: eventlog.Offsets{}, grown: make(chan struct{})}
}

// observed are the topics that the invariants are about.
func observed() []string {
	topics := []string{
		events.TopicJobCommands, events.TopicJobEvents, events.TopicJobReplies, events.TopicJobIndex, events.TopicTaskEvents,
		events.TopicTaskControl, events.TopicProfileCommands, events.TopicProfileEvents, events.TopicDeadLetters,
	}
	for _, lane := range events.Lanes() {
		topics = append(topics, events.LaneTopic(lane), events.LaneBatchTopic(lane))
	}
	return topics
}

// observe reads until ctx ends.
func (w *world) observe(ctx context.Context) {
	s := w.seen
	for _, topic := range observed() {
		s.records[topic] = nil
	}
	err := w.log.Tail(ctx, w.log.Whole(observed()...), func(b eventlog.Batch) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, r := range b.Records {
			s.records[r.Topic] = append(s.records[r.Topic], r)
			if r.Topic == events.TopicJobEvents {
				w.fold(r)
			}
		}
		maps.Copy(s.next, b.Next)
		close(s.grown)
		s.grown = make(chan struct{})
		return nil
	}, nil)
	if err != nil {
		w.fail("the observer ended: %v", err)
	}
}

func (w *world) fold(r eventlog.Record) {
	m, err := events.Decode(r.Value)
	if err != nil {
		w.fail("%s offset %d: %v", r.At(), r.Offset, err)
		return
	}
	j, err := w.seen.jobs[r.Key].Apply(m)
	if err != nil {
		w.fail("%s offset %d: %v", r.At(), r.Offset, err)
		return
	}
	w.seen.jobs[r.Key] = j
}

// await waits until what was seen satisfies ok, or ctx ends.
func (w *world) await(ctx context.Context, ok func(s *seen) bool) bool {
	for {
		w.seen.mu.Lock()
		done, grown := ok(w.seen), w.seen.grown
		w.seen.mu.Unlock()
		if done {
			return true
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return false
		}
	}
}

// live counts the jobs that have begun and not ended.
func (s *seen) live() int {
	n := 0
	for _, j := range s.jobs {
		if !j.Terminal() {
			n++
		}
	}
	return n
}

// awaitEnd waits until every job has ended.
func (w *world) awaitEnd(ctx context.Context) {
	if w.await(ctx, func(s *seen) bool { return len(s.jobs) == len(w.plan.jobs) && s.live() == 0 }) {
		return
	}
	w.seen.mu.Lock()
	defer w.seen.mu.Unlock()
	w.fail("%d of %d jobs exist, %d of them have not ended", len(w.seen.jobs), len(w.plan.jobs), w.seen.live())
	for _, id := range slices.Sorted(maps.Keys(w.seen.jobs)) {
		if j := w.seen.jobs[id]; !j.Terminal() {
			w.note("%s is %s at version %d: %+v", id, j.State, j.Chain.Version, j.Stages)
		}
	}
}

// catchUp waits until everything that is committed now has been seen.
func (w *world) catchUp(ctx context.Context) {
	ranges, err := w.log.Ranges(ctx, observed()...)
	if err != nil {
		w.fail("%v", err)
		return
	}
	caughtUp := w.await(ctx, func(s *seen) bool {
		for tp, r := range ranges {
			if r.Stable > r.Start && s.next[tp] < r.Stable {
				return false
			}
		}
		return true
	})
	if !caughtUp {
		w.fail("the observer did not catch up")
	}
}

// check holds the history to the promises.
func (w *world) check() {
	s := w.seen
	s.mu.Lock()
	defer s.mu.Unlock()
	told := map[string]string{}
	for _, r := range s.records[events.TopicJobReplies] {
		if m, err := events.Decode(r.Value); err == nil {
			if d, ok := m.Data.(events.CommandReplied); ok && told[m.CommandID] == "" {
				told[m.CommandID] = d.Outcome
			}
		}
	}
	w.mu.Lock()
	calls := slices.Clone(w.calls)
	w.mu.Unlock()
	for i, c := range calls {
		if outcome := told[c.CommandID]; outcome != "" {
			calls[i].Outcome = outcome
		}
	}
	if n := len(s.records[events.TopicDeadLetters]); n > 0 {
		w.fail("%d dead letters, the first is %s", n, s.records[events.TopicDeadLetters][0].Value)
	}
	for _, j := range s.jobs {
		w.count("job " + j.State)
	}
	if w.plan.hours {
		w.checkWaits(s.records[events.TopicJobEvents])
	}
	p := w.plan.policy
	violations := invariants.Check(invariants.History{
		Records: s.records, Calls: calls, Settled: true,
		// The shortest back-off, after a lost lease, is a quarter of the usual one.
		Limits: invariants.Limits{MaxAttempts: p.MaxAttempts, BackOff: p.BackOff / 4, Partitions: w.plan.partitions},
	})
	for _, v := range violations {
		w.fail("%v", v)
	}
}

// checkState holds what the handlers know, and what a successor of them would
// recover, to the fold of everything, at a moment when nothing happens. Handlers may
// be on their way to such a moment, so that only what stays wrong is wrong.
func (w *world) checkState(ctx context.Context) {
	wrong := ""
	for range 45 { // a member that died while it joined holds the others up for a minute
		before := w.quiet(ctx)
		if !pauseFor(ctx, 2*time.Second) {
			break // which has been told
		}
		if w.quiet(ctx) != before {
			continue
		}
		recovered, err := w.recover(ctx)
		known := w.known()
		if w.quiet(ctx) != before {
			continue
		}
		if err == nil && recovered == before.live && known == before.live {
			w.count("state compared")
			return
		}
		wrong = fmt.Sprintf("the log has %d live jobs, the handlers know %d, a successor would know %d (%v)", before.live, known, recovered, err)
		w.note("not yet: %s", wrong)
	}
	if wrong != "" {
		w.fail("%s", wrong)
	}
}

// moment tells whether anything has happened.
type moment struct{ facts, live int }

func (w *world) quiet(ctx context.Context) moment {
	w.catchUp(ctx)
	w.seen.mu.Lock()
	defer w.seen.mu.Unlock()
	return moment{len(w.seen.records[events.TopicJobEvents]), w.seen.live()}
}

// recover counts the live jobs that a successor of all handlers would know.
func (w *world) recover(ctx context.Context) (int, error) {
	core, err := handlers.NewCore(handlers.CoreConfig{Lanes: map[string]int{events.LaneScript: 1}, Replay: w.log.Replay, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return 0, err
	}
	_, meta, err := w.log.FetchCommitted(ctx, handlers.Group)
	for p := range w.plan.partitions {
		if err != nil {
			break
		}
		n := int32(p) //nolint:gosec // up to 3
		err = core.Recover(ctx, n, meta[eventlog.TopicPartition{Topic: events.TopicJobCommands, Partition: n}])
	}
	return core.Live(), err
}

// known counts the live jobs that the handlers know.
func (w *world) known() int {
	n := 0
	for _, p := range w.all() {
		if l := p.newest(); l.live.Load() != nil && l.running() {
			n += l.live.Load().Live()
		}
	}
	return n
}
