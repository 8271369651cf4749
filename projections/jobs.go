// Table jobs: one row a job.

package projections

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Statuses of a job.
const (
	JobScheduled       = "scheduled" // planned, and its not-before has not come
	JobQueued          = "queued"
	JobRunning         = "running"
	JobWaitingApproval = "waiting_approval" // nothing behind the gate goes on before somebody decides
	JobSucceeded       = "succeeded"
	JobFailed          = "failed"
	JobCancelled       = "cancelled"
	JobRejected        = "rejected"
)

// Job is a job as of its last event. Times have microseconds, in UTC; zero means not yet.
type Job struct {
	ID          string
	Tenant      string
	Version     int64  // aggregate_version of the last event
	LastEventID string // its event_id
	Status      string // one of the Job constants
	Cancelling  bool   // it was asked to end and has not ended yet
	Priority    string // one of the events.Priority constants
	Pipeline    string // workflow id
	Variant     string
	Mode        string
	ProfileID   string
	ParentJobID string   // of a retry or re-run
	Labels      []string // sorted
	NotBefore   time.Time
	CreatedAt   time.Time
	StartedAt   time.Time // when the first stage started on a worker
	FinishedAt  time.Time
	Progress    float64 // 0 to 1, never falling: the weights of the stages that ended well, were reused or skipped
	Graph       *events.Graph
	Request     *events.Request
	Approval    *Approval // nil: it never waited for one
	Error       *Failure
	Outputs     map[string]events.Value
	Partition   int32 // of jobs.events
	FirstOffset int64
	LastOffset  int64
}

// Failure says why a job or a stage's last attempt did not succeed. Texts hold no user text.
type Failure struct {
	Stage   string          `json:"stage,omitempty"`
	Class   string          `json:"class,omitempty"`
	Message string          `json:"message,omitempty"`
	Hint    string          `json:"hint,omitempty"`
	LogTail *events.Sealed  `json:"log_tail,omitempty"`
	Reasons []events.Reason `json:"reasons,omitempty"` // of a rejected job
}

var jobs = table[Job]{name: "jobs", key: 1, columns: []column[Job]{
	text("id", func(j *Job) *string { return &j.ID }),
	text("tenant", func(j *Job) *string { return &j.Tenant }),
	number("version", "bigint[]", func(j *Job) *int64 { return &j.Version }),
	text("last_event_id", func(j *Job) *string { return &j.LastEventID }),
	text("status", func(j *Job) *string { return &j.Status }),
	flag("cancelling", func(j *Job) *bool { return &j.Cancelling }),
	text("priority", func(j *Job) *string { return &j.Priority }),
	text("pipeline", func(j *Job) *string { return &j.Pipeline }),
	text("variant", func(j *Job) *string { return &j.Variant }),
	text("mode", func(j *Job) *string { return &j.Mode }),
	text("profile_id", func(j *Job) *string { return &j.ProfileID }),
	text("parent_job_id", func(j *Job) *string { return &j.ParentJobID }),
	document("labels", func(j *Job) *[]string { return &j.Labels }),
	moment("not_before", func(j *Job) *time.Time { return &j.NotBefore }),
	moment("created_at", func(j *Job) *time.Time { return &j.CreatedAt }),
	moment("started_at", func(j *Job) *time.Time { return &j.StartedAt }),
	moment("finished_at", func(j *Job) *time.Time { return &j.FinishedAt }),
	number("progress", "double precision[]", func(j *Job) *float64 { return &j.Progress }),
	setOnce("graph", func(j *Job) **events.Graph { return &j.Graph }),
	setOnce("request", func(j *Job) **events.Request { return &j.Request }),
	document("approval", func(j *Job) **Approval { return &j.Approval }),
	document("error", func(j *Job) **Failure { return &j.Error }),
	setOnce("outputs", func(j *Job) *map[string]events.Value { return &j.Outputs }),
	number("partition", "integer[]", func(j *Job) *int32 { return &j.Partition }),
	number("first_offset", "bigint[]", func(j *Job) *int64 { return &j.FirstOffset }),
	number("last_offset", "bigint[]", func(j *Job) *int64 { return &j.LastOffset }),
}}

// Ended says whether nothing but audit events can follow.
func (j *Job) Ended() bool {
	switch j.Status {
	case JobSucceeded, JobFailed, JobCancelled, JobRejected:
		return true
	}
	return false
}

// Chain is where the job's fold stands.
func (j *Job) Chain() events.Chain { return events.Chain{Version: j.Version, LastID: j.LastEventID} }

