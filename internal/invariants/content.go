// L9, L10, P1, P3 and A1: the fold, what lies in clear, rows and objects.

package invariants

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// checkFold folds every job three times: as it is, with every fact doubled and told
// again later, and from each carried-forward fact on. All must agree.
func (r *reading) checkFold() {
	for _, id := range r.order {
		facts := r.jobs[id]
		var once, twice aggregates.Job
		started := map[int]aggregates.Job{}
		for i, e := range facts {
			if d, ok := e.m.Data.(events.JobCarriedForward); ok {
				r.checkCarried(id, once, d)
				started[i] = aggregates.Job{}
			}
			var err error
			if once, err = once.Apply(e.m); err != nil {
				break // L3 tells
			}
			for _, again := range []int{i, i, i / 2} {
				if twice, err = twice.Apply(facts[again].m); err != nil {
					r.violation("L9", id, "the fold refuses a fact told twice: %v", err)
				}
			}
			for from, job := range started {
				if started[from], err = job.Apply(e.m); err != nil {
					r.violation("L9", id, "the fold that started at version %d refuses %s: %v", facts[from].m.Version, e.m.Type(), err)
				}
			}
		}
		want := asJSON(once)
		if got := asJSON(twice); got != want {
			r.violation("L9", id, "with duplicates its fold is\n%s\nwithout\n%s", got, want)
		}
		for from, job := range started {
			if got := asJSON(job); got != want {
				r.violation("L9", id, "folded from version %d it is\n%s\nfrom the beginning\n%s", facts[from].m.Version, got, want)
			}
		}
	}
}

func (r *reading) checkCarried(id string, j aggregates.Job, d events.JobCarriedForward) {
	if got, want := asJSON(d.State), asJSON(j.JobState); got != want {
		r.violation("L9", id, "the state carried forward is\n%s\nthe fold is\n%s", got, want)
	}
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// checkCanaries looks for the planted words in everything that a record holds.
func (r *reading) checkCanaries() {
	if len(r.h.Limits.Canaries) == 0 {
		return
	}
	for _, topic := range sortedKeys(r.h.Records) {
		for _, rec := range r.h.Records[topic] {
			for _, word := range r.h.Limits.Canaries {
				if holds(rec, word) {
					r.violation("L10", rec.Key, "the record at %s offset %d holds %q in clear", rec.At(), rec.Offset, word)
				}
			}
		}
	}
}

func holds(rec eventlog.Record, word string) bool {
	return bytes.Contains(rec.Value, []byte(word)) || strings.Contains(rec.Key, word) ||
		slices.ContainsFunc(rec.Headers, func(h eventlog.Header) bool { return strings.Contains(h.Value, word) })
}

// checkTables compares rows with folds of the facts they were made from.
func (r *reading) checkTables() {
	t := r.h.Tables
	if t == nil {
		return
	}
	var prefix, doubled []eventlog.Record
	for _, topic := range journals {
		for _, e := range r.entries[topic] {
			if next, ok := t.Next[e.rec.At()]; t.Next == nil || ok && e.rec.Offset < next {
				prefix = append(prefix, e.rec)
				doubled = append(doubled, e.rec, e.rec)
				if len(prefix)%5 == 0 {
					doubled = append(doubled, prefix[len(prefix)/2])
				}
			}
		}
	}
	want, err := t.Fold(prefix)
	if err != nil {
		r.violation("P1", "", "the facts do not fold into rows: %v", err)
		return
	}
	if t.Dump != want {
		r.violation("P1", "", "the rows are\n%s\nthe fold of their facts is\n%s", t.Dump, want)
	}
	if again, err := t.Fold(doubled); err != nil || again != want {
		r.violation("P3", "", "with every fact applied twice the rows are (%v)\n%s\nonce\n%s", err, again, want)
	}
}

// checkObjects looks up every artifact that a fact names.
func (r *reading) checkObjects() {
	if r.h.Object == nil {
		return
	}
	seen := map[string]bool{}
	for _, e := range r.entries[events.TopicJobEvents] {
		for _, a := range artifacts(e.m.Data) {
			if key := a.URI + a.SHA256; seen[key] {
				continue
			} else {
				seen[key] = true
			}
			switch o, ok := r.h.Object(a.URI); {
			case !ok:
				r.violation("A1", e.m.AggregateID, "%s names %s, which does not exist", e.m.Type(), a.URI)
			case o.Size != a.Size || o.SHA256 != a.SHA256:
				r.violation("A1", e.m.AggregateID, "%s says that %s has %d bytes and digest %s, it has %d and %s",
					e.m.Type(), a.URI, a.Size, a.SHA256, o.Size, o.SHA256)
			}
		}
	}
}

// artifacts are the files that a fact claims to exist.
func artifacts(p events.Payload) []events.Artifact {
	var values map[string]events.Value
	switch d := p.(type) {
	case events.ArtifactRegistered:
		return []events.Artifact{d.Artifact}
	case events.StageSucceeded:
		values = d.Outputs
	case events.StageReused:
		values = d.Outputs
	case events.JobSucceeded:
		values = d.Outputs
	default: // names no files
	}
	var out []events.Artifact
	for _, name := range sortedKeys(values) {
		out = append(out, values[name].Artifacts...)
	}
	return out
}
