// Random lives of random jobs, through every outcome of their transactions.

package handlers

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// world draws inputs for a memory.
type world struct {
	*memory
	t       *rapid.T
	past    []eventlog.Record // inputs that came before
	pending []eventlog.Record // the clock's
}

func (w *world) draw() eventlog.Record {
	t := w.t
	id := fmt.Sprint("job-", rapid.IntRange(0, 4).Draw(t, "job"))
	stage := rapid.SampledFrom([]string{events.LaneScript, events.LaneTTS, events.LaneRender, events.LaneLipsync}).Draw(t, "stage")
	attempt := rapid.IntRange(1, 3).Draw(t, "attempt")
	switch rapid.IntRange(0, 13).Draw(t, "kind") {
	case 0, 1, 2:
		s := diagnostic()
		s.Request.Approval = rapid.Bool().Draw(t, "approval")
		s.Request.BodyDigest = rapid.SampledFrom([]string{"body", "another"}).Draw(t, "body")
		if rapid.Bool().Draw(t, "batch") {
			s.Request.Priority = events.PriorityBatch
		}
		if rapid.IntRange(0, 4).Draw(t, "later") == 0 {
			s.Request.NotBeforeMS = w.now.Add(time.Hour).UnixMilli()
		}
		if rapid.IntRange(0, 9).Draw(t, "impossible") == 0 {
			s.Request.Priority = "never"
		}
		return w.command(id, s)
	case 3:
		return w.command(id, events.JobCancel{})
	case 4:
		return w.command(id, events.JobApprove{})
	case 5:
		return w.command(id, events.JobDeny{})
	case 6, 7:
		return w.answer(id, stage, attempt, events.TaskAccepted{LeaseMS: 15_000})
	case 8, 9:
		return w.answer(id, stage, attempt, events.TaskSucceeded{})
	case 10:
		return w.answer(id, stage, attempt, events.TaskFailed{})
	case 11:
		return w.answer(id, stage, attempt, events.TaskCancelled{})
	case 12:
		if len(w.past) > 0 { // delivered again
			return rapid.SampledFrom(w.past).Draw(t, "again")
		}
	}
	if len(w.pending) == 0 {
		w.now = w.now.Add(time.Duration(rapid.IntRange(1, 900).Draw(t, "wait")) * time.Second)
		w.pending = w.h.Due(w.now)
	}
	if len(w.pending) == 0 {
		return w.command(id, events.JobCancel{})
	}
	r := w.pending[0]
	w.pending = w.pending[1:]
	return r
}

// TestRecoveryIsTheState runs random jobs through random transactions, aborted ones
// and ones of unknown outcome among them, and restarts at any point. What recovery
// builds from the commit's text equals what was live, and what it builds from the
// whole log; every command has one reply; every chain is legal.
func TestRecoveryIsTheState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := &world{memory: newMemory(), t: t}
		w.carryAfter = int64(rapid.IntRange(1, 30).Draw(t, "carry after"))
		w.restart()
		for range rapid.IntRange(1, 40).Draw(t, "transactions") {
			var inputs []eventlog.Record
			for range rapid.IntRange(1, 5).Draw(t, "inputs") {
				inputs = append(inputs, w.draw())
			}
			end := rapid.SampledFrom([]int{committed, committed, committed, aborted, unknown}).Draw(t, "end")
			out, err := w.attempt(end, inputs...)
			if err != nil {
				t.Fatal(err)
			}
			if end != aborted {
				w.past = append(w.past, inputs...)
				checkReplies(t, inputs, out)
			}
			compare(t, w.memory, w.meta, w.picture())
			if rapid.IntRange(0, 5).Draw(t, "restart") == 0 {
				w.restart()
			}
		}
		compare(t, w.memory, "", w.picture())
		if n := metricValue(w.h.metrics.rejected); n != 0 {
			t.Fatalf("%g facts broke their chain", n)
		}
		foldWhole(t, w.memory)
		compareRebuilt(t, w.memory)
	})
}

// compare recovers a second core and wants it to be in that state.
func compare(t *rapid.T, m *memory, meta string, want []string) {
	second := *m
	second.meta = meta
	second.restart()
	if got := second.picture(); !reflect.DeepEqual(got, want) {
		t.Fatalf("recovered from %q\n%s\nwas\n%s", meta, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// compareRebuilt loses the index and wants the rebuilt one to be equal.
func compareRebuilt(t *rapid.T, m *memory) {
	before := entries(t, m.topics[events.TopicJobIndex])
	second := *m
	second.topics = maps.Clone(m.topics)
	delete(second.topics, events.TopicJobIndex)
	second.restart()
	if _, err := second.transact(second.command("nobody", events.JobCancel{})); err != nil {
		t.Fatal(err)
	}
	if after := entries(t, second.topics[events.TopicJobIndex]); !reflect.DeepEqual(after, before) {
		t.Fatalf("the rebuilt index is\n%v\nit was\n%v", after, before)
	}
}

func entries(t *rapid.T, records []eventlog.Record) map[string]events.IndexEntry {
	out := map[string]events.IndexEntry{}
	for _, r := range records {
		var e events.IndexEntry
		if err := json.Unmarshal(r.Value, &e); err != nil {
			t.Fatal(err)
		}
		out[r.Key] = e
	}
	return out
}

// checkReplies wants one reply to every command, with the state that it led to.
func checkReplies(t *rapid.T, inputs, out []eventlog.Record) {
	want, got := map[string]int{}, map[string]int{}
	for _, r := range inputs {
		m, err := events.Decode(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if answered(m.Data.(events.JobInput)) {
			want[m.CommandID]++
		}
	}
	for _, r := range out {
		if r.Topic != events.TopicJobReplies {
			continue
		}
		m, err := events.Decode(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		d := m.Data.(events.CommandReplied)
		if d.Outcome == events.OutcomeRefused != (d.Code != "") || d.Outcome == events.OutcomeAccepted && d.Version == 0 {
			t.Fatalf("the reply %+v", d)
		}
		got[m.CommandID]++
	}
	if !maps.Equal(got, want) {
		t.Fatalf("replies %v to commands %v", got, want)
	}
}

// foldWhole folds the whole of jobs.events from nothing: every fact continues its
// chain, none comes after a terminal one, and time never goes back.
func foldWhole(t *rapid.T, m *memory) {
	jobs := map[string]aggregates.Job{}
	var last time.Time
	for _, r := range m.topics[events.TopicJobEvents] {
		f, err := events.Decode(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if jobs[r.Key].Terminal() {
			t.Fatalf("%s of %s after its end", f.Type(), r.Key)
		}
		if f.OccurredAt.Before(last) {
			t.Fatalf("%s of %s occurred at %s, after a fact of %s", f.Type(), r.Key, f.OccurredAt, last)
		}
		last = f.OccurredAt
		if f.Version == 1 != (jobs[r.Key].Chain.Version == 0) {
			t.Fatalf("%s of %s has version %d", f.Type(), r.Key, f.Version)
		}
		next, err := jobs[r.Key].Apply(f)
		if err != nil {
			t.Fatal(err)
		}
		jobs[r.Key] = next
	}
	for id, j := range jobs {
		live := slices.Contains(slices.Collect(maps.Keys(m.h.parts[0].jobs)), keyOf(id))
		if live == j.Terminal() {
			t.Fatalf("%s is %s on the log, and live in memory: %v", id, j.State, live)
		}
	}
}
