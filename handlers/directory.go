// What the handler knows of the world beside its own partitions: every profile
// and every worker, read whole from the log into memory.

package handlers

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

type directory struct {
	now      func() time.Time
	caughtUp chan struct{} // closed when everything written before the start is known

	mu       sync.RWMutex
	workers  aggregates.Workers
	profiles map[string]aggregates.Profile
}

func newDirectory(now func() time.Time) *directory {
	return &directory{now: now, caughtUp: make(chan struct{}), profiles: map[string]aggregates.Profile{}}
}

// run follows the two topics until ctx ends.
func (d *directory) run(ctx context.Context, log *eventlog.Log) error {
	from := log.Whole(events.TopicWorkers, events.TopicProfileEvents)
	return log.Tail(ctx, from, func(b eventlog.Batch) error { d.apply(b.Records); return nil }, func() { close(d.caughtUp) })
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
			continue
		}
		if p, err := d.profiles[m.AggregateID].Apply(m); err == nil {
			d.profiles[m.AggregateID] = p
		}
	}
}

// ready waits until the directory has caught up once.
func (d *directory) ready(ctx context.Context) error {
	select {
	case <-d.caughtUp:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("workers and profiles were not read in time: %w", ctx.Err())
	}
}

// profile is the snapshot of a tenant's own profile, nil when there is none.
func (d *directory) profile(tenant, id string) *events.ProfileSnapshot {
	d.mu.RLock()
	defer d.mu.RUnlock()
	p := d.profiles[id]
	if p.Tenant != tenant {
		return nil
	}
	return p.Snapshot()
}

func (d *directory) engines() map[string]string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.workers.Engines(d.now())
}

func (d *directory) tasks() (map[string]bool, map[string]events.TaskGap) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.workers.Tasks(d.now())
}
