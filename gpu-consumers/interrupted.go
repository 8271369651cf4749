// What a worker that was killed left undone, told by the next one of its name.

package gpu

import (
	"context"
	"errors"
	"time"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// reportInterrupted says of the attempts that a predecessor of this name accepted
// last that they failed, so that others follow at once and not when the lease or the
// stage's time has run out, and the lane's partitions open at once. Of one that had
// ended this is news of the past, which the job ignores. It is a courtesy: without it
// the lease comes to the same.
func (w *Worker) reportInterrupted(ctx context.Context, lane string) {
	cmds, err := w.lastAccepted(ctx, lane)
	if err != nil {
		w.log.Warn("what a predecessor left undone is not known; time-outs will tell", "lane", lane, "error", err)
		return
	}
	var out []eventlog.Record
	for _, cmd := range cmds {
		r, err := w.newRun(cmd)
		if err != nil {
			continue // a dead letter
		}
		if rec, err := r.killed(); err == nil { // strings and numbers always encode
			out = append(out, rec)
		}
	}
	if len(out) == 0 {
		return
	}
	if err := w.cfg.Log.Produce(ctx, out...); err != nil {
		w.log.Warn("interrupted attempts are not reported; their time-outs will tell", "lane", lane, "attempts", len(out), "error", err)
	}
}

// A broker that has just started finds its groups' coordinator only after a moment.
const (
	coordinatorWithin = 5 * time.Second
	coordinatorPause  = 200 * time.Millisecond
)

func (w *Worker) lastAccepted(ctx context.Context, lane string) ([]eventlog.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, coordinatorWithin)
	defer cancel()
	for {
		cmds, err := w.cfg.Log.LastAccepted(ctx, lane)
		if err == nil || !errors.Is(err, eventlog.ErrUnavailable) {
			return cmds, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(coordinatorPause):
		}
	}
}
