// What happens to handler processes, and what they do beside deciding.

package simulation

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// anyHandler does something with one of the handlers that are at work.
func (w *world) anyHandler(do func(*handler) bool) func() bool {
	return func() bool {
		at := slices.DeleteFunc(slices.Clone(w.handlers), func(h *handler) bool { return !h.up || h.frozen })
		return len(at) > 0 && do(pick(w, at))
	}
}

// clock writes the deadlines that have passed.
func (h *handler) clock() bool {
	h.tails()
	due := h.core.Due(h.now())
	for _, r := range due {
		switch {
		case h.w.fault(h.w.chances.broker):
			if h.w.chance(50) { // it lies there, and the clock does not know
				h.w.saw("a clock's command lands twice")
				h.w.log.write(r, nil)
			}
			h.core.GiveBack(r)
		default:
			h.w.log.write(r, nil)
		}
		if m, err := events.Decode(r.Value); err == nil {
			h.w.saw(m.Type())
			h.checkLease(m)
			h.w.say("%s: %s of %s %s %d", h.name, m.Type(), short(m.AggregateID), m.Stage, m.Attempt)
		}
	}
	return len(due) > 0
}

// tails reads on in the topics that are kept in memory, and in the beats.
func (h *handler) tails() bool {
	h.tailAll()
	if h.w.fault(h.w.chances.broker) {
		h.w.saw("the tail of beats is interrupted")
		h.core.BeatsCurrent(false, h.now())
		return true
	}
	for p := range int32(partitions) {
		at := place{Topic: events.TopicTaskProgress, Partition: p}
		records, next := h.w.log.read(at, h.tail[at], 1000)
		h.tail[at] = next
		for _, r := range records {
			h.core.Beat(r, h.now())
		}
	}
	h.core.BeatsCurrent(true, h.now())
	return true
}

// checkLease holds the lease clock to the beats: an attempt that has beaten within
// its lease must not expire, whatever the handler could not read.
func (h *handler) checkLease(m events.Message) {
	if _, ok := m.Data.(events.ClockLeaseExpired); !ok {
		return
	}
	if silent := h.w.now.Sub(h.w.beats[attemptOf(m)]); silent < lease {
		h.w.wrong("L7", m.AggregateID, "the lease of attempt %d of %s ends %v after a beat", m.Attempt, m.Stage, silent)
	}
}

func (h *handler) tailAll() {
	for _, at := range whole() {
		records, next := h.w.log.read(at, h.tail[at], 1000)
		h.tail[at] = next
		if len(records) > 0 {
			h.core.Learn(latest(at, records))
		}
	}
}

// whole are the partitions that a handler keeps in memory.
func whole() []place {
	places := []place{{Topic: events.TopicWorkers}}
	for p := range int32(partitions) {
		places = append(places, place{Topic: events.TopicProfileEvents, Partition: p})
	}
	return places
}

// latest leaves out what compaction may have taken away.
func latest(at place, records []eventlog.Record) []eventlog.Record {
	if at.Topic != events.TopicWorkers {
		return records
	}
	last := map[string]int64{}
	for _, r := range records {
		last[r.Key] = r.Offset
	}
	return slices.DeleteFunc(records, func(r eventlog.Record) bool { return last[r.Key] != r.Offset })
}

// die ends the process at once; what was open stays open.
func (h *handler) die() bool {
	h.w.saw("a handler dies")
	if h.phase != idle {
		h.w.saw("a handler dies in a transaction")
	}
	h.w.say("%s dies in phase %d", h.name, h.phase)
	h.up = false
	if h.w.chance(50) { // its session times out before it comes back
		h.w.deciders().leave(h.name)
		h.w.reassign()
	}
	return true
}

// freeze stops the process for a while. It may be replaced meanwhile.
func (h *handler) freeze() bool {
	h.w.saw("a handler freezes")
	h.w.say("%s freezes in phase %d", h.name, h.phase)
	h.frozen = true
	if h.w.chance(60) {
		h.w.deciders().leave(h.name)
		h.w.reassign()
	}
	if h.w.chance(30) { // a supervisor starts another of the same name
		i := slices.Index(h.w.handlers, h)
		h.w.zombies = append(h.w.zombies, h)
		h.w.handlers[i] = newHandler(h.w, h.name)
		h.w.handlers[i].start()
	}
	return true
}

