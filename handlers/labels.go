// Labels of jobs that have ended: the one thing about them that can still change. Their
// state is not in memory; the chain's end is, as the index has it.

package handlers

import (
	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// labelPast decides a command on the labels of a job that has ended, and moves its entry
// in the index to the new end of its chain.
func (c *Core) labelPast(p *partition, m events.Message, k jobKey, e ended) ([]eventlog.Record, error) {
	facts, refusal := aggregates.Decide(e.job(m), m, c.surroundings(p, m))
	if len(facts) > 0 && facts[0].ID == e.last.String() {
		facts = nil // a record that a broker or a producer has doubled
	}
	r := outcome(len(facts), refusal)
	r.Version, r.Status = int64(e.version)+int64(len(facts)), e.status.String()
	reply, err := replyRecord(p, m, r)
	if err != nil || len(facts) == 0 {
		c.metrics.ignored.Inc()
		return []eventlog.Record{reply}, err
	}
	fact, err := encode(events.TopicJobEvents, facts[0])
	if err != nil {
		return nil, err
	}
	o := p.change(k, aggregates.Evolve(e.job(m), facts[0]), shortDigest(m.ID), facts)
	entry := relabelled(e.entry(), facts[0], p.expected(p.open.facts-1))
	o.end = short(entry)
	out := []eventlog.Record{fact, reply}
	if p.open.flushed < len(p.unindexed) { // the earlier entry may be among those, and must not come later
		p.unindexed = append(p.unindexed, unindexed{k, entry, true})
		return out, nil
	}
	record, err := indexRecord(m.AggregateID, entry)
	return append(out, record), err
}

// job is the state as far as the index tells it.
func (e ended) job(m events.Message) aggregates.Job {
	j := aggregates.Job{Chain: events.Chain{Version: int64(e.version), LastID: e.last.String()}, ID: m.AggregateID, Tenant: m.Tenant, CorrelationID: m.CorrelationID}
	j.State = e.status.String()
	j.Request.Labels = []string{""} // which it has is not kept: any are others
	return j
}

// relabelled is a job's entry after a fact about its labels.
func relabelled(e events.IndexEntry, m events.Message, offset int64) events.IndexEntry {
	e.Version, e.LastEventID, e.LastOffset = m.Version, m.ID, offset
	return e
}

// foldLabelled takes a fact about the labels of a job that recovery knows to have ended.
// The index is ahead of it, but where entries were lost.
func (r *recovery) foldLabelled(k jobKey, m events.Message, offset int64) {
	e, ok := r.ended[k]
	if !ok || m.Version != int64(e.version)+1 || m.PrevID != e.last.String() {
		return
	}
	entry := relabelled(e.entry(), m, offset)
	r.ended[k] = short(entry)
	r.unindexed = append(r.unindexed, unindexed{k, entry, true})
}
