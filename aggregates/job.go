// The job: rules, state, Decide and Evolve.
//
//  1. A job is submitted once; the same command again decides nothing.
//  2. A submitted job is planned or rejected in the same decision.
//  3. A stage starts when every node before it succeeded or was skipped.
//  4. Only the current attempt of a stage counts; an answer of another one is ignored.
//  5. A result of the current attempt is taken however late it comes.
//  6. A failed attempt is followed by another, after a back-off, when its class
//     allows it and attempts are left; otherwise the job fails.
//  7. A script that the safety filter does not allow rejects the job; a video that
//     the check does not allow fails it.
//  8. A running attempt past its time-out fails; a job past its deadline fails.
//  9. After a terminal fact nothing happens any more.

package aggregates

import (
	"maps"
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Job states.
const (
	JobQueued    = "queued"
	JobRunning   = "running"
	JobSucceeded = "succeeded"
	JobFailed    = "failed"
	JobRejected  = "rejected"
)

// Stage states.
const (
	StagePending   = "pending"
	StageQueued    = "queued"
	StageRunning   = "running"
	StageSucceeded = "succeeded"
	StageFailed    = "failed"
	StageSkipped   = "skipped"
	StageWaiting   = "waiting" // for the back-off before its next attempt
)

// Job is the state of one job: the fold of its facts. The zero value is a job
// that was never submitted.
type Job struct {
	Chain         events.Chain
	ID            string
	Tenant        string
	CorrelationID string
	State         string
	SubmittedAt   time.Time
	Request       events.Request
	Graph         events.Graph
	DeadlineMS    int64
	Profile       *events.ProfileSnapshot
	Stages        []Stage                 // parallel to Graph.Nodes
	Values        map[string]events.Value // what stages hand on, by key
}

// Stage is where one node of the graph stands.
type Stage struct {
	State      string
	Attempt    int   // current, from 1; 0 before the first
	DeadlineMS int64 // of the running attempt, or the end of the back-off; Unix milliseconds
	Partition  int32 // of the lane's topic, of the current attempt
}

// Terminal says whether the job has ended.
func (j Job) Terminal() bool {
	return j.State == JobSucceeded || j.State == JobFailed || j.State == JobRejected
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
// before changes nothing; one that breaks the chain is events.ErrBrokenChain.
func (j Job) Apply(m events.Message) (Job, error) {
	if j.Chain.Seen(m) {
		return j, nil
	}
	if err := j.Chain.Check(m); err != nil {
		return j, err
	}
	return Evolve(j, m), nil
}

// Evolve gives the state after a fact that continues the chain. It never changes
// the state it was given.
func Evolve(j Job, m events.Message) Job {
	j.Chain = j.Chain.Next(m)
	fact, ok := m.Data.(events.JobFact)
	if !ok {
		return j
	}
	switch d := fact.(type) {
	case events.JobSubmitted:
		j.ID, j.Tenant, j.CorrelationID = m.AggregateID, m.Tenant, m.CorrelationID
		j.State, j.Request, j.SubmittedAt = JobQueued, d.Request, m.OccurredAt
		j.Values = maps.Clone(d.Request.Inputs)
	case events.JobPlanned:
		j.Graph, j.DeadlineMS, j.Profile = d.Graph, d.DeadlineMS, d.Profile
		j.Stages = make([]Stage, len(d.Graph.Nodes))
		for i := range j.Stages {
			j.Stages[i].State = StagePending
		}
	case events.StageScheduled:
		j = j.setStage(m.Stage, Stage{State: StageQueued, Attempt: m.Attempt, Partition: d.Partition})
	case events.StageStarted:
		j.State = JobRunning
		j = j.setStage(m.Stage, Stage{State: StageRunning, Attempt: m.Attempt, DeadlineMS: d.DeadlineMS, Partition: j.stage(m.Stage).Partition})
	case events.StageSucceeded:
		j = j.setStage(m.Stage, Stage{State: StageSucceeded, Attempt: m.Attempt})
		j = j.keep(m.Stage, d.Outputs)
	case events.StageFailed:
		s := Stage{State: StageFailed, Attempt: m.Attempt}
		if d.RetryAtMS > 0 {
			s.State, s.DeadlineMS = StageWaiting, d.RetryAtMS
		}
		j = j.setStage(m.Stage, s)
	case events.StageSkipped:
		j = j.setStage(m.Stage, Stage{State: StageSkipped})
		j = j.passOn(m.Stage)
	case events.ArtifactRegistered:
		// For readers: the decision goes by the stage's outputs.
	case events.JobSucceeded:
		j.State = JobSucceeded
	case events.JobFailed:
		j.State = JobFailed
	case events.JobRejected:
		j.State = JobRejected
	}
	return j
}

func (j Job) stage(id string) Stage {
	if i, ok := j.Node(id); ok {
		return j.Stages[i]
	}
	return Stage{}
}

func (j Job) setStage(id string, s Stage) Job {
	if i, ok := j.Node(id); ok {
		j.Stages = slices.Clone(j.Stages)
		j.Stages[i] = s
	}
	return j
}

// keep stores a stage's outputs under the keys that the graph gives them.
func (j Job) keep(id string, outputs map[string]events.Value) Job {
	i, ok := j.Node(id)
	if !ok || len(outputs) == 0 {
		return j
	}
	j.Values = cloneValues(j.Values)
	for name, key := range j.Graph.Nodes[i].Out {
		if v, ok := outputs[name]; ok {
			j.Values[key] = v
		}
	}
	return j
}

// passOn gives the keys of a skipped node the values that it would have worked on.
func (j Job) passOn(id string) Job {
	i, ok := j.Node(id)
	if !ok {
		return j
	}
	n := j.Graph.Nodes[i]
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

// Deadline is the next time that matters to the job, and what it ends. The clock
// turns it into a command; the zero time says that nothing is waited for.
type Deadline struct {
	AtMS    int64
	Command events.Payload
	Stage   string
	Attempt int
}

// Deadlines lists the times that the job waits for now.
func (j Job) Deadlines() []Deadline {
	if j.Terminal() || j.Chain.Version == 0 {
		return nil
	}
	ds := []Deadline{{AtMS: j.DeadlineMS, Command: events.ClockDeadline{DeadlineMS: j.DeadlineMS}}}
	for i, s := range j.Stages {
		switch s.State {
		case StageRunning:
			ds = append(ds, Deadline{s.DeadlineMS, events.ClockStageTimeout{DeadlineMS: s.DeadlineMS}, j.Graph.Nodes[i].ID, s.Attempt})
		case StageWaiting:
			ds = append(ds, Deadline{s.DeadlineMS, events.ClockRetryDue{DeadlineMS: s.DeadlineMS}, j.Graph.Nodes[i].ID, s.Attempt})
		}
	}
	return ds
}
