// The successor of a short attempt is accepted before its end, and begins with it.

package gpu

import (
	"context"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func TestTheSuccessorOfAShortAttemptIsAcceptedAhead(t *testing.T) {
	t.Parallel()
	works, far := newLabour(), make(chan struct{})
	b := newBench(t, engineOf(func(ctx context.Context, a *Attempt) (*Output, error) {
		if a.Stage == "first" {
			a.report(20, "far from the end")
			<-far
			a.report(99, "near the end")
		}
		return works.run(ctx, a)
	}))
	b.worker.roster.slots[events.LaneRender], b.worker.cfg.Slots[events.LaneRender] = 1, 1
	b.start()
	b.sendTo("render_video", "first", 0)
	b.await("task.accepted", "first")
	b.sendTo("render_video", "second", 1)
	for range 10 {
		<-time.After(10 * time.Millisecond)
		if len(b.of("task.accepted", "second")) > 0 {
			t.Fatal("the second is accepted although the end of the first is far")
		}
	}
	close(far)
	b.await("task.accepted", "second")
	eventlogtest.Eventually(t, patience, "the waiting one beats", func() bool { return len(b.of("task.progress", "second")) > 1 })
	if works.runs("second") || len(b.of("task.succeeded", "first")) > 0 {
		t.Error("the second runs beside the first, in one slot")
	}
	close(works.release)
	b.await("task.succeeded", "second")
	b.await("task.succeeded", "first")
}
