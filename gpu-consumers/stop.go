// Stopping attempts from afar: task.stop on gpu.control names one, and whichever
// worker runs it ends it.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// errStopped is the end of an attempt that was asked to end.
var errStopped = errors.New("the attempt was stopped")

// A stop of an attempt that does not run here is remembered, because its acceptance
// may be on the way. Later than that the job handler asks again, when it sees the
// acceptance.
const (
	stopsKept   = 10_000
	stopsKeptAs = 10 * time.Minute
)

// stops knows what runs here, and what is not to run.
type stops struct {
	mu      sync.Mutex
	running map[string]context.CancelCauseFunc // by attempt
	asked   map[string]time.Time               // by attempt, when last
	order   []askedStop                        // oldest first
}

type askedStop struct {
	attempt string
	at      time.Time
}

// ask stops the attempt if it runs, and keeps it from running if it does not yet.
func (s *stops) ask(attempt string, now time.Time) (ran bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.running[attempt]; cancel != nil {
		cancel(errStopped)
		return true
	}
	if s.asked == nil {
		s.asked = make(map[string]time.Time)
	}
	s.asked[attempt] = now
	s.order = append(s.order, askedStop{attempt, now})
	for len(s.order) > stopsKept || now.Sub(s.order[0].at) > stopsKeptAs {
		if oldest := s.order[0]; s.asked[oldest.attempt].Equal(oldest.at) { // not asked again since
			delete(s.asked, oldest.attempt)
		}
		s.order = s.order[1:]
	}
	return false
}

// begin says that the attempt runs, and how to stop it; false when it must not.
func (s *stops) begin(attempt string, cancel context.CancelCauseFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, stopped := s.asked[attempt]; stopped {
		return false
	}
	if s.running == nil {
		s.running = make(map[string]context.CancelCauseFunc)
	}
	s.running[attempt] = cancel
	return true
}

func (s *stops) end(attempt string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.running, attempt)
}

// heedStops follows gpu.control from now on until ctx ends. What is missed in a gap
// needs no care: the handler asks again when it sees a stale acceptance.
func (w *Worker) heedStops(ctx context.Context) error {
	err := w.cfg.Log.Watch(ctx, []string{events.TopicTaskControl}, func(b eventlog.Batch) error {
		for _, r := range b.Records {
			m, err := events.Decode(r.Value)
			if err != nil {
				w.log.Warn("a control record cannot be read and is left out", "offset", r.Offset, "error", err)
				continue
			}
			if stop, ok := m.Data.(events.TaskStop); ok && w.stops.ask(events.AttemptID(m.JobID, m.Stage, m.Attempt), time.Now()) {
				w.log.Info("an attempt is stopped", "jobId", m.JobID, "nodeId", m.Stage, "attempt", m.Attempt, "reason", stop.Reason)
			}
		}
		return nil
	}, nil)
	if err != nil {
		return fmt.Errorf("cannot follow what is to be stopped: %w", err)
	}
	return nil
}
