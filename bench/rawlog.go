package main

// This file reads and writes the log without anything of ours in between, for limits and for
// histories that are written rather than lived through.

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// rawWriter writes records to the partitions that they name.
func rawWriter(d *deployment) (*kgo.Client, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.services.broker), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(20*time.Millisecond), kgo.MetadataMinAge(50*time.Millisecond), kgo.DisableClientMetrics())
	if err != nil {
		return nil, fmt.Errorf("cannot write to the log: %w", err)
	}
	return cl, nil
}

// writeAll writes records in their order and waits for all.
func writeAll(ctx context.Context, cl *kgo.Client, records []*kgo.Record) error {
	failed := make(chan error, 1)
	for _, r := range records {
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default: // one is enough
				}
			}
		})
	}
	err := cl.Flush(ctx)
	select {
	case err = <-failed:
	default:
	}
	if err != nil {
		return fmt.Errorf("cannot write to the log: %w", err)
	}
	return nil
}

// rangesOf is what the topics hold. Partitions that were made a moment ago have no leader at first.
func rangesOf(ctx context.Context, log *eventlog.Log, topics ...string) (map[eventlog.TopicPartition]eventlog.Range, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		ranges, err := log.Ranges(ctx, topics...)
		if !errors.Is(err, eventlog.ErrUnavailable) {
			return ranges, err
		}
		if late := wait(ctx, 100*time.Millisecond, nil); late != nil {
			return nil, errors.Join(err, late)
		}
	}
}

// rawReader reads committed records and does nothing else with them: the driver shares the machine
// with what it measures.
func rawReader(d *deployment, from eventlog.Offsets, more ...kgo.Opt) (*kgo.Client, error) {
	parts := map[string]map[int32]kgo.Offset{}
	for at, offset := range from {
		name := d.prefix + at.Topic
		if parts[name] == nil {
			parts[name] = map[int32]kgo.Offset{}
		}
		parts[name][at.Partition] = kgo.NewOffset().At(offset)
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(d.services.broker), kgo.ConsumePartitions(parts), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxWait(500 * time.Millisecond), kgo.FetchMaxPartitionBytes(4 << 20), kgo.DisableClientMetrics()}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("cannot read the log: %w", err)
	}
	return cl, nil
}

// scan hands every committed record of the topics to fn, in order within each partition. The
// position, not a record, tells the end: markers of transactions take offsets too.
func scan(ctx context.Context, d *deployment, log *eventlog.Log, fn func(*kgo.Record), topics ...string) error {
	ranges, err := rangesOf(ctx, log, topics...)
	if err != nil {
		return err
	}
	from, left := eventlog.Offsets{}, map[eventlog.TopicPartition]int64{}
	for at, r := range ranges {
		if r.Start < r.Stable {
			from[at], left[at] = r.Start, r.Stable
		}
	}
	if len(left) == 0 {
		return nil
	}
	cl, err := rawReader(d, from, kgo.KeepControlRecords())
	if err != nil {
		return err
	}
	defer cl.Close()
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("cannot read the log: %w", err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			at := eventlog.TopicPartition{Topic: d.topicOf(r), Partition: r.Partition}
			end, ok := left[at]
			if !ok {
				return // beyond what was there at the call
			}
			if !r.Attrs.IsControl() {
				fn(r)
			}
			if r.Offset+1 >= end {
				delete(left, at)
			}
		})
	}
	return nil
}

// topicOf is the record's topic without the deployment's prefix.
func (d *deployment) topicOf(r *kgo.Record) string { return r.Topic[len(d.prefix):] }

// raw is a record as the client writes it, to a partition of one of the topics keyed by job.
func (d *deployment) raw(r eventlog.Record) *kgo.Record {
	out := &kgo.Record{Topic: d.prefix + r.Topic, Partition: r.Partition, Key: []byte(r.Key), Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)})
	}
	return out
}

// announceWorker says that some worker does the noop tasks, for as long as any measure takes:
// without one the handler rejects jobs.
func announceWorker(ctx context.Context, log *eventlog.Log) error {
	m := events.WorkerManifest{Slots: map[string]int{}, Running: map[string]int{}}
	for _, lane := range noopLanes {
		m.Tasks = append(m.Tasks, events.TaskCapability{Task: "noop." + lane, Lane: lane, Engine: "noop", Version: "1", Fidelity: events.FidelitySimulated})
		m.Slots[lane] = 1
	}
	id := events.NameID("bench", "worker")
	r, err := record(events.TopicWorkers, events.Message{
		ID: id, AggregateType: events.AggregateWorker, AggregateID: "bench", OccurredAt: time.Now().Add(time.Hour).UTC(), // never silent for long
		CommandID: id, CausationID: id, CorrelationID: id, Tenant: "default", Actor: "bench", Data: m,
	})
	if err != nil {
		return err
	}
	return log.Produce(ctx, r)
}
