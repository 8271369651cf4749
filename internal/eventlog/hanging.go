// Hanging transactions: a broker that was killed may forget to end a transaction in
// some of its partitions. Nobody ends it there any more, and readers of committed
// records wait before it for ever. Kafka knows them (KIP-664) and leaves them to an
// operator, who cannot know how they ended. Here that can be told: every record names
// the input that it was decided from, and the group's offsets say whether that input
// is behind.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// openTransaction is one that is open in one partition.
type openTransaction struct {
	at       TopicPartition
	producer producer
	start    int64 // offset of its first record there
}

// producer is who writes a transaction. Its epoch rises with every new session.
type producer struct {
	id    int64
	epoch int16
}

// EndHanging looks after transactions that nobody will end, until ctx ends. Journals
// are the topics whose records name the inputs that they were decided from. It returns
// no error: without it an administrator of the broker has to do the same.
func (l *Log) EndHanging(ctx context.Context, journals ...string) {
	// What is open for longer than the broker lets any transaction be is not on its way.
	patience := l.cfg.TransactionTimeout + 5*time.Second
	seen := make(map[openTransaction]time.Time) // when first
	for wait(ctx, patience/5) == nil {
		open, err := l.openTransactions(ctx)
		if err != nil {
			continue // an outage; others tell of it
		}
		now := time.Now()
		maps.DeleteFunc(seen, func(t openTransaction, _ time.Time) bool { _, still := open[t]; return !still })
		for t, p := range open {
			if seen[t].IsZero() {
				seen[t] = now
			}
			if now.Sub(seen[t]) < patience || offsetsHang(open, t) {
				continue
			}
			if err := l.endHanging(ctx, t, p, journals); err != nil && ctx.Err() == nil {
				l.cfg.Logger.Error("a transaction hangs, and readers wait before it; end it with: kafka-transactions.sh find-hanging, then abort",
					"at", t.at.String(), "offset", t.start, "producer", t.producer.id, "error", err)
				delete(seen, t) // again after the same patience
			}
		}
	}
}

// offsetsHang says whether the same transaction hangs in the group's offsets too: these
// come first, for they tell how it ended elsewhere.
func offsetsHang(open map[openTransaction]kadm.DescribedProducer, t openTransaction) bool {
	for o := range open {
		if o.at.Topic == topicOffsets && o.producer == t.producer {
			return t.at.Topic != topicOffsets
		}
	}
	return false
}

// openTransactions finds what keeps readers from the ends of partitions, and groups
// from their offsets.
func (l *Log) openTransactions(ctx context.Context) (map[openTransaction]kadm.DescribedProducer, error) {
	ranges, err := l.Ranges(ctx, slices.Collect(maps.Keys(l.specs))...)
	if err != nil {
		return nil, err
	}
	var blocked kadm.TopicsSet
	for tp, r := range ranges {
		if r.Stable < r.End {
			blocked.Add(l.cfg.Prefix+tp.Topic, tp.Partition)
		}
	}
	if err := l.blockedOffsets(ctx, &blocked); err != nil {
		return nil, err
	}
	open := make(map[openTransaction]kadm.DescribedProducer)
	if len(blocked) == 0 {
		return open, nil
	}
	described, err := l.admin.DescribeProducers(ctx, blocked)
	if err != nil {
		return nil, err
	}
	described.EachProducer(func(p kadm.DescribedProducer) {
		if p.CurrentTxnStartOffset >= 0 {
			tp := TopicPartition{strings.TrimPrefix(p.Topic, l.cfg.Prefix), p.Partition}
			open[openTransaction{tp, producer{p.ProducerID, p.ProducerEpoch}, p.CurrentTxnStartOffset}] = p
		}
	})
	return open, nil
}

// endHanging ends a transaction in a partition that its coordinator knows nothing of.
func (l *Log) endHanging(ctx context.Context, t openTransaction, p kadm.DescribedProducer, journals []string) error {
	listed, err := l.admin.ListTransactions(ctx, []int64{t.producer.id}, nil)
	if err != nil {
		return err
	}
	ids := listed.TransactionalIDs()
	for _, id := range ids {
		x, err := l.admin.DescribeTransactions(ctx, id)
		if err != nil {
			return err
		}
		if d := x[id]; d.Topics.Lookup(p.Topic, p.Partition) {
			return nil // its coordinator will end it
		}
	}
	if len(ids) != 1 || !strings.HasPrefix(ids[0], l.cfg.Prefix) {
		return fmt.Errorf("its producer has the transactional ids %v, none of ours", ids)
	}
	group, _, _ := strings.Cut(strings.TrimPrefix(ids[0], l.cfg.Prefix), "/")
	settle := l.hasCommitted
	if t.at.Topic == topicOffsets {
		settle = l.offsetsHaveCommitted
	}
	commit, err := settle(ctx, t, group, journals)
	if err != nil {
		return err
	}
	return l.writeMarker(ctx, p, commit)
}