// thaw lets a frozen process go on, as if nothing had been.
func (w *world) thaw() bool {
	frozen := slices.DeleteFunc(slices.Clone(w.handlers), func(h *handler) bool { return !h.up || !h.frozen })
	for _, h := range frozen {
		w.say("%s thaws in phase %d", h.name, h.phase)
		h.frozen = false
		if h.phase != idle {
			h.work()
		}
	}
	for _, z := range w.zombies {
		w.say("a zombie of %s thaws in phase %d", z.name, z.phase)
		w.saw("a zombie of the same name goes on")
		switch z.phase {
		case wrote:
			z.addOffsets()
		case offered:
			z.finish()
		default:
			z.clock() // it does not know yet
		}
	}
	some := len(frozen)+len(w.zombies) > 0
	w.zombies = nil
	return some
}

// revive starts handlers that have died.
func (w *world) revive() bool {
	for _, h := range w.handlers {
		if !h.up {
			w.say("%s starts", h.name)
			h.start()
			return true
		}
	}
	return false
}

// throwOut takes a member out of the group; it does not know.
func (w *world) throwOut() bool {
	g := w.deciders()
	if len(g.members) == 0 {
		return false
	}
	w.saw("a handler is thrown out of its group")
	g.leave(pick(w, g.members))
	w.reassign()
	return true
}

func (w *world) rebalance() bool {
	w.saw("a rebalance of handlers")
	w.reassign()
	return true
}

// timeOut aborts an open transaction whose writer says nothing any more.
func (w *world) timeOut() bool {
	for _, t := range w.log.open {
		alive := slices.ContainsFunc(w.handlers, func(h *handler) bool { return h.up && !h.frozen && h.txn == t })
		if !alive {
			w.saw("an open transaction times out")
			w.log.producer(t.id)
			return true
		}
	}
	return false
}

// loseOffsets forgets the group, as a broker does when nobody was in it for long.
func (w *world) loseOffsets() bool {
	if w.calm || slices.ContainsFunc(w.handlers, func(h *handler) bool { return h.up }) || len(w.log.open) > 0 {
		return false
	}
	w.saw("the group's offsets are lost")
	w.say("the group's offsets are lost")
	w.deciders().commits = map[place]commit{}
	return true
}

// compareRecovery holds the state that a handler decides by to one that is
// recovered from the log: both must decide the same about everything.
func (h *handler) compareRecovery() bool {
	if h.phase != idle || len(h.owned) == 0 || h.generation != h.w.deciders().generation {
		return false
	}
	p := pick(h.w, slices.Sorted(maps.Keys(h.owned)))
	_, meta := h.w.position(p)
	h.compare(p, meta)
	return true
}

func (h *handler) compare(p int32, metas ...string) {
	h.tailAll()
	probes := h.w.probes(p)
	live := h.answersTo(h.w, probes, p, nil)
	for _, meta := range metas {
		fresh := h.answersTo(h.w, probes, p, &meta)
		for i := range probes {
			if live[i] != fresh[i] {
				m, _ := events.Decode(probes[i].Value)
				here, there := difference(live[i], fresh[i])
				h.w.wrong("L9", probes[i].Key, "after recovery from %q, %s %s %d is answered\n  %s\nwhere the living state answers\n  %s", meta, m.Type(), m.Stage, m.Attempt, there, here)
				break
			}
		}
	}
	h.w.saw("a living state is compared with a recovered one")
	_, meta := h.w.position(p)
	h.core.Drop(p) // the probes are in it
	if err := h.core.Recover(context.Background(), p, meta); err != nil {
		h.w.wrong("L9", "", "%s cannot recover partition %d: %v", h.name, p, err)
	}
}

// answersTo decides the probes one after another: in the handler's own core, or in
// one that is recovered from the given text.
func (h *handler) answersTo(w *world, probes []eventlog.Record, p int32, meta *string) []string {
	core := h.core
	if meta != nil {
		core = h.newCore()
		for _, at := range whole() {
			records, _ := w.log.read(at, 0, len(w.log.parts[at]))
			core.Learn(latest(at, records))
		}
		if err := core.Recover(context.Background(), p, *meta); err != nil {
			return slices.Repeat([]string{err.Error()}, len(probes))
		}
	}
	out := make([]string, len(probes))
	for i, in := range probes {
		records, err := core.Decide(in)
		out[i] = digest(records, err)
	}
	return out
}

// probes are inputs that show what a core knows about every job of a partition.
func (w *world) probes(p int32) []eventlog.Record {
	var out []eventlog.Record
	at := w.now.Add(time.Hour)
	for _, id := range w.clients.jobsOf(p) {
		for _, m := range w.clients.probe(id, at) {
			r := record(events.TopicJobCommands, m)
			r.Partition = p
			out = append(out, r)
		}
	}
	return out
}

// difference is the first line in which two answers differ.
func difference(a, b string) (string, string) {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return as[i], bs[i]
		}
	}
	return a, b
}
