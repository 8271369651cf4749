// Transactions that nobody ends: which are left alone, and how the others are ended.

package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func TestHangingTransactions(t *testing.T) {
	t.Parallel()
	_, cfg := eventlogtest.Fake(t)
	hangingTransactions(t, cfg)
}

// hangingTransactions opens a transaction with a lane's command that was decided from
// input 3 of jobs.commands/0, in several surroundings, and ends it.
func hangingTransactions(t *testing.T, cfg eventlog.Config) {
	for name, c := range map[string]struct {
		committed int64 // of the group in jobs.commands/0; -1: none
		again     bool  // another producer has decided the input as well
		want      bool  // that the transaction had committed
	}{
		"the input is behind":        {4, false, true},
		"the input is still to come": {3, false, false},
		"nothing was committed":      {-1, false, false},
		"it was decided once more":   {4, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Prefix = fmt.Sprintf("h%d.", time.Now().UnixNano())
			cfg.Partitions = 3
			l := eventlogtest.Open(t, cfg)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			at := eventlog.TopicPartition{Topic: events.LaneTopic(events.LaneTTS)}
			cl := openTransaction(ctx, t, cfg, at)
			if c.committed >= 0 {
				var offsets kadm.Offsets
				offsets.AddOffset(cfg.Prefix+events.TopicJobCommands, 0, c.committed, -1)
				if _, err := kadm.NewClient(cl).CommitOffsets(ctx, cfg.Prefix+"g", offsets); err != nil {
					t.Fatal(err)
				}
			}
			if c.again {
				r := eventlog.Record{Topic: events.TopicJobEvents, Key: keyIn(0, 3), Value: []byte("x")}
				for _, h := range source() {
					r.Headers = append(r.Headers, eventlog.Header{Key: h.Key, Value: string(h.Value)})
				}
				if err := l.Produce(ctx, r); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.LookAfterOpen(ctx, at, events.TopicJobEvents); err != nil {
				t.Fatal(err)
			}
			if r := ranges(ctx, t, l, at); r.Stable != 0 || r.End == 0 {
				t.Fatalf("a transaction that its coordinator knows was touched: %+v", r)
			}
			var committed bool
			var err error
			eventlogtest.Eventually(t, time.Minute, "the group's coordinator answers", func() bool {
				committed, err = l.EndOpen(ctx, at, "g", events.TopicJobEvents)
				return !errors.Is(err, eventlog.ErrUnavailable)
			})
			if err != nil || committed != c.want {
				t.Fatalf("committed %v, %v; want %v", committed, err, c.want)
			}
			eventlogtest.Eventually(t, time.Minute, "readers get past it", func() bool {
				r := ranges(ctx, t, l, at)
				return r.Stable == r.End
			})
			n := 0
			if _, err := l.Read(ctx, eventlog.Offsets{at: 0}, func(rs []eventlog.Record) error { n += len(rs); return nil }); err != nil {
				t.Fatal(err)
			}
			if (n == 1) != c.want {
				t.Errorf("readers see %d records", n)
			}
		})
	}
}

func source() []kgo.RecordHeader {
	return []kgo.RecordHeader{
		{Key: eventlog.HeaderSourceTopic, Value: []byte(events.TopicJobCommands)}, {Key: eventlog.HeaderSourcePartition, Value: []byte("0")},
		{Key: eventlog.HeaderSourceOffset, Value: []byte("3")},
	}
}

func openTransaction(ctx context.Context, t *testing.T, cfg eventlog.Config, at eventlog.TopicPartition) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.TransactionalID(cfg.Prefix+"g/gone"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	r := &kgo.Record{Topic: cfg.Prefix + at.Topic, Partition: at.Partition, Key: []byte("j"), Value: []byte("run"), Headers: source()}
	if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return cl
}

func ranges(ctx context.Context, t *testing.T, l *eventlog.Log, at eventlog.TopicPartition) eventlog.Range {
	t.Helper()
	all, err := l.Ranges(ctx, at.Topic)
	if err != nil {
		t.Fatal(err)
	}
	return all[at]
}

// keyIn is a key that lies in the partition.
func keyIn(partition int32, n int) string {
	for i := 0; ; i++ {
		if key := strconv.Itoa(i); eventlog.PartitionFor(key, n) == partition {
			return key
		}
	}
}

// hangingOffsets opens a transaction that has accepted the command at offset 3 of a
// lane, lets it end in gpu.events alone, and ends it in the group's offsets.
func hangingOffsets(t *testing.T, cfg eventlog.Config) {
	for _, committed := range []bool{true, false} {
		cfg.Prefix = fmt.Sprintf("o%d.", time.Now().UnixNano())
		cfg.Partitions = 3
		l := eventlogtest.Open(t, cfg)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		events1 := eventlog.TopicPartition{Topic: events.TopicTaskEvents, Partition: 1}
		cl := openTransaction(ctx, t, cfg, events1)
		commitInTransaction(ctx, t, cl, cfg.Prefix)
		if err := l.Mark(ctx, events1, committed); err != nil {
			t.Fatal(err)
		}
		got, err := l.EndOpen(ctx, eventlog.TopicPartition{Topic: "__consumer_offsets"}, "g", events.TopicJobEvents, events.TopicTaskEvents)
		if err != nil || got != committed {
			t.Fatalf("committed %v, %v; want %v", got, err, committed)
		}
		eventlogtest.Eventually(t, time.Minute, "the group's offset is what it should be", func() bool {
			offsets, _, err := l.FetchCommitted(ctx, "g")
			at, known := offsets[eventlog.TopicPartition{Topic: events.TopicJobCommands}]
			return committed && at == 4 || !committed && (err != nil || !known || at < 0)
		})
	}
}

// commitInTransaction adds the group's offset 4 of jobs.commands/0 to the open transaction.
func commitInTransaction(ctx context.Context, t *testing.T, cl *kgo.Client, prefix string) {
	t.Helper()
	id, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		t.Fatal(err)
	}
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = prefix+"g/gone", id, epoch, prefix+"g"
	if resp, err := add.RequestWith(ctx, cl); err != nil || resp.ErrorCode != 0 {
		t.Fatalf("%v %v", resp, err)
	}
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.Group, commit.ProducerID, commit.ProducerEpoch, commit.Generation = prefix+"g/gone", prefix+"g", id, epoch, -1
	topic := kmsg.NewTxnOffsetCommitRequestTopic()
	topic.Topic = prefix + events.TopicJobCommands
	p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	p.Offset = 4
	topic.Partitions = append(topic.Partitions, p)
	commit.Topics = append(commit.Topics, topic)
	if resp, err := commit.RequestWith(ctx, cl); err != nil || resp.Topics[0].Partitions[0].ErrorCode != 0 {
		t.Fatalf("%v %v", resp, err)
	}
}
