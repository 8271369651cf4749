// What the handler knows of the world beside its own partitions: every profile
// and every worker, read whole from the log into memory.

package handlers

import (
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

type directory struct {
	now func() time.Time

	mu       sync.RWMutex
	workers  aggregates.Workers
	profiles map[string]aggregates.Profile
	known    *workersKnown // nil after a manifest
}

func newDirectory(now func() time.Time) *directory {
	return &directory{now: now, profiles: map[string]aggregates.Profile{}}
}

// apply takes records that the log's owners wrote; one that cannot be read is no
// ground for a decision and is left out.
func (d *directory) apply(records []eventlog.Record) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range records {
		m, err := events.Decode(r.Value)
		if err != nil {
			continue
		}
		if m.AggregateType != events.AggregateProfile {
			d.workers.Apply(m)
			d.known = nil
			continue
		}
		if p, err := d.profiles[m.AggregateID].Apply(m); err == nil {
			d.profiles[m.AggregateID] = p
		}
	}
}

// profile is the tenant's own profile, a zero one when there is none.
func (d *directory) profile(tenant, id string) aggregates.Profile {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p := d.profiles[id]
	if p.Tenant != tenant {
		return aggregates.Profile{}
	}
	return p
}

// workersKnown is what the workers at work can do, as of a time. It is never changed.
type workersKnown struct {
	engines aggregates.Engines
	gaps    map[string][]events.TaskGap
	rooms   aggregates.Rooms
	fleet   *aggregates.Fleet
	until   time.Time // when a worker that says nothing more no longer counts
}

func (d *directory) workersNow() *workersKnown {
	now := d.now()
	d.mu.RLock()
	k := d.known
	d.mu.RUnlock()
	if k != nil && !now.After(k.until) {
		return k
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	k = &workersKnown{engines: d.workers.Engines(now), gaps: d.workers.Gaps(now), rooms: d.workers.Rooms(now), fleet: d.workers.Fleet(now), until: now.Add(aggregates.WorkerSilence)}
	for _, m := range d.workers.Alive(now) {
		if end := m.OccurredAt.Add(aggregates.WorkerSilence); end.Before(k.until) {
			k.until = end
		}
	}
	d.known = k
	return k
}
