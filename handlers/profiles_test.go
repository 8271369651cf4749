// Profiles: what clients are answered, and which jobs may use one.

package handlers

import (
	"slices"
	"strconv"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// TestProfileCommandsOfClientsAreAnswered erases a profile, and asks things of it before
// and afterwards, with a restart in between.
func TestProfileCommandsOfClientsAreAnswered(t *testing.T) {
	t.Parallel()
	m := newMemory()
	for i, c := range []struct {
		command             events.Payload
		fact, outcome, code string
		version             int64
		status              string
		restarts            bool
	}{
		{command: events.ProfileArchive{}, outcome: events.OutcomeRefused, code: "profile_unknown"},
		{command: events.ProfileCreate{Name: events.Sealed{Key: "k"}}, fact: "profile.created", outcome: events.OutcomeAccepted, version: 1, status: "active"},
		{command: events.ProfileArchive{}, fact: "profile.archived", outcome: events.OutcomeAccepted, version: 2, status: "archived", restarts: true},
		{command: events.ProfileArchive{}, outcome: events.OutcomeDuplicate, version: 2, status: "archived"},
		{command: events.ProfileErase{}, fact: "profile.erased", outcome: events.OutcomeAccepted, version: 3, status: "erasing", restarts: true},
		{command: events.ProfileRestore{}, outcome: events.OutcomeRefused, code: "profile_erased", version: 3, status: "erasing"},
		{command: events.ProfileCompleteErasure{}, fact: "profile.erasure_completed", outcome: events.OutcomeAccepted, version: 4, status: "erased"},
	} {
		out, err := m.transact(m.input(events.TopicProfileCommands, "prof", c.command, events.Columns{}))
		if err != nil {
			t.Fatal(err)
		}
		want := []string{"jobs.replies command.replied"}
		if c.fact != "" {
			want = []string{"profiles.events " + c.fact, want[0]}
		}
		if !slices.Equal(topicsOf(out), want) {
			t.Fatalf("step %d: %v, want %v", i, topicsOf(out), want)
		}
		reply, err := events.Decode(out[len(out)-1].Value)
		if err != nil {
			t.Fatal(err)
		}
		r := reply.Data.(events.CommandReplied)
		if r.Outcome != c.outcome || r.Code != c.code || r.Version != c.version || r.Status != c.status || reply.AggregateType != events.AggregateProfile || reply.JobID != "" {
			t.Errorf("step %d: %+v of %s", i, r, reply.AggregateType)
		}
		if c.restarts {
			m.restart()
		}
	}
}

// TestJobsOfABarredProfileAreRejected learns of a profile, and then that it is archived
// and erased: who asks for a job of it, or retries the job that made it, is told why not.
func TestJobsOfABarredProfileAreRejected(t *testing.T) {
	t.Parallel()
	m := newMemory()
	retry, generate := request(), request()
	generate.Mode, generate.Inputs = aggregates.ModeGenerateFromProfile, map[string]events.Value{"prompt": generate.Inputs["prompt"]}
	n := 0
	rejected := func(r events.Request) string {
		t.Helper()
		n++
		out, err := m.transact(m.input(events.TopicJobCommands, "job"+strconv.Itoa(n), events.JobSubmit{Request: r}, events.Columns{}))
		if err != nil {
			t.Fatal(err)
		}
		f, err := events.Decode(out[1].Value)
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := f.Data.(events.JobRejected); ok {
			return d.Reasons[0].Code
		}
		return f.Type()
	}
	for _, step := range []struct {
		command                events.Payload
		wantRetry, wantRequest string
	}{
		{events.ProfileCreate{}, "job.planned", "consent_missing"},
		{events.ProfileRecordConsent{}, "job.planned", "profile_incomplete"},
		{events.ProfileAttachPortrait{Attachment: events.Attachment{Artifact: events.Artifact{ID: "p", SHA256: "1"}}}, "job.planned", "job.planned"},
		{events.ProfileWithdrawConsent{}, "consent_missing", "consent_missing"},
		{events.ProfileRecordConsent{}, "job.planned", "job.planned"},
		{events.ProfileArchive{}, "profile_archived", "profile_archived"},
		{events.ProfileRestore{}, "job.planned", "job.planned"},
		{events.ProfileErase{}, "profile_erased", "profile_erased"},
		{events.ProfileCompleteErasure{}, "profile_erased", "profile_erased"},
	} {
		out, err := m.transact(m.input(events.TopicProfileCommands, "prof", step.command, events.Columns{}))
		if err != nil {
			t.Fatal(err)
		}
		m.h.Learn(out[:1])
		if again, anew := rejected(retry), rejected(generate); again != step.wantRetry || anew != step.wantRequest {
			t.Errorf("after %s: a retry leads to %s, a job to %s", step.command.EventType(), again, anew)
		}
	}
}
