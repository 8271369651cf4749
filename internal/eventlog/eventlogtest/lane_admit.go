// Cases of what keeps a lane from accepting although a slot is free.

package eventlogtest

import (
	"slices"
	"sync"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// doorkeeper refuses the commands that it is told to.
type doorkeeper struct {
	mu        sync.Mutex
	refuses   map[string]bool
	asked     map[string]int
	withdrawn []string
}

func newDoorkeeper(refuses ...string) *doorkeeper {
	d := &doorkeeper{refuses: map[string]bool{}, asked: map[string]int{}}
	for _, name := range refuses {
		d.refuses[name] = true
	}
	return d
}

func (d *doorkeeper) guard(c *eventlog.LaneConfig) {
	c.Admit = func(cmd eventlog.Record) bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.asked[string(cmd.Value)]++
		return !d.refuses[string(cmd.Value)]
	}
	c.Withdraw = func(cmd eventlog.Record) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.withdrawn = append(d.withdrawn, string(cmd.Value))
	}
}

func (d *doorkeeper) times(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked[name]
}

func (d *doorkeeper) allow(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.refuses, name)
}

func (d *doorkeeper) took() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.withdrawn)
}

func laneHoldsBackWhatIsRefused(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	w, d := newWorks(), newDoorkeeper("large", "never")
	send(t, l, interactiveTopic, 0, "large", "behind")
	send(t, l, interactiveTopic, 1, named("small", 5)...)
	send(t, l, batchTopic, 1, "never")
	lanes := newLanes(t, l, 1, w, d.guard)
	stop := start(lanes.Run)
	Eventually(t, Patience, "the other partition's commands run, and the last is refused", func() bool { return w.count() == 5 && d.times("never") > 0 })
	asked := d.times("large")
	wantStill(t, w, 5, "a refused command keeps its partition")
	if again := d.times("large"); again != asked {
		t.Errorf("it was asked about %d times more without a reason", again-asked)
	}
	d.allow("large")
	lanes.Recheck()
	Eventually(t, Patience, "it runs once it may, and so does what is behind it", func() bool { return w.count() == 7 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if took := d.took(); !slices.Contains(took, "never") || slices.Contains(took, "large") || slices.Contains(took, "behind") {
		t.Errorf("withdrew %v, want what is still refused and nothing that ran", took)
	}
	wantLastAccepted(t, l, "behind", "small4")
}

func lanePauses(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	w, d := newWorks(), newDoorkeeper("refused")
	w.hold = make(chan struct{})
	lanes := newLanes(t, l, 2, w, d.guard)
	stop := start(lanes.Run)
	send(t, l, interactiveTopic, 0, "first", "second")
	send(t, l, interactiveTopic, 1, "refused")
	Eventually(t, Patience, "one runs and one is refused", func() bool { return w.count() == 1 && d.times("refused") > 0 })
	lanes.Pause(events.LaneTTS, true)
	Eventually(t, Patience, "what waits takes its claim back", func() bool { return slices.Contains(d.took(), "refused") })
	d.allow("refused")
	lanes.Recheck()
	close(w.hold) // what runs goes on to its end
	wantStill(t, w, 1, "the lane is paused")
	lanes.Pause(events.LaneTTS, false)
	Eventually(t, Patience, "the queue is still there", func() bool { return w.count() == 3 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if w.cancels != 0 {
		t.Errorf("%d commands were cut short by the pause", w.cancels)
	}
}
