package main

// Tests of the open loop that offers commands.

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

func TestCommandsAreOfferedAtTheirTimeWhateverBecameOfThoseBefore(t *testing.T) {
	t.Parallel()
	p := pickup{rate: 1000, warm: 5, count: 20}
	var sent []int
	due, err := p.offer(context.Background(), func(n int) { sent = append(sent, n) })
	if err != nil || len(due) != 25 || len(sent) != 25 {
		t.Fatalf("%d of 25 sent, %d due, %v", len(sent), len(due), err)
	}
	seen := map[int]time.Time{}
	for n := range due {
		if want := due[0].Add(time.Duration(n) * time.Millisecond); sent[n] != n || !due[n].Equal(want) {
			t.Errorf("command %d, sent as %d, was due at %v, want %v", n, sent[n], due[n], want)
		}
		seen[n] = due[n].Add(time.Duration(n) * time.Second)
	}
	took, err := p.took(due, seen)
	if err != nil || len(took) != 20 || took[0] != 5*time.Second || took[19] != 24*time.Second {
		t.Errorf("took %v, %v", took, err)
	}
	delete(seen, 24)
	if _, err := p.took(due, seen); err == nil || !strings.Contains(err.Error(), "command 24") {
		t.Errorf("a lost command passed: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (pickup{rate: 1, count: 2}).offer(ctx, func(int) {}); err == nil {
		t.Error("an ended context did not end the offering")
	}
}

func TestALaneCommandIsWhatALaneTakes(t *testing.T) {
	t.Parallel()
	r, err := laneCommand("x", 9, 4, map[string]any{"work_ms": 250})
	if err != nil {
		t.Fatal(err)
	}
	m, err := events.Decode(r.Value)
	if err != nil {
		t.Fatal(err)
	}
	if r.Topic != "gpu.script.commands" || r.Partition != 1 || m.ID != events.AttemptID(m.JobID, m.Stage, m.Attempt) || m.Data.(events.TaskRun).Params["work_ms"] != 250. {
		t.Errorf("got %+v on %s/%d", m, r.Topic, r.Partition)
	}
}
