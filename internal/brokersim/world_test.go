//go:build synctests

// The world of one seed: a cluster, its processes, their load, and the faults.

package brokersim_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/invariants"
)

type world struct {
	t       *testing.T
	plan    plan
	ctx     context.Context
	cluster *kfake.Cluster
	net     kfake.VirtualNetwork
	cfg     eventlog.Config
	log     *eventlog.Log // the observer's: nothing ever happens to it
	client  *link         // of those who submit
	dir     string        // of the workers' folders
	journal *journal
	began   time.Time
	seen    *seen

	lives    sync.WaitGroup
	requests sync.WaitGroup

	mu        sync.Mutex
	processes map[string]*process
	counts    map[string]int
	failures  []string
	links     []*link
	calls     []invariants.Call
	ids       int
	handles   map[string][]*kfake.FaultHandle
}

func newWorld(ctx context.Context, t *testing.T, p plan) *world {
	w := &world{
		t: t, plan: p, ctx: ctx, dir: t.TempDir(), journal: &journal{}, began: time.Now(), seen: newSeen(),
		processes: map[string]*process{}, counts: map[string]int{}, handles: map[string][]*kfake.FaultHandle{},
	}
	opts := []kfake.Opt{
		kfake.ListenFn(w.net.Listen), kfake.Ports([]int{1, 2, 3}[:p.brokers]...),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	}
	if p.v1 {
		opts = append(opts, kfake.MaxVersions(kversion.V3_8_0()))
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		t.Fatal(err)
	}
	w.cluster = cluster
	if p.hours {
		w.slowFetches()
	}
	w.client = w.newLink()
	w.cfg = eventlog.Config{
		Brokers: cluster.ListenAddrs(), Partitions: p.partitions, ReplicationFactor: 1, Logger: slog.New(slog.DiscardHandler),
		SessionTimeout: p.session, TransactionTimeout: 12 * time.Second, // faults last up to 20 s, so that each of them runs out
	}
	observer := w.cfg
	observer.Dial = w.newLink().dial
	if w.log, err = eventlog.Open(observer); err != nil {
		t.Fatal(err)
	}
	if err := w.log.EnsureTopics(ctx); err != nil {
		t.Fatal(err)
	}
	w.lives.Go(func() { w.observe(ctx) })
	for i := range p.handlers {
		w.process(fmt.Sprintf("h%d", i)).start()
	}
	for i := range p.workers {
		w.process(fmt.Sprintf("w%d", i)).start()
	}
	return w
}

// process is the one of that name: h… handles, w… works.
func (w *world) process(name string) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.processes[name]
	if p == nil {
		p = &process{world: w, name: name, run: w.runHandler}
		if strings.HasPrefix(name, "w") {
			p.run = w.runWorker
		}
		w.processes[name] = p
	}
	return p
}

func (w *world) newLink() *link {
	l := newLink(&w.net, w.count)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links = append(w.links, l)
	return l
}

func (w *world) allLinks() []*link {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.links)
}

func (w *world) all() []*process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Collect(maps.Values(w.processes))
}

// until waits for a time since the beginning.
func (w *world) until(ctx context.Context, at time.Duration) bool {
	return pauseFor(ctx, at-time.Since(w.began))
}

func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(d, 0))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[what]++
}

func (w *world) note(format string, args ...any) {
	w.journal.add(fmt.Sprintf("%8.3fs ", time.Since(w.began).Seconds()) + fmt.Sprintf(format, args...))
}

// fail notes a violation; the run goes on to its end.
func (w *world) fail(format string, args ...any) {
	w.note("VIOLATION "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = append(w.failures, fmt.Sprintf(format, args...))
}

// close ends everything, well, and waits for it.
func (w *world) close(stop context.CancelFunc) {
	stop()
	w.lives.Wait()
	w.log.Close()
	w.cluster.Close()
}
