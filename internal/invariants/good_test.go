// The good history that every broken one is made from: one job that fails once and
// succeeds, one with an approval, one that is cancelled, one that is rejected, one
// that reuses, and commands that are refused.

package invariants_test

import (
	"time"

	"github.com/myspinbot/myspinbot/events"
)

const (
	one, asks, stops, bad, again = "job-one", "job-asks", "job-stops", "job-bad", "job-again"

	second = time.Second
)

var (
	script = events.Node{ID: "script", Task: "noop.script", Lane: events.LaneScript}
	gate   = events.Node{ID: "gate", Task: "script.approval"}
	tts    = events.Node{ID: "tts", Task: "noop.tts", Lane: events.LaneTTS}
	closes = events.Node{ID: "register", Task: "artifacts.register_outputs"}

	plain = events.Graph{Nodes: []events.Node{script, tts, closes}, Edges: []events.Edge{{From: "script", To: "tts"}, {From: "tts", To: "register"}}}
	gated = events.Graph{Nodes: []events.Node{script, gate, tts, closes},
		Edges: []events.Edge{{From: "script", To: "gate"}, {From: "gate", To: "tts"}, {From: "tts", To: "register"}}}

	video = events.Artifact{ID: "a", URI: "s3://b/video", SHA256: "11", Size: 7}

	accepted  = &events.CommandReplied{Outcome: events.OutcomeAccepted}
	refused   = &events.CommandReplied{Outcome: events.OutcomeRefused, Code: "no"}
	duplicate = &events.CommandReplied{Outcome: events.OutcomeDuplicate}
)

func stage(n events.Node, attempt int) events.Columns {
	return events.Columns{Stage: n.ID, Task: n.Task, Lane: n.Lane, Attempt: attempt}
}

func answer(n events.Node, attempt int) events.Columns {
	c := stage(n, attempt)
	c.Worker = "w"
	return c
}

func scheduled(n events.Node, attempt int) fact {
	return fact{events.StageScheduled{}, stage(n, attempt)}
}

func started(n events.Node, attempt int) fact {
	return fact{events.StageStarted{LeaseMS: 15_000}, stage(n, attempt)}
}

func succeeded(n events.Node, attempt int) fact {
	return fact{events.StageSucceeded{Result: events.Result{Outputs: map[string]events.Value{"video": {Artifacts: []events.Artifact{video}}}}}, stage(n, attempt)}
}

func failed(n events.Node, attempt int, retryAt time.Duration) fact {
	f := events.StageFailed{}
	if retryAt > 0 {
		f.RetryAtMS = start.Add(retryAt).UnixMilli()
	}
	return fact{f, stage(n, attempt)}
}

func expired(n events.Node, attempt int, retryAt time.Duration) fact {
	return fact{events.StageAttemptExpired{RetryAtMS: start.Add(retryAt).UnixMilli()}, stage(n, attempt)}
}

func job(p events.Payload) fact { return fact{data: p} }

func submits(key, body string) events.JobSubmit {
	return events.JobSubmit{Request: events.Request{KeyDigest: key, BodyDigest: body}}
}

func submitted(key string, g events.Graph) []fact {
	return []fact{job(events.JobSubmitted{Request: submits(key, "body").Request}), job(events.JobPlanned{Graph: g, DeadlineMS: start.Add(time.Hour).UnixMilli()})}
}

// good are the steps of the history in which nothing is wrong.
func good() []step {
	run := func(name, id string, n events.Node, attempt int, at time.Duration) step {
		return step{name: name, job: id, at: at, in: events.TaskAccepted{}, cols: answer(n, attempt), facts: []fact{started(n, attempt)}}
	}
	done := func(name, id string, n events.Node, attempt int, at time.Duration, more ...fact) step {
		return step{name: name, job: id, at: at, in: events.TaskSucceeded{}, cols: answer(n, attempt), facts: append([]fact{succeeded(n, attempt)}, more...)}
	}
	return []step{
		{name: "submit", job: one, at: second, in: submits("k1", "body"), facts: append(submitted("k1", plain), scheduled(script, 1)), reply: accepted},
		{name: "submit again", job: one, at: second, in: submits("k1", "body"), reply: duplicate},
		{name: "submit other", job: one, at: second, in: submits("k1", "other"), reply: refused},
		run("accept script", one, script, 1, 2*second),
		done("script done", one, script, 1, 3*second, scheduled(tts, 1)),
		run("accept tts", one, tts, 1, 4*second),
		{name: "tts fails", job: one, at: 5 * second, in: events.TaskFailed{}, cols: answer(tts, 1), facts: []fact{failed(tts, 1, 8*second)}},
		{name: "tts again", job: one, at: 8 * second, in: events.ClockRetryDue{}, cols: stage(tts, 1), facts: []fact{scheduled(tts, 2)}},
		run("accept tts again", one, tts, 2, 9*second),
		done("tts done", one, tts, 2, 10*second, fact{events.ArtifactRegistered{Artifact: video}, stage(tts, 2)}, fact{events.StageSucceeded{}, stage(closes, 0)},
			job(events.JobSucceeded{Outputs: map[string]events.Value{"video": {Artifacts: []events.Artifact{video}}}})),

		{name: "submit asks", job: asks, at: 20 * second, in: submits("k2", "body"), facts: append(submitted("k2", gated), scheduled(script, 1)), reply: accepted},
		run("accept asks", asks, script, 1, 21*second),
		done("asks", asks, script, 1, 22*second, fact{events.ApprovalRequested{}, stage(gate, 0)}),
		{name: "approve", job: asks, at: 23 * second, in: events.JobApprove{}, facts: []fact{{events.ApprovalGranted{}, stage(gate, 0)}, scheduled(tts, 1)}, reply: accepted},
		run("accept approved", asks, tts, 1, 24*second),
		{name: "lease ends", job: asks, at: 40 * second, in: events.ClockLeaseExpired{}, cols: stage(tts, 1), facts: []fact{expired(tts, 1, 45*second)}},
		done("late", asks, tts, 1, 41*second, fact{events.StageSucceeded{}, stage(closes, 0)}, job(events.JobSucceeded{})),

		{name: "submit stops", job: stops, at: 50 * second, in: submits("k3", "body"), facts: append(submitted("k3", plain), scheduled(script, 1)), reply: accepted},
		run("accept stops", stops, script, 1, 51*second),
		{name: "cancel", job: stops, at: 52 * second, in: events.JobCancel{}, facts: []fact{job(events.JobCancelRequested{})}, reply: accepted},
		{name: "stopped", job: stops, at: 53 * second, in: events.TaskCancelled{}, cols: answer(script, 1), facts: []fact{{events.StageCancelled{}, stage(script, 1)}, job(events.JobCancelled{})}},
		{name: "cancel again", job: stops, at: 54 * second, in: events.JobCancel{}, reply: refused},

		{name: "submit bad", job: bad, at: 60 * second, in: submits("k4", "body"), facts: []fact{job(events.JobSubmitted{Request: submits("k4", "body").Request}), job(events.JobRejected{})}, reply: accepted},

		{name: "submit reuse", job: again, at: 70 * second, in: submits("k5", "body"), facts: append(submitted("k5", plain),
			fact{events.StageReused{}, stage(script, 0)}, scheduled(tts, 1)), reply: accepted},
		run("accept reuse", again, tts, 1, 71*second),
		{name: "fails for good", job: again, at: 72 * second, in: events.TaskFailed{}, cols: answer(tts, 1), facts: []fact{failed(tts, 1, 0), job(events.JobFailed{})}},
	}
}
