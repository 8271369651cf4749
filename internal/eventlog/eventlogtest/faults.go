// Cases of the transaction runner in which a process or a network fails.

package eventlogtest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// API keys of requests.
const (
	keyEndTxn          = 26
	keyTxnOffsetCommit = 28
)

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
		go func() { _ = stop() }() // dead already; its end takes time-outs
	}
	l := Open(t, cfg)
	stop := start(newRunner(t, l, newEcho(t, l)).Run)
	awaitAnswers(t, l, n)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
}

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
		<-lost // the broker has the commit, the runner does not know
		if round == 2 {
			Eventually(t, Patience, "the runner gives the transaction up", func() bool { return aborted(t, lossy) > 0 })
		}
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

func deadPeersAreFenced(t *testing.T, cfg eventlog.Config) { heir(t, cfg, "b") }

func successorsWaitForNothing(t *testing.T, cfg eventlog.Config) { heir(t, cfg, "a") }

// heir lets a process die within a transaction, with another in its place.
func heir(t *testing.T, cfg eventlog.Config, instance string) {
	cfg.TransactionTimeout = 5 * time.Minute // nothing here waits for it
	network := new(Network)
	b := Open(t, as(cfg, instance, nil))
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
		t.Errorf("the heir ended with %v", err)
	}
	if err := stopA(); err != nil && !errors.Is(err, eventlog.ErrFenced) {
		t.Errorf("the one that was dead ended with %v, want ErrFenced or nothing", err)
	}
}

// A process that was away, and whose partitions another has had meanwhile, must not
// go on from what it remembers.
func absenceIsNoticed(t *testing.T, cfg eventlog.Config) {
	network := new(Network)
	a, b := Open(t, as(cfg, "a", network)), Open(t, as(cfg, "b", nil))
	ea := newEcho(t, a)
	stopA := start(newRunner(t, a, ea).Run)
	submit(t, b, 0, 10)
	awaitAnswers(t, b, 10)
	Eventually(t, Patience, "the first knows of its answers", func() bool { return ea.answered() == 10 })
	network.Cut()
	stopB := start(newRunner(t, b, newEcho(t, b)).Run)
	submit(t, b, 10, 20)
	awaitAnswers(t, b, 20)
	if err := stopB(); err != nil {
		t.Fatal(err)
	}
	network.Mend()
	submit(t, b, 20, 30)
	awaitAnswers(t, b, 30)
	if err := stopA(); err != nil {
		t.Fatal(err)
	}
	// What the first has committed about its state is checked against the log.
	ec := newEcho(t, b)
	stopC := start(newRunner(t, b, ec).Run)
	Eventually(t, Patience, "a third recovers", func() bool { return ec.answered() == 30 })
	if err := stopC(); err != nil {
		t.Fatal(err)
	}
}

// A member to which a rebalance leaves nothing forgets what it knew, as one does that
// keeps something: its clocks would go on otherwise.
func nothingIsKnownWithoutPartitions(t *testing.T, cfg eventlog.Config) {
	last := Open(t, as(cfg, "z", nil)) // partitions are given in the order of names
	ez := newEcho(t, last)
	stop := []func() error{start(newRunner(t, last, ez).Run)}
	submit(t, last, 0, 10)
	awaitAnswers(t, last, 10)
	Eventually(t, Patience, "the only member knows every partition", func() bool { return ez.partitions() == 3 })
	for _, name := range []string{"a", "b", "c"} {
		l := Open(t, as(cfg, name, nil))
		stop = append(stop, start(newRunner(t, l, newEcho(t, l)).Run))
	}
	Eventually(t, Patience, "a member without partitions knows none", func() bool { return ez.partitions() == 0 })
	for _, s := range stop {
		if err := s(); err != nil {
			t.Error(err)
		}
	}
}
