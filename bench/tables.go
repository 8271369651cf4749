package main

// This file measures the tables: how fast a rebuild makes them, how fast its fold is alone, and how
// fast and how late the live projector is.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
	"github.com/myspinbot/myspinbot/projections"
)

// tablesBench is a log with the facts of jobs, and a PostgreSQL for their tables.
type tablesBench struct {
	services   *services
	deployment *deployment
	log        *eventlog.Log
	pool       *pgxpool.Pool
	jobs       int // whose facts are on the log
}

// startTables starts what a measure of the tables needs. Whoever calls it stops it.
func startTables(ctx context.Context, s setting, name string) (b *tablesBench, err error) {
	b = &tablesBench{services: &services{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop())
		}
	}()
	if err := b.services.start(ctx, s.dir); err != nil {
		return b, err
	}
	b.deployment = b.services.newDeployment(s.root, name, 1)
	if b.log, err = b.deployment.open(ctx); err != nil {
		return b, err
	}
	b.pool, err = pgxpool.New(ctx, b.services.postgres)
	return b, err
}

func (b *tablesBench) stop() error {
	if b.pool != nil {
		b.pool.Close()
	}
	if b.log != nil {
		b.log.Close()
	}
	return b.services.stop()
}

// write adds the facts of jobs.
func (b *tablesBench) write(ctx context.Context, jobs int) error {
	err := writeFacts(ctx, b.deployment, b.log, b.jobs, b.jobs+jobs, factsOf)
	b.jobs += jobs
	return err
}

func (b *tablesBench) config() projections.Config {
	return projections.Config{Log: b.log, Pool: b.pool, Logger: slog.New(slog.DiscardHandler)}
}

// rebuild makes the tables anew and says how long it took.
func (b *tablesBench) rebuild(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	made, err := projections.Rebuild(ctx, b.config(), projections.RebuildOptions{})
	took := time.Since(began)
	if err == nil && made.Events != int64(b.jobs*factsPerJob) {
		err = fmt.Errorf("the rebuild folded %d facts, the log has %d", made.Events, b.jobs*factsPerJob)
	}
	return took, err
}

// rebuildGC is the garbage collector's percentage of `myspinbot replay rebuild`, which the peers get as well.
const rebuildGC = 400

func measureRebuild(ctx context.Context, s setting) (_ []Result, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(rebuildGC))
	b, err := startTables(ctx, s, "rebuild")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.write(ctx, size("REBUILD_JOBS", 20_000)); err != nil {
		return nil, err
	}
	if _, err := b.rebuild(ctx); err != nil { // the rows that the peer copies
		return nil, err
	}
	live, err := migrations.Live(ctx, b.pool)
	if err != nil {
		return nil, err
	}
	p, err := loadRows(ctx, b.pool, migrations.Schema(live.Number))
	if err != nil {
		return nil, err
	}
	var rows, theirs, facts []float64
	for i := range s.rounds {
		took, err := b.rebuild(ctx)
		if err != nil {
			return nil, err
		}
		bare, err := p.copy(ctx, b.pool)
		if err != nil {
			return nil, err
		}
		rows, theirs = append(rows, perSecond(p.rows, took)), append(theirs, perSecond(p.rows, bare))
		facts = append(facts, perSecond(b.jobs*factsPerJob, took))
		fmt.Fprintf(s.progress, "  round %d: %d facts made %d rows in %.2f s; the same rows copied and indexed in %.2f s\n",
			i+1, b.jobs*factsPerJob, p.rows, took.Seconds(), bare.Seconds())
	}
	return []Result{newResult("rebuild_rows", "rows/s", rows).against("pgx COPY, then indexes", theirs), newResult("rebuild_rows.events", "events/s", facts)}, nil
}

