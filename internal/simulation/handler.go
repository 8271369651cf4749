// A handler process: the real core inside a model of the transaction runner, which
// can die, freeze, be thrown out of its group and not learn how a commit ended.

package simulation

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/handlers"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// phases of a batch.
const (
	idle    = iota
	wrote   // records are in an open transaction
	offered // and the consumed offsets too
)

type handler struct {
	w      *world
	name   string
	core   *handlers.Core
	up     bool
	frozen bool
	skew   time.Duration // of its clock

	epoch      int
	generation int
	pos        map[place]int64             // of the inputs of owned partitions
	owned      map[int32]*ownership        // recovered
	wanted     []int32                     // assigned, not yet recovered
	txn        *transaction                //
	phase      int                         //
	moved      map[place]commit            // by the open batch
	out        map[int32][]eventlog.Record // of the open batch, by the partition decided for
	tail       map[place]int64             // of workers, profiles and beats
}

// ownership is what the runner knows of a partition that it decides for.
type ownership struct {
	seq     int
	offsets map[place]int64 // committed
}

func newHandler(w *world, name string) *handler {
	return &handler{w: w, name: name, skew: time.Duration(w.between(-3000, 3000)) * time.Millisecond}
}

// now is the time by the process's own clock.
func (h *handler) now() time.Time { return h.w.now.Add(h.skew) }

func (w *world) deciders() *group { return w.log.group(handlers.Group) }

func (h *handler) newCore() *handlers.Core {
	w := h.w
	core, err := handlers.NewCore(handlers.CoreConfig{
		Policy: w.policy, Lanes: lanes(), Logger: slog.New(slog.DiscardHandler), Now: h.now,
		CarryAfter: w.carry, Archive: w.archive, Replay: w.replay,
	})
	if err != nil {
		panic(err) // the configuration above is complete
	}
	return core
}

// replay is eventlog.Log.Replay: the caller has waited until nothing is open.
func (w *world) replay(_ context.Context, at place, from int64, fn func([]eventlog.Record) error) (int64, error) {
	for {
		var batch []eventlog.Record
		batch, from = w.log.read(at, from, 7)
		if len(batch) == 0 {
			return w.log.stable(at), nil
		}
		if err := fn(batch); err != nil {
			return 0, err
		}
	}
}

func (h *handler) start() {
	h.core, h.up, h.frozen = h.newCore(), true, false
	h.tail = map[place]int64{}
	h.tailAll()
	h.session()
	h.w.deciders().join(h.name)
	h.w.reassign()
}

// session begins anew: nothing is owned, what was open is aborted.
func (h *handler) session() {
	for _, p := range slices.Sorted(maps.Keys(h.owned)) {
		h.core.Drop(p)
	}
	h.epoch = h.w.log.producer(h.name)
	h.pos, h.owned, h.wanted = map[place]int64{}, map[int32]*ownership{}, nil
	h.txn, h.phase, h.moved, h.out = nil, idle, nil, nil
	h.generation = -1
}

// reassign is a rebalance of the deciding group.
func (w *world) reassign() {
	w.deciders().assign(partitions, w.rng.IntN)
	w.say("rebalance: generation %d, %v", w.deciders().generation, w.deciders().owner)
}

// work takes the next step of the runner.
func (h *handler) work() bool {
	switch {
	case h.phase == wrote:
		return h.addOffsets()
	case h.phase == offered:
		return h.finish()
	case h.generation != h.w.deciders().generation:
		return h.sync()
	case len(h.wanted) > 0 && h.recover():
		return true
	}
	return h.poll()
}

// sync takes over the group's new generation.
func (h *handler) sync() bool {
	g := h.w.deciders()
	if !slices.Contains(g.members, h.name) {
		g.join(h.name)
		h.w.reassign()
	}
	h.generation, h.wanted = g.generation, nil
	for p, o := range h.owned {
		stays := g.owner[p] == h.name
		for at, offset := range o.offsets {
			stays = stays && g.commits[at].offset == offset
		}
		if !stays {
			h.drop(p)
		}
	}
	for p := range int32(partitions) {
		if g.owner[p] == h.name && h.owned[p] == nil {
			h.wanted = append(h.wanted, p)
		}
	}
	h.w.say("%s joins generation %d: keeps %d, wants %v", h.name, g.generation, len(h.owned), h.wanted)
	return true
}

