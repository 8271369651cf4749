// Labels of jobs that have ended: the chain goes on, whatever the handler has forgotten.

package handlers

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// whole is a diagnostic job whose digest is one.
func whole() events.JobSubmit {
	s := diagnostic()
	s.Request.BodyDigest = events.Digest([]byte("key"), "body")
	return s
}

// told is the fold of a job's facts on the log, each of which must continue the chain.
func (m *memory) told(t *testing.T, id string) (j aggregates.Job) {
	t.Helper()
	for _, r := range m.topics[events.TopicJobEvents] {
		if r.Key != id {
			continue
		}
		f, err := events.Decode(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if j, err = j.Apply(f); err != nil || j.Chain.Version != f.Version {
			t.Fatalf("%s at version %d: %v", f.Type(), f.Version, err)
		}
	}
	return j
}

// indexOf is the job's entry after compaction.
func (m *memory) indexOf(t *testing.T, id string) (e events.IndexEntry) {
	t.Helper()
	for _, r := range m.topics[events.TopicJobIndex] {
		if r.Key == id {
			var err error
			if e, err = events.DecodeIndexEntry(r.Value); err != nil {
				t.Fatal(err)
			}
		}
	}
	return e
}

func TestAnEndedJobIsLabelledWhateverTheHandlerForgot(t *testing.T) {
	t.Parallel()
	m := newMemory()
	const id = "0193f9a0-1111-7abc-8def-0123456789ab"
	m.must(t, m.command(id, whole()))
	m.must(t, m.command("lives", whole()))
	m.must(t, m.command(id, events.JobCancel{}))
	before := m.indexOf(t, id)
	lostIndex := func() { m.topics[events.TopicJobIndex] = nil; m.restart() }
	for i, forget := range []func(){
		func() {}, func() {}, m.restart, m.drop,
		func() {
			if _, err := m.attempt(aborted, m.command(id, events.JobLabel{Labels: []string{"not"}})); err != nil {
				t.Fatal(err)
			}
		},
		func() {
			if _, err := m.attempt(unknown, m.command(id, events.JobLabel{Labels: []string{"unknown"}})); err != nil {
				t.Fatal(err)
			}
		},
		lostIndex, m.restart, func() {},
	} {
		forget()
		label := fmt.Sprintf("label-%d", i)
		in := m.command(id, events.JobLabel{Labels: []string{label}})
		out := m.must(t, in)
		reply := only(t, out, events.TopicJobReplies).Data.(events.CommandReplied)
		job := m.told(t, id)
		if reply.Outcome != events.OutcomeAccepted || reply.Version != job.Chain.Version || reply.Status != aggregates.JobCancelled || !slices.Equal(job.Request.Labels, []string{label}) {
			t.Fatalf("step %d: reply %+v, labels %q at version %d", i, reply, job.Request.Labels, job.Chain.Version)
		}
		if e := m.indexOf(t, id); e.Version != job.Chain.Version || e.LastEventID != job.Chain.LastID || e.BodyDigest != before.BodyDigest || e.EndedMS != before.EndedMS || e.FirstOffset != before.FirstOffset || e.Status != before.Status {
			t.Fatalf("step %d: the index says %+v, the chain is %+v", i, e, job.Chain)
		}
		if m.h.parts[0].indexed != 1 {
			t.Fatalf("step %d: %d jobs have an entry", i, m.h.parts[0].indexed)
		}
		// The record delivered again is no second fact.
		if again := m.must(t, in); has(again, "jobs.events job.labelled") || only(t, again, events.TopicJobReplies).Data.(events.CommandReplied).Outcome != events.OutcomeDuplicate {
			t.Fatalf("step %d: doubled, it gave %v", i, topicsOf(again))
		}
	}
	// It is still the same request, and no other.
	for body, outcome := range map[string]string{whole().Request.BodyDigest: events.OutcomeDuplicate, strings.Repeat("0", 64): events.OutcomeRefused} {
		submit := whole()
		submit.Request.BodyDigest = body
		if d := only(t, m.must(t, m.command(id, submit)), events.TopicJobReplies).Data.(events.CommandReplied); d.Outcome != outcome {
			t.Errorf("submitted again with %s: %+v", body, d)
		}
	}
}

// A job may end and be labelled, and be labelled again, in one transaction.
func TestLabelsAndAnEndInOneTransaction(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.must(t, m.command("old", whole()))
	label := func(id, label string) events.JobLabel { return events.JobLabel{Labels: []string{id, label}} }
	for _, id := range []string{"old", "new"} {
		if _, err := m.transact(m.command(id, whole()), m.command(id, label(id, "a")), m.command(id, events.JobCancel{}), m.command(id, label(id, "b")), m.command(id, label(id, "c"))); err != nil {
			t.Fatal(err)
		}
		check := func() {
			job, e := m.told(t, id), m.indexOf(t, id)
			if !slices.Equal(job.Request.Labels, label(id, "c").Labels) || e.LastEventID != job.Chain.LastID || !job.Terminal() {
				t.Fatalf("%s: labels %q, %s, index %+v", id, job.Request.Labels, job.State, e)
			}
		}
		check()
		picture := m.picture()
		m.restart()
		if again := m.picture(); !slices.Equal(picture, again) {
			t.Fatalf("recovered as\n%s\nwas\n%s", strings.Join(again, "\n"), strings.Join(picture, "\n"))
		}
		check()
	}
}

func TestAnArchivedJobIsNotLabelled(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.must(t, m.command("j", whole()))
	m.must(t, m.command("j", events.JobCancel{}))
	label := events.JobLabel{Labels: []string{"late"}}
	due := m.h.Due(m.now.Add(31 * 24 * time.Hour))
	// Archived in the same transaction, and before.
	out, err := m.transact(due[0], m.command("j", label))
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range [][]string{topicsOf(out), topicsOf(m.must(t, m.command("j", label)))} {
		if slices.Contains(out, "jobs.events job.labelled") {
			t.Fatalf("labelled: %v", out)
		}
	}
	if e := m.indexOf(t, "j"); e.Status != statusArchived {
		t.Errorf("the entry %+v", e)
	}
	if d := only(t, m.must(t, m.command("j", label)), events.TopicJobReplies).Data.(events.CommandReplied); d.Code != aggregates.CodeJobArchived {
		t.Errorf("the reply %+v", d)
	}
}
