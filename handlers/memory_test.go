// A log of one partition in memory, which the tests decide on.

package handlers

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// memory is one partition of every topic, with transactions of whole calls.
type memory struct {
	topics map[string][]eventlog.Record
	meta   string
	h      *Core
	n      int
	now    time.Time // of the core

	carryAfter int64
	mostHot    int
}

func newMemory() *memory {
	m := &memory{topics: map[string][]eventlog.Record{}, now: start, mostHot: 2}
	m.restart()
	return m
}

func lanes() map[string]int {
	n := map[string]int{}
	for _, lane := range events.Lanes() {
		n[lane] = 2
	}
	return n
}

// restart makes a core that knows nothing, and recovers it.
func (m *memory) restart() {
	core, err := NewCore(CoreConfig{Lanes: lanes(), Replay: m.read, CarryAfter: m.carryAfter, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return m.now }})
	if err != nil {
		panic(err)
	}
	all := events.WorkerManifest{}
	for _, task := range aggregates.Tasks() {
		all.Tasks = append(all.Tasks, events.TaskCapability{Task: task.Name})
	}
	manifest, err := encode(events.TopicWorkers, events.Message{ID: "manifest", AggregateType: events.AggregateWorker, AggregateID: "w", OccurredAt: start.Add(1000 * time.Hour), Data: all})
	if err != nil {
		panic(err)
	}
	core.Learn([]eventlog.Record{manifest})
	core.hot.most = m.mostHot
	m.h = core
	if err := m.h.Recover(context.Background(), 0, m.meta); err != nil {
		panic(err)
	}
}

func (m *memory) read(_ context.Context, at eventlog.TopicPartition, from int64, fn func([]eventlog.Record) error) (int64, error) {
	all := m.topics[at.Topic]
	if int(from) < len(all) {
		if err := fn(all[from:]); err != nil {
			return 0, err
		}
	}
	return int64(len(all)), nil
}

// drop is what the runner does when a transaction does not commit, or nobody knows.
func (m *memory) drop() {
	m.h.Drop(0)
	if err := m.h.Recover(context.Background(), 0, m.meta); err != nil {
		panic(err)
	}
}

// input makes a record of the next message.
func (m *memory) input(topic, id string, p events.Payload, c events.Columns) eventlog.Record {
	m.n++
	kind := events.AggregateJob
	if topic == events.TopicProfileCommands {
		kind = events.AggregateProfile
	}
	msg := events.Message{ID: fmt.Sprintf("in-%d", m.n), CommandID: fmt.Sprintf("in-%d", m.n), CorrelationID: "story", AggregateType: kind, AggregateID: id,
		OccurredAt: m.now.Add(time.Duration(m.n) * time.Second), Tenant: "default", Actor: "test", Columns: c, Data: p}
	r, err := encode(topic, msg)
	if err != nil {
		panic(err)
	}
	return r
}

// How a transaction ends.
const (
	committed = iota
	aborted
	unknown // committed, but the handler does not learn it
)

// transact decides inputs together and commits them.
func (m *memory) transact(inputs ...eventlog.Record) ([]eventlog.Record, error) {
	return m.attempt(committed, inputs...)
}

// attempt decides inputs together in a transaction that ends so.
func (m *memory) attempt(outcome int, inputs ...eventlog.Record) ([]eventlog.Record, error) {
	var out []eventlog.Record
	for _, in := range inputs {
		records, err := m.h.Decide(in)
		if err != nil {
			m.drop()
			return nil, err
		}
		out = append(out, records...)
	}
	if outcome == aborted {
		m.drop()
		return nil, nil
	}
	for i, r := range out {
		out[i].Offset = int64(len(m.topics[r.Topic]))
		m.topics[r.Topic] = append(m.topics[r.Topic], out[i])
	}
	m.meta = m.h.Meta(0, out)
	if outcome == unknown {
		m.drop()
		return out, nil
	}
	m.h.Committed(0, out)
	return out, nil
}

// must decides one input and commits it.
func (m *memory) must(t testing.TB, in eventlog.Record) []eventlog.Record {
	t.Helper()
	out, err := m.transact(in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// command is an input on jobs.commands, answer one on gpu.events.
func (m *memory) command(id string, p events.Payload) eventlog.Record {
	return m.input(events.TopicJobCommands, id, p, events.Columns{})
}

func (m *memory) answer(id, stage string, attempt int, p events.Payload) eventlog.Record {
	return m.input(events.TopicTaskEvents, id, p, events.Columns{Stage: stage, Attempt: attempt, ErrorClass: events.ClassEngineUnavailable})
}

func request() events.Request {
	sealed := events.Sealed{Bytes: []byte("x"), Key: "k"}
	return events.Request{Variant: aggregates.VariantSadTalker, ProfileID: "prof", ProfileName: &sealed, Consent: &events.Consent{By: sealed, Statement: sealed},
		Inputs: map[string]events.Value{"prompt": {Text: &sealed}, "portrait": {Artifacts: []events.Artifact{{ID: "p", SHA256: "1"}}}, "voice": {Artifacts: []events.Artifact{{ID: "v", SHA256: "2"}}}}}
}

// diagnostic asks for a job of four stages: script, tts, render, lipsync.
func diagnostic() events.JobSubmit {
	return events.JobSubmit{Request: events.Request{Mode: aggregates.ModeDiagnostic, Variant: aggregates.VariantNoop, BodyDigest: "body"}}
}

func topicsOf(rs []eventlog.Record) []string {
	var out []string
	for _, r := range rs {
		m, err := events.Decode(r.Value)
		if err != nil {
			out = append(out, r.Topic)
			continue
		}
		out = append(out, r.Topic+" "+m.Type())
	}
	return out
}

// picture is the partition's state in lines that compare, pictureOf that of any partition.
func (m *memory) picture() []string { return m.pictureOf(0) }

func (m *memory) pictureOf(n int32) []string {
	p := m.h.parts[n]
	var out []string
	for l := p.order.head; l != nil; l = l.next {
		j := m.h.state(l)
		out = append(out, fmt.Sprintf("live %s first %d input %x chain %v state %s stages %+v", j.ID, l.first, l.input, j.Chain, j.State, j.Stages))
	}
	if len(out) != len(p.jobs) || len(out) != len(p.due) {
		out = append(out, fmt.Sprintf("%d live jobs, %d in order, %d with a time", len(p.jobs), len(out), len(p.due)))
	}
	var past []string
	for k, e := range p.ended {
		past = append(past, fmt.Sprintf("ended %s %+v", p.id(k), e))
	}
	for h := range p.archived {
		past = append(past, fmt.Sprintf("archived %x of %x", h, p.archived[h]))
	}
	slices.Sort(past)
	for lane, q := range p.loads {
		if i := slices.IndexFunc(q, func(n [2]int) bool { return n != [2]int{} }); i >= 0 {
			past = append(past, fmt.Sprint("lane ", lane, q))
		}
	}
	slices.Sort(past)
	return append(append(out, past...), fmt.Sprint("end ", p.end, " oldest ", p.oldestAfter(nil), " at ", p.lastAt.UTC(), " indexed ", p.indexed, " unindexed ", len(p.unindexed)))
}
