// The account under random work: never more than the budget, nobody waits for ever.

package vram

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const budget = 100

// desk is a card with processes on it, and what its memory really holds.
type desk struct {
	t      *rapid.T
	dir    string
	now    time.Time
	cards  []*Card
	claims map[string]Claim // everything that wants to run or does
	owner  map[string]*Card
	runs   map[string]bool
	units  map[string]map[string]int // memory of servers by model
	next   int
}

func newDesk(t *rapid.T, dir string) *desk {
	d := &desk{t: t, dir: dir, now: time.Unix(1_700_000_000, 0), claims: map[string]Claim{}, owner: map[string]*Card{}, runs: map[string]bool{}, units: map[string]map[string]int{}}
	d.start()
	return d
}

func (d *desk) start() {
	c, err := Open(Config{Owner: fmt.Sprint("p", d.next), Budget: budget, Folder: d.dir, Known: func(string) bool { return true }, Now: func() time.Time { return d.now }})
	if err != nil {
		d.t.Fatal(err)
	}
	d.next++
	d.cards = append(d.cards, c)
}

// kill ends a process as a signal does: its files are closed, and nothing is written.
func (d *desk) kill(c *Card) {
	f := c.book.(*folder)
	if err := errors.Join(f.mine.Close(), f.guard.Close()); err != nil {
		d.t.Fatal(err)
	}
	d.cards = slices.DeleteFunc(d.cards, func(o *Card) bool { return o == c })
	for id, owner := range d.owner {
		if owner == c {
			d.end(id)
		}
	}
}

// end takes a claim away; what a server has loaded stays there.
func (d *desk) end(id string) {
	delete(d.claims, id)
	delete(d.owner, id)
	delete(d.runs, id)
}

// ask has a process ask for one of its claims.
func (d *desk) ask(id string) bool {
	c := d.claims[id]
	ok, err := d.owner[id].Admit(c)
	if err != nil {
		d.t.Fatal(err)
	}
	if ok && !d.runs[id] {
		d.runs[id] = true
		if c.Unit != "" {
			if d.units[c.Unit] == nil {
				d.units[c.Unit] = map[string]int{}
			}
			d.units[c.Unit][c.Model] = max(d.units[c.Unit][c.Model], c.MiB)
		}
	}
	return ok
}

// taken is what the memory holds, by the test's own reckoning.
func (d *desk) taken() int {
	total, working := 0, map[string]int{}
	for id := range d.runs {
		c := d.claims[id]
		if c.Unit == "" {
			total += c.MiB
		} else {
			working[c.Unit+"/"+c.Model] += c.MiB
		}
	}
	for unit, models := range d.units {
		for model, mib := range models {
			at := unit + "/" + model
			total += max(mib, working[at])
		}
	}
	return total
}

func (d *desk) unload(c *Card) {
	units, err := c.Unneeded()
	if err != nil {
		d.t.Fatal(err)
	}
	for _, u := range units {
		for id := range d.runs {
			if d.claims[id].Unit == u {
				d.t.Fatalf("%s is to unload while %s works there", u, id)
			}
		}
		done := rapid.IntRange(0, 3).Draw(d.t, "answers") > 0
		if done {
			delete(d.units, u)
		}
		c.Unloaded(u, done)
	}
}

func (d *desk) ids(of func(id string) bool) []string {
	var out []string
	for id := range d.claims {
		if of(id) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

func (d *desk) step() {
	t := d.t
	d.now = d.now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond)
	waiting, running := d.ids(func(id string) bool { return !d.runs[id] }), d.ids(func(id string) bool { return d.runs[id] })
	switch what := rapid.IntRange(0, 9).Draw(t, "what"); {
	case what < 3 || len(d.claims) == 0:
		id := fmt.Sprint("a", d.next)
		d.next++
		unit := rapid.SampledFrom([]string{"", "comfy", "ollama"}).Draw(t, "unit")
		d.claims[id] = Claim{ID: id, MiB: rapid.IntRange(1, budget).Draw(t, "mib"), Unit: unit, Model: rapid.SampledFrom([]string{"m", "n"}).Draw(t, "model"), Queue: rapid.SampledFrom([]string{"render", "tts"}).Draw(t, "queue"),
			Batch: rapid.Bool().Draw(t, "batch")}
		d.owner[id] = rapid.SampledFrom(d.cards).Draw(t, "process")
		d.ask(id)
	case what < 5 && len(waiting) > 0:
		d.ask(rapid.SampledFrom(waiting).Draw(t, "asks"))
	case what < 7 && len(running) > 0:
		id := rapid.SampledFrom(running).Draw(t, "ends")
		d.owner[id].Release(id)
		d.end(id)
	case what == 7 && len(waiting) > 0:
		id := rapid.SampledFrom(waiting).Draw(t, "gives up")
		d.owner[id].Withdraw(id)
		d.end(id)
	case what == 8:
		d.unload(rapid.SampledFrom(d.cards).Draw(t, "unloads"))
	case len(d.cards) > 1 && rapid.Bool().Draw(t, "kill"):
		d.kill(rapid.SampledFrom(d.cards).Draw(t, "killed"))
	case len(d.cards) < 4:
		d.start()
	}
	if got := d.taken(); got > budget {
		t.Fatalf("%d MiB are taken of %d", got, budget)
	}
}

// settle lets everything end: then everybody gets in, one after the other.
func (d *desk) settle() {
	for round := 0; len(d.claims) > 0; round++ {
		if round > 10_000 {
			d.t.Fatalf("%d claims never get in, with %d MiB taken", len(d.claims), d.taken())
		}
		d.now = d.now.Add(time.Second)
		for _, id := range d.ids(func(string) bool { return true }) {
			if d.ask(id) {
				d.owner[id].Release(id)
				d.end(id)
			}
		}
		for _, c := range d.cards {
			d.unload(c)
		}
		if got := d.taken(); got > budget {
			d.t.Fatalf("%d MiB are taken of %d", got, budget)
		}
	}
}

func (d *desk) close() {
	for _, c := range d.cards {
		if err := c.Close(); err != nil {
			d.t.Fatal(err)
		}
	}
}

func TestNoCardHoldsMoreThanItsBudget(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(root, "card")
		if err != nil {
			t.Fatal(err)
		}
		d := newDesk(t, dir)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			d.step()
		}
		d.settle()
		d.close()
	})
}

