// One session of a transactional group member, which runner and lanes share: from
// joining the group to leaving it, or to the first trouble that only a new session
// heals.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// errSession is a trouble that a new session may heal.
type errSession struct{ error }

func (e errSession) Unwrap() error { return e.error }

// resumeFunc lifts the positions of inputs that have no committed one, from the
// starts of their partitions.
type resumeFunc func(context.Context, Offsets) error

type member struct {
	log     *Log
	group   string
	cl      *kgo.Client
	v2      bool        // transactions as KIP-890 has them
	offsets *kgo.Client // commits positions
	resume  resumeFunc  // or nil
	waker   *waker      // interrupts poll
	set     setFunc     // which of the inputs belong together
	early   []Record    // inputs for the next poll
	seen    Offsets     // if not nil, behind everything polled of the assignment, markers too

	mu       sync.Mutex
	fetched  owned // of an assignment in the making
	assigned owned // nil between two assignments
	changed  bool  // since poll last looked
}

// setFunc names the set of co-partitioned inputs that a topic is one of.
type setFunc func(topic string) string

// owned is what a member has been given: of each set of inputs the partition numbers.
type owned map[string]map[int32]*committed

// each calls fn with everything in it.
func (o owned) each(fn func(*committed)) {
	for _, parts := range o {
		for _, c := range parts {
			fn(c)
		}
	}
}

// join makes a session. The waker outlives it and belongs to the caller.
func (l *Log) join(ctx context.Context, group string, topics []string, set setFunc, w *waker, resume resumeFunc, more ...kgo.Opt) (*member, error) {
	m := &member{log: l, group: group, set: set, waker: w, resume: resume}
	self := l.cfg.Instance
	opts := append(l.member(group, self, topics),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(ctx context.Context, _ *kgo.Client, parts map[string][]int32) {
			if len(parts) == 0 {
				m.onNothing()
				return
			}
			l.fenceDead(ctx, group, self)
		}),
		kgo.OnPartitionsRevoked(m.onRevoked),
		kgo.OnPartitionsLost(m.onRevoked),
		kgo.OnOffsetsFetched(m.onFetched),
		kgo.AdjustFetchOffsetsFn(m.onAdjust),
	)
	var err error
	if m.cl, err = l.client(append(opts, more...)...); err != nil {
		return nil, fmt.Errorf("cannot make the client of group %q: %w", group, err)
	}
	// At once: it ends what a predecessor of this name left open. Otherwise the
	// group's offsets stay unstable, and nothing is assigned, until that times out.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, _, err = m.cl.ProducerID(ctx); err != nil {
		err = fmt.Errorf("cannot get a producer id: %w", unavailable(err))
	} else {
		m.v2, err = l.transactionsV2(ctx)
	}
	if err == nil {
		m.offsets, err = l.offsetsClient(m.v2)
	}
	if err != nil {
		m.cl.Close()
		return nil, m.trouble(err)
	}
	return m, nil
}

// close ends the session. A member that leaves gives its partitions away at once;
// one that does not keeps them until its session times out, for a successor of its name.
func (m *member) close(leave bool) {
	m.cl.AllowRebalance()
	if leave {
		m.log.leave(m.group, m.log.cfg.Instance, m.cl)
	}
	m.cl.Close()
	m.offsets.Close()
}

func (m *member) onRevoked(context.Context, *kgo.Client, map[string][]int32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.assigned, m.changed = nil, true
}

// onNothing ends a rebalance that has left no partition to this member. No offsets
// are fetched then, so nothing else would say that what it knew is another's now.
func (m *member) onNothing() {
	m.mu.Lock()
	m.assigned, m.changed = make(owned), true
	m.mu.Unlock()
	m.waker.wake()
}

func (m *member) onFetched(_ context.Context, _ *kgo.Client, resp *kmsg.OffsetFetchResponse) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fetched = m.log.committedOffsets(resp, m.set)
	return nil
}

// onAdjust follows onFetched; here the assignment is complete. It gives the client
// an exact offset for every input: those that it had to look up would join the
// others' fetches only when one of these comes back empty-handed.
func (m *member) onAdjust(ctx context.Context, _ map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	m.mu.Lock()
	fetched := m.fetched
	m.mu.Unlock()
	starts, err := m.starts(ctx, fetched)
	if err != nil {
		return nil, err
	}
	offsets := make(map[string]map[int32]kgo.Offset)
	fetched.each(func(c *committed) {
		for tp, o := range c.offsets {
			if o < 0 {
				o = starts[tp]
			}
			name := m.log.cfg.Prefix + tp.Topic
			if offsets[name] == nil {
				offsets[name] = make(map[int32]kgo.Offset)
			}
			offsets[name][tp.Partition] = kgo.NewOffset().At(o)
		}
	})
	m.mu.Lock()
	m.assigned, m.changed = fetched, true
	m.mu.Unlock()
	m.waker.wake() // state is recovered also where no input waits: clocks need it
	return offsets, nil
}

