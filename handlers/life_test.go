// Given, when, then: replies, stops, carrying forward, archiving.

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

// only is the one record on a topic.
func only(t *testing.T, out []eventlog.Record, topic string) events.Message {
	t.Helper()
	out = slices.DeleteFunc(slices.Clone(out), func(r eventlog.Record) bool { return r.Topic != topic })
	if len(out) != 1 {
		t.Fatalf("%d records on %s: %v", len(out), topic, topicsOf(out))
	}
	m, err := events.Decode(out[0].Value)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func has(out []eventlog.Record, what string) bool { return slices.Contains(topicsOf(out), what) }

func TestRepliesSayWhatCameOfACommand(t *testing.T) {
	t.Parallel()
	m := newMemory()
	approval, other, denial := diagnostic(), diagnostic(), events.JobDeny{}
	approval.Request.Approval = true
	other.Request.BodyDigest = "other"
	approve := m.command("gate", events.JobApprove{})
	for _, step := range []struct {
		name    string
		in      eventlog.Record
		outcome string
		code    string
		status  string
	}{
		{"a command on no job", m.command("j", events.JobCancel{}), events.OutcomeRefused, aggregates.CodeJobUnknown, ""},
		{"a new job", m.command("j", diagnostic()), events.OutcomeAccepted, "", aggregates.JobQueued},
		{"the same job", m.command("j", diagnostic()), events.OutcomeDuplicate, "", aggregates.JobQueued},
		{"another job by its id", m.command("j", other), events.OutcomeRefused, aggregates.CodeIdempotencyConflict, aggregates.JobQueued},
		{"nothing to approve", m.command("j", events.JobApprove{}), events.OutcomeRefused, aggregates.CodeNotWaiting, aggregates.JobQueued},
		{"a cancel", m.command("j", events.JobCancel{}), events.OutcomeAccepted, "", aggregates.JobCancelled},
		{"a cancel of an ended job", m.command("j", events.JobCancel{}), events.OutcomeRefused, aggregates.CodeJobEnded, aggregates.JobCancelled},
		{"the same job, ended", m.command("j", diagnostic()), events.OutcomeDuplicate, "", aggregates.JobCancelled},
		{"another by the id of an ended job", m.command("j", other), events.OutcomeRefused, aggregates.CodeIdempotencyConflict, aggregates.JobCancelled},
		{"a job with a gate", m.command("gate", approval), events.OutcomeAccepted, "", aggregates.JobQueued},
		{"", m.answer("gate", events.LaneScript, 1, events.TaskSucceeded{}), "", "", ""},
		{"an approval", approve, events.OutcomeAccepted, "", aggregates.JobRunning},
		{"the approval delivered again", approve, events.OutcomeDuplicate, "", aggregates.JobRunning},
		{"a late denial", m.command("gate", denial), events.OutcomeRefused, aggregates.CodeNotWaiting, aggregates.JobRunning},
	} {
		out := m.must(t, step.in)
		if step.name == "" {
			continue
		}
		reply := only(t, out, events.TopicJobReplies)
		cause, err := events.Decode(step.in.Value)
		if err != nil {
			t.Fatal(err)
		}
		d := reply.Data.(events.CommandReplied)
		if d.Outcome != step.outcome || d.Code != step.code || d.Status != step.status || (d.Code != "") != (d.Detail != "") {
			t.Errorf("%s: %+v", step.name, d)
		}
		if reply.CommandID != cause.CommandID || reply.AggregateID != cause.AggregateID || reply.Version != 0 {
			t.Errorf("%s: the reply's envelope %+v", step.name, reply)
		}
		if (d.Version == 0) != (d.Code == aggregates.CodeJobUnknown) {
			t.Errorf("%s: version %d", step.name, d.Version)
		}
	}
}

// A worker's record that comes twice is ignored, whatever the state would make of it.
func TestAnAnswerThatCameTwiceIsIgnored(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.must(t, m.command("j", diagnostic()))
	for _, in := range []eventlog.Record{
		m.answer("j", events.LaneScript, 1, events.TaskAccepted{}),
		m.answer("j", events.LaneScript, 1, events.TaskSucceeded{}),
	} {
		if out := m.must(t, in); len(out) == 0 {
			t.Fatal("nothing came of the first")
		}
		for range 2 {
			if out := m.must(t, in); len(out) != 0 {
				t.Fatalf("delivered again: %v", topicsOf(out))
			}
			m.restart()
		}
	}
	if n := metricValue(m.h.metrics.stale); n != 0 {
		t.Errorf("%g stale results", n)
	}
}

func TestStops(t *testing.T) {
	t.Parallel()
	stopped := func(t *testing.T, out []eventlog.Record, job, stage string, attempt int) {
		t.Helper()
		s := only(t, out, events.TopicTaskControl)
		if s.ID != events.AttemptID(job, stage, attempt) || s.JobID != job || s.Stage != stage || s.Attempt != attempt || s.Lane != stage ||
			s.Task != aggregates.NoopTask(stage) || s.AggregateID != job || s.Data.(events.TaskStop).Reason == "" {
			t.Errorf("the stop is %+v", s)
		}
	}
	// given starts a job whose first stage runs.
	given := func(t *testing.T) *memory {
		m := newMemory()
		m.must(t, m.command("j", diagnostic()))
		m.must(t, m.answer("j", events.LaneScript, 1, events.TaskAccepted{LeaseMS: 15_000}))
		return m
	}
	clock := func(t *testing.T, m *memory, after time.Duration, kind string) eventlog.Record {
		t.Helper()
		for _, r := range m.h.Due(m.now.Add(after)) {
			if has([]eventlog.Record{r}, "jobs.commands "+kind) {
				return r
			}
		}
		t.Fatalf("no %s is due", kind)
		return eventlog.Record{}
	}
	t.Run("cancel of a running attempt", func(t *testing.T) {
		t.Parallel()
		m := given(t)
		out := m.must(t, m.command("j", events.JobCancel{}))
		stopped(t, out, "j", events.LaneScript, 1)
		out = m.must(t, m.answer("j", events.LaneScript, 1, events.TaskCancelled{}))
		if !has(out, "jobs.events job.cancelled") || has(out, "gpu.control task.stop") {
			t.Errorf("got %v", topicsOf(out))
		}
	})
	t.Run("cancel of a queued attempt, accepted later", func(t *testing.T) {
		t.Parallel()
		m := newMemory()
		m.must(t, m.command("j", diagnostic()))
		if out := m.must(t, m.command("j", events.JobCancel{})); !has(out, "jobs.events job.cancelled") || !has(out, "gpu.control task.stop") {
			t.Fatalf("got %v", topicsOf(out))
		}
		in := m.answer("j", events.LaneScript, 1, events.TaskAccepted{})
		msg, err := events.Decode(in.Value)
		if err != nil {
			t.Fatal(err)
		}
		msg.Task, msg.Lane = aggregates.NoopTask(events.LaneScript), events.LaneScript // as workers say
		if in, err = encode(in.Topic, msg); err != nil {
			t.Fatal(err)
		}
		stopped(t, m.must(t, in), "j", events.LaneScript, 1)
	})
	t.Run("a lost lease", func(t *testing.T) {
		t.Parallel()
		m := given(t)
		m.h.BeatsCurrent(true, m.now)
		out := m.must(t, clock(t, m, 15*time.Second, "clock.lease_expired"))
		stopped(t, out, "j", events.LaneScript, 1)
		if !has(out, "jobs.events stage.attempt_expired") {
			t.Errorf("got %v", topicsOf(out))
		}
	})
	t.Run("a stage that ran too long", func(t *testing.T) {
		t.Parallel()
		m := given(t)
		out := m.must(t, clock(t, m, time.Hour, "clock.stage_timeout"))
		stopped(t, out, "j", events.LaneScript, 1)
	})
	t.Run("a job past its deadline", func(t *testing.T) {
		t.Parallel()
		m := given(t)
		out := m.must(t, clock(t, m, 25*time.Hour, "clock.deadline"))
		stopped(t, out, "j", events.LaneScript, 1)
	})
	t.Run("a failure that the worker reports needs none", func(t *testing.T) {
		t.Parallel()
		m := given(t)
		if out := m.must(t, m.answer("j", events.LaneScript, 1, events.TaskFailed{})); has(out, "gpu.control task.stop") {
			t.Errorf("got %v", topicsOf(out))
		}
	})
	t.Run("an attempt of no job, and a stale result", func(t *testing.T) {
		t.Parallel()
		m := given(t)
		if out := m.must(t, m.answer("never", events.LaneScript, 1, events.TaskAccepted{})); !has(out, "gpu.control task.stop") {
			t.Errorf("got %v", topicsOf(out))
		}
		if out := m.must(t, m.answer("j", events.LaneScript, 7, events.TaskSucceeded{})); len(out) != 0 || metricValue(m.h.metrics.stale) != 1 {
			t.Errorf("got %v, %g stale", topicsOf(out), metricValue(m.h.metrics.stale))
		}
	})
}

// A job that waits is carried forward, so that recovery need not read far back.
func TestAJobThatWaitsIsCarriedForward(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.carryAfter = 20
	m.restart()
	waits := diagnostic()
	waits.Request.NotBeforeMS = start.Add(24 * time.Hour).UnixMilli()
	m.must(t, m.command("waits", waits))
	for n := range 30 {
		m.must(t, m.command("j"+strings.Repeat("x", n), diagnostic()))
		m.must(t, m.command("j"+strings.Repeat("x", n), events.JobCancel{}))
		due := m.h.Due(m.now)
		for _, r := range due {
			if out := m.must(t, r); !slices.Equal(topicsOf(out), []string{"jobs.events job.carried_forward"}) {
				t.Fatalf("got %v", topicsOf(out))
			}
			if mark, err := parseMark(m.meta); err != nil || mark.oldest != int64(len(m.topics[events.TopicJobEvents]))-1 {
				t.Fatalf("carried forward, recovery would start at %d (%v)", mark.oldest, err)
			}
			if out := m.must(t, r); len(out) != 0 {
				t.Fatalf("a command that is void led to %v", topicsOf(out))
			}
		}
		if len(m.h.Due(m.now)) > 0 {
			t.Fatal("due again at once")
		}
		mark, err := parseMark(m.meta)
		if behind := int64(len(m.topics[events.TopicJobEvents])) - mark.oldest; err != nil || behind > m.carryAfter+5 {
			t.Fatalf("recovery would start %d facts back (%v)", behind, err)
		}
	}
	before := m.picture()
	m.restart()
	if after := m.picture(); !slices.Equal(after, before) {
		t.Fatalf("recovered\n%s\nwas\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
	out := m.must(t, m.h.Due(start.Add(25 * time.Hour))[0])
	if !has(out, "jobs.events stage.scheduled") {
		t.Fatalf("the carried job goes on with %v", topicsOf(out))
	}
}

// Each carrying pushes the others back: it comes to rest all the same, however many wait.
func TestCarryingManyJobsComesToRest(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.carryAfter = 5
	m.restart()
	waits := diagnostic()
	waits.Request.NotBeforeMS = start.Add(24 * time.Hour).UnixMilli()
	for n := range 40 {
		m.must(t, m.command("w"+strings.Repeat("x", n), waits))
	}
	for round := 0; ; round++ {
		due := m.h.Due(m.now)
		if len(due) == 0 {
			break
		}
		if round > 100 {
			t.Fatal("it never ends")
		}
		for _, r := range due {
			m.must(t, r)
		}
	}
}

// Long after its end a job is known as one that was, and never starts again.
func TestOldJobsAreArchived(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.must(t, m.command("j", diagnostic()))
	m.must(t, m.command("j", events.JobCancel{}))
	if due := m.h.Due(m.now.Add(29 * 24 * time.Hour)); len(due) != 0 {
		t.Fatalf("too early: %v", topicsOf(due))
	}
	late := m.now.Add(31 * 24 * time.Hour)
	due := m.h.Due(late)
	if !slices.Equal(topicsOf(due), []string{"jobs.commands clock.archive_due"}) || len(m.h.Due(late.Add(time.Hour))) != 0 {
		t.Fatalf("due: %v", topicsOf(due))
	}
	m.h.GiveBack(due[0])
	if again := m.h.Due(late); len(again) != 1 {
		t.Fatal("given back, it is not due again")
	}
	for i, want := range []int{1, 0} {
		if out := m.must(t, due[0]); len(out) != want || want == 1 && string(out[0].Value) != `{"status":"archived"}` {
			t.Fatalf("call %d: %v", i, topicsOf(out))
		}
	}
	for range 2 {
		reply := only(t, m.must(t, m.command("j", diagnostic())), events.TopicJobReplies).Data.(events.CommandReplied)
		if reply.Outcome != events.OutcomeRefused || reply.Code != aggregates.CodeJobArchived || reply.Status != statusArchived {
			t.Fatalf("the reply %+v", reply)
		}
		if len(m.h.parts[0].ended) != 0 || len(m.h.parts[0].archived) != 1 || m.h.parts[0].indexed != 1 {
			t.Fatal("it is not archived in memory")
		}
		m.restart()
	}
}

// An index that was lost is rebuilt from the facts, and written anew.
func TestALostIndexIsRebuilt(t *testing.T) {
	t.Parallel()
	m := newMemory()
	for _, id := range []string{"a", "0193f9a0-1111-7abc-8def-0123456789ab"} {
		m.must(t, m.command(id, diagnostic()))
		m.must(t, m.command(id, events.JobCancel{}))
	}
	m.must(t, m.command("lives", diagnostic()))
	lost := m.topics[events.TopicJobIndex]
	m.topics[events.TopicJobIndex] = nil
	m.restart()
	out := m.must(t, m.command("a", diagnostic()))
	if d := only(t, out, events.TopicJobReplies).Data.(events.CommandReplied); d.Outcome != events.OutcomeDuplicate {
		t.Fatalf("the old command: %+v", d)
	}
	got := m.topics[events.TopicJobIndex]
	if len(got) != len(lost) {
		t.Fatalf("%d entries were written, %d were lost", len(got), len(lost))
	}
	for i := range got {
		if got[i].Key != lost[i].Key || string(got[i].Value) != string(lost[i].Value) {
			t.Errorf("%s %s, was %s %s", got[i].Key, got[i].Value, lost[i].Key, lost[i].Value)
		}
	}
	if out := m.must(t, m.command("a", events.JobCancel{})); has(out, events.TopicJobIndex) {
		t.Error("written twice")
	}
}
