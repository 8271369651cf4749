// Keeping the live tables up to date: one goroutine reads the log, and one for each
// partition writes. Who takes what along stands in turns.go.

package projections

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// lockPatience is how long a transaction waits for a lock that somebody else holds, and
// how long a partition then waits before it tries again.
const lockPatience = 250 * time.Millisecond

// live follows the log for the tables that readers see.
type live struct {
	p    *Projector
	log  cursor
	most int // transactions at once

	mu      sync.Mutex
	all     *session // where all partitions stand
	parts   map[eventlog.TopicPartition]*part
	waiting []*part       // that have records and no turn, the first to come first
	running int           // transactions
	small   bool          // one of them is far from full
	room    chan struct{} // holds one when queues have become shorter
}

// part is one partition of a live session.
type part struct {
	tp      eventlog.TopicPartition
	turn    chan turn         // what its goroutine is to write; holds one
	queue   []eventlog.Record // that are not in the tables, those of a turn included
	next    int64             // behind the queue; markers count
	busy    bool              // it waits for a turn, or is in one
	blocked bool              // a lock was in its way: it is written by itself until it is not
	told    bool              // people were told that it is blocked
	paused  bool              // the log is not read for it
}

// newLive follows the log from where the session stands, whose report is told of every step.
func newLive(s *session) *live {
	l := &live{p: s.p, all: s, parts: make(map[eventlog.TopicPartition]*part), room: make(chan struct{}, 1)}
	// Readers of a process share its pool.
	l.most = min(runtime.GOMAXPROCS(0), max(1, int(s.p.cfg.Pool.Config().MaxConns)/2))
	for tp, o := range s.at {
		l.parts[tp] = &part{tp: tp, turn: make(chan turn, 1), next: o}
	}
	return l
}

// follow reads and writes until something breaks. Ctx's cause is the error when it ends.
func (l *live) follow(ctx context.Context) (err error) {
	if l.log, err = l.p.log.reader(maps.Clone(l.all.at)); err != nil {
		return err
	}
	defer l.log.Close()
	work, inner := errgroup.WithContext(ctx)
	work.Go(func() error { return l.read(inner) })
	for _, p := range l.parts {
		work.Go(func() error { return l.serve(inner, p) })
	}
	err = work.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// read polls into the queues, as long as there is room in them.
func (l *live) read(ctx context.Context) error {
	for {
		for l.full() {
			select {
			case <-l.room:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		b, err := l.log.Poll(ctx, l.p.cfg.BatchSize)
		if err != nil {
			return err
		}
		l.add(b)
	}
}

// full says whether enough waits: two batches beside those that are being written. A
// blocked partition does not count, so that it holds nobody back; the log is not read
// for it once it has a batch.
func (l *live) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, p := range l.parts {
		if !p.blocked {
			n += len(p.queue)
		}
	}
	return n >= (l.most+2)*l.p.cfg.BatchSize
}

// add takes in what a poll brought.
func (l *live) add(b eventlog.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range b.Records {
		p := l.parts[r.At()]
		p.queue = append(p.queue, r)
	}
	moved := false
	for tp, o := range b.Next {
		l.parts[tp].next = o
		moved = l.settle(l.parts[tp]) || moved
	}
	if moved {
		l.all.report(l.all.at, Counts{})
	}
	l.dispatch()
}

// settle decides what becomes of a partition whose queue or state has changed, and says
// whether markers alone have moved it. The caller holds mu.
func (l *live) settle(p *part) (moved bool) {
	stopped := l.all.stopped[p.tp] != ""
	switch {
	case stopped:
		p.queue = nil
	case p.busy:
	case len(p.queue) > 0:
		p.busy = true
		l.waiting = append(l.waiting, p)
	case l.all.at[p.tp] != p.next:
		l.all.at[p.tp], moved = p.next, true
	}
	if pause := stopped || (p.blocked && len(p.queue) >= l.p.cfg.BatchSize); pause != p.paused {
		p.paused = pause
		if pause {
			l.log.Pause(p.tp)
		} else {
			l.log.Resume(p.tp)
		}
	}
	return moved
}

// serve writes the partition's turns, one after the other.
func (l *live) serve(ctx context.Context, p *part) error {
	for {
		select {
		case t := <-p.turn:
			if err := l.write(ctx, t); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// write decodes, folds and writes what a turn has. Where a lock is in the way, each of
// its partitions goes on by itself, so that only the one that it is about waits.
func (l *live) write(ctx context.Context, t turn) error {
	b := newDecoded()
	newBatchReader(nil, make(eventlog.Offsets)).decode(t.batch, &b)
	err := l.share(t).take(ctx, b)
	held := hasCode(err, "55P03") || hasCode(err, "40P01") // lock_not_available, deadlock_detected
	if err != nil && !held {
		return err
	}
	l.done(t, held)
	if !held || len(t.parts) > 1 {
		return nil
	}
	if err := pause(ctx, lockPatience); err != nil {
		return err
	}
	l.again(t.parts[0])
	return nil
}

// share is a session of the partitions of a turn, which tells all of them of its steps.
func (l *live) share(t turn) *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &session{p: l.p, generation: l.all.generation, status: l.all.status}
	stored, at := make(eventlog.Offsets), make(eventlog.Offsets)
	for _, p := range t.parts {
		stored[p.tp], at[p.tp] = l.all.stored[p.tp], l.all.at[p.tp]
	}
	s.begin(stored)
	s.at = at
	s.report = func(at eventlog.Offsets, c Counts) {
		l.mu.Lock()
		defer l.mu.Unlock()
		maps.Copy(l.all.stored, s.stored)
		maps.Copy(l.all.at, at)
		maps.Copy(l.all.stopped, s.stopped)
		l.all.progressed = l.all.progressed || s.progressed
		l.all.report(l.all.at, c)
	}
	return s
}

// done ends a turn; held: a lock was in its way.
func (l *live) done(t turn, held bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.running--
	if t.small {
		l.small = false
	}
	moved := false
	for _, p := range t.parts {
		written := slices.IndexFunc(p.queue, func(r eventlog.Record) bool { return r.Offset >= l.all.at[p.tp] })
		if written < 0 {
			written = len(p.queue)
		}
		p.queue = slices.Delete(p.queue, 0, written)
		l.tell(p, held && len(t.parts) == 1)
		p.blocked, p.busy = held, held && len(t.parts) == 1
		moved = l.settle(p) || moved
	}
	if moved {
		l.all.report(l.all.at, Counts{})
	}
	l.dispatch()
	select {
	case l.room <- struct{}{}:
	default:
	}
}

// tell says in the log of the process that a partition waits for a lock, and that it does not any more.
func (l *live) tell(p *part, blocked bool) {
	if blocked == p.told {
		return
	}
	p.told = blocked
	log := l.p.cfg.Logger.With("topic", p.tp.Topic, "partition", p.tp.Partition)
	if blocked {
		log.Warn("a partition of the log waits for rows that another connection of PostgreSQL has locked; the others go on")
		return
	}
	log.Info("a partition of the log goes on")
}

// again lets a partition that a lock was in the way of wait for its next turn.
func (l *live) again(p *part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.busy = false
	l.settle(p)
	l.dispatch()
}
