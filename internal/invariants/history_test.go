// Histories by hand: steps, each an input with what it led to, made into records.

package invariants_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/invariants"
)

var (
	start  = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	limits = invariants.Limits{MaxAttempts: 2, BackOff: 2 * time.Second, Partitions: 3, Canaries: []string{"zebra-canary"}}
)

// step is one input of the handler, and what it led to.
type step struct {
	name  string
	job   string
	at    time.Duration // after start
	in    events.Payload
	cols  events.Columns
	facts []fact
	reply *events.CommandReplied
}

type fact struct {
	data events.Payload
	cols events.Columns
}

// builder turns steps into a history.
type builder struct {
	t      *testing.T
	h      invariants.History
	next   map[eventlog.TopicPartition]int64
	chains map[string]events.Chain
}

func build(t *testing.T, steps []step) invariants.History {
	t.Helper()
	b := &builder{t: t, next: map[eventlog.TopicPartition]int64{}, chains: map[string]events.Chain{}}
	b.h = invariants.History{Records: map[string][]eventlog.Record{}, Settled: true, Limits: limits}
	for _, topic := range []string{events.TopicJobCommands, events.TopicTaskEvents, events.TopicJobEvents, events.TopicJobReplies,
		events.LaneTopic(events.LaneScript), events.LaneTopic(events.LaneTTS), events.LaneBatchTopic(events.LaneTTS)} {
		b.h.Records[topic] = nil
	}
	for i, s := range steps {
		b.step(i, s)
	}
	b.calls(steps)
	return b.h
}

func (b *builder) step(i int, s step) {
	topic := events.TopicJobCommands
	if s.cols.Worker != "" {
		topic = events.TopicTaskEvents
	}
	id := events.NameID("input", s.name)
	in := events.Message{ID: id, CommandID: id, AggregateType: events.AggregateJob, AggregateID: s.job, OccurredAt: start.Add(s.at),
		CorrelationID: id, Tenant: "default", Columns: s.cols, Data: s.in}
	at := b.write(topic, in, nil)
	for n, f := range s.facts {
		m := in
		m.ID, m.CausationID = events.EventID(in.OccurredAt, id, n), id
		m.Version, m.PrevID = b.chains[s.job].Version+1, b.chains[s.job].LastID
		m.Columns, m.Data = f.cols, f.data
		b.chains[s.job] = b.chains[s.job].Next(m)
		b.write(events.TopicJobEvents, m, &at)
		if d, ok := f.data.(events.StageScheduled); ok {
			b.lane(m, d, &at)
		}
	}
	if s.reply != nil {
		m := in
		m.ID, m.CausationID = events.NameID("reply", strconv.Itoa(i)), id
		r := *s.reply
		r.Version = b.chains[s.job].Version
		m.Data = r
		b.write(events.TopicJobReplies, m, &at)
	}
}

func (b *builder) lane(m events.Message, d events.StageScheduled, at *eventlog.Record) {
	topic := events.LaneTopic(m.Lane)
	if d.Batch {
		topic = events.LaneBatchTopic(m.Lane)
	}
	m.JobID = m.AggregateID
	m.CausationID, m.ID, m.Version, m.PrevID = m.ID, events.AttemptID(m.AggregateID, m.Stage, m.Attempt), 0, ""
	m.Data = events.TaskRun{}
	b.write(topic, m, at)
}

func (b *builder) write(topic string, m events.Message, from *eventlog.Record) eventlog.Record {
	b.t.Helper()
	m.SchemaVersion = m.Data.SchemaVersion()
	value, err := events.Encode(m)
	if err != nil {
		b.t.Fatal(err)
	}
	r := eventlog.Record{Topic: topic, Key: m.AggregateID, Value: value, Partition: eventlog.PartitionFor(m.AggregateID, limits.Partitions)}
	if d, ok := m.Data.(events.StageScheduled); ok && topic != events.TopicJobEvents {
		r.Partition = d.Partition
	}
	if _, ok := m.Data.(events.TaskRun); ok {
		r.Partition = 0
	}
	r.Offset = b.next[r.At()]
	b.next[r.At()]++
	if from != nil {
		r.Headers = []eventlog.Header{{Key: eventlog.HeaderSourceTopic, Value: from.Topic}, {Key: eventlog.HeaderSourcePartition, Value: strconv.Itoa(int(from.Partition))},
			{Key: eventlog.HeaderSourceOffset, Value: strconv.FormatInt(from.Offset, 10)}}
	}
	b.h.Records[topic] = append(b.h.Records[topic], r)
	return r
}

// calls are the clients' side of the steps that have a reply.
func (b *builder) calls(steps []step) {
	for _, s := range steps {
		if s.reply == nil {
			continue
		}
		c := invariants.Call{JobID: s.job, CommandID: events.NameID("input", s.name), Outcome: s.reply.Outcome}
		switch d := s.in.(type) {
		case events.JobSubmit:
			c.Kind, c.Key, c.BodyDigest = invariants.Submit, d.Request.KeyDigest, d.Request.BodyDigest
		case events.JobCancel:
			c.Kind = invariants.Cancel
		case events.JobApprove:
			c.Kind = invariants.Approve
		case events.JobDeny:
			c.Kind = invariants.Deny
		}
		b.h.Calls = append(b.h.Calls, c)
	}
}

func at(steps []step, name string) int {
	i := slices.IndexFunc(steps, func(s step) bool { return s.name == name })
	if i < 0 {
		panic("no step is called " + name)
	}
	return i
}

// without leaves steps out.
func without(names ...string) func([]step) []step {
	return func(steps []step) []step {
		return slices.DeleteFunc(steps, func(s step) bool { return slices.Contains(names, s.name) })
	}
}

// then puts a step behind another, a second later than it.
func then(name string, s step) func([]step) []step {
	return func(steps []step) []step {
		i := at(steps, name)
		s.job, s.at = steps[i].job, steps[i].at
		if s.in == nil {
			s.in = events.JobCancel{}
		}
		if s.name == "" {
			s.name = "inserted"
		}
		return slices.Insert(steps, i+1, s)
	}
}

// change alters one step.
func change(name string, with func(*step)) func([]step) []step {
	return func(steps []step) []step {
		s := &steps[at(steps, name)]
		s.facts = slices.Clone(s.facts)
		with(s)
		return steps
	}
}
