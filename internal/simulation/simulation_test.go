// The seeds: what must hold holds for each of them, the same seed is the same run,
// and together they make everything happen that is worth it.

package simulation

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/rounds"
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

// TestSeedsEndWithTheirTime has no time for a million seeds, which it must say, and
// must not take for enough.
func TestSeedsEndWithTheirTime(t *testing.T) {
	t.Parallel()
	told := filepath.Join(t.TempDir(), "told")
	again := exec.Command(os.Args[0], "-test.run=^TestSeeds$") //nolint:gosec // this very binary
	again.Env = append(os.Environ(), "SEEDS=1000000", rounds.Minutes+"=0.005", rounds.Told+"="+told)
	out, err := again.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), "at least 50,000 must be done") {
		t.Errorf("a few of a million seeds are enough: %v\n%s", err, out)
	}
	line, err := os.ReadFile(told)
	if !regexp.MustCompile(`^[1-9][0-9,]* of 1,000,000 seeds of layer A, the part's time was up\n$`).Match(line) {
		t.Errorf("told %q (%v)", line, err)
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

// TestSeeds runs SEEDS seeds from the one named FROM on, or as many as there is time
// for. A failing one names itself.
func TestSeeds(t *testing.T) {
	t.Parallel()
	from, seeds := number(t, "FROM", 1), rounds.New(t, "seeds of layer A", "SEEDS", seedsByDefault)
	var mu sync.Mutex
	seen, failed := map[string]int{}, 0
	t.Run("half", func(t *testing.T) {
		for half := range uint64(2) {
			t.Run(strconv.FormatUint(half, 10), func(t *testing.T) {
				t.Parallel()
				for n := range seeds.Rounds() {
					r := Run(from+n, false)
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
	if failed == 0 && seeds.Begun() >= seedsByDefault {
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
		_, ofProfile := p.(events.ProfileFact)
		if (fact || ofProfile || input && p.EventType() != "task.accepted") && seen[name] == 0 {
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
