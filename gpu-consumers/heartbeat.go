// The heartbeat of a running attempt: its progress, never falling, and never silent.

package gpu

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// heartbeat writes progress records of one attempt: the first pace.first after its
// start or when there is news, then at once when there is news, but no more than one
// each pace.progress, and without news one each pace.beat. The acceptance itself is
// the first sign of life, so that an attempt which ends at once costs no record.
type heartbeat struct {
	run   *run
	ctx   context.Context //nolint:containedctx // the attempt's, for as long as it runs
	first *time.Timer
	news  chan struct{}
	over  chan struct{}

	mu      sync.Mutex
	percent float64
	message string
	gone    chan struct{} // closed by beats; nil until they began
	ended   bool
}

// startHeartbeat beats until ended, or until ctx ends.
func (r *run) startHeartbeat(ctx context.Context) *heartbeat {
	h := &heartbeat{run: r, ctx: ctx, news: make(chan struct{}, 1), over: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.first = time.AfterFunc(r.worker.pace.first, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.begin()
	})
	return h
}

// begin starts the beats, once. The caller holds mu.
func (h *heartbeat) begin() {
	if h.gone == nil && !h.ended {
		h.gone = make(chan struct{})
		go h.beats()
	}
}

// end returns when no further beat can be written.
func (h *heartbeat) end() {
	h.mu.Lock()
	h.ended = true
	gone := h.gone
	h.mu.Unlock()
	h.first.Stop()
	close(h.over)
	if gone != nil {
		<-gone
	}
}

// report takes what an engine says. Nonsense and steps back change nothing.
func (h *heartbeat) report(percent float64, message string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !math.IsNaN(percent) {
		h.percent = max(h.percent, min(percent, 100))
	}
	h.message = message
	h.run.worker.turns.note(h.run, h.percent)
	h.begin()
	signal(h.news)
}

func (h *heartbeat) state() events.TaskProgress {
	h.mu.Lock()
	defer h.mu.Unlock()
	return events.TaskProgress{Percent: h.percent, Message: h.message}
}

func (h *heartbeat) beats() {
	defer close(h.gone)
	pace := h.run.worker.pace
	select { // what is known so far is in the first beat
	case <-h.news:
	default:
	}
	for n := 0; ; n++ {
		h.run.beat(h.ctx, h.state(), n)
		if !h.wait(nil, pace.progress) || !h.wait(h.news, max(pace.beat-pace.progress, 0)) {
			return
		}
	}
}

// wait returns true after the time or at news, false at the end.
func (h *heartbeat) wait(news <-chan struct{}, longest time.Duration) bool {
	due := time.NewTimer(longest)
	defer due.Stop()
	select {
	case <-h.ctx.Done():
		return false
	case <-h.over:
		return false
	case <-news:
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
		r.tell(slog.LevelDebug, "a beat was not written", "error", err)
	}
}
