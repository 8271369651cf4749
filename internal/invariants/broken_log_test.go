// Histories whose records were damaged, doubled, moved or lost.

package invariants_test

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/invariants"
)

// edit changes the nth record of a topic that has the type.
func edit(topic, eventType string, n int, with func(*eventlog.Record, *events.Message)) func(*invariants.History) {
	return func(h *invariants.History) {
		i := find(h, topic, eventType, n)
		r := &h.Records[topic][i]
		m, err := events.Decode(r.Value)
		if err != nil {
			panic(err)
		}
		with(r, &m)
		if r.Value, err = events.Encode(m); err != nil {
			panic(err)
		}
	}
}

// find is the index of the nth record of a topic that has the type.
func find(h *invariants.History, topic, eventType string, n int) int {
	for i, r := range h.Records[topic] {
		if strings.Contains(string(r.Value), `"event_type":"`+eventType+`"`) {
			if n == 0 {
				return i
			}
			n--
		}
	}
	panic("there is no such " + eventType)
}

// lose takes a record away, double puts its copy at the end of its partition.
func lose(topic, eventType string, n int) func(*invariants.History) {
	return func(h *invariants.History) {
		i := find(h, topic, eventType, n)
		h.Records[topic] = slices.Delete(h.Records[topic], i, i+1)
	}
}

func double(topic, eventType string, n int) func(*invariants.History) {
	return func(h *invariants.History) {
		r := h.Records[topic][find(h, topic, eventType, n)]
		r.Offset = 1000
		h.Records[topic] = append(h.Records[topic], r)
	}
}

func header(r *eventlog.Record, key, value string) {
	r.Headers = slices.Clone(r.Headers)
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			r.Headers[i].Value = value
		}
	}
}

func brokenLog() []broken {
	const facts, lane = events.TopicJobEvents, "gpu.script.commands"
	return []broken{
		{name: "a lost fact", want: "L3", history: lose(facts, "stage.started", 0)},
		{name: "a doubled fact", want: "L3", history: double(facts, "stage.started", 0)},
		{name: "a broken chain", want: "L3", history: edit(facts, "stage.started", 0, func(_ *eventlog.Record, m *events.Message) { m.PrevID = "x" })},
		{name: "a version left out", want: "L3", history: edit(facts, "stage.started", 0, func(_ *eventlog.Record, m *events.Message) { m.Version++ })},
		{name: "an event id twice", want: "L3", history: edit(facts, "job.planned", 1, func(_ *eventlog.Record, m *events.Message) { m.ID = m.PrevID })},
		{name: "time backwards", want: "L3", history: edit(facts, "stage.started", 1, func(_ *eventlog.Record, m *events.Message) { m.OccurredAt = m.OccurredAt.Add(-time.Minute) })},
		{name: "under another key", want: "L3", history: edit(facts, "job.planned", 1, func(r *eventlog.Record, _ *events.Message) { r.Key = "x" })},
		{name: "in another partition", want: "L3", history: edit(facts, "job.failed", 0, func(r *eventlog.Record, _ *events.Message) { r.Partition = (r.Partition + 1) % 3 })},
		{name: "a command among the facts", want: "L3", history: edit(facts, "job.planned", 1, func(_ *eventlog.Record, m *events.Message) { m.Data = events.JobCancel{} })},
		{name: "no source", want: "T1", history: edit(facts, "stage.started", 0, func(r *eventlog.Record, _ *events.Message) { r.Headers = nil })},
		{name: "a source that is not there", want: "T1", history: edit(facts, "stage.started", 0, func(r *eventlog.Record, _ *events.Message) { header(r, eventlog.HeaderSourceOffset, "99") })},
		{name: "a source in another partition", want: "T1", history: edit(facts, "stage.started", 0, func(r *eventlog.Record, _ *events.Message) { header(r, eventlog.HeaderSourcePartition, "7") })},
		{name: "another cause than its source", want: "T1", history: edit(facts, "stage.started", 0, func(_ *eventlog.Record, m *events.Message) { m.CausationID = "x" })},
		{name: "an input decided twice", want: "T1", history: edit(facts, "stage.failed", 0, func(r *eventlog.Record, _ *events.Message) { header(r, eventlog.HeaderSourceOffset, "0") })},
		{name: "a lane command lost", want: "T1", history: lose(lane, "task.run", 0)},
		{name: "a lane command twice", want: "T1", history: double(lane, "task.run", 0)},
		{name: "a lane command without its fact", want: "T1", history: edit(lane, "task.run", 0, func(_ *eventlog.Record, m *events.Message) { m.CausationID = "x" })},
		{name: "a lane command on another partition", want: "T1", history: edit(lane, "task.run", 0, func(r *eventlog.Record, _ *events.Message) { r.Partition = 2 })},
		{name: "a lane command of another attempt", want: "T1", history: edit(lane, "task.run", 0, func(_ *eventlog.Record, m *events.Message) { m.ID = "x" })},
		{name: "a lane command of another lane", want: "T1", history: edit(lane, "task.run", 0, func(_ *eventlog.Record, m *events.Message) { m.Lane = events.LaneTTS })},
		{name: "a lane command on the batch topic", want: "T1", history: func(h *invariants.History) {
			c := h.Records["gpu.tts.commands"][0]
			c.Topic = "gpu.tts.batch.commands"
			h.Records["gpu.tts.commands"], h.Records[c.Topic] = h.Records["gpu.tts.commands"][1:], []eventlog.Record{c}
		}},
		{name: "a fact that nobody can read", want: "L9", history: func(h *invariants.History) { h.Records[facts][3].Value = []byte("{}") }},
		{name: "a fact of a newer version", want: "L9", history: func(h *invariants.History) {
			r := &h.Records[facts][0]
			r.Value = []byte(strings.Replace(string(r.Value), `"schema_version":3`, `"schema_version":9`, 1))
		}},
	}
}

