// Filling a generation up to a goal: reading, ahead of the writing by one batch.

package projections

import (
	"context"
	"sync"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// fill reads from where the session stands and writes, until the goal is reached, which
// is nil, or something breaks. One goroutine reads and decodes; the caller's folds and
// writes. Ctx's cause is the error when it ends.
func (s *session) fill(ctx context.Context) error {
	from := make(eventlog.Offsets)
	for tp, o := range s.at {
		if o < s.goal[tp] {
			from[tp] = o
		}
	}
	if len(from) == 0 {
		return nil
	}
	c, err := s.p.log.reader(from)
	if err != nil {
		return err
	}
	reading, stop := context.WithCancel(ctx)
	batches, ended := make(chan decoded), make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { ended <- s.ahead(reading, c, from, batches) })
	defer func() { stop(); reader.Wait(); c.Close() }()
	defer s.abandon(ctx)
	for !s.reached() {
		select {
		case b := <-batches:
			if err := s.take(ctx, b); err != nil {
				return err
			}
		case err := <-ended:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	counts, err := s.finish(ctx)
	if err != nil {
		return err
	}
	s.report(s.at, counts)
	return nil
}

// ahead polls and decodes until the goal is reached, ctx ends or the log fails. Batches
// are filled up as long as the goal lies ahead.
func (s *session) ahead(ctx context.Context, c cursor, open eventlog.Offsets, out chan<- decoded) error {
	r, size := newBatchReader(s.goal, open), bulkFactor*s.p.cfg.BatchSize
	for {
		b := newDecoded()
		for len(b.next) == 0 || (len(b.facts) < size/2 && !r.reached()) {
			polled, err := c.Poll(ctx, size)
			if err != nil {
				return err
			}
			r.decode(polled, &b)
		}
		select {
		case out <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
		if r.reached() {
			return nil // the last batch ends the session
		}
	}
}

func (s *session) reached() bool {
	for tp, o := range s.at {
		if o < s.goal[tp] && s.stopped[tp] == "" {
			return false
		}
	}
	return true
}
