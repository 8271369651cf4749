// What a job decides when a command, an answer of a worker or a deadline reaches it.

package aggregates

import (
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Policy are the operator's settings that decisions depend on.
type Policy struct {
	Limits      Limits
	MaxAttempts int           // of one stage, at least 1
	BackOff     time.Duration // before the second attempt; doubles after each
	JobDeadline time.Duration // from submission to the end
	// StageGrace is added to a stage's time-out before the handler gives it up: the
	// worker's own time-out comes first and says more.
	StageGrace time.Duration
}

// DefaultPolicy is used where configuration is silent.
func DefaultPolicy() Policy {
	return Policy{MaxAttempts: 3, BackOff: 2 * time.Second, JobDeadline: 24 * time.Hour, StageGrace: 30 * time.Second}
}

// Surroundings are what a decision depends on beside state and command. The
// handler gathers them before it decides, and the facts record what was used.
type Surroundings struct {
	At      time.Time // of the decision; not before any earlier fact of the partition
	Policy  Policy
	Profile *events.ProfileSnapshot   // that the request names, when the tenant has it
	Tasks   map[string]bool           // announced by workers
	Gaps    map[string]events.TaskGap // by task
	// Place picks the partition of a lane's topic for an attempt.
	Place func(lane, attemptID string) int32
}

// Decide gives the facts that follow from a command or a worker's answer. No
// facts means that there is nothing to do: a duplicate, or news of the past.
func Decide(j Job, m events.Message, s Surroundings) []events.Message {
	d := decision{job: j, cause: m, s: s}
	input, ok := m.Data.(events.JobInput)
	_, submits := m.Data.(events.JobSubmit)
	if !ok || j.Terminal() || submits != (j.Chain.Version == 0) {
		return nil
	}
	switch c := input.(type) {
	case events.JobSubmit:
		d.submit(c)
	case events.TaskAccepted:
		d.accepted(c)
	case events.TaskSucceeded:
		d.succeeded(c)
	case events.TaskFailed:
		d.failed(m.ErrorClass, c.Message, c.Hint, c.LogTail)
	case events.ClockStageTimeout:
		if st, ok := d.current(); ok && st.State == StageRunning && st.DeadlineMS == c.DeadlineMS {
			d.failed(events.ClassTimeout, "the stage ran longer than it may", "raise the task's time-out, or ask for less", nil)
		}
	case events.ClockRetryDue:
		if st := j.stage(m.Stage); st.State == StageWaiting && st.Attempt == m.Attempt && st.DeadlineMS == c.DeadlineMS {
			d.schedule(m.Stage, m.Attempt+1)
		}
	case events.ClockDeadline:
		if j.DeadlineMS == c.DeadlineMS {
			d.end(events.ClassTimeout, "", "the job did not end before its deadline", "look at the lanes: is a worker running?", nil)
		}
	}
	return d.facts
}

type decision struct {
	job   Job
	cause events.Message
	s     Surroundings
	facts []events.Message
}

// emit appends a fact and evolves the state by it, so that the next one continues the chain.
func (d *decision) emit(p events.Payload, c events.Columns) {
	id := d.cause.AggregateID
	c.JobID = id
	if c.Variant == "" {
		c.Variant = d.job.Graph.Variant
	}
	m := events.Message{
		ID: events.EventID(d.cause.OccurredAt, d.cause.ID, len(d.facts)), SchemaVersion: p.SchemaVersion(),
		AggregateType: events.AggregateJob, AggregateID: id,
		Version: d.job.Chain.Version + 1, PrevID: d.job.Chain.LastID,
		OccurredAt: d.s.At, CommandID: d.cause.CommandID, CausationID: d.cause.ID,
		CorrelationID: d.cause.CorrelationID, Tenant: d.cause.Tenant, Actor: d.cause.Actor, Columns: c, Data: p,
	}
	if d.job.Chain.Version > 0 {
		m.Tenant, m.CorrelationID = d.job.Tenant, d.job.CorrelationID
	}
	d.job = Evolve(d.job, m)
	d.facts = append(d.facts, m)
}

func (d *decision) submit(c events.JobSubmit) {
	r := Defaults(c.Request)
	d.emit(events.JobSubmitted{Request: r}, events.Columns{State: JobQueued, Variant: r.Variant})
	g, reasons := Plan(PlanInput{JobID: d.cause.AggregateID, Request: r, Profile: d.s.Profile, Tasks: d.s.Tasks, Gaps: d.s.Gaps, Limits: d.s.Policy.Limits})
	if len(reasons) > 0 {
		d.emit(events.JobRejected{Reasons: reasons}, events.Columns{State: JobRejected, Variant: r.Variant, ErrorClass: events.ClassInvalidInput})
		return
	}
	d.emit(events.JobPlanned{
		Graph: g, DeadlineMS: d.s.At.Add(d.s.Policy.JobDeadline).UnixMilli(),
		Tasks: slices.Sorted(maps.Keys(d.s.Tasks)), Profile: d.s.Profile,
	}, events.Columns{State: JobQueued, Variant: r.Variant})
	d.advance()
}

// current is the stage that the cause speaks of, if its attempt still counts.
func (d *decision) current() (Stage, bool) {
	st := d.job.stage(d.cause.Stage)
	return st, st.Attempt == d.cause.Attempt && (st.State == StageQueued || st.State == StageRunning)
}

func (d *decision) columns(state string) events.Columns {
	c := events.Columns{Stage: d.cause.Stage, Attempt: d.cause.Attempt, State: state, Worker: d.cause.Worker, Model: d.cause.Model, DurationMS: d.cause.DurationMS}
	if i, ok := d.job.Node(d.cause.Stage); ok {
		c.Task, c.Lane = d.job.Graph.Nodes[i].Task, d.job.Graph.Nodes[i].Lane
	}
	return c
}

func (d *decision) accepted(a events.TaskAccepted) {
	st, ok := d.current()
	if !ok || st.State != StageQueued {
		return
	}
	i, _ := d.job.Node(d.cause.Stage)
	limit := time.Duration(d.job.Graph.Nodes[i].TimeoutMS)*time.Millisecond + d.s.Policy.StageGrace
	d.emit(events.StageStarted{GPU: a.GPU, DeadlineMS: d.s.At.Add(limit).UnixMilli()}, d.columns(StageRunning))
}

func (d *decision) succeeded(t events.TaskSucceeded) {
	if _, ok := d.current(); !ok {
		return
	}
	i, _ := d.job.Node(d.cause.Stage)
	node := d.job.Graph.Nodes[i]
	if v := t.Verdict; v != nil && !v.Allowed && node.Task != TaskSafety {
		d.failed(events.ClassEngineRejected, "the finished video did not pass its check: "+firstDetail(v.Reasons), "look at the stage's reasons in the job's events", nil)
		return
	}
	d.emit(events.StageSucceeded{Result: t.Result}, d.columns(StageSucceeded))
	d.register(node, t.Result)
	if v := t.Verdict; v != nil && !v.Allowed {
		d.emit(events.JobRejected{Reasons: v.Reasons}, events.Columns{State: JobRejected, Stage: node.ID, Task: node.Task, ErrorClass: events.ClassPolicy})
		return
	}
	d.advance()
}

func firstDetail(rs []events.Reason) string {
	if len(rs) == 0 {
		return "no reason was given"
	}
	return rs[0].Detail
}

// register makes every artifact of a result known.
func (d *decision) register(n events.Node, r events.Result) {
	for _, out := range slices.Sorted(maps.Keys(r.Outputs)) {
		for _, a := range r.Outputs[out].Artifacts {
			c := d.columns("")
			c.Stage, c.Task, c.Lane, c.DurationMS = n.ID, n.Task, n.Lane, 0
			c.ArtifactURI, c.ArtifactSHA256 = a.URI, a.SHA256
			d.emit(events.ArtifactRegistered{Artifact: a, Output: out, Fidelity: r.Fidelity, Engine: r.Engine}, c)
		}
	}
}

// failed ends the current attempt; another follows if the class allows it.
func (d *decision) failed(class, message, hint string, tail *events.Sealed) {
	st, ok := d.current()
	if !ok {
		return
	}
	c := d.columns(StageFailed)
	c.ErrorClass = class
	f := events.StageFailed{Message: message, Hint: hint, LogTail: tail}
	if retryable(class) && st.Attempt < d.s.Policy.MaxAttempts {
		f.RetryAtMS = d.s.At.Add(d.backOff(d.cause.Stage, st.Attempt)).UnixMilli()
		c.State = StageWaiting
		d.emit(f, c)
		return
	}
	d.emit(f, c)
	d.end(class, d.cause.Stage, message, hint, tail)
}

func (d *decision) end(class, stage, message, hint string, tail *events.Sealed) {
	c := events.Columns{State: JobFailed, Stage: stage, ErrorClass: class}
	if i, ok := d.job.Node(stage); ok {
		c.Task = d.job.Graph.Nodes[i].Task
	}
	d.emit(events.JobFailed{Message: message, Hint: hint, LogTail: tail}, c)
}

// retryable classes may go away by themselves; the others would fail again.
func retryable(class string) bool {
	switch class {
	case events.ClassEngineUnavailable, events.ClassStalled, events.ClassInternal, events.ClassOOM, events.ClassTimeout:
		return true
	}
	return false
}

// backOff doubles with each attempt, with a jitter of up to a quarter that a
// repeated decision draws again.
func (d *decision) backOff(stage string, attempt int) time.Duration {
	base := d.s.Policy.BackOff << min(attempt-1, 10)
	h := fnv.New32a()
	h.Write([]byte(events.AttemptID(d.job.ID, stage, attempt))) //nolint:errcheck // a hash's Write never fails
	return base + time.Duration(int64(base)/4*int64(h.Sum32()%1000)/1000)
}

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
	if d.job.Terminal() || slices.ContainsFunc(d.job.Stages, func(s Stage) bool { return s.State != StageSucceeded && s.State != StageSkipped }) {
		return
	}
	d.emit(events.JobSucceeded{Outputs: d.results()}, events.Columns{State: JobSucceeded, DurationMS: d.s.At.Sub(d.job.SubmittedAt).Milliseconds()})
}

