// Cases of the transaction runner.

package eventlogtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// echo answers each command on jobs.events with its value, and keeps per partition
// how many it has answered, which the metadata repeats.
type echo struct {
	log *eventlog.Log
	t   *testing.T

	mu       sync.Mutex
	done     map[int32]int // answered and committed
	ahead    map[int32]int // answered in the open transaction
	metas    map[int32][]string
	dropped  []int32
	decide   func(in eventlog.Record) error // before each answer
	recovers int
}

func newEcho(t *testing.T, l *eventlog.Log) *echo {
	return &echo{log: l, t: t, done: make(map[int32]int), ahead: make(map[int32]int), metas: make(map[int32][]string)}
}

func (e *echo) Recover(ctx context.Context, p int32, meta string) error {
	n := 0
	_, err := e.log.Replay(ctx, eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: p}, 0, func(rs []eventlog.Record) error {
		n += len(rs)
		return nil
	})
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && strconv.Itoa(n) != meta && (n != 0 || meta != "") {
		e.t.Errorf("partition %d holds %d answers, the newest commit says %q", p, n, meta)
	}
	if _, have := e.done[p]; have {
		e.t.Errorf("partition %d is recovered without having been dropped", p)
	}
	e.done[p], e.ahead[p] = n, 0
	e.metas[p] = append(e.metas[p], meta)
	e.recovers++
	return err
}

func (e *echo) Decide(_ context.Context, in eventlog.Record) ([]eventlog.Record, error) {
	e.mu.Lock()
	_, have := e.done[in.Partition]
	decide := e.decide
	e.mu.Unlock()
	if !have {
		e.t.Errorf("partition %d decides before it has recovered", in.Partition)
	}
	if decide != nil {
		if err := decide(in); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ahead[in.Partition]++
	return []eventlog.Record{{Topic: events.TopicJobEvents, Key: in.Key, Value: in.Value}}, nil
}

func (e *echo) Meta(p int32, out []eventlog.Record) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	last := int64(-1)
	for i, r := range out {
		if r.Topic != events.TopicJobEvents {
			continue // a dead letter
		}
		if r.Partition != p || r.Offset <= last {
			e.t.Errorf("answer %d of partition %d lies at %v offset %d, after %d", i, p, r.At(), r.Offset, last)
		}
		last = r.Offset
	}
	return strconv.Itoa(e.done[p] + e.ahead[p])
}

func (e *echo) Committed(p int32, _ []eventlog.Record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.done[p], e.ahead[p] = e.done[p]+e.ahead[p], 0
}

func (e *echo) Drop(p int32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.done, p)
	delete(e.ahead, p)
	e.dropped = append(e.dropped, p)
}

func (e *echo) answered() (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, d := range e.done {
		n += d
	}
	return n
}

func (e *echo) partitions() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.done)
}

func (e *echo) onDecide(f func(eventlog.Record) error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.decide = f
}

