// Legal histories for tests: the parts of a job's life beside the straight way, and random lives.

package projections

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
)

// gate is the node that waits for approval.
const gate = "approval"

// gatedGraph is testGraph with a gate behind the script.
func gatedGraph() events.Graph {
	g := testGraph
	g.Nodes = slices.Insert(slices.Clone(g.Nodes), 1, events.Node{ID: gate, Task: "script.approval", Plane: events.PlaneControl})
	g.Edges = append(slices.Clone(g.Edges), events.Edge{From: "script", To: gate}, events.Edge{From: gate, To: "profile"})
	return g
}

func (s *story) reused(stage string, attempt int) *story {
	c := of(stage, attempt)
	c.Model = "model-7"
	return s.add(events.StageReused{
		Result: events.Result{Engine: "flite", Fidelity: events.FidelityFull, Notes: []string{"made before"}},
		From:   events.ReusedFrom{JobID: "parent", Stage: stage, InputHash: "hash-" + stage},
	}, c)
}

// inherited registers a file that the parent made: it keeps its id in every job that uses it.
func (s *story) inherited(stage, name string) *story {
	a := events.Artifact{
		ID: events.ArtifactID("parent", stage, 1, name), Name: name, Type: "audio", MediaType: "audio/wav",
		URI: "s3://b/parent/" + name, SHA256: "abc", Size: 99, DurationMS: 4000,
	}
	return s.add(events.ArtifactRegistered{Artifact: a, Output: "speech", Fidelity: events.FidelityFull, Engine: "flite"}, of(stage, 0))
}

func (s *story) expired(stage string, attempt int, retryAt int64) *story {
	c := of(stage, attempt)
	c.Worker, c.DurationMS = "worker-1", 15_000
	return s.add(events.StageAttemptExpired{Message: "the worker was silent for 15 s", RetryAtMS: retryAt}, c)
}

func (s *story) stageCancelled(stage string, attempt int) *story {
	c := of(stage, attempt)
	c.Worker, c.DurationMS = "worker-1", 55
	return s.add(events.StageCancelled{}, c)
}

func (s *story) approvalRequested() *story {
	return s.add(events.ApprovalRequested{Script: ptr(sealed("script")), ExpiresMS: start.Add(time.Hour).UnixMilli()}, of(gate, 0))
}

func (s *story) approvalGranted(edit *events.Value) *story {
	return s.add(events.ApprovalGranted{Edit: edit}, of(gate, 0))
}

func (s *story) approvalDenied() *story {
	c := of(gate, 0)
	c.ErrorClass = events.ClassPolicy
	return s.add(events.ApprovalDenied{Reason: ptr(sealed("not my words"))}, c)
}

func (s *story) approvalExpired() *story {
	c := of(gate, 0)
	c.ErrorClass = events.ClassTimeout
	return s.add(events.ApprovalExpired{}, c)
}

func (s *story) cancelRequested() *story { return s.add(events.JobCancelRequested{}, events.Columns{}) }

func (s *story) jobCancelled() *story {
	return s.add(events.JobCancelled{}, events.Columns{State: JobCancelled})
}

func (s *story) carriedForward() *story {
	return s.add(events.JobCarriedForward{State: events.JobState{
		State: "queued", Graph: testGraph, Stages: []events.StageState{{State: "succeeded", Attempt: 9}},
		Values: map[string]events.Value{"narration": {Text: ptr(sealed("words"))}}, Cancelling: true,
	}}, events.Columns{})
}

// eventful is a re-run that meets everything new on its way: a schedule, reuse, an
// approval with an edit, a lost worker, being carried forward.
func eventful(id string) *story {
	edit := &events.Value{Text: ptr(sealed("edited")), Digest: "d"}
	return jobStory(id).submittedWith(func(r *events.Request) {
		r.Approval, r.Priority, r.ParentJobID = true, events.PriorityBatch, "parent"
		r.NotBeforeMS = start.Add(time.Minute).UnixMilli()
	}).plannedAs(gatedGraph()).carriedForward().
		reused("script", 0).inherited("script", "s.txt").approvalRequested().carriedForward().approvalGranted(edit).succeeded("profile", 0).
		scheduled("tts", 1).started("tts", 1).expired("tts", 1, 99).scheduled("tts", 2).started("tts", 2).reused("tts", 2).inherited("tts", "a.wav").
		scheduled("lipsync", 1).started("lipsync", 1).succeeded("lipsync", 1).artifact("lipsync", "v.mp4").
		skipped("upscale").jobSucceeded()
}

// stopped is a job that was cancelled while two of its stages ran.
func stopped(id string) *story {
	return jobStory(id).submitted().planned().scheduled("script", 1).started("script", 1).scheduled("tts", 1).started("tts", 1).
		cancelRequested().stageCancelled("script", 1).succeeded("tts", 1).jobCancelled()
}

// even draws from 0 to 15, each as often. Rapid's own ranges favour small numbers,
// with which hardly a job would come far.
func even(t *rapid.T, label string) (n int) {
	for range 4 {
		n *= 2
		if rapid.Bool().Draw(t, label) {
			n++
		}
	}
	return n
}

