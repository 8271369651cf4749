// What a job decides when a command, an answer of a worker or a deadline reaches it.

package aggregates

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Policy are the operator's settings that decisions depend on.
type Policy struct {
	Limits         Limits
	MaxAttempts    int           // of one stage, at least 1
	BackOff        time.Duration // before the second attempt; doubles after each
	JobDeadline    time.Duration // from submission, or from the not-before, to the end
	ApprovalExpiry time.Duration // from the request for approval to giving up
	// StageGrace is added to a stage's time-out before the handler gives it up: the
	// worker's own time-out comes first and says more.
	StageGrace time.Duration
}

// DefaultPolicy is used where configuration is silent.
func DefaultPolicy() Policy {
	return Policy{MaxAttempts: 3, BackOff: 2 * time.Second, JobDeadline: 24 * time.Hour, ApprovalExpiry: 12 * time.Hour, StageGrace: 30 * time.Second}
}

// Surroundings are what a decision depends on beside state and command. The
// handler gathers them before it decides, and the facts record what was used.
type Surroundings struct {
	At      time.Time // of the decision; not before any earlier fact of the partition
	Policy  Policy
	Profile *events.ProfileSnapshot     // that a generate-only request names, when the tenant has it
	Barred  *events.Reason              // why no new job may use the profile that the request names
	Engines Engines                     // announced by workers
	Gaps    map[string][]events.TaskGap // see Workers.Gaps
	Rooms   Rooms                       // what no card has the memory for
	Fleet   *Fleet                      // which worker does what; nil: not known
	// Place picks the partition of a lane's topic for an attempt; model is the
	// identity of what it needs in memory. Suits says of each partition how well its
	// worker suits the attempt; nil: they are all alike.
	Place func(lane, model, attemptID string, batch bool, suits func(partition int32) Suit) int32
}

// Codes of refusals.
const (
	CodeIdempotencyConflict = "idempotency_conflict"
	CodeJobUnknown          = "job_unknown"
	CodeJobEnded            = "job_ended"
	CodeJobArchived         = "job_archived" // by the handler, which knows only that it once was
	CodeNotWaiting          = "not_waiting_for_approval"
)

// Decide gives the facts that follow from a command or a worker's answer, or the
// reason why a client's command is refused. Neither means that there is nothing to
// do: a duplicate, or news of the past.
func Decide(j Job, m events.Message, s Surroundings) ([]events.Message, *events.Reason) {
	d := decision{job: j, cause: m, s: s}
	input, ok := m.Data.(events.JobInput)
	if !ok {
		return nil, nil
	}
	if refusal := j.Foreign(m); refusal != nil {
		return nil, refusal
	}
	if refusal := refuseContent(m); refusal != nil {
		return nil, refusal
	}
	if j.Chain.Version == 0 || j.Terminal() {
		if c, submits := input.(events.JobSubmit); submits && j.Chain.Version == 0 {
			d.submit(c)
			return d.facts, nil
		}
		if c, labels := input.(events.JobLabel); labels && j.Terminal() {
			refusal := d.label(c)
			return d.facts, refusal
		}
		return nil, Refuse(j.Chain.Version > 0, j.Request.BodyDigest, input)
	}
	refusal := d.decide(input)
	return d.facts, refusal
}

// Refuse is the answer to a command on a job that has ended, of which the digest of
// its body is left, or that there never was: nil for what is no client's command,
// and for a request that is only repeated.
func Refuse(existed bool, bodyDigest string, input events.JobInput) *events.Reason {
	switch c := input.(type) {
	case events.JobSubmit:
		if existed && c.Request.BodyDigest != bodyDigest {
			return conflict()
		}
		return nil
	case events.JobCancel, events.JobApprove, events.JobDeny, events.JobLabel:
		if !existed {
			return &events.Reason{Code: CodeJobUnknown, Detail: "there is no such job"}
		}
		return &events.Reason{Code: CodeJobEnded, Detail: "the job has ended; retry or re-run it as a new one"}
	default:
		return nil
	}
}

func conflict() *events.Reason {
	return &events.Reason{Code: CodeIdempotencyConflict, Detail: "this key belongs to a job that asked for something else; send the same body, or use a new key"}
}

