package rounds

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// with is an environment.
func with(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// do does all rounds in two loops, each of them in 100 ms of fake time.
func do(c *Count) (done uint64) {
	var n atomic.Uint64
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			for range c.Rounds() {
				<-time.After(100 * time.Millisecond)
				n.Add(1)
			}
		})
	}
	both.Wait()
	return n.Load()
}

func TestRounds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env    []string
		done   uint64
		says   string
		broken string // what enough says
	}{
		"as many as there are by default":    {nil, 2000, "2,000 of 2,000 seeds", ""},
		"as many as are asked for":           {[]string{"SEEDS", "30000"}, 30_000, "30,000 of 30,000 seeds", ""},
		"time for all":                       {[]string{Minutes, "2"}, 2000, "2,000 of 2,000 seeds", ""},
		"fewer when the time is up":          {[]string{Minutes, "1.033"}, 1240, "1,240 of 2,000 seeds, the part's time was up", ""},
		"exactly as many as there must be":   {[]string{Minutes, "0.0825"}, 100, "100 of 2,000 seeds, the part's time was up", ""},
		"never fewer than there must be":     {[]string{Minutes, "0.08"}, 96, "96 of 2,000 seeds, the part's time was up", "at least 100 must be done"},
		"of a few, one at least":             {[]string{"SEEDS", "5", Minutes, "0.001"}, 2, "2 of 5 seeds, the part's time was up", ""},
		"the last one begun in time is done": {[]string{"SEEDS", "3", Minutes, "0.002"}, 3, "3 of 3 seeds", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				count, err := read(with(c.env...), "seeds", "SEEDS", 2000)
				if err != nil {
					t.Fatal(err)
				}
				if done := do(count); done != c.done || done != count.Begun() || count.String() != c.says {
					t.Errorf("%d were done, %q; want %d and %q", done, count, c.done, c.says)
				}
				err = count.enough()
				if (err == nil) != (c.broken == "") || err != nil && !strings.Contains(err.Error(), c.broken) {
					t.Errorf("enough says %v, want %q", err, c.broken)
				}
			})
		})
	}
}

// TestManyAtOnce has a test that does some rounds in one go, which take a minute.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for minutes, says := range map[string]string{"": "2,100 of 2,000 cases", "1.5": "1,400 of 2,000 cases, the part's time was up"} {
		synctest.Test(t, func(t *testing.T) {
			c, err := read(with(Minutes, minutes), "cases", "CASES", 2000)
			if err != nil {
				t.Fatal(err)
			}
			for c.More() {
				<-time.After(time.Minute)
				c.Done(700)
			}
			if c.String() != says {
				t.Errorf("%q minutes: %s", minutes, c)
			}
			for range c.Rounds() {
				t.Fatal("there was one more")
			}
		})
	}
}

func TestNoTimeAtAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		count, err := read(with("SEEDS", "3", Minutes, "1"), "seeds", "SEEDS", 2000)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if done := do(count); done != 0 || count.enough() == nil {
			t.Errorf("%d were done, and that is enough: %q", done, count)
		}
	})
}

func TestAFailedTestHasNoLackOfTime(t *testing.T) {
	t.Parallel()
	count, err := read(with(), "seeds", "SEEDS", 2000)
	if err != nil {
		t.Fatal(err)
	}
	for range count.Rounds() {
		break // it has failed
	}
	if err := count.enough(); err != nil || count.String() != "1 of 2,000 seeds" {
		t.Errorf("%q, %v", count, err)
	}
}

func TestWrongNumbersAreRefused(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{{"SEEDS", "0"}, {"SEEDS", "-1"}, {"SEEDS", "many"}, {Minutes, "0"}, {Minutes, "soon"}, {Minutes, "NaN"}} {
		if _, err := read(with(env...), "seeds", "SEEDS", 2000); err == nil || !strings.Contains(err.Error(), env[0]+"=") {
			t.Errorf("%v: %v", env, err)
		}
	}
}

func TestCountsAreTold(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "told")
	for range 2 {
		count, err := read(with("SEEDS", "1200"), "seeds", "SEEDS", 2000)
		if err != nil {
			t.Fatal(err)
		}
		for n := range count.Rounds() {
			if n%2 == 1 {
				count.GiveBack()
			}
		}
		if err := count.tell(file); err != nil {
			t.Fatal(err)
		}
	}
	told, err := os.ReadFile(file)
	if want := "600 of 1,200 seeds\n600 of 1,200 seeds\n"; err != nil || string(told) != want {
		t.Errorf("told %q (%v), want %q", told, err, want)
	}
}
