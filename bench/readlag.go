package main

// This file measures how late rows are.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

// lagRate is how many facts a second are written while lags are taken.
const lagRate = 1000

// jobPace is the time from one job to the next, whose facts are written at once.
const jobPace = time.Second / lagRate * factsPerJob

func measureReadLag(ctx context.Context, s setting) (_ []Result, err error) {
	b, err := startTables(ctx, s, "readlag")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if _, err := b.rebuild(ctx); err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- projections.NewProjector(b.config()).Run(running) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	if _, err := b.pool.Exec(ctx, "CREATE TABLE IF NOT EXISTS public.bench_commits (n bigint PRIMARY KEY)"); err != nil {
		return nil, err
	}
	var half, late, commitHalf, commitLate []float64
	for i := range s.rounds {
		lags, err := b.lags(ctx, size("LAG_FACTS", 20_000))
		if err != nil {
			return nil, err
		}
		commits, err := b.commits(ctx, i*1000, 1000)
		if err != nil {
			return nil, err
		}
		half, late = append(half, milliseconds(quantile(lags, 0.5))), append(late, milliseconds(quantile(lags, 0.99)))
		commitHalf, commitLate = append(commitHalf, milliseconds(quantile(commits, 0.5))), append(commitLate, milliseconds(quantile(commits, 0.99)))
		fmt.Fprintf(s.progress, "  round %d: rows readable after %.1f ms, p99 %.1f ms; a commit takes %.2f ms, p99 %.2f ms\n",
			i+1, half[i], late[i], commitHalf[i], commitLate[i])
	}
	return []Result{newResult("read_lag.p50", "ms", half).against("a commit of PostgreSQL", commitHalf),
		newResult("read_lag.p99", "ms", late).against("a commit of PostgreSQL", commitLate)}, nil
}

// lags writes facts at lagRate and waits, for the last of every job, from its being committed to
// its row being readable.
func (b *tablesBench) lags(ctx context.Context, facts int) ([]time.Duration, error) {
	reader, jobs := projections.NewReader(b.pool), facts/factsPerJob
	found, taken := make(chan error, jobs), make([]time.Duration, jobs)
	pace := time.NewTicker(jobPace)
	defer pace.Stop()
	for n := range jobs {
		told := factsOf(b.jobs + n)
		var records []eventlog.Record
		for _, m := range told {
			r, err := record(events.TopicJobEvents, m)
			if err != nil {
				return nil, err
			}
			records = append(records, r)
		}
		last := told[len(told)-1]
		go func() {
			err := b.log.Produce(ctx, records...)
			committed := time.Now()
			if err == nil {
				err = reader.WaitFor(ctx, last.Tenant, last.AggregateID, last.Version)
			}
			taken[n] = time.Since(committed)
			found <- err
		}()
		select {
		case <-pace.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	b.jobs += jobs
	for range jobs {
		if err := <-found; err != nil {
			return nil, fmt.Errorf("cannot see a row: %w", err)
		}
	}
	slices.Sort(taken)
	return taken, nil
}

// commits takes the time of commits of one row each.
func (b *tablesBench) commits(ctx context.Context, from, n int) ([]time.Duration, error) {
	taken := make([]time.Duration, n)
	for i := range taken {
		began := time.Now()
		if _, err := b.pool.Exec(ctx, "INSERT INTO public.bench_commits VALUES ($1)", from+i); err != nil {
			return nil, err
		}
		taken[i] = time.Since(began)
	}
	slices.Sort(taken)
	return taken, nil
}
