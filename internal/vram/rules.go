// The rules of the account, as functions of everybody's shares and the time.
//
//  1. What works in the memory and what stays loaded never adds up to more than the
//     budget. A model that is loaded already is not counted twice.
//  2. Interactive work goes before batch work that waits less long than its patience.
//  3. Who has waited for longer than its patience is due, and nobody who came later gets
//     in before it: so a large claim waits at most for its patience, for those that were
//     due before it, and for what works then.
//  4. Until then a smaller claim may go first, so that memory does not lie idle.
//  5. A model is unloaded only when the next in line needs its room, nothing works in its
//     unit, and the next in line fits once all that lies idle is unloaded.

package vram

import (
	"cmp"
	"slices"
	"time"
)

// Claim is an attempt that works in the card's memory.
type Claim struct {
	ID  string `json:"id"`
	MiB int    `json:"mib"`
	// Unit is what keeps the model in memory afterwards and can be told to unload, such
	// as a server; "" where the memory is free when the attempt ends.
	Unit  string `json:"unit,omitempty"`
	Model string `json:"model,omitempty"`
	Queue string `json:"queue"` // claims of one queue of a process wait for the same slots
	Batch bool   `json:"batch,omitempty"`
}

// waiter is a claim that has been refused.
type waiter struct {
	Claim
	Since time.Time `json:"since"`
	Asked time.Time `json:"asked"` // last
}

// Loaded is a model that stays in memory after the work with it.
type Loaded struct {
	Unit  string    `json:"unit"`
	Model string    `json:"model"`
	MiB   int       `json:"mib"`
	Used  time.Time `json:"used"` // last
	// Unloading says that it is on its way out; nothing begins in its unit until it is.
	Unloading bool `json:"unloading,omitempty"`
}

// share is what one process has of the card.
type share struct {
	Owner   string   `json:"owner"`
	Budget  int      `json:"budget_mib"`
	Running []Claim  `json:"running,omitempty"`
	Waiting []waiter `json:"waiting,omitempty"`
	Loaded  []Loaded `json:"loaded,omitempty"`
}

// askedLately is how long a claim counts as one that could begin at once: who has no
// free slot does not ask, and keeps nobody of another queue waiting.
const askedLately = 2 * time.Second

// account is everybody's share, the own one first.
type account struct {
	shares   []*share
	patience time.Duration // before an interactive claim is due
	batch    time.Duration // before a batch claim is
	now      time.Time
}

// budget is the least that any of the processes was told, in MiB.
func (a account) budget() int {
	least := a.shares[0].Budget
	for _, s := range a.shares {
		least = min(least, s.Budget)
	}
	return least
}

type place struct{ unit, model string }

// used is the memory in MiB that is taken, with more claims beside those that run, and
// without what is loaded in the units that are left out.
func (a account) used(without []string, more ...Claim) int {
	total, running, loaded := 0, map[place]int{}, map[place]int{}
	add := func(c Claim) {
		if c.Unit == "" {
			total += c.MiB
			return
		}
		running[place{c.Unit, c.Model}] += c.MiB
	}
	for _, s := range a.shares {
		for _, c := range s.Running {
			add(c)
		}
		for _, l := range s.Loaded {
			if at := (place{l.Unit, l.Model}); !slices.Contains(without, l.Unit) {
				loaded[at] = max(loaded[at], l.MiB)
			}
		}
	}
	for _, c := range more {
		add(c)
	}
	for at, mib := range running {
		total += max(mib, loaded[at])
		delete(loaded, at)
	}
	for _, mib := range loaded {
		total += mib
	}
	return total
}

func (a account) due(w waiter) bool {
	patience := a.patience
	if w.Batch {
		patience = a.batch
	}
	return a.now.Sub(w.Since) >= patience
}

// before orders those who wait.
func (a account) before(x, y waiter) int {
	rank := func(w waiter) int {
		switch {
		case a.due(w):
			return 0
		case !w.Batch:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(x), rank(y)), x.Since.Compare(y.Since), cmp.Compare(x.ID, y.ID))
}

// held says whether somebody who waits keeps the own waiter from going first.
func (a account) held(w waiter) bool {
	for i, s := range a.shares {
		for _, other := range s.Waiting {
			if other.ID == w.ID {
				continue
			}
			present := a.now.Sub(other.Asked) < askedLately || i == 0 && other.Queue == w.Queue
			blocks := a.due(other) && a.before(other, w) < 0 || !a.due(w) && w.Batch && !other.Batch
			if present && blocks {
				return true
			}
		}
	}
	return false
}

// leaving says whether something of the unit is being unloaded.
func (a account) leaving(unit string) bool {
	for _, s := range a.shares {
		if slices.ContainsFunc(s.Loaded, func(l Loaded) bool { return l.Unit == unit && l.Unloading }) {
			return true
		}
	}
	return false
}

// admits says whether the own waiter may begin now.
func (a account) admits(w waiter) bool {
	return !a.held(w) && !a.leaving(w.Unit) && a.used(nil, w.Claim) <= a.budget()
}

// idle are the units in which models are loaded and nothing works, the longest unused
// first; only of the own share if own.
func (a account) idle(own bool) []string {
	last := map[string]time.Time{}
	for i, s := range a.shares {
		for _, l := range s.Loaded {
			if (i == 0 || !own) && l.Used.After(last[l.Unit]) {
				last[l.Unit] = l.Used
			}
		}
	}
	for _, s := range a.shares {
		for _, c := range s.Running {
			delete(last, c.Unit)
		}
	}
	var out []string
	for unit := range last {
		out = append(out, unit)
	}
	slices.SortFunc(out, func(x, y string) int { return cmp.Or(last[x].Compare(last[y]), cmp.Compare(x, y)) })
	return out
}

// unneeded are the own units to unload, so that the next in line fits.
func (a account) unneeded() []string {
	var line []waiter
	for _, s := range a.shares {
		for _, w := range s.Waiting {
			if a.now.Sub(w.Asked) < askedLately {
				line = append(line, w)
			}
		}
	}
	if len(line) == 0 {
		return nil
	}
	next := slices.MinFunc(line, a.before)
	if a.used(a.idle(false), next.Claim) > a.budget() {
		return nil // what runs has to end first, and may need what is loaded
	}
	var out []string
	for _, unit := range a.idle(true) {
		if a.leaving(unit) {
			out = append(out, unit) // its room is on the way
			continue
		}
		if a.used(out, next.Claim) <= a.budget() {
			break
		}
		if unit != next.Unit || !a.only(next.Claim) {
			out = append(out, unit)
		}
	}
	return slices.DeleteFunc(out, a.leaving)
}

// only says whether the claim's model is all that its unit has loaded.
func (a account) only(c Claim) bool {
	for _, s := range a.shares {
		if slices.ContainsFunc(s.Loaded, func(l Loaded) bool { return l.Unit == c.Unit && l.Model != c.Model }) {
			return false
		}
	}
	return true
}
