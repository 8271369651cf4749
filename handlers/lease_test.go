// When silence ends an attempt, and when it does not.

package handlers

import (
	"slices"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// running is a job with an attempt that runs under a lease of 15 s.
func running(t *testing.T) *memory {
	m := newMemory()
	m.must(t, m.command("j", diagnostic()))
	m.must(t, m.answer("j", events.LaneScript, 1, events.TaskAccepted{LeaseMS: 15_000}))
	return m
}

func (m *memory) beat(stage string, attempt int, at time.Time) {
	m.h.Beat(m.input(events.TopicTaskProgress, "j", events.TaskProgress{}, events.Columns{Stage: stage, Attempt: attempt}), at)
}

func TestLeases(t *testing.T) {
	t.Parallel()
	at := func(s float64) time.Time { return start.Add(time.Duration(s * float64(time.Second))) }
	for name, c := range map[string]struct {
		given func(m *memory)
		alive float64 // seconds at which the lease has not expired
		dead  float64 // and at which it has; 0: never
	}{
		"a silent attempt": {func(m *memory) { m.h.BeatsCurrent(true, at(0)) }, 14.9, 15},
		"an attempt that beats": {func(m *memory) {
			m.h.BeatsCurrent(true, at(0))
			m.beat(events.LaneScript, 1, at(10))
		}, 24.9, 25},
		"beats of others": {func(m *memory) {
			m.h.BeatsCurrent(true, at(0))
			m.beat(events.LaneScript, 2, at(10))
			m.beat(events.LaneTTS, 1, at(10))
		}, 14.9, 15},
		"beats are not read up to their end": {func(*memory) {}, 14.9, 0},
		"they are only later":                {func(m *memory) { m.h.BeatsCurrent(true, at(60)) }, 74.9, 75},
		"an interruption": {func(m *memory) {
			m.h.BeatsCurrent(true, at(0))
			m.h.BeatsCurrent(false, at(10))
			m.h.BeatsCurrent(true, at(20))
			m.h.BeatsCurrent(true, at(30)) // no news
		}, 34.9, 35},
		"an interruption that lasts": {func(m *memory) {
			m.h.BeatsCurrent(true, at(0))
			m.h.BeatsCurrent(false, at(10))
		}, 14.9, 0},
		"a new owner": {func(m *memory) {
			m.h.BeatsCurrent(true, at(0))
			m.now = at(12)
			m.drop()
		}, 26.9, 27},
		"a new owner of an attempt that beats": {func(m *memory) {
			m.h.BeatsCurrent(true, at(0))
			m.now = at(12)
			m.drop()
			m.beat(events.LaneScript, 1, at(20))
		}, 34.9, 35},
		"a process that stood still": {func(m *memory) {
			m.h.BeatsCurrent(true, at(0))
			m.h.restartLeases(at(14))
		}, 28.9, 29},
		"a result": {func(m *memory) {
			m.h.BeatsCurrent(true, at(0))
			if _, err := m.transact(m.answer("j", events.LaneScript, 1, events.TaskSucceeded{})); err != nil {
				panic(err)
			}
		}, 14.9, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := running(t)
			c.given(m)
			if due := m.h.Due(at(c.alive)); len(due) != 0 {
				t.Fatalf("at %g s: %v", c.alive, topicsOf(due))
			}
			if c.dead == 0 {
				if due := m.h.Due(at(600)); slices.Contains(topicsOf(due), "jobs.commands clock.lease_expired") {
					t.Fatalf("at last: %v", topicsOf(due))
				}
				return
			}
			due := m.h.Due(at(c.dead))
			if !slices.Equal(topicsOf(due), []string{"jobs.commands clock.lease_expired"}) {
				t.Fatalf("at %g s: %v", c.dead, topicsOf(due))
			}
			if d := mustDecode(t, due[0]); d.Stage != events.LaneScript || d.Attempt != 1 || d.Data.(events.ClockLeaseExpired).LeaseMS != 15_000 {
				t.Errorf("the command is %+v", d)
			}
			if again := m.h.Due(at(c.dead + 1)); len(again) != 0 {
				t.Fatalf("twice: %v", topicsOf(again))
			}
			m.h.GiveBack(due[0])
			if again := m.h.Due(at(c.dead + 1)); len(again) != 1 {
				t.Fatalf("given back: %v", topicsOf(again))
			}
			if out := m.must(t, due[0]); !has(out, "jobs.events stage.attempt_expired") {
				t.Fatalf("decided: %v", topicsOf(out))
			}
		})
	}
}

// The result of an attempt whose lease ran out still counts until the next is scheduled.
func TestALateResultCounts(t *testing.T) {
	t.Parallel()
	m := running(t)
	m.h.BeatsCurrent(true, start)
	m.must(t, m.h.Due(start.Add(15 * time.Second))[0])
	if out := m.must(t, m.answer("j", events.LaneScript, 1, events.TaskSucceeded{})); !has(out, "jobs.events stage.succeeded") || !has(out, "gpu.tts.commands task.run") {
		t.Fatalf("got %v", topicsOf(out))
	}
}

func mustDecode(t *testing.T, r eventlog.Record) events.Message {
	t.Helper()
	m, err := events.Decode(r.Value)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
