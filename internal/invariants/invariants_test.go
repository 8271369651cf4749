// Every checker can fail: a table of histories, each broken in one way.

package invariants_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/invariants"
)

func TestGoodHistoryHasNoViolations(t *testing.T) {
	t.Parallel()
	h := build(t, good())
	h.Object = func(string) (invariants.Object, bool) { return invariants.Object{Size: 7, SHA256: "11"}, true }
	h.Tables = &invariants.Tables{Fold: ids}
	h.Tables.Dump, _ = ids(h.Records[events.TopicJobEvents])
	for _, v := range invariants.Check(h) {
		t.Error(v)
	}
	if invariants.Check(invariants.History{}) != nil {
		t.Error("an empty history is not empty of violations")
	}
}

// ids is a fold into rows for tests: the ids of the events, each once, in the
// order of their keys.
func ids(records []eventlog.Record) (string, error) {
	var out []string
	for _, r := range records {
		m, err := events.Decode(r.Value)
		if err != nil {
			return "", err
		}
		out = append(out, m.ID)
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), "\n"), nil
}

// broken is a history in which one thing is wrong: in its steps, or in the records
// and calls that were made of them.
type broken struct {
	name    string
	want    string // the promise that it breaks
	steps   func([]step) []step
	history func(*invariants.History)
}

func TestEveryCheckerCanFail(t *testing.T) {
	t.Parallel()
	all := slices.Concat(brokenOrder(), brokenAttempts(), brokenEnds(), brokenLog(), brokenCalls(), brokenContent(), brokenTenants())
	if len(all) < 60 {
		t.Errorf("only %d broken histories", len(all))
	}
	for _, b := range all {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			steps := good()
			if b.steps != nil {
				steps = b.steps(steps)
			}
			h := build(t, steps)
			if b.history != nil {
				b.history(&h)
			}
			if len(named(b.want, h)) == 0 {
				t.Errorf("%s does not see it; all that was found: %v", b.want, invariants.Check(h))
			}
		})
	}
}

// named runs one checker by its name.
func named(name string, h invariants.History) []invariants.Violation {
	return map[string]func(invariants.History) []invariants.Violation{
		"L1": invariants.L1, "L2": invariants.L2, "L3": invariants.L3, "L4": invariants.L4, "L5": invariants.L5, "L6": invariants.L6, "L7": invariants.L7,
		"L8": invariants.L8, "L9": invariants.L9, "L10": invariants.L10, "T1": invariants.T1, "P1": invariants.P1, "P3": invariants.P3, "A1": invariants.A1, "W2": invariants.W2,
	}[name](h)
}

// facts replaces what a step led to.
func facts(name string, fs ...fact) func([]step) []step {
	return change(name, func(s *step) { s.facts = fs })
}

// more adds facts at a step's end.
func more(name string, fs ...fact) func([]step) []step {
	return change(name, func(s *step) { s.facts = append(s.facts, fs...) })
}

func brokenTenants() []broken {
	const facts, replies, lane = events.TopicJobEvents, events.TopicJobReplies, "gpu.script.commands"
	foreign := func(_ *eventlog.Record, m *events.Message) { m.Tenant = "other" }
	return []broken{
		{name: "a fact of another tenant", want: "W2", history: edit(facts, "stage.started", 0, foreign)},
		{name: "a lane's command of another tenant", want: "W2", history: edit(lane, "task.run", 0, foreign)},
		{name: "another tenant cancels", want: "W2", history: edit(events.TopicJobCommands, "job.cancel", 0, foreign)},
		{name: "another tenant is told how a job stands", want: "W2", history: edit(replies, "command.replied", 2, func(r *eventlog.Record, m *events.Message) {
			foreign(r, m)
			d := m.Data.(events.CommandReplied)
			d.Version, d.Status = 3, "running"
			m.Data = d
		})},
		{name: "another tenant is told that a job is there", want: "W2", history: edit(replies, "command.replied", 1, foreign)},
		{name: "another tenant's file", want: "W2", history: edit(facts, "artifact.registered", 0, func(_ *eventlog.Record, m *events.Message) {
			d := m.Data.(events.ArtifactRegistered)
			d.Artifact.URI = "s3://b/other/-/job/1.mp4"
			m.Data = d
		})},
		{name: "another tenant's text", want: "W2", history: edit(facts, "job.submitted", 0, func(_ *eventlog.Record, m *events.Message) {
			d := m.Data.(events.JobSubmitted)
			d.Request.ProfileName = &events.Sealed{Bytes: []byte("x"), Key: "keys/other/-/job"}
			m.Data = d
		})},
	}
}

