// Random loads on workers that come, go and are killed: no lane runs more than its bound,
// no worker more than its slots, and no card holds more than its budget.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/internal/rounds"
)

const (
	crowdBudget = 1000
	crowdLoad   = 40
)

var crowdTasks = []string{"render_video", "tts.synthesize", "lipsync.apply"}

// crowd is workers on one card, and what really runs there.
type crowd struct {
	t    *testing.T
	b    *bench
	rand *rand.Rand
	seed uint64
	card string // folder of the account

	mu      sync.Mutex
	next    int
	members []*crowdMember
	killed  map[string]bool // by name
	running map[string]int  // by lane
	most    map[string]int
	bound   map[string]int
	memory  map[*Attempt]crowdEngine
	loaded  map[string]map[string]int // by unit and model
	faults  []string
	sent    map[string]string // where each command lies, by stage
}

type crowdMember struct {
	name    string
	net     *eventlogtest.Network
	slots   map[string]int
	dead    context.Context // ends when it is killed
	kill    context.CancelFunc
	stop    context.CancelFunc
	ended   chan error
	running map[string]int
}

// crowdEngine is an engine of one member.
type crowdEngine struct {
	c      *crowd
	member *crowdMember
	can    events.TaskCapability
	mib    int
	server string
}

func (e crowdEngine) Capability(context.Context) (events.TaskCapability, *events.TaskGap) {
	return e.can, nil
}
func (e crowdEngine) weighs() int { return e.mib }

// crowdKeeper also keeps its model.
type crowdKeeper struct{ crowdEngine }

func (e crowdKeeper) unit() string { return e.server }

func (e crowdKeeper) unload(context.Context) error {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	for _, other := range e.c.memory {
		if other.server == e.server {
			e.c.fault("%s is unloaded while %s works there", e.server, other.can.Engine)
		}
	}
	delete(e.c.loaded, e.server)
	return nil
}

func (e crowdEngine) Run(ctx context.Context, a *Attempt) (*Output, error) {
	c, lane := e.c, e.can.Lane
	c.mu.Lock()
	took := time.Duration(c.any(30)) * time.Millisecond
	c.memory[a] = e
	if e.server != "" {
		if c.loaded[e.server] == nil {
			c.loaded[e.server] = map[string]int{}
		}
		c.loaded[e.server][e.can.Model] = e.mib
	}
	c.running[lane]++
	e.member.running[lane]++
	c.most[lane] = max(c.most[lane], c.running[lane])
	c.check(e.member, lane)
	c.mu.Unlock()
	a.report(90, "nearly done") // so that a successor is accepted ahead
	select {
	case <-time.After(took):
	case <-ctx.Done():
	case <-e.member.dead.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.memory, a)
	c.running[lane]--
	e.member.running[lane]--
	return &Output{}, nil
}

// any is a random number below n. The caller holds mu.
func (c *crowd) any(n int) int { return c.rand.IntN(n) }

// some is any for who does not hold mu.
func (c *crowd) some(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.any(n)
}

// check holds what runs against the promises. The caller holds mu.
func (c *crowd) check(m *crowdMember, lane string) {
	if n := c.running[lane]; n > c.bound[lane] {
		c.fault("%d attempts of lane %s run, its bound is %d", n, lane, c.bound[lane])
	}
	if n := m.running[lane]; n > m.slots[lane] {
		c.fault("%d attempts of lane %s run in %s, which has %d slots", n, lane, m.name, m.slots[lane])
	}
	total, works := 0, map[string]int{}
	for _, e := range c.memory {
		if e.server == "" {
			total += e.mib
		} else {
			works[e.server+"/"+e.can.Model] += e.mib
		}
	}
	for unit, models := range c.loaded {
		for model, mib := range models {
			total += max(mib, works[unit+"/"+model])
		}
	}
	if total > crowdBudget {
		c.fault("%d MiB of the card are taken, its budget is %d", total, crowdBudget)
	}
}

func (c *crowd) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// weights are the same in every process: they belong to the models.
func (c *crowd) weights() (mib map[string]int, servers map[string]string) {
	r := rand.New(rand.NewPCG(c.seed, 99)) //nolint:gosec // a seed
	mib, servers = map[string]int{}, map[string]string{}
	for _, task := range crowdTasks {
		mib[task] = 60 + r.IntN(600)
		servers[task] = []string{"", "comfy", "ollama"}[r.IntN(3)]
	}
	return mib, servers
}

