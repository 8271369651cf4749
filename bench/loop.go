package main

// This file is the limit of a handler: a loop over the client's own transactional session, with the
// settings of internal/eventlog, that writes for each input the records it is told.

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/handlers"
)

// loopPoll is the most inputs in a transaction, as the handler has it.
const loopPoll = 1000

// loop gives the inputs to the loop and returns the records it wrote per second.
func (s *story) loop(ctx context.Context, services *services, root string, round int, written outcomes) (_ float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, shareWithin)
	defer cancel()
	d := services.newDeployment(root, "share-loop-"+strconv.Itoa(round), jobLanes())
	log, err := d.open(ctx)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	// The records to write lie in this process's heap, and looking after them is none of the loop's work.
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	var paces []pace
	for _, p := range s.phases() {
		if err := p.give(ctx, d); err != nil {
			return 0, err
		}
		loopCtx, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		var loopErr error
		go func() {
			defer close(ended)
			loopErr = runLoop(loopCtx, d, written)
		}()
		got, err := watchGroup(ctx, log, p.topic, int64(len(p.inputs)), ended)
		stop()
		<-ended
		if err := errors.Join(err, loopErr); err != nil {
			return 0, err
		}
		paces = append(paces, got)
	}
	return s.rate(paces, written)
}

// runLoop consumes and produces until ctx ends.
func runLoop(ctx context.Context, d *deployment, written outcomes) error {
	inputs := []string{d.prefix + events.TopicJobCommands, d.prefix + events.TopicTaskEvents, d.prefix + events.TopicProfileCommands}
	sess, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(d.services.broker), kgo.DisableClientMetrics(), kgo.MetadataMinAge(50*time.Millisecond),
		kgo.ConcurrentTransactionsBackoff(time.Millisecond), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(kgo.Lz4Compression(), kgo.NoCompression()), kgo.ProducerLinger(time.Second),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxPartitionBytes(4<<20), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.ConsumerGroup(d.prefix+handlers.Group), kgo.InstanceID("loop"), kgo.ConsumeTopics(inputs...), kgo.Balancers(kgo.RangeBalancer()),
		kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(time.Second), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.TransactionalID(d.prefix+"loop"), kgo.TransactionTimeout(20*time.Second),
	)
	if err != nil {
		return fmt.Errorf("cannot make the loop's session: %w", err)
	}
	defer sess.Close()
	for {
		fetches := sess.PollRecords(ctx, loopPoll)
		if ctx.Err() != nil {
			sess.AllowRebalance()
			return nil
		}
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("the loop cannot read: %w", err)
		}
		if err := transform(ctx, sess, d, fetches, written); err != nil {
			return err
		}
		sess.AllowRebalance()
	}
}

// transform writes what follows from the inputs and commits both.
func transform(ctx context.Context, sess *kgo.GroupTransactSession, d *deployment, fetches kgo.Fetches, written outcomes) error {
	if err := sess.Begin(); err != nil {
		return fmt.Errorf("the loop cannot begin a transaction: %w", err)
	}
	failed := make(chan error, 1)
	fetches.EachRecord(func(in *kgo.Record) {
		for _, r := range written[position{d.topicOf(in), in.Partition, in.Offset}] {
			out := &kgo.Record{Topic: d.prefix + r.Topic, Partition: r.Partition, Key: r.Key, Value: r.Value, Headers: r.Headers}
			sess.Produce(ctx, out, func(_ *kgo.Record, err error) {
				if err != nil {
					select {
					case failed <- err:
					default: // one is enough
					}
				}
			})
		}
	})
	// The first End after a rebalance may abort; the inputs come again then. Its end is never cut off.
	if _, err := sess.End(context.WithoutCancel(ctx), kgo.TryCommit); err != nil {
		return fmt.Errorf("the loop cannot commit: %w", err)
	}
	select {
	case err := <-failed:
		return fmt.Errorf("the loop cannot write: %w", err)
	default:
		return nil
	}
}
