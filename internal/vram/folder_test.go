// Several processes on one card: what they see of one another, and of those that have ended.

package vram

import (
	"errors"
	"testing"
)

func TestProcessesOnOneCardShareItsAccount(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(owner string, budget int) *Card {
		c, err := Open(Config{Owner: owner, Budget: budget, Folder: dir, Known: func(string) bool { return true }})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	a, b := open("a", 100), open("b", 80)
	admit(t, a, Claim{ID: "1", MiB: 50}, true, "the card is empty")
	admit(t, b, Claim{ID: "2", MiB: 40}, false, "the lesser budget counts, and the other's claim")
	admit(t, b, Claim{ID: "3", MiB: 30, Unit: "u", Model: "m"}, true, "it fits")
	f := a.book.(*folder)
	if err := errors.Join(f.mine.Close(), f.guard.Close()); err != nil { // as the kernel does for one that was killed
		t.Fatal(err)
	}
	admit(t, b, Claim{ID: "2", MiB: 40}, true, "what the other had died with it")
	b.Release("3")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	next := open("c", 100)
	if u, err := next.Usage(); err != nil || u.Loaded != 30 || u.Running != 0 {
		t.Errorf("usage is %+v, %v; want the model that the predecessor left loaded", u, err)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
}

// A process that was stopped while it held the account must not stop the others.
func TestAHeldAccountIsNotWaitedForForLong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c, err := Open(Config{Owner: "a", Budget: 100, Folder: dir})
	if err != nil {
		t.Fatal(err)
	}
	admit(t, c, Claim{ID: "1", MiB: 100}, true, "the card is empty")
	stuck, err := openFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := lock(stuck.guard, true); err != nil {
		t.Fatal(err)
	}
	c.Release("1")
	if ok, err := c.Admit(Claim{ID: "2", MiB: 1}); ok || !errors.Is(err, ErrBusy) {
		t.Errorf("admitted %v, %v; want ErrBusy", ok, err)
	}
	if err := stuck.close(&share{}); err != nil {
		t.Fatal(err)
	}
	admit(t, c, Claim{ID: "2", MiB: 100}, true, "what was released meanwhile is free")
}

// What a process has loaded is left to others, also where they hold the account while it
// ends.
func TestAHeldAccountForgetsNothingWhenAProcessEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	open := func(owner string) *Card {
		c, err := Open(Config{Owner: owner, Budget: budget, Folder: dir, Known: func(unit string) bool { return unit == "server" }})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, release := range map[string]bool{"given back": true, "still running": false} {
		c := open("leaves")
		admit(t, c, Claim{ID: "x", MiB: 60, Unit: "server", Model: "m", Queue: "q"}, true, "the card is empty")
		other, err := openFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := lock(other.guard, false); err != nil {
			t.Fatal(err)
		}
		if release {
			c.Release("x") // cannot be written down now
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := other.close(&share{}); err != nil { // which lets go of the account
			t.Fatal(err)
		}
		next := open("comes")
		if _, err := next.Usage(); err != nil {
			t.Fatal(err)
		}
		if got := next.Loaded("server", "m"); got != 60 {
			t.Errorf("%s: %d MiB are known to be loaded, want 60", name, got)
		}
		next.Unloaded("server", true)
		if err := next.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
