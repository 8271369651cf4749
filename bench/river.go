package main

// This file is the peer: the same four steps without work on River, a job queue in PostgreSQL. It is
// tuned, and it keeps the promise that we keep: a step's job inserts the next step's in the
// transaction that completes it, so no step is lost or made twice. River is MPL-2.0; only this
// module links it.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
	"github.com/riverqueue/river/rivertype"
)

const (
	peerRiver  = "River, tuned, atomic"
	riverSteps = 4
)

// riverTuning is what River is told to get the most out of this machine; docs/benchmarks.md says what
// was tried.
type riverTuning struct {
	workers        int           // steps done at once
	conns          int           // to PostgreSQL
	cooldown, poll time.Duration // between two fetches, at the least and at the most
}

func riverTuned() riverTuning {
	return riverTuning{
		workers: size("RIVER_WORKERS", 500), conns: size("RIVER_CONNS", 32),
		cooldown: time.Duration(size("RIVER_COOLDOWN_MS", 5)) * time.Millisecond, poll: time.Duration(size("RIVER_POLL_MS", 20)) * time.Millisecond,
	}
}

// stepArgs is one step of a pipeline.
type stepArgs struct {
	Pipeline string `json:"pipeline"`
	Step     int    `json:"step"` // from 1
}

// Kind implements river.JobArgs.
func (stepArgs) Kind() string { return "step" }

// riverFlow is a running River client. It implements flow.
type riverFlow struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	tuning riverTuning
	steps  int
	done   chan ended
	err    chan error
	began  chan ended // of first steps as they are picked up, of pipelines with one step alone
}

// startRiver makes River's tables where they are missing and starts a client with its workers.
func startRiver(ctx context.Context, url string, steps int) (*riverFlow, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("cannot reach PostgreSQL: %w", err)
	}
	tuning := riverTuned()
	config.MaxConns, config.MinConns = int32(tuning.conns), int32(tuning.conns) //nolint:gosec // a few
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("cannot reach PostgreSQL: %w", err)
	}
	f := &riverFlow{pool: pool, tuning: tuning, steps: steps, done: make(chan ended, 1<<16), began: make(chan ended, 1<<16), err: make(chan error, 1)}
	if err := f.start(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return f, nil
}

func (f *riverFlow) start(ctx context.Context) error {
	driver := riverpgxv5.New(f.pool)
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: quiet})
	if err == nil {
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	}
	if err != nil {
		return fmt.Errorf("cannot make River's tables: %w", err)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &stepWorker{flow: f})
	f.client, err = river.NewClient(driver, &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: f.tuning.workers}}, Workers: workers,
		FetchCooldown: f.tuning.cooldown, FetchPollInterval: f.tuning.poll, Logger: quiet, ErrorHandler: f,
	})
	if err != nil {
		return fmt.Errorf("cannot make River's client: %w", err)
	}
	if err := f.client.Start(ctx); err != nil {
		return fmt.Errorf("cannot start River: %w", err)
	}
	return nil
}

// stop ends the workers and drops what they did, so that the next round finds small tables too.
func (f *riverFlow) stop(ctx context.Context) error {
	err := f.client.Stop(ctx)
	_, truncated := f.pool.Exec(ctx, "TRUNCATE river_job")
	f.pool.Close()
	if err := errors.Join(err, truncated); err != nil {
		return fmt.Errorf("cannot stop River: %w", err)
	}
	return nil
}

func (f *riverFlow) ends() <-chan ended   { return f.done }
func (f *riverFlow) broken() <-chan error { return f.err }

// HandleError implements river.ErrorHandler: no step may fail here.
func (f *riverFlow) HandleError(_ context.Context, _ *rivertype.JobRow, err error) *river.ErrorHandlerResult {
	select {
	case f.err <- fmt.Errorf("a step of River failed: %w", err):
	default: // one is enough
	}
	return nil
}

// HandlePanic implements river.ErrorHandler.
func (f *riverFlow) HandlePanic(ctx context.Context, job *rivertype.JobRow, value any, _ string) *river.ErrorHandlerResult {
	return f.HandleError(ctx, job, fmt.Errorf("a panic: %v", value))
}

func (f *riverFlow) submit(ctx context.Context, ids []string) error {
	params := make([]river.InsertManyParams, len(ids))
	for i, id := range ids {
		params[i].Args = stepArgs{Pipeline: id, Step: 1}
	}
	_, err := f.client.InsertManyFast(ctx, params)
	return err
}

// stepWorker does a step: nothing, and then the next step's job and its own end in one transaction.
type stepWorker struct {
	river.WorkerDefaults[stepArgs]
	flow *riverFlow
}

// Work implements river.Worker.
func (w *stepWorker) Work(ctx context.Context, job *river.Job[stepArgs]) error {
	if w.flow.steps == 1 {
		w.flow.began <- ended{job.Args.Pipeline, time.Now()}
	}
	tx, err := w.flow.pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // says no more than that it was committed
	last := job.Args.Step == w.flow.steps
	if !last {
		_, err = w.flow.client.InsertTx(ctx, tx, stepArgs{Pipeline: job.Args.Pipeline, Step: job.Args.Step + 1}, nil)
		if err != nil {
			return err
		}
	}
	if _, err = river.JobCompleteTx[*riverpgxv5.Driver](ctx, tx, job); err != nil {
		return err
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	if last {
		w.flow.done <- ended{job.Args.Pipeline, time.Now()}
	}
	return nil
}

// check tells whether every step of the pipelines was done once, and nothing else was.
func (f *riverFlow) check(ctx context.Context, ids []string) error {
	var rows, steps, open, unknown int
	err := f.pool.QueryRow(ctx, `SELECT count(*), count(DISTINCT (args->>'pipeline', args->>'step')), count(*) FILTER (WHERE state <> 'completed'),
		count(*) FILTER (WHERE NOT (args->>'pipeline' = ANY($1))) FROM river_job`, ids).Scan(&rows, &steps, &open, &unknown)
	switch want := f.steps * len(ids); {
	case err != nil:
		return fmt.Errorf("cannot check what River did: %w", err)
	case rows != want || steps != want || open > 0 || unknown > 0:
		return fmt.Errorf("the peer did not do each step once: %d pipelines of %d steps left %d rows, %d different steps, %d not completed, %d of nobody",
			len(ids), f.steps, rows, steps, open, unknown)
	}
	return nil
}