// clocked is a card of a process alone, at a time that the test sets.
func clocked(t *testing.T) (*Card, *time.Time) {
	t.Helper()
	now := time.Unix(1_700_000_000, 0)
	c, err := Open(Config{Owner: "one", Budget: budget, Known: func(string) bool { return true }, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return c, &now
}

func admit(t *testing.T, c *Card, claim Claim, want bool, why string) {
	t.Helper()
	if got, err := c.Admit(claim); err != nil || got != want {
		t.Fatalf("%s was admitted: %v, %v; want %v: %s", claim.ID, got, err, want, why)
	}
}

func TestALargeClaimIsOvertakenOnlyForItsPatience(t *testing.T) {
	t.Parallel()
	c, now := clocked(t)
	small := func(id string) Claim { return Claim{ID: id, MiB: 40, Queue: "tts"} }
	large := Claim{ID: "large", MiB: 90, Queue: "render"}
	admit(t, c, small("s0"), true, "the card is empty")
	admit(t, c, large, false, "there is no room")
	admit(t, c, small("s1"), true, "it fits, and the large one is not due")
	*now = now.Add(29 * time.Second)
	c.Release("s0")
	admit(t, c, large, false, "there is no room")
	admit(t, c, small("s2"), true, "the large one is not due yet")
	*now = now.Add(time.Second)
	c.Release("s1")
	admit(t, c, large, false, "there is no room")
	admit(t, c, small("s3"), false, "the large one is due")
	c.Release("s2")
	admit(t, c, small("s3"), false, "the large one is due")
	admit(t, c, large, true, "the card is empty")
}

func TestInteractiveGoesBeforeBatchForABoundedTime(t *testing.T) {
	t.Parallel()
	c, now := clocked(t)
	batch, soon := Claim{ID: "batch", MiB: 60, Queue: "render", Batch: true}, Claim{ID: "soon", MiB: 90, Queue: "tts"}
	admit(t, c, Claim{ID: "first", MiB: 30, Queue: "lipsync"}, true, "the card is empty")
	admit(t, c, soon, false, "there is no room")
	*now = now.Add(time.Second)
	admit(t, c, batch, false, "interactive work waits")
	*now = now.Add(10 * time.Minute)
	admit(t, c, soon, false, "there is no room")
	admit(t, c, batch, false, "the interactive claim came first and is due as well")
	c.Withdraw("soon")
	later := Claim{ID: "later", MiB: 70, Queue: "tts"}
	admit(t, c, later, false, "batch work has lost its patience")
	admit(t, c, batch, true, "it has lost its patience")
}

// Who has no free slot does not ask, and leaves the memory to others, but not to claims
// that would take its slot.
func TestWhoDoesNotAskKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	c, now := clocked(t)
	admit(t, c, Claim{ID: "first", MiB: 50, Queue: "render"}, true, "the card is empty")
	admit(t, c, Claim{ID: "large", MiB: 60, Queue: "render"}, false, "there is no room")
	*now = now.Add(time.Minute)
	admit(t, c, Claim{ID: "tts", MiB: 10, Queue: "tts"}, true, "the large one has not asked for a minute")
	admit(t, c, Claim{ID: "beside", MiB: 10, Queue: "render"}, false, "the large one waits for the same slot, and is due")
}

func TestWhatIsLoadedIsUnloadedForTheNextInLineAlone(t *testing.T) {
	t.Parallel()
	c, now := clocked(t)
	for i, unit := range []string{"old", "new"} {
		id := fmt.Sprint(i)
		admit(t, c, Claim{ID: id, MiB: 40, Unit: unit, Model: "m"}, true, "there is room")
		c.Release(id)
		*now = now.Add(time.Second)
	}
	admit(t, c, Claim{ID: "again", MiB: 40, Unit: "new", Model: "m"}, true, "the model is loaded already")
	if units, err := c.Unneeded(); err != nil || len(units) > 0 {
		t.Fatalf("%v are to unload although nobody waits, %v", units, err)
	}
	admit(t, c, Claim{ID: "more", MiB: 30}, false, "there is no room")
	units, err := c.Unneeded()
	if err != nil || !slices.Equal(units, []string{"old"}) {
		t.Fatalf("%v are to unload, %v; want the unit in which nothing works", units, err)
	}
	admit(t, c, Claim{ID: "late", MiB: 10, Unit: "old", Model: "m"}, false, "its unit is being unloaded")
	c.Unloaded("old", true)
	admit(t, c, Claim{ID: "more", MiB: 30}, true, "there is room now")
	if u, err := c.Usage(); err != nil || u.Running != 70 || u.Loaded != 0 {
		t.Errorf("usage is %+v, %v; want 70 MiB running and none loaded", u, err)
	}
}