// drawJob is a random legal job, ended or not, whose labels may change at last.
func drawJob(t *rapid.T, id string) *story {
	s := drawLife(t, id)
	for range even(t, "labelled") / 6 {
		s.labelled(rapid.SampledFrom([]string{"", "spring", "autumn"}).Draw(t, "label"))
	}
	return s
}

// labelled gives the job a label, or none.
func (s *story) labelled(label string) *story {
	labels := []string{label}
	if label == "" {
		labels = nil
	}
	return s.add(events.JobLabelled{Labels: labels}, events.Columns{})
}

func drawLife(t *rapid.T, id string) *story {
	s := jobStory(id)
	s.tenant = rapid.SampledFrom([]string{"default", "acme"}).Draw(t, "tenant")
	graph := testGraph
	s.submittedWith(func(r *events.Request) {
		r.Priority = rapid.SampledFrom([]string{"", events.PriorityInteractive, events.PriorityBatch}).Draw(t, "priority")
		r.NotBeforeMS = rapid.SampledFrom([]int64{0, 1, start.Add(time.Hour).UnixMilli()}).Draw(t, "not before")
		r.ParentJobID = rapid.SampledFrom([]string{"", "parent"}).Draw(t, "parent")
		if r.Approval = rapid.Bool().Draw(t, "approval"); r.Approval {
			graph = gatedGraph()
		}
	})
	switch even(t, "fate") {
	case 0:
		return s
	case 1, 2:
		return s.rejected()
	}
	s.plannedAs(graph)
	for _, n := range graph.Nodes {
		if even(t, "carry") == 0 {
			s.carriedForward()
		}
		if even(t, "cancel") == 0 {
			return s.cancelRequested().jobCancelled()
		}
		draw := drawStage
		if n.ID == gate {
			draw = drawApproval
		}
		if !draw(t, s, n.ID) {
			return s
		}
	}
	return s.jobSucceeded()
}

// drawApproval says whether the job goes on.
func drawApproval(t *rapid.T, s *story, _ string) bool {
	s.approvalRequested()
	if rapid.Bool().Draw(t, "carry") {
		s.carriedForward()
	}
	switch even(t, "decision") {
	case 0:
		return false // nobody has decided yet
	case 1, 2, 3:
		s.approvalDenied().rejected()
		return false
	case 4, 5, 6:
		s.approvalExpired().jobFailed(gate)
		return false
	case 7:
		s.cancelRequested().jobCancelled()
		return false
	case 8, 9:
		s.approvalGranted(&events.Value{Text: ptr(sealed("edited"))})
	default:
		s.approvalGranted(nil)
	}
	return true
}

// drawStage says whether the job goes on.
func drawStage(t *rapid.T, s *story, id string) bool {
	switch even(t, "without work") {
	case 0, 1:
		s.skipped(id)
		return true
	case 2:
		s.reused(id, 0).inherited(id, "old")
		return true
	}
	for attempt := 1; ; attempt++ {
		s.scheduled(id, attempt)
		switch even(t, "queued") {
		case 0:
			return false // it waits still
		case 1:
			s.cancelRequested().jobCancelled()
			return false
		}
		s.started(id, attempt)
		ended, again := drawOutcome(t, s, id, attempt)
		if again {
			continue
		}
		if !ended {
			for i := range rapid.IntRange(0, 2).Draw(t, "files") {
				s.artifact(id, fmt.Sprintf("%s%d", id, i))
			}
		}
		return !ended
	}
}

// drawOutcome ends a running attempt, and says whether the job ended with it or another attempt follows.
func drawOutcome(t *rapid.T, s *story, id string, attempt int) (ended, again bool) {
	switch even(t, "outcome") {
	case 0:
		s.failed(id, attempt, int64(attempt))
		return false, true
	case 1:
		s.failed(id, attempt, 0).jobFailed(id)
		return true, false
	case 2:
		s.expired(id, attempt, int64(attempt))
		return false, true
	case 3:
		s.expired(id, attempt, 0).jobFailed(id)
		return true, false
	case 4: // the result of an expired attempt counts until the next one is scheduled
		s.expired(id, attempt, int64(attempt)).succeeded(id, attempt)
	case 5:
		s.cancelRequested().stageCancelled(id, attempt).jobCancelled()
		return true, false
	case 6:
		s.cancelRequested().expired(id, attempt, 0).jobCancelled()
		return true, false
	case 7:
		s.cancelRequested() // and the worker has not answered yet
		return true, false
	case 8: // the worker found a result
		s.reused(id, attempt)
	default:
		s.succeeded(id, attempt)
	}
	return false, false
}

// drawnLogs are as many random logs as tests lay into a database of their own.
const drawnLogs = 15

func TestDrawnLogsTellEveryFact(t *testing.T) {
	t.Parallel()
	told, logs := make(map[string]bool), rapid.Custom(drawLog)
	for seed := range drawnLogs {
		for _, x := range logs.Example(seed) {
			told[x.message.Type()] = true
		}
	}
	for _, name := range events.Types() {
		p, err := events.Zero(name)
		ok(t, err)
		if _, fact := p.(events.JobFact); fact && !told[name] {
			t.Errorf("no log of the tests has %s: let drawJob tell it", name)
		}
	}
}
