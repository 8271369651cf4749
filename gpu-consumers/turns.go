// Slots and turns: a short attempt's successor is accepted shortly before its end, and
// begins the moment it has ended. A transaction takes ten milliseconds or more, which is
// a hundredth of an attempt of a second.

package gpu

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

const (
	// turnAhead is how long before the expected end of an attempt its successor may be
	// accepted.
	turnAhead = 100 * time.Millisecond
	// turnShort is the longest attempt for which this is worth it: if the end comes later
	// than expected, the successor waits in a slot's queue instead of its lane's, where
	// nothing else can go before it.
	turnShort = 10 * time.Second
)

// turns keeps accepted commands to the slots.
type turns struct {
	roster *roster

	mu    sync.Mutex
	slots map[string]chan struct{} // by lane; holds one for each attempt that runs
	near  map[string]bool          // attempts that are about to end
	lanes *eventlog.Lanes          // nil: none yet
}

func (t *turns) serve(lanes *eventlog.Lanes) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lanes = lanes
}

func (t *turns) of(lane string) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.slots[lane] == nil {
		if t.slots == nil {
			t.slots = make(map[string]chan struct{})
		}
		t.slots[lane] = make(chan struct{}, t.roster.slots[lane])
	}
	return t.slots[lane]
}

// take waits for a slot; done gives it back.
func (t *turns) take(ctx context.Context, r *run) (done func(), err error) {
	slot := t.of(r.cmd.Lane)
	select {
	case slot <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	r.began = time.Now()
	t.roster.began(r.cmd.Lane)
	return func() {
		t.mu.Lock()
		delete(t.near, r.id)
		t.mu.Unlock()
		t.roster.ended(r.cmd.Lane)
		<-slot
	}, nil
}

// note takes an attempt's progress: at this pace, is it about to end?
func (t *turns) note(r *run, percent float64) {
	took := time.Since(r.began)
	if percent < 50 || took > turnShort || time.Duration(float64(took)*(100-percent)/percent) > turnAhead {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.near[r.id] || t.lanes == nil {
		return
	}
	if t.near == nil {
		t.near = make(map[string]bool)
	}
	t.near[r.id] = true
	t.lanes.Wake()
}

// soon says whether an attempt, by its mark, is about to end.
func (t *turns) soon(mark string) bool {
	attempt, _, _ := strings.Cut(mark, " ")
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.near[attempt]
}
