// The second half of a rebuild: indexes, catching up, comparing, and the switch.

package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// complete makes the indexes, each table's in one transaction.
func (b *builder) complete(ctx context.Context) error {
	b.phase(PhaseIndex)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(int(b.p.cfg.Pool.Config().MaxConns))
	for _, t := range migrations.Tables() {
		work.Go(func() error {
			err := pgx.BeginFunc(ctx, b.p.cfg.Pool, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, "SET LOCAL maintenance_work_mem = '128MB'"); err != nil {
					return err
				}
				return migrations.Complete(ctx, tx, b.g.Number, t)
			})
			if err != nil {
				return fmt.Errorf("cannot complete the table %s: %w", t, err)
			}
			b.phase(PhaseIndex)
			return nil
		})
	}
	return work.Wait()
}

// catchUp reads on until little is missing.
func (b *builder) catchUp(ctx context.Context) error {
	for {
		if err := b.fill(ctx, PhaseCatchUp, b.ends); err != nil {
			return err
		}
		goal, err := b.ends(ctx)
		if err != nil {
			return err
		}
		if b.behind(goal) <= nearby {
			return nil
		}
	}
}

// behind is how many offsets the generation lacks, beside partitions that cannot be read.
func (b *builder) behind(goal eventlog.Offsets) (n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for tp, o := range goal {
		if b.stopped[tp] == "" {
			n += max(0, o-b.at[tp])
		}
	}
	return n
}

// errBehind says that there was too much to catch up with while the live projector is held.
var errBehind = errors.New("the log grows faster than it can be caught up with")

// hold keeps the live projector from going on, brings the generation as far as the
// live one, and runs fn in that state. Old is zero if there is no live generation.
func (b *builder) hold(ctx context.Context, fn func(ctx context.Context, tx pgx.Tx, old migrations.Generation, reached eventlog.Offsets) error) error {
	return pgx.BeginFunc(ctx, b.claim, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '1s'"); err != nil {
			return err
		}
		old, err := migrations.Lock(ctx, tx)
		if err != nil && !errors.Is(err, migrations.ErrNoGeneration) {
			return err
		}
		reached, err := offsetsOf(ctx, tx, old.Number)
		if err != nil {
			return err
		}
		goal, err := b.within(ctx, reached)
		if err != nil {
			return err
		}
		if b.behind(goal) > 10*nearby {
			return errBehind
		}
		// The deadline is for this alone: a statement that ctx ends takes the connection, and the claim, with it.
		filling, cancel := context.WithTimeout(ctx, switchWithin)
		defer cancel()
		if err := b.fill(filling, PhaseSwitch, func(context.Context) (eventlog.Offsets, error) { return goal, nil }); err != nil {
			return err
		}
		for tp, o := range goal {
			if b.at[tp] < o {
				return fmt.Errorf("the live tables know more of %s than can be read now: %s", tp, b.stopped[tp])
			}
		}
		return fn(ctx, tx, old, reached)
	})
}

// within cuts positions down to what the log has: tables can be ahead of a log that was replaced.
func (b *builder) within(ctx context.Context, reached eventlog.Offsets) (eventlog.Offsets, error) {
	ranges, err := b.p.log.Ranges(ctx, topics()...)
	goal := make(eventlog.Offsets, len(ranges))
	for tp, r := range ranges {
		goal[tp] = min(reached[tp], r.Stable)
	}
	return goal, err
}

// switchOver shows the generation to readers, in the transaction that retires the old one.
func (b *builder) switchOver(ctx context.Context) error {
	retireAs := migrations.Leaving
	if b.o.KeepOld {
		retireAs = migrations.Kept
	}
	for attempt := 1; ; attempt++ {
		err := b.hold(ctx, func(ctx context.Context, tx pgx.Tx, old migrations.Generation, _ eventlog.Offsets) error {
			b.made.Old = old.Number
			return migrations.PointViews(ctx, tx, b.g.Number, retireAs)
		})
		if err == nil {
			break
		}
		if attempt == switchAttempts || ctx.Err() != nil || !later(err) {
			return fmt.Errorf("cannot switch to the new tables: %w", err)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
		if err := b.catchUp(ctx); err != nil {
			return err
		}
	}
	b.phase(PhaseSwitch)
	if err := b.dropLeaving(ctx); err != nil {
		b.p.cfg.Logger.Warn("the old tables cannot be dropped yet; the next rebuild does it, or `myspinbot replay generations --drop N`", "error", err)
	}
	return nil
}

// later says whether a switch may work in a moment: readers or the projector held a
// lock, or the log grew too fast.
func later(err error) bool {
	return hasCode(err, "55P03") || hasCode(err, "40P01") || errors.Is(err, errBehind) || errors.Is(err, context.DeadlineExceeded)
}

// dropLeaving drops the tables that were live, as far as nobody reads them for long.
func (b *builder) dropLeaving(ctx context.Context) error {
	if _, err := b.claim.Exec(ctx, "SET lock_timeout = '5s'"); err != nil {
		return err
	}
	return migrations.DropLeaving(ctx, b.claim)
}

// compare holds the rows of both generations against each other, in a snapshot in which
// both are equally far; the live projector waits only until it is taken.
func (b *builder) compare(ctx context.Context) error {
	b.phase(PhaseCompare)
	tx, err := b.p.cfg.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	var old string
	err = b.hold(ctx, func(ctx context.Context, _ pgx.Tx, g migrations.Generation, reached eventlog.Offsets) error {
		for tp, o := range b.at {
			if o != reached[tp] {
				return fmt.Errorf("generation %d has read %s up to offset %d, the live tables up to %d: let the projector catch up, or leave the comparison out",
					b.g.Number, tp, o, reached[tp])
			}
		}
		old = migrations.Schema(g.Number)
		_, err := migrations.Live(ctx, tx) // the first query takes the snapshot
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot compare: %w", err)
	}
	b.phase(PhaseCompare)
	for _, s := range shapes() {
		if err := b.made.Compared.compare(ctx, tx, old, migrations.Schema(b.g.Number), s, chooser{}); err != nil {
			return err
		}
	}
	b.made.Compared.Events = b.made.Events
	if len(b.made.Compared.Differences) > 0 {
		return ErrDifferent
	}
	return nil
}