func (c *crowd) start() {
	c.mu.Lock()
	c.next++
	m := &crowdMember{name: fmt.Sprint("w", c.next), net: &eventlogtest.Network{}, slots: map[string]int{}, running: map[string]int{}, ended: make(chan error, 1)}
	for _, task := range crowdTasks {
		m.slots[taskLanes[task]] = 1 + c.any(3)
	}
	c.mu.Unlock()
	m.dead, m.kill = context.WithCancel(context.Background())
	mib, servers := c.weights()
	var engines []engine
	for _, task := range crowdTasks {
		e := crowdEngine{c, m, can(task), mib[task], servers[task]}
		if e.server == "" {
			engines = append(engines, e)
		} else {
			engines = append(engines, crowdKeeper{e})
		}
	}
	cfg := c.b.broker
	cfg.Instance, cfg.Dial, cfg.ProduceTimeout, cfg.SessionTimeout = m.name, m.net.Dial, 300*time.Millisecond, time.Second
	log, err := eventlog.Open(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	w, err := New(Config{Log: log, Objects: c.b.store, Keyring: c.b.ring, Worker: m.name, Slots: m.slots, Engines: engines, TempDir: filepath.Join(c.b.temp, m.name),
		Grace: 100 * time.Millisecond, Memory: MemoryConfig{BudgetMiB: crowdBudget, Folder: c.card}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		c.t.Fatal(err)
	}
	w.pace = w.pace.of(600 * time.Millisecond)
	w.pace.first, w.pace.progress = 5*time.Millisecond, 5*time.Millisecond
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go func() {
		err := w.Run(ctx)
		log.Close()
		m.ended <- err
	}()
	c.members = append(c.members, m)
}

// leave ends a member, cleanly or as a kill does: nobody hears of it any more, and what
// it runs stops.
func (c *crowd) leave(i int, killed bool) {
	m := c.members[i]
	c.members = append(c.members[:i], c.members[i+1:]...)
	if killed {
		c.killed[m.name] = true
		m.net.Cut()
		m.kill()
	}
	m.stop()
	if err := <-m.ended; err != nil && !killed && !errors.Is(err, eventlog.ErrFenced) {
		c.t.Errorf("seed %d: %s ended with %v", c.seed, m.name, err)
	}
}

func (c *crowd) load(n int) {
	for i := range n {
		task := crowdTasks[c.some(len(crowdTasks))]
		m := c.b.message(fmt.Sprintf("s%d-%d", c.next, i), events.TaskRun{})
		m.Task, m.Lane = task, taskLanes[task]
		value, err := events.Encode(m)
		if err != nil {
			c.t.Fatal(err)
		}
		r := eventlog.Record{Topic: events.LaneTopic(m.Lane), Partition: int32(c.some(c.bound[m.Lane])), Key: benchJob, Value: value} //nolint:gosec // few
		if c.some(3) == 0 {
			r.Topic = events.LaneBatchTopic(m.Lane)
		}
		if err := c.b.log.Produce(c.t.Context(), r); err != nil {
			c.t.Fatal(err)
		}
		c.sent[m.Stage] = r.At().String()
	}
}

// over says whether every command has ended, or was accepted by somebody who was killed.
func (c *crowd) over() bool { return len(c.ended()) == len(c.sent) }

// ended are the commands, by stage, that are over so. What a killed member had accepted
// counts: nobody here tries it again, and it may be more than one load.
func (c *crowd) ended() map[string]bool {
	done := map[string]bool{}
	for _, kind := range []string{"task.succeeded", "task.failed"} {
		for _, m := range c.b.of(kind, "") {
			done[m.Stage] = true
		}
	}
	for _, m := range c.b.of("task.accepted", "") {
		if c.killed[m.Worker] {
			done[m.Stage] = true
		}
	}
	return done
}

func crowdRound(t *testing.T, seed uint64) {
	b := newBench(t, engineOf(nil))
	c := &crowd{
		t: t, b: b, rand: rand.New(rand.NewPCG(seed, 1)), seed: seed, card: t.TempDir(), killed: map[string]bool{}, running: map[string]int{}, most: map[string]int{}, //nolint:gosec // a seed
		bound: map[string]int{}, memory: map[*Attempt]crowdEngine{}, loaded: map[string]map[string]int{}, sent: map[string]string{},
	}
	for _, task := range crowdTasks {
		c.bound[taskLanes[task]] = b.log.Partitions(events.LaneTopic(taskLanes[task]))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { _ = b.log.Tail(ctx, b.log.Whole(events.TopicTaskEvents), b.collect, nil) }()
	defer func() {
		if t.Failed() {
			c.diagnose()
		}
	}()
	for range 4 {
		c.start()
		c.load(crowdLoad / 4)
		c.await("some more has ended", func() bool { return len(c.ended()) > len(c.sent)-crowdLoad/4 })
		if len(c.members) > 1 {
			c.leave(c.some(len(c.members)), c.some(2) == 0)
		}
	}
	c.await("every command has ended", c.over)
	for len(c.members) > 0 {
		c.leave(0, false)
	}
	for _, f := range c.faults {
		t.Errorf("seed %d: %s", seed, f)
	}
	t.Logf("seed %d: at most %v ran at once, of %v", seed, c.most, c.bound)
}

func TestLanesAndTheCardStayWithinTheirBounds(t *testing.T) {
	t.Parallel()
	for seed := range rounds.New(t, "loads on lanes", "LANE_LOADS", 4).Rounds() {
		crowdRound(t, seed)
	}
}
