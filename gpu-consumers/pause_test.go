// A paused lane accepts nothing, now and after a restart.

package gpu

import (
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func (b *bench) set(data events.Payload, lane string) {
	b.t.Helper()
	value, err := events.Encode(events.Message{ID: "setting", AggregateType: events.AggregateLane, AggregateID: lane, OccurredAt: time.Now(), Actor: "test",
		Columns: events.Columns{Lane: lane}, Data: data})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.log.Produce(b.t.Context(), eventlog.Record{Topic: events.TopicSettings, Key: events.LaneKey(lane), Value: value}); err != nil {
		b.t.Fatal(err)
	}
}

func TestAPausedLaneAcceptsNothingUntilItIsResumed(t *testing.T) {
	t.Parallel()
	render, speak := newLabour(), newLabour()
	b := newBench(t, &testEngine{can: can("render_video"), run: render.run}, &testEngine{can: can("tts.synthesize"), run: speak.run})
	b.onLanes("render_video", "tts.synthesize")
	b.set(events.LanePaused{}, events.LaneRender) // before the worker's start, as after a restart
	b.start()
	b.sendTo("render_video", "held", 0)
	b.sendTo("tts.synthesize", "running", 0)
	eventlogtest.Eventually(t, patience, "the other lane goes on", func() bool { return speak.runs("running") })
	b.set(events.LanePaused{}, events.LaneTTS)
	eventlogtest.Eventually(t, patience, "the pause is known", func() bool {
		b.worker.pauses.mu.Lock()
		defer b.worker.pauses.mu.Unlock()
		return b.worker.pauses.paused[events.LaneTTS]
	})
	b.sendTo("tts.synthesize", "behind", 0)
	close(speak.release)
	b.await("task.succeeded", "running") // what runs goes on to its end
	if render.runs("held") || speak.runs("behind") {
		t.Error("a paused lane has accepted a command")
	}
	b.set(events.LaneResumed{}, events.LaneRender)
	eventlogtest.Eventually(t, patience, "the queue is still there", func() bool { return render.runs("held") })
	if len(b.of("task.accepted", "behind")) > 0 {
		t.Error("the other lane has accepted a command although it is paused")
	}
	close(render.release)
	b.set(events.LaneResumed{}, events.LaneTTS)
	b.await("task.succeeded", "behind")
}
