// What a reader makes of partitions whose leaders move.

package eventlog_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// inputs is a decider that decides nothing and passes on what it is given.
type inputs chan eventlog.Record

func (inputs) Recover(context.Context, int32, string) error { return nil }
func (inputs) Meta(int32, []eventlog.Record) string         { return "" }
func (inputs) Committed(int32, []eventlog.Record)           {}
func (inputs) Drop(int32)                                   {}
func (i inputs) Decide(_ context.Context, in eventlog.Record) ([]eventlog.Record, error) {
	i <- in
	return nil, nil
}

// TestAMarkerOfALaterLeaderIsNoLoss has a transaction whose marker another leader
// writes than its records. A client that forgot the marker's epoch would ask the next
// leader where the records' one ended, which is before the marker, and take what lies
// behind for lost.
func TestAMarkerOfALaterLeaderIsNoLoss(t *testing.T) {
	t.Parallel()
	topics := []string{events.TopicJobCommands}
	for name, read := range map[string]func(context.Context, *eventlog.Log, inputs) error{
		"runner": func(ctx context.Context, log *eventlog.Log, heard inputs) error {
			r, err := log.NewRunner(eventlog.RunnerConfig{Group: "leaders", Topics: topics, Decider: heard})
			if err != nil {
				return err
			}
			return r.Run(ctx)
		},
		"consumer": func(ctx context.Context, log *eventlog.Log, heard inputs) error {
			return log.Consume(ctx, eventlog.ConsumerConfig{Group: "leaders", Topics: topics, Handle: func(_ context.Context, r eventlog.Record) error {
				heard <- r
				return nil
			}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			markersOfLaterLeaders(t, read)
		})
	}
}

func markersOfLaterLeaders(t *testing.T, read func(context.Context, *eventlog.Log, inputs) error) {
	cluster, cfg := eventlogtest.Fake(t, kfake.NumBrokers(2))
	cfg.Partitions = 1
	log := eventlogtest.Open(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), eventlogtest.Patience)
	defer cancel()
	topic := "myspinbot." + events.TopicJobCommands
	move := func(to int32) {
		if err := cluster.MoveTopicPartition(topic, 0, to); err != nil {
			t.Fatal(err)
		}
	}
	writer, err := kgo.NewClient(kgo.SeedBrokers(cfg.Brokers...), kgo.TransactionalID("writer"), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()

	heard := make(inputs, 10)
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- read(running, log, heard) }()
	next := func(want string) {
		select {
		case r := <-heard:
			if string(r.Value) != want {
				t.Fatalf("read %q, want %q", r.Value, want)
			}
		case err := <-ended:
			t.Fatalf("before %q the reader ended with %v", want, err)
		case <-ctx.Done():
			t.Fatalf("%q is not read", want)
		}
	}
	// tell writes a record, in a transaction whose marker another leader writes if it
	// is to move to one.
	tell := func(value string, to int32) {
		if err := writer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := writer.ProduceSync(ctx, &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		move(to)
		if err := writer.EndTransaction(ctx, kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		next(value)
	}
	for _, value := range []string{"one", "two", "three", "four"} {
		tell(value, 1)
		move(0) // the client asks this one where the last epoch it knows has ended
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("the reader ended with %v", err)
	}
}
