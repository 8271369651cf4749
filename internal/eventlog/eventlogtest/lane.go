// Cases of the lane consumer and of the plain group consumer.

package eventlogtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// works counts what its lanes run.
type works struct {
	mu      sync.Mutex
	ran     map[string]int
	order   []string
	running map[int32]int // by partition
	most    map[int32]int
	peak    int // of all partitions together
	cancels int
	hold    chan struct{} // commands wait for its close, if any
}

func newWorks() *works {
	return &works{ran: make(map[string]int), running: make(map[int32]int), most: make(map[int32]int)}
}

func (w *works) run(ctx context.Context, cmd eventlog.Record) ([]eventlog.Record, error) {
	w.mu.Lock()
	w.ran[string(cmd.Value)]++
	w.order = append(w.order, string(cmd.Value))
	w.running[cmd.Partition]++
	w.most[cmd.Partition] = max(w.most[cmd.Partition], w.running[cmd.Partition])
	all := 0
	for _, n := range w.running {
		all += n
	}
	w.peak = max(w.peak, all)
	hold := w.hold
	w.mu.Unlock()
	if hold == nil {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
		}
	} else {
		select {
		case <-hold:
		case <-ctx.Done():
			w.mu.Lock()
			w.cancels++
			w.mu.Unlock()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[cmd.Partition]--
	return nil, nil
}

func (w *works) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.ran)
}