func newRunner(t *testing.T, l *eventlog.Log, d eventlog.Decider) *eventlog.Runner {
	t.Helper()
	r, err := l.NewRunner(eventlog.RunnerConfig{
		Group: "deciders", Topics: []string{events.TopicJobCommands, events.TopicTaskEvents},
		Journals: []string{events.TopicJobEvents}, MaxPoll: 20, Decider: d,
		// Half of the inputs wait for others: whatever is promised holds for them too.
		Patient: func(in eventlog.Record) bool { return in.Offset%2 == 0 },
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// awaitAnswers waits until n answers lie on the log, and checks that each input was answered once.
func awaitAnswers(t *testing.T, l *eventlog.Log, n int) []eventlog.Record {
	t.Helper()
	rs := await(t, l, events.TopicJobEvents, n)
	wantOnce(t, rs, n)
	return rs
}

func runnerDecidesOnce(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	submit(t, l, 0, 100)
	e := newEcho(t, l)
	stop := start(newRunner(t, l, e).Run)
	Eventually(t, Patience, "every partition recovers", func() bool { return e.partitions() == 3 })
	awaitAnswers(t, l, 100)
	submit(t, l, 100, 150)
	rs := awaitAnswers(t, l, 150)
	if err := stop(); err != nil {
		t.Fatalf("the runner ended with %v", err)
	}
	if e.partitions() != 0 {
		t.Errorf("%d partitions are held after the end", e.partitions())
	}
	inputs := make(map[string]eventlog.Record)
	for _, in := range readAll(t, l, events.TopicJobCommands) {
		inputs[string(in.Value)] = in
	}
	next := make(map[int32]int64)
	for _, r := range rs {
		in := inputs[string(r.Value)]
		src := r.Header(eventlog.HeaderSourceTopic) + "/" + r.Header(eventlog.HeaderSourcePartition) + " " + r.Header(eventlog.HeaderSourceOffset)
		if want := fmt.Sprintf("%s %d", in.At(), in.Offset); src != want {
			t.Errorf("%s names its source as %s, want %s", r.Value, src, want)
		}
		if in.Offset != next[r.Partition] {
			t.Errorf("partition %d answers input %d, want %d: order is lost", r.Partition, in.Offset, next[r.Partition])
		}
		next[r.Partition] = in.Offset + 1
	}

	// A successor of the same name goes on where this one left.
	for p := range int32(3) {
		tp := eventlog.TopicPartition{Topic: events.TopicJobCommands, Partition: p}
		Eventually(t, Patience, fmt.Sprintf("%v is committed at %d, and its text says the same", tp, next[p]), func() bool {
			offsets, metas, err := l.FetchCommitted(within(t), "deciders")
			return err == nil && offsets[tp] == next[p] && metas[tp] == strconv.FormatInt(next[p], 10)
		})
	}
	e2 := newEcho(t, l)
	stop = start(newRunner(t, l, e2).Run)
	submit(t, l, 150, 160)
	awaitAnswers(t, l, 160)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func runnerSharesPartitions(t *testing.T, cfg eventlog.Config) {
	a, b := Open(t, cfg), Open(t, as(cfg, "b", nil))
	ea, eb := newEcho(t, a), newEcho(t, b)
	stopA := start(newRunner(t, a, ea).Run)
	Eventually(t, Patience, "the first has all", func() bool { return ea.partitions() == 3 })
	submit(t, a, 0, 50)
	awaitAnswers(t, a, 50)
	stopB := start(newRunner(t, b, eb).Run)
	Eventually(t, Patience, "both have some", func() bool { return ea.partitions()+eb.partitions() == 3 && eb.partitions() > 0 })
	submit(t, a, 50, 100)
	awaitAnswers(t, a, 100)
	if err := stopA(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, Patience, "the second has all", func() bool { return eb.partitions() == 3 })
	submit(t, a, 100, 150)
	awaitAnswers(t, a, 150)
	if err := stopB(); err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]*eventlog.Log{"first": a, "second": b} {
		if n := aborted(t, l); n != 0 {
			t.Errorf("%v transactions of the %s were aborted by rebalances that nothing forced", n, name)
		}
	}
	if len(ea.dropped) < 3 {
		t.Errorf("the first was told of %d partitions it lost, want 3", len(ea.dropped))
	}
}

// aborted counts the log's transactions that did not commit.
func aborted(t *testing.T, l *eventlog.Log) float64 {
	return transactions(t, l, func(outcome string) bool { return outcome != "committed" })
}

// Transactions counts those of the log that did commit.
func Transactions(t testing.TB, l *eventlog.Log) float64 {
	return transactions(t, l, func(outcome string) bool { return outcome == "committed" })
}

func transactions(t testing.TB, l *eventlog.Log, counts func(outcome string) bool) (n float64) {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(l.Collectors()...)
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				if f.GetName() == "myspinbot_log_transactions_total" && label.GetName() == "outcome" && counts(label.GetValue()) {
					n += m.GetCounter().GetValue()
				}
			}
		}
	}
	return n
}

