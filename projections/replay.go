// The rows of one job, made anew beside everything else.

package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// Replayed is what became of one job's rows.
type Replayed struct {
	Events      int64        // facts of the job, up to the live tables' checkpoint
	Rows        int64        // that they give
	Differences []Difference // what the rows were instead; none: nothing was written
}

// ReplayJob makes the rows of one job in the live tables anew from its facts, up to
// the checkpoint of its partition, in one transaction. A projector that runs meanwhile
// waits for the end of it and goes on from the same checkpoint. Rows of a job that the
// log does not know are removed. Errors: ErrNotFound when neither log nor tables know
// the job, ErrUnavailable, migrations.ErrNoGeneration, migrations.ErrOtherShape, an
// unreadable fact of the job, an error of the log.
func ReplayJob(ctx context.Context, cfg Config, id string) (Replayed, error) {
	return replayJob(ctx, newProjector(cfg, wholeLog{cfg.Log}), id)
}

func replayJob(ctx context.Context, p *Projector, id string) (Replayed, error) {
	var done Replayed
	tp, whole, err := home(ctx, p.log, id)
	if err != nil {
		return done, err
	}
	// Most is read before the checkpoint is locked, so that the projector waits for the rest alone.
	t := trail{id: id, tp: tp}
	if err := t.read(ctx, p.log, 0, whole.Stable); err != nil {
		return done, err
	}
	err = pgx.BeginTxFunc(ctx, p.cfg.Pool, pgx.TxOptions{BeginQuery: beginByKey}, func(tx pgx.Tx) error {
		schema, end, err := lockCheckpoint(ctx, tx, tp)
		if err != nil {
			return err
		}
		if err := t.read(ctx, p.log, whole.Stable, end); err != nil {
			return err
		}
		t.facts = slices.DeleteFunc(t.facts, func(x fact) bool { return x.offset >= end })
		return done.rewrite(ctx, tx, schema, t)
	})
	return done, readError(ctx, err)
}

// lockCheckpoint keeps the live tables at their checkpoint of a partition until the
// transaction ends.
func lockCheckpoint(ctx context.Context, tx pgx.Tx, tp eventlog.TopicPartition) (schema string, end int64, err error) {
	live, err := migrations.Live(ctx, tx)
	if err != nil {
		return "", 0, err
	}
	if live.Shape != migrations.Shape() {
		return "", 0, migrations.ErrOtherShape
	}
	err = tx.QueryRow(ctx, `SELECT c.next_offset FROM myspinbot.checkpoints c JOIN myspinbot.generations g USING (generation)
		WHERE c.generation = $1 AND g.status = 'live' AND c.topic = $2 AND c.partition = $3 FOR UPDATE OF c FOR SHARE OF g`,
		live.Number, tp.Topic, tp.Partition).Scan(&end)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", 0, fmt.Errorf("%w: the live tables have no checkpoint of %s", ErrUnavailable, tp)
	}
	if err != nil {
		return "", 0, fmt.Errorf("cannot lock the checkpoint of %s: %w", tp, err)
	}
	return migrations.Schema(live.Number), end, nil
}

// rewrite compares the job's rows with the fold of its facts, and writes them where they differ.
func (d *Replayed) rewrite(ctx context.Context, tx pgx.Tx, schema string, t trail) error {
	f := newFold()
	f.applyAll(t.facts)
	d.Events = f.counts.Applied
	differences, rows, err := f.against(ctx, tx, schema, t.id)
	if err != nil {
		return err
	}
	d.Rows, d.Differences = rows, differences
	switch {
	case rows == 0 && len(differences) == 0:
		return ErrNotFound
	case len(differences) == 0:
		return nil
	}
	b := &pgx.Batch{}
	for table, column := range jobTables() {
		b.Queue("DELETE FROM "+schema+"."+table+" WHERE "+column+" = $1", t.id)
	}
	if err := f.changes().queue(b, schema); err != nil {
		return err
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("cannot write the rows of job %s: %w", t.id, err)
	}
	return nil
}

// against compares the rows of one job with the fold, and leaves no trace.
func (f *fold) against(ctx context.Context, tx pgx.Tx, schema, id string) ([]Difference, int64, error) {
	var r Report
	aside, err := tx.Begin(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = aside.Rollback(context.WithoutCancel(ctx)) }() // with the temporary tables
	if err := migrations.CreateScratch(ctx, aside); err != nil {
		return nil, 0, err
	}
	b := &pgx.Batch{}
	if err := f.changes().queue(b, scratch); err != nil {
		return nil, 0, err
	}
	if err := aside.SendBatch(ctx, b).Close(); err != nil {
		return nil, 0, fmt.Errorf("cannot write what the log says: %w", err)
	}
	ofJob := chooser{sql: "%s = $1", args: []any{id}}
	for _, s := range shapes() {
		if _, holds := jobTables()[s.name]; !holds {
			continue
		}
		if err := r.compare(ctx, aside, schema, scratch, s, ofJob); err != nil {
			return nil, 0, err
		}
	}
	return r.Differences, r.Rows, nil
}
