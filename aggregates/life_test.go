// The whole life of a job beside the straight way: schedules, approval, cancelling,
// lost leases, results that come late or are there already.

package aggregates_test

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

func digested(text string) events.Value {
	return events.Value{Text: &events.Sealed{Bytes: []byte("sealed " + text), Key: "k"}, Digest: "digest of " + text}
}

// due sends the clock's command for the named kind of deadline.
func (s *script) due(kind string) []string {
	s.t.Helper()
	for _, d := range s.job.Deadlines() {
		if d.Command.EventType() == kind {
			return s.when(d.Command, events.Columns{Stage: d.Stage, Attempt: d.Attempt})
		}
	}
	s.t.Fatalf("no deadline is a %s: %+v", kind, s.job.Deadlines())
	return nil
}

func (s *script) cancel() []string { return s.when(events.JobCancel{}, events.Columns{}) }

func (s *script) silent(stage string, attempt int) []string {
	return s.when(events.ClockLeaseExpired{LeaseMS: 15_000}, events.Columns{Stage: stage, Attempt: attempt})
}

// said makes a stage succeed with texts.
func (s *script) said(stage string, attempt int, texts map[string]string) []string {
	r := events.Result{Engine: "e", Outputs: map[string]events.Value{}, Verdict: &events.Verdict{Allowed: true}}
	for name, text := range texts {
		r.Outputs[name] = digested(text)
	}
	return s.when(events.TaskSucceeded{Result: r}, events.Columns{Stage: stage, Attempt: attempt, Worker: "w"})
}

func (s *script) refused(code string) {
	s.t.Helper()
	if s.refusal != code {
		s.t.Fatalf("refused with %q, want %q", s.refusal, code)
	}
}

func TestAKeyBelongsToOneBody(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	r := talker()
	r.BodyDigest = "one"
	s.submit(r)
	s.want(s.submit(r))
	s.refused("")
	r.BodyDigest = "two"
	s.want(s.submit(r))
	s.refused(aggregates.CodeIdempotencyConflict)
	s.cancel()
	s.want(s.submit(r))
	s.refused(aggregates.CodeIdempotencyConflict)
}

func TestCommandsNeedALivingJob(t *testing.T) {
	t.Parallel()
	for _, command := range []events.Payload{events.JobCancel{}, events.JobApprove{}, events.JobDeny{}} {
		s := newScript(t)
		s.want(s.when(command, events.Columns{}))
		s.refused(aggregates.CodeJobUnknown)
		s.submit(talker())
		s.cancel()
		s.want(s.when(command, events.Columns{}))
		s.refused(aggregates.CodeJobEnded)
	}
}

func TestScheduledJobWaits(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	r := talker()
	due := start.Add(time.Hour)
	r.NotBeforeMS = due.UnixMilli()
	s.want(s.submit(r), "job.submitted", "job.planned")
	if s.job.State != aggregates.JobScheduled || s.job.DeadlineMS != due.Add(s.env.Policy.JobDeadline).UnixMilli() {
		t.Errorf("the job is %s until %d; its time begins with the schedule", s.job.State, s.job.DeadlineMS)
	}
	s.want(s.when(events.ClockScheduleDue{DeadlineMS: 1}, events.Columns{}))
	s.want(s.due("clock.schedule_due"), "stage.scheduled script#1")
	s.want(s.when(events.ClockScheduleDue{DeadlineMS: r.NotBeforeMS}, events.Columns{}))
	if s.job.State != aggregates.JobQueued {
		t.Errorf("the job is %s", s.job.State)
	}
	// A time that has passed is no schedule.
	s = newScript(t)
	r.NotBeforeMS = start.UnixMilli()
	s.want(s.submit(r), "job.submitted", "job.planned", "stage.scheduled script#1")
}

