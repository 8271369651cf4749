// Filling a generation that nobody reads yet: many batches in a transaction, and jobs
// that wait in memory for their end.

package projections

import (
	"context"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

const (
	// bulkFactor is how many ordinary batches one of a rebuild holds.
	bulkFactor = 2
	// bulkBatches is how many of its batches share a transaction, and so how many are
	// read again after it was stopped.
	bulkBatches = 50
	// bulkJobs is how many jobs may wait for their end, and how many are kept from one
	// transaction to the next; more of them are read back from their table.
	bulkJobs = 4096
)

// bulk is how a generation is filled that nobody reads yet, by one session alone for
// its partitions. Jobs that go on are written when the transaction ends, the others
// with the batch in which they end, so that most rows are written once and never
// loaded. Nil is the ordinary way.
type bulk struct {
	taken   taken
	single  bool             // each batch has a transaction of its own, so that what PostgreSQL refuses can be narrowed down
	folded  *fold            // as the last batch left it; nil at first and after a failure
	tx      pgx.Tx           // of the batches that are not committed yet; nil: there are none
	batches int              // in tx
	counts  Counts           // in tx
	safe    eventlog.Offsets // the checkpoints before tx
}

// add writes a batch, and commits it and those before when there are enough of them.
// It returns the counts of what it has committed.
func (s *session) add(ctx context.Context, facts []fact, next eventlog.Offsets) (Counts, error) {
	b := s.bulk
	if b.tx == nil {
		tx, err := s.p.cfg.Pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: beginWrite})
		if err != nil {
			return Counts{}, err
		}
		b.tx, b.safe, b.batches, b.counts = tx, maps.Clone(s.stored), 0, Counts{}
	}
	f := b.folded
	if f == nil {
		f = b.empty()
	}
	if err := s.write(ctx, b.tx, f, facts, next); err != nil {
		s.abandon(ctx)
		return Counts{}, err
	}
	s.wrote(f, next)
	b.batches++
	b.counts.add(f.counts)
	if waiting := b.keep(f); !b.single && b.batches < bulkBatches && waiting <= bulkJobs {
		return Counts{}, nil
	}
	return s.finish(ctx)
}

// finish writes the jobs that wait and commits the batches that are not. It returns their counts.
func (s *session) finish(ctx context.Context) (Counts, error) {
	b := s.bulk
	if b == nil || b.tx == nil {
		return Counts{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	b.folded.waits = false
	err := b.folded.put(ctx, b.tx, migrations.Schema(s.generation), true, func(*pgx.Batch) {})
	if err == nil {
		err = b.tx.Commit(ctx)
	}
	if err != nil {
		s.abandon(ctx)
		return Counts{}, fmt.Errorf("cannot commit what is rebuilt: %w", err)
	}
	b.tx = nil
	b.settle()
	return b.counts, nil
}

// abandon goes back to the last commit.
func (s *session) abandon(ctx context.Context) {
	b := s.bulk
	if b == nil || b.tx == nil {
		return
	}
	_ = b.tx.Rollback(context.WithoutCancel(ctx)) // PostgreSQL does it by itself when the connection is gone
	b.tx, b.folded = nil, nil
	s.stored = b.safe
}

func (b *bulk) empty() *fold {
	f := newFold()
	f.taken, f.copies, f.waits = b.taken, true, true
	return f
}

// keep takes back a fold whose batch is written, for the next one, and says how many jobs wait in it.
func (b *bulk) keep(f *fold) (waiting int) {
	next := b.empty()
	next.buf = f.buf
	for id, j := range f.jobs {
		if j.row.Ended() {
			continue
		}
		next.jobs[id] = j
		if j.changed {
			waiting++
		}
	}
	for key, a := range f.artifacts {
		if next.jobs[key[0]] != nil {
			next.artifacts[key] = a
		}
	}
	b.folded = next
	return waiting
}

// settle makes the fold whose jobs are all written that of the next transaction.
func (b *bulk) settle() {
	next := b.empty()
	next.buf = b.folded.buf
	for id, j := range b.folded.jobs {
		if len(next.jobs) == bulkJobs {
			break
		}
		j.row.Graph, j.row.Request, j.row.Outputs = nil, nil, nil // large documents are not kept: writing NULL leaves them
		j.stored, j.changed, j.touched = true, false, nil
		next.jobs[id] = j
	}
	b.folded = next
}
