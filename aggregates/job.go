// The job: rules, state and Evolve.
//
//  1. A job is submitted once; the same request again decides nothing, another one
//     under its id is refused.
//  2. A submitted job is planned or rejected in the same decision.
//  3. Before its not-before no stage starts.
//  4. A stage starts when every node before it succeeded, was reused or was skipped.
//  5. A stage whose inputs the parent has worked on already is reused, not run.
//  6. Only the current attempt of a stage counts; an answer of another one is ignored.
//  7. A result of the current attempt is taken however late it comes, after its lease
//     too, until the next attempt is scheduled.
//  8. A failed or silent attempt is followed by another, after a back-off, when its
//     class allows it and attempts are left; otherwise the job fails. One that came to a
//     worker who cannot do it, while another can, is no attempt of those.
//  9. Where approval is asked for, nothing goes on before it is granted; denied it
//     rejects the job, and not given in time it fails it.
//  10. A script that the safety filter does not allow rejects the job; a video that
//     the check does not allow fails it.
//  11. A running attempt past its time-out fails; a job past its deadline fails.
//  12. A job that is asked to cancel schedules nothing more and ends cancelled,
//     whatever its workers still report, once no attempt of it runs.
//  13. After a terminal fact nothing happens any more, but that labels change.
//  14. For a client of another tenant there is no such job, and no command brings another
//     tenant's files or texts along.

package aggregates

