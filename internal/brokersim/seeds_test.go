//go:build synctests

// Seeded runs.

package brokersim_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/rounds"
)

// seedsByDefault are the seeds that every change is tested with.
const seedsByDefault = 200

func TestMain(m *testing.M) {
	// Worlds are short-lived and small: collecting less often saves a third of the time.
	debug.SetGCPercent(1000)
	debug.SetMemoryLimit(500 << 20)
	os.Exit(m.Run())
}

// TestSeeds runs SEEDS_B seeds, or as many as there is time for.
func TestSeeds(t *testing.T) {
	t.Parallel()
	seeds := rounds.New(t, "seeds of layer B", "SEEDS_B", seedsByDefault)
	var total totals
	t.Run("seed", func(t *testing.T) {
		var lanes sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			lanes.Go(func() {
				for seed := range seeds.Rounds() {
					began := time.Time{}
					t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
						began = time.Now()
						r := run(t, newPlan(seed))
						total.add(r, time.Since(began))
					})
					if began.IsZero() { // -run names another
						seeds.GiveBack()
					}
				}
			})
		}
		lanes.Wait()
	})
	t.Log(total.String())
	if !t.Failed() && seeds.Begun() >= seedsByDefault {
		total.everythingHappened(t)
	}
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
	hours  time.Duration // of the seeds that took more than one
	long   int           // seeds that did
	most   time.Duration // that one took
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
	s.most = max(s.most, r.took)
	if r.took > time.Hour {
		s.long, s.hours = s.long+1, s.hours+r.took
	}
	s.cpu += wall
	for k, n := range r.counts {
		s.counts[k] += n
	}
}

// everythingHappened holds the seeds to have waited for what takes hours, so that a
// change to the plans cannot silently stop it.
func (s *totals) everythingHappened(t *testing.T) {
	t.Helper()
	if s.long == 0 {
		t.Error("no seed has taken more than an hour")
	}
	for _, what := range hoursWaits {
		if s.counts[what] == 0 {
			t.Errorf("no seed met: %s", what)
		}
	}
}

func (s *totals) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d seeds, %d jobs, %v of fake time in %v of real time", s.runs, s.jobs, s.fake.Round(time.Second), s.cpu.Round(time.Second))
	fmt.Fprintf(&b, "\n%d of the seeds took more than an hour, together %.0f hours; the longest %.1f", s.long, s.hours.Hours(), s.most.Hours())
	for _, k := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(&b, "\n%6d %s", s.counts[k], k)
	}
	return b.String()
}
