// What a rebuild would do, without doing it.

package projections

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/myspinbot/myspinbot/migrations"
)

// PlannedRate is how many offsets a second a plan reckons with: what two processors do.
const PlannedRate = 40_000

// Plan is what a rebuild would do now.
type Plan struct {
	Generation  int      // that it would fill
	Resumes     bool     // it is there, half built
	Live        int      // what readers see meanwhile; 0: nothing
	Copied      []string // tables that are taken over as they are
	Partitions  int
	Read, Total int64 // offsets of the log: already in the generation, and in all
	Rows        int64 // in the live tables, as PostgreSQL estimates
	Bytes       int64 // of the live tables on disk, with indexes
}

// PlanRebuild says what Rebuild would do with these options. It changes no tables.
func PlanRebuild(ctx context.Context, cfg Config, o RebuildOptions) (Plan, error) {
	return planRebuild(ctx, newProjector(cfg, wholeLog{cfg.Log}), o)
}

func planRebuild(ctx context.Context, p *Projector, o RebuildOptions) (plan Plan, err error) {
	if plan.Copied, err = takenOver(o.Table); err != nil {
		return plan, err
	}
	if err := migrations.Apply(ctx, p.cfg.Pool); err != nil {
		return plan, err
	}
	ranges, err := p.log.Ranges(ctx, topics()...)
	if err != nil {
		return plan, err
	}
	plan.Partitions = len(ranges)
	for _, r := range ranges {
		plan.Total += r.Stable
	}
	err = pgx.BeginTxFunc(ctx, p.cfg.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		return plan.look(ctx, tx, o)
	})
	if err != nil {
		return plan, fmt.Errorf("cannot plan the rebuild: %w", readError(ctx, err))
	}
	return plan, nil
}

// look reads the registry and PostgreSQL's own figures.
func (p *Plan) look(ctx context.Context, tx pgx.Tx, o RebuildOptions) error {
	list, err := migrations.List(ctx, tx)
	if err != nil {
		return err
	}
	p.Generation = 1
	for _, g := range list {
		p.Generation = max(p.Generation, g.Number+1)
		if g.Status == migrations.LiveNow {
			p.Live, p.Bytes = g.Number, g.Bytes
		}
	}
	half, err := migrations.Unfinished(ctx, tx, p.Copied)
	switch {
	case err == nil && !o.Fresh:
		p.Generation, p.Resumes = half.Number, true
		read, err := offsetsOf(ctx, tx, half.Number)
		if err != nil {
			return err
		}
		for _, n := range read {
			p.Read += n
		}
	case err == nil:
		p.Generation = half.Number // which is dropped first
	case err != nil && !errors.Is(err, migrations.ErrNoGeneration):
		return err
	}
	if p.Live == 0 {
		return nil
	}
	return tx.QueryRow(ctx, `SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relkind = 'r'`, migrations.Schema(p.Live)).Scan(&p.Rows)
}
