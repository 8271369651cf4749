// How the parts of the log are used.

package eventlog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// open opens a log with its topics on a broker in memory.
func open() (*eventlog.Log, func()) {
	broker := kfake.MustCluster(kfake.NumBrokers(1))
	l, err := eventlog.Open(eventlog.Config{Brokers: broker.ListenAddrs(), Partitions: 1, Logger: slog.New(slog.DiscardHandler)})
	if err == nil {
		err = l.EnsureTopics(context.Background())
	}
	if err != nil {
		panic(err) // an example has nobody to tell
	}
	return l, func() { l.Close(); broker.Close() }
}

// counter numbers the commands of each partition.
type counter struct {
	log   *eventlog.Log
	mu    sync.Mutex    // recoveries run side by side
	count map[int32]int // as committed
	ahead map[int32]int // decided in the open transaction
}

func (c *counter) Recover(ctx context.Context, p int32, _ string) error {
	n := 0
	_, err := c.log.Replay(ctx, eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: p}, 0, func(rs []eventlog.Record) error {
		n += len(rs)
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count[p], c.ahead[p] = n, 0
	return err
}

func (c *counter) Decide(_ context.Context, in eventlog.Record) ([]eventlog.Record, error) {
	if len(in.Value) == 0 {
		return nil, fmt.Errorf("%w: it is empty", eventlog.ErrUndecodable)
	}
	c.ahead[in.Partition]++
	n := c.count[in.Partition] + c.ahead[in.Partition]
	return []eventlog.Record{{Topic: events.TopicJobEvents, Key: in.Key, Value: fmt.Appendf(nil, "%d: %s", n, in.Value)}}, nil
}

func (c *counter) Meta(int32, []eventlog.Record) string { return "" }

func (c *counter) Committed(p int32, _ []eventlog.Record) {
	c.count[p], c.ahead[p] = c.count[p]+c.ahead[p], 0
}

func (c *counter) Drop(p int32) {
	delete(c.count, p)
	delete(c.ahead, p)
}

func ExampleRunner() {
	l, done := open()
	defer done()
	runner, err := l.NewRunner(eventlog.RunnerConfig{
		Group: "job-handler", Topics: []string{events.TopicJobCommands}, Journals: []string{events.TopicJobEvents},
		Decider: &counter{log: l, count: make(map[int32]int), ahead: make(map[int32]int)},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ended := make(chan error)
	go func() { ended <- runner.Run(ctx) }()
	for _, v := range []string{"first", "", "second"} {
		if err := l.Produce(ctx, eventlog.Record{Topic: events.TopicJobCommands, Key: "job", Value: []byte(v)}); err != nil {
			fmt.Println(err)
		}
	}
	enough := errors.New("enough")
	err = l.Tail(ctx, l.Whole(events.TopicJobEvents), func(b eventlog.Batch) error {
		for _, r := range b.Records {
			fmt.Println(string(r.Value), "from offset", r.Header(eventlog.HeaderSourceOffset))
			if r.Header(eventlog.HeaderSourceOffset) == "2" {
				return enough
			}
		}
		return nil
	}, nil)
	cancel()
	fmt.Println(err, <-ended)
	// Output:
	// 1: first from offset 0
	// 2: second from offset 2
	// enough <nil>
}

func ExampleLog_Tail() {
	l, done := open()
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, worker := range []string{"w1", "w2", "w1"} {
		if err := l.Produce(ctx, eventlog.Record{Topic: events.TopicWorkers, Key: worker, Value: []byte("{}")}); err != nil {
			fmt.Println(err)
		}
	}
	workers := make(map[string][]byte) // guarded by a mutex where others read it
	err := l.Tail(ctx, l.Whole(events.TopicWorkers), func(b eventlog.Batch) error {
		for _, r := range b.Records {
			workers[r.Key] = r.Value
		}
		return nil
	}, func() {
		fmt.Println("ready with", len(workers), "workers")
		cancel() // this one follows no further
	})
	fmt.Println(err)
	// Output:
	// ready with 2 workers
	// <nil>
}

func ExampleReader() {
	l, done := open()
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, v := range []string{"a", "b", "c"} {
		if err := l.Produce(ctx, eventlog.Record{Topic: events.TopicJobEvents, Key: "job", Value: []byte(v)}); err != nil {
			fmt.Println(err)
		}
	}
	at := eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: 0}
	r, err := l.NewReader(eventlog.Offsets{at: 1}) // from the checkpoint
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	for checkpoint := int64(1); checkpoint < 3; {
		b, err := r.Poll(ctx, 1000)
		if err != nil { // ErrDataLoss: stop; otherwise make a new reader from the checkpoint
			fmt.Println(err)
			return
		}
		for _, rec := range b.Records {
			fmt.Println(rec.Offset, string(rec.Value))
		}
		checkpoint = b.Next[at] // stored with the rows; moves without records, too
	}
	// Output:
	// 1 b
	// 2 c
}

func ExampleLanes() {
	l, done := open()
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	lane, err := l.NewLanes(eventlog.LaneConfig{
		Lane: events.LaneTTS, Slots: 1,
		Accept: func(cmd eventlog.Record) (eventlog.Acceptance, error) {
			accepted := eventlog.Record{Topic: events.TopicTaskEvents, Key: cmd.Key, Value: []byte("accepted")}
			return eventlog.Acceptance{Record: accepted, Attempt: "the attempt's id"}, nil
		},
		Run: func(_ context.Context, cmd eventlog.Record) ([]eventlog.Record, error) {
			return []eventlog.Record{{Topic: events.TopicTaskEvents, Key: cmd.Key, Value: []byte("succeeded")}}, nil
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ended := make(chan error)
	go func() { ended <- lane.Run(ctx) }()
	if err := l.Produce(ctx, eventlog.Record{Topic: events.LaneTopic(events.LaneTTS), Partition: 1, Key: "job", Value: []byte("speak")}); err != nil {
		fmt.Println(err)
	}
	enough := errors.New("enough")
	err = l.Tail(ctx, l.Whole(events.TopicTaskEvents), func(b eventlog.Batch) error {
		for _, r := range b.Records {
			fmt.Println(r.Key, string(r.Value))
			if string(r.Value) == "succeeded" {
				return enough
			}
		}
		return nil
	}, nil)
	cancel()
	fmt.Println(err, <-ended)
	// Output:
	// job accepted
	// job succeeded
	// enough <nil>
}
