// What planning at the edge needs, in memory: every profile and every worker,
// tailed from the log, so that jobs are accepted with PostgreSQL down.

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

type knowledge struct {
	log    *eventlog.Log
	logger *slog.Logger
	now    func() time.Time

	mu       sync.RWMutex
	whole    bool                          // everything that lay on the log at the start has been read
	profiles map[string]aggregates.Profile // by id
	unread   map[string]unreadable         // profiles that a newer program wrote to
	workers  map[string]worker             // by id, also those that are gone
	halted   map[string]bool               // lanes that are paused
	tasks    aggregates.Workers            // as the job handler counts them

	able atomic.Pointer[able] // what is known of them now
}

// able is what the workers at work can do, until one says something or has been silent
// for too long. It is never changed.
type able struct {
	engines aggregates.Engines
	gaps    map[string][]events.TaskGap // why others cannot work
	rooms   aggregates.Rooms            // engines of tasks of which not all attempts fit a card
	alive   int                         // how many there are
	until   time.Time
}

// worker is what one announced last.
type worker struct {
	id       string
	seen     time.Time // when the record was written
	manifest events.WorkerManifest
}

func newKnowledge(log *eventlog.Log, logger *slog.Logger) *knowledge {
	return &knowledge{
		log: log, logger: logger, now: time.Now,
		profiles: map[string]aggregates.Profile{}, unread: map[string]unreadable{}, workers: map[string]worker{}, halted: map[string]bool{},
	}
}

// run follows the log until ctx ends.
func (k *knowledge) run(ctx context.Context) error {
	err := k.log.Tail(ctx, k.log.Whole(events.TopicProfileEvents, events.TopicWorkers, events.TopicSettings), k.apply, func() {
		k.mu.Lock()
		k.whole = true
		k.mu.Unlock()
	})
	if err != nil {
		return fmt.Errorf("cannot follow profiles, workers and settings: %w", err)
	}
	return nil
}

func (k *knowledge) apply(b eventlog.Batch) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, r := range b.Records {
		switch r.Topic {
		case events.TopicWorkers:
			k.applyWorker(r)
			continue
		case events.TopicSettings:
			k.applySetting(r)
			continue
		}
		if err := k.applyProfile(r); err != nil {
			k.unread[r.Key] = k.unreadable(r, err)
			k.logger.Error("a profile cannot be read, so that jobs with it are refused", "profileId", r.Key, "partition", r.Partition, "offset", r.Offset, "error", err)
		}
	}
	return nil
}

// unreadable is why a profile cannot be used, and whose it is.
type unreadable struct {
	tenant string
	cause  error
}

// unreadable finds out whose profile a record that cannot be read is about, which any
// version of it says in the same place.
func (k *knowledge) unreadable(r eventlog.Record, err error) unreadable {
	of := unreadable{k.profiles[r.Key].Tenant, err}
	if of.tenant == "" {
		var envelope struct{ Tenant string }
		_ = json.Unmarshal(r.Value, &envelope) // nobody's profile is found by nobody
		of.tenant = envelope.Tenant
	}
	return of
}

func (k *knowledge) applyProfile(r eventlog.Record) error {
	m, err := events.Decode(r.Value)
	if err != nil {
		return err
	}
	p, err := k.profiles[m.AggregateID].Apply(m)
	if err != nil {
		return err
	}
	k.profiles[m.AggregateID] = p
	return nil
}

// applyWorker takes a manifest. One that cannot be read is left out: what such a
// worker can do is not known here.
func (k *knowledge) applyWorker(r eventlog.Record) {
	m, err := events.Decode(r.Value)
	manifest, ok := m.Data.(events.WorkerManifest)
	if err != nil || !ok {
		k.logger.Warn("a worker's manifest cannot be read and is left out", "worker", r.Key, "error", err)
		return
	}
	k.tasks.Apply(m)
	k.able.Store(nil)
	k.workers[r.Key] = worker{id: r.Key, seen: m.OccurredAt, manifest: manifest}
}

// applySetting takes what an operator has set. What cannot be read is left out, as the
// workers do.
func (k *knowledge) applySetting(r eventlog.Record) {
	m, err := events.Decode(r.Value)
	if err != nil {
		k.logger.Warn("a setting cannot be read and is left out", "key", r.Key, "error", err)
		return
	}
	switch m.Data.(type) { //nolint:gochecksumtype // settings alone
	case events.LanePaused:
		k.halted[m.AggregateID] = true
	case events.LaneResumed:
		k.halted[m.AggregateID] = false
	}
}

// paused says whether the lane accepts nothing.
func (k *knowledge) paused(lane string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.halted[lane]
}

// profile is the tenant's profile; a zero one when there is none.
func (k *knowledge) profile(tenant, id string) (aggregates.Profile, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	if bad := k.unread[id]; bad.cause != nil && bad.tenant == tenant {
		return aggregates.Profile{}, &refusal{code: codeProfileUnread, cause: bad.cause}
	}
	p, ok := k.profiles[id]
	switch {
	case ok && p.Tenant == tenant:
		return p, nil
	case !ok && !k.whole:
		return aggregates.Profile{}, fmt.Errorf("the profiles have not been read yet: %w", eventlog.ErrUnavailable)
	}
	return aggregates.Profile{}, nil
}

// profileName is the sealed name of the tenant's profile; nil when it was erased.
func (k *knowledge) profileName(tenant, id string) *events.Sealed {
	k.mu.RLock()
	defer k.mu.RUnlock()
	p, ok := k.profiles[id]
	if !ok || p.Tenant != tenant || p.Gone() {
		return nil
	}
	return &p.Name
}

// alive says whether the worker runs, as far as its last word tells.
func (k *knowledge) alive(w worker) bool {
	return !w.manifest.Stopped && k.now().Sub(w.seen) <= aggregates.WorkerSilence
}

// list are all workers in the order of their ids.
func (k *knowledge) list() []worker {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.SortedFunc(maps.Values(k.workers), func(a, b worker) int { return strings.Compare(a.id, b.id) })
}

// slots are how many stages the living workers run at once, by lane.
func (k *knowledge) slots() map[string]int {
	k.mu.RLock()
	defer k.mu.RUnlock()
	slots := map[string]int{}
	for _, w := range k.workers {
		if !k.alive(w) {
			continue
		}
		for lane, n := range w.manifest.Slots {
			slots[lane] += n
		}
	}
	return slots
}

// capabilities are what living workers can do.
func (k *knowledge) capabilities() *able {
	now := k.now()
	if a := k.able.Load(); a != nil && !now.After(a.until) {
		return a
	}
	k.mu.RLock()
	defer k.mu.RUnlock()
	alive := k.tasks.Alive(now)
	a := &able{k.tasks.Engines(now), k.tasks.Gaps(now), k.tasks.Rooms(now), len(alive), now.Add(aggregates.WorkerSilence)}
	for _, m := range alive {
		if silent := m.OccurredAt.Add(aggregates.WorkerSilence); silent.Before(a.until) {
			a.until = silent
		}
	}
	k.able.Store(a) // under the lock that a manifest takes whole: none is missed
	return a
}
