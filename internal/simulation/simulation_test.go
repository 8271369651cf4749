// The seeds: what must hold holds for each of them, the same seed is the same run,
// and together they make everything happen that is worth it.

package simulation

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// seedsByDefault are the seeds that every change is tested with.
const seedsByDefault = 2000

// number reads a setting of the test from its environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s is no number", name, s)
	}
	return n
}

// TestSeed runs the one seed that SEED names and tells its steps.
func TestSeed(t *testing.T) {
	t.Parallel()
	r := Run(number(t, "SEED", 1), true)
	t.Log("the steps:\n" + strings.Join(r.Trace, "\n"))
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
}

func TestSeedIsTheSameRun(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		first, second := Run(seed, true), Run(seed, true)
		if first.Digest != second.Digest {
			i := 0
			for i < min(len(first.Trace), len(second.Trace)) && first.Trace[i] == second.Trace[i] {
				i++
			}
			t.Fatalf("seed %d makes two logs; they part after\n%s", seed, strings.Join(first.Trace[max(0, i-3):min(i+1, len(first.Trace))], "\n"))
		}
	}
}

// TestSeeds runs SEEDS seeds from the one named FROM on. A failing one names itself.
func TestSeeds(t *testing.T) {
	t.Parallel()
	from, n := number(t, "FROM", 1), number(t, "SEEDS", seedsByDefault)
	var mu sync.Mutex
	seen, failed := map[string]int{}, 0
	t.Run("half", func(t *testing.T) {
		for half := range uint64(2) {
			t.Run(strconv.FormatUint(half, 10), func(t *testing.T) {
				t.Parallel()
				for seed := from + half; seed < from+n; seed += 2 {
					r := Run(seed, false)
					mu.Lock()
					for what, times := range r.Seen {
						seen[what] += times
					}
					if r.Err() != nil {
						t.Error(r.Err())
						failed++
					}
					enough := failed >= 5
					mu.Unlock()
					if enough {
						return
					}
				}
			})
		}
	})
	if failed == 0 && n >= seedsByDefault {
		everythingHappened(t, seen)
	}
}

// everythingHappened holds the seeds to have exercised what they are for, so that a
// change to the models cannot silently stop it.
func everythingHappened(t *testing.T, seen map[string]int) {
	t.Helper()
	for _, name := range events.Types() {
		p, err := events.Zero(name)
		if err != nil {
			t.Fatal(err)
		}
		_, fact := p.(events.JobFact)
		_, input := p.(events.JobInput)
		if (fact || input && p.EventType() != "task.accepted") && seen[name] == 0 {
			t.Errorf("no seed led to %s", name)
		}
	}
	for _, what := range situations {
		if seen[what] == 0 {
			t.Errorf("in no seed %s", what)
		}
	}
	if testing.Verbose() {
		for _, what := range slices.Sorted(keys(seen)) {
			t.Logf("%7d  %s", seen[what], what)
		}
	}
}

func keys(m map[string]int) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}
