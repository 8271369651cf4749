// The conformance suite on a broker in memory, and the parts of it that need no broker.

package eventlog_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func TestConformanceInMemory(t *testing.T) {
	t.Parallel()
	eventlogtest.Conformance(t, func(t *testing.T) eventlog.Config {
		_, cfg := eventlogtest.Fake(t)
		return cfg
	})
}

func TestOpenReportsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := eventlog.Open(eventlog.Config{
		Partitions: -1, Instance: "a b", BrokerVersion: "nine", LanePartitions: map[string]int{"nap": 1, "tts": -1},
	})
	for _, want := range []string{"brokers: none given", "partitions: -1", `instance: "a b"`, `no lane is called "nap"`, `-1 for "tts"`, `"nine" is not known`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}

// Commands of many partitions are accepted together, not in a transaction for each.
func TestLaneAcceptsTogether(t *testing.T) {
	t.Parallel()
	const n = 64
	_, cfg := eventlogtest.Fake(t)
	cfg.LanePartitions = map[string]int{events.LaneTTS: n}
	l := eventlogtest.Open(t, cfg)
	var cmds []eventlog.Record
	for p := range int32(n) {
		cmds = append(cmds, eventlog.Record{Topic: events.LaneTopic(events.LaneTTS), Partition: p, Key: "job", Value: []byte("{}")})
	}
	if err := l.Produce(t.Context(), cmds...); err != nil {
		t.Fatal(err)
	}
	running := make(chan struct{}, n)
	lane, err := l.NewLanes(eventlog.LaneConfig{
		Lane: events.LaneTTS, Slots: n, Grace: time.Millisecond,
		Accept: func(cmd eventlog.Record) (eventlog.Acceptance, error) {
			return eventlog.Acceptance{Record: eventlog.Record{Topic: events.TopicTaskEvents, Key: cmd.Key}}, nil
		},
		Run: func(ctx context.Context, _ eventlog.Record) ([]eventlog.Record, error) {
			running <- struct{}{}
			<-ctx.Done()
			return nil, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), eventlogtest.Patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- lane.Run(ctx) }()
	for range n {
		select {
		case <-running:
		case <-ctx.Done():
			t.Fatal("not all commands run at once")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if txns := eventlogtest.Transactions(t, l); txns > n/4 {
		t.Errorf("%d commands were accepted in %v transactions, want a few", n, txns)
	}
}

// A wake cuts a wait short; it must not leave behind what has arrived, or commands would
// wait for as long as others are accepted.
func TestAWakeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	_, cfg := eventlogtest.Fake(t)
	l := eventlogtest.Open(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), eventlogtest.Patience)
	defer cancel()
	if err := l.Produce(ctx, eventlog.Record{Topic: events.TopicJobCommands, Key: "job", Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if n, err := l.FetchWoken(ctx, "woken", events.TopicJobCommands); err != nil || n != 1 {
		t.Errorf("a woken fetch brought %d records, %v; want the one that was held", n, err)
	}
}

// counting answers nothing and tells of every transaction's inputs.
type counting struct{ decided chan string }

func (counting) Recover(context.Context, int32, string) error { return nil }
func (counting) Meta(int32, []eventlog.Record) string         { return "" }
func (counting) Committed(int32, []eventlog.Record)           {}
func (counting) Drop(int32)                                   {}

func (c counting) Decide(_ context.Context, in eventlog.Record) ([]eventlog.Record, error) {
	c.decided <- in.Key
	return nil, nil
}

// Inputs that nobody waits for wait for others, but not for ever.
func TestPatientInputsAreDecided(t *testing.T) {
	t.Parallel()
	_, cfg := eventlogtest.Fake(t)
	l := eventlogtest.Open(t, cfg)
	ctx, cancel := context.WithTimeout(t.Context(), eventlogtest.Patience)
	defer cancel()
	d := counting{make(chan string, 10)}
	asked := make(chan string, 100)
	r, err := l.NewRunner(eventlog.RunnerConfig{
		Group: "patient", Topics: []string{events.TopicJobCommands}, Decider: d,
		Patient: func(in eventlog.Record) bool { asked <- in.Key; return in.Key == "patient" },
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	for _, key := range []string{"patient", "hurried"} {
		if err := l.Produce(ctx, eventlog.Record{Topic: events.TopicJobCommands, Key: key}); err != nil {
			t.Fatal(err)
		}
		if got := <-asked; got != key {
			t.Errorf("%s was asked about, want %s", got, key)
		}
		select {
		case got := <-d.decided:
			if got != key {
				t.Errorf("%s was decided, want %s", got, key)
			}
		case <-ctx.Done():
			t.Fatalf("%s was never decided", key)
		}
		for len(asked) > 0 {
			<-asked
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
