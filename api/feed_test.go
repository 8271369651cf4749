// Tests of the live feed's ring and queues.

package api

import (
	"testing"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

func TestASlowClientIsCutAndOthersAreNot(t *testing.T) {
	t.Parallel()
	f := newFeed(Config{})
	f.begin = map[int32]int64{0: 0}
	slow, _, _, err := f.subscribe("job", 0)
	ok(t, err)
	quick, _, _, err := f.subscribe("job", 0)
	ok(t, err)
	for i := range int64(queueSize + 1) {
		f.mu.Lock()
		f.send("job", frame{event: &eventView{JobID: "job", at: position{0, i}}})
		f.mu.Unlock()
		<-quick.queue
	}
	n := 0
	for range slow.queue {
		n++
	}
	if n != queueSize || len(f.subs["job"]) != 1 {
		t.Errorf("the slow client got %d frames, %d clients are left", n, len(f.subs["job"]))
	}
	f.unsubscribe(slow) // again, as its handler does
	f.unsubscribe(quick)
	if len(f.subs) != 0 {
		t.Errorf("clients left: %v", f.subs)
	}
}

func TestProgressGivesWayToEvents(t *testing.T) {
	t.Parallel()
	f := newFeed(Config{})
	f.begin = map[int32]int64{0: 0}
	sub, _, _, err := f.subscribe("job", 0)
	ok(t, err)
	for range 10 * queueSize {
		f.send("job", frame{progress: &progressView{}})
	}
	f.send("job", frame{event: &eventView{JobID: "job"}})
	events := 0
	for range len(sub.queue) {
		if x := <-sub.queue; x.event != nil {
			events++
		}
	}
	if events != 1 {
		t.Errorf("%d events arrived behind much progress, want 1", events)
	}
}

func TestTheRingKnowsWhatItForgot(t *testing.T) {
	t.Parallel()
	f := newFeed(Config{})
	f.begin = map[int32]int64{0: 10, 1: 5}
	for i := range int64(ringSize) {
		f.keep(&eventView{JobID: "a", at: position{0, 10 + 2*i}})
	}
	if f.begin[0] != 10 {
		t.Fatalf("begin %v before anything was forgotten", f.begin)
	}
	for i := range int64(3) {
		f.keep(&eventView{JobID: "b", at: position{1, 5 + i}})
	}
	_, held, begin, err := f.subscribe("b", 1)
	if err != nil || begin != 5 || len(held) != 3 || held[0].at.offset != 5 || held[2].at.offset != 7 {
		t.Errorf("held %v from %d, %v", held, begin, err)
	}
	// Offsets 10, 12 and 14 left: 15 and later are complete.
	if _, held, begin, _ := f.subscribe("a", 0); begin != 15 || len(held) != ringSize-3 || held[0].at.offset != 16 {
		t.Errorf("begin %d, %d held", begin, len(held))
	}
}

func TestEventsOfANewerProgramAreShown(t *testing.T) {
	t.Parallel()
	e, err := readEvent(eventlog.Record{Partition: 2, Offset: 9, Value: []byte(`{"event_id":"e","event_type":"job.teleported","schema_version":9,"aggregate_id":"j",
		"aggregate_version":4,"occurred_at":"2026-11-23T12:00:00Z","tenant":"default","job_id":null,"stage":"beam","data":{"new":1}}`)})
	if err != nil || e.Type != "job.teleported" || e.JobID != "j" || e.Version != 4 || *e.Stage != "beam" || e.Position != "2:9" || string(e.Data) != `{"new":1}` || e.tenant != "default" {
		t.Errorf("event %+v, %v", e, err)
	}
}