func brokenCalls() []broken {
	const replies = events.TopicJobReplies
	reply := func(n int, with func(*eventlog.Record, *events.CommandReplied)) func(*invariants.History) {
		return edit(replies, "command.replied", n, func(r *eventlog.Record, m *events.Message) {
			d := m.Data.(events.CommandReplied)
			with(r, &d)
			m.Data = d
		})
	}
	call := func(n int, with func(*invariants.Call)) func(*invariants.History) {
		return func(h *invariants.History) { with(&h.Calls[n]) }
	}
	return []broken{
		{name: "an answer twice", want: "T1", history: double(replies, "command.replied", 0)},
		{name: "an answer lost", want: "T1", history: lose(replies, "command.replied", 0)},
		{name: "accepted and nothing happened", want: "T1", history: reply(2, func(_ *eventlog.Record, d *events.CommandReplied) { d.Outcome = events.OutcomeAccepted })},
		{name: "refused and something happened", want: "L2", history: reply(0, func(_ *eventlog.Record, d *events.CommandReplied) { d.Outcome = events.OutcomeRefused })},
		{name: "refused without a code", want: "T1", history: reply(2, func(_ *eventlog.Record, d *events.CommandReplied) { d.Code = "" })},
		{name: "an outcome that is none", want: "T1", history: reply(2, func(_ *eventlog.Record, d *events.CommandReplied) { d.Outcome = "maybe" })},
		{name: "another version than the job's", want: "T1", history: reply(0, func(_ *eventlog.Record, d *events.CommandReplied) { d.Version++ })},
		{name: "an answer without its input", want: "T1", history: reply(0, func(r *eventlog.Record, _ *events.CommandReplied) { r.Headers = nil })},
		{name: "an answer to another command", want: "T1", history: edit(replies, "command.replied", 0, func(_ *eventlog.Record, m *events.Message) { m.CommandID = "x" })},

		{name: "accepted and lost", want: "L1", history: lose(events.TopicJobCommands, "job.submit", 0)},
		{name: "accepted and no job", want: "L1", history: call(0, func(c *invariants.Call) { c.JobID = "nowhere" })},
		{name: "accepted with another body", want: "L1", history: call(0, func(c *invariants.Call) { c.BodyDigest = "x" })},
		{name: "one key, two jobs", want: "L1", history: call(1, func(c *invariants.Call) { c.JobID = asks })},
		{name: "one key, two bodies", want: "L2", history: call(2, func(c *invariants.Call) { c.Outcome = invariants.Accepted })},
		{name: "one key, two jobs on the log", want: "L2", steps: change("submit asks", func(s *step) { s.facts[0].data = events.JobSubmitted{Request: submits("k1", "body").Request} })},
		{name: "refused, said the client", want: "L2", history: call(0, func(c *invariants.Call) { c.Outcome = invariants.Refused })},
		{name: "a cancellation accepted and not heeded", want: "L1", steps: facts("cancel")},
		{name: "accepted, said the client", want: "L1", history: call(7, func(c *invariants.Call) { c.Outcome = invariants.Accepted })},
	}
}

func brokenContent() []broken {
	tables := func(with func(*invariants.Tables)) func(*invariants.History) {
		return func(h *invariants.History) {
			h.Tables = &invariants.Tables{Fold: ids}
			h.Tables.Dump, _ = ids(h.Records[events.TopicJobEvents])
			with(h.Tables)
		}
	}
	object := func(o invariants.Object, there bool) func(*invariants.History) {
		return func(h *invariants.History) {
			h.Object = func(string) (invariants.Object, bool) { return o, there }
		}
	}
	return []broken{
		{name: "a word in clear", want: "L10", history: edit(events.TopicJobCommands, "job.cancel", 0, func(_ *eventlog.Record, m *events.Message) { m.Actor = "the zebra-canary" })},
		{name: "a word in a header", want: "L10", history: func(h *invariants.History) {
			r := &h.Records[events.TopicJobEvents][0]
			r.Headers = append(r.Headers, eventlog.Header{Key: "x", Value: "zebra-canary"})
		}},
		{name: "a word as key", want: "L10", history: func(h *invariants.History) { h.Records[events.TopicJobReplies][0].Key = "zebra-canary" }},
		{name: "a row changed", want: "P1", history: tables(func(t *invariants.Tables) { t.Dump = "x" + t.Dump })},
		{name: "rows ahead of their offsets", want: "P1", history: tables(func(t *invariants.Tables) {
			t.Next = map[eventlog.TopicPartition]int64{{Topic: events.TopicJobEvents}: 1}
		})},
		{name: "facts that make no rows", want: "P1", history: tables(func(t *invariants.Tables) {
			t.Fold = func([]eventlog.Record) (string, error) { return "", errors.New("no") }
		})},
		{name: "rows that count duplicates", want: "P3", history: tables(func(t *invariants.Tables) {
			t.Fold = func(rs []eventlog.Record) (string, error) { return strings.Repeat("x", len(rs)), nil }
		})},
		{name: "an artifact that is not there", want: "A1", history: object(invariants.Object{}, false)},
		{name: "an artifact of another size", want: "A1", history: object(invariants.Object{Size: 8, SHA256: "11"}, true)},
		{name: "an artifact with another digest", want: "A1", history: object(invariants.Object{Size: 7, SHA256: "12"}, true)},
	}
}
