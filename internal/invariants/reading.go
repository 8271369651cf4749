// The log as the checkers read it: every record decoded once, and indexes over them.

package invariants

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// entry is one decoded record with the input that it was decided from.
type entry struct {
	rec eventlog.Record
	m   events.Message
	src source // zero: the record names none
}

// source names an input of the handler.
type source struct {
	topic     string
	partition int32
	offset    int64
}

func (s source) String() string {
	return s.topic + "/" + strconv.Itoa(int(s.partition)) + "@" + strconv.FormatInt(s.offset, 10)
}

type reading struct {
	h       History
	entries map[string][]entry // by topic, by partition and offset
	jobs    map[string][]entry // facts of each job in log order
	order   []string           // job ids by first appearance
	inputs  map[source]entry   // records of jobs.commands, gpu.events and profiles.commands
	facts   map[source][]entry // of jobs.events and profiles.events, by the input they were decided from
	command map[string][]entry // facts of jobs.events by command id
	found   []Violation
}

// undecoded topics hold records that are no messages.
var undecoded = map[string]bool{events.TopicJobIndex: true, events.TopicDeadLetters: true}

func read(h History) *reading {
	r := &reading{h: h, entries: map[string][]entry{}, jobs: map[string][]entry{}, inputs: map[source]entry{},
		facts: map[source][]entry{}, command: map[string][]entry{}}
	for _, topic := range sortedKeys(h.Records) {
		if !undecoded[topic] {
			r.entries[topic] = r.decode(topic, h.Records[topic])
		}
	}
	for _, topic := range []string{events.TopicJobCommands, events.TopicTaskEvents, events.TopicProfileCommands} {
		for _, e := range r.entries[topic] {
			r.inputs[source{topic, e.rec.Partition, e.rec.Offset}] = e
		}
	}
	for _, e := range r.entries[events.TopicJobEvents] {
		if r.jobs[e.m.AggregateID] == nil {
			r.order = append(r.order, e.m.AggregateID)
		}
		r.jobs[e.m.AggregateID] = append(r.jobs[e.m.AggregateID], e)
		r.facts[e.src] = append(r.facts[e.src], e)
		r.command[e.m.CommandID] = append(r.command[e.m.CommandID], e)
	}
	for _, e := range r.entries[events.TopicProfileEvents] {
		r.facts[e.src] = append(r.facts[e.src], e)
	}
	return r
}

func (r *reading) decode(topic string, records []eventlog.Record) []entry {
	out := make([]entry, 0, len(records))
	for _, rec := range records {
		m, err := events.Decode(rec.Value)
		switch {
		case err == nil:
			out = append(out, entry{rec, m, sourceOf(rec)})
		case topic == events.TopicJobEvents || topic == events.TopicProfileEvents:
			r.violation("L9", rec.Key, "the fact at %s offset %d cannot be read: %v", rec.At(), rec.Offset, err)
		case errors.Is(err, events.ErrMalformed): // an input may be rubbish: it goes to the dead letters
		default:
			r.violation("L9", rec.Key, "the record at %s offset %d cannot be read: %v", rec.At(), rec.Offset, err)
		}
	}
	slices.SortStableFunc(out, func(a, b entry) int {
		if a.rec.Partition != b.rec.Partition {
			return int(a.rec.Partition) - int(b.rec.Partition)
		}
		return int(a.rec.Offset - b.rec.Offset)
	})
	return out
}

func sourceOf(rec eventlog.Record) source {
	p, err := strconv.ParseInt(rec.Header(eventlog.HeaderSourcePartition), 10, 32)
	if err != nil {
		return source{}
	}
	o, err := strconv.ParseInt(rec.Header(eventlog.HeaderSourceOffset), 10, 64)
	if err != nil {
		return source{}
	}
	return source{rec.Header(eventlog.HeaderSourceTopic), int32(p), o}
}

// has says whether the history was given with this topic.
func (r *reading) has(topic string) bool {
	_, ok := r.h.Records[topic]
	return ok
}

// laneOf is the lane of a command topic, and whether it is the batch one.
func laneOf(topic string) (lane string, batch, ok bool) {
	name, ok := strings.CutPrefix(topic, "gpu.")
	if !ok {
		return "", false, false
	}
	if lane, ok = strings.CutSuffix(name, ".batch.commands"); ok {
		return lane, true, true
	}
	lane, ok = strings.CutSuffix(name, ".commands")
	return lane, false, ok
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
