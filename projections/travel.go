// The tables as they were, in a schema of their own.

package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// Travelled is what Travel has built.
type Travelled struct {
	Events int64 // facts folded
	Rows   int64 // of all tables
}

// Travel builds the tables as they were at a moment into a new schema, in one
// transaction: the schema is there whole or not at all. The moment is a time, up to
// which everything decided counts; an offset, up to which, with it, every partition
// counts; or the place of an event, whose partition counts up to it, with it, and the
// others up to its time. The live tables are not touched, and no projector need run.
// Errors: ErrNoEvent, migrations.ErrSchemaName, ErrUnavailable, an unreadable
// record, an error of the log.
func Travel(ctx context.Context, cfg Config, schema string, until Moment, report func(Progress)) (Travelled, error) {
	return travel(ctx, newProjector(cfg, wholeLog{cfg.Log}), schema, until, report)
}

// beginByKey opens a transaction whose lookups are all by key; see beginWrite.
const beginByKey = "BEGIN; SET LOCAL enable_seqscan = off"

func travel(ctx context.Context, p *Projector, schema string, until Moment, report func(Progress)) (Travelled, error) {
	var t Travelled
	if err := migrations.CheckName(schema); err != nil {
		return t, err
	}
	s, err := upTo(ctx, p.log, until)
	if err != nil {
		return t, err
	}
	about := fmt.Sprintf("The tables of MySpinBot as they were at %v; nothing keeps them up to date. Drop the schema when it has served.", until)
	err = pgx.BeginTxFunc(ctx, p.cfg.Pool, pgx.TxOptions{BeginQuery: beginByKey}, func(tx pgx.Tx) error {
		if err := migrations.CreateNamed(ctx, tx, schema, about); err != nil {
			return err
		}
		if t.Events, err = p.foldInto(ctx, tx, schema, s, report); err != nil {
			return err
		}
		for _, s := range shapes() {
			if _, err := tx.Exec(ctx, "ANALYZE "+schema+"."+s.name); err != nil {
				return fmt.Errorf("cannot analyse %s: %w", s.name, err)
			}
			var n int64
			if err := tx.QueryRow(ctx, "SELECT count(*) FROM "+schema+"."+s.name).Scan(&n); err != nil {
				return fmt.Errorf("cannot count %s: %w", s.name, err)
			}
			t.Rows += n
		}
		return nil
	})
	return t, readError(ctx, err)
}

// upTo is the part of the log that lies before the moment, with it.
func upTo(ctx context.Context, log source, until Moment) (selection, error) {
	ranges, err := log.Ranges(ctx, topics()...)
	if err != nil {
		return selection{}, err
	}
	s := selection{end: make(eventlog.Offsets), until: until}
	for tp, r := range ranges {
		s.end[tp] = r.Stable
		if until.Time.IsZero() && until.Place == nil {
			s.end[tp] = min(r.Stable, until.Number+1)
		}
	}
	if until.Place == nil {
		return s, nil
	}
	tp := eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: until.Place.Partition}
	x, err := factAt(ctx, log, tp, until.Place.Offset, ranges[tp].Stable)
	if err != nil {
		return s, err
	}
	s.end[tp] = until.Place.Offset + 1
	s.until = Moment{Time: micro(x.message.OccurredAt)}
	return s, nil
}

// factAt is the fact at an offset.
func factAt(ctx context.Context, log source, tp eventlog.TopicPartition, offset, end int64) (fact, error) {
	none := fmt.Errorf("%w: there is no event at %d:%d", ErrNoEvent, tp.Partition, offset)
	if offset >= end {
		return fact{}, none
	}
	c, err := log.reader(eventlog.Offsets{tp: offset})
	if err != nil {
		return fact{}, err
	}
	defer c.Close()
	b, err := c.Poll(ctx, 1)
	switch {
	case err != nil:
		return fact{}, err
	case len(b.Records) == 0 || b.Records[0].Offset != offset:
		return fact{}, none
	}
	return decode(b.Records[0])
}

// ErrNoEvent says that there is no event at a place.
var ErrNoEvent = errors.New("that moment is not on the log")
