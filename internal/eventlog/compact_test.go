// Reading what compaction has left.

package eventlog_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func TestReplayReachesTheEndOfACompactedTopic(t *testing.T) {
	t.Parallel()
	c, cfg := eventlogtest.Fake(t)
	l := eventlogtest.Open(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), eventlogtest.Patience)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	zero := "0" // tombstones go at once
	if _, err := kadm.NewClient(cl).AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "delete.retention.ms", Value: &zero}}, "myspinbot."+events.TopicJobIndex); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		r := eventlog.Record{Topic: events.TopicJobIndex, Key: "k", Value: []byte(strconv.Itoa(i))}
		if i == 29 {
			r.Value = nil
		}
		if err := l.Produce(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	c.Compact()
	c.Compact()
	at := eventlog.TopicPartition{Topic: events.TopicJobIndex, Partition: eventlog.PartitionFor("k", 3)}
	left := 0
	next, err := l.Replay(ctx, at, 0, func(rs []eventlog.Record) error {
		left += len(rs)
		return nil
	})
	if err != nil || next != 30 || left >= 30 {
		t.Errorf("the replay reached %d with %d records (%v), want 30 with fewer", next, left, err)
	}
}
