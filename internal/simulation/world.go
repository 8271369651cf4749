// The world: its parts, its time, its chances, and what was seen to happen.

package simulation

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/invariants"
)

// Sizes of every simulated system. Small numbers meet more often.
const (
	partitions     = 3
	lanePartitions = 2
	lease          = 15 * time.Second
)

// canary stands in every text that a simulated person writes, and in every key.
const canary = "canary"

var birth = time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)

// Result is what one run left behind.
type Result struct {
	Seed       uint64
	Steps      int
	Violations []invariants.Violation
	Seen       map[string]int // situations and fact types, by how often
	Trace      []string       // one line a step, if it was asked for
	Digest     string         // of every byte on the log, in its order
}

// Err is nil when nothing was wrong.
func (r Result) Err() error {
	if len(r.Violations) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d violations", r.Seed, len(r.Violations))
	for _, v := range r.Violations[:min(5, len(r.Violations))] {
		text := v.String()
		fmt.Fprintf(&b, "\n  %s", text[:min(len(text), 2000)])
	}
	fmt.Fprintf(&b, "\nrun it again: SEED=%d go test -run TestSeed ./internal/simulation", r.Seed)
	return fmt.Errorf("%s", b.String())
}

// report is what a worker wrote, with its message.
type report struct {
	rec eventlog.Record
	m   events.Message
}

// chances are how often things go wrong in one run, in percent.
type chances struct {
	broker  int // writes and commits of which the writer does not learn the outcome
	process int // processes die or freeze
	worker  int // attempts fail
	double  int // records are doubled
	late    int // big jumps of the clock
}

type world struct {
	seed     uint64
	rng      *rand.Rand
	now      time.Time
	log      *memLog
	policy   aggregates.Policy
	carry    int64
	chances  chances
	calm     bool // faults have stopped
	handlers []*handler
	zombies  []*handler // replaced while they were frozen
	workers  []*worker
	clients  *clients
	store    *store
	seen     map[string]int
	tracing  bool
	trace    []string
	steps    int
	archive  time.Duration

	// Of the lanes, by lane and partition number: the attempt accepted last, and since
	// when its owner has been watching. By attempt: whether a report lies on the log,
	// and the latest beat.
	accepted map[place]string
	owned    map[place]time.Time
	ended    map[string]bool
	beats    map[string]time.Time
	reports  []report // every one written
	troubled string   // the job of which a stage failed last

	broken []invariants.Violation // found on the way
}

func newWorld(seed uint64, tracing bool) *world {
	w := &world{seed: seed, rng: rand.New(rand.NewPCG(seed, 0x5eed)), now: birth, seen: map[string]int{}, tracing: tracing} //nolint:gosec // see the package
	w.policy = aggregates.Policy{MaxAttempts: w.between(1, 3), BackOff: 2 * time.Second, JobDeadline: 2 * time.Hour, ApprovalExpiry: 20 * time.Minute, StageGrace: 30 * time.Second}
	w.accepted, w.owned, w.ended, w.beats = map[place]string{}, map[place]time.Time{}, map[string]bool{}, map[string]time.Time{}
	w.archive = time.Duration(w.between(1, 120)) * time.Minute
	w.carry = int64(w.between(5, 60))
	level := func() int { return []int{0, 6, 25}[w.rng.IntN(3)] }
	w.chances = chances{broker: level(), process: level(), worker: []int{0, 10, 35}[w.rng.IntN(3)], double: level(), late: level()}
	w.log = newMemLog(func() time.Time { return w.now }, func(topic string) int {
		switch {
		case partitioned(topic):
			return lanePartitions
		case topic == events.TopicWorkers || topic == events.TopicTaskControl:
			return 1
		}
		return partitions
	})
	w.store = newStore()
	w.clients = newClients(w)
	for i := range w.between(1, 3) {
		w.workers = append(w.workers, newWorker(w, fmt.Sprint("worker-", i)))
	}
	for i := range w.between(1, 3) {
		w.handlers = append(w.handlers, newHandler(w, fmt.Sprint("handler-", i)))
	}
	w.announce()
	for _, h := range w.handlers {
		h.start()
	}
	return w
}

