package main

// This file measures jobs of four steps without work, from handing in to the end, each once: how
// many a second with some in flight, and how long one takes alone. The peer does the same in the
// same round.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// system is a way to run jobs, started and stopped in every round so that only one works at a time.
type system struct {
	name  string
	start func(ctx context.Context) (flow, error)
	// finish checks that the jobs were done once, and stops the system. It is called once after start,
	// without jobs where something went wrong: then there is nothing to check.
	finish func(ctx context.Context, f flow, ids []string) error
}

// ourSystem is the roles handler and gpu, each a process.
func ourSystem(d *deployment, log *eventlog.Log, tables bool) system {
	return system{"MySpinBot", func(ctx context.Context) (flow, error) {
		f, err := startOurs(ctx, d, log, tables)
		if err != nil {
			return nil, err
		}
		return f, nil
	}, func(ctx context.Context, f flow, ids []string) error {
		ours := f.(*ourFlow)
		if err := ours.stop(); err != nil {
			return err
		}
		if len(ids) == 0 {
			return nil
		}
		return ours.check(ctx, ids)
	}}
}

// riverSystem is the peer.
func riverSystem(url string, steps int) system {
	return system{peerRiver, func(ctx context.Context) (flow, error) {
		f, err := startRiver(ctx, url, steps)
		if err != nil {
			return nil, err
		}
		return f, nil
	}, func(ctx context.Context, f flow, ids []string) error {
		peer := f.(*riverFlow)
		var err error
		if len(ids) > 0 {
			err = peer.check(ctx, ids)
		}
		return errors.Join(err, peer.stop(ctx))
	}}
}

