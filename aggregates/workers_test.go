// What the manifests say together.

package aggregates_test

import (
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

func TestWorkers(t *testing.T) {
	t.Parallel()
	say := func(w *aggregates.Workers, id string, at time.Time, m events.WorkerManifest) {
		w.Apply(events.Message{AggregateID: id, OccurredAt: at, Data: m})
	}
	speaks := events.WorkerManifest{Tasks: []events.TaskCapability{{Task: aggregates.TaskSpeech}}, Unavailable: []events.TaskGap{{Task: aggregates.TaskLipsync, Reason: "no weights"}}}
	var w aggregates.Workers
	look := func(at time.Time) (map[string]bool, map[string][]events.TaskGap) {
		can := map[string]bool{}
		for _, task := range w.Engines(at).Tasks() {
			can[task] = true
		}
		return can, w.Gaps(at)
	}
	if can, _ := look(start); len(can) > 0 {
		t.Fatal("nobody can do anything")
	}
	w.Apply(events.Message{AggregateID: "x", Data: events.JobSucceeded{}}) // no manifest
	say(&w, "a", start, speaks)
	can, gaps := look(start)
	if !can[aggregates.TaskSpeech] || can[aggregates.TaskLipsync] || gaps[aggregates.TaskLipsync][0].Reason != "no weights" {
		t.Errorf("one worker: %v, %v", can, gaps)
	}
	say(&w, "b", start, events.WorkerManifest{Tasks: []events.TaskCapability{{Task: aggregates.TaskLipsync}}})
	if can, gaps = look(start); !can[aggregates.TaskLipsync] || len(gaps) != 1 {
		t.Errorf("another worker fills the gap, which stays one of the first: %v, %v", can, gaps)
	}
	say(&w, "b", start.Add(-time.Second), events.WorkerManifest{})
	if can, _ = look(start); !can[aggregates.TaskLipsync] {
		t.Error("an older manifest won")
	}
	say(&w, "b", start.Add(time.Second), events.WorkerManifest{Tasks: []events.TaskCapability{{Task: aggregates.TaskLipsync}}, Stopped: true})
	if can, _ = look(start); can[aggregates.TaskLipsync] {
		t.Error("a stopped worker still counts")
	}
	if alive := w.Alive(start.Add(aggregates.WorkerSilence + time.Second)); len(alive) > 0 {
		t.Errorf("a silent worker still counts: %v", alive)
	}
}

func TestEnginesOfWorkers(t *testing.T) {
	t.Parallel()
	var w aggregates.Workers
	tell := func(id string, caps ...events.TaskCapability) {
		w.Apply(events.Message{AggregateID: id, OccurredAt: start, Data: events.WorkerManifest{Tasks: caps}})
	}
	tell("a", events.TaskCapability{Task: "t", Engine: "z", Version: "1"}, events.TaskCapability{Task: "t", Engine: "b", Model: "m"})
	tell("b", events.TaskCapability{Task: "t", Engine: "z", Version: "1"})
	if got := w.Engines(start).Name(events.Node{Task: "t"}, "", false); got != "b//m z/1/" {
		t.Errorf("engines are %s", got)
	}
}
