package main

// Tests that written facts are those of whole jobs, as a handler would have told them.

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

// TestFactsAreAWholeJobs follows their chain by the events package's own check.
func TestFactsAreAWholeJobs(t *testing.T) {
	t.Parallel()
	facts := factsOf(7)
	if len(facts) != factsPerJob {
		t.Errorf("a job has %d facts, not %d", len(facts), factsPerJob)
	}
	var chain events.Chain
	for i, m := range facts {
		if err := chain.Check(m); err != nil {
			t.Errorf("fact %d: %v", i, err)
		}
		if i > 0 && m.OccurredAt.Before(facts[i-1].OccurredAt) {
			t.Errorf("fact %d goes back in time", i)
		}
		chain = chain.Next(m)
	}
	first, last := facts[0].Type(), facts[len(facts)-1].Type()
	if first != (events.JobSubmitted{}).EventType() || last != (events.JobSucceeded{}).EventType() {
		t.Errorf("the job begins with %s and ends with %s", first, last)
	}
	if other := factsOf(8); other[0].AggregateID == facts[0].AggregateID || other[0].ID == facts[0].ID {
		t.Error("two jobs share their ids")
	}
}

// TestFactsMakeTheRowsThatTheMeasuresCount folds two jobs whose facts alternate.
func TestFactsMakeTheRowsThatTheMeasuresCount(t *testing.T) {
	t.Parallel()
	d := &deployment{prefix: "bench."}
	one, other := factsOf(1), factsOf(2)
	var records []eventlog.Record
	for i := range factsPerJob {
		for _, m := range []events.Message{one[i], other[i]} {
			raw, err := factRecord(d, m, 3)
			if err != nil {
				t.Fatal(err)
			}
			if raw.Topic != "bench."+events.TopicJobEvents || string(raw.Key) != m.AggregateID || raw.Partition != eventlog.PartitionFor(m.AggregateID, 3) {
				t.Fatalf("fact %d goes to %s/%d under the key %s", i, raw.Topic, raw.Partition, raw.Key)
			}
			if !slices.ContainsFunc(raw.Headers, func(h kgo.RecordHeader) bool { return h.Key == events.HeaderType && string(h.Value) == m.Type() }) {
				t.Fatalf("fact %d lacks its type among the headers", i)
			}
			records = append(records, eventlog.Record{Topic: events.TopicJobEvents, Partition: raw.Partition, Offset: int64(len(records)), Key: string(raw.Key), Value: raw.Value})
		}
	}
	rows := projections.NewMemory()
	if err := rows.Apply(records); err != nil {
		t.Fatal(err)
	}
	if c := rows.Counts(); c != (projections.Counts{Applied: 2 * factsPerJob}) {
		t.Errorf("the fold says %+v", c)
	}
	dump, err := rows.Dump()
	if err != nil {
		t.Fatal(err)
	}
	for table, want := range map[string]int{"jobs ": 2, "stages ": 2 * len(noopLanes), "job_events ": 2 * factsPerJob} {
		n := 0
		for line := range strings.Lines(dump) {
			if strings.HasPrefix(line, table) {
				n++
			}
		}
		if n != want {
			t.Errorf("%d rows of %s, not %d", n, table, want)
		}
	}
	if n := strings.Count(dump, `"Status":"succeeded"`); n != 2+2*len(noopLanes) {
		t.Errorf("%d jobs and stages have succeeded", n)
	}
}
