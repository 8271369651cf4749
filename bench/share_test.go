package main

// Tests of the handler's limit: the loop writes what it is told, once, and paces are added up rightly.

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
)

// toldStory has two inputs for each of n jobs, and what was written for them.
func toldStory(n int) (*story, outcomes) {
	s, written := &story{}, outcomes{}
	for i := range n {
		p := int32(i % 12) //nolint:gosec // small
		key := []byte(fmt.Sprint("job ", i))
		s.commands = append(s.commands, &kgo.Record{Partition: p, Key: key, Value: []byte("command")})
		s.answers = append(s.answers, &kgo.Record{Partition: p, Key: key, Value: []byte("answer")})
		at := int64(i / 12)
		fact := &kgo.Record{Topic: events.TopicJobEvents, Partition: p, Key: key, Value: []byte("fact")}
		written[position{events.TopicJobCommands, p, at}] = []*kgo.Record{fact}
		written[position{events.TopicTaskEvents, p, at}] = []*kgo.Record{fact, fact, fact, {Topic: events.TopicJobIndex, Partition: p, Key: key, Value: []byte("entry")}}
	}
	return s, written
}

func TestTheLoopWritesWhatTheHandlerWrote(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	d, log := fakeDeployment(t)
	s, written := toldStory(48)
	for _, p := range s.phases() {
		if err := p.give(ctx, d); err != nil {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		var loopErr error
		go func() {
			defer close(ended)
			loopErr = runLoop(running, d, written)
		}()
		if _, err := watchGroup(ctx, log, p.topic, int64(len(p.inputs)), ended); err != nil {
			t.Fatal(err)
		}
		stop()
		<-ended
		if loopErr != nil {
			t.Fatal(loopErr)
		}
	}
	counts := map[string]int{}
	if err := scan(ctx, d, log, func(r *kgo.Record) { counts[string(r.Value)+" of "+string(r.Key)]++ }, events.TopicJobEvents, events.TopicJobIndex); err != nil {
		t.Fatal(err)
	}
	for i := range s.commands {
		if job := fmt.Sprint(" of job ", i); counts["fact"+job] != 4 || counts["entry"+job] != 1 {
			t.Errorf("job %d: %d facts and %d entries, want 4 and 1", i, counts["fact"+job], counts["entry"+job])
		}
	}
}

func TestTheRateCountsBothPhasesByWhatWasTimed(t *testing.T) {
	t.Parallel()
	s, written := toldStory(100)
	// Half of the 100 records of the first phase in a second, all 400 of the second in three.
	got, err := s.rate([]pace{{50, time.Second}, {100, 3 * time.Second}}, written)
	if want := (50. + 400) / 4; err != nil || got != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := s.rate([]pace{{}, {}}, written); err == nil || !strings.Contains(err.Error(), "BENCH_SHARE_JOBS") {
		t.Errorf("no time at all: %v", err)
	}
	for at := range written {
		if at.topic == events.TopicTaskEvents {
			written[at] = written[at][:1]
		}
	}
	if _, err := s.rate([]pace{{50, time.Second}, {100, time.Second}}, written); err == nil || !strings.Contains(err.Error(), "not followed") {
		t.Errorf("a story cut short passed: %v", err)
	}
}

func TestWatchingEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	_, log := fakeDeployment(t)
	ended := make(chan struct{})
	close(ended)
	if _, err := watchGroup(context.Background(), log, events.TopicJobCommands, 5, ended); err == nil || !strings.Contains(err.Error(), "only 0 of 5") {
		t.Errorf("got %v", err)
	}
}
