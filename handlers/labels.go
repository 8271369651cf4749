// Labels of jobs that have ended: the one thing about them that can still change. Their
// state is not in memory; the chain's end is, as the index has it.

package handlers

import (
	"slices"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// labelPast decides a command on the labels of a job that has ended, and moves its entry
// in the index to the new end of its chain.
func (c *Core) labelPast(p *partition, m events.Message, k jobKey, e ended) ([]eventlog.Record, error) {
	job := e.job(m, p.labelledBy(k))
	facts, refusal := aggregates.Decide(job, m, c.surroundings(p, m))
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
	o := p.change(k, aggregates.Evolve(job, facts[0]), shortDigest(m.ID), facts)
	entry := relabelled(e.entry(), o.job.Labelled, facts[0], p.expected(p.open.facts-1))
	o.end = short(entry)
	out := []eventlog.Record{fact, reply}
	if p.open.flushed < len(p.unindexed) { // the earlier entry may be among those, and must not come later
		p.unindexed = append(p.unindexed, unindexed{k, entry, true})
		return out, nil
	}
	record, err := indexRecord(m.AggregateID, entry)
	return append(out, record), err
}

// labelledBy are the commands that have changed the labels of a job that has ended.
func (p *partition) labelledBy(k jobKey) []string {
	if o := p.open.jobs[k]; o != nil {
		return o.job.Labelled
	}
	return p.labelled[k]
}

// job is the state as far as the index tells it.
func (e ended) job(m events.Message, labelled []string) aggregates.Job {
	j := aggregates.Job{Chain: events.Chain{Version: int64(e.version), LastID: e.last.String()}, ID: m.AggregateID, Tenant: m.Tenant, CorrelationID: m.CorrelationID}
	j.State, j.Labelled = e.status.String(), labelled
	j.Request.Labels = []string{""} // which it has is not kept: any are others
	return j
}

// relabelled is a job's entry after a fact about its labels.
func relabelled(e events.IndexEntry, by []string, m events.Message, offset int64) events.IndexEntry {
	e.Version, e.LastEventID, e.LastOffset, e.Labelled = m.Version, m.ID, offset, by
	return e
}

// foldLabelled takes a fact about the labels of a job that recovery knows to have ended.
// The index is ahead of it, but where entries were lost.
func (r *recovery) foldLabelled(k jobKey, m events.Message, offset int64) {
	e, ok := r.ended[k]
	if !ok || m.Version != int64(e.version)+1 || m.PrevID != e.last.String() {
		return
	}
	entry := relabelled(e.entry(), append(slices.Clip(r.labelled[k]), m.CausationID), m, offset)
	r.close(k, short(entry), entry.Labelled)
	r.unindexed = append(r.unindexed, unindexed{k, entry, true})
}
