package main

// Tests that the peer keeps the promise that it is compared for: each step once.

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/internal/devstack"
)

func TestRiversPipelineDoesEachStepOnce(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	postgres, err := devstack.StartPostgres(ctx, devstack.Postgres{Dir: t.TempDir(), Settings: map[string]string{"fsync": "off"}})
	if err != nil {
		t.Fatalf("run make deps: %v", err)
	}
	t.Cleanup(func() { _ = postgres.Stop(context.Background()) })
	f, err := startRiver(ctx, postgres.URL(), riverSteps)
	if err != nil {
		t.Fatal(err)
	}
	got, err := drive(ctx, f, load{prefix: "test", inFlight: 20, warm: 20, jobs: 100})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.took) < 100 || len(got.ids) < 120 || got.rate <= 0 {
		t.Errorf("measured %d of %d pipelines, %v a second", len(got.took), len(got.ids), got.rate)
	}
	if err := f.check(ctx, got.ids); err != nil {
		t.Error(err)
	}

	// The check can fail: a pipeline too few, one of nobody, a step done twice, one lost, one open.
	if err := f.check(ctx, got.ids[1:]); err == nil || !strings.Contains(err.Error(), "4 of nobody") {
		t.Errorf("a foreign pipeline passed: %v", err)
	}
	for _, change := range []string{
		`INSERT INTO river_job (args, kind, max_attempts, state, finalized_at) SELECT args, kind, max_attempts, state, finalized_at FROM river_job LIMIT 1`,
		`DELETE FROM river_job WHERE id = (SELECT max(id) FROM river_job)`,
		`DELETE FROM river_job WHERE id = (SELECT min(id) FROM river_job)`,
		`UPDATE river_job SET state = 'available', finalized_at = NULL WHERE id = (SELECT min(id) FROM river_job)`,
	} {
		if _, err := f.pool.Exec(ctx, change); err != nil {
			t.Fatal(err)
		}
		err := f.check(ctx, got.ids)
		if mended := strings.Contains(change, "max(id)"); (err == nil) != mended {
			t.Errorf("after %s: %v", change, err)
		}
	}
	if err := f.stop(ctx); err != nil {
		t.Error(err)
	}
}

func TestAStepThatFailsBreaksTheFlow(t *testing.T) {
	t.Parallel()
	f := &riverFlow{err: make(chan error, 1)}
	f.HandlePanic(context.Background(), nil, "no", "")
	f.HandlePanic(context.Background(), nil, "more", "") // must not block
	if err := <-f.broken(); err == nil || !strings.Contains(err.Error(), "a panic: no") {
		t.Errorf("got %v", err)
	}
}
