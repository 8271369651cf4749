// Cases of dead letters.

package eventlogtest

import (
	"errors"
	"fmt"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

func deadLettersAreResolvedOnce(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	w := newWorks()
	stop := start(newLanes(t, l, 2, w).Run)
	send(t, l, batchTopic, 1, "bad")
	await(t, l, events.TopicDeadLetters, 1)
	letters, err := l.DeadLetters(within(t))
	if err != nil || len(letters) != 1 {
		t.Fatalf("dead letters are %+v (%v), want one", letters, err)
	}
	d := letters[0]
	if r := d.Record; r.Topic != batchTopic || r.Partition != 1 || r.Offset != 0 || string(r.Value) != "bad" || d.Reason != "undecodable: bad" {
		t.Errorf("the letter is %+v, want the command and where it was", d)
	}
	if _, err := l.ReplayDeadLetter(within(t), d.ID); err != nil {
		t.Fatal(err)
	}
	for name, resolve := range map[string]func() error{
		"replay":  func() error { _, err := l.ReplayDeadLetter(within(t), d.ID); return err },
		"discard": func() error { _, err := l.DiscardDeadLetter(within(t), d.ID); return err },
	} {
		if err := resolve(); !errors.Is(err, eventlog.ErrResolved) {
			t.Errorf("%s after a replay: %v, want ErrResolved", name, err)
		}
	}
	// The replayed command comes to the lane again, and to the dead letters.
	var again eventlog.DeadLetter
	Eventually(t, Patience, "the replayed command is given up again", func() bool {
		letters, err := l.DeadLetters(within(t))
		if err != nil || len(letters) != 2 {
			return false
		}
		again = letters[1]
		return true
	})
	if again.Resolution != "" || again.Record.Header(eventlog.HeaderReplays) != d.ID {
		t.Errorf("the new letter is %+v, want an open one that names the first", again)
	}
	if _, err := l.DeadLetter(within(t), fmt.Sprintf("%d:999", again.Record.Partition)); !errors.Is(err, eventlog.ErrNoDeadLetter) {
		t.Errorf("a letter that is not there: %v", err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}
