//go:build synctests

// Mutants: the design broken in one place. That the checkers find each of them
// shows that they can fail.

package brokersim_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/handlers"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/pubsub"
)

// mutantHoles is the only one so far.
const mutantHoles = "a recovery that misses the newest fact"

func TestMutantsAreCaught(t *testing.T) {
	t.Parallel()
	for mutant, by := range map[string][]string{mutantHoles: {"L3:"}} {
		t.Run(mutant, func(t *testing.T) {
			t.Parallel()
			const most = 3 // seeds; the first or second is enough for each
			var others []string
			for seed := range uint64(most) {
				p := newPlan(seed)
				p.mutant, p.patience = mutant, time.Minute
				r := run(t, p)
				others = append(others, r.failures...)
				for _, f := range r.failures {
					for _, invariant := range by {
						if strings.HasPrefix(f, invariant) {
							t.Logf("seed %d: %s", seed, f)
							return
						}
					}
				}
			}
			t.Errorf("no checker has noticed in %d seeds; what was found: %q", most, others)
		})
	}
}

// mutantHandler decides as a handler does, and is wrong in one point.
type mutantHandler struct {
	*handlers.Core
	log *eventlog.Log
}

func (w *world) runMutant(ctx context.Context, log *eventlog.Log) error {
	core, err := handlers.NewCore(handlers.CoreConfig{Policy: w.plan.policy, Lanes: laneBounds(log), Replay: holes(log), CarryAfter: carryAfter, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	h := &mutantHandler{Core: core, log: log}
	g, ctx := errgroup.WithContext(ctx)
	known := make(chan struct{})
	g.Go(func() error {
		from := log.Whole(events.TopicWorkers, events.TopicProfileEvents)
		return log.Tail(ctx, from, func(b eventlog.Batch) error { core.Learn(b.Records); return nil }, func() { close(known) })
	})
	g.Go(func() error {
		select {
		case <-known:
		case <-ctx.Done():
			return nil
		}
		decide := func(_ context.Context, in eventlog.Record) ([]eventlog.Record, error) { return core.Decide(in) }
		runner, err := log.NewRunner(eventlog.RunnerConfig{Group: handlers.Group, Topics: handlers.Inputs(), Journals: handlers.Journals(), Decider: pubsub.NewRecordDecider(core, decide)})
		if err != nil {
			return err
		}
		return runner.Run(ctx)
	})
	g.Go(func() error { h.clock(ctx); return nil })
	return g.Wait()
}

// holes replays all of a partition's facts but the last.
func holes(log *eventlog.Log) handlers.Replay {
	return func(ctx context.Context, at eventlog.TopicPartition, from int64, fn func([]eventlog.Record) error) (int64, error) {
		var all []eventlog.Record
		end, err := log.Replay(ctx, at, from, func(rs []eventlog.Record) error { all = append(all, rs...); return nil })
		if at.Topic == events.TopicJobEvents && len(all) > 0 {
			all = all[:len(all)-1]
		}
		return end, errors.Join(err, fn(all))
	}
}

func (h *mutantHandler) clock(ctx context.Context) {
	for pauseFor(ctx, time.Second) {
		h.BeatsCurrent(true, time.Now())
		if due := h.Due(time.Now()); len(due) > 0 && h.log.Produce(ctx, due...) != nil {
			for _, r := range due {
				h.GiveBack(r)
			}
		}
	}
}