// Apply folds one event, which continues the job's chain and lies at the given
// place of jobs.events. Progress is the fold's, since it counts stages.
func (j *Job) Apply(m *events.Message, partition int32, offset int64) {
	at := micro(m.OccurredAt)
	if j.Version == 0 {
		j.ID, j.Tenant, j.Status, j.Priority, j.CreatedAt = m.AggregateID, m.Tenant, JobQueued, events.PriorityInteractive, at
		j.Partition, j.FirstOffset = partition, offset
	}
	j.Version, j.LastEventID, j.LastOffset = m.Version, m.ID, offset
	switch d := m.Data.(type) {
	case events.JobSubmitted:
		j.submit(d.Request)
	case events.JobPlanned:
		j.Graph = &d.Graph
		j.Pipeline, j.Variant, j.Mode = d.Graph.Workflow, d.Graph.Variant, d.Graph.Mode
		if d.Graph.ProfileID != "" {
			j.ProfileID = d.Graph.ProfileID
		}
		if j.NotBefore.After(m.OccurredAt) {
			j.Status = JobScheduled
		}
	case events.StageScheduled:
		if j.Status == JobScheduled {
			j.Status = JobQueued
		}
	case events.StageStarted:
		j.start(at)
	case events.ApprovalRequested:
		j.Approval, j.Status = j.Approval.after(m), JobWaitingApproval
	case events.ApprovalGranted:
		j.Approval, j.Status = j.Approval.after(m), JobRunning
	case events.ApprovalDenied, events.ApprovalExpired: // the job's end follows
		j.Approval = j.Approval.after(m)
	case events.JobCancelRequested:
		j.Cancelling = true
	case events.JobLabelled:
		j.Labels = d.Labels
	case events.JobCancelled:
		j.end(JobCancelled, at)
	case events.JobSucceeded:
		j.end(JobSucceeded, at)
		j.Progress, j.Outputs = 1, d.Outputs
	case events.JobFailed:
		j.end(JobFailed, at)
		j.Error = &Failure{Stage: m.Stage, Class: m.ErrorClass, Message: d.Message, Hint: d.Hint, LogTail: d.LogTail}
	case events.JobRejected:
		j.end(JobRejected, at)
		j.Error = &Failure{Stage: m.Stage, Class: m.ErrorClass, Message: sentences(d.Reasons), Reasons: d.Reasons}
	default: // stages and artifacts have rows of their own; carrying forward changes nothing
	}
}

func (j *Job) submit(r events.Request) {
	j.Request = &r
	j.Pipeline, j.Variant, j.Mode, j.ProfileID, j.ParentJobID = r.Workflow, r.Variant, r.Mode, r.ProfileID, r.ParentJobID
	j.Labels = r.Labels
	if r.Priority != "" {
		j.Priority = r.Priority
	}
	if r.NotBeforeMS != 0 {
		j.NotBefore = time.UnixMilli(r.NotBeforeMS).UTC()
	}
}

// start notes that a stage runs. An open approval outlasts what runs beside the
// gate, so that nobody overlooks it.
func (j *Job) start(at time.Time) {
	if j.StartedAt.IsZero() {
		j.StartedAt = at
	}
	if j.Status != JobWaitingApproval {
		j.Status = JobRunning
	}
}

func (j *Job) end(status string, at time.Time) {
	j.Status, j.FinishedAt, j.Cancelling = status, at, false
}

func sentences(reasons []events.Reason) string {
	all := make([]string, len(reasons))
	for i, r := range reasons {
		all[i] = r.Detail
	}
	return strings.Join(all, "; ")
}

// Job is one job of the tenant, whole, or ErrNotFound.
func (q *Queries) Job(ctx context.Context, tenant, id string) (*Job, error) {
	return first(jobs.collect(q.tx.Query(ctx, jobs.query(views, "WHERE id = $1 AND tenant = $2"), id, tenant)))
}

// JobFilter narrows a list; empty fields do not.
type JobFilter struct {
	Statuses    []string // any of these
	Variant     string
	Mode        string
	ProfileID   string
	ParentJobID string // the retries and re-runs of a job
	Label       string // that it has, maybe among others
	// CreatedFrom and CreatedTo bound the time of its submission, the first inclusive; zero: no bound.
	CreatedFrom, CreatedTo time.Time
}

// Jobs is a page of the tenant's jobs, newest first, without Graph, Request and
// Outputs. After is the Next of the page before, or nil.
func (q *Queries) Jobs(ctx context.Context, tenant string, f JobFilter, after *Cursor, limit int) (Page[Job], error) {
	w := f.where(tenant)
	rest := w.page(after, limit)
	rows, err := jobs.small().collect(q.tx.Query(ctx, jobs.small().query(views, rest), w.args...))
	return page(rows, err, limit, func(j *Job) Cursor { return Cursor{j.CreatedAt, j.ID} })
}

// CountJobs is how many of the tenant's jobs the filter takes; it counts no further than limit.
func (q *Queries) CountJobs(ctx context.Context, tenant string, f JobFilter, limit int) (n int, err error) {
	w := f.where(tenant)
	w.args = append(w.args, limit)
	sql := fmt.Sprintf("SELECT count(*) FROM (SELECT FROM %s.jobs WHERE %s LIMIT $%d) found", views, w.sql, len(w.args))
	if err := q.tx.QueryRow(ctx, sql, w.args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("cannot count jobs: %w", err)
	}
	return n, nil
}

func (f JobFilter) where(tenant string) where {
	w := where{"tenant = $1", []any{tenant}}
	switch len(f.Statuses) {
	case 0:
	case 1: // an equality can use the index of that status in page order
		w.and("status = ", f.Statuses[0])
	default:
		w.and("status = ANY", f.Statuses)
	}
	w.andText("variant = ", f.Variant)
	w.andText("mode = ", f.Mode)
	w.andText("profile_id = ", f.ProfileID)
	w.andText("parent_job_id = ", f.ParentJobID)
	if f.Label != "" {
		w.and("labels @> ", []string{f.Label})
	}
	if !f.CreatedFrom.IsZero() {
		w.and("created_at >= ", f.CreatedFrom)
	}
	if !f.CreatedTo.IsZero() {
		w.and("created_at < ", f.CreatedTo)
	}
	return w
}
