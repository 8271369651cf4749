// Following all jobs: a client reads the ring at its own pace, so that nothing is
// kept for it but its place.

package api

import (
	"fmt"
	"maps"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// beatsAhead is how many beats wait for a client of all jobs; others find no room.
const beatsAhead = 64

// follower is a client that follows all jobs.
type follower struct {
	wake  chan struct{} // the ring has more
	beats chan *progressView
}

// follow joins the feed of all jobs.
func (f *feed) follow() (*follower, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begin == nil {
		return nil, fmt.Errorf("the live feed has not begun: %w", eventlog.ErrUnavailable)
	}
	all := &follower{wake: make(chan struct{}, 1), beats: make(chan *progressView, beatsAhead)}
	f.all[all] = struct{}{}
	return all, nil
}

func (f *feed) leave(all *follower) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.all, all)
}

// wake tells those who follow all jobs that there is more. The caller holds mu.
func (f *feed) wake() {
	for all := range f.all {
		select {
		case all.wake <- struct{}{}:
		default: // it knows
		}
	}
}

// offer gives a beat to those who follow all jobs and have room for it. The caller holds mu.
func (f *feed) offer(p *progressView) {
	for all := range f.all {
		select {
		case all.beats <- p:
		default:
		}
	}
}

// cover is where in the ring to read on for who has seen everything before the offsets,
// by partition; false if the ring does not reach back that far.
func (f *feed) cover(next []int64) (place int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for p, begin := range f.begin {
		if next[p] < begin {
			return 0, false
		}
	}
	return f.kept - int64(len(f.ring)), true
}

// read is up to limit events of the ring from the place on, and the place behind them;
// false if the ring has forgotten what lies there.
func (f *feed) read(place int64, limit int) (batch []*eventView, behind int64, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	oldest := f.kept - int64(len(f.ring))
	if place < oldest {
		return nil, place, false
	}
	for ; place < f.kept && len(batch) < limit; place++ {
		batch = append(batch, f.ring[(f.first+int(place-oldest))%len(f.ring)])
	}
	return batch, place, true
}

// ahead are the partitions in which the offsets lie beyond what the feed has come to.
func (f *feed) ahead(next []int64) (partitions []int32) {
	f.mu.Lock()
	reached := maps.Clone(f.begin)
	for p, n := range f.reached {
		reached[p] = max(reached[p], n)
	}
	f.mu.Unlock()
	for p, n := range next {
		if n > reached[int32(p)] { //nolint:gosec // partitions are few
			partitions = append(partitions, int32(p)) //nolint:gosec // as above
		}
	}
	return partitions
}