func measureFold(ctx context.Context, s setting) (_ []Result, err error) {
	defer debug.SetGCPercent(debug.SetGCPercent(rebuildGC))
	b, err := startTables(ctx, s, "fold")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.write(ctx, size("REBUILD_JOBS", 20_000)); err != nil {
		return nil, err
	}
	var ours, theirs []float64
	for i := range s.rounds {
		took, err := b.fold(ctx)
		if err != nil {
			return nil, err
		}
		began, n := time.Now(), 0
		if err := scan(ctx, b.deployment, b.log, func(*kgo.Record) { n++ }, events.TopicJobEvents); err != nil {
			return nil, err
		}
		bare := time.Since(began)
		if n != b.jobs*factsPerJob {
			return nil, fmt.Errorf("the log has %d facts, not %d", n, b.jobs*factsPerJob)
		}
		ours, theirs = append(ours, perSecond(n, took)), append(theirs, perSecond(n, bare))
		fmt.Fprintf(s.progress, "  round %d: %d facts folded in %.2f s, counted in %.2f s\n", i+1, n, took.Seconds(), bare.Seconds())
	}
	return []Result{newResult("fold_rate", "events/s", ours).against("counting consumer", theirs)}, nil
}

// fold reads the facts and folds them into rows in memory, as a rebuild reads: partition by
// partition, by one reader more than there are processors.
func (b *tablesBench) fold(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(runtime.GOMAXPROCS(0) + 1)
	folded := make(chan projections.Counts, b.log.Partitions(events.TopicJobEvents))
	for tp, o := range b.log.Whole(events.TopicJobEvents) {
		work.Go(func() error {
			rows := projections.NewMemory()
			_, err := b.log.ReadBare(ctx, eventlog.Offsets{tp: o}, rows.Apply)
			folded <- rows.Counts()
			return err
		})
	}
	err := work.Wait()
	took := time.Since(began)
	close(folded)
	var n int64
	for c := range folded {
		n += c.Applied
	}
	if err == nil && n != int64(b.jobs*factsPerJob) {
		err = fmt.Errorf("%d facts were folded, the log has %d", n, b.jobs*factsPerJob)
	}
	return took, err
}

func measureProjector(ctx context.Context, s setting) (_ []Result, err error) {
	b, err := startTables(ctx, s, "projector")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.write(ctx, 1); err != nil { // tables for the first round
		return nil, err
	}
	if _, err := b.rebuild(ctx); err != nil {
		return nil, err
	}
	each := size("PROJECTOR_JOBS", 10_000)
	var ours, theirs []float64
	for i := range s.rounds {
		if err := b.write(ctx, each); err != nil {
			return nil, err
		}
		took, err := b.project(ctx, each*factsPerJob)
		if err != nil {
			return nil, err
		}
		bare, err := mergeRows(ctx, b.pool, each*factsPerJob)
		if err != nil {
			return nil, err
		}
		facts := each * factsPerJob
		ours, theirs = append(ours, perSecond(facts, took)), append(theirs, perSecond(facts, bare))
		fmt.Fprintf(s.progress, "  round %d: %d facts projected in %.2f s, their rows merged in %.2f s\n", i+1, facts, took.Seconds(), bare.Seconds())
	}
	return []Result{newResult("projector_rate", "events/s", ours).against("COPY and merge, 1000 events each", theirs)}, nil
}

// project starts a projector on what the tables lack, and says when it had that.
func (b *tablesBench) project(ctx context.Context, facts int) (took time.Duration, err error) {
	ctx, cancel := context.WithCancel(ctx)
	p, ended, began := projections.NewProjector(b.config()), make(chan error, 1), time.Now()
	go func() { ended <- p.Run(ctx) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	for p.Status().Applied < int64(facts) {
		if err := wait(ctx, time.Millisecond, nil); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// perSecond is the rate of n in that time.
func perSecond(n int, took time.Duration) float64 { return float64(n) / took.Seconds() }

// indexesOf are the definitions of a schema's indexes, for another schema.
func indexesOf(ctx context.Context, pool *pgxpool.Pool, from, to string) ([]string, error) {
	rows, err := pool.Query(ctx, "SELECT indexdef FROM pg_indexes WHERE schemaname = $1 ORDER BY indexname", from)
	if err != nil {
		return nil, fmt.Errorf("cannot read the indexes: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (string, error) {
		var definition string
		err := row.Scan(&definition)
		return inSchema(definition, from, to), err
	})
}

// inSchema is the definition of an index for a table of the same name in another schema.
func inSchema(definition, from, to string) string {
	return strings.Replace(definition, " ON "+from+".", " ON "+to+".", 1)
}
