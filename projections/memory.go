// The tables without a database, for those who hold rows against their facts.

package projections

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Memory holds what PostgreSQL keeps between batches, written as the projector
// writes it.
type Memory struct {
	jobs      map[string]*keptJob
	artifacts map[[2]string]Artifact
	profiles  map[string]Profile
	events    []*fact
	counts    Counts
}

// keptJob is a job's row and those of its stages.
type keptJob struct {
	row    Job
	stages []Stage
}

// NewMemory is a set of empty tables.
func NewMemory() *Memory {
	return &Memory{jobs: map[string]*keptJob{}, artifacts: map[[2]string]Artifact{}, profiles: map[string]Profile{}}
}

// Apply folds records of jobs.events and profiles.events into the rows, in one
// transaction as it were.
func (m *Memory) Apply(records []eventlog.Record) error {
	batch := make([]fact, len(records))
	for i, r := range records {
		var err error
		if batch[i], err = decode(r); err != nil {
			return err
		}
	}
	m.apply(batch)
	return nil
}

func (m *Memory) apply(batch []fact) {
	f := newFold()
	for i := range batch {
		m.load(f, &batch[i])
		f.apply(&batch[i])
	}
	m.write(f.changes())
	m.counts.add(f.counts)
}

// load copies what the fact builds on into the fold, unless it is there.
func (m *Memory) load(f *fold, x *fact) {
	id := x.message.AggregateID
	if x.at.Topic == events.TopicProfileEvents {
		if p, kept := m.profiles[id]; kept && f.profiles[id] == nil {
			f.profiles[id] = &foldedProfile{row: p}
		}
		return
	}
	if f.jobs[id] != nil {
		return
	}
	kept := m.jobs[id]
	if kept == nil {
		return
	}
	j := &foldedJob{row: kept.row}
	j.row.Graph, j.row.Request, j.row.Outputs = nil, nil, nil // large documents are not loaded
	for _, s := range kept.stages {
		j.stages = append(j.stages, &s)
	}
	f.jobs[id] = j
}

func (m *Memory) write(c changes) {
	for _, j := range c.jobs {
		kept := m.jobs[j.ID]
		if kept == nil {
			m.jobs[j.ID] = &keptJob{row: *j}
			continue
		}
		before := kept.row
		kept.row = *j
		if j.Graph == nil { // writing NULL over a large document keeps it
			kept.row.Graph = before.Graph
		}
		if j.Request == nil {
			kept.row.Request = before.Request
		}
		if j.Outputs == nil {
			kept.row.Outputs = before.Outputs
		}
	}
	for _, s := range c.stages {
		kept := m.jobs[s.JobID] // its job's row is written whenever one of its stages is
		if i := slices.IndexFunc(kept.stages, func(h Stage) bool { return h.ID == s.ID }); i >= 0 {
			kept.stages[i] = *s
		} else {
			kept.stages = append(kept.stages, *s)
		}
	}
	for _, a := range c.artifacts {
		m.artifacts[[2]string{a.JobID, a.ID}] = *a
	}
	for _, p := range c.profiles {
		m.profiles[p.ID] = *p
	}
	m.events = append(m.events, c.events...)
}

// Counts tells what became of all facts so far.
func (m *Memory) Counts() Counts { return m.counts }

// Dump is every row in JSON, one a line, in the order of the tables' keys.
func (m *Memory) Dump() (string, error) {
	var b strings.Builder
	add := func(table string, row any) error {
		text, err := json.Marshal(row)
		fmt.Fprintf(&b, "%s %s\n", table, text)
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(m.jobs)) {
		if err := add("jobs", m.jobs[id].row); err != nil {
			return "", err
		}
		for _, s := range m.jobs[id].stages {
			if err := add("stages", s); err != nil {
				return "", err
			}
		}
	}
	keys := slices.SortedFunc(maps.Keys(m.artifacts), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	for _, k := range keys {
		if err := add("artifacts", m.artifacts[k]); err != nil {
			return "", err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.profiles)) {
		if err := add("profiles", m.profiles[id]); err != nil {
			return "", err
		}
	}
	told, err := auditTrail(m.events)
	if err != nil {
		return "", err
	}
	slices.SortStableFunc(told, func(a, b *JobEvent) int {
		return cmp.Or(cmp.Compare(a.JobID, b.JobID), cmp.Compare(a.Version, b.Version))
	})
	for _, e := range told {
		if err := add("job_events", e); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}
