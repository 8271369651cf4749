package main

// Tests that the check of "each step once" notices what it is for.

import (
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// jobFacts are the facts of a job that went well, as messages.
func jobFacts(id string) []events.Message {
	var out []events.Message
	add := func(data events.Payload, stage string) {
		m := events.Message{ID: events.NameID(id, stage, data.EventType()), AggregateType: events.AggregateJob, AggregateID: id,
			Version: int64(len(out) + 1), Tenant: "default", Columns: events.Columns{JobID: id, Stage: stage}, Data: data}
		if len(out) > 0 {
			m.PrevID = out[len(out)-1].ID
		}
		out = append(out, m)
	}
	add(events.JobSubmitted{}, "")
	for _, stage := range noopLanes {
		add(events.StageScheduled{}, stage)
		add(events.StageStarted{}, stage)
		add(events.StageSucceeded{}, stage)
	}
	add(events.JobSucceeded{}, "")
	return out
}

func TestOnceNoticesEveryFault(t *testing.T) {
	t.Parallel()
	rechain := func(ms []events.Message) []events.Message {
		for i := range ms {
			ms[i].Version, ms[i].PrevID = int64(i+1), ""
			if i > 0 {
				ms[i].PrevID = ms[i-1].ID
			}
		}
		return ms
	}
	without := func(kind string) func([]events.Message) []events.Message {
		return func(ms []events.Message) []events.Message {
			for i := range ms {
				if ms[i].Type() == kind {
					return rechain(append(ms[:i:i], ms[i+1:]...))
				}
			}
			return ms
		}
	}
	twice := func(kind string) func([]events.Message) []events.Message {
		return func(ms []events.Message) []events.Message {
			for i := range ms {
				if ms[i].Type() == kind {
					again := ms[i]
					again.ID = "again"
					return rechain(append(append(ms[:i+1:i+1], again), ms[i+1:]...))
				}
			}
			return ms
		}
	}
	for _, c := range []struct {
		name   string
		change func([]events.Message) []events.Message
		want   string // "": fine
	}{
		{"as it should be", func(ms []events.Message) []events.Message { return ms }, ""},
		{"no fact at all", func([]events.Message) []events.Message { return nil }, "submitted 0 times"},
		{"no end", without("job.succeeded"), "succeeded 0 times"},
		{"two ends", twice("job.succeeded"), "succeeded 2 times"},
		{"submitted twice", twice("job.submitted"), "submitted 2 times"},
		{"a stage scheduled twice", twice("stage.scheduled"), "scheduled 2 times"},
		{"a stage counted twice", twice("stage.succeeded"), "succeeded 2 times"},
		{"a stage left out", without("stage.succeeded"), "succeeded 0 times"},
		{"a hole", func(ms []events.Message) []events.Message { return append(ms[:2:2], ms[3:]...) }, "does not continue the chain"},
		{"a failure", func(ms []events.Message) []events.Message {
			ms[2].Data = events.StageFailed{}
			return ms
		}, "has a stage.failed"},
	} {
		check := newOnceCheck([]string{"ours"})
		var records []eventlog.Record
		for _, m := range append(c.change(jobFacts("ours")), jobFacts("a probe")[:3]...) {
			r, err := record(events.TopicJobEvents, m)
			if err != nil {
				t.Fatal(err)
			}
			records = append(records, r)
		}
		if err := check.add(records); err != nil {
			t.Fatal(err)
		}
		err := check.verdict()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestOnceStopsAtWhatItCannotRead(t *testing.T) {
	t.Parallel()
	if err := newOnceCheck([]string{"x"}).add([]eventlog.Record{{Key: "x", Value: []byte("{")}}); err == nil {
		t.Error("half a record passed")
	}
}
