// What a worker that was killed left undone, told by the next one of its name.

package gpu

import "context"

// reportInterrupted says of the attempts that a predecessor of this name accepted
// last that they failed, so that others follow at once and not when the stage's
// time-out has passed. Of one that had ended this is news of the past, which the
// job ignores. It is a courtesy: without it the time-out comes to the same.
func (w *Worker) reportInterrupted(ctx context.Context, lane string) {
	cmds, err := w.cfg.Log.LastAccepted(ctx, lane)
	if err != nil {
		w.log.Warn("what a predecessor left undone is not known; time-outs will tell", "lane", lane, "error", err)
		return
	}
	for _, cmd := range cmds {
		r, err := w.newRun(cmd)
		if err != nil {
			continue // a dead letter
		}
		rec, err := r.killed()
		if err == nil {
			err = w.cfg.Log.Produce(ctx, rec)
		}
		if err != nil {
			w.log.Warn("an interrupted attempt is not reported; its time-out will tell", "jobId", r.cmd.JobID, "nodeId", r.cmd.Stage, "error", err)
		}
	}
}
