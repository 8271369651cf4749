// What the worker itself costs: commands that make nothing, as fast as they go.

package gpu

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// BenchmarkNoop is one command from its lane to its result on a broker in memory, with
// 64 partitions and 64 slots.
func BenchmarkNoop(b *testing.B) {
	const slots = 64
	broker, cfg := eventlogtest.Fake(b)
	var requests atomic.Int64
	broker.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		broker.KeepControl()
		requests.Add(1)
		return nil, nil, false
	})
	cfg.Partitions, cfg.LanePartitions = 12, map[string]int{events.LaneRender: slots}
	log := eventlogtest.Open(b, cfg)
	w, err := New(Config{
		Log: log, Objects: &objects.Store{}, Keyring: objects.NewKeyring(nil, [32]byte{}), Worker: "w1", Slots: map[string]int{events.LaneRender: slots},
		Engines: NoopEngines(), TempDir: b.TempDir(), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	var cmds []eventlog.Record
	for i := range b.N {
		job := events.NameID("bench", fmt.Sprint(i))
		value, err := events.Encode(events.Message{
			ID: events.AttemptID(job, "render", 1), AggregateType: events.AggregateJob, AggregateID: job, OccurredAt: time.Now(),
			CommandID: job, CausationID: job, CorrelationID: job, Tenant: "default", Actor: "handler",
			Columns: events.Columns{JobID: job, Stage: "render", Task: "noop.render", Attempt: 1, Lane: events.LaneRender, Variant: "noop"},
			Data: events.TaskRun{Params: map[string]any{"work_ms": 0, "fail_attempts": 0}, Subject: "default/-/" + job, Plane: events.PlaneGPU,
				Mode: "diagnostic", Workflow: "diagnostic", TimeoutMS: 60_000},
		})
		if err != nil {
			b.Fatal(err)
		}
		cmds = append(cmds, eventlog.Record{Topic: events.LaneTopic(events.LaneRender), Partition: int32(i % slots), Key: job, Value: value})
	}
	for len(cmds) > 0 {
		n := min(len(cmds), 1000)
		if err := log.Produce(b.Context(), cmds[:n]...); err != nil {
			b.Fatal(err)
		}
		cmds = cmds[n:]
	}
	requests.Store(0)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	b.ResetTimer()
	go func() { ended <- w.Run(ctx) }()
	left := 2 * b.N // accepted and succeeded
	err = log.Tail(ctx, log.Whole(events.TopicTaskEvents), func(batch eventlog.Batch) error {
		if left -= len(batch.Records); left <= 0 {
			cancel()
		}
		return nil
	}, nil)
	b.StopTimer()
	if err != nil {
		b.Fatal(err)
	}
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(2*b.N)/float64(requests.Load()), "records/request")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}
