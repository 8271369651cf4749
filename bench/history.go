package main

// This file writes the history of jobs as a handler would have left it: facts, the index of ended
// jobs and the committed metadata. The handler's own core decides them; only the log's transactions
// are left out.

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/handlers"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// history is jobs of three facts each, live and finished ones mixed evenly, so that recovery, which
// starts at the oldest live job, has to read all of it.
type history struct{ live, finished int }

// chronicle writes a history.
type chronicle struct {
	deployment *deployment
	core       *handlers.Core
	cl         *kgo.Client
	deadline   time.Duration               // of a job, from its start
	end        []int64                     // of jobs.events, by partition
	inputs     []int64                     // decided so far, by partition
	open       map[int32][]eventlog.Record // decided and not committed
	texts      map[int32]string            // of the newest commit
	records    int
	bytes      int64
	failed     chan error
}

// chronicleBatch is how many jobs a commit of the handler would hold.
const chronicleBatch = 200

// write writes the history into a log that has none, and commits what a handler would have.
func (h history) write(ctx context.Context, d *deployment, log *eventlog.Log) (*chronicle, error) {
	cl, err := rawWriter(d)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	partitions := log.Partitions(events.TopicJobEvents)
	c := &chronicle{deployment: d, cl: cl, deadline: aggregates.DefaultPolicy().JobDeadline, end: make([]int64, partitions), inputs: make([]int64, partitions),
		open: map[int32][]eventlog.Record{}, texts: map[int32]string{}, failed: make(chan error, 1)}
	nothing := func(_ context.Context, _ eventlog.TopicPartition, from int64, _ func([]eventlog.Record) error) (int64, error) {
		return from, nil
	}
	if c.core, err = handlers.NewCore(handlers.CoreConfig{Lanes: d.lanes(), Replay: nothing, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		return nil, err
	}
	if err := c.learn(ctx, log); err != nil {
		return nil, err
	}
	for n := range partitions {
		if err := c.core.Recover(ctx, int32(n), ""); err != nil { //nolint:gosec // partitions are few
			return nil, err
		}
	}
	if err := h.jobs(ctx, c); err != nil {
		return nil, err
	}
	for _, n := range slices.Sorted(maps.Keys(c.open)) {
		c.commit(n)
	}
	if err := c.cl.Flush(ctx); err != nil {
		return nil, fmt.Errorf("cannot write the history: %w", err)
	}
	select {
	case err := <-c.failed:
		return nil, fmt.Errorf("cannot write the history: %w", err)
	default:
	}
	return c, c.reset(ctx, log)
}

// learn tells the core, and the handlers that follow, of a worker.
func (c *chronicle) learn(ctx context.Context, log *eventlog.Log) error {
	if err := announceWorker(ctx, log); err != nil {
		return err
	}
	var workers []eventlog.Record
	_, err := log.Read(ctx, log.Whole(events.TopicWorkers), func(records []eventlog.Record) error {
		workers = append(workers, records...)
		return nil
	})
	c.core.Learn(workers)
	return err
}

// jobs decides all jobs, the live ones evenly among the others.
func (h history) jobs(ctx context.Context, c *chronicle) error {
	all := h.live + h.finished
	for n := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		id := events.JobID("bench", "history", strconv.Itoa(n))
		live := (n+1)*h.live/all > n*h.live/all
		if err := c.job(ctx, id, live); err != nil {
			return err
		}
	}
	return nil
}

// job decides a job of three facts: one that waits in its first lane, or one whose time is over
// before its start.
func (c *chronicle) job(ctx context.Context, id string, live bool) error {
	now := time.Now().UTC()
	request := events.Request{Workflow: aggregates.WorkflowDiagnostic, Mode: aggregates.ModeDiagnostic, Variant: aggregates.VariantNoop,
		BodyDigest: "hmac-sha256:" + events.NameID("digest", id), KeyDigest: "hmac-sha256:" + events.NameID("key", id)}
	start := now.Add(time.Hour)
	if !live {
		request.NotBeforeMS = start.UnixMilli()
	}
	if err := c.decide(ctx, id, events.NameID("submit", id), now, events.JobSubmit{Request: request}); err != nil || live {
		return err
	}
	over := time.UnixMilli(request.NotBeforeMS).Add(c.deadline).UnixMilli()
	return c.decide(ctx, id, events.NameID("clock", id), now, events.ClockDeadline{DeadlineMS: over})
}

// decide puts one input through the core and writes what recovery will read of the outcome.
func (c *chronicle) decide(ctx context.Context, id, command string, at time.Time, data events.Payload) error {
	in, err := record(events.TopicJobCommands, events.Message{
		ID: command, AggregateType: events.AggregateJob, AggregateID: id, OccurredAt: at, CommandID: command, CausationID: command,
		CorrelationID: command, Tenant: "default", Actor: "bench", Columns: events.Columns{JobID: id, Variant: aggregates.VariantNoop}, Data: data,
	})
	if err != nil {
		return err
	}
	n := eventlog.PartitionFor(id, len(c.end))
	in.Partition, in.Offset = n, c.inputs[n]
	c.inputs[n]++
	out, err := c.core.Decide(in)
	if err != nil {
		return err
	}
	for _, r := range out {
		switch r.Topic {
		case events.TopicJobEvents:
			r.Partition, r.Offset = n, c.end[n]
			c.end[n]++
		case events.TopicJobIndex:
			r.Partition = n
		default:
			c.open[n] = append(c.open[n], r)
			continue // lanes and clients have had it long ago
		}
		r.Headers = append(r.Headers, eventlog.Header{Key: eventlog.HeaderSourceTopic, Value: in.Topic},
			eventlog.Header{Key: eventlog.HeaderSourcePartition, Value: strconv.Itoa(int(n))}, eventlog.Header{Key: eventlog.HeaderSourceOffset, Value: strconv.FormatInt(in.Offset, 10)})
		c.open[n] = append(c.open[n], r)
		c.produce(ctx, r)
	}
	if len(c.open[n]) >= chronicleBatch*4 {
		c.commit(n)
	}
	return nil
}

func (c *chronicle) produce(ctx context.Context, r eventlog.Record) {
	c.records++
	c.bytes += int64(len(r.Key) + len(r.Value))
	c.cl.Produce(ctx, c.deployment.raw(r), func(_ *kgo.Record, err error) {
		if err != nil {
			select {
			case c.failed <- err:
			default: // one is enough
			}
		}
	})
}

func (c *chronicle) commit(n int32) {
	c.texts[n] = c.core.Meta(n, c.open[n])
	c.core.Committed(n, c.open[n])
	delete(c.open, n)
}

// reset makes the history's own commit the newest one again, at the present ends of the inputs. A
// handler that ran in between may have carried jobs forward; the next finds what this one found.
func (c *chronicle) reset(ctx context.Context, log *eventlog.Log) error {
	ends, err := stableEnds(ctx, log, handlers.Inputs()...)
	if err != nil {
		return err
	}
	offsets := kadm.Offsets{}
	for at, end := range ends {
		offsets.Add(kadm.Offset{Topic: c.deployment.prefix + at.Topic, Partition: at.Partition, At: end, LeaderEpoch: -1,
			Metadata: "1 bench " + c.texts[at.Partition]}) // count of commits, instance, text: see internal/eventlog
	}
	cl, err := rawWriter(c.deployment)
	if err != nil {
		return err
	}
	defer cl.Close()
	if err := kadm.NewClient(cl).CommitAllOffsets(ctx, c.deployment.prefix+handlers.Group, offsets); err != nil {
		return fmt.Errorf("cannot commit the history's position: %w", err)
	}
	return nil
}
