// The engine that makes nothing: for smoke tests, chaos tests and benches.

package gpu

import (
	"context"
	"fmt"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// noop waits as long as it is told, or fails as often as it is told.
type noop struct{ task string }

// NoopEngines make nothing, on the script, tts, render and lipsync lanes. They cost
// next to nothing, so that what is measured with them is everything else.
func NoopEngines() []engine {
	var all []engine
	for _, task := range []string{"noop.script", "noop.tts", "noop.render", "noop.lipsync"} {
		all = append(all, noop{task})
	}
	return all
}

// Capability implements engine.
func (n noop) Capability(context.Context) (events.TaskCapability, *events.TaskGap) {
	return events.TaskCapability{Task: n.task, Lane: taskLanes[n.task], Engine: "noop", Version: "1", Fidelity: events.FidelitySimulated, Builtin: true}, nil
}

// light implements lightweight.
func (noop) light() {}

// noopStep is how long it waits between two reports of progress, at least.
const noopStep = 50 * time.Millisecond

// Run implements engine. The parameters: work_ms (0 to 60000) is how long it takes,
// fail_attempts (0 to 5) how many attempts fail, the first ones, as if the engine
// were away. With clock (0 or 1) the result's notes are the times at which the work
// began and ended, by which a bench sees what lies between two of them.
func (n noop) Run(ctx context.Context, a *Attempt) (*Output, error) {
	work, err := a.span("work_ms", 0, 60_000, 0)
	if err != nil {
		return nil, err
	}
	failing, err := a.span("fail_attempts", 0, 5, 0)
	if err != nil {
		return nil, err
	}
	clock, err := a.span("clock", 0, 1, 0)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if err := n.wait(ctx, time.Duration(work)*time.Millisecond, a); err != nil {
		return nil, err
	}
	if a.Number <= int(failing) {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Hint: "another attempt follows",
			Message: fmt.Sprintf("attempt %d of the first %d, which are to fail", a.Number, int(failing))}
	}
	out := &Output{Engine: "noop", Version: "1", Fidelity: events.FidelitySimulated}
	if clock > 0 {
		out.Notes = []string{began.Format(time.RFC3339Nano), time.Now().Format(time.RFC3339Nano)}
	}
	return out, nil
}

// wait lets the time pass, reporting progress.
func (noop) wait(ctx context.Context, work time.Duration, a *Attempt) error {
	if work <= 0 {
		return nil
	}
	began := time.Now()
	done := time.NewTimer(work)
	defer done.Stop()
	step := time.NewTicker(max(work/20, noopStep))
	defer step.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-step.C:
			a.report(100*float64(time.Since(began))/float64(work), "waiting")
		case <-done.C:
			return nil
		}
	}
}
