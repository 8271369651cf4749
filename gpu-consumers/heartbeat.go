// The heartbeat of a running attempt: its progress, never falling, and never silent.

package gpu

import (
	"context"
	"math"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// heartbeat writes progress records of one attempt: at once when there is news,
// but no more than one each pace.progress, and without news one each pace.beat.
type heartbeat struct {
	news chan struct{}
	stop context.CancelFunc
	gone chan struct{}

	mu      sync.Mutex
	percent float64
	message string
}

// startHeartbeat beats until ended, or until ctx ends.
func (r *run) startHeartbeat(ctx context.Context) *heartbeat {
	ctx, stop := context.WithCancel(ctx)
	h := &heartbeat{news: make(chan struct{}, 1), stop: stop, gone: make(chan struct{})}
	go func() {
		defer close(h.gone)
		for n := 0; ; n++ {
			if !h.wait(ctx, r.worker.pace.beat) {
				return
			}
			r.beat(ctx, h.state(), n)
			select {
			case <-ctx.Done():
				return
			case <-time.After(r.worker.pace.progress):
			}
		}
	}()
	return h
}

// end returns when no further beat can be written.
func (h *heartbeat) end() {
	h.stop()
	<-h.gone
}

// report takes what an engine says. Nonsense and steps back change nothing.
func (h *heartbeat) report(percent float64, message string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !math.IsNaN(percent) {
		h.percent = max(h.percent, min(percent, 100))
	}
	h.message = message
	signal(h.news)
}

func (h *heartbeat) state() events.TaskProgress {
	h.mu.Lock()
	defer h.mu.Unlock()
	return events.TaskProgress{Percent: h.percent, Message: h.message}
}

// wait returns true when a beat is due, false at the end.
func (h *heartbeat) wait(ctx context.Context, longest time.Duration) bool {
	due := time.NewTimer(longest)
	defer due.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-h.news:
	case <-due.C:
	}
	return true
}

// beat writes one progress record. One that is lost is made up for by the next.
func (r *run) beat(ctx context.Context, p events.TaskProgress, n int) {
	m := r.message(p, events.Columns{}, n)
	rec, err := record(events.TopicTaskProgress, m)
	if err == nil {
		// Cancelling a record that is on its way would fail its neighbours in the batch.
		err = r.worker.cfg.Log.Produce(context.WithoutCancel(ctx), rec)
	}
	if err != nil {
		r.log.Debug("a beat was not written", "error", err)
	}
}
