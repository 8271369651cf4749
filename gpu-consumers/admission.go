// Which commands are accepted: those that the card has room for.

package gpu

import (
	"context"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/vram"
)

// admit says whether the card has room for a command now. One that can never be run is
// accepted, and answered.
func (w *Worker) admit(cmd eventlog.Record) bool {
	if w.memory.budget() == 0 {
		return true
	}
	r, err := w.newRun(cmd)
	if err != nil {
		return true
	}
	a := r.planned()
	e, can := w.roster.expect(a)
	if e == nil {
		return true
	}
	return w.memory.admit(w.memory.claim(r.id, r.cmd.Lane, cmd.Topic == events.LaneBatchTopic(r.cmd.Lane), e, can, a))
}

// withdraw takes back what was asked for a command that does not run here.
func (w *Worker) withdraw(cmd eventlog.Record) {
	if r, err := w.newRun(cmd); err == nil {
		w.memory.end(r.id, false)
	}
}

// planned is the attempt as the command tells it: inputs have names, and files no paths.
func (r *run) planned() *Attempt {
	a := &Attempt{
		ID: r.id, JobID: r.cmd.JobID, Stage: r.cmd.Stage, Task: r.cmd.Task, Variant: r.cmd.Variant, Number: r.cmd.Attempt,
		Params: r.task.Params, Reduce: r.task.Reduce, Profile: r.profile(), Texts: map[string]string{}, Files: map[string][]File{},
	}
	for name, v := range r.task.Inputs {
		if v.Text != nil {
			a.Texts[name] = "sealed"
		}
		for _, artifact := range v.Artifacts {
			a.Files[name] = append(a.Files[name], File{Artifact: artifact})
		}
	}
	return a
}

// claim makes sure that the attempt has what it needs of the card, now that its engine is
// known: it may be another than was expected when the command was accepted. Then what was
// set aside is given back first, so that nobody waits while it holds something.
func (r *run) claim(ctx context.Context, e engine, a *Attempt) (vram.Claim, error) {
	m := r.worker.memory
	c, set := m.claim(r.id, r.cmd.Lane, false, e, r.can, a), m.has(r.id)
	if m.budget() == 0 || c.MiB == set.MiB && c.Unit == set.Unit && c.Model == set.Model {
		return c, nil
	}
	m.end(r.id, false)
	again := time.NewTicker(memoryLook)
	defer again.Stop()
	for !m.admit(c) {
		a.report(0, "waiting for GPU memory")
		select {
		case <-ctx.Done():
			return c, ctx.Err()
		case <-again.C:
		}
	}
	return c, nil
}