func (l *Log) writeMarker(ctx context.Context, p kadm.DescribedProducer, commit bool) error {
	var at kadm.TopicsSet
	at.Add(p.Topic, p.Partition)
	written, err := l.admin.WriteTxnMarkers(ctx, kadm.TxnMarkers{
		ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch, CoordinatorEpoch: p.CoordinatorEpoch, Commit: commit, Topics: at,
	})
	if err != nil {
		return err
	}
	for _, r := range written.SortedPartitions() {
		err = errors.Join(err, r.Err)
	}
	if err == nil {
		l.cfg.Logger.Warn("ended a transaction that hung", "topic", p.Topic, "partition", p.Partition, "offset", p.CurrentTxnStartOffset, "committed", commit)
	}
	return err
}

// hasCommitted says how the transaction ended elsewhere. It committed if the group is
// past the inputs of its records, unless these inputs were decided once more: then
// what came of them lies behind it, or in a journal under another producer.
func (l *Log) hasCommitted(ctx context.Context, t openTransaction, group string, journals []string) (bool, error) {
	ours, others, err := l.sourcesFrom(ctx, t)
	if err != nil {
		return false, err
	}
	if len(ours) == 0 {
		return false, errors.New("none of its records names its input")
	}
	offsets, _, err := l.FetchCommitted(ctx, group)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return false, err
	}
	for source := range ours {
		if offsets[source.tp] <= source.offset || others[source] {
			return false, nil
		}
	}
	for source, at := range ours {
		if by, found, err := l.decider(ctx, t.at, source, at, journals); err != nil || found && by != t.producer {
			return false, err
		}
	}
	return true, nil
}

// source is an input that a record was decided from.
type source struct {
	tp     TopicPartition
	offset int64
}

func sourceOf(r Record) (source, bool) {
	p, err := strconv.ParseInt(r.Header(HeaderSourcePartition), 10, 32)
	o, err2 := strconv.ParseInt(r.Header(HeaderSourceOffset), 10, 64)
	return source{TopicPartition{r.Header(HeaderSourceTopic), int32(p)}, o}, err == nil && err2 == nil
}

// sourcesFrom reads the partition from the transaction's start, open transactions
// included: the inputs of its own records with their times, and those of all others'.
func (l *Log) sourcesFrom(ctx context.Context, t openTransaction) (ours map[source]time.Time, others map[source]bool, err error) {
	ours, others = make(map[source]time.Time), make(map[source]bool)
	err = l.readRaw(ctx, t.at, t.start, kgo.ReadUncommitted(), func(k *kgo.Record, r Record) {
		s, named := sourceOf(r)
		switch {
		case !named:
		case producer{k.ProducerID, k.ProducerEpoch} == t.producer:
			ours[s] = r.Time
		default:
			others[s] = true
		}
	})
	return ours, others, err
}

// decider finds the producer of the committed facts that were decided from an input,
// if any were. Facts lie in the journals' partition of the input's number.
func (l *Log) decider(ctx context.Context, hangs TopicPartition, s source, at time.Time, journals []string) (by producer, found bool, err error) {
	for _, journal := range journals {
		tp := TopicPartition{journal, s.tp.Partition}
		if tp == hangs || l.Partitions(journal) != l.Partitions(s.tp.Topic) {
			continue
		}
		since, err := l.Since(ctx, journal, at.Add(-time.Minute))
		if err != nil {
			return by, false, err
		}
		err = l.readRaw(ctx, tp, since[tp], kgo.ReadCommitted(), func(k *kgo.Record, r Record) {
			if have, named := sourceOf(r); named && have == s {
				by, found = producer{k.ProducerID, k.ProducerEpoch}, true
			}
		})
		if err != nil || found {
			return by, found, err
		}
	}
	return by, false, nil
}

// readRaw reads a partition to its end with the producers of its records.
func (l *Log) readRaw(ctx context.Context, tp TopicPartition, from int64, isolation kgo.IsolationLevel, fn func(*kgo.Record, Record)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	name := l.cfg.Prefix + tp.Topic
	if tp.Topic == topicOffsets {
		name = topicOffsets
	}
	list := l.admin.ListEndOffsets
	if isolation == kgo.ReadCommitted() {
		list = l.admin.ListCommittedOffsets
	}
	starts, err := l.admin.ListStartOffsets(ctx, name)
	if err != nil {
		return err
	}
	ends, err := list(ctx, name)
	if err != nil {
		return err
	}
	first, _ := starts.Lookup(name, tp.Partition)
	last, _ := ends.Lookup(name, tp.Partition)
	from, end := max(from, first.Offset), last.Offset
	if from >= end {
		return nil
	}
	cl, err := l.client(kgo.FetchIsolationLevel(isolation),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: {tp.Partition: kgo.NewOffset().At(from)}}))
	if err != nil {
		return err
	}
	defer cl.Close()
	for next := from; next < end; {
		fetches := cl.PollRecords(ctx, 0)
		if err := l.fetchError(ctx, fetches); err != nil {
			return err
		}
		fetches.EachRecord(func(k *kgo.Record) {
			next = k.Offset + 1
			if !k.Attrs.IsControl() && k.Offset < end {
				fn(k, incoming(k, tp.Topic))
			}
		})
	}
	return nil
}
