package main

// This file measures how late rows are, and how much memory a rebuild takes on a short and on a
// long history.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

// lagRate is how many facts a second are written while lags are taken.
const lagRate = 1000

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
	pace := time.NewTicker(time.Second / lagRate * factsPerJob) // a job at a time
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

func measureRebuildMemory(ctx context.Context, s setting) (_ []Result, err error) {
	b, err := startTables(ctx, s, "memory")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	short := size("MEMORY_JOBS", 70_000) // 1 million facts, and then 3
	var peaks [2][]float64
	for i, jobs := range []int{short, 2 * short} {
		if err := b.write(ctx, jobs); err != nil {
			return nil, err
		}
		for range s.rounds {
			peak, err := b.rebuildProcess(ctx)
			if err != nil {
				return nil, err
			}
			peaks[i] = append(peaks[i], peak)
			fmt.Fprintf(s.progress, "  a rebuild of %d facts takes %.0f MB at most\n", b.jobs*factsPerJob, peak)
		}
	}
	return []Result{newResult("rebuild_memory", "MB", peaks[1]).against("a third of the history", peaks[0])}, nil
}

// rebuildProcess runs `myspinbot replay rebuild` and returns the most memory it had resident, in MB.
func (b *tablesBench) rebuildProcess(ctx context.Context) (float64, error) {
	c := exec.CommandContext(ctx, b.deployment.program, "replay", "rebuild")
	c.Env, c.Dir = b.deployment.env, b.services.dir
	said, err := os.Create(filepath.Join(b.services.dir, "rebuild.log"))
	if err != nil {
		return 0, fmt.Errorf("cannot keep what the rebuild says: %w", err)
	}
	defer func() { err = errors.Join(err, said.Close()) }()
	c.Stdout, c.Stderr = said, said
	if err := c.Run(); err != nil {
		return 0, fmt.Errorf("the rebuild failed: %w\n%s", err, fileText(said.Name()))
	}
	usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, errors.New("the system does not tell how much memory a process had")
	}
	return float64(usage.Maxrss) * 1024 / 1e6, nil
}