func (d *decision) ready(id string) bool {
	for _, e := range d.job.Graph.Edges {
		if e.To != id {
			continue
		}
		if s := d.job.stage(e.From).State; s != StageSucceeded && s != StageSkipped {
			return false
		}
	}
	return true
}

func (d *decision) start(n events.Node) {
	switch {
	case n.Skip != "":
		d.emit(events.StageSkipped{Reason: n.Skip}, events.Columns{Stage: n.ID, Task: n.Task, State: StageSkipped})
	case n.Lane == "":
		d.decideHere(n)
	default:
		d.schedule(n.ID, 1)
	}
}

// decideHere runs the tasks that need no worker.
func (d *decision) decideHere(n events.Node) {
	r := events.Result{Fidelity: events.FidelityFull, Engine: "handler"}
	if n.Task == TaskProfileLoad {
		r.Outputs = ProfileValues(d.job.Profile)
	}
	d.emit(events.StageSucceeded{Result: r}, events.Columns{Stage: n.ID, Task: n.Task, State: StageSucceeded})
}

func (d *decision) schedule(stage string, attempt int) {
	i, ok := d.job.Node(stage)
	if !ok {
		return
	}
	n := d.job.Graph.Nodes[i]
	d.emit(events.StageScheduled{
		Partition: d.s.Place(n.Lane, events.AttemptID(d.job.ID, stage, attempt)), TimeoutMS: n.TimeoutMS,
	}, events.Columns{Stage: n.ID, Task: n.Task, Lane: n.Lane, Attempt: attempt, State: StageQueued})
}

// results are the values that the pipeline names as the job's outputs.
func (d *decision) results() map[string]events.Value {
	pipe, _ := FindPipeline(d.job.Graph.Mode, d.job.Graph.Variant)
	out := map[string]events.Value{}
	for name, key := range pipe.Results {
		if v, ok := d.job.Values[key]; ok {
			out[name] = v
		}
	}
	return out
}