// starts finds where to begin the inputs without a committed offset.
func (m *member) starts(ctx context.Context, fetched owned) (Offsets, error) {
	from := make(Offsets)
	fetched.each(func(c *committed) {
		for tp, o := range c.offsets {
			if o < 0 {
				from[tp] = 0
			}
		}
	})
	if len(from) == 0 {
		return from, nil
	}
	ranges, err := m.log.Ranges(ctx, from.topics()...)
	if err != nil {
		return nil, err
	}
	for tp := range from {
		from[tp] = ranges[tp].Start
	}
	if m.resume != nil {
		err = m.resume(ctx, from)
	}
	return from, err
}

// assignment is the outcome of a rebalance.
type assignment struct{ owned owned } // nil: between two

// poll waits for inputs, a wake or a rebalance. After a rebalance it returns the new
// assignment and no inputs: those are for the next poll. Until the next call of
// AllowRebalance none begins.
func (m *member) poll(ctx context.Context, most int) ([]Record, *assignment, error) {
	if len(m.early) > 0 {
		m.waker.wake()
	}
	fetches := m.fetch(ctx, most)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err := m.inputError(ctx, fetches); err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	changed, owned := m.changed, m.assigned
	m.changed = false
	m.mu.Unlock()
	if changed {
		clear(m.seen)
		m.early = m.records(fetches) // what was there before is fetched again, if it is still ours
		return nil, &assignment{owned}, nil
	}
	in := append(m.early, m.records(fetches)...)
	m.early = nil
	m.log.metrics.consumedBatch(in)
	return in, nil, nil
}

// prefetch takes what the client holds for the next poll, without waiting. The client
// fetches nothing while it holds something: so the next fetch is under way while what
// the last poll brought is still being worked on.
func (m *member) prefetch(ctx context.Context) error {
	fetches := m.cl.PollRecords(nil, 0) //nolint:staticcheck // documented: no wait, all there is
	if err := m.inputError(ctx, fetches); err != nil {
		return err
	}
	m.early = append(m.early, m.records(fetches)...)
	return nil
}

// fetch waits for records or a wake, which does not leave behind what the client holds.
func (m *member) fetch(ctx context.Context, most int) kgo.Fetches {
	ctx, done := m.waker.context(ctx)
	defer done()
	if ctx.Err() != nil {
		// With a context that has ended, the client returns nothing of what it holds;
		// without any, just that (franz-go 1.22.2).
		if held := m.cl.PollRecords(nil, most); len(held) > 0 { //nolint:staticcheck // documented
			return held
		}
	}
	return m.cl.PollRecords(ctx, most) // also holds rebalances up until AllowRebalance
}

func (m *member) records(fetches kgo.Fetches) []Record {
	in := make([]Record, 0, fetches.NumRecords())
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if len(p.Records) == 0 {
			return
		}
		topic := strings.TrimPrefix(p.Topic, m.log.cfg.Prefix)
		for _, k := range p.Records {
			if !k.Attrs.IsControl() {
				in = append(in, incoming(k, topic))
			}
		}
		if m.seen != nil {
			m.seen[TopicPartition{topic, p.Partition}] = p.Records[len(p.Records)-1].Offset + 1
		}
	})
	return in
}

func (m *member) inputError(ctx context.Context, fetches kgo.Fetches) error {
	err := m.log.fetchError(ctx, fetches)
	var group *kgo.ErrGroupSession
	switch {
	case err == nil, errors.Is(err, ErrDataLoss), fenced(err):
		return err
	case errors.As(err, &group):
		// The client joins again by itself; lost partitions are told to onRevoked.
		m.log.cfg.Logger.Warn("the group session was lost", "group", m.group, "error", err)
		return nil
	}
	return errSession{err}
}

// trouble sorts the errors of a session: fenced and hopeless ones end the member.
func (m *member) trouble(err error) error {
	if fenced(err) || errors.Is(err, kerr.MessageTooLarge) {
		return err
	}
	return errSession{err}
}

// sessions runs one session after the other until ctx ends (nil) or one ends with
// an error that a new one would not heal.
func (l *Log) sessions(ctx context.Context, group string, run func(context.Context) error) error {
	const shortest = 50 * time.Millisecond
	for delay := shortest; ; delay = min(2*delay, 2*time.Second) {
		began := time.Now()
		err := run(ctx)
		var again errSession
		switch {
		case fenced(err):
			return fmt.Errorf("cannot go on in group %q as %q: %w: %w", group, l.cfg.Instance, ErrFenced, err)
		case ctx.Err() != nil:
			return nil
		case !errors.As(err, &again):
			return fmt.Errorf("group %q stopped: %w", group, err)
		case time.Since(began) > 5*time.Second:
			delay = shortest
		}
		l.cfg.Logger.Warn("a group session is made anew", "group", group, "error", err, "in", delay)
		if wait(ctx, delay) != nil {
			return nil
		}
	}
}
