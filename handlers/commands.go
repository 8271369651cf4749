// An input in, facts and the commands that follow from them out.

package handlers

import (
	"encoding/json"
	"fmt"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// decide handles one input of a partition. An error that wraps
// eventlog.ErrUndecodable is the input's fault; any other stops the handler.
func (h *Handler) decide(in eventlog.Record) ([]eventlog.Record, error) {
	m, err := events.Decode(in.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", eventlog.ErrUndecodable, err)
	}
	p := h.parts[in.Partition]
	if p == nil {
		return nil, fmt.Errorf("an input of partition %d came before its recovery", in.Partition)
	}
	switch m.Data.(type) {
	case events.JobInput:
		return h.decideJob(p, m)
	case events.ProfileCommand:
		return h.decideProfile(p, m)
	default:
		return nil, fmt.Errorf("%w: a %s is no input of the handler", eventlog.ErrUndecodable, m.Type())
	}
}

func (h *Handler) decideJob(p *partition, m events.Message) ([]eventlog.Record, error) {
	job, open := p.job(m.AggregateID)
	if !open {
		h.metrics.ignored.Inc()
		return nil, nil
	}
	facts, _ := aggregates.Decide(job, m, h.surroundings(p, m))
	if len(facts) == 0 {
		h.metrics.ignored.Inc()
		return nil, nil
	}
	var out []eventlog.Record
	for _, f := range facts {
		job = aggregates.Evolve(job, f)
		records, err := encode(events.TopicJobEvents, f)
		if err != nil {
			return nil, err
		}
		out = append(out, records)
		for _, next := range follow(job, f) {
			record, err := encode(next.topic, next.message)
			if err != nil {
				return nil, err
			}
			record.Partition = next.partition
			out = append(out, record)
		}
		p.open.facts = append(p.open.facts, decided{job, f})
	}
	if job.Terminal() {
		entry, err := indexRecord(job)
		if err != nil {
			return nil, err
		}
		out = append(out, entry)
	}
	if p.open.jobs == nil {
		p.open.jobs = map[string]aggregates.Job{}
	}
	p.open.jobs[m.AggregateID], p.open.lastAt = job, facts[len(facts)-1].OccurredAt
	return out, nil
}

// surroundings gathers what a decision depends on beside the state.
func (h *Handler) surroundings(p *partition, m events.Message) aggregates.Surroundings {
	s := aggregates.Surroundings{At: p.at(m), Policy: h.cfg.Policy, Place: h.place, Engines: h.dir.engines()}
	if c, ok := m.Data.(events.JobSubmit); ok {
		s.Tasks, s.Gaps = h.dir.tasks()
		if c.Request.Mode == aggregates.ModeGenerateFromProfile {
			s.Profile = h.dir.profile(m.Tenant, c.Request.ProfileID)
		}
	}
	return s
}

// place spreads attempts over a lane's partitions by their id.
func (h *Handler) place(lane, _, attemptID string, _ bool) int32 {
	return eventlog.PartitionFor(attemptID, max(1, h.cfg.Lanes[lane]))
}

func (h *Handler) decideProfile(p *partition, m events.Message) ([]eventlog.Record, error) {
	profile := p.profile(m.AggregateID)
	var out []eventlog.Record
	for _, f := range aggregates.DecideProfile(profile, m, p.at(m)) {
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
	return out, nil
}

func encode(topic string, m events.Message) (eventlog.Record, error) {
	value, err := events.Encode(m)
	if err != nil {
		return eventlog.Record{}, err
	}
	r := eventlog.Record{Topic: topic, Key: m.AggregateID, Value: value}
	for _, h := range events.Headers(m) {
		r.Headers = append(r.Headers, eventlog.Header{Key: h.Key, Value: h.Value})
	}
	return r, nil
}

func indexRecord(j aggregates.Job) (eventlog.Record, error) {
	value, err := json.Marshal(indexEntryOf(j))
	return eventlog.Record{Topic: events.TopicJobIndex, Key: j.ID, Value: value}, err
}

func indexEntryOf(j aggregates.Job) indexEntry {
	return indexEntry{Status: j.State, Version: j.Chain.Version, LastEventID: j.Chain.LastID, BodyDigest: j.Request.BodyDigest}
}
