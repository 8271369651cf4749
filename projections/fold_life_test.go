// Tests of the fold: a job's status along its way, and its approval.

package projections

import (
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// TestStatusAlongTheWay tells every change of a job's status; a star marks a job that is asked to end.
func TestStatusAlongTheWay(t *testing.T) {
	t.Parallel()
	notBefore := func(ms int64) *story {
		return jobStory("j").submittedWith(func(r *events.Request) { r.NotBeforeMS = ms })
	}
	gated := func() *story { return jobStory("j").submitted().plannedAs(gatedGraph()) }
	ran := func() *story { return gated().scheduled("script", 1).started("script", 1).succeeded("script", 1) }
	planned := start.Add(2 * (time.Second + 321*time.Nanosecond)) // the second fact
	cases := []struct {
		name  string
		story *story
		want  string
	}{
		{"a whole job", whole("j"), "queued running succeeded"},
		{"an eventful one", eventful("j"), "queued scheduled waiting_approval running succeeded"},
		{"scheduled for later", notBefore(planned.UnixMilli() + 1).planned(), "queued scheduled"},
		{"scheduled for now", notBefore(planned.UnixMilli()).planned(), "queued"},
		{"a schedule comes due", notBefore(planned.UnixMilli()+1).planned().scheduled("script", 1).started("script", 1), "queued scheduled queued running"},
		{"the accept is seen first", notBefore(planned.UnixMilli()+1).planned().started("script", 1), "queued scheduled running"},
		{"cancelled before it is due", notBefore(planned.UnixMilli() + 1).planned().cancelRequested().jobCancelled(), "queued scheduled scheduled* cancelled"},
		{"cancelled while it ran", stopped("j"), "queued running running* cancelled"},
		{"it waits for approval", ran().approvalRequested(), "queued running waiting_approval"},
		{"something runs beside the gate", ran().approvalRequested().scheduled("tts", 1).started("tts", 1), "queued running waiting_approval"},
		{"a script that was reused is approved", gated().reused("script", 0).approvalRequested().approvalGranted(nil).scheduled("tts", 1), "queued waiting_approval running"},
		{"approved", ran().approvalRequested().approvalGranted(nil), "queued running waiting_approval running"},
		{"denied", ran().approvalRequested().approvalDenied().rejected(), "queued running waiting_approval rejected"},
		{"nobody approved in time", ran().approvalRequested().approvalExpired().jobFailed(gate), "queued running waiting_approval failed"},
		{"cancelled while it waited", ran().approvalRequested().cancelRequested().jobCancelled(), "queued running waiting_approval waiting_approval* cancelled"},
		{"a carried-forward state says nothing new", jobStory("j").submitted().planned().carriedForward(), "queued"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, told := newFold(), []string{""}
			for _, x := range facts(c.story) {
				f.apply(&x)
				now := f.jobs["j"].row.Status
				if f.jobs["j"].row.Cancelling {
					now += "*"
				}
				if now != told[len(told)-1] {
					told = append(told, now)
				}
			}
			equal(t, strings.Join(told[1:], " "), c.want)
		})
	}
}

func TestWhatTheRequestSaysOfAJob(t *testing.T) {
	t.Parallel()
	j, _ := jobAfter(t, eventful("j"))
	if j.Priority != events.PriorityBatch || j.ParentJobID != "parent" || !j.NotBefore.Equal(start.Add(time.Minute).Truncate(time.Millisecond)) {
		t.Errorf("priority %s, parent %s, not before %s", j.Priority, j.ParentJobID, j.NotBefore)
	}
	if j, _ = jobAfter(t, whole("j")); j.Priority != events.PriorityInteractive || j.ParentJobID != "" || !j.NotBefore.IsZero() {
		t.Errorf("by default: priority %s, parent %q, not before %s", j.Priority, j.ParentJobID, j.NotBefore)
	}
}

func TestApproval(t *testing.T) {
	t.Parallel()
	asked := func() *story { return jobStory("j").submitted().plannedAs(gatedGraph()).approvalRequested() }
	edit := &events.Value{Text: ptr(sealed("edited")), Digest: "d"}
	approval := func(change func(*Approval)) *Approval {
		a := &Approval{Stage: gate, RequestedAt: at(3), ExpiresAt: start.Add(time.Hour).Truncate(time.Millisecond), Script: ptr(sealed("script"))}
		change(a)
		return a
	}
	decided := func(outcome string) func(*Approval) {
		return func(a *Approval) { a.Outcome, a.DecidedAt, a.Actor = outcome, at(4), "tester" }
	}
	cases := []struct {
		name   string
		story  *story
		want   *Approval
		status string // of the gate
		why    *Failure
	}{
		{"not yet asked", jobStory("j").submitted().plannedAs(gatedGraph()), nil, StagePending, nil},
		{"asked", asked(), approval(func(*Approval) {}), StageWaitingApproval, nil},
		{"granted", asked().approvalGranted(nil), approval(decided(ApprovalGranted)), StageSucceeded, nil},
		{"granted with an edit", asked().approvalGranted(edit), approval(func(a *Approval) { decided(ApprovalGranted)(a); a.Edit = edit }), StageSucceeded, nil},
		{
			"denied", asked().approvalDenied(),
			approval(func(a *Approval) { decided(ApprovalDenied)(a); a.Reason = ptr(sealed("not my words")) }),
			StageFailed, &Failure{Class: events.ClassPolicy, Message: "the script was not approved"},
		},
		{
			"expired", asked().approvalExpired(), approval(decided(ApprovalExpired)),
			StageFailed, &Failure{Class: events.ClassTimeout, Message: "nobody approved the script in time"},
		},
		{"cancelled meanwhile", asked().cancelRequested().jobCancelled(), approval(func(*Approval) {}), StageCancelled, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			j, stages := jobAfter(t, c.story)
			equal(t, j.Approval, c.want)
			equal(t, stages[gate].Status, c.status)
			equal(t, stages[gate].Error, c.why)
		})
	}
}

func TestProgressCountsReusedStages(t *testing.T) {
	t.Parallel()
	j, _ := jobAfter(t, jobStory("j").submitted().planned().reused("script", 0).skipped("profile").reused("tts", 0))
	equal(t, j.Progress, 0.5)
}

// TestAReusedFileBelongsToEachJobThatUsesIt: it keeps its id, so the job is part of its key.
func TestAReusedFileBelongsToEachJobThatUsesIt(t *testing.T) {
	t.Parallel()
	f := foldAll(facts(eventful("j1"), eventful("j2")))
	id := events.ArtifactID("parent", "tts", 1, "a.wav")
	for _, job := range []string{"j1", "j2"} {
		if a := f.artifacts[[2]string{job, id}]; a == nil || a.JobID != job || a.Stage != "tts" {
			t.Errorf("%s has %s", job, asJSON(a))
		}
	}
}
