//go:build synctests

// What the processes run: the real handler and the real worker, with the engine
// that makes nothing.

package brokersim_test

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/events"
	gpu "github.com/myspinbot/myspinbot/gpu-consumers"
	"github.com/myspinbot/myspinbot/handlers"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// lanes are those of the diagnostic pipeline.
var lanes = []string{events.LaneScript, events.LaneTTS, events.LaneRender, events.LaneLipsync}

// carryAfter is so low that jobs which wait are carried forward.
const carryAfter = 60

// lease is that of the workers' attempts.
const lease = 6 * time.Second

func (w *world) runHandler(ctx context.Context, l *life, log *eventlog.Log) error {
	if w.plan.mutant == mutantHoles {
		return w.runMutant(ctx, log)
	}
	metrics := prometheus.NewRegistry()
	h, err := handlers.New(handlers.Config{
		Log: log, Policy: w.plan.policy, Lanes: laneBounds(log), CarryAfter: carryAfter, Registerer: metrics, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Add(l.skew) },
	})
	if err != nil {
		return err
	}
	l.live.Store(h)
	defer func() { w.rejected(l, metrics) }()
	return h.Run(ctx)
}

func laneBounds(log *eventlog.Log) map[string]int {
	bounds := map[string]int{}
	for _, lane := range events.Lanes() {
		bounds[lane] = log.Partitions(events.LaneTopic(lane))
	}
	return bounds
}

// rejected holds a handler to having folded every fact that it has read.
func (w *world) rejected(l *life, metrics prometheus.Gatherer) {
	families, err := metrics.Gather()
	if err != nil {
		w.fail("%s has no metrics: %v", l.process.name, err)
	}
	for _, f := range families {
		if f.GetName() != "myspinbot_events_rejected_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if n := m.GetCounter().GetValue(); n > 0 {
				w.fail("%s rejected %v facts", l.process.name, n)
			}
		}
	}
}

func (w *world) runWorker(ctx context.Context, l *life, log *eventlog.Log) error {
	slots := map[string]int{}
	for _, lane := range lanes {
		slots[lane] = 2
	}
	engines := gpu.NoopEngines()
	for i, e := range engines {
		if w.plan.passes > 1 {
			engines[i] = patient{e, w.plan.passes}
		}
	}
	store, err := emptyStore(ctx)
	if err != nil {
		return err
	}
	k, err := gpu.New(gpu.Config{
		Log: log, Objects: store, Keyring: objects.NewKeyring(store, [32]byte{}), Worker: l.process.name, Slots: slots, Lease: lease,
		Engines: engines, TempDir: l.dir, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	return k.Run(ctx)
}

// patient does the work of another engine several times over: that one works for a
// minute at most, and stages may run for longer.
type patient struct {
	engine interface {
		Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap)
		Run(ctx context.Context, a *gpu.Attempt) (*gpu.Output, error)
	}
	passes int
}

func (p patient) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	return p.engine.Capability(ctx)
}

func (p patient) Run(ctx context.Context, a *gpu.Attempt) (out *gpu.Output, err error) {
	for range p.passes {
		if out, err = p.engine.Run(ctx, a); err != nil {
			return nil, err
		}
	}
	return out, nil
}