// decide handles an input of a job that lives.
func (d *decision) decide(input events.JobInput) *events.Reason {
	switch c := input.(type) {
	case events.JobSubmit:
		if c.Request.BodyDigest != d.job.Request.BodyDigest {
			return conflict()
		}
	case events.JobCancel:
		d.cancel()
	case events.JobApprove:
		return d.approve(c)
	case events.JobDeny:
		return d.deny(c)
	case events.JobLabel:
		return d.label(c)
	case events.TaskAccepted:
		d.accepted(c)
	case events.TaskSucceeded:
		d.succeeded(c)
	case events.TaskFailed:
		class := d.cause.ErrorClass
		if c.Misplaced && d.elsewhere() {
			class = events.ClassMisplaced
		}
		d.failed(failure{class: class, message: c.Message, hint: c.Hint, tail: c.LogTail})
	case events.TaskCancelled:
		d.failed(failure{class: events.ClassEngineUnavailable, message: "the attempt was stopped", hint: "another attempt follows"})
	case events.ClockStageTimeout:
		if st := d.job.stage(d.cause.Stage); st.State == StageRunning && st.DeadlineMS == c.DeadlineMS {
			d.failed(failure{class: events.ClassTimeout, message: "the stage ran longer than it may", hint: "raise the task's time-out, or ask for less"})
		}
	case events.ClockLeaseExpired:
		d.expired()
	case events.ClockRetryDue:
		if st := d.job.stage(d.cause.Stage); st.State == StageWaiting && st.Attempt == d.cause.Attempt && st.DeadlineMS == c.DeadlineMS && !d.job.Cancelling {
			d.schedule(d.cause.Stage, d.cause.Attempt+1)
		}
	case events.ClockApprovalExpired:
		d.approvalExpired(c)
	case events.ClockScheduleDue:
		if d.job.State == JobScheduled && d.job.Request.NotBeforeMS == c.DeadlineMS && !d.job.Cancelling {
			d.advance()
		}
	case events.ClockDeadline:
		if d.job.DeadlineMS == c.DeadlineMS {
			d.overdue()
		}
	case events.ClockCarryDue:
		if c.Version == d.job.Chain.Version {
			d.emit(events.JobCarriedForward{State: d.job.JobState}, events.Columns{State: d.job.State})
		}
	case events.ClockArchiveDue:
		// The handler's own: it is about jobs that have ended.
	}
	return nil
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

// columns are those of a fact about the stage that the cause speaks of.
func (d *decision) columns(state string) events.Columns {
	c := d.nodeColumns(d.cause.Stage, state)
	c.Attempt, c.Worker, c.Model, c.DurationMS = d.cause.Attempt, d.cause.Worker, d.cause.Model, d.cause.DurationMS
	return c
}

func (d *decision) nodeColumns(stage, state string) events.Columns {
	c := events.Columns{Stage: stage, State: state}
	if i, ok := d.job.Node(stage); ok {
		c.Task, c.Lane = d.job.Graph.Nodes[i].Task, d.job.Graph.Nodes[i].Lane
	}
	return c
}

// mostLabelled is how often the labels of one job can change. The commands that did are
// remembered: one that comes again, after others, must not undo what they said.
const mostLabelled = 100

func (d *decision) label(c events.JobLabel) *events.Reason {
	switch {
	case slices.Contains(d.job.Labelled, d.cause.ID) || slices.Equal(c.Labels, d.job.Request.Labels):
	case len(d.job.Labelled) >= mostLabelled:
		return &events.Reason{Code: "labels_fixed", Field: "/labels", Detail: fmt.Sprintf("the labels of this job have changed %d times, which is as often as they can", mostLabelled)}
	default:
		d.emit(events.JobLabelled{Labels: c.Labels}, events.Columns{State: d.job.State})
	}
	return nil
}

func (d *decision) submit(c events.JobSubmit) {
	r := Defaults(c.Request)
	d.emit(events.JobSubmitted{Request: r, Parent: c.Parent}, events.Columns{State: JobQueued, Variant: r.Variant})
	g, reasons := Plan(PlanInput{JobID: d.cause.AggregateID, Request: r, Profile: d.s.Profile, Barred: d.s.Barred, Engines: d.s.Engines, Gaps: d.s.Gaps, Rooms: d.s.Rooms, Limits: d.s.Policy.Limits})
	if len(reasons) > 0 {
		d.emit(events.JobRejected{Reasons: reasons}, events.Columns{State: JobRejected, Variant: r.Variant, ErrorClass: events.ClassInvalidInput})
		return
	}
	from, state := d.s.At, JobQueued
	if due := time.UnixMilli(r.NotBeforeMS); due.After(from) {
		from, state = due, JobScheduled
	}
	d.emit(events.JobPlanned{
		Graph: g, DeadlineMS: from.Add(d.s.Policy.JobDeadline).UnixMilli(),
		Tasks: d.s.Engines.Tasks(), Profile: d.s.Profile,
	}, events.Columns{State: state, Variant: r.Variant})
	if d.job.State != JobScheduled {
		d.advance()
	}
}

// current is the stage that the cause speaks of, if its attempt may still change it.
func (d *decision) current() (events.StageState, bool) {
	st := d.job.stage(d.cause.Stage)
	return st, st.Attempt == d.cause.Attempt && (st.State == StageQueued || st.State == StageRunning)
}

func (d *decision) accepted(a events.TaskAccepted) {
	st, ok := d.current()
	if !ok || st.State != StageQueued || d.job.Cancelling {
		return
	}
	i, _ := d.job.Node(d.cause.Stage)
	limit := time.Duration(limitMS(d.job, d.job.Graph.Nodes[i]))*time.Millisecond + d.s.Policy.StageGrace
	d.emit(events.StageStarted{GPU: a.GPU, DeadlineMS: d.s.At.Add(limit).UnixMilli(), LeaseMS: a.LeaseMS}, d.columns(StageRunning))
}

func (d *decision) succeeded(t events.TaskSucceeded) {
	st, ok := d.current()
	late := st.State == StageWaiting && st.Expired && st.Attempt == d.cause.Attempt
	if !ok && !late {
		return
	}
	if d.job.Cancelling {
		d.stopped()
		return
	}
	i, _ := d.job.Node(d.cause.Stage)
	node := d.job.Graph.Nodes[i]
	if v := t.Verdict; v != nil && !v.Allowed && node.Task != TaskSafety {
		d.failed(failure{class: events.ClassEngineRejected, message: "the finished video did not pass its check: " + details(v.Reasons), hint: "run the job again from the stage that made the fault, with another seed or other options"})
		return
	}
	if d.job.Request.Engines == events.EnginesReal && !events.IsReal(t.Fidelity) {
		d.failed(failure{class: events.ClassEngineUnavailable, message: "the result is of fidelity " + t.Fidelity + ", and the job takes none but full", hint: "look after the configured engine, or ask with engines auto"})
		return
	}
	if t.ReusedFrom != nil {
		d.emit(events.StageReused{Result: t.Result, From: *t.ReusedFrom}, d.columns(StageReused))
	} else {
		d.emit(events.StageSucceeded{Result: t.Result}, d.columns(StageSucceeded))
	}
	d.register(node, d.cause.Attempt, t.Result)
	if v := t.Verdict; v != nil && !v.Allowed {
		d.emit(events.JobRejected{Reasons: v.Reasons}, events.Columns{State: JobRejected, Stage: node.ID, Task: node.Task, ErrorClass: events.ClassPolicy})
		return
	}
	d.advance()
}

// details are all reasons in one line.
func details(rs []events.Reason) string {
	if len(rs) == 0 {
		return "no reason was given"
	}
	all := make([]string, len(rs))
	for i, r := range rs {
		all[i] = r.Detail
	}
	return strings.Join(all, "; ")
}

// register makes every artifact of a result known.
func (d *decision) register(n events.Node, attempt int, r events.Result) {
	for _, out := range slices.Sorted(maps.Keys(r.Outputs)) {
		for _, a := range r.Outputs[out].Artifacts {
			c := events.Columns{Stage: n.ID, Task: n.Task, Lane: n.Lane, Attempt: attempt, Worker: d.cause.Worker, Model: d.cause.Model,
				ArtifactURI: a.URI, ArtifactSHA256: a.SHA256}
			d.emit(events.ArtifactRegistered{Artifact: a, Output: out, Fidelity: r.Fidelity, Engine: r.Engine}, c)
		}
	}
}
