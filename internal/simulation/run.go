// One run: steps with faults, then none, then what must be true.

package simulation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/invariants"
	"github.com/myspinbot/myspinbot/projections"
)

// Run simulates the system from a seed and judges what it left behind.
func Run(seed uint64, tracing bool) Result {
	w := newWorld(seed, tracing)
	for range w.between(40, 320) {
		w.step()
	}
	w.settle()
	w.judge()
	return Result{Seed: seed, Steps: w.steps, Violations: w.broken, Seen: w.seen, Trace: w.trace, Digest: w.digest()}
}

// settle ends all faults and lets the system finish.
func (w *world) settle() {
	w.calm = true
	w.say("faults stop")
	w.thaw()
	for w.revive() || w.wake() {
	}
	for _, k := range w.workers {
		k.offline = false
	}
	for _, t := range slices.Clone(w.log.open) {
		if !slices.ContainsFunc(w.handlers, func(h *handler) bool { return h.txn == t }) {
			w.log.producer(t.id)
		}
	}
	for quiet := 0; quiet < 30 && w.steps < 20_000; {
		w.steps++
		moved := false
		for _, h := range w.handlers {
			if !h.up {
				h.start()
			}
			moved = h.work() || moved
			h.tails()
			moved = h.clock() || moved
		}
		for _, k := range w.workers {
			k.beat()
			moved = k.work() || moved
		}
		moved = w.clients.answers() || moved
		if moved {
			quiet = 0
			w.pass(100 * time.Millisecond)
			continue
		}
		// Nothing is due: go on to where something is, with steps as long as a lease at
		// first and of minutes later.
		quiet++
		w.now = w.now.Add(time.Duration(quiet) * 16 * time.Second)
	}
}

// judge holds the history to what is promised, and states to their logs.
func (w *world) judge() {
	h := invariants.History{Records: map[string][]eventlog.Record{}, Calls: w.clients.calls, Settled: true, Limits: invariants.Limits{
		MaxAttempts: w.policy.MaxAttempts, BackOff: w.policy.BackOff / 4, Partitions: partitions, Canaries: []string{canary},
	}, Object: func(uri string) (invariants.Object, bool) { o, ok := w.store.objects[uri]; return o, ok }}
	for _, topic := range topics() {
		h.Records[topic] = w.log.all(topic)
	}
	if w.seed%4 == 0 { // rows have tests of their own; here they meet histories of the real core
		h.Tables = w.project(h.Records)
	}
	w.broken = append(w.broken, invariants.Check(h)...)
	for _, r := range slices.Concat(h.Records[events.TopicJobEvents], h.Records[events.TopicProfileEvents]) {
		if m, err := events.Decode(r.Value); err == nil {
			w.saw(m.Type())
		}
	}
	if n := len(w.log.open); n > 0 {
		w.wrong("L8", "", "%d transactions are open at the end", n)
	}
	for _, h := range w.handlers {
		for _, p := range slices.Sorted(maps.Keys(h.owned)) {
			if w.chance(50) { // the other seeds look at the other partitions
				_, meta := w.position(p)
				h.compare(p, meta, "")
			}
		}
	}
}

// project makes rows as a projector does: in batches, partition by partition in any
// order, sometimes told again what it knows.
func (w *world) project(records map[string][]eventlog.Record) *invariants.Tables {
	rest := map[place][]eventlog.Record{}
	var places []place
	for _, topic := range []string{events.TopicJobEvents, events.TopicProfileEvents} {
		for _, r := range records[topic] {
			if rest[r.At()] == nil {
				places = append(places, r.At())
			}
			rest[r.At()] = append(rest[r.At()], r)
		}
	}
	rows := projections.NewMemory()
	for len(places) > 0 {
		i := w.rng.IntN(len(places))
		n := min(len(rest[places[i]]), w.between(1, 30))
		again := 1
		if w.chance(10) {
			again = 2
		}
		for range again {
			if err := rows.Apply(rest[places[i]][:n]); err != nil {
				w.wrong("P1", "", "the projection stops: %v", err)
			}
		}
		if rest[places[i]] = rest[places[i]][n:]; len(rest[places[i]]) == 0 {
			places = slices.Delete(places, i, i+1)
		}
	}
	if n := rows.Counts().Rejected; n > 0 {
		w.wrong("P1", "", "the projection rejects %d facts", n)
	}
	dump, err := rows.Dump()
	if err != nil {
		w.wrong("P1", "", "the rows cannot be told: %v", err)
	}
	return &invariants.Tables{Dump: dump, Fold: func(facts []eventlog.Record) (string, error) {
		rows := projections.NewMemory()
		if err := rows.Apply(facts); err != nil {
			return "", err
		}
		return rows.Dump()
	}}
}

