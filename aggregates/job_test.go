// Decisions of a job as given facts / when command / then facts.

package aggregates_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// script is a scenario: it keeps the state and the facts so far, and answers
// with the facts that a message leads to, as "type stage#attempt".
type script struct {
	t       *testing.T
	job     aggregates.Job
	at      time.Time
	n       int
	facts   []events.Message
	last    events.Message // input
	refusal string         // the code of the last message's
	env     aggregates.Surroundings
}

func newScript(t *testing.T) *script {
	t.Helper()
	return &script{t: t, at: start, env: aggregates.Surroundings{
		Policy: aggregates.DefaultPolicy(), Engines: everyTask(), Profile: snapshot, Place: func(string, string, string, bool, func(int32) aggregates.Suit) int32 { return 1 },
	}}
}

func (s *script) when(p events.Payload, c events.Columns) []string {
	s.t.Helper()
	s.n++
	s.at = s.at.Add(time.Second)
	m := events.Message{ID: fmt.Sprintf("m%d", s.n), AggregateType: events.AggregateJob, AggregateID: "job-1", OccurredAt: s.at,
		CommandID: fmt.Sprintf("m%d", s.n), CorrelationID: "story", Tenant: "default", Actor: "test", Columns: c, Data: p}
	return s.again(m)
}

// again is an input that may have come before.
func (s *script) again(m events.Message) []string {
	s.t.Helper()
	s.last, s.env.At = m, s.at
	facts, refusal := aggregates.Decide(s.job, m, s.env)
	s.refusal = ""
	if refusal != nil {
		s.refusal = refusal.Code
	}
	out := []string{}
	for _, f := range facts {
		next, err := s.job.Apply(f)
		if err != nil {
			s.t.Fatalf("a decided fact does not fold: %v", err)
		}
		s.job = next
		name := f.Type()
		if f.Stage != "" {
			name += " " + f.Stage
		}
		if f.Attempt > 0 {
			name += fmt.Sprintf("#%d", f.Attempt)
		}
		out = append(out, name)
	}
	s.facts = append(s.facts, facts...)
	return out
}

func (s *script) submit(r events.Request) []string {
	return s.when(events.JobSubmit{Request: r}, events.Columns{})
}

func (s *script) accept(stage string, attempt int) []string {
	return s.when(events.TaskAccepted{LeaseMS: 15_000}, events.Columns{Stage: stage, Attempt: attempt, Worker: "w"})
}

func (s *script) succeed(stage string, attempt int, outputs ...string) []string {
	r := events.Result{Engine: "e", Fidelity: events.FidelityPreview, Outputs: map[string]events.Value{}}
	for _, o := range outputs {
		r.Outputs[o] = events.Value{Artifacts: []events.Artifact{{ID: o, URI: "s3://b/" + o, SHA256: "d" + o}}}
	}
	return s.when(events.TaskSucceeded{Result: r}, events.Columns{Stage: stage, Attempt: attempt, Worker: "w"})
}

func (s *script) fail(stage string, attempt int, class string) []string {
	return s.when(events.TaskFailed{Message: "it broke", Hint: "mend it"}, events.Columns{Stage: stage, Attempt: attempt, ErrorClass: class})
}