func newLanes(t *testing.T, l *eventlog.Log, slots int, w *works, more ...func(*eventlog.LaneConfig)) *eventlog.Lanes {
	t.Helper()
	cfg := eventlog.LaneConfig{
		Lane: events.LaneTTS, Slots: slots, Run: w.run, Grace: 200 * time.Millisecond,
		Accept: func(cmd eventlog.Record) (eventlog.Acceptance, error) {
			if string(cmd.Value) == "bad" {
				return eventlog.Acceptance{}, fmt.Errorf("%w: bad", eventlog.ErrUndecodable)
			}
			return eventlog.Acceptance{
				Record:  eventlog.Record{Topic: events.TopicTaskEvents, Key: cmd.Key, Value: cmd.Value},
				Attempt: "attempt of " + string(cmd.Value),
			}, nil
		},
	}
	for _, set := range more {
		set(&cfg)
	}
	lane, err := l.NewLanes(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return lane
}

// command writes commands n<from> … to the lane, in turn to its two partitions.
func command(t *testing.T, l *eventlog.Log, from, to int) {
	t.Helper()
	var rs []eventlog.Record
	for i := from; i < to; i++ {
		id := fmt.Sprintf("n%d", i)
		rs = append(rs, eventlog.Record{Topic: events.LaneTopic(events.LaneTTS), Partition: int32(i % 2), Key: id, Value: []byte(id)}) //nolint:gosec // 0 or 1
	}
	if err := l.Produce(within(t), rs...); err != nil {
		t.Fatal(err)
	}
}

// wantRun waits until n0 … n-1 have run, and checks that each ran and was accepted once.
func wantRun(t *testing.T, l *eventlog.Log, w *works, n int) {
	t.Helper()
	Eventually(t, Patience, fmt.Sprintf("%d commands run", n), func() bool { return w.count() >= n })
	wantOnce(t, await(t, l, events.TopicTaskEvents, n), n)
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, times := range w.ran {
		if times != 1 {
			t.Errorf("%s ran %d times", id, times)
		}
	}
}

func laneBoundHolds(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	Eventually(t, Patience, "a group that never was has accepted nothing", func() bool {
		cmds, err := l.LastAccepted(within(t), events.LaneTTS)
		return err == nil && len(cmds) == 0
	})
	w := newWorks()
	w.hold = make(chan struct{})
	command(t, l, 0, 150) // more than is held of a partition
	stop := start(newLanes(t, l, 5, w).Run)
	Eventually(t, Patience, "a command of each partition runs", func() bool { return w.count() == 2 })
	close(w.hold)
	wantRun(t, l, w, 150)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if w.most[0] != 1 || w.most[1] != 1 || w.peak != 2 {
		t.Errorf("at once ran %v by partition and %d in all, want 1 each and 2", w.most, w.peak)
	}
	last := eventlog.TopicPartition{Topic: events.LaneTopic(events.LaneTTS), Partition: 1}
	Eventually(t, Patience, "partition 1 is committed with its last attempt", func() bool {
		offsets, attempts, err := l.FetchCommitted(within(t), eventlog.GroupLanes)
		return err == nil && offsets[last] == 75 && attempts[last] == "attempt of n149"
	})
	wantLastAccepted(t, l, "n148", "n149")
	wantLastAccepted(t, Open(t, as(cfg, "b", nil)))

	w = newWorks()
	command(t, l, 0, 20)
	stop = start(newLanes(t, l, 1, w).Run)
	Eventually(t, Patience, "20 commands run", func() bool { return w.count() == 20 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if w.peak != 1 {
		t.Errorf("%d commands ran at once in one slot", w.peak)
	}
}

func wantLastAccepted(t *testing.T, l *eventlog.Log, want ...string) {
	t.Helper()
	cmds, err := l.LastAccepted(within(t), events.LaneTTS)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range cmds {
		got = append(got, string(c.Value))
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("last accepted by this instance are %v, want %v", got, want)
	}
}

func laneOutlivesRebalance(t *testing.T, cfg eventlog.Config) {
	a, b := Open(t, cfg), Open(t, as(cfg, "b", nil))
	w := newWorks()
	w.hold = make(chan struct{})
	stopA := start(newLanes(t, a, 5, w).Run)
	command(t, a, 0, 4)
	Eventually(t, Patience, "one command of each partition runs", func() bool { return w.count() == 2 })
	stopB := start(newLanes(t, b, 5, w).Run)
	// The second process takes a partition over and runs its next command.
	Eventually(t, Patience, "the second process runs a command", func() bool { return w.count() == 3 })
	close(w.hold)
	command(t, a, 4, 40)
	wantRun(t, a, w, 40)
	for _, stop := range []func() error{stopA, stopB} {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	if w.cancels != 0 {
		t.Errorf("%d running commands were cancelled by the rebalance", w.cancels)
	}

	// The end of a lane cancels what outlasts its grace.
	w = newWorks()
	w.hold = make(chan struct{})
	command(t, a, 40, 41)
	stopA = start(newLanes(t, a, 1, w).Run)
	Eventually(t, Patience, "a command runs", func() bool { return w.count() == 1 })
	if err := stopA(); err != nil || w.cancels != 1 {
		t.Errorf("the lane ended with %v and %d cancelled commands, want 1", err, w.cancels)
	}
}

func laneSettlesUnknownOutcomes(t *testing.T, cfg eventlog.Config) {
	network := new(Network)
	l := Open(t, cfg)
	lossy := Open(t, as(cfg, "a", network))
	w := newWorks()
	stop := start(newLanes(t, lossy, 5, w).Run)
	command(t, l, 0, 4)
	wantRun(t, l, w, 4)
	lost := network.LoseAnswer(keyEndTxn)
	command(t, l, 4, 8)
	<-lost
	network.Mend()
	wantRun(t, l, w, 8)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func laneSetsUndecodableAside(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	w := newWorks()
	stop := start(newLanes(t, l, 2, w).Run)
	if err := l.Produce(within(t), eventlog.Record{Topic: events.LaneTopic(events.LaneTTS), Key: "bad", Value: []byte("bad")}); err != nil {
		t.Fatal(err)
	}
	command(t, l, 0, 2)
	wantRun(t, l, w, 2)
	if dead := await(t, l, events.TopicDeadLetters, 1); len(dead) != 1 || string(dead[0].Value) != "bad" {
		t.Errorf("dead letters are %+v, want the bad command", dead)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func consumerRetriesInOrder(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	submit(t, l, 0, 60)
	var mu sync.Mutex
	got := make(map[int32][]int64)
	failed := make(map[string]bool)
	handled := func() (n int) {
		mu.Lock()
		defer mu.Unlock()
		for _, offsets := range got {
			n += len(offsets)
		}
		return n
	}
	consume := func(l *eventlog.Log) func() error {
		return start(func(ctx context.Context) error {
			return l.Consume(ctx, eventlog.ConsumerConfig{
				Group: "plain", Topics: []string{events.TopicJobCommands}, Retry: time.Millisecond,
				Handle: func(ctx context.Context, r eventlog.Record) error {
					mu.Lock()
					defer mu.Unlock()
					if r.Offset%7 == 3 && !failed[string(r.Value)] {
						failed[string(r.Value)] = true
						return errors.New("once")
					}
					got[r.Partition] = append(got[r.Partition], r.Offset)
					return nil
				},
			})
		})
	}
	stop := consume(l)
	Eventually(t, Patience, "60 records are handled", func() bool { return handled() == 60 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = consume(l)
	submit(t, l, 60, 90)
	Eventually(t, Patience, "the next 30 are handled by a successor", func() bool { return handled() >= 90 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if handled() != 90 || len(failed) == 0 {
		t.Errorf("%d records were handled, %d failed at first; want 90 and some", handled(), len(failed))
	}
	for p, offsets := range got {
		if !slices.IsSorted(offsets) {
			t.Errorf("partition %d was handled in the order %v", p, offsets)
		}
	}
}