func brokenOrder() []broken {
	return []broken{
		{name: "submitted twice", want: "L3", steps: then("submit", step{facts: []fact{job(events.JobSubmitted{})}})},
		{name: "not submitted", want: "L3", steps: change("submit", func(s *step) { s.facts = s.facts[1:] })},
		{name: "planned late", want: "L3", steps: change("submit", func(s *step) { s.facts = []fact{s.facts[0], s.facts[0], s.facts[1]} })},
		{name: "planned twice", want: "L3", steps: change("submit", func(s *step) { s.facts = []fact{s.facts[0], s.facts[1], s.facts[1]} })},
		{name: "scheduled before the plan", want: "L3", steps: change("submit", func(s *step) { s.facts[1], s.facts[2] = s.facts[2], s.facts[1] })},
		{name: "a stage that the plan lacks", want: "L3", steps: more("script done", fact{events.StageSkipped{}, events.Columns{Stage: "x"}})},
		{name: "another task than the plan's", want: "L3", steps: change("accept script", func(s *step) { s.facts[0].cols.Task = "noop.tts" })},
		{name: "scheduled before what it waits for", want: "L3", steps: more("submit", scheduled(tts, 1))},
		{name: "skipped before what it waits for", want: "L3", steps: more("submit", fact{events.StageSkipped{}, stage(tts, 0)})},
		{name: "reused before what it waits for", want: "L3", steps: more("submit", fact{events.StageReused{}, stage(tts, 0)})},
		{name: "skipped while it runs", want: "L3", steps: more("accept script", fact{events.StageSkipped{}, stage(script, 0)})},
		{name: "decided here before its time", want: "L3", steps: more("accept tts", fact{events.StageSucceeded{}, stage(closes, 0)})},
		{name: "scheduled on no lane", want: "L3", steps: more("asks", scheduled(closes, 1))},
		{name: "succeeded without having started", want: "L3", steps: without("accept script")},
		{name: "started twice", want: "L3", steps: more("accept script", started(script, 1))},
		{name: "expired before it started", want: "L3", steps: more("submit", expired(script, 1, 9*second))},
		{name: "an artifact of nothing", want: "L3", steps: more("accept script", fact{events.ArtifactRegistered{Artifact: video}, stage(script, 1)})},
		{name: "work while approval is waited for", want: "L3", steps: more("asks", scheduled(tts, 1))},
		{name: "approval of what did not ask", want: "L3", steps: more("script done", fact{events.ApprovalGranted{}, stage(gate, 0)})},
		{name: "approval nobody asked for", want: "L3", steps: facts("asks", succeeded(script, 1))},
		{name: "work after a denial", want: "L3", steps: facts("approve", fact{events.ApprovalDenied{}, stage(gate, 0)}, scheduled(tts, 1))},
		{name: "before its not-before", want: "L7", steps: change("submit", func(s *step) {
			d := submits("k1", "body").Request
			d.NotBeforeMS = start.Add(second * 2).UnixMilli()
			s.facts[0].data = events.JobSubmitted{Request: d}
		})},
	}
}

