// What the runner, a lane and producing cost, on a broker in memory.

package eventlog_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// benchRecord has the size and the headers of an event.
func benchRecord(topic string, n int) eventlog.Record {
	return eventlog.Record{
		Topic: topic, Key: fmt.Sprintf("0192f1a2-0000-7000-8000-%012d", n), Value: make([]byte, 700),
		Headers: []eventlog.Header{
			{Key: "ce_id", Value: "0192f1a2-7a3b-7c4d-8e5f-001122334455"}, {Key: "ce_type", Value: "stage.scheduled"}, {Key: "ce_source", Value: "myspinbot"},
			{Key: "ce_specversion", Value: "1.0"}, {Key: "ce_time", Value: "2026-01-02T03:04:05.123456789Z"}, {Key: "ce_subject", Value: "0192f1a2"},
			{Key: "content-type", Value: "application/json"}, {Key: "traceparent", Value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		},
	}
}

// fourfold answers each input with four records.
type fourfold struct {
	committed atomic.Int64
	all       int64
	done      chan struct{}
}

func (f *fourfold) Recover(context.Context, int32, string) error { return nil }
func (f *fourfold) Meta(int32, []eventlog.Record) string         { return "meta" }
func (f *fourfold) Drop(int32)                                   {}

func (f *fourfold) Committed(_ int32, out []eventlog.Record) {
	if f.committed.Add(int64(len(out))) == f.all {
		close(f.done)
	}
}

func (f *fourfold) Decide(_ context.Context, in eventlog.Record) ([]eventlog.Record, error) {
	out := make([]eventlog.Record, 4)
	for i := range out {
		out[i] = eventlog.Record{Topic: events.TopicJobEvents, Key: in.Key, Value: in.Value, Headers: in.Headers}
	}
	return out, nil
}

func BenchmarkRunner(b *testing.B) {
	_, cfg := eventlogtest.Fake(b)
	cfg.Partitions = 12
	l := eventlogtest.Open(b, cfg)
	fill(b, l, b.N, func(n int) eventlog.Record { return benchRecord(events.TopicJobCommands, n) })
	f := &fourfold{all: 4 * int64(b.N), done: make(chan struct{})}
	r, err := l.NewRunner(eventlog.RunnerConfig{Group: "bench", Topics: []string{events.TopicJobCommands, events.TopicTaskEvents}, Decider: f})
	if err != nil {
		b.Fatal(err)
	}
	run(b, r.Run, f.done)
}

// fill writes n records, a few hundred at a time.
func fill(b *testing.B, l *eventlog.Log, n int, record func(int) eventlog.Record) {
	b.Helper()
	for i := 0; i < n; i += 500 {
		var rs []eventlog.Record
		for k := i; k < min(n, i+500); k++ {
			rs = append(rs, record(k))
		}
		if err := l.Produce(b.Context(), rs...); err != nil {
			b.Fatal(err)
		}
	}
}

func run(b *testing.B, start func(context.Context) error, done <-chan struct{}) {
	b.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	b.ReportAllocs()
	b.ResetTimer()
	go func() { ended <- start(ctx) }()
	select {
	case <-done:
	case err := <-ended:
		b.Fatalf("ended with %v", err)
	}
	b.StopTimer()
	cancel()
	if err := <-ended; err != nil {
		b.Error(err)
	}
}

// A lane of 64 partitions and as many slots, whose commands end at once.
func BenchmarkLane(b *testing.B) {
	_, cfg := eventlogtest.Fake(b)
	cfg.LanePartitions = map[string]int{events.LaneTTS: 64}
	l := eventlogtest.Open(b, cfg)
	fill(b, l, b.N, func(n int) eventlog.Record {
		r := benchRecord(events.LaneTopic(events.LaneTTS), n)
		r.Partition = int32(n % 64) //nolint:gosec // below 64
		return r
	})
	done := make(chan struct{})
	var ran atomic.Int64
	lane, err := l.NewLanes(eventlog.LaneConfig{
		Lane: events.LaneTTS, Slots: 64,
		Accept: func(cmd eventlog.Record) (eventlog.Acceptance, error) {
			return eventlog.Acceptance{Record: benchRecord(events.TopicTaskEvents, int(cmd.Offset)), Attempt: "0192f1a2-7a3b-7c4d-8e5f-001122334455"}, nil
		},
		Run: func(_ context.Context, cmd eventlog.Record) ([]eventlog.Record, error) {
			if ran.Add(1) == int64(b.N) {
				close(done)
			}
			return []eventlog.Record{benchRecord(events.TopicTaskEvents, int(cmd.Offset))}, nil
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	run(b, lane.Run, done)
	b.ReportMetric(float64(b.N)/eventlogtest.Transactions(b, l), "accepts/txn")
}

// Producing one record after the other, and by many at once.
func BenchmarkProduce(b *testing.B) {
	for _, callers := range []int{1, 64, 512} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			_, cfg := eventlogtest.Fake(b)
			cfg.Partitions = 12
			l := eventlogtest.Open(b, cfg)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ReportAllocs()
			b.ResetTimer()
			began := time.Now()
			for range callers {
				wg.Go(func() {
					for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
						if err := l.Produce(context.Background(), benchRecord(events.TopicTaskEvents, int(n))); err != nil {
							b.Error(err)
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(time.Since(began).Microseconds())*float64(callers)/float64(b.N), "µs-each")
		})
	}
}
