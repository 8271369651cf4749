package main

// This file tests what lies between two tasks of a slot.

import (
	"slices"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

func TestGapsLieBetweenTheRunsOfASlot(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.UnixMilli(int64(ms)) }
	got, err := gapsOf([]engineRun{{at(2030), at(3030)}, {at(0), at(1000)}, {at(1007), at(2007)}})
	if want := []time.Duration{7 * time.Millisecond, 23 * time.Millisecond}; err != nil || !slices.Equal(got, want) {
		t.Errorf("gaps are %v, %v; want %v", got, err, want)
	}
	if _, err := gapsOf([]engineRun{{at(0), at(1000)}, {at(999), at(2000)}}); err == nil {
		t.Error("two tasks at once pass for those of a slot")
	}
	if _, err := gapsOf([]engineRun{{at(0), at(1000)}}); err == nil {
		t.Error("one task has a gap")
	}
}

func TestARunIsReadFromItsResult(t *testing.T) {
	t.Parallel()
	result := func(notes ...string) []byte {
		value, err := events.Encode(events.Message{ID: "m", AggregateType: events.AggregateJob, AggregateID: "j", Data: events.TaskSucceeded{Result: events.Result{Engine: "noop", Notes: notes}}})
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	r, err := runOf(result("2026-11-01T12:00:00.000001Z", "2026-11-01T12:00:01Z"))
	if want := time.Second - time.Microsecond; err != nil || r.ended.Sub(r.began) != want {
		t.Errorf("the run took %v, %v; want %v", r.ended.Sub(r.began), err, want)
	}
	for _, bad := range [][]byte{result(), result("noon", "one"), []byte("nothing")} {
		if _, err := runOf(bad); err == nil {
			t.Errorf("%.80s passes for a result that tells when its engine ran", bad)
		}
	}
}
