// Table stages: one row a node of a job's graph.

package projections

import (
	"cmp"
	"context"
	"math"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Statuses of a stage.
const (
	StagePending         = "pending" // its predecessors run, or it waits before another attempt
	StageQueued          = "queued"  // on its lane
	StageRunning         = "running"
	StageWaitingApproval = "waiting_approval" // a gate that somebody has to open
	StageSucceeded       = "succeeded"
	StageFailed          = "failed"
	StageSkipped         = "skipped"
	StageReused          = "reused"    // a result that existed already stands in for its work
	StageCancelled       = "cancelled" // it was stopped, or had not ended when the job did
)

// Stage is one node of a job's graph as of the job's last event. Times as in Job;
// they and the rest are those of the last attempt.
type Stage struct {
	JobID       string
	ID          string
	Tenant      string
	Position    int32 // in the graph, from 0
	Task        string
	Plane       string
	Lane        string
	Weight      float64 // share of the job's progress
	Status      string  // one of the Stage constants
	Attempt     int32   // from 1; 0 for a stage that needs no worker
	Engine      string
	Model       string
	Fidelity    string
	Worker      string
	ScheduledAt time.Time
	StartedAt   time.Time
	FinishedAt  time.Time
	DurationMS  int64
	Error       *Failure // of the last failed attempt, until one succeeds
	Notes       []string
	Batch       bool               // on its lane's batch topic
	InputHash   string             // names the result
	ReusedFrom  *events.ReusedFrom // where a reused result was made
}

var stages = table[Stage]{name: "stages", key: 2, columns: []column[Stage]{
	text("job_id", func(s *Stage) *string { return &s.JobID }),
	text("id", func(s *Stage) *string { return &s.ID }),
	text("tenant", func(s *Stage) *string { return &s.Tenant }),
	number("position", "integer[]", func(s *Stage) *int32 { return &s.Position }),
	text("task", func(s *Stage) *string { return &s.Task }),
	text("plane", func(s *Stage) *string { return &s.Plane }),
	text("lane", func(s *Stage) *string { return &s.Lane }),
	number("weight", "double precision[]", func(s *Stage) *float64 { return &s.Weight }),
	text("status", func(s *Stage) *string { return &s.Status }),
	count("attempt", "integer[]", func(s *Stage) *int32 { return &s.Attempt }),
	text("engine", func(s *Stage) *string { return &s.Engine }),
	text("model", func(s *Stage) *string { return &s.Model }),
	text("fidelity", func(s *Stage) *string { return &s.Fidelity }),
	text("worker", func(s *Stage) *string { return &s.Worker }),
	moment("scheduled_at", func(s *Stage) *time.Time { return &s.ScheduledAt }),
	moment("started_at", func(s *Stage) *time.Time { return &s.StartedAt }),
	moment("finished_at", func(s *Stage) *time.Time { return &s.FinishedAt }),
	count("duration_ms", "bigint[]", func(s *Stage) *int64 { return &s.DurationMS }),
	document("error", func(s *Stage) **Failure { return &s.Error }),
	document("notes", func(s *Stage) *[]string { return &s.Notes }),
	flag("batch", func(s *Stage) *bool { return &s.Batch }),
	text("input_hash", func(s *Stage) *string { return &s.InputHash }),
	document("reused_from", func(s *Stage) **events.ReusedFrom { return &s.ReusedFrom }),
}}

// newStages are the rows of a graph that was just planned.
func newStages(m *events.Message, g events.Graph) []*Stage {
	rows, out := make([]Stage, len(g.Nodes)), make([]*Stage, len(g.Nodes))
	for i, n := range g.Nodes {
		out[i] = &rows[i]
		rows[i] = Stage{
			JobID: m.AggregateID, ID: n.ID, Tenant: m.Tenant, Position: int32(i), //nolint:gosec // a graph has few nodes
			Task: n.Task, Plane: n.Plane, Lane: n.Lane, Weight: n.Weight, Status: StagePending,
		}
	}
	return out
}

// Apply folds one event of the stage, which the job's chain has accepted.
func (s *Stage) Apply(m *events.Message) {
	at := micro(m.OccurredAt)
	switch d := m.Data.(type) {
	case events.StageScheduled:
		s.Status, s.Attempt, s.ScheduledAt = StageQueued, int32(m.Attempt), at //nolint:gosec // attempts are few
		s.StartedAt, s.FinishedAt, s.DurationMS = time.Time{}, time.Time{}, 0
		s.Worker, s.Engine, s.Model, s.Fidelity, s.Notes = "", "", "", "", nil
		s.Batch, s.InputHash = d.Batch, d.InputHash
	case events.StageStarted:
		s.Status, s.StartedAt, s.Worker = StageRunning, at, m.Worker
	case events.StageSucceeded:
		s.end(StageSucceeded, at, m)
		s.keep(m, d.Result)
	case events.StageReused:
		s.end(StageReused, at, m)
		s.keep(m, d.Result)
		s.InputHash, s.ReusedFrom = d.From.InputHash, &d.From
	case events.StageFailed:
		s.fail(at, m, d.RetryAtMS, Failure{Message: d.Message, Hint: d.Hint, LogTail: d.LogTail})
	case events.StageAttemptExpired:
		s.fail(at, m, d.RetryAtMS, Failure{Class: events.ClassStalled, Message: d.Message})
	case events.StageCancelled:
		s.end(StageCancelled, at, m)
	case events.ApprovalRequested:
		s.Status = StageWaitingApproval
	case events.ApprovalGranted:
		s.end(StageSucceeded, at, m)
	case events.ApprovalDenied:
		s.fail(at, m, 0, Failure{Message: "the script was not approved"})
	case events.ApprovalExpired:
		s.fail(at, m, 0, Failure{Message: "nobody approved the script in time"})
	case events.StageSkipped:
		s.end(StageSkipped, at, m)
		s.Notes = []string{d.Reason}
	default: // facts of the whole job
	}
}

// keep notes what made the stage's result.
func (s *Stage) keep(m *events.Message, r events.Result) {
	s.Engine, s.Model, s.Fidelity, s.Notes, s.Error = r.Engine, m.Model, r.Fidelity, r.Notes, nil
}

// fail ends an attempt, and the stage unless a retry follows. The columns' class
// goes before the given one.
func (s *Stage) fail(at time.Time, m *events.Message, retryAtMS int64, why Failure) {
	s.end(StageFailed, at, m)
	if retryAtMS != 0 {
		s.Status = StagePending
	}
	why.Class = cmp.Or(m.ErrorClass, why.Class)
	s.Error = &why
}

func (s *Stage) end(status string, at time.Time, m *events.Message) {
	s.Status, s.FinishedAt, s.DurationMS = status, at, m.DurationMS
	if m.Worker != "" {
		s.Worker = m.Worker
	}
}

// Ended says whether the stage will not change any more.
func (s *Stage) Ended() bool {
	switch s.Status {
	case StageSucceeded, StageFailed, StageSkipped, StageReused, StageCancelled:
		return true
	}
	return false
}

// cancel ends a stage whose job has ended without it, and says whether that changed it.
func (s *Stage) cancel(at time.Time) bool {
	if s.Ended() {
		return false
	}
	s.Status = StageCancelled
	if !s.StartedAt.IsZero() && s.FinishedAt.IsZero() {
		s.FinishedAt = at
	}
	return true
}

// progress is the sum of the weights of the stages that ended well, were reused or
// left out, rounded to 1e-6 so that it does not show how floats add up.
func progress(ofJob []*Stage) float64 {
	sum := 0.0
	for _, s := range ofJob {
		switch s.Status {
		case StageSucceeded, StageReused, StageSkipped:
			sum += s.Weight
		}
	}
	return min(1, math.Round(sum*1e6)/1e6)
}

// Stages are the stages of the given jobs of the tenant, by job, in the order of their graph.
func (q *Queries) Stages(ctx context.Context, tenant string, jobIDs ...string) (map[string][]*Stage, error) {
	rows, err := stages.collect(q.tx.Query(ctx, stages.query(views, "WHERE job_id = ANY($1) AND tenant = $2 ORDER BY job_id, position"), jobIDs, tenant))
	if err != nil {
		return nil, err
	}
	out := make(map[string][]*Stage, len(jobIDs))
	for _, s := range rows {
		out[s.JobID] = append(out[s.JobID], s)
	}
	return out, nil
}
