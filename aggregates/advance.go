// How a job goes on: which stages start, and what each start is.

package aggregates

import (
	"maps"
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// advance starts every stage whose predecessors are done, until nothing moves.
func (d *decision) advance() {
	for moved := true; moved && !d.job.Terminal(); {
		moved = false
		for i, n := range d.job.Graph.Nodes {
			if d.job.Stages[i].State == StagePending && d.ready(n.ID) {
				d.start(n)
				moved = true
			}
		}
	}
	if d.job.Terminal() || slices.ContainsFunc(d.job.Stages, func(s events.StageState) bool { return !done(s) }) {
		return
	}
	d.emit(events.JobSucceeded{Outputs: d.results()}, events.Columns{State: JobSucceeded, DurationMS: d.s.At.Sub(d.job.SubmittedAt).Milliseconds()})
}

// done says whether what follows the stage may go on.
func done(s events.StageState) bool {
	return s.State == StageSucceeded || s.State == StageSkipped || s.State == StageReused
}

func (d *decision) ready(id string) bool {
	for _, e := range d.job.Graph.Edges {
		if e.To == id && !done(d.job.stage(e.From)) {
			return false
		}
	}
	return true
}

func (d *decision) start(n events.Node) {
	switch {
	case n.Skip != "":
		d.emit(events.StageSkipped{Reason: n.Skip}, events.Columns{Stage: n.ID, Task: n.Task, State: StageSkipped})
	case n.Task == TaskApproval && d.job.Request.Approval:
		d.askForApproval(n)
	case n.Lane == "":
		d.decideHere(n)
	default:
		d.schedule(n.ID, 1)
	}
}

// decideHere runs the tasks that need no worker.
func (d *decision) decideHere(n events.Node) {
	r := events.Result{Fidelity: events.FidelityFull, Engine: "handler"}
	switch n.Task {
	case TaskProfileLoad:
		r.Outputs = ProfileValues(d.job.Profile)
		maps.Copy(r.Outputs, d.job.Inputs(n)) // what the request says of the voice comes first
	case TaskApproval: // nobody is asked: the request brought the edit
		r.Outputs = map[string]events.Value{narrationOutput: *d.job.Request.Edit}
		r.Notes = []string{"the narration was edited"}
	}
	d.emit(events.StageSucceeded{Result: r}, events.Columns{Stage: n.ID, Task: n.Task, State: StageSucceeded})
}

// schedule puts an attempt on its lane, unless the parent's result stands in for it.
func (d *decision) schedule(stage string, attempt int) {
	i, ok := d.job.Node(stage)
	if !ok {
		return
	}
	n := d.job.Graph.Nodes[i]
	engine := d.s.Engines.Name(n, d.job.Request.Engines, d.has(n, events.InputRecording))
	hash := InputHash(d.job, n, engine)
	if attempt == 1 && d.reuse(n, hash) {
		return
	}
	batch := d.job.Request.Priority == events.PriorityBatch
	d.emit(events.StageScheduled{
		Partition: d.s.Place(n.Lane, model(n, engine, d.job.Request.Variant), events.AttemptID(d.job.ID, stage, attempt), batch, d.suits(n)),
		InputHash: hash, Engine: engine, TimeoutMS: limitMS(d.job, n), Batch: batch, Reduce: d.job.Stages[i].Reduce,
	}, events.Columns{Stage: n.ID, Task: n.Task, Lane: n.Lane, Attempt: attempt, State: StageQueued})
}

// limitMS is how long one run of a node may take, in milliseconds: the node's own limit,
// and more for every second of the longest sound or video that it works on.
func limitMS(j Job, n events.Node) int64 {
	t, _ := Task(n.Task)
	longest := int64(0)
	for _, v := range j.Inputs(n) {
		for _, a := range v.Artifacts {
			longest = max(longest, a.DurationMS)
		}
	}
	return n.TimeoutMS + min(longest, longestSoundMS)*t.PerSecond/1000
}

// longestSoundMS bounds what a length that a worker or an upload claims can add.
const longestSoundMS = 10 * minute

// model is what has to be in memory for the node: its engines, and where those are
// different ones for each variant, the variant.
func model(n events.Node, engine, variant string) string {
	if engine != "" && (n.Lane == events.LaneRender || n.Lane == events.LaneLipsync) {
		return engine + " " + variant
	}
	return engine
}

// results are the values that the pipeline names as the job's outputs.
func (d *decision) results() map[string]events.Value {
	r := d.job.Request
	r.Mode, r.Variant = d.job.Graph.Mode, d.job.Graph.Variant
	pipe, _ := pipelineOf(r)
	out := map[string]events.Value{}
	for name, key := range pipe.Results {
		for take := 1; take <= maxTakes; take++ {
			if v, ok := d.job.Values[ofTake(key, take)]; ok {
				out[ofTake(name, take)] = v
			}
		}
	}
	return out
}
