// Whatever arrives in whatever order, a job's history stays legal and it ends.

package aggregates_test

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// TestAnyOrderIsLegal feeds a job random answers, late, doubled and foreign ones
// too, and checks after each: contiguous versions, one submission, one terminal
// fact and nothing after it, at most one counted result per attempt, attempts
// within the bound, progress that never falls, and a fold over the wire that
// equals the state.
func TestAnyOrderIsLegal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		env := aggregates.Surroundings{At: start, Policy: aggregates.DefaultPolicy(), Engines: everyTask(), Profile: snapshot, Place: func(string, string, string, bool, func(int32) aggregates.Suit) int32 { return 0 }}
		r := trainRequest()
		r.Variant = rapid.SampledFrom(aggregates.Variants()).Draw(t, "variant")
		r.Approval = rapid.Bool().Draw(t, "approval")
		if rapid.Bool().Draw(t, "scheduled") {
			r.NotBeforeMS = start.Add(time.Hour).UnixMilli()
		}
		h := history{seen: map[string]int{}}
		var job aggregates.Job
		step := 0
		decide := func(p events.Payload, c events.Columns) {
			step++
			env.At = env.At.Add(time.Millisecond)
			m := events.Message{ID: fmt.Sprint("m", step), OccurredAt: env.At, CommandID: fmt.Sprint("m", step), AggregateID: "j", Tenant: "default", Columns: c, Data: p}
			facts, _ := aggregates.Decide(job, m, env)
			for _, f := range facts {
				h.check(t, f)
				next, err := job.Apply(f)
				if err != nil {
					t.Fatal(err)
				}
				job = next
			}
			progress := 0.0
			for i, s := range job.Stages {
				if s.State == aggregates.StageSucceeded || s.State == aggregates.StageSkipped || s.State == aggregates.StageReused {
					progress += job.Graph.Nodes[i].Weight
				}
				if s.Attempt > env.Policy.MaxAttempts {
					t.Fatalf("attempt %d", s.Attempt)
				}
			}
			if progress < h.progress-1e-9 || progress > 1+1e-9 {
				t.Fatalf("progress went from %g to %g", h.progress, progress)
			}
			h.progress = progress
		}
		decide(events.JobSubmit{Request: r}, events.Columns{})
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			c := events.Columns{Stage: rapid.SampledFrom([]string{"script", "safety", "render", "tts", "lipsync", "upscale", "assemble", "check", "x"}).Draw(t, "stage"),
				Attempt: rapid.IntRange(0, 4).Draw(t, "attempt"), ErrorClass: rapid.SampledFrom([]string{events.ClassInternal, events.ClassInvalidInput}).Draw(t, "class")}
			switch rapid.IntRange(0, 11).Draw(t, "kind") {
			case 0:
				decide(events.TaskAccepted{}, c)
			case 1, 2:
				decide(events.TaskSucceeded{Result: events.Result{Verdict: &events.Verdict{Allowed: true}}}, c)
			case 3:
				decide(events.TaskFailed{Message: "no"}, c)
			case 4:
				decide(events.JobSubmit{Request: r}, events.Columns{})
			case 6:
				decide(events.ClockLeaseExpired{}, c)
			case 7:
				decide(events.TaskCancelled{}, c)
			case 8:
				decide(events.JobApprove{}, events.Columns{})
			case 9:
				if rapid.IntRange(0, 3).Draw(t, "really") == 0 {
					decide(events.JobCancel{}, events.Columns{})
				}
			case 10:
				decide(events.ClockCarryDue{Version: job.Chain.Version}, events.Columns{})
			case 11:
				decide(events.TaskSucceeded{ReusedFrom: &events.ReusedFrom{JobID: "other"}}, c)
			case 5:
				if ds := job.Deadlines(); len(ds) > 1 {
					d := rapid.SampledFrom(ds[1:]).Draw(t, "deadline")
					decide(d.Command, events.Columns{Stage: d.Stage, Attempt: d.Attempt})
				}
			}
		}
		// Once the noise stops, answering what is open always ends the job.
		for i := 0; !job.Terminal() && i < 100; i++ {
			for _, d := range job.Deadlines()[1:] {
				decide(d.Command, events.Columns{Stage: d.Stage, Attempt: d.Attempt})
			}
			decide(events.JobApprove{}, events.Columns{})
			for j, s := range job.Stages {
				if s.State == aggregates.StageQueued {
					decide(events.TaskSucceeded{}, events.Columns{Stage: job.Graph.Nodes[j].ID, Attempt: s.Attempt})
				}
			}
		}
		if !job.Terminal() {
			t.Fatalf("the job never ends: %+v", job.Stages)
		}
		h.refold(t, job)
	})
}

// history checks facts one after another.
type history struct {
	facts     []events.Message
	seen      map[string]int
	progress  float64
	cancelled bool
}

func (h *history) check(t *rapid.T, f events.Message) {
	if n := len(h.facts); n > 0 {
		last := h.facts[n-1]
		switch last.Type() {
		case "job.succeeded", "job.failed", "job.rejected", "job.cancelled":
			t.Fatalf("%s after the end", f.Type())
		}
		if f.OccurredAt.Before(last.OccurredAt) {
			t.Fatal("time went backwards")
		}
	}
	if f.Version != int64(len(h.facts)+1) {
		t.Fatalf("version %d after %d facts", f.Version, len(h.facts))
	}
	switch f.Data.(type) {
	case events.StageScheduled, events.StageStarted, events.StageFailed:
		if h.cancelled {
			t.Fatalf("%s after the job was asked to cancel", f.Type())
		}
	case events.JobCancelRequested:
		h.cancelled = true
	}
	switch f.Data.(type) {
	case events.JobSubmitted, events.StageSucceeded, events.StageReused, events.StageScheduled, events.StageStarted, events.StageFailed, events.StageAttemptExpired:
		kind := f.Type()
		if kind == "stage.reused" { // a result as well
			kind = "stage.succeeded"
		}
		key := fmt.Sprint(kind, f.Stage, f.Attempt)
		if h.seen[key]++; h.seen[key] > 1 {
			t.Fatalf("%s twice", key)
		}
	}
	h.facts = append(h.facts, f)
}

func (h *history) refold(t *rapid.T, want aggregates.Job) {
	var got aggregates.Job
	for _, f := range h.facts {
		value, err := events.Encode(f)
		if err != nil {
			t.Fatal(err)
		}
		m, err := events.Decode(value)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // a duplicate changes nothing
			if got, err = got.Apply(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, pair := range map[string][2]any{
		"chain": {got.Chain, want.Chain}, "state": {got.State, want.State}, "stages": {got.Stages, want.Stages}, "graph": {got.Graph, want.Graph},
		"values": {got.Values, want.Values}, "request": {got.Request, want.Request}, "profile": {got.Profile, want.Profile},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Fatalf("the fold of the log has another %s:\n%+v\nthe state has\n%+v", name, pair[0], pair[1])
		}
	}
}
