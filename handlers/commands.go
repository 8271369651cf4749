// An input in; facts, the commands that follow from them, and the reply out.

package handlers

import (
	"fmt"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Decide handles one input of a partition. An error that wraps
// eventlog.ErrUndecodable is the input's fault; any other stops the handler.
func (c *Core) Decide(in eventlog.Record) ([]eventlog.Record, error) {
	m, err := events.Decode(in.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", eventlog.ErrUndecodable, err)
	}
	p := c.parts[in.Partition]
	if p == nil {
		return nil, fmt.Errorf("an input of partition %d came before its recovery", in.Partition)
	}
	var out []eventlog.Record
	switch d := m.Data.(type) {
	case events.JobInput:
		out, err = c.decideJob(p, m, d)
	case events.ProfileCommand:
		out, err = c.decideProfile(p, m)
	default:
		return nil, fmt.Errorf("%w: a %s is no input of the handler", eventlog.ErrUndecodable, m.Type())
	}
	if err == nil && p.open.flushed < len(p.unindexed) {
		var entries []eventlog.Record
		entries, err = p.flushIndex()
		out = append(out, entries...)
	}
	return out, err
}

func (c *Core) decideJob(p *partition, m events.Message, input events.JobInput) ([]eventlog.Record, error) {
	k := keyOf(m.AggregateID)
	if e, archived, ok := p.past(k); ok {
		return c.decidePast(p, m, input, k, e, archived)
	}
	job, last := c.job(p, k)
	if refusal := job.Foreign(m); refusal != nil {
		return c.nothing(p, m, input, aggregates.Job{}, refusal) // its client learns nothing of the job
	}
	// A record that a broker or a producer has doubled: most are ignored by the state,
	// but what an approval led to looks like a refusal when it comes again.
	if last != 0 && last == shortDigest(m.ID) {
		return c.nothing(p, m, input, job, nil)
	}
	facts, refusal := aggregates.Decide(job, m, c.surroundings(p, m))
	c.places.settle()
	if len(facts) == 0 {
		return c.nothing(p, m, input, job, refusal)
	}
	return c.write(p, m, input, k, job, facts)
}

// write turns facts and what follows from them into records, and notes the state.
func (c *Core) write(p *partition, m events.Message, input events.JobInput, k jobKey, job aggregates.Job, facts []events.Message) ([]eventlog.Record, error) {
	out := make([]eventlog.Record, 0, 2*len(facts)+2)
	add := func(partition int32, topic string, m events.Message) error {
		r, err := encode(topic, m)
		r.Partition = partition
		out = append(out, r)
		return err
	}
	before := job
	for _, f := range facts {
		job = aggregates.Evolve(job, f)
		if err := add(0, events.TopicJobEvents, f); err != nil {
			return nil, err
		}
		for _, next := range follow(&job, f, m) {
			if err := add(next.partition, next.topic, next.message); err != nil {
				return nil, err
			}
		}
		p.open.note(&job, f)
	}
	c.places.move(p.loads, &before, &job)
	if answered(input) {
		r := outcome(len(facts), nil)
		r.Version, r.Status = job.Chain.Version, job.State
		reply, err := replyRecord(p, m, r)
		if err != nil {
			return nil, err
		}
		out = append(out, reply)
	}
	o := p.change(k, job, shortDigest(m.ID), facts)
	if job.Terminal() {
		entry := entryOf(job, facts[len(facts)-1], p.firstOf(o), p.expected(p.open.facts-1))
		r, err := indexRecord(job.ID, entry)
		if err != nil {
			return nil, err
		}
		o.end = short(entry)
		p.open.entries++
		out = append(out, r)
	}
	return out, nil
}

// expected is the offset that a fact of the open transaction will get, or a little
// less: n counts the facts before it.
func (p *partition) expected(n int) int64 { return p.end + int64(n) }

func (p *partition) firstOf(o *openJob) int64 {
	if o.start < 0 {
		return o.live.first
	}
	return p.expected(o.start)
}

// nothing answers an input that changes nothing about a job that lives, or that
// there never was.
func (c *Core) nothing(p *partition, m events.Message, input events.JobInput, job aggregates.Job, refusal *events.Reason) ([]eventlog.Record, error) {
	c.metrics.ignored.Inc()
	if answered(input) {
		r := outcome(0, refusal)
		r.Version, r.Status = job.Chain.Version, job.State
		reply, err := replyRecord(p, m, r)
		return []eventlog.Record{reply}, err
	}
	current := false
	if i, ok := job.Node(m.Stage); ok {
		s := job.Stages[i]
		current = s.Attempt == m.Attempt && (s.State == aggregates.StageQueued || s.State == aggregates.StageRunning) && !job.Cancelling
	}
	return c.stale(m, input, current)
}

// decidePast answers an input on a job that has ended.
func (c *Core) decidePast(p *partition, m events.Message, input events.JobInput, k jobKey, e ended, archived bool) ([]eventlog.Record, error) {
	if _, ok := input.(events.ClockArchiveDue); ok {
		return c.decideArchive(p, m, k)
	}
	if answered(input) && ownerOf(events.OwnerOf(m.Tenant)) != e.owner {
		return c.nothing(p, m, input, aggregates.Job{}, aggregates.RefuseForeign(input))
	}
	archived = archived || p.open.isArchived(k)
	if _, ok := input.(events.JobLabel); ok && !archived && !e.partial {
		return c.labelPast(p, m, k, e)
	}
	c.metrics.ignored.Inc()
	if answered(input) {
		reply, err := replyRecord(p, m, pastReply(e, archived, input))
		return []eventlog.Record{reply}, err
	}
	return c.stale(m, input, false)
}

// stale counts a result that nobody waits for, and stops an attempt that began
// although nobody waits for it.
func (c *Core) stale(m events.Message, input events.JobInput, current bool) ([]eventlog.Record, error) {
	if current {
		return nil, nil
	}
	switch input.(type) { //nolint:gochecksumtype // workers' words alone
	case events.TaskSucceeded, events.TaskFailed:
		c.metrics.stale.Inc()
	case events.TaskAccepted:
		r, err := encode(events.TopicTaskControl, stopTask(m, m.Columns, "the attempt is not the current one"))
		return []eventlog.Record{r}, err
	}
	return nil, nil
}

func (c *Core) decideProfile(p *partition, m events.Message) ([]eventlog.Record, error) {
	profile := p.profile(m.AggregateID)
	facts, refusal := aggregates.DecideProfile(profile, m, p.at(m))
	var out []eventlog.Record
	for _, f := range facts {
		profile = aggregates.EvolveProfile(profile, f)
		record, err := encode(events.TopicProfileEvents, f)
		if err != nil {
			return nil, err
		}
		out = append(out, record)
		p.open.lastAt = f.OccurredAt
	}
	if p.open.profiles == nil {
		p.open.profiles = map[string]aggregates.Profile{}
	}
	p.open.profiles[m.AggregateID] = profile
	if m.JobID != "" {
		return out, nil // a job does not wait for what comes of its words
	}
	r := outcome(len(facts), refusal)
	if profile.Foreign(m) == nil {
		r.Version, r.Status = profile.Chain.Version, profile.Status
	}
	reply, err := replyRecord(p, m, r)
	return append(out, reply), err
}

func encode(topic string, m events.Message) (eventlog.Record, error) {
	value, err := events.Encode(m)
	if err != nil {
		return eventlog.Record{}, err
	}
	headers := events.Headers(m)
	r := eventlog.Record{Topic: topic, Key: m.AggregateID, Value: value, Headers: make([]eventlog.Header, len(headers), len(headers)+sourceHeaders)}
	for i, h := range headers {
		r.Headers[i] = eventlog.Header(h)
	}
	return r, nil
}

// sourceHeaders are those that the runner adds.
const sourceHeaders = 3
