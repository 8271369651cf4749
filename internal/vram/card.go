// A process's view of the card: what it asks for, and what it gives back.

package vram

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// Config says what the card has, and who else is on it.
type Config struct {
	Owner  string // name of the process, for people
	Budget int    // MiB that all processes on the card may take together, at least 1
	// Folder in which the processes on the card keep their shares. Empty: this process is
	// alone on it.
	Folder string
	// Patience is how long an interactive claim lets smaller ones go first, BatchPatience
	// how long a batch claim lets all interactive ones do so. Defaults 30 s and 10 min.
	Patience, BatchPatience time.Duration
	// Known says whether this process can unload the unit: it takes over what a process
	// that was killed has left loaded there. Nil: it can unload nothing.
	Known func(unit string) bool
	Now   func() time.Time // default time.Now
}

// Card is this process's part in a card's account. Its methods may be called from
// several goroutines.
type Card struct {
	cfg Config

	mu   sync.Mutex
	book book
	own  share
	owed []func(account) // changes that could not be made while others held the account
}

// book is where the shares of other processes are seen, and the own one shows.
type book interface {
	// with calls fn with the shares of the other living processes and those of the dead,
	// which are gone afterwards, while nobody else changes anything; then it shows the own
	// one. It is an error when others hold the account for too long.
	with(own *share, fn func(others, dead []*share)) error
	// close leaves the own share to whoever knows what it has loaded.
	close(own *share) error
}

