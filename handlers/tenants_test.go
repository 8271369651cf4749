// What belongs to another tenant: for its clients there is no such job and no such profile,
// whether it lives, has ended or is archived, and whoever has recovered the partition.

package handlers

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// of is the record as another tenant would have written it.
func of(t *testing.T, tenant string, r eventlog.Record) eventlog.Record {
	t.Helper()
	m, err := events.Decode(r.Value)
	if err != nil {
		t.Fatal(err)
	}
	m.Tenant = tenant
	out, err := encode(r.Topic, m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// answers gives an input and expects a reply and nothing else.
func (m *memory) answers(t *testing.T, in eventlog.Record) events.CommandReplied {
	t.Helper()
	out := m.must(t, in)
	if !slices.Equal(topicsOf(out), []string{"jobs.replies command.replied"}) {
		t.Fatalf("the input leads to %v", topicsOf(out))
	}
	return only(t, out, events.TopicJobReplies).Data.(events.CommandReplied)
}

// asksOf sends every command that a client can give to the job as the tenant that it does
// not belong to, and holds the answers to those about a job that never was.
func (m *memory) asksOf(t *testing.T, what, job, stranger string) {
	t.Helper()
	for _, c := range []events.Payload{events.JobCancel{}, events.JobApprove{}, events.JobDeny{}, events.JobLabel{Labels: []string{"mine"}}} {
		never := m.answers(t, of(t, stranger, m.command("never-was", c)))
		if got := m.answers(t, of(t, stranger, m.command(job, c))); got != never || got.Code != aggregates.CodeJobUnknown || got.Version != 0 || got.Status != "" {
			t.Errorf("%s: %s is answered %+v, of a job that never was %+v", what, c.EventType(), got, never)
		}
	}
	if got := m.answers(t, of(t, stranger, m.command(job, diagnostic()))); got.Code != aggregates.CodeIdempotencyConflict || got.Version != 0 || got.Status != "" {
		t.Errorf("%s: its id is given again: %+v", what, got)
	}
}

func TestJobsOfAnotherTenantAreUnknown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ owner, stranger string }{{"default", "acme"}, {"acme", "default"}, {"acme", "globex"}} {
		for _, restarts := range []bool{false, true} {
			m := newMemory()
			pass := func(what string) {
				t.Helper()
				if restarts {
					m.restart()
				}
				m.asksOf(t, what+" of "+c.owner, "j", c.stranger)
			}
			own := func(p events.Payload) eventlog.Record { return of(t, c.owner, m.command("j", p)) }
			submit := diagnostic()
			submit.Request.BodyDigest = strings.Repeat("ab", 32)
			m.must(t, own(submit))
			pass("a job that lives")
			m.must(t, own(events.JobCancel{}))
			pass("a job that has ended")
			// Its owner's commands are answered as ever, and its labels still change.
			if r := m.answers(t, own(events.JobCancel{})); r.Code != aggregates.CodeJobEnded || r.Status != aggregates.JobCancelled {
				t.Errorf("the owner is answered %+v", r)
			}
			label := m.must(t, own(events.JobLabel{Labels: []string{"ours"}}))
			if f := only(t, label, events.TopicJobEvents); f.Tenant != c.owner || m.indexOf(t, "j").Owner != events.OwnerOf(c.owner) {
				t.Errorf("the labels are of %s, the index says %q", f.Tenant, m.indexOf(t, "j").Owner)
			}
			pass("a job that was labelled")
			for _, due := range m.h.Due(m.now.Add(40 * 24 * time.Hour)) {
				m.must(t, due)
			}
			if e := m.indexOf(t, "j"); e.Status != statusArchived || e.Owner != events.OwnerOf(c.owner) {
				t.Fatalf("the index has %+v", e)
			}
			pass("a job that is archived")
			if r := m.answers(t, own(events.JobCancel{})); r.Code != aggregates.CodeJobArchived {
				t.Errorf("the owner of an archived job is answered %+v", r)
			}
		}
	}
}

