// Cases of the transaction runner.

package eventlogtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

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

func runnerSurvivesKills(t *testing.T, cfg eventlog.Config) {
	const n, kills = 300, 4
	seed := Open(t, cfg)
	go func() {
		for i := 0; i < n; i += 10 {
			submit(t, seed, i, i+10)
		}
	}()
	for k := range kills {
		network := new(Network)
		l := Open(t, as(cfg, "a", network))
		e := newEcho(t, l)
		limit := (k + 1) * n / (kills + 2)
		hit := make(chan struct{})
		var once sync.Once
		// The network dies in the middle of a decision, when a transaction is due.
		e.onDecide(func(eventlog.Record) error {
			if e.answered() >= limit {
				once.Do(func() { network.Cut(); close(hit) })
			}
			return nil
		})
		stop := start(newRunner(t, l, e).Run)
		Eventually(t, Patience, "the runner reaches the point of its death", func() bool {
			select {
			case <-hit:
				return true
			default:
				return e.answered() >= n
			}
		})
		go stop() // dead already; its end takes time-outs
	}
	l := Open(t, cfg)
	stop := start(newRunner(t, l, newEcho(t, l)).Run)
	awaitAnswers(t, l, n)
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
	if len(ea.dropped) < 3 {
		t.Errorf("the first was told of %d partitions it lost, want 3", len(ea.dropped))
	}
}

const keyEndTxn = 26

func runnerSettlesUnknownOutcomes(t *testing.T, cfg eventlog.Config) {
	network := new(Network)
	l := Open(t, cfg)
	lossy := Open(t, as(cfg, "a", network))
	e := newEcho(t, lossy)
	stop := start(newRunner(t, lossy, e).Run)
	submit(t, l, 0, 20)
	awaitAnswers(t, l, 20)
	for round := 1; round <= 2; round++ {
		lost := network.LoseAnswer(keyEndTxn)
		submit(t, l, 20*round, 20*round+20)
		<-lost // the broker has the commit, the runner will never know
		network.Mend()
		awaitAnswers(t, l, 20*round+20)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

func zombieCannotCommit(t *testing.T, cfg eventlog.Config) {
	a, b := Open(t, cfg), Open(t, cfg) // two processes of one name
	zombie, heir := newEcho(t, a), newEcho(t, b)
	hold, held := make(chan struct{}), make(chan struct{})
	zombie.onDecide(func(in eventlog.Record) error {
		if string(in.Value) == "n0" {
			close(held)
			<-hold
		}
		return nil
	})
	stopA := start(newRunner(t, a, zombie).Run)
	submit(t, a, 0, 10)
	<-held // in the middle of a decision
	stopB := start(newRunner(t, b, heir).Run)
	awaitAnswers(t, b, 10)
	close(hold)
	if err := stopA(); !errors.Is(err, eventlog.ErrFenced) {
		t.Errorf("the zombie ended with %v, want ErrFenced", err)
	}
	submit(t, a, 10, 20)
	awaitAnswers(t, b, 20)
	if err := stopB(); err != nil {
		t.Errorf("the heir ended with %v", err)
	}
}

const keyTxnOffsetCommit = 28

func deadPeersAreFenced(t *testing.T, cfg eventlog.Config) {
	cfg.TransactionTimeout = 5 * time.Minute // nothing here waits for it
	network := new(Network)
	b := Open(t, as(cfg, "b", nil))
	a := Open(t, as(cfg, "a", network))
	stopA := start(newRunner(t, a, newEcho(t, a)).Run)
	submit(t, b, 0, 10)
	awaitAnswers(t, b, 10)
	lost := network.LoseAnswer(keyTxnOffsetCommit)
	submit(t, b, 10, 20)
	<-lost // the transaction stays open, with offsets in it

	stopB := start(newRunner(t, b, newEcho(t, b)).Run)
	submit(t, b, 20, 30)
	awaitAnswers(t, b, 30)
	network.Mend()
	submit(t, b, 30, 40)
	awaitAnswers(t, b, 40)
	if err := stopB(); err != nil {
		t.Errorf("the peer ended with %v", err)
	}
	if err := stopA(); err != nil && !errors.Is(err, eventlog.ErrFenced) {
		t.Errorf("the one that was dead ended with %v, want ErrFenced or nothing", err)
	}
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