func TestPriorityChoosesTheTopic(t *testing.T) {
	t.Parallel()
	for priority, batch := range map[string]bool{"": false, events.PriorityInteractive: false, events.PriorityBatch: true} {
		s := newScript(t)
		r := talker()
		r.Priority = priority
		s.submit(r)
		if got := s.facts[2].Data.(events.StageScheduled).Batch; got != batch {
			t.Errorf("priority %q is scheduled with batch %v", priority, got)
		}
	}
	s := newScript(t)
	r := talker()
	r.Priority = "urgent"
	s.want(s.submit(r), "job.submitted", "job.rejected")
}

func TestCancelBeforeAnythingRuns(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.want(s.cancel(), "job.cancel_requested", "job.cancelled")
	s.want(s.accept("script", 1))
	s.want(s.succeed("script", 1))
	if s.job.State != aggregates.JobCancelled || s.job.Deadlines() != nil {
		t.Errorf("the job is %s", s.job.State)
	}
}

func TestCancelWaitsForWhatRuns(t *testing.T) {
	t.Parallel()
	enders := map[string]func(s *script) []string{
		"stopped": func(s *script) []string {
			return s.when(events.TaskCancelled{}, events.Columns{Stage: "script", Attempt: 1})
		},
		"succeeded": func(s *script) []string { return s.succeed("script", 1, "narration") },
		"failed":    func(s *script) []string { return s.fail("script", 1, events.ClassInternal) },
		"silent":    func(s *script) []string { return s.silent("script", 1) },
		"timed out": func(s *script) []string { return s.due("clock.stage_timeout") },
	}
	for name, end := range enders {
		s := newScript(t)
		s.submit(talker())
		s.accept("script", 1)
		s.want(s.cancel(), "job.cancel_requested")
		s.want(s.cancel()) // asked twice
		s.refused("")
		if got := end(s); !slices.Equal(got, []string{"stage.cancelled script#1", "job.cancelled"}) {
			t.Errorf("%s: got %v", name, got)
		}
	}
	s := newScript(t)
	s.submit(talker())
	s.accept("script", 1)
	s.cancel()
	s.want(s.due("clock.deadline"), "job.cancelled")
}

func TestCancelBetweenAttempts(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.fail("script", 1, events.ClassInternal)
	retry := s.job.Deadlines()[1]
	s.want(s.cancel(), "job.cancel_requested", "job.cancelled")
	s.want(s.when(retry.Command, events.Columns{Stage: "script", Attempt: 1}))
}

func TestCancelOfParallelStages(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(trainRequest())
	s.succeed("script", 1, "narration", "scene")
	s.succeed("safety", 1, "narration", "scene")
	s.accept("tts", 1)
	s.accept("render", 1)
	s.want(s.cancel(), "job.cancel_requested")
	s.want(s.when(events.TaskCancelled{}, events.Columns{Stage: "tts", Attempt: 1}), "stage.cancelled tts#1")
	s.want(s.when(events.TaskCancelled{}, events.Columns{Stage: "render", Attempt: 1}), "stage.cancelled render#1", "job.cancelled")
}

// What waits for its next attempt gets none while another stage is still being stopped.
func TestCancelLeavesBackOffsAlone(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(trainRequest())
	s.succeed("script", 1, "narration", "scene")
	s.succeed("safety", 1, "narration", "scene")
	s.accept("render", 1)
	s.fail("tts", 1, events.ClassInternal)
	retry := slices.IndexFunc(s.job.Deadlines(), func(d aggregates.Deadline) bool { return d.Stage == "tts" })
	due := s.job.Deadlines()[retry]
	s.want(s.cancel(), "job.cancel_requested")
	s.want(s.when(due.Command, events.Columns{Stage: "tts", Attempt: 1}))
	s.want(s.when(events.TaskCancelled{}, events.Columns{Stage: "render", Attempt: 1}), "stage.cancelled render#1", "job.cancelled")
}

