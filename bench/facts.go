package main

// This file writes the facts of whole jobs straight onto the log, many and fast: what tables are
// made from, without anybody having lived through it.

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// factsPerJob is how many facts a diagnostic job of four lanes has: submitted, planned, three for
// each stage, succeeded.
const factsPerJob = 15

// inFlight is how many jobs go on side by side in a written log.
const inFlight = 100

// factsOf are the facts of the n-th job, in order.
func factsOf(n int) []events.Message {
	t := teller{id: events.JobID("bench", "facts", strconv.Itoa(n)), variant: aggregates.VariantNoop, now: time.Now().UTC()}
	graph := events.Graph{Workflow: aggregates.WorkflowDiagnostic, Mode: aggregates.ModeDiagnostic, Variant: aggregates.VariantNoop}
	for _, lane := range noopLanes {
		graph.Nodes = append(graph.Nodes, events.Node{ID: lane, Task: aggregates.NoopTask(lane), Plane: events.PlaneGPU, Lane: lane,
			Weight: 1 / float64(len(noopLanes)), TimeoutMS: 60_000})
	}
	for i, lane := range noopLanes[1:] {
		graph.Edges = append(graph.Edges, events.Edge{From: noopLanes[i], To: lane})
	}
	t.add(events.JobSubmitted{Request: events.Request{Workflow: graph.Workflow, Mode: graph.Mode, Variant: graph.Variant,
		BodyDigest: "hmac-sha256:" + events.NameID("digest", t.id), KeyDigest: "hmac-sha256:" + events.NameID("key", t.id)}}, events.Columns{State: "queued"})
	t.add(events.JobPlanned{Graph: graph, DeadlineMS: t.now.Add(time.Hour).UnixMilli()}, events.Columns{State: "queued"})
	for _, lane := range noopLanes {
		c := events.Columns{Stage: lane, Task: aggregates.NoopTask(lane), Lane: lane, Attempt: 1, State: "running"}
		t.add(events.StageScheduled{InputHash: events.NameID("input", t.id, lane), TimeoutMS: 60_000}, c)
		c.Worker = "bench"
		t.add(events.StageStarted{}, c)
		c.DurationMS = 1000
		t.add(events.StageSucceeded{Result: events.Result{Engine: "noop", Fidelity: events.FidelitySimulated}}, c)
	}
	t.add(events.JobSucceeded{}, events.Columns{State: "succeeded", DurationMS: 4000})
	return t.told
}

// teller chains the facts of one job.
type teller struct {
	id      string
	variant string
	now     time.Time
	chain   events.Chain
	told    []events.Message
}

func (t *teller) add(data events.Payload, c events.Columns) {
	t.now = t.now.Add(time.Millisecond)
	c.JobID, c.Variant = t.id, t.variant
	m := events.Message{
		ID: events.EventID(t.now, t.id, int(t.chain.Version)), SchemaVersion: data.SchemaVersion(), AggregateType: events.AggregateJob, AggregateID: t.id,
		Version: t.chain.Version + 1, PrevID: t.chain.LastID, OccurredAt: t.now, CommandID: t.id, CausationID: t.id, CorrelationID: t.id,
		Tenant: "default", Actor: "bench", Columns: c, Data: data,
	}
	t.chain = t.chain.Next(m)
	t.told = append(t.told, m)
}

// writeFacts writes the facts of jobs from…until-1, which facts makes, a hundred jobs side by side.
func writeFacts(ctx context.Context, d *deployment, log *eventlog.Log, from, until int, facts func(n int) []events.Message) error {
	cl, err := rawWriter(d)
	if err != nil {
		return err
	}
	defer cl.Close()
	partitions := log.Partitions(events.TopicJobEvents)
	for ; from < until; from += inFlight {
		var group [][]events.Message
		for n := from; n < min(from+inFlight, until); n++ {
			group = append(group, facts(n))
		}
		var records []*kgo.Record
		for i := range len(group[0]) {
			for _, facts := range group {
				r, err := factRecord(d, facts[i], partitions)
				if err != nil {
					return err
				}
				records = append(records, r)
			}
		}
		if err := writeAll(ctx, cl, records); err != nil {
			return err
		}
	}
	return nil
}

func factRecord(d *deployment, m events.Message, partitions int) (*kgo.Record, error) {
	r, err := record(events.TopicJobEvents, m)
	if err != nil {
		return nil, fmt.Errorf("cannot write a fact: %w", err)
	}
	r.Partition = eventlog.PartitionFor(m.AggregateID, partitions)
	return d.raw(r), nil
}