// round starts the system, drives the loads one after the other, and stops it.
func (s system) round(ctx context.Context, loads []load) (found []loaded, err error) {
	f, err := s.start(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	var ids []string
	for _, l := range loads {
		got, driveErr := drive(ctx, f, l)
		if driveErr != nil {
			err = fmt.Errorf("%s with %d in flight: %w", s.name, l.inFlight, driveErr)
			break
		}
		ids = append(ids, got.ids...)
		found = append(found, got)
	}
	if err != nil {
		return nil, errors.Join(err, s.finish(context.WithoutCancel(ctx), f, nil))
	}
	if err := s.finish(ctx, f, ids); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return found, nil
}

// jobLanes is how many partitions, and slots of the one worker, each of the four lanes has.
func jobLanes() int { return size("LANES", 32) }

// flights are the numbers of jobs in flight that are measured.
func flights() []int {
	return []int{size("FEW_IN_FLIGHT", 50), size("SOME_IN_FLIGHT", 500), size("MOST_IN_FLIGHT", 5000)}
}

// jobLoads are the loads of a round. Pipelines go through a queue in waves as long as the queue, so
// the measured time holds at least four of them.
func jobLoads(prefix string, flights ...int) []load {
	var loads []load
	for _, n := range flights {
		loads = append(loads, load{prefix: prefix + "/" + strconv.Itoa(n), inFlight: n, warm: 2 * n, jobs: 4 * n, time: time.Duration(size("SECONDS", 10)) * time.Second})
	}
	return loads
}

func measureJobs(ctx context.Context, s setting) (_ []Result, err error) {
	services := &services{}
	defer func() { err = errors.Join(err, services.stop()) }()
	if err := services.start(ctx, s.dir); err != nil {
		return nil, err
	}
	d := services.newDeployment(s.root, "jobs", jobLanes())
	log, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := comparison{ours: ourSystem(d, log, false), peer: riverSystem(services.postgres, riverSteps), progress: s.progress}
	if err := c.warmUp(ctx); err != nil {
		return nil, err
	}
	var withTables []float64
	for i := range s.rounds {
		if err := c.round(ctx, jobLoads(fmt.Sprint("jobs/", i), flights()...)); err != nil {
			return nil, err
		}
		rate, err := tablesRound(ctx, ourSystem(d, log, true), services.postgres, jobLoads(fmt.Sprint("tables/", i), flights()[1])[0])
		if err != nil {
			return nil, err
		}
		withTables = append(withTables, rate)
		fmt.Fprintf(s.progress, "  round %d: MySpinBot, %d in flight, until the tables show the end too: %.0f jobs/s\n", i+1, flights()[1], rate)
	}
	var found []Result
	for i, n := range flights() {
		rates := newResult("jobs_per_second."+strconv.Itoa(n), "jobs/s", c.each(i, true, loaded.perSecond)).against(peerRiver, c.each(i, false, loaded.perSecond))
		half := newResult("jobs_per_second."+strconv.Itoa(n)+".p50", "ms", c.each(i, true, loaded.p50)).against(peerRiver, c.each(i, false, loaded.p50))
		found = append(found, rates, half)
	}
	return append(found, newResult("jobs_per_second.with_tables", "jobs/s", withTables).against(peerRiver, c.each(1, false, loaded.perSecond))), nil
}

func measureIdle(ctx context.Context, s setting) (_ []Result, err error) {
	services := &services{}
	defer func() { err = errors.Join(err, services.stop()) }()
	if err := services.start(ctx, s.dir); err != nil {
		return nil, err
	}
	d := services.newDeployment(s.root, "idle", jobLanes())
	log, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	c := comparison{ours: ourSystem(d, log, false), peer: riverSystem(services.postgres, riverSteps), progress: s.progress}
	if err := c.warmUp(ctx); err != nil {
		return nil, err
	}
	for i := range s.rounds {
		one := load{prefix: fmt.Sprint("idle/", i), inFlight: 1, warm: size("IDLE_WARM", 300), jobs: size("IDLE_JOBS", 300)}
		if err := c.round(ctx, []load{one}); err != nil {
			return nil, err
		}
	}
	return []Result{
		newResult("job_latency_idle.p50", "ms", c.each(0, true, loaded.p50)).against(peerRiver, c.each(0, false, loaded.p50)),
		newResult("job_latency_idle.p99", "ms", c.each(0, true, loaded.p99)).against(peerRiver, c.each(0, false, loaded.p99)),
	}, nil
}

func (l loaded) perSecond() float64 { return l.rate }
func (l loaded) p50() float64       { return l.quantile(.5) }
func (l loaded) p99() float64       { return l.quantile(.99) }

// comparison collects rounds of us and of the peer, one after the other.
type comparison struct {
	ours, peer   system
	progress     io.Writer
	mine, theirs [][]loaded // by round, then by load
}

// warmUp lets both systems run jobs that do not count. A broker that has just started
// takes tens of seconds until its code is compiled; one in production is never new.
func (c *comparison) warmUp(ctx context.Context) error {
	for _, s := range []system{c.ours, c.peer} {
		warm := load{prefix: "warm", inFlight: size("SOME_IN_FLIGHT", 500), jobs: size("WARM", 10_000)}
		if _, err := s.round(ctx, []load{warm}); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) round(ctx context.Context, loads []load) error {
	for _, one := range []struct {
		system system
		rounds *[][]loaded
	}{{c.ours, &c.mine}, {c.peer, &c.theirs}} {
		found, err := one.system.round(ctx, loads)
		if err != nil {
			return err
		}
		*one.rounds = append(*one.rounds, found)
		for _, got := range found {
			fmt.Fprintf(c.progress, "  round %d: %s, %d in flight: %.0f jobs/s, p50 %.1f ms, p99 %.1f ms, %d jobs, each once\n",
				len(*one.rounds), one.system.name, got.inFlight, got.rate, got.p50(), got.p99(), len(got.ids))
		}
	}
	return nil
}

// each is one figure of every round of the i-th load.
func (c *comparison) each(i int, ours bool, figure func(loaded) float64) []float64 {
	rounds := c.theirs
	if ours {
		rounds = c.mine
	}
	var out []float64
	for _, r := range rounds {
		out = append(out, figure(r[i]))
	}
	return out
}

// tablesRound drives a load with the projector running too, and counts jobs per second until the
// tables show the end of the last one.
func tablesRound(ctx context.Context, ours system, postgres string, l load) (rate float64, err error) {
	f, err := ours.start(ctx)
	if err != nil {
		return 0, err
	}
	// The tables know the jobs of before, once they know one that came after these.
	first, err := drive(ctx, f, load{prefix: l.prefix + "/first", inFlight: 1, jobs: 1})
	if err == nil {
		err = awaitRows(ctx, postgres, first.ids)
	}
	if err != nil {
		return 0, errors.Join(err, ours.finish(context.WithoutCancel(ctx), f, nil))
	}
	began := time.Now()
	got, err := drive(ctx, f, l)
	if err == nil {
		err = awaitRows(ctx, postgres, got.ids)
	}
	rate = float64(len(got.ids)) / time.Since(began).Seconds()
	if err != nil {
		got.ids = nil
	}
	return rate, errors.Join(err, ours.finish(context.WithoutCancel(ctx), f, got.ids))
}

// awaitRows waits until the tables show that the jobs have succeeded.
func awaitRows(ctx context.Context, postgres string, ids []string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, postgres)
	if err != nil {
		return fmt.Errorf("cannot look at the tables: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		var missing int
		err := conn.QueryRow(ctx, "SELECT count(*) FROM unnest($1::text[]) AS want(id) LEFT JOIN myspinbot.jobs j ON j.id = want.id AND j.status = 'succeeded' WHERE j.id IS NULL", ids).Scan(&missing)
		var refused *pgconn.PgError
		switch {
		case errors.As(err, &refused) && refused.Code == "42P01": // undefined_table: they are being filled for the first time
		case err != nil:
			return fmt.Errorf("cannot look at the tables: %w", err)
		case missing == 0:
			return nil
		}
		if err := wait(ctx, 20*time.Millisecond, nil); err != nil {
			return fmt.Errorf("the tables still lack the end of %d jobs: %w", missing, err)
		}
	}
}