func TestSilentWorkerLosesItsAttempt(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.want(s.silent("script", 1)) // nobody has it
	s.accept("script", 1)
	s.want(s.silent("script", 2))
	s.want(s.silent("script", 1), "stage.attempt_expired script#1")
	s.want(s.silent("script", 1))
	s.want(s.fail("script", 1, events.ClassInternal)) // it is given up already
	s.want(s.due("clock.retry_due"), "stage.scheduled script#2")
	s.want(s.succeed("script", 1)) // too late
	s.accept("script", 2)
	s.silent("script", 2)
	s.due("clock.retry_due")
	s.accept("script", 3)
	s.want(s.silent("script", 3), "stage.attempt_expired script#3", "job.failed script")
	if end := s.facts[len(s.facts)-1]; end.ErrorClass != events.ClassStalled {
		t.Errorf("the job fails with class %s", end.ErrorClass)
	}
}

func TestLateResultCountsUntilTheNextAttempt(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.accept("script", 1)
	s.silent("script", 1)
	retry := s.job.Deadlines()[1]
	s.want(s.said("script", 1, map[string]string{"narration": "hello"}), "stage.succeeded script#1", "stage.scheduled safety#1")
	s.want(s.when(retry.Command, events.Columns{Stage: "script", Attempt: 1}))
	// After a failure there is nothing that could still succeed.
	s.fail("safety", 1, events.ClassInternal)
	s.want(s.said("safety", 1, nil))
}

func TestStoppedAttemptIsRepeated(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.accept("script", 1)
	s.want(s.when(events.TaskCancelled{}, events.Columns{Stage: "script", Attempt: 1}), "stage.failed script#1")
}

func TestOutOfMemoryAsksForLess(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	for attempt := 1; attempt < 3; attempt++ {
		s.fail("script", attempt, events.ClassOOM)
		s.due("clock.retry_due")
		if got := s.facts[len(s.facts)-1].Data.(events.StageScheduled).Reduce; got != attempt {
			t.Errorf("attempt %d is asked to reduce by %d, want %d", attempt+1, got, attempt)
		}
	}
}

func TestBackOffByClass(t *testing.T) {
	t.Parallel()
	for class, want := range map[string]int64{events.ClassOOM: 1000, events.ClassInternal: 2000, events.ClassTimeout: 2000, events.ClassStalled: 500,
		events.ClassEngineRejected: 0, events.ClassInvalidInput: 0, events.ClassArtifactMissing: 0, events.ClassPolicy: 0} {
		s := newScript(t)
		s.submit(talker())
		s.fail("script", 1, class)
		var wait int64
		for _, f := range s.facts {
			if d, ok := f.Data.(events.StageFailed); ok && d.RetryAtMS > 0 {
				wait = d.RetryAtMS - s.at.UnixMilli()
			}
		}
		if wait < want || wait > want+want/4 {
			t.Errorf("class %s waits %d ms, want %d and up to a quarter more", class, wait, want)
		}
	}
}

func gated() events.Request {
	r := talker()
	r.Approval = true
	return r
}

func TestApproval(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(gated())
	s.want(s.when(events.JobApprove{}, events.Columns{}))
	s.refused(aggregates.CodeNotWaiting)
	s.accept("script", 1)
	s.want(s.said("script", 1, map[string]string{"narration": "draft", "scene": "sea"}), "stage.succeeded script#1", "approval.requested approval")
	asked := s.facts[len(s.facts)-1].Data.(events.ApprovalRequested)
	if string(asked.Script.Bytes) != "sealed draft" || s.job.State != aggregates.JobWaitingApproval {
		t.Errorf("asked to approve %q, the job is %s", asked.Script.Bytes, s.job.State)
	}
	s.want(s.when(events.JobApprove{}, events.Columns{}), "approval.granted approval", "stage.scheduled safety#1")
	s.wantInput("safety", "narration", "digest of draft")
	s.want(s.when(events.JobApprove{}, events.Columns{}))
	s.refused(aggregates.CodeNotWaiting)

	edit := digested("edited")
	s = newScript(t)
	s.submit(gated())
	s.said("script", 1, map[string]string{"narration": "draft", "scene": "sea"})
	s.want(s.when(events.JobApprove{Edit: &edit}, events.Columns{}), "approval.granted approval", "stage.scheduled safety#1")
	s.wantInput("safety", "narration", "digest of edited") // an edit passes the filter too
	s.wantInput("safety", "scene", "digest of sea")
}

