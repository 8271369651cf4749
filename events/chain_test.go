// The chain accepts the next fact alone.

package events_test

import (
	"errors"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

func TestChain(t *testing.T) {
	t.Parallel()
	at := events.Chain{Version: 2, LastID: "b"}
	for name, c := range map[string]struct {
		m    events.Message
		ok   bool
		seen bool
	}{
		"the next fact":        {events.Message{ID: "c", Version: 3, PrevID: "b"}, true, false},
		"a hole":               {events.Message{ID: "d", Version: 4, PrevID: "b"}, false, false},
		"another predecessor":  {events.Message{ID: "c", Version: 3, PrevID: "x"}, false, false},
		"a duplicate":          {events.Message{ID: "b", Version: 2, PrevID: "a"}, false, true},
		"a command, unchained": {events.Message{ID: "z"}, false, false},
	} {
		if err := at.Check(c.m); (err == nil) != c.ok || (err != nil && !errors.Is(err, events.ErrBrokenChain)) {
			t.Errorf("%s: %v", name, err)
		}
		if at.Seen(c.m) != c.seen {
			t.Errorf("%s: seen is %v", name, !c.seen)
		}
	}
	if next := at.Next(events.Message{ID: "c", Version: 3}); next != (events.Chain{Version: 3, LastID: "c"}) {
		t.Errorf("next is %+v", next)
	}
	if err := (events.Chain{}).Check(events.Message{ID: "a", Version: 1}); err != nil {
		t.Errorf("a chain starts at version 1: %v", err)
	}
}