// digest names every byte on the log.
func (w *world) digest() string {
	sum := sha256.New()
	for _, topic := range topics() {
		for p := range int32(w.log.partitions(topic)) { //nolint:gosec // a handful
			for _, s := range w.log.parts[place{Topic: topic, Partition: p}] {
				fmt.Fprintf(sum, "%v %s %d %s %s %v\n", s.marker, topic, s.rec.Offset, s.rec.Key, s.rec.Value, s.rec.Headers) //nolint:errcheck // a hash never fails
			}
		}
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// placed is what two cores may decide differently: where the next attempt queues
// depends on what else they hold.
var placed = regexp.MustCompile(`"partition":\d+`)

// digest is what a core answered, in a form that can be compared.
func digest(records []eventlog.Record, err error) string {
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, r := range records {
		if !partitioned(r.Topic) && r.Topic != events.TopicJobIndex {
			fmt.Fprintf(&b, "%s %s\n", r.Topic, placed.ReplaceAll(r.Value, nil))
		}
	}
	return b.String()
}

func short(id string) string { return id[:min(8, len(id))] }

// describe is what a batch led to, for the trace.
func (w *world) describe(batch []eventlog.Record, out map[int32][]eventlog.Record) string {
	if !w.tracing {
		return ""
	}
	var b strings.Builder
	for _, in := range batch {
		m, _ := events.Decode(in.Value)
		fmt.Fprintf(&b, "\n       %s@%d %s %s %s %d ->", in.At(), in.Offset, m.Type(), short(in.Key), m.Stage, m.Attempt)
		for _, r := range out[in.Partition] {
			if r.Header(eventlog.HeaderSourceTopic) == in.Topic && r.Header(eventlog.HeaderSourceOffset) == fmt.Sprint(in.Offset) {
				f, _ := events.Decode(r.Value)
				fmt.Fprintf(&b, " %s(%s %d)", f.Type(), f.Stage, f.Attempt)
			}
		}
	}
	return b.String()
}

// garbage is an input that nobody can read.
func (w *world) garbage() bool {
	if w.calm {
		return false
	}
	topic := pick(w, []string{events.TopicJobCommands, events.TopicTaskEvents})
	w.log.write(eventlog.Record{Topic: topic, Key: fmt.Sprint("x", w.steps), Value: []byte("{")}, nil)
	return true
}

// double writes an input a second time, as a producer without a memory may.
func (w *world) double() bool {
	if w.calm {
		return false
	}
	topic := pick(w, []string{events.TopicJobCommands, events.TopicJobCommands, events.TopicTaskEvents, events.TopicProfileCommands})
	records := w.log.all(topic)
	if len(records) == 0 {
		return false
	}
	if w.chance(60) { // mostly what is not decided yet, or just was
		records = records[max(0, len(records)-6):]
	}
	r := pick(w, records)
	m, err := events.Decode(r.Value)
	if err != nil || w.mayTurn(m) {
		return false
	}
	w.saw("an input is doubled: " + topic)
	w.log.write(r, nil)
	return true
}

// mayTurn says whether a command was refused, or may be: heard again when the job
// exists, or waits for approval, it would be heeded. Nobody but an operator who replays dead
// letters writes such a command twice, so that no memory of refusals is kept.
func (w *world) mayTurn(m events.Message) bool {
	switch m.Data.(type) {
	case events.JobApprove, events.JobDeny, events.JobCancel:
		return !slices.ContainsFunc(w.clients.calls, func(c invariants.Call) bool {
			return c.CommandID == m.CommandID && c.Outcome == invariants.Accepted
		})
	default:
		return false
	}
}
