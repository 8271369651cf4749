// Pausing lanes from afar: the newest record of a lane on settings says whether it
// accepts commands, for every worker, across restarts.

package gpu

import (
	"context"
	"fmt"
	"sync"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// pauses knows which lanes are paused.
type pauses struct {
	known chan struct{} // closed when all that lay on the log at the start has been read

	mu     sync.Mutex
	paused map[string]bool
	lanes  *eventlog.Lanes // nil: none yet
}

func (p *pauses) serve(lanes *eventlog.Lanes) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lanes = lanes
}

// await returns when it is known what is paused; false when ctx ended first.
func (p *pauses) await(ctx context.Context) bool {
	select {
	case <-p.known:
		return true
	case <-ctx.Done():
		return false
	}
}

// add opens lanes, paused where they are.
func (p *pauses) add(lanes *eventlog.Lanes, opened []eventlog.LaneConfig) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range opened {
		opened[i].Paused = p.paused[opened[i].Lane]
	}
	return lanes.Add(opened...)
}

// set takes what a record says of a lane, and tells whether that is new.
func (p *pauses) set(lane string, paused bool) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused == nil {
		p.paused = make(map[string]bool)
	}
	news = p.paused[lane] != paused
	p.paused[lane] = paused
	if news && p.lanes != nil {
		p.lanes.Pause(lane, paused)
	}
	return news
}

// heedPauses follows the settings until ctx ends.
func (w *Worker) heedPauses(ctx context.Context) error {
	err := w.cfg.Log.Tail(ctx, w.cfg.Log.Whole(events.TopicSettings), func(b eventlog.Batch) error {
		for _, r := range b.Records {
			m, err := events.Decode(r.Value)
			if err != nil {
				w.log.Warn("a setting cannot be read and is left out", "offset", r.Offset, "error", err)
				continue
			}
			switch m.Data.(type) { //nolint:gochecksumtype // settings alone
			case events.LanePaused:
				w.pause(m, true)
			case events.LaneResumed:
				w.pause(m, false)
			}
		}
		return nil
	}, func() { close(w.pauses.known) })
	if err != nil {
		return fmt.Errorf("cannot follow the settings: %w", err)
	}
	return nil
}

func (w *Worker) pause(m events.Message, paused bool) {
	if w.pauses.set(m.AggregateID, paused) {
		w.log.Info("a lane is paused or resumed", "lane", m.AggregateID, "paused", paused, "by", m.Actor)
	}
}