import (
	"maps"
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// Job states.
const (
	JobScheduled       = "scheduled" // before its not-before
	JobQueued          = "queued"
	JobRunning         = "running"
	JobWaitingApproval = "waiting_approval"
	JobSucceeded       = "succeeded"
	JobFailed          = "failed"
	JobCancelled       = "cancelled"
	JobRejected        = "rejected"
)

// Stage states.
const (
	StagePending         = "pending"
	StageQueued          = "queued"
	StageRunning         = "running"
	StageSucceeded       = "succeeded"
	StageFailed          = "failed"
	StageSkipped         = "skipped"
	StageReused          = "reused"
	StageCancelled       = "cancelled"
	StageWaiting         = "waiting"          // for the back-off before its next attempt
	StageWaitingApproval = "waiting_approval" // the gate
)

// Job is the state of one job: the fold of its facts. The zero value is a job
// that was never submitted.
type Job struct {
	Chain         events.Chain
	ID            string
	Tenant        string
	CorrelationID string
	events.JobState
}

// Terminal says whether the job has ended.
func (j Job) Terminal() bool {
	switch j.State {
	case JobSucceeded, JobFailed, JobCancelled, JobRejected:
		return true
	}
	return false
}

// Node finds a node of the job's graph and its stage.
func (j Job) Node(id string) (int, bool) {
	i := slices.IndexFunc(j.Graph.Nodes, func(n events.Node) bool { return n.ID == id })
	return i, i >= 0
}

// Folder is the job's place in the object store: tenant/profile or "-"/job.
func (j Job) Folder() string {
	profile := j.Request.ProfileID
	if profile == "" {
		profile = "-"
	}
	return j.Tenant + "/" + profile + "/" + j.ID
}

// Apply checks that m continues the chain and gives the next state. A fact seen
// before changes nothing; one that breaks the chain is events.ErrBrokenChain. A fold
// may also start at a carried-forward event.
func (j Job) Apply(m events.Message) (Job, error) {
	if j.Chain.Seen(m) {
		return j, nil
	}
	if !j.startsAt(m) {
		if err := j.Chain.Check(m); err != nil {
			return j, err
		}
	}
	return Evolve(j, m), nil
}

// startsAt says whether m carries the whole state to a fold that has none.
func (j Job) startsAt(m events.Message) bool {
	_, carried := m.Data.(events.JobCarriedForward)
	return carried && j.Chain.Version == 0
}

// Evolve gives the state after a fact that continues the chain. It never changes
// the state it was given.
func Evolve(j Job, m events.Message) Job {
	starts := j.startsAt(m)
	j.Chain = j.Chain.Next(m)
	fact, ok := m.Data.(events.JobFact)
	if !ok {
		return j
	}
	switch d := fact.(type) {
	case events.JobSubmitted:
		j.ID, j.Tenant, j.CorrelationID = m.AggregateID, m.Tenant, m.CorrelationID
		j.State, j.Request, j.Parent, j.SubmittedAt = JobQueued, d.Request, d.Parent, m.OccurredAt
		j.Values = maps.Clone(d.Request.Inputs)
	case events.JobPlanned:
		j.Graph, j.DeadlineMS, j.Profile = d.Graph, d.DeadlineMS, d.Profile
		j.Stages = make([]events.StageState, len(d.Graph.Nodes))
		for i := range j.Stages {
			j.Stages[i].State = StagePending
		}
		if j.Request.NotBeforeMS > m.OccurredAt.UnixMilli() {
			j.State = JobScheduled
		}
	case events.JobCarriedForward:
		if starts {
			j.ID, j.Tenant, j.CorrelationID, j.JobState = m.AggregateID, m.Tenant, m.CorrelationID, d.State
		}
	case events.JobCancelRequested:
		j.Cancelling = true
	case events.JobLabelled:
		j.Request.Labels = d.Labels // retries and re-runs have those of today
		j.Labelled = append(slices.Clip(j.Labelled), m.CausationID)
	case events.JobSucceeded:
		j.State = JobSucceeded
	case events.JobFailed:
		j.State = JobFailed
	case events.JobCancelled:
		j.State = JobCancelled
	case events.JobRejected:
		j.State = JobRejected
	default:
		j = evolveStage(j, m, fact)
	}
	return j
}

// evolveStage gives the state after a fact about one stage.
func evolveStage(j Job, m events.Message, fact events.JobFact) Job { //nolint:gochecksumtype // Evolve names the others
	i, ok := j.Node(m.Stage)
	if !ok {
		return j
	}
	s := j.Stages[i]
	switch d := fact.(type) {
	case events.StageScheduled:
		if j.State == JobScheduled {
			j.State = JobQueued
		}
		s = events.StageState{State: StageQueued, Attempt: m.Attempt, Partition: d.Partition, InputHash: d.InputHash, Reduce: d.Reduce, Misplaced: s.Misplaced}
	case events.StageStarted:
		j.State = JobRunning
		s.State, s.DeadlineMS, s.LeaseMS = StageRunning, d.DeadlineMS, d.LeaseMS
	case events.StageSucceeded:
		s = events.StageState{State: StageSucceeded, Attempt: m.Attempt, InputHash: s.InputHash}
		j = j.keep(i, d.Outputs)
	case events.StageReused:
		s = events.StageState{State: StageReused, Attempt: m.Attempt, InputHash: d.From.InputHash}
		j = j.keep(i, d.Outputs)
	case events.StageFailed:
		switch m.ErrorClass {
		case events.ClassOOM:
			s.Reduce++
		case events.ClassMisplaced:
			s.Misplaced++
		}
		s = unsuccessful(s, d.RetryAtMS)
	case events.StageAttemptExpired:
		s = unsuccessful(s, d.RetryAtMS)
		s.Expired = s.State == StageWaiting
	case events.StageCancelled:
		s = events.StageState{State: StageCancelled, Attempt: m.Attempt}
	case events.StageSkipped:
		s = events.StageState{State: StageSkipped}
		j = j.passOn(i)
	case events.ApprovalRequested:
		j.State = JobWaitingApproval
		s = events.StageState{State: StageWaitingApproval, DeadlineMS: d.ExpiresMS}
	case events.ApprovalGranted:
		j.State = JobRunning
		s = events.StageState{State: StageSucceeded}
		j = j.passOn(i)
		if d.Edit != nil {
			j = j.keep(i, map[string]events.Value{narrationOutput: *d.Edit})
		}
	case events.ApprovalDenied, events.ApprovalExpired:
		s = events.StageState{State: StageFailed}
	case events.ArtifactRegistered:
		return j // for readers: the decision goes by the stage's outputs
	}
	j.Stages = slices.Clone(j.Stages)
	j.Stages[i] = s
	return j
}

// unsuccessful is the stage after an attempt that made nothing.
func unsuccessful(s events.StageState, retryAtMS int64) events.StageState {
	s = events.StageState{State: StageFailed, Attempt: s.Attempt, InputHash: s.InputHash, Reduce: s.Reduce, Misplaced: s.Misplaced}
	if retryAtMS > 0 {
		s.State, s.DeadlineMS = StageWaiting, retryAtMS
	}
	return s
}

func (j Job) stage(id string) events.StageState {
	if i, ok := j.Node(id); ok {
		return j.Stages[i]
	}
	return events.StageState{}
}

// keep stores a stage's outputs under the keys that the graph gives them.
func (j Job) keep(node int, outputs map[string]events.Value) Job {
	if len(outputs) == 0 {
		return j
	}
	j.Values = cloneValues(j.Values)
	for name, key := range j.Graph.Nodes[node].Out {
		if v, ok := outputs[name]; ok {
			j.Values[key] = v
		}
	}
	return j
}

// passOn gives the keys of a node that did no work the values that it would have worked on.
func (j Job) passOn(node int) Job {
	n := j.Graph.Nodes[node]
	if len(n.Pass) == 0 {
		return j
	}
	j.Values = cloneValues(j.Values)
	for name, from := range n.Pass {
		if v, ok := j.Values[from]; ok {
			j.Values[n.Out[name]] = v
		}
	}
	return j
}

func cloneValues(m map[string]events.Value) map[string]events.Value {
	if m == nil {
		return map[string]events.Value{}
	}
	return maps.Clone(m)
}

// Inputs are the values that a node reads, by the name it knows them by.
func (j Job) Inputs(n events.Node) map[string]events.Value {
	in := map[string]events.Value{}
	for name, key := range n.In {
		k, _ := optionalKey(key)
		if v, ok := j.Values[k]; ok && v.Present() {
			in[name] = v
		}
	}
	return in
}

// Active lists the stages whose current attempt lies on a lane or runs.
func (j Job) Active() []int {
	var active []int
	for i, s := range j.Stages {
		if s.State == StageQueued || s.State == StageRunning {
			active = append(active, i)
		}
	}
	return active
}

// Deadline is a time that matters to the job, and the command that the clock turns
// it into.
type Deadline struct {
	AtMS    int64
	Command events.Payload
	Stage   string
	Attempt int
}

// Deadlines lists the times that the job waits for now, its own first. Leases are
// not among them: they end by silence, which the log does not hold.
func (j Job) Deadlines() []Deadline {
	if j.Terminal() || j.Chain.Version == 0 {
		return nil
	}
	ds := []Deadline{{AtMS: j.DeadlineMS, Command: events.ClockDeadline{DeadlineMS: j.DeadlineMS}}}
	if j.State == JobScheduled {
		ds = append(ds, Deadline{AtMS: j.Request.NotBeforeMS, Command: events.ClockScheduleDue{DeadlineMS: j.Request.NotBeforeMS}})
	}
	for i, s := range j.Stages {
		d := Deadline{AtMS: s.DeadlineMS, Stage: j.Graph.Nodes[i].ID, Attempt: s.Attempt}
		switch s.State {
		case StageRunning:
			d.Command = events.ClockStageTimeout{DeadlineMS: s.DeadlineMS}
		case StageWaiting:
			d.Command = events.ClockRetryDue{DeadlineMS: s.DeadlineMS}
		case StageWaitingApproval:
			d.Command = events.ClockApprovalExpired{DeadlineMS: s.DeadlineMS}
		default:
			continue
		}
		ds = append(ds, d)
	}
	return ds
}
