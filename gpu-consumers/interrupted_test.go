// A worker that was killed: the next one of its name tells what it left undone.

package gpu

import (
	"context"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func TestAKilledWorkersAttemptIsReported(t *testing.T) {
	t.Parallel()
	b := newBench(t, engineOf(func(context.Context, *Attempt) (*Output, error) { return &Output{}, nil }))
	cmd := b.send("render", events.TaskRun{})
	b.acceptAndDie(cmd)
	b.start()
	eventlogtest.Eventually(t, time.Minute, "the attempt is told as failed", func() bool { return len(b.of("task.failed", "render")) == 1 })
	m := b.of("task.failed", "render")[0]
	if m.Attempt != cmd.Attempt || m.ErrorClass != events.ClassEngineUnavailable || m.CausationID != cmd.ID {
		t.Errorf("the failure is %+v", m)
	}
	if again := b.of("task.accepted", "render"); len(again) != 1 {
		t.Errorf("the command was accepted %d times", len(again))
	}
}

// acceptAndDie is a predecessor of the worker's name that accepts the command and
// never answers.
func (b *bench) acceptAndDie(cmd events.Message) {
	b.t.Helper()
	ctx, die := context.WithTimeout(b.t.Context(), time.Minute)
	defer die()
	lane, err := b.worker.cfg.Log.NewLanes(eventlog.LaneConfig{
		Lane: events.LaneRender, Slots: 1, Accept: b.worker.accept, Grace: time.Millisecond,
		Run: func(context.Context, eventlog.Record) ([]eventlog.Record, error) { die(); return nil, nil },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := lane.Run(ctx); err != nil {
		b.t.Fatal(err)
	}
	if ctx.Err() != context.Canceled {
		b.t.Fatalf("command %s was never accepted", cmd.ID)
	}
}
