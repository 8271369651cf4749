// L3 and T1 as far as they need no knowledge of jobs: identities, chains, times,
// and what each input led to.

package invariants

import (
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// journals are the topics that hold facts.
var journals = []string{events.TopicJobEvents, events.TopicProfileEvents}

// checkChains holds every stream to versions without holes, each naming its
// predecessor, and every partition to times that never decrease.
func (r *reading) checkChains() {
	ids := map[string]bool{}
	for _, topic := range journals {
		chains := map[string]events.Chain{}
		var partition int32 = -1
		var last time.Time
		for _, e := range r.entries[topic] {
			m := e.m
			if e.rec.Partition != partition {
				partition, last = e.rec.Partition, time.Time{}
			}
			if m.OccurredAt.Before(last) {
				r.violation("L3", m.AggregateID, "%s version %d happened at %v, before an earlier fact of its partition", m.Type(), m.Version, m.OccurredAt)
			}
			last = m.OccurredAt
			if ids[m.ID] {
				r.violation("L3", m.AggregateID, "event id %s is there twice", m.ID)
			}
			ids[m.ID] = true
			c := chains[m.AggregateID]
			if m.Version != c.Version+1 || m.PrevID != c.LastID {
				r.violation("L3", m.AggregateID, "%s has version %d after %q where the chain stands at version %d, %q", m.Type(), m.Version, m.PrevID, c.Version, c.LastID)
			}
			chains[m.AggregateID] = events.Chain{Version: m.Version, LastID: m.ID}
			r.checkPlace(topic, e)
		}
	}
}

// checkPlace holds a fact to its key, its partition and its kind.
func (r *reading) checkPlace(topic string, e entry) {
	id := e.m.AggregateID
	if e.rec.Key != id {
		r.violation("L3", id, "%s lies under the key %q", e.m.Type(), e.rec.Key)
	}
	if n := r.h.Limits.Partitions; n > 0 && e.rec.Partition != eventlog.PartitionFor(id, n) {
		r.violation("L3", id, "%s lies in partition %d, its key belongs into %d", e.m.Type(), e.rec.Partition, eventlog.PartitionFor(id, n))
	}
	_, job := e.m.Data.(events.JobFact)
	_, profile := e.m.Data.(events.ProfileFact)
	if topic == events.TopicJobEvents && !job || topic == events.TopicProfileEvents && !profile {
		r.violation("L3", id, "%s is no fact of %s", e.m.Type(), topic)
	}
}

// checkSources holds every fact to the input that it was decided from: named, in
// the same partition number, decided once and in order.
func (r *reading) checkSources() {
	for _, topic := range journals {
		last := map[source]int64{} // by topic and partition of the input
		var open source
		var partition int32 = -1
		for _, e := range r.entries[topic] {
			id := e.m.AggregateID
			if e.rec.Partition != partition {
				partition, open, last = e.rec.Partition, source{}, map[source]int64{}
			}
			if e.src.topic == "" {
				r.violation("T1", id, "%s version %d names no input", e.m.Type(), e.m.Version)
				continue
			}
			if e.src.partition != e.rec.Partition {
				r.violation("T1", id, "%s in partition %d was decided from %s", e.m.Type(), e.rec.Partition, e.src)
			}
			of := source{topic: e.src.topic, partition: e.src.partition}
			if before, seen := last[of]; seen && e.src.offset <= before && e.src != open {
				r.violation("T1", id, "%s version %d was decided from %s after input %d had been", e.m.Type(), e.m.Version, e.src, before)
			}
			last[of], open = e.src.offset, e.src
			r.checkCause(e)
		}
	}
}

// checkCause compares a fact with the input it names, where the history has it.
func (r *reading) checkCause(e entry) {
	if !r.has(e.src.topic) {
		return
	}
	in, ok := r.inputs[e.src]
	if !ok {
		r.violation("T1", e.m.AggregateID, "%s version %d was decided from %s, where nothing lies", e.m.Type(), e.m.Version, e.src)
		return
	}
	if in.m.ID != e.m.CausationID || in.m.AggregateID != e.m.AggregateID {
		r.violation("T1", e.m.AggregateID, "%s version %d says that %s caused it, its input %s is %s for %s",
			e.m.Type(), e.m.Version, e.m.CausationID, e.src, in.m.ID, in.m.AggregateID)
	}
}
