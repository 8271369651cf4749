// What recovery costs a fact.

package handlers

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// past is a partition's history in memory.
type past struct {
	*bench
	facts, index []eventlog.Record
}

// decide puts an input through the core and keeps what recovery reads of the outcome.
func (p *past) decide(b *testing.B, job, command string, data events.Payload) {
	in, err := encode(events.TopicJobCommands, events.Message{ID: command, CommandID: command, CausationID: command, CorrelationID: command,
		AggregateType: events.AggregateJob, AggregateID: job, OccurredAt: start, Tenant: "default", Actor: "bench",
		Columns: events.Columns{JobID: job, Variant: aggregates.VariantNoop}, Data: data})
	if err != nil {
		b.Fatal(err)
	}
	out, err := p.h.Decide(in)
	if err != nil {
		b.Fatal(err)
	}
	for i, r := range out {
		switch r.Topic {
		case events.TopicJobEvents:
			out[i].Offset = int64(len(p.facts))
			p.facts = append(p.facts, out[i])
		case events.TopicJobIndex:
			out[i].Offset = int64(len(p.index))
			p.index = append(p.index, out[i])
		}
	}
	p.meta = p.h.Meta(0, out)
	p.h.Committed(0, out)
}

// replay hands out the history as a log does.
func (p *past) replay(_ context.Context, at eventlog.TopicPartition, from int64, fn func([]eventlog.Record) error) (int64, error) {
	records := map[string][]eventlog.Record{events.TopicJobEvents: p.facts, events.TopicJobIndex: p.index}[at.Topic]
	for some := range slices.Chunk(records[from:], 1000) {
		if err := fn(some); err != nil {
			return 0, err
		}
	}
	return int64(len(records)), nil
}

// newPast is a partition of which every eleventh job lives, and the others ended before their start.
func newPast(b *testing.B, jobs int) *past {
	p := &past{bench: newBench()}
	for n := range jobs {
		submit := diagnostic()
		job := events.JobID("default", "/v1/jobs", fmt.Sprint("key-", n))
		submit.Request.Workflow = aggregates.WorkflowDiagnostic
		submit.Request.BodyDigest = "hmac-sha256:" + events.NameID("digest", job)
		submit.Request.KeyDigest = "hmac-sha256:" + events.NameID("key", job)
		ends := n%11 != 0
		if ends {
			submit.Request.NotBeforeMS = start.Add(time.Hour).UnixMilli()
		}
		p.decide(b, job, events.NameID("submit", job), submit)
		if ends {
			over := time.UnixMilli(submit.Request.NotBeforeMS).Add(aggregates.DefaultPolicy().JobDeadline).UnixMilli()
			p.decide(b, job, events.NameID("clock", job), events.ClockDeadline{DeadlineMS: over})
		}
	}
	p.h.cfg.Replay = p.replay
	return p
}

// BenchmarkRecover reports the cost of a fact, with the index entries' share in it.
func BenchmarkRecover(b *testing.B) {
	p := newPast(b, 11_000)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if err := p.h.Recover(context.Background(), 0, p.meta); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(p.facts)), "ns/fact")
	if p.h.Live() != 1000 {
		b.Fatalf("%d jobs live, want 1000", p.h.Live())
	}
}
