// The same for the groups' offsets: a transaction that hangs there keeps a member from
// its partitions, for the group waits until its offsets are stable.

package eventlog

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicOffsets is where brokers keep the offsets of groups.
const topicOffsets = "__consumer_offsets"

// blockedOffsets adds the partitions of the offsets' topic with open transactions.
func (l *Log) blockedOffsets(ctx context.Context, blocked *kadm.TopicsSet) error {
	ends, err := l.admin.ListEndOffsets(ctx, topicOffsets)
	if err != nil {
		return err
	}
	stable, err := l.admin.ListCommittedOffsets(ctx, topicOffsets)
	if err != nil {
		return err
	}
	ends.Each(func(end kadm.ListedOffset) {
		// Not every broker shows this topic.
		if s, ok := stable.Lookup(end.Topic, end.Partition); ok && end.Err == nil && s.Err == nil && s.Offset < end.Offset {
			blocked.Add(end.Topic, end.Partition)
		}
	})
	return nil
}

// offsetsHaveCommitted says how a transaction ended that hangs in the offsets' topic.
// It committed if readers see a record that its producer wrote from an input between
// the group's offset and the one that hangs. Without any such record it has decided
// nothing, or nothing of it is to be seen anywhere: then it is as if it had not been.
func (l *Log) offsetsHaveCommitted(ctx context.Context, t openTransaction, group string, journals []string) (bool, error) {
	hanging, at, err := l.hangingOffsets(ctx, t, group)
	if err != nil || len(hanging) == 0 {
		return false, err
	}
	before, _, err := l.FetchCommitted(ctx, group)
	if err != nil {
		return false, err
	}
	committed := false
	for _, journal := range journals {
		since, err := l.Since(ctx, journal, at.Add(-time.Minute))
		if err != nil {
			return false, err
		}
		for tp, from := range since {
			err := l.readRaw(ctx, tp, from, kgo.ReadCommitted(), func(k *kgo.Record, r Record) {
				s, named := sourceOf(r)
				end, hangs := hanging[s.tp]
				if named && hangs && (producer{k.ProducerID, k.ProducerEpoch}) == t.producer && s.offset >= before[s.tp] && s.offset < end {
					committed = true
				}
			})
			if err != nil || committed {
				return committed, err
			}
		}
	}
	return false, nil
}

// hangingOffsets are those that the transaction would commit, and when it wrote them.
func (l *Log) hangingOffsets(ctx context.Context, t openTransaction, group string) (offsets Offsets, at time.Time, err error) {
	offsets = make(Offsets)
	err = l.readRaw(ctx, t.at, t.start, kgo.ReadUncommitted(), func(k *kgo.Record, _ Record) {
		var key kmsg.OffsetCommitKey
		var value kmsg.OffsetCommitValue
		if (producer{k.ProducerID, k.ProducerEpoch}) != t.producer || key.ReadFrom(k.Key) != nil || value.ReadFrom(k.Value) != nil || key.Group != l.cfg.Prefix+group {
			return
		}
		if len(key.Topic) > len(l.cfg.Prefix) {
			offsets[TopicPartition{key.Topic[len(l.cfg.Prefix):], key.Partition}] = value.Offset
		}
		at = k.Timestamp
	})
	if err == nil && len(offsets) == 0 {
		err = fmt.Errorf("it holds no offsets of group %q", group)
	}
	return offsets, at, err
}
