//go:build synctests

// Seeded runs.

package brokersim_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// seeds is how many runs the test makes: SEEDS_B, or 200.
func seeds(t *testing.T) uint64 {
	s := os.Getenv("SEEDS_B")
	if s == "" {
		return 200
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("SEEDS_B: %v", err)
	}
	return n
}

func TestMain(m *testing.M) {
	// Worlds are short-lived and small: collecting less often saves a third of the time.
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

func TestSeeds(t *testing.T) {
	t.Parallel()
	var total totals
	t.Run("seed", func(t *testing.T) {
		for seed := range seeds(t) {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				t.Parallel()
				began := time.Now()
				r := run(t, newPlan(seed))
				total.add(r, time.Since(began))
			})
		}
	})
	t.Log(total.String())
}

// result is what a run leaves behind.
type result struct {
	plan     plan
	counts   map[string]int
	failures []string
	took     time.Duration // in fake time
}

// run lives through a plan and fails the test where a promise was broken.
func run(t *testing.T, p plan) (r result) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		w := newWorld(ctx, t, p)
		defer w.close(stop)
		w.live()
		r = result{plan: p, counts: w.counts, failures: w.failures, took: time.Since(w.began)}
		if p.mutant == "" && (len(w.failures) > 0 || t.Failed()) {
			t.Errorf("%s\n%v\n%v", strings.Join(w.failures, "\n"), p, w.journal)
		}
	})
	return r
}

// live brings load and faults, and checks what has come of it.
func (w *world) live() {
	cfg := w.cfg
	cfg.Dial = w.client.dial
	client, err := eventlog.Open(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	var both sync.WaitGroup
	both.Go(func() { w.load(w.ctx, client) })
	both.Go(func() { w.inject(w.ctx) })
	both.Wait()
	w.checkState(w.ctx)
	w.requests.Wait()
	ctx, cancel := context.WithTimeout(w.ctx, w.plan.patience)
	defer cancel()
	w.awaitEnd(ctx)
	w.checkState(ctx)
	w.catchUp(ctx)
	w.check()
}

// totals sums up runs.
type totals struct {
	mu     sync.Mutex
	runs   int
	jobs   int
	fake   time.Duration
	cpu    time.Duration
	counts map[string]int
}

func (s *totals) add(r result, wall time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = map[string]int{}
	}
	s.runs++
	s.jobs += len(r.plan.jobs)
	s.fake += r.took
	s.cpu += wall
	for k, n := range r.counts {
		s.counts[k] += n
	}
}

func (s *totals) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d seeds, %d jobs, %v of fake time in %v of real time", s.runs, s.jobs, s.fake.Round(time.Second), s.cpu.Round(time.Second))
	for _, k := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(&b, "\n%6d %s", s.counts[k], k)
	}
	return b.String()
}
