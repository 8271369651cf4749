// The tables without a database, for those who hold rows against their facts.

package projections

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Memory holds what PostgreSQL keeps between batches, written as the projector
// writes it.
type Memory struct {
	jobs      map[string]Job
	stages    map[string][]Stage
	artifacts map[[2]string]Artifact
	profiles  map[string]Profile
	events    []JobEvent
	counts    Counts
}

// NewMemory is a set of empty tables.
func NewMemory() *Memory {
	return &Memory{jobs: map[string]Job{}, stages: map[string][]Stage{}, artifacts: map[[2]string]Artifact{}, profiles: map[string]Profile{}}
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
	return m.apply(batch)
}

func (m *Memory) apply(batch []fact) error {
	jobIDs, profileIDs := subjects(batch)
	f := newFold()
	loaded := map[string]Job{}
	for _, id := range jobIDs {
		j, ok := m.jobs[id]
		if !ok {
			continue
		}
		loaded[id] = j
		j.Graph, j.Request, j.Outputs = nil, nil, nil // large documents are not loaded
		f.jobs[id] = &foldedJob{row: j}
		for _, s := range m.stages[id] {
			f.jobs[id].stages = append(f.jobs[id].stages, &s)
		}
	}
	for _, id := range profileIDs {
		if p, ok := m.profiles[id]; ok {
			f.profiles[id] = &foldedProfile{row: p}
		}
	}
	for _, x := range batch {
		if err := f.apply(x); err != nil {
			return err
		}
	}
	m.write(f.changes(), loaded)
	m.counts.add(f.counts)
	return nil
}

func (m *Memory) write(c changes, loaded map[string]Job) {
	for _, j := range c.jobs {
		row, before := *j, loaded[j.ID]
		if row.Graph == nil { // writing NULL over a large document keeps it
			row.Graph = before.Graph
		}
		if row.Request == nil {
			row.Request = before.Request
		}
		if row.Outputs == nil {
			row.Outputs = before.Outputs
		}
		m.jobs[j.ID] = row
	}
	for _, s := range c.stages {
		have := m.stages[s.JobID]
		if i := slices.IndexFunc(have, func(h Stage) bool { return h.ID == s.ID }); i >= 0 {
			have[i] = *s
		} else {
			m.stages[s.JobID] = append(have, *s)
		}
	}
	for _, a := range c.artifacts {
		m.artifacts[[2]string{a.JobID, a.ID}] = *a
	}
	for _, p := range c.profiles {
		m.profiles[p.ID] = *p
	}
	for _, e := range c.events {
		m.events = append(m.events, *e)
	}
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
		if err := add("jobs", m.jobs[id]); err != nil {
			return "", err
		}
		for _, s := range m.stages[id] {
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
	told := slices.SortedStableFunc(slices.Values(m.events), func(a, b JobEvent) int {
		return cmp.Or(cmp.Compare(a.JobID, b.JobID), cmp.Compare(a.Version, b.Version))
	})
	for _, e := range told {
		if err := add("job_events", e); err != nil {
			return "", err
		}
	}
	return b.String(), nil
}