func lanes() map[string]int {
	out := map[string]int{}
	for _, lane := range events.Lanes() {
		out[lane] = lanePartitions
	}
	return out
}

// between draws a number from low to high, both included.
func (w *world) between(low, high int) int { return low + w.rng.IntN(high-low+1) }

// chance is true in n of 100 draws.
func (w *world) chance(n int) bool { return w.rng.IntN(100) < n }

// fault is chance while faults last.
func (w *world) fault(n int) bool { return !w.calm && w.chance(n) }

func pick[T any](w *world, from []T) T { return from[w.rng.IntN(len(from))] }

// saw counts a situation.
func (w *world) saw(what string) { w.seen[what]++ }

func (w *world) say(format string, args ...any) {
	if w.tracing {
		w.trace = append(w.trace, fmt.Sprintf("%4d %s %s", w.steps, w.now.Format("15:04:05.000"), fmt.Sprintf(format, args...)))
	}
}

func (w *world) wrong(invariant, job, format string, args ...any) {
	w.broken = append(w.broken, invariants.Violation{Invariant: invariant, Job: job, Detail: fmt.Sprintf(format, args...)})
}

// pass lets time go by; workers at work say so.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.announce()
}

// announce writes the manifests of workers whose last one is getting old.
func (w *world) announce() {
	for _, k := range w.workers {
		k.announce()
	}
}

// action is one kind of step. do says whether there was anything to do.
type action struct {
	name   string
	weight int
	do     func() bool
}

// step does one thing.
func (w *world) step() {
	w.steps++
	actions := w.actions()
	for range 20 {
		total := 0
		for _, a := range actions {
			total += a.weight
		}
		n := w.rng.IntN(total)
		i := slices.IndexFunc(actions, func(a action) bool { n -= a.weight; return n < 0 })
		if actions[i].do() {
			return
		}
	}
	w.pass(time.Second)
}

func (w *world) actions() []action {
	p, b := w.chances.process, w.chances.broker
	return []action{
		{"submit", 5, w.clients.submit},
		{"again", 2, w.clients.submitAgain},
		{"cancel", 2, w.clients.cancel},
		{"approve", 3, w.clients.approve},
		{"label", 1, w.clients.label},
		{"profiles", 1, w.clients.profiles},
		{"rerun", 2, w.clients.rerun},
		{"answers", 4, w.clients.answers},
		{"garbage", 1, w.garbage},
		{"double", 1 + w.chances.double/5, w.double},
		{"handler", 110, w.anyHandler((*handler).work)},
		{"clock", 10, w.anyHandler((*handler).clock)},
		{"tails", 12, w.anyHandler((*handler).tails)},
		{"recovered", 1, w.anyHandler((*handler).compareRecovery)},
		{"handler dies", p / 5, w.anyHandler((*handler).die)},
		{"handler freezes", p / 8, w.anyHandler((*handler).freeze)},
		{"handler thaws", 3, w.thaw},
		{"handler starts", 6, w.revive},
		{"handler is thrown out", (p + b) / 10, w.throwOut},
		{"rebalance", (p + b) / 10, w.rebalance},
		{"open transaction times out", 2, w.timeOut},
		{"offsets lost", p / 10, w.loseOffsets},
		{"worker", 130, w.anyWorker((*worker).work)},
		{"worker beats", 10, w.anyWorker((*worker).beat)},
		{"worker dies", p / 5, w.anyWorker((*worker).die)},
		{"worker freezes", p / 5, w.anyWorker((*worker).freeze)},
		{"worker cut", b / 5, w.anyWorker((*worker).cut)},
		{"worker returns", 6, w.anyWorker((*worker).back)},
		{"old answer", w.chances.double / 5, w.oldAnswer},
		{"lanes move", (p + b) / 10, w.moveLanes},
		{"time", 35, func() bool { w.pass(time.Duration(w.between(1, 3000)) * time.Millisecond); return true }},
		{"much time", w.chances.late / 5, func() bool {
			w.saw("the clock jumps")
			w.pass(time.Duration(w.between(5, 1500)) * time.Second)
			return true
		}},
	}
}