func oversizedAnswersEndTheRunner(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	submit(t, l, 0, 1)
	err := newRunner(t, l, &verbose{newEcho(t, l)}).Run(within(t))
	if err == nil || !strings.Contains(err.Error(), "MESSAGE_TOO_LARGE") {
		t.Errorf("an answer of 2 MB ended the runner with %v", err)
	}
	// Nothing of it counts: a runner with a shorter answer takes the same input.
	stop := start(newRunner(t, l, newEcho(t, l)).Run)
	awaitAnswers(t, l, 1)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// verbose answers with more than a record may hold.
type verbose struct{ *echo }

func (v *verbose) Decide(ctx context.Context, in eventlog.Record) ([]eventlog.Record, error) {
	out, err := v.echo.Decide(ctx, in)
	out[0].Value = make([]byte, 2<<20)
	return out, err
}

func undecodableInputsAreSetAside(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	e := newEcho(t, l)
	e.onDecide(func(in eventlog.Record) error {
		if string(in.Value) == "n3" {
			return fmt.Errorf("%w: no such type", eventlog.ErrUndecodable)
		}
		return nil
	})
	submit(t, l, 0, 10)
	stop := start(newRunner(t, l, e).Run)
	Eventually(t, Patience, "the others are answered", func() bool { return e.answered() == 9 })
	dead := await(t, l, events.TopicDeadLetters, 1)
	if len(dead) != 1 || string(dead[0].Value) != "n3" || dead[0].Key != "n3" {
		t.Fatalf("dead letters are %+v, want n3 as it came", dead)
	}
	in := readAll(t, l, events.TopicJobCommands)
	i := slices.IndexFunc(in, func(r eventlog.Record) bool { return string(r.Value) == "n3" })
	if d := dead[0]; d.Header(eventlog.HeaderReason) != "undecodable: no such type" ||
		d.Header(eventlog.HeaderSourceTopic) != events.TopicJobCommands ||
		d.Header(eventlog.HeaderSourceOffset) != strconv.FormatInt(in[i].Offset, 10) {
		t.Errorf("the dead letter's headers are %v", d.Headers)
	}
	broken := errors.New("broken")
	e.onDecide(func(eventlog.Record) error { return broken })
	failed := make(chan error, 1)
	go func() { failed <- stop() }()
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	submit(t, l, 10, 11)
	if err := newRunner(t, l, e).Run(within(t)); !errors.Is(err, broken) {
		t.Errorf("a decider's error ends the runner with %v", err)
	}
}

func lostOffsetsAreFoundAgain(t *testing.T, cfg eventlog.Config) {
	l := Open(t, cfg)
	e := newEcho(t, l)
	submit(t, l, 0, 30)
	stop := start(newRunner(t, l, e).Run)
	awaitAnswers(t, l, 30)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	adm, _ := admin(t, cfg)
	Eventually(t, Patience, "the group's offsets are deleted", func() bool {
		rs, err := adm.DeleteGroups(within(t), cfg.Prefix+"deciders")
		return err == nil && rs.Error() == nil
	})
	var none kadm.OffsetResponses
	if rs, err := adm.FetchOffsets(within(t), cfg.Prefix+"deciders"); err == nil {
		none = rs
	}
	if len(none) != 0 {
		t.Fatalf("offsets are still there: %v", none)
	}
	e2 := &forgetful{newEcho(t, l)}
	stop = start(newRunner(t, l, e2).Run)
	submit(t, l, 30, 40)
	awaitAnswers(t, l, 40)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

// forgetful expects no metadata.
type forgetful struct{ *echo }

func (f *forgetful) Recover(ctx context.Context, p int32, meta string) error {
	if meta != "" {
		f.t.Errorf("metadata %q of a group that has none", meta)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done[p] = 0
	return nil
}