// Open takes part in the card's account.
func Open(cfg Config) (*Card, error) {
	if cfg.Budget < 1 {
		return nil, fmt.Errorf("a card with a budget of %d MiB holds nothing: give at least 1", cfg.Budget)
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 30 * time.Second
	}
	if cfg.BatchPatience <= 0 {
		cfg.BatchPatience = 10 * time.Minute
	}
	if cfg.Known == nil {
		cfg.Known = func(string) bool { return false }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Card{cfg: cfg, own: share{Owner: cfg.Owner, Budget: cfg.Budget}, book: alone{}}
	if cfg.Folder != "" {
		b, err := openFolder(cfg.Folder)
		if err != nil {
			return nil, fmt.Errorf("cannot share the card's account in %s: %w", cfg.Folder, err)
		}
		c.book = b
	}
	return c, nil
}

// alone is the book of a process that has the card to itself.
type alone struct{}

func (alone) with(_ *share, fn func(others, dead []*share)) error {
	fn(nil, nil)
	return nil
}

func (alone) close(*share) error { return nil }

// update calls fn with the whole account.
func (c *Card) update(fn func(account)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.change(fn)
}

// change is update for who holds mu.
func (c *Card) change(fn func(account)) error {
	return c.book.with(&c.own, func(others, dead []*share) {
		for _, d := range dead {
			c.inherit(d)
		}
		a := account{shares: append([]*share{&c.own}, others...), patience: c.cfg.Patience, batch: c.cfg.BatchPatience, now: c.cfg.Now()}
		for _, owed := range c.owed {
			owed(a)
		}
		c.owed = nil
		fn(a)
	})
}

// surely is update for what gives back: where it cannot be done now, it is with the next
// update. Until then more counts than is taken.
func (c *Card) surely(fn func(account)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.change(fn) != nil {
		c.owed = append(c.owed, fn)
	}
}

// inherit takes over what a dead process has left in memory: its own is free, but its
// servers live on, with what they have loaded.
func (c *Card) inherit(dead *share) {
	for _, l := range dead.Loaded {
		l.Unloading = false
		c.keep(l)
	}
	for _, r := range dead.Running {
		c.keep(Loaded{Unit: r.Unit, Model: r.Model, MiB: r.MiB, Used: c.cfg.Now()})
	}
}

// keep notes a loaded model of a unit that this process knows.
func (c *Card) keep(l Loaded) {
	if l.Unit == "" || !c.cfg.Known(l.Unit) {
		return
	}
	i := slices.IndexFunc(c.own.Loaded, func(have Loaded) bool { return have.Unit == l.Unit && have.Model == l.Model })
	if i < 0 {
		c.own.Loaded = append(c.own.Loaded, l)
		return
	}
	c.own.Loaded[i].MiB = max(c.own.Loaded[i].MiB, l.MiB)
	if l.Used.After(c.own.Loaded[i].Used) {
		c.own.Loaded[i].Used = l.Used
	}
}

// Admit says whether the claim may begin, and counts it if so, until Release. One that
// may not waits from then on, until it is asked about again or withdrawn: who wants it to
// begin asks again within a second, and not without a free slot. A claim that runs
// already is admitted. After an error nobody knows, and it was not admitted.
func (c *Card) Admit(claim Claim) (admitted bool, err error) {
	err = c.update(func(a account) {
		if slices.ContainsFunc(c.own.Running, func(r Claim) bool { return r.ID == claim.ID }) {
			admitted = true
			return
		}
		w := waiter{Claim: claim, Since: a.now, Asked: a.now}
		i := slices.IndexFunc(c.own.Waiting, func(w waiter) bool { return w.ID == claim.ID })
		if i >= 0 {
			w.Since = c.own.Waiting[i].Since
			c.own.Waiting[i] = w
		}
		if admitted = a.admits(w); admitted {
			c.own.Running = append(c.own.Running, claim)
			c.own.Waiting = slices.DeleteFunc(c.own.Waiting, func(w waiter) bool { return w.ID == claim.ID })
		} else if i < 0 {
			c.own.Waiting = append(c.own.Waiting, w)
		}
	})
	return admitted && err == nil, err
}

// Withdraw takes back a claim that does not begin after all, whether it was admitted or
// waits. It is no error when nothing is known of it.
func (c *Card) Withdraw(id string) {
	c.surely(func(account) {
		c.own.Running = slices.DeleteFunc(c.own.Running, func(r Claim) bool { return r.ID == id })
		c.own.Waiting = slices.DeleteFunc(c.own.Waiting, func(w waiter) bool { return w.ID == id })
	})
}

// Release ends an admitted claim. The model of a known unit stays loaded.
func (c *Card) Release(id string) {
	c.surely(func(a account) {
		for _, r := range c.own.Running {
			if r.ID == id {
				c.keep(Loaded{Unit: r.Unit, Model: r.Model, MiB: r.MiB, Used: a.now})
			}
		}
		c.own.Running = slices.DeleteFunc(c.own.Running, func(r Claim) bool { return r.ID == id })
	})
}

// Unneeded are the units that this process should unload now, because the next in line
// needs the room. Nothing begins in them until Unloaded is called for each.
func (c *Card) Unneeded() (units []string, err error) {
	err = c.update(func(a account) {
		units = a.unneeded()
		for i, l := range c.own.Loaded {
			c.own.Loaded[i].Unloading = l.Unloading || slices.Contains(units, l.Unit)
		}
	})
	if err != nil {
		units = nil
	}
	return units, err
}

// Unloaded ends what Unneeded has begun: the unit is empty, or, unless done, as it was.
func (c *Card) Unloaded(unit string, done bool) {
	c.surely(func(account) {
		if done {
			c.own.Loaded = slices.DeleteFunc(c.own.Loaded, func(l Loaded) bool { return l.Unit == unit })
			return
		}
		for i := range c.own.Loaded {
			if c.own.Loaded[i].Unit == unit {
				c.own.Loaded[i].Unloading = false
			}
		}
	})
}

// Usage is the account at one time, in MiB.
type Usage struct {
	Budget, Running, Loaded int // Loaded: models in which nothing works
	Waiting                 int // claims of this process
	Alone                   bool
}

// Usage reads the account. Alone says that no more than one claim runs on the whole card.
func (c *Card) Usage() (u Usage, err error) {
	err = c.update(func(a account) {
		working := account{shares: make([]*share, len(a.shares))}
		n := 0
		for i, s := range a.shares {
			working.shares[i] = &share{Running: s.Running}
			n += len(s.Running)
		}
		u = Usage{Budget: a.budget(), Running: working.used(nil), Waiting: len(c.own.Waiting), Alone: n <= 1}
		u.Loaded = a.used(nil) - u.Running
	})
	return u, err
}

// Loaded is what the unit keeps of the model, in MiB, as far as this process knows.
func (c *Card) Loaded(unit, model string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, l := range c.own.Loaded {
		if l.Unit == unit && l.Model == model {
			return l.MiB
		}
	}
	return 0
}

// Budget is what this process was told, in MiB: more than that fits at no time.
func (c *Card) Budget() int { return c.cfg.Budget }

// Close leaves the account. What is loaded is left to the next process that knows its unit.
func (c *Card) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := func(a account) {
		for _, r := range c.own.Running { // that nobody has given back: it may have loaded its model
			c.keep(Loaded{Unit: r.Unit, Model: r.Model, MiB: r.MiB, Used: a.now})
		}
		c.own.Running, c.own.Waiting = nil, nil
	}
	if c.change(end) != nil {
		// Others hold the account, and are left what it shows of this process, as if it had
		// been killed. What was owed decides whether there is something to leave.
		a := account{shares: []*share{&c.own}, now: c.cfg.Now()}
		for _, owed := range c.owed {
			owed(a)
		}
		end(a)
	}
	return c.book.close(&c.own)
}
