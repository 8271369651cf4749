// The engine that makes nothing, alone and through a worker.

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func TestNoopFailsAsOftenAsItIsTold(t *testing.T) {
	t.Parallel()
	e := NoopEngines()[0]
	for attempt := 1; attempt <= 3; attempt++ {
		out, err := e.Run(t.Context(), &Attempt{Task: "noop.script", Number: attempt, Params: map[string]any{"fail_attempts": 2.0}})
		if attempt <= 2 {
			wantTaskError(t, err, events.ClassEngineUnavailable)
		} else if err != nil || out.Fidelity != events.FidelitySimulated || out.Engine != "noop" {
			t.Errorf("attempt %d: %+v, %v", attempt, out, err)
		}
	}
	for name, value := range map[string]float64{"work_ms": 60_001, "fail_attempts": 6} {
		_, err := e.Run(t.Context(), &Attempt{Number: 1, Params: map[string]any{name: value}})
		wantTaskError(t, err, events.ClassInvalidInput)
	}
}

func TestNoopTellsWhenItWorked(t *testing.T) {
	t.Parallel()
	before := time.Now()
	out, err := NoopEngines()[0].Run(t.Context(), &Attempt{Number: 1, Params: map[string]any{"work_ms": 30.0, "clock": 1.0}})
	if err != nil || len(out.Notes) != 2 {
		t.Fatalf("%+v, %v", out, err)
	}
	began, err := time.Parse(time.RFC3339Nano, out.Notes[0])
	ended, err2 := time.Parse(time.RFC3339Nano, out.Notes[1])
	if err != nil || err2 != nil || began.Before(before.Round(0)) || ended.After(time.Now()) || ended.Sub(began) < 30*time.Millisecond {
		t.Errorf("it worked from %v to %v", out.Notes[0], out.Notes[1])
	}
}

func TestNoopWorksAndStops(t *testing.T) {
	t.Parallel()
	var last float64
	a := &Attempt{Number: 1, Params: map[string]any{"work_ms": 120.0}, Progress: func(percent float64, _ string) { last = percent }}
	began := time.Now()
	if _, err := NoopEngines()[2].Run(t.Context(), a); err != nil || time.Since(began) < 120*time.Millisecond || last <= 0 || last > 100 {
		t.Errorf("after %v: %v, progress %v", time.Since(began), err, last)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a.Params["work_ms"] = 60_000.0
	a.Progress = func(float64, string) { cancel() }
	if _, err := NoopEngines()[2].Run(ctx, a); !errors.Is(err, context.Canceled) {
		t.Errorf("a stopped one gave %v", err)
	}
}

// A lane with a lightweight engine does not wait for the others' answers, and its
// attempts leave no trace but their two records.
func TestNoopRunsAtOnceAndCostsNothing(t *testing.T) {
	t.Parallel()
	answers := make(chan struct{})
	slow := &slowEngine{answers: answers}
	b := newBench(t, append(NoopEngines(), slow)...)
	b.worker.pace.first = patience
	b.start()
	if err := b.s3.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, stage := range []string{"n1", "n2", "n3"} {
		m := b.message(stage, events.TaskRun{})
		m.Task = "noop.render"
		b.sendMessage(m)
	}
	for _, stage := range []string{"n1", "n2", "n3"} {
		m := b.await("task.succeeded", stage)
		if r := m.Data.(events.TaskSucceeded); r.Engine != "noop" || r.Fidelity != events.FidelitySimulated || len(r.Outputs) != 0 {
			t.Errorf("the result is %+v", r)
		}
	}
	if got := b.of("task.progress", ""); len(got) != 0 {
		t.Errorf("%d beats of attempts that took no time", len(got))
	}
	if left, err := os.ReadDir(b.worker.dir); err != nil || len(left) != 0 {
		t.Errorf("folders: %v (%v)", left, err)
	}
	// The manifest waits: one without the engine that has not answered would say that
	// nobody runs its task.
	if got := b.of("worker.manifest", ""); len(got) != 0 {
		t.Errorf("%d manifests before every engine has answered", len(got))
	}
	close(answers)
	eventlogtest.Eventually(t, patience, "a manifest with both", func() bool { return len(b.of("worker.manifest", "")) > 0 })
	if m := b.of("worker.manifest", "")[0].Data.(events.WorkerManifest); len(m.Tasks) != 2 || len(m.Unavailable) != 0 {
		t.Errorf("the manifest is %s", must(json.Marshal(m)))
	}
}

// slowEngine takes its time to say what it can.
type slowEngine struct{ answers chan struct{} }

func (e *slowEngine) Capability(context.Context) (events.TaskCapability, *events.TaskGap) {
	<-e.answers
	return benchTask, nil
}

func (e *slowEngine) Run(context.Context, *Attempt) (*Output, error) { return &Output{}, nil }

func must(b []byte, err error) string {
	if err != nil {
		return err.Error()
	}
	return string(b)
}