func (h *handler) drop(p int32) {
	h.core.Drop(p)
	delete(h.owned, p)
}

// recover builds the state of the next wanted partition, once nothing is open there.
func (h *handler) recover() bool {
	g, p := h.w.deciders(), h.wanted[0]
	h.w.fenceDead()
	if h.w.log.unstable(g, p) {
		h.w.saw("offsets are unstable at an assignment")
		return false
	}
	for _, topic := range []string{events.TopicJobEvents, events.TopicProfileEvents, events.TopicJobIndex} {
		if at := (place{Topic: topic, Partition: p}); h.w.log.stable(at) < int64(len(h.w.log.parts[at])) {
			h.w.saw("a transaction is open at an assignment")
			return false
		}
	}
	o, meta := h.w.position(p)
	for at, offset := range o.offsets {
		h.pos[at] = max(0, offset)
		if offset < 0 {
			h.pos[at] = h.w.resumeAt(at)
		}
	}
	if err := h.core.Recover(context.Background(), p, meta); err != nil {
		h.w.wrong("L9", "", "%s cannot recover partition %d: %v", h.name, p, err)
	}
	h.owned[p], h.wanted = o, h.wanted[1:]
	h.w.saw("a partition is recovered")
	h.w.say("%s recovers partition %d from %q, inputs at %v", h.name, p, meta, sortedPlaces(h.pos))
	return true
}

// position is what the group has committed for a partition number.
func (w *world) position(p int32) (*ownership, string) {
	o := &ownership{offsets: map[place]int64{}}
	meta := ""
	for _, topic := range handlers.Inputs() {
		at := place{Topic: topic, Partition: p}
		c, ok := w.deciders().commits[at]
		if !ok {
			o.offsets[at] = -1
			continue
		}
		o.offsets[at] = c.offset
		if c.seq >= o.seq {
			o.seq, meta = c.seq, c.meta
		}
	}
	return o, meta
}

// resumeAt is behind the last input that the journals show as decided.
func (w *world) resumeAt(input place) int64 {
	next := int64(0)
	for _, topic := range handlers.Journals() {
		at := place{Topic: topic, Partition: input.Partition}
		records, _ := w.log.read(at, 0, len(w.log.parts[at]))
		for _, r := range records {
			if r.Header(eventlog.HeaderSourceTopic) != input.Topic {
				continue
			}
			if o, err := strconv.ParseInt(r.Header(eventlog.HeaderSourceOffset), 10, 64); err == nil {
				next = max(next, o+1)
			}
		}
	}
	if next > 0 {
		w.saw("inputs are resumed by source headers")
	}
	return next
}

// fenceDead aborts what is open under the names of handlers that are no members.
func (w *world) fenceDead() {
	for _, t := range slices.Clone(w.log.open) {
		if t.group == nil && !slices.Contains(w.deciders().members, t.id) {
			w.saw("a dead handler's transaction is fenced")
			w.log.producer(t.id)
		}
	}
}