// Within one transaction a job ends, is archived, and somebody else asks for it.
func TestJobsOfAnotherTenantAreUnknownBeforeTheyAreCommitted(t *testing.T) {
	t.Parallel()
	m := newMemory()
	foreign := func() eventlog.Record {
		return of(t, "acme", m.command("j", events.JobLabel{Labels: []string{"mine"}}))
	}
	out, err := m.transact(m.command("j", diagnostic()), foreign(), m.command("j", events.JobCancel{}), foreign())
	if err != nil {
		t.Fatal(err)
	}
	m.now = m.now.Add(40 * 24 * time.Hour)
	more, err := m.transact(append(m.h.Due(m.now), foreign())...)
	if err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, r := range append(out, more...) {
		if d, err := events.Decode(r.Value); err == nil && d.Tenant == "acme" {
			codes = append(codes, d.Data.(events.CommandReplied).Code)
		}
	}
	if !slices.Equal(codes, []string{aggregates.CodeJobUnknown, aggregates.CodeJobUnknown, aggregates.CodeJobUnknown}) {
		t.Errorf("answered %v", codes)
	}
}

// An index of before there were tenants is of the only one that there was.
func TestEntriesWithoutAnOwnerAreOfTheDefaultTenant(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.must(t, m.command("j", diagnostic()))
	m.must(t, m.command("j", events.JobCancel{}))
	for _, r := range m.topics[events.TopicJobIndex] {
		if e, err := events.DecodeIndexEntry(r.Value); err != nil || e.Owner != "" {
			t.Fatalf("%s, %v", r.Value, err)
		}
	}
	m.restart()
	if r := m.answers(t, m.command("j", events.JobCancel{})); r.Code != aggregates.CodeJobEnded {
		t.Errorf("its owner is answered %+v", r)
	}
	m.asksOf(t, "an entry without an owner", "j", "acme")
}

func TestProfilesOfAnotherTenantAreUnknown(t *testing.T) {
	t.Parallel()
	m := newMemory()
	command := func(tenant, id string, p events.Payload) eventlog.Record {
		return of(t, tenant, m.input(events.TopicProfileCommands, id, p, events.Columns{}))
	}
	sealed := events.Sealed{Bytes: []byte("x"), Key: "k"}
	made := m.must(t, command("acme", "prof", events.ProfileCreate{Name: sealed, Consent: &events.Consent{By: sealed, Statement: sealed},
		Portrait: &events.Attachment{Artifact: events.Artifact{ID: "p", SHA256: "1"}}}))
	m.h.Learn(made[:len(made)-1])
	for _, restarts := range []bool{false, true} {
		if restarts {
			m.restart()
			m.h.Learn(m.topics[events.TopicProfileEvents])
		}
		for _, c := range []events.Payload{events.ProfileRename{Name: sealed}, events.ProfileArchive{}, events.ProfileErase{}, events.ProfileWithdrawConsent{}} {
			never := m.answers(t, command("default", "never-was", c))
			if got := m.answers(t, command("default", "prof", c)); got != never || got.Code != aggregates.CodeProfileUnknown {
				t.Errorf("%s is answered %+v, of a profile that never was %+v", c.EventType(), got, never)
			}
		}
		if got := m.answers(t, command("default", "prof", events.ProfileCreate{Name: sealed})); got.Code != aggregates.CodeIdempotencyConflict || got.Version != 0 || got.Status != "" {
			t.Errorf("its id is given again: %+v", got)
		}
		// A job that names it names a profile that there is not.
		generate := request()
		generate.Mode, generate.Inputs = aggregates.ModeGenerateFromProfile, map[string]events.Value{"prompt": generate.Inputs["prompt"]}
		for tenant, want := range map[string]string{"acme": "job.planned", "default": "job.rejected"} {
			out := m.must(t, of(t, tenant, m.command("job-of-"+tenant+map[bool]string{true: "-again"}[restarts], events.JobSubmit{Request: generate})))
			f, err := events.Decode(out[1].Value)
			if err != nil || f.Type() != want {
				t.Errorf("a job of %s with the profile of acme: %s, %v", tenant, f.Type(), err)
			}
			if d, ok := f.Data.(events.JobRejected); ok && d.Reasons[0].Code != "profile_unknown" {
				t.Errorf("it is rejected for %+v", d.Reasons)
			}
		}
	}
}

// What a job trains goes to a profile of its own tenant alone.
func TestAJobChangesNoProfileOfAnotherTenant(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.must(t, of(t, "acme", m.input(events.TopicProfileCommands, "prof", events.ProfileCreate{}, events.Columns{})))
	words := of(t, "default", m.input(events.TopicProfileCommands, "prof", events.ProfileAttachVoice{}, events.Columns{JobID: "j"}))
	if out := m.must(t, words); len(out) != 0 {
		t.Errorf("it leads to %v", topicsOf(out))
	}
}