func (s *script) wantInput(stage, name, digest string) {
	s.t.Helper()
	i, _ := s.job.Node(stage)
	if got := s.job.Inputs(s.job.Graph.Nodes[i])[name].Digest; got != digest {
		s.t.Errorf("%s reads %q as %s, want %q", stage, got, name, digest)
	}
}

func TestApprovalIsDeniedExpiresOrIsCancelled(t *testing.T) {
	t.Parallel()
	waiting := func() *script {
		s := newScript(t)
		s.submit(gated())
		s.said("script", 1, map[string]string{"narration": "draft"})
		return s
	}
	s := waiting()
	s.want(s.when(events.JobDeny{}, events.Columns{}), "approval.denied approval", "job.rejected approval")
	s = waiting()
	s.want(s.when(events.ClockApprovalExpired{DeadlineMS: 1}, events.Columns{Stage: "approval"}))
	s.want(s.due("clock.approval_expired"), "approval.expired approval", "job.failed approval")
	s = waiting()
	s.want(s.cancel(), "job.cancel_requested", "job.cancelled")
}

func TestWithoutApprovalThereIsNoGate(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	if _, ok := s.job.Node("approval"); ok {
		t.Error("the plan has a gate that nobody asked for")
	}
	s.said("script", 1, map[string]string{"narration": "draft"})
	s.wantInput("safety", "narration", "digest of draft")
}

func TestDiagnosticGoesThroughFourLanes(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.want(s.submit(events.Request{Mode: aggregates.ModeDiagnostic, Variant: aggregates.VariantNoop}), "job.submitted", "job.planned", "stage.scheduled script#1")
	for _, step := range [][2]string{{"script", "tts"}, {"tts", "render"}, {"render", "lipsync"}} {
		s.want(s.succeed(step[0], 1), "stage.succeeded "+step[0]+"#1", "stage.scheduled "+step[1]+"#1")
	}
	s.want(s.succeed("lipsync", 1), "stage.succeeded lipsync#1", "job.succeeded")
	s = newScript(t)
	s.submit(events.Request{Mode: aggregates.ModeDiagnostic, Variant: aggregates.VariantNoop, Approval: true})
	s.want(s.succeed("script", 1), "stage.succeeded script#1", "approval.requested approval")
	s.want(s.when(events.JobApprove{}, events.Columns{}), "approval.granted approval", "stage.scheduled tts#1")
}

// A fold may start at a carried-forward event, and then stands where a whole fold does.
func TestCarriedForward(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(gated())
	s.said("script", 1, map[string]string{"narration": "draft"})
	s.want(s.when(events.ClockCarryDue{Version: s.job.Chain.Version - 1}, events.Columns{}))
	s.want(s.when(events.ClockCarryDue{Version: s.job.Chain.Version}, events.Columns{}), "job.carried_forward")
	carried := len(s.facts) - 1
	s.when(events.JobApprove{}, events.Columns{})
	s.said("safety", 1, map[string]string{"narration": "draft"})

	var whole, late aggregates.Job
	for i, f := range deepCopy(t, s.facts) {
		var err error
		if whole, err = whole.Apply(f); err != nil {
			t.Fatal(err)
		}
		if i < carried {
			continue
		}
		if late, err = late.Apply(f); err != nil {
			t.Fatal(err)
		}
	}
	if !reflect.DeepEqual(whole, late) {
		t.Errorf("from the carried state:\n%+v\nfrom the start:\n%+v", late, whole)
	}
	if _, err := (aggregates.Job{}).Apply(s.facts[carried+1]); err == nil {
		t.Error("a fold starts in the middle of a chain")
	}
}