// poll decides a batch and writes what was decided.
func (h *handler) poll() bool {
	batch := h.fetch()
	if len(batch) == 0 {
		return false
	}
	h.tailAll()
	slices.SortStableFunc(batch, func(a, b eventlog.Record) int { return int(a.Partition) - int(b.Partition) })
	h.txn, h.phase = h.w.log.begin(h.name, h.epoch), wrote
	h.moved, h.out = map[place]commit{}, map[int32][]eventlog.Record{}
	for _, in := range batch {
		decided, err := h.core.Decide(in)
		if errors.Is(err, eventlog.ErrUndecodable) {
			h.w.saw("a dead letter")
			decided, err = []eventlog.Record{{Topic: events.TopicDeadLetters, Key: in.Key, Value: in.Value}}, nil
		}
		if err != nil {
			h.w.wrong("T1", in.Key, "%s cannot decide %s offset %d: %v", h.name, in.At(), in.Offset, err)
		}
		p := in.Partition
		if h.out[p] == nil {
			h.out[p] = []eventlog.Record{}
		}
		for _, r := range decided {
			r.Headers = append(slices.Clip(r.Headers), eventlog.Header{Key: eventlog.HeaderSourceTopic, Value: in.Topic},
				eventlog.Header{Key: eventlog.HeaderSourcePartition, Value: strconv.Itoa(int(p))},
				eventlog.Header{Key: eventlog.HeaderSourceOffset, Value: strconv.FormatInt(in.Offset, 10)})
			h.out[p] = append(h.out[p], h.w.log.write(r, h.txn))
		}
		h.moved[in.At()] = commit{offset: in.Offset + 1}
	}
	h.w.say("%s decides %d inputs: %s", h.name, len(batch), h.w.describe(batch, h.out))
	return true
}

// fetch takes a few inputs, a few of each topic at a time.
func (h *handler) fetch() []eventlog.Record {
	var places []place
	for _, p := range slices.Sorted(maps.Keys(h.owned)) {
		for _, topic := range handlers.Inputs() {
			if at := (place{Topic: topic, Partition: p}); h.w.log.stable(at) > h.pos[at] {
				places = append(places, at)
			}
		}
	}
	var batch []eventlog.Record
	for range h.w.between(1, 4) {
		if len(places) == 0 {
			break
		}
		at := pick(h.w, places)
		var got []eventlog.Record
		got, h.pos[at] = h.w.log.read(at, h.pos[at], h.w.between(1, 4))
		batch = append(batch, got...)
	}
	return batch
}

func (h *handler) addOffsets() bool {
	for at, c := range h.moved {
		c.seq = h.owned[at.Partition].seq + 1
		h.moved[at] = c
	}
	metas := map[int32]string{}
	for _, p := range slices.Sorted(maps.Keys(h.out)) {
		metas[p] = h.core.Meta(p, h.out[p])
	}
	for at, c := range h.moved {
		c.meta = metas[at.Partition]
		h.moved[at] = c
	}
	if err := h.w.log.addOffsets(h.txn, h.w.deciders(), h.generation, h.moved); err != nil {
		return h.lose(err)
	}
	h.phase = offered
	return true
}

// finish ends the transaction, in one of the ways in which that can go.
func (h *handler) finish() bool {
	if h.w.fault(h.w.chances.broker / 3) {
		h.w.saw("a transaction is aborted")
		h.w.say("%s aborts", h.name)
		h.w.log.end(h.txn, txnAborted)
		h.session()
		return true
	}
	err := h.w.log.commit(h.txn)
	if err != nil {
		return h.lose(err)
	}
	if h.w.fault(h.w.chances.broker / 3) {
		h.w.saw("a transaction commits and its writer does not learn it")
		h.w.say("%s commits, and does not know", h.name)
		h.session()
		return true
	}
	for _, p := range slices.Sorted(maps.Keys(h.out)) {
		h.owned[p].seq++
		h.core.Committed(p, h.out[p])
	}
	for at, c := range h.moved {
		h.owned[at.Partition].offsets[at] = c.offset
	}
	h.txn, h.phase, h.moved, h.out = nil, idle, nil, nil
	return true
}

// lose gives up a transaction that must not commit.
func (h *handler) lose(err error) bool {
	h.w.saw("a zombie's transaction does not commit")
	h.w.say("%s cannot commit: %v", h.name, err)
	if errors.Is(err, errFenced) {
		h.up, h.txn = false, nil // the process exits: another one has its name
		return true
	}
	h.w.log.end(h.txn, txnAborted)
	h.session()
	return true
}

func sortedPlaces(m map[place]int64) []string {
	var out []string
	for at, o := range m {
		out = append(out, at.String()+"@"+strconv.FormatInt(o, 10))
	}
	slices.Sort(out)
	return out
}
