// The manifest: what this worker can run, told at start, on change, every ten
// seconds and once at the end.

package gpu

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// announce keeps the roster and the manifest current until ctx ends; then it says
// that the worker stops.
func (w *Worker) announce(ctx context.Context) {
	var looking sync.WaitGroup
	looking.Go(func() { w.look(ctx) })
	often := time.NewTicker(w.pace.manifest)
	defer often.Stop()
	// A manifest without the engines that have not answered yet would say that nobody
	// runs their tasks, and jobs would be refused for that.
	w.roster.until(ctx, w.roster.whole)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-w.roster.changed:
			w.tell(ctx, false)
		case <-often.C:
			w.tell(ctx, false)
		}
		select { // changes come in bursts
		case <-time.After(w.pace.manifestGap):
		case <-ctx.Done():
		}
	}
	looking.Wait()
	w.tell(ctx, true)
}

// look asks the engines what they can, at once and then every now and then. Later
// manifests do not wait for the slowest of them.
func (w *Worker) look(ctx context.Context) {
	again := time.NewTicker(w.pace.manifest)
	defer again.Stop()
	for {
		w.roster.refresh(ctx)
		w.seats.renew()
		select {
		case <-ctx.Done():
			return
		case <-w.roster.recheck:
		case <-again.C:
		}
	}
}

// tell writes the manifest. A failure is no news: the log says so elsewhere, and
// the next manifest is at most ten seconds away.
func (w *Worker) tell(ctx context.Context, stopped bool) {
	select { // what changed so far is in this manifest
	case <-w.roster.changed:
	default:
	}
	now := time.Now().UTC()
	id := events.EventID(now, w.cfg.Worker+"/manifest", 0)
	m := events.Message{
		ID: id, AggregateType: events.AggregateWorker, AggregateID: w.cfg.Worker, OccurredAt: now,
		CommandID: id, CausationID: id, CorrelationID: id, Actor: w.cfg.Worker,
		Columns: events.Columns{Worker: w.cfg.Worker}, Data: w.manifest(stopped),
	}
	r, err := record(events.TopicWorkers, m)
	if err == nil {
		// Cancelling a record that is on its way would fail its neighbours in the batch.
		err = w.cfg.Log.Produce(context.WithoutCancel(ctx), r)
	}
	if err != nil {
		w.log.Warn("the worker's manifest was not written", "error", err)
	}
}

func (w *Worker) manifest(stopped bool) events.WorkerManifest {
	r := w.roster
	r.mu.Lock()
	defer r.mu.Unlock()
	m := events.WorkerManifest{
		Tasks: []events.TaskCapability{}, Slots: maps.Clone(r.slots), Running: map[string]int{},
		GPU: w.memory.name(w.cfg.GPU), VRAMBytes: int64(w.memory.budget()) << 20, Stopped: stopped,
	}
	for lane := range r.slots {
		m.Running[lane] = r.running[lane]
	}
	if len(r.owned) > 0 {
		m.Partitions = maps.Clone(r.owned)
	}
	for i, s := range r.states {
		switch {
		case !s.known:
		case s.gap != nil && r.slots[taskLanes[s.gap.Task]] > 0:
			m.Unavailable = append(m.Unavailable, *s.gap)
		case s.gap == nil && r.slots[taskLanes[s.can.Task]] > 0:
			m.Tasks = append(m.Tasks, s.can)
			if m.VRAMBytes > 0 {
				m.Needs = append(m.Needs, w.memory.announced(r.engines[i], s.can)...)
			}
		}
	}
	return m
}

// record is a message as it goes to the log.
func record(topic string, m events.Message) (eventlog.Record, error) {
	value, err := events.Encode(m)
	if err != nil {
		return eventlog.Record{}, fmt.Errorf("cannot encode %s: %w", m.Type(), err)
	}
	r := eventlog.Record{Topic: topic, Key: m.AggregateID, Value: value}
	for _, h := range events.Headers(m) {
		r.Headers = append(r.Headers, eventlog.Header{Key: h.Key, Value: h.Value})
	}
	return r, nil
}
