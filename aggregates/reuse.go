// Content-addressed results: equal work has one name, and what has been made under a
// name is not made again.

package aggregates

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// InputHash names what a node would make: SHA-256, in hex, over tenant, task, the
// identity of the engine, parameters, the digests of all inputs in their order, and
// the profile where engines look at it.
// A text counts by its digest, never by its seal. It is empty where an input has no
// digest: such work cannot be recognised again.
func InputHash(j Job, n events.Node, engine string) string {
	h := sha256.New()
	part := func(s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }
	part(j.Tenant)
	part(n.Task)
	part(engine)
	params, err := json.Marshal(n.Params) // numbers, strings and booleans; keys are sorted
	if err != nil {
		return ""
	}
	part(string(params))
	in := j.Inputs(n)
	for _, name := range slices.Sorted(maps.Keys(in)) {
		v := in[name]
		if v.Text != nil && v.Digest == "" {
			return ""
		}
		part(name)
		part(v.Digest)
		for _, a := range v.Artifacts {
			part(a.SHA256)
		}
	}
	if t, _ := Task(n.Task); t.ByProfile && j.Request.ProfileID != "" {
		part("profile")
		part(j.Request.ProfileID)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// reuse ends the stage with the parent's result, if there is one under that name.
func (d *decision) reuse(n events.Node, hash string) bool {
	if hash == "" || d.job.Parent == nil || d.job.Anew(n.ID) {
		return false
	}
	r, ok := d.job.Parent.Results[hash]
	if !ok || !d.s.Engines.allow(n.Task, d.job.Request.Engines, r.Result) {
		return false
	}
	from := events.ReusedFrom{JobID: d.job.Parent.JobID, Stage: r.Stage, InputHash: hash}
	d.emit(events.StageReused{Result: r.Result, From: from}, events.Columns{Stage: n.ID, Task: n.Task, Lane: n.Lane, Model: r.Model, State: StageReused})
	d.register(n, 0, r.Result)
	return true
}

// Anew says whether the stage was asked for anew: then nothing that was made before
// stands in for it.
func (j Job) Anew(stage string) bool {
	return j.Parent != nil && j.Parent.From != "" && after(j.Graph, j.Parent.From)[stage]
}

// ParentOf is what a retry or re-run of a job may go on from: facts are all of the
// job's, in order. The stage called from, and all that come after it, are left out;
// with from empty, everything that ended well may be reused.
func ParentOf(facts []events.Message, from string) (events.Parent, Job, error) {
	var j Job
	var err error
	p := events.Parent{Results: map[string]events.ParentResult{}}
	byStage := map[string]events.ParentResult{}
	for _, m := range facts {
		if j, err = j.Apply(m); err != nil {
			return p, j, err
		}
		switch d := m.Data.(type) { //nolint:gochecksumtype // results alone
		case events.StageSucceeded:
			byStage[m.Stage] = events.ParentResult{Stage: m.Stage, Model: m.Model, Result: d.Result}
		case events.StageReused:
			byStage[m.Stage] = events.ParentResult{Stage: m.Stage, Model: m.Model, Result: d.Result}
		}
	}
	p.JobID, p.From = j.ID, from
	if _, ok := j.Node(from); from != "" && !ok {
		return p, j, fmt.Errorf("the job has no stage %q", from)
	}
	again := after(j.Graph, from)
	for id, r := range byStage {
		if hash := j.stage(id).InputHash; hash != "" && !again[id] && (r.Verdict == nil || r.Verdict.Allowed) {
			p.Results[hash] = r
		}
	}
	return p, j, nil
}

// after are a node and all that wait for it.
func after(g events.Graph, from string) map[string]bool {
	again := map[string]bool{from: true}
	for grown := true; grown; {
		grown = false
		for _, e := range g.Edges {
			if again[e.From] && !again[e.To] {
				again[e.To], grown = true, true
			}
		}
	}
	return again
}