func (s *script) want(got []string, want ...string) {
	s.t.Helper()
	if !slices.Equal(got, want) {
		s.t.Fatalf("got  %s\nwant %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}

func talker() events.Request {
	r := trainRequest()
	r.Variant = aggregates.VariantSadTalker
	return r
}

func TestJobFromSubmitToSuccess(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.want(s.submit(talker()), "job.submitted", "job.planned", "stage.scheduled script#1")
	s.want(s.accept("script", 1), "stage.started script#1")
	s.want(s.succeed("script", 1, "narration", "scene"), "stage.succeeded script#1", "artifact.registered script#1", "artifact.registered script#1", "stage.scheduled safety#1")
	s.accept("safety", 1)
	s.want(s.succeed("safety", 1, "narration", "scene"), "stage.succeeded safety#1", "artifact.registered safety#1", "artifact.registered safety#1",
		"stage.succeeded profile", "stage.skipped train_voice", "stage.scheduled tts#1")
	s.accept("tts", 1)
	s.want(s.succeed("tts", 1, "speech", "timing"), "stage.succeeded tts#1", "artifact.registered tts#1", "artifact.registered tts#1", "stage.scheduled lipsync#1")
	s.accept("lipsync", 1)
	s.want(s.succeed("lipsync", 1, "talking"), "stage.succeeded lipsync#1", "artifact.registered lipsync#1", "stage.skipped upscale", "stage.scheduled assemble#1")
	i, _ := s.job.Node("assemble")
	if in := s.job.Inputs(s.job.Graph.Nodes[i]); in["video"].Artifacts[0].ID != "talking" {
		t.Errorf("a skipped upscale must pass its input on, assemble reads %v", in["video"])
	}
	s.accept("assemble", 1)
	s.want(s.succeed("assemble", 1, "video"), "stage.succeeded assemble#1", "artifact.registered assemble#1", "stage.scheduled check#1")
	s.accept("check", 1)
	s.want(s.succeed("check", 1), "stage.succeeded check#1", "stage.succeeded register", "job.succeeded")
	if s.job.State != aggregates.JobSucceeded || !s.job.Terminal() || s.job.Deadlines() != nil {
		t.Errorf("the job ends as %s with deadlines %v", s.job.State, s.job.Deadlines())
	}
	last := s.facts[len(s.facts)-1].Data.(events.JobSucceeded)
	if last.Outputs["video"].Artifacts[0].ID != "video" {
		t.Errorf("the job's outputs are %v", last.Outputs)
	}
}

func TestIndependentStagesRunSideBySide(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(trainRequest())
	s.succeed("script", 1, "narration", "scene")
	got := s.succeed("safety", 1, "narration", "scene")
	if !slices.Contains(got, "stage.scheduled render#1") || !slices.Contains(got, "stage.scheduled tts#1") {
		t.Fatalf("render and tts must start together: %v", got)
	}
	if got := s.succeed("tts", 1, "speech", "timing"); slices.Contains(got, "stage.scheduled lipsync#1") {
		t.Fatal("lipsync must wait for the clip")
	}
	if got := s.succeed("render", 1, "clip", "scene_image"); !slices.Contains(got, "stage.scheduled lipsync#1") {
		t.Fatalf("lipsync must start when both are there: %v", got)
	}
}

func TestSubmitTwiceIsOneJob(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.want(s.submit(talker()))
}

func TestSubmitThatCannotBePlannedIsRejected(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.want(s.submit(events.Request{Variant: "x"}), "job.submitted", "job.rejected")
	s.want(s.submit(talker()))
	if s.job.State != aggregates.JobRejected {
		t.Errorf("state is %s", s.job.State)
	}
}

func TestNewsOfThePastChangesNothing(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.want(s.accept("script", 1)) // of a job that was never submitted
	s.submit(talker())
	s.want(s.accept("script", 2))
	s.want(s.succeed("tts", 1))
	s.want(s.succeed("nowhere", 1))
	s.accept("script", 1)
	s.want(s.accept("script", 1)) // delivered twice
	s.succeed("script", 1, "narration", "scene")
	s.want(s.succeed("script", 1, "narration", "scene"))
	s.want(s.fail("script", 1, events.ClassOOM))
}

func TestResultBeforeAcceptIsTaken(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.want(s.succeed("script", 1), "stage.succeeded script#1", "stage.scheduled safety#1")
	s.want(s.accept("script", 1))
}

func TestFailureIsRetriedByClass(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.accept("script", 1)
	s.want(s.fail("script", 1, events.ClassEngineUnavailable), "stage.failed script#1")
	f := s.facts[len(s.facts)-1].Data.(events.StageFailed)
	if wait := f.RetryAtMS - s.at.UnixMilli(); wait < 2000 || wait > 2500 {
		t.Errorf("the first back-off is %d ms, want 2000 and up to a quarter more", wait)
	}
	s.want(s.when(events.ClockRetryDue{DeadlineMS: f.RetryAtMS + 1}, events.Columns{Stage: "script", Attempt: 1})) // another deadline
	s.want(s.when(events.ClockRetryDue{DeadlineMS: f.RetryAtMS}, events.Columns{Stage: "script", Attempt: 1}), "stage.scheduled script#2")
	s.want(s.when(events.ClockRetryDue{DeadlineMS: f.RetryAtMS}, events.Columns{Stage: "script", Attempt: 1})) // once
	s.want(s.succeed("script", 1))                                                                             // an old attempt
	s.want(s.fail("script", 2, events.ClassInvalidInput), "stage.failed script#2", "job.failed script")
	end := s.facts[len(s.facts)-1]
	if d := end.Data.(events.JobFailed); d.Message != "it broke" || d.Hint != "mend it" || end.ErrorClass != events.ClassInvalidInput || s.job.State != aggregates.JobFailed {
		t.Errorf("the job fails as %+v", end)
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	for attempt := 1; attempt < s.env.Policy.MaxAttempts; attempt++ {
		s.want(s.fail("script", attempt, events.ClassInternal), fmt.Sprintf("stage.failed script#%d", attempt))
		f := s.facts[len(s.facts)-1].Data.(events.StageFailed)
		s.when(events.ClockRetryDue{DeadlineMS: f.RetryAtMS}, events.Columns{Stage: "script", Attempt: attempt})
	}
	s.want(s.fail("script", 3, events.ClassInternal), "stage.failed script#3", "job.failed script")
}

func TestStageTimeout(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.accept("script", 1)
	ds := s.job.Deadlines()
	if len(ds) != 2 || ds[1].Stage != "script" {
		t.Fatalf("deadlines are %+v", ds)
	}
	s.want(s.when(events.ClockStageTimeout{DeadlineMS: 1}, events.Columns{Stage: "script", Attempt: 1}))
	s.want(s.when(ds[1].Command, events.Columns{Stage: "script", Attempt: 1}), "stage.failed script#1")
	s.want(s.when(ds[1].Command, events.Columns{Stage: "script", Attempt: 1}))
}

func TestJobDeadline(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.want(s.when(events.ClockDeadline{DeadlineMS: 1}, events.Columns{}))
	s.want(s.when(events.ClockDeadline{DeadlineMS: s.job.DeadlineMS}, events.Columns{}), "job.failed")
	s.want(s.accept("script", 1))
}

func TestSafetyFilterRejects(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.succeed("script", 1)
	no := events.TaskSucceeded{Result: events.Result{Verdict: &events.Verdict{Reasons: []events.Reason{{Code: "hate", Detail: "the script attacks people"}}}}}
	s.want(s.when(no, events.Columns{Stage: "safety", Attempt: 1}), "stage.succeeded safety#1", "job.rejected safety")
}

func TestCheckFailsTheJob(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	for _, stage := range []string{"script", "safety", "tts", "lipsync", "assemble"} {
		s.succeed(stage, 1)
	}
	no := events.TaskSucceeded{Result: events.Result{Verdict: &events.Verdict{Reasons: []events.Reason{{Code: "silent", Detail: "nothing can be heard"}}}}}
	s.want(s.when(no, events.Columns{Stage: "check", Attempt: 1}), "stage.failed check#1", "job.failed check")
	if d := s.facts[len(s.facts)-1].Data.(events.JobFailed); !strings.Contains(d.Message, "nothing can be heard") {
		t.Errorf("the reason is lost: %q", d.Message)
	}
}

func TestProfileIsLoaded(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(profileRequest())
	s.succeed("script", 1)
	s.succeed("safety", 1)
	for node, input := range map[string]string{"render": "portrait", "tts": "voice_reference"} {
		i, _ := s.job.Node(node)
		if !s.job.Inputs(s.job.Graph.Nodes[i])[input].Present() {
			t.Errorf("%s lacks the profile's %s", node, input)
		}
	}
}

// A voice that imitates a reference has to know what is said in it.
func TestTheTranscriptReachesTheVoice(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	r := trainRequest()
	r.Inputs["voice"], r.Inputs["voice_transcript"] = portrait, text
	s.submit(r)
	i, _ := s.job.Node("tts")
	if !s.job.Inputs(s.job.Graph.Nodes[i])["voice_transcript"].Present() {
		t.Error("tts lacks the transcript of the voice sample")
	}
}

// Decide and Evolve are functions: the same input gives the same bytes, and
// nothing that was handed in is changed.
func TestDecideIsPure(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(trainRequest())
	before, copied := s.job, deepCopy(t, s.facts)
	m := events.Message{ID: "x", AggregateID: "job-1", Columns: events.Columns{Stage: "script", Attempt: 1}, Data: events.TaskSucceeded{}}
	first, _ := aggregates.Decide(before, m, s.env)
	second, _ := aggregates.Decide(before, m, s.env)
	if !reflect.DeepEqual(first, second) {
		t.Error("two decisions of one input differ")
	}
	refolded := aggregates.Job{}
	for _, f := range copied {
		refolded = aggregates.Evolve(refolded, f)
	}
	if !reflect.DeepEqual(refolded.Stages, before.Stages) || !reflect.DeepEqual(refolded.Values, before.Values) {
		t.Error("deciding changed the state it was given")
	}
}

// deepCopy sends facts over the wire and back, as recovery does.
func deepCopy(t *testing.T, facts []events.Message) []events.Message {
	t.Helper()
	out := make([]events.Message, len(facts))
	for i, f := range facts {
		value, err := events.Encode(f)
		if err != nil {
			t.Fatal(err)
		}
		if out[i], err = events.Decode(value); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// What has to be in memory is the task's engine, and of stages whose engines differ by
// the variant, the variant's.
func TestPlacementIsToldOfTheVariant(t *testing.T) {
	t.Parallel()
	asked := map[string]string{}
	s := newScript(t)
	s.env.Engines = aggregates.EnginesOf(realTasks()...)
	s.env.Place = func(lane, model, _ string, _ bool, _ func(int32) aggregates.Suit) int32 {
		asked[lane] = model
		return 0
	}
	s.submit(trainRequest())
	s.accept("script", 1)
	s.succeed("script", 1)
	for _, stage := range []string{"safety", "train_lora", "train_voice", "render"} {
		s.accept(stage, 1)
		s.succeed(stage, 1)
	}
	for lane, model := range asked {
		varies := lane == events.LaneRender || lane == events.LaneLipsync
		if named := strings.HasSuffix(model, " "+aggregates.VariantSVDWav2Lip); named != varies || model == "" {
			t.Errorf("lane %s was told of %q", lane, model)
		}
	}
	if asked[events.LaneScript] == "" || asked[events.LaneRender] == "" {
		t.Errorf("only these lanes were asked for: %v", asked)
	}
}
