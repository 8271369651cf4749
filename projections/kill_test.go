// A rebuild that is killed for real: a process of its own, and kill -9.

package projections

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	osexec "os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// rebuilderDatabase names the environment variable that makes a test binary a rebuilder.
const rebuilderDatabase = "MYSPINBOT_TEST_REBUILDER_DATABASE"

// killedHistory is the same log in every process.
func killedHistory(t testing.TB) (*memoryLog, int) {
	t.Helper()
	l := newLog()
	return l, tellAll(t, l, 60)
}

// TestRebuilderProcess is the process that TestRebuildKilledAtAnyMoment starts; alone it has nothing to do.
func TestRebuilderProcess(t *testing.T) { //nolint:paralleltest // alone in its process
	url := os.Getenv(rebuilderDatabase)
	if url == "" {
		return
	}
	pool, err := pgxpool.New(t.Context(), url)
	ok(t, err)
	defer pool.Close()
	l, _ := killedHistory(t)
	made := rebuilt(t, projector(pool, l, 1), RebuildOptions{Report: func(p Progress) { fmt.Println("step", p.Phase, p.Done) }})
	fmt.Println("step made", made.Generation, made.Resumed)
}

// rebuilder runs a rebuild in a process of its own and kills it a moment after the step
// that kill chooses. It returns the steps that were told, and whether it was killed.
func rebuilder(t *testing.T, pool *pgxpool.Pool, kill func(step int, text string) bool, delay time.Duration) (steps []string, killed bool) {
	t.Helper()
	c := osexec.Command(os.Args[0], "-test.run=^TestRebuilderProcess$", "-test.v")
	c.Env = append(os.Environ(), rebuilderDatabase+"="+pool.Config().ConnString())
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	ok(t, err)
	ok(t, c.Start())
	var others []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text, isStep := strings.CutPrefix(lines.Text(), "step ")
		if !isStep {
			others = append(others, lines.Text())
			continue
		}
		if steps = append(steps, text); kill(len(steps), text) {
			time.AfterFunc(delay, func() { _ = c.Process.Kill() })
		}
	}
	err = c.Wait()
	if err != nil && c.ProcessState.Exited() {
		t.Fatalf("the rebuilder ended with %v:\n%s", err, strings.Join(others, "\n"))
	}
	return steps, err != nil
}

// TestRebuildKilledAtAnyMoment kills rebuilders at 20 random moments, half of them behind
// the copying. Whatever moment it is, readers see tables that are equal byte for byte,
// and the next rebuild goes on.
func TestRebuildKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	pool := database(t)
	l, n := killedHistory(t)
	live := projector(pool, l, 50)
	launch(t, live)
	caughtUp(t, l, live)
	before := dump(t, pool)
	all, _ := rebuilder(t, pool, func(int, string) bool { return false }, 0)
	if len(all) < 100 || generation(t, pool) != 2 {
		t.Fatalf("a rebuild has %d steps and made generation %d", len(all), generation(t, pool))
	}
	kills, resumed := 0, 0
	for tries := 0; kills < 20; tries++ {
		at, delay := 1+rand.N(len(all)), rand.N(3*time.Millisecond)
		kill := func(step int, _ string) bool { return step == at }
		if kills%2 == 1 {
			delay *= 10
			kill = func(_ int, text string) bool { return strings.HasPrefix(text, PhaseIndex) }
		}
		told, killed := rebuilder(t, pool, kill, delay)
		if dump(t, pool) != before {
			t.Fatalf("a rebuilder that was killed after %q changed what readers see", told[len(told)-1])
		}
		if told[0] != "copy 0" {
			resumed++
		}
		if killed {
			kills++
			t.Logf("kill %d: %q … %q", kills, told[0], told[len(told)-1])
		} else if tries > 100 {
			t.Fatalf("%d of %d rebuilders were killed before they were done", kills, tries)
		}
	}
	if resumed < 5 {
		t.Errorf("%d rebuilds went on with another's work", resumed)
	}
	if rebuilder(t, pool, func(int, string) bool { return false }, 0); dump(t, pool) != before {
		t.Error("after the last rebuild the tables differ")
	}
	wantProven(t, pool, l, n)
	eventually(t, "the projector goes on with the new tables", func() bool { return live.Status().Generation == generation(t, pool) })
}
