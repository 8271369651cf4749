package main

// Tests that a written history is what a handler of ours recovers from, and of what is read around it.

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/handlers"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// fakeDeployment is one on a broker in memory, with its log.
func fakeDeployment(t *testing.T) (*deployment, *eventlog.Log) {
	t.Helper()
	_, cfg := eventlogtest.Fake(t)
	d := (&services{broker: cfg.Brokers[0], dir: t.TempDir()}).newDeployment(t.TempDir(), "test", 2)
	cfg.Prefix, cfg.LanePartitions, cfg.Instance, cfg.Partitions = d.prefix, d.lanes(), "bench", 12
	return d, eventlogtest.Open(t, cfg)
}

func TestAHandlerRecoversAWrittenHistory(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	d, log := fakeDeployment(t)
	h := history{live: 30, finished: 170}
	c, err := h.write(ctx, d, log)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	if err := scan(ctx, d, log, func(r *kgo.Record) { counts[d.topicOf(r)]++ }, events.TopicJobEvents, events.TopicJobIndex); err != nil {
		t.Fatal(err)
	}
	if counts[events.TopicJobEvents] != 3*(h.live+h.finished) || counts[events.TopicJobIndex] != h.finished || c.records != 4*h.finished+3*h.live {
		t.Errorf("the history holds %v, %d records written", counts, c.records)
	}
	for round := range 2 { // the second time after a handler was there
		if err := c.reset(ctx, log); err != nil {
			t.Fatal(err)
		}
		before, err := stableEnds(ctx, log, events.TopicJobCommands)
		if err != nil {
			t.Fatal(err)
		}
		if err := log.Produce(ctx, oneCommandEach(len(before))...); err != nil {
			t.Fatal(err)
		}
		handler, err := handlers.New(handlers.Config{Log: log, Lanes: d.lanes(), Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- handler.Run(running) }()
		for at, end := range before {
			for {
				offsets, err := committed(ctx, log)
				if err != nil {
					t.Fatal(err)
				}
				if offsets[at] > end {
					break
				}
				if err := wait(ctx, 10*time.Millisecond, nil); err != nil {
					t.Fatalf("round %d: nothing was decided in %s: %v", round, at, err)
				}
			}
		}
		if got := handler.Live(); got != h.live {
			t.Errorf("round %d: %d live jobs, want %d", round, got, h.live)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestOneCommandEachReachesEveryPartition(t *testing.T) {
	t.Parallel()
	seen := map[int32]bool{}
	for _, r := range oneCommandEach(12) {
		seen[eventlog.PartitionFor(r.Key, 12)] = true
	}
	if len(seen) != 12 {
		t.Errorf("%d of 12 partitions", len(seen))
	}
}

func TestTheHeapIsReadFromTheMetrics(t *testing.T) {
	t.Parallel()
	got, err := parseHeap("# HELP x y\ngo_memstats_heap_alloc_bytes 2.5e+06\ngo_memstats_heap_alloc_bytes_total 9\n")
	if err != nil || got != 2.5e6 {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := parseHeap("nothing"); err == nil {
		t.Error("metrics without a heap passed")
	}
}
