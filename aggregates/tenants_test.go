// What belongs to another tenant does not exist for who sends a command.

package aggregates_test

import (
	"slices"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// whenOf is a message of another tenant.
func (s *script) whenOf(tenant string, p events.Payload) []string {
	s.t.Helper()
	s.n++
	m := s.last
	m.ID, m.CommandID, m.Tenant, m.Data, m.Columns = "foreign", "foreign", tenant, p, events.Columns{}
	return s.again(m)
}

func TestAClientOfAnotherTenantMeetsNoJob(t *testing.T) {
	t.Parallel()
	commands := []events.Payload{events.JobCancel{}, events.JobApprove{}, events.JobDeny{}, events.JobLabel{Labels: []string{"mine"}}}
	for name, given := range map[string]func(*script){
		"a job that lives":            func(s *script) { s.submit(talker()) },
		"a job that waits":            func(s *script) { s.submit(gated()); s.toGate() },
		"a job that is being stopped": func(s *script) { s.submit(talker()); s.accept("script", 1); s.cancel() },
		"a job that has ended":        func(s *script) { s.submit(talker()); s.cancel() },
	} {
		s := newScript(t)
		given(s)
		before := s.job.Chain
		for _, c := range commands {
			s.want(s.whenOf("other", c))
			s.refused(aggregates.CodeJobUnknown)
		}
		// The id is taken: by the API no two tenants ever name the same one.
		s.want(s.whenOf("other", events.JobSubmit{Request: talker()}))
		s.refused(aggregates.CodeIdempotencyConflict)
		if s.job.Chain != before {
			t.Errorf("%s: its facts go on", name)
		}
	}
	// What a worker or the clock says is of the job, whoever they work for.
	s := newScript(t)
	s.submit(talker())
	s.want(s.accept("script", 1), "stage.started script#1")
}

// toGate brings the job to where somebody has to approve it.
func (s *script) toGate() {
	s.t.Helper()
	s.accept("script", 1)
	s.succeed("script", 1, "narration", "scene")
	s.accept("safety", 1)
	s.succeed("safety", 1, "narration", "scene")
	if s.job.State != aggregates.JobWaitingApproval {
		s.t.Fatalf("the job is %s", s.job.State)
	}
}

func TestAClientOfAnotherTenantMeetsNoProfile(t *testing.T) {
	t.Parallel()
	for _, gone := range []bool{false, true} {
		p := &person{t: t}
		p.when(events.ProfileCreate{Name: events.Sealed{Key: "k"}})
		if gone {
			p.when(events.ProfileErase{})
		}
		for _, command := range []events.Payload{
			events.ProfileRename{}, events.ProfileRecordConsent{}, events.ProfileWithdrawConsent{}, events.ProfileAttachVoice{}, events.ProfileAttachLora{},
			events.ProfileAttachPortrait{}, events.ProfileArchive{}, events.ProfileRestore{}, events.ProfileErase{}, events.ProfileCompleteErasure{}, events.ProfileCreate{},
		} {
			want := aggregates.CodeProfileUnknown
			if _, creates := command.(events.ProfileCreate); creates {
				want = aggregates.CodeIdempotencyConflict // the id is taken
			}
			// Also under the id of a command that the owner gave: it is not answered as a repeat.
			for _, id := range []string{"m1", "foreign"} {
				facts, refusal := aggregates.DecideProfile(p.profile, events.Message{ID: id, AggregateID: "prof", Tenant: "other", Data: command}, start)
				if len(facts) > 0 || refusal == nil || refusal.Code != want {
					t.Errorf("erased %v, %s as %s: %d facts, %+v", gone, command.EventType(), id, len(facts), refusal)
				}
			}
		}
	}
}

// TestNoCommandBringsContentOfAnotherTenant names a file and a text of another tenant in
// every place of every command that can hold one.
func TestNoCommandBringsContentOfAnotherTenant(t *testing.T) {
	t.Parallel()
	content := func(tenant string) []events.Payload {
		file := events.Artifact{ID: "f", SHA256: "1", URI: "s3://b/" + tenant + "/-/up/1.png"}
		text := &events.Sealed{Bytes: []byte("x"), Key: "keys/" + tenant + "/-/job"}
		value := events.Value{Text: text, Digest: "d"}
		consent, made := &events.Consent{By: *text, Statement: *text}, &events.Attachment{Artifact: file}
		job := func(change func(*events.JobSubmit)) events.Payload {
			c := events.JobSubmit{Request: talker()}
			c.Request.Inputs["portrait"] = portrait
			change(&c)
			return c
		}
		return []events.Payload{
			job(func(c *events.JobSubmit) {
				c.Request.Inputs["portrait"] = events.Value{Artifacts: []events.Artifact{file}}
			}),
			job(func(c *events.JobSubmit) { c.Request.Inputs["prompt"] = value }),
			job(func(c *events.JobSubmit) { c.Request.ProfileName = text }),
			job(func(c *events.JobSubmit) { c.Request.Consent = consent }),
			job(func(c *events.JobSubmit) { c.Request.Edit = &value }),
			job(func(c *events.JobSubmit) { c.Request.Webhook = &events.Webhook{URL: *text} }),
			job(func(c *events.JobSubmit) { c.Request.Webhook = &events.Webhook{Secret: *text} }),
			job(func(c *events.JobSubmit) {
				c.Parent = &events.Parent{JobID: "p", Results: map[string]events.ParentResult{"h": {Result: events.Result{Outputs: map[string]events.Value{"o": {Artifacts: []events.Artifact{file}}}}}}}
			}),
			events.JobApprove{Edit: &value}, events.JobDeny{Reason: text},
			events.ProfileCreate{Name: *text}, events.ProfileCreate{Consent: consent}, events.ProfileCreate{Portrait: made}, events.ProfileCreate{Voice: made}, events.ProfileCreate{Transcript: text},
			events.ProfileRename{Name: *text}, events.ProfileRecordConsent{Consent: *consent}, events.ProfileAttachVoice{Attachment: *made},
			events.ProfileAttachVoice{Transcript: text}, events.ProfileAttachVoice{Weights: []events.Artifact{file}}, events.ProfileAttachLora{Attachment: *made}, events.ProfileAttachPortrait{Attachment: *made},
		}
	}
	for _, tenant := range []string{"default", "other"} {
		for _, c := range content(tenant) {
			var facts int
			var code string
			switch c.(type) {
			case events.JobSubmit, events.JobApprove, events.JobDeny:
				s := newScript(t)
				if _, submits := c.(events.JobSubmit); !submits {
					s.submit(gated())
					s.toGate()
				}
				facts, code = len(s.when(c, events.Columns{})), s.refusal
			default:
				p := &person{t: t}
				if _, creates := c.(events.ProfileCreate); !creates {
					p.when(events.ProfileCreate{})
				}
				before := p.profile.Chain.Version
				code = p.when(c)
				facts = int(p.profile.Chain.Version - before)
			}
			if foreign := tenant == "other"; foreign != (facts == 0) || foreign != (code == aggregates.CodeContentForeign) {
				t.Errorf("%s with what is %s's: %d facts, %q", c.EventType(), tenant, facts, code)
			}
		}
	}
}

func TestAResultIsNamedAfterItsTenantToo(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	other := s.job
	other.Tenant = "other"
	names := func(j aggregates.Job) (out []string) {
		for _, n := range j.Graph.Nodes {
			out = append(out, aggregates.InputHash(j, n, "e"))
		}
		return out
	}
	for _, name := range names(s.job) {
		if name != "" && slices.Contains(names(other), name) {
			t.Error("equal work of two tenants has one name, so that one would be given the other's result")
		}
	}
}
