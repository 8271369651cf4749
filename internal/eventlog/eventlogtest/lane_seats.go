// Who gets the partitions of a lane with more members than partitions.

package eventlogtest

import (
	"slices"
	"sync"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// seated is a member that knows its partitions, and what it can do.
type seated struct {
	lanes *eventlog.Lanes
	stop  func() error

	mu    sync.Mutex
	able  []string
	owned []int32
}

func (s *seated) seats() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.owned)
}

func (s *seated) learn(able ...string) {
	s.mu.Lock()
	s.able = able
	s.mu.Unlock()
	s.lanes.Reseat()
}

// Of three members of a lane with two partitions those get one who can do what others
// cannot, whatever their names; when that changes, so does the assignment.
func laneSeatsGoByWhatMembersCan(t *testing.T, cfg eventlog.Config) {
	member := func(name string, able ...string) *seated {
		s := &seated{able: able}
		lanes := newLanes(t, Open(t, as(cfg, name, nil)), 2, newWorks(), func(c *eventlog.LaneConfig) {
			c.Able = func() []string { s.mu.Lock(); defer s.mu.Unlock(); return slices.Clone(s.able) }
			c.Assigned = func(partitions []int32) { s.mu.Lock(); defer s.mu.Unlock(); s.owned = partitions }
		})
		s.lanes, s.stop = lanes, start(lanes.Run)
		return s
	}
	a, b, c := member("a", "preview"), member("b", "preview"), member("c", "preview", "real")
	want := func(what string, of ...int) {
		t.Helper()
		Eventually(t, Patience, what, func() bool { return slices.Equal([]int{a.seats(), b.seats(), c.seats()}, of) })
	}
	want("the one that can do it gets a partition", 1, 0, 1)
	b.learn("preview", "real", "better")
	want("who can do more gets its partition", 1, 1, 0)
	c.learn("preview", "real", "best")
	want("nobody can do everything: two do it together", 0, 1, 1)
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	b = &seated{}
	want("who is left gets what there is", 1, 0, 1)
	b = member("b", "other")
	want("a member comes back with other skills", 0, 1, 1)
	for _, m := range []*seated{a, b, c} {
		if err := m.stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// A member that tells nothing of itself takes part as before.
func laneSeatsAreForOldMembersToo(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	old, young := newWorks(), newWorks()
	stops := []func() error{start(newLanes(t, l, 2, old).Run),
		start(newLanes(t, Open(t, as(cfg, "b", nil)), 2, young, func(c *eventlog.LaneConfig) { c.Able = func() []string { return []string{"real"} } }).Run)}
	sent := 0
	Eventually(t, Patience, "both run commands", func() bool {
		send(t, l, events.LaneTopic(events.LaneTTS), int32(sent%2), "n") //nolint:gosec // 0 or 1
		sent++
		return old.count() > 0 && young.count() > 0
	})
	for _, stop := range stops {
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	}
}
