// Cases of the lane's bound and of its two topics.

package eventlogtest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// send writes commands of the given names to a partition of one of the lane's topics.
func send(t *testing.T, l *eventlog.Log, topic string, partition int32, names ...string) {
	t.Helper()
	var rs []eventlog.Record
	for _, n := range names {
		rs = append(rs, eventlog.Record{Topic: topic, Partition: partition, Key: n, Value: []byte(n)})
	}
	if err := l.Produce(within(t), rs...); err != nil {
		t.Fatal(err)
	}
}

func named(prefix string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf("%s%d", prefix, i))
	}
	return out
}

var (
	interactiveTopic = events.LaneTopic(events.LaneTTS)
	batchTopic       = events.LaneBatchTopic(events.LaneTTS)
)

func laneTakesInteractiveFirst(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	w := newWorks()
	w.hold = make(chan struct{})
	// More of them than one fetch brings, and the interactive ones last.
	send(t, l, batchTopic, 0, named("late", 70)...)
	send(t, l, interactiveTopic, 0, named("soon", 70)...)
	send(t, l, batchTopic, 1, "alone")
	stop := start(newLanes(t, l, 5, w).Run)
	Eventually(t, Patience, "a command of each partition runs", func() bool { return w.count() == 2 })
	send(t, l, interactiveTopic, 1, "behind")
	wantStill(t, w, 2, "a partition runs one command, of whichever topic")
	close(w.hold)
	Eventually(t, Patience, "all commands run", func() bool { return w.count() == 142 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	order := slices.DeleteFunc(slices.Clone(w.order), func(s string) bool { return s == "alone" || s == "behind" })
	if want := append(named("soon", 70), named("late", 70)...); !slices.Equal(order, want) {
		t.Errorf("ran %v, want the interactive ones first", order)
	}
	if w.most[0] != 1 || w.most[1] != 1 {
		t.Errorf("at once ran %v by partition, want 1 each", w.most)
	}
	wantLastAccepted(t, l, "behind", "late69")
}

func laneLetsPatientBatchThrough(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	w := newWorks()
	_, cl := admin(t, cfg, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for _, name := range []string{"old0", "old1"} {
		r := &kgo.Record{Topic: cfg.Prefix + batchTopic, Key: []byte(name), Value: []byte(name), Timestamp: time.Now().Add(-2 * time.Hour)}
		if err := cl.ProduceSync(within(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	send(t, l, interactiveTopic, 0, named("soon", 50)...)
	stop := start(newLanes(t, l, 1, w, func(c *eventlog.LaneConfig) { c.BatchPatience = time.Hour }).Run)
	Eventually(t, Patience, "all commands run", func() bool { return w.count() == 52 })
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// The first has waited long enough when it is seen, the second had no turn before.
	if at := slices.Index(w.order, "old0"); at > 49 {
		t.Errorf("a batch command that is two hours old ran as number %d of 52", at)
	}
	if at := slices.Index(w.order, "old1"); at != 51 {
		t.Errorf("a second batch command ran as number %d, want it last", at)
	}
}

// gate is a Settled that waits to be opened, and notes what it was asked.
type gate struct {
	mu    sync.Mutex
	asked []eventlog.Accepted
	open  chan struct{}
}

func (g *gate) settled(ctx context.Context, last eventlog.Accepted) error {
	g.mu.Lock()
	g.asked = append(g.asked, last)
	g.mu.Unlock()
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) questions() []eventlog.Accepted {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

func gated(g *gate) func(*eventlog.LaneConfig) {
	return func(c *eventlog.LaneConfig) { c.Settled = g.settled }
}

// wantStill fails when the works run more commands than n within a while.
func wantStill(t *testing.T, w *works, n int, why string) {
	t.Helper()
	for range 20 {
		if got := w.count(); got != n {
			t.Fatalf("%d commands run, want %d: %s", got, n, why)
		}
		<-time.After(10 * time.Millisecond)
	}
}

func laneWaitsForOthersAttempts(t *testing.T, cfg eventlog.Config) {
	a, b := Open(t, cfg), Open(t, as(cfg, "b", nil))
	wa, wb := newWorks(), newWorks()
	wa.hold = make(chan struct{})
	ga, gb := &gate{open: make(chan struct{})}, &gate{open: make(chan struct{})}
	stopA := start(newLanes(t, a, 5, wa, gated(ga)).Run)
	command(t, a, 0, 6)
	Eventually(t, Patience, "one command of each partition runs", func() bool { return wa.count() == 2 })
	stopB := start(newLanes(t, b, 5, wb, gated(gb)).Run)
	Eventually(t, Patience, "the new owner asks for the end of what runs", func() bool { return len(gb.questions()) > 0 })
	q := gb.questions()[0]
	if want := fmt.Sprintf("attempt of n%d", q.Partition); q.By != "a" || q.Attempt != want {
		t.Errorf("asked for %+v, want %s by a", q, want)
	}
	wantStill(t, wb, 0, "the attempt of the other process has not ended")
	close(gb.open)
	Eventually(t, Patience, "it goes on when the attempt has ended", func() bool { return wb.count() > 0 })
	close(wa.hold)
	Eventually(t, Patience, "all commands run", func() bool { return wa.count()+wb.count() == 6 })
	wantOnce(t, await(t, a, events.TopicTaskEvents, 6), 6)
	for _, stop := range []func() error{stopA, stopB} {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	if wa.cancels != 0 {
		t.Errorf("%d running commands were cancelled by the rebalance", wa.cancels)
	}
}

// A process does not know what has become of the work of a predecessor that was killed.
func laneWaitsForItsPredecessors(t *testing.T, cfg eventlog.Config) {
	network := new(Network)
	killed, l := Open(t, as(cfg, "a", network)), Open(t, cfg)
	wk, w := newWorks(), newWorks()
	wk.hold = make(chan struct{})
	t.Cleanup(func() { close(wk.hold) })
	start(newLanes(t, killed, 5, wk).Run)
	command(t, l, 0, 4)
	Eventually(t, Patience, "one command of each partition runs", func() bool { return wk.count() == 2 })
	network.Cut()
	g := &gate{open: make(chan struct{})}
	stop := start(newLanes(t, l, 5, w, gated(g)).Run)
	Eventually(t, Patience, "the successor asks for both", func() bool { return len(g.questions()) >= 2 })
	wantStill(t, w, 0, "the attempts of the predecessor have not ended")
	close(g.open)
	Eventually(t, Patience, "the others run", func() bool { return w.count() == 2 })
	wantOnce(t, await(t, l, events.TopicTaskEvents, 4), 4)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func laneKeepsItsWorkThroughRebalances(t *testing.T, cfg eventlog.Config) {
	a, b := Open(t, cfg), Open(t, as(cfg, "b", nil))
	wa, wb := newWorks(), newWorks()
	wa.hold = make(chan struct{})
	ga, gb := &gate{open: make(chan struct{})}, &gate{open: make(chan struct{})}
	stopA := start(newLanes(t, a, 5, wa, gated(ga)).Run)
	command(t, a, 0, 6)
	Eventually(t, Patience, "one command of each partition runs", func() bool { return wa.count() == 2 })
	adm, _ := admin(t, cfg)
	for round := 1; round <= 2; round++ { // partitions go and come back
		asked := len(gb.questions())
		stopB := start(newLanes(t, b, 5, wb, gated(gb)).Run)
		Eventually(t, Patience, "the other process has a partition", func() bool { return len(gb.questions()) > asked })
		if err := stopB(); err != nil {
			t.Fatal(err)
		}
		Eventually(t, Patience, "both partitions are back", func() bool { return assigned(t, adm, cfg) == "a a" })
	}
	if n := wa.count(); n != 2 || wb.count() != 0 {
		t.Errorf("%d and %d commands have run, want the two that still do", n, wb.count())
	}
	close(wa.hold)
	wantRun(t, a, wa, 6)
	if err := stopA(); err != nil {
		t.Fatal(err)
	}
	if wa.cancels != 0 || wa.most[0] != 1 || wa.most[1] != 1 || len(ga.questions()) != 0 {
		t.Errorf("%d commands were cancelled, at once ran %v by partition, and the process waited for itself: %v", wa.cancels, wa.most, ga.questions())
	}
}

// assigned names the owners of the lane's partitions.
func assigned(t *testing.T, adm *kadm.Client, cfg eventlog.Config) string {
	t.Helper()
	groups, err := adm.DescribeGroups(within(t), cfg.Prefix+eventlog.GroupLanes)
	if err != nil {
		return err.Error()
	}
	owners := make(map[int32]string)
	for _, m := range groups[cfg.Prefix+eventlog.GroupLanes].Members {
		if a, ok := m.Assigned.AsConsumer(); ok && m.InstanceID != nil {
			for _, topic := range a.Topics {
				for _, p := range topic.Partitions {
					owners[p] = *m.InstanceID
				}
			}
		}
	}
	return owners[0] + " " + owners[1]
}

// A process that was frozen for longer than its session must not accept anything on
// the strength of what it owned before, and what it runs is not to be lost.
func laneSurvivesItsFreezing(t *testing.T, cfg eventlog.Config) {
	network := new(Network)
	a, b := Open(t, as(cfg, "a", network)), Open(t, as(cfg, "b", nil))
	wa, wb := newWorks(), newWorks()
	wa.hold = make(chan struct{})
	stopA := start(newLanes(t, a, 5, wa).Run)
	command(t, b, 0, 20)
	Eventually(t, Patience, "one command of each partition runs", func() bool { return wa.count() == 2 })
	network.Hang()
	stopB := start(newLanes(t, b, 5, wb).Run)
	Eventually(t, Patience, "the other process runs the rest", func() bool { return wb.count() == 18 })
	close(wa.hold) // the frozen one's commands end, and it holds the next ones
	network.Mend()
	command(t, b, 20, 40)
	Eventually(t, Patience, "all commands run", func() bool { return wa.count()+wb.count() == 40 })
	wantOnce(t, await(t, b, events.TopicTaskEvents, 40), 40)
	for _, stop := range []func() error{stopA, stopB} {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	if wa.cancels != 0 {
		t.Errorf("%d running commands were cancelled by the freezing", wa.cancels)
	}
}