func brokenAttempts() []broken {
	return []broken{
		{name: "a stale result counts", want: "L6", steps: facts("tts done", succeeded(tts, 1))},
		{name: "a stale failure counts", want: "L6", steps: facts("tts done", failed(tts, 1, 20*second))},
		{name: "a stale attempt starts", want: "L6", steps: more("tts again", started(tts, 1))},
		{name: "a stale attempt expires", want: "L6", steps: more("accept tts again", expired(tts, 1, 20*second))},
		{name: "an attempt fails twice", want: "L4", steps: more("tts fails", failed(tts, 1, 8*second))},
		{name: "an attempt fails and succeeds", want: "L4", steps: more("tts fails", succeeded(tts, 1))},
		{name: "an attempt succeeds twice", want: "L4", steps: more("script done", succeeded(script, 1))},
		{name: "a stage of the handler's own ends twice", want: "L4", steps: change("late", func(s *step) { s.facts = slices.Insert(s.facts, 1, s.facts[1]) })},
		{name: "an attempt is left out", want: "L7", steps: facts("tts again", scheduled(tts, 3))},
		{name: "an attempt too many", want: "L7", steps: facts("tts done", failed(tts, 2, 20*second), scheduled(tts, 3))},
		{name: "scheduled in the back-off", want: "L7", steps: change("tts again", func(s *step) { s.at = 7 * second })},
		{name: "no back-off", want: "L7", steps: facts("tts fails", failed(tts, 1, 5*second+1))},
		{name: "a short back-off", want: "L7", steps: facts("tts fails", failed(tts, 1, 6*second))},
		{name: "scheduled while it runs", want: "L3", steps: more("accept tts", scheduled(tts, 2))},
		{name: "failed before any deadline", want: "L7", steps: more("accept script", job(events.JobFailed{}))},
	}
}

func brokenEnds() []broken {
	return []broken{
		{name: "two ends", want: "L3", steps: more("fails for good", job(events.JobFailed{}))},
		{name: "work after the end", want: "L3", steps: more("fails for good", scheduled(script, 2))},
		{name: "succeeded with a stage open", want: "L3", steps: more("script done", job(events.JobSucceeded{}))},
		{name: "a final failure that ends nothing", want: "L3", steps: facts("fails for good", failed(tts, 1, 0))},
		{name: "a final failure, and on it goes", want: "L3", steps: facts("fails for good", failed(tts, 1, 0), scheduled(tts, 2))},
		{name: "rejected without a verdict", want: "L3", steps: facts("fails for good", failed(tts, 1, 90*second), job(events.JobRejected{}))},
		{name: "a verdict that is not heeded", want: "L3", steps: facts("script done",
			fact{events.StageSucceeded{Result: events.Result{Verdict: &events.Verdict{}}}, stage(script, 1)}, scheduled(tts, 1))},
		{name: "cancelled by nobody", want: "L5", steps: facts("fails for good", failed(tts, 1, 90*second), job(events.JobCancelled{}))},
		{name: "a stage cancelled by nobody", want: "L5", steps: facts("fails for good", fact{events.StageCancelled{}, stage(tts, 1)})},
		{name: "cancelled while it runs", want: "L5", steps: more("cancel", job(events.JobCancelled{}))},
		{name: "cancellation requested twice", want: "L5", steps: more("cancel", job(events.JobCancelRequested{}))},
		{name: "succeeded after the cancellation", want: "L5", steps: facts("stopped", succeeded(script, 1), job(events.JobSucceeded{}))},
		{name: "scheduled after the cancellation", want: "L5", steps: facts("stopped", succeeded(script, 1), scheduled(tts, 1))},
		{name: "started after the cancellation", want: "L5", steps: func(steps []step) []step {
			return without("accept stops")(then("cancel", step{name: "late accept", in: events.TaskAccepted{}, cols: answer(script, 1), facts: []fact{started(script, 1)}})(steps))
		}},
		{name: "scheduled after cancelled", want: "L5", steps: more("stopped", scheduled(tts, 1))},
		{name: "never ended", want: "L8", steps: without("fails for good")},
		{name: "never answered", want: "L8", steps: change("submit other", func(s *step) { s.reply = nil })},
	}
}
