// The count of a test's rounds.

package rounds

import (
	"cmp"
	"fmt"
	"iter"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// The environment of every counted test. Neither needs to be set.
const (
	// Minutes is how long a counted test may begin new rounds, from its start, such as
	// 2.5. Unset: until all are done.
	Minutes = "ROUNDS_MINUTES"
	// Told names a file to which each counted test appends a line with its count.
	Told = "ROUNDS_TOLD"
)

// leastShare is which part of the rounds must be done, whatever the time: a twentieth.
const leastShare = 20

// Count hands out the rounds of one test. It may be used by several goroutines.
type Count struct {
	of    string // what is counted
	want  uint64
	until time.Time // zero: there is time for all

	mu     sync.Mutex
	next   uint64 // round to hand out
	undone uint64 // rounds given back
	timeUp bool   // a round was refused
	note   string // what else is told of them
}

// New counts the rounds of the test t: as many as the variable says, which is a whole
// number from 1, or otherwise. When the test ends, its log and the file that Told names
// say how many there were. A test whose time was up fails if fewer than a twentieth were.
func New(t testing.TB, of, variable string, otherwise uint64) *Count {
	t.Helper()
	c, err := read(os.Getenv, of, variable, otherwise)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		t.Helper()
		t.Log(c)
		if err := c.tell(os.Getenv(Told)); err != nil {
			t.Error(err)
		}
		if err := c.enough(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func read(env func(string) string, of, variable string, otherwise uint64) (*Count, error) {
	c := &Count{of: of, want: otherwise}
	if text := env(variable); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || n == 0 {
			return nil, fmt.Errorf("%s=%q: want a whole number from 1", variable, text)
		}
		c.want = n
	}
	if text := env(Minutes); text != "" {
		m, err := strconv.ParseFloat(text, 64)
		if err != nil || !(m > 0 && m < 1e6) {
			return nil, fmt.Errorf("%s=%q: want a number of minutes, such as 2.5", Minutes, text)
		}
		c.until = time.Now().Add(time.Duration(m * float64(time.Minute)))
	}
	return c, nil
}

// Want is how many rounds were asked for.
func (c *Count) Want() uint64 { return c.want }

// Begun is how many rounds there have been so far, those under way too.
func (c *Count) Begun() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next - c.undone
}

// GiveBack says that a round was handed out and not begun, because go test was told
// to run another.
func (c *Count) GiveBack() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.undone++
}

// Rounds are numbered from 0, each handed out once, in whichever of the loops over them
// asks first. They end when all are done or the time is up.
func (c *Count) Rounds() iter.Seq[uint64] {
	return func(yield func(uint64) bool) {
		for n, more := c.take(); more && yield(n); n, more = c.take() {
		}
	}
}

// More says whether there is a round left and time for it, for tests that do many
// rounds at once and say afterwards, by Done, how many those were.
func (c *Count) More() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next < c.want && !c.until.IsZero() && time.Now().After(c.until) {
		c.timeUp = true
	}
	return c.next < c.want && !c.timeUp
}

// Done counts rounds that were not handed out. They may be more than were asked for.
func (c *Count) Done(rounds uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.next += rounds
}

// Note is told behind the count, such as which part of the rounds was of a kind.
func (c *Count) Note(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note = text
}

func (c *Count) take() (n uint64, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.next >= c.want:
		return 0, false
	case !c.until.IsZero() && !time.Now().Before(c.until):
		c.timeUp = true
		return 0, false
	}
	c.next++
	return c.next - 1, true
}

// String is such as "1,240 of 2,000 seeds, the part's time was up".
func (c *Count) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := fmt.Sprintf("%s of %s %s", grouped(c.next-c.undone), grouped(c.want), c.of)
	if c.note != "" {
		s += ", " + c.note
	}
	if c.timeUp {
		s += ", the part's time was up"
	}
	return s
}

// enough is the error of a test whose time was up too early to say anything.
func (c *Count) enough() error {
	least := (c.want + leastShare - 1) / leastShare
	c.mu.Lock()
	short := c.timeUp && c.next-c.undone < least
	c.mu.Unlock()
	if !short {
		return nil
	}
	return fmt.Errorf("%v: at least %s must be done; give the test more time (%s), or find out what has become so slow", c, grouped(least), Minutes)
}

func (c *Count) tell(file string) error {
	if file == "" {
		return nil
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot tell the count of %s: %w", c.of, err)
	}
	_, err = fmt.Fprintln(f, c)
	if err = cmp.Or(err, f.Close()); err != nil {
		return fmt.Errorf("cannot tell the count of %s: %w", c.of, err)
	}
	return nil
}

// grouped writes a number with commas between its thousands.
func grouped(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
