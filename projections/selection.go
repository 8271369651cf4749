// Folding a part of the log into tables of any schema.

package projections

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// selection says which facts of the log a fold takes.
type selection struct {
	from, end eventlog.Offsets      // of every partition in end: [from, end)
	takes     func(key string) bool // by the record's key; nil: all
	until     Moment                // what was decided later is left out; the zero moment leaves nothing out
}

// foldInto folds the selected facts into the tables of a schema, in the caller's
// transaction. report, if given, is told how many offsets of how many are done.
func (p *Projector) foldInto(ctx context.Context, tx pgx.Tx, schema string, s selection, report func(Progress)) (folded int64, err error) {
	open, done := make(eventlog.Offsets), Progress{}
	for tp, end := range s.end {
		if from := s.from[tp]; from < end {
			open[tp] = from
			done.Total += end - from
		}
	}
	if len(open) == 0 {
		return 0, nil
	}
	c, err := p.log.reader(open)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	for len(open) > 0 {
		b, err := c.Poll(ctx, p.cfg.BatchSize)
		if err != nil {
			return folded, err
		}
		facts, err := s.pick(b, open)
		if err != nil {
			return folded, err
		}
		if err := foldBatch(ctx, tx, schema, facts); err != nil {
			return folded, err
		}
		folded += int64(len(facts))
		for tp, o := range b.Next {
			at, reading := open[tp]
			if !reading {
				continue
			}
			o = min(o, s.end[tp])
			done.Done += o - at
			if open[tp] = o; o == s.end[tp] {
				delete(open, tp)
			}
		}
		if report != nil {
			if len(open) == 0 {
				done.Done = done.Total // what lies behind the moment was not read
			}
			report(done)
		}
	}
	return folded, nil
}

// pick decodes the selected records of a batch. A partition whose facts have passed the
// moment is read no further: within it, time never goes back.
func (s selection) pick(b eventlog.Batch, open eventlog.Offsets) ([]fact, error) {
	facts := make([]fact, 0, len(b.Records))
	for _, r := range b.Records {
		if _, reading := open[r.At()]; !reading || r.Offset >= s.end[r.At()] || s.takes != nil && !s.takes(r.Key) {
			continue
		}
		x, err := decode(r)
		if err != nil {
			return nil, err
		}
		if s.until.after(x.message.OccurredAt) {
			delete(open, r.At())
			continue
		}
		facts = append(facts, x)
	}
	return facts, nil
}

// foldBatch folds facts over what the tables of a schema hold.
func foldBatch(ctx context.Context, tx pgx.Tx, schema string, facts []fact) error {
	if len(facts) == 0 {
		return nil
	}
	f, b := newFold(), &pgx.Batch{}
	f.queueLoad(b, schema, facts)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("cannot load what a batch builds on: %w", err)
	}
	return f.write(ctx, tx, schema, facts, func(*pgx.Batch) {})
}
