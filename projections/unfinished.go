// What has not ended, and how long things took: for those who tell where a job stands, and
// how much there is to do. This is of all tenants, for they share the workers.

package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/myspinbot/myspinbot/events"
)

// Unfinished is a job that has not ended, with what its place in the queue depends on.
type Unfinished struct {
	Tenant  string
	ID      string
	Version int64
	Status  string
	Graph   *events.Graph
	// Stages are in the order of the graph. They have ID, Status, Batch, ScheduledAt and StartedAt alone.
	Stages []*Stage
}

// tenants finds every tenant, from one to the next, by the index that begins with it: with
// few tenants and many jobs this costs nothing. The last row is null.
const tenants = `WITH RECURSIVE tenants AS (
	(SELECT tenant FROM myspinbot.jobs ORDER BY tenant LIMIT 1)
	UNION ALL
	SELECT (SELECT j.tenant FROM myspinbot.jobs j WHERE j.tenant > t.tenant ORDER BY j.tenant LIMIT 1) FROM tenants t WHERE t.tenant IS NOT NULL
) `

// unfinished looks into the index of each tenant's statuses, so that what has ended costs
// nothing: OFFSET 0 keeps the planner from looking at all jobs at once.
const unfinished = tenants + `SELECT j.tenant, j.id, j.version, j.status, CASE s.position WHEN 0 THEN j.graph END,
	s.id, s.status, s.batch, s.scheduled_at, s.started_at
FROM tenants t CROSS JOIN LATERAL (SELECT tenant, id, version, status, graph FROM myspinbot.jobs
	WHERE tenant = t.tenant AND status = ANY($1) AND graph IS NOT NULL OFFSET 0) j
JOIN myspinbot.stages s ON s.job_id = j.id ORDER BY j.id, s.position`

// open are the statuses of jobs that have not ended.
var open = []string{JobScheduled, JobQueued, JobRunning, JobWaitingApproval}

// Unfinished are all tenants' jobs that were planned and have not ended.
func (q *Queries) Unfinished(ctx context.Context) ([]*Unfinished, error) {
	rows, err := q.tx.Query(ctx, unfinished, open)
	if err != nil {
		return nil, fmt.Errorf("cannot read the unfinished jobs: %w", err)
	}
	var out []*Unfinished
	var u Unfinished
	var s Stage
	_, err = pgx.ForEachRow(rows, []any{&u.Tenant, &u.ID, &u.Version, &u.Status, &u.Graph,
		&s.ID, &s.Status, &s.Batch, utc{&s.ScheduledAt}, utc{&s.StartedAt}}, func() error {
		if n := len(out); n == 0 || out[n-1].ID != u.ID {
			job := u
			out, u.Graph = append(out, &job), nil
		}
		stage := s
		out[len(out)-1].Stages = append(out[len(out)-1].Stages, &stage)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the unfinished jobs: %w", err)
	}
	return out, nil
}

// Run is one stage that ended well.
type Run struct {
	Task, Engine string
	Took         time.Duration // from its start on a worker to its end
}

const lastRuns = tenants + `SELECT s.task, coalesce(s.engine, ''), s.started_at, s.finished_at
FROM (SELECT j.id FROM tenants t CROSS JOIN LATERAL (SELECT id, created_at FROM myspinbot.jobs
		WHERE tenant = t.tenant AND status = $1 ORDER BY created_at DESC, id DESC LIMIT $2) j
	ORDER BY j.created_at DESC, j.id DESC LIMIT $2) last
JOIN myspinbot.stages s ON s.job_id = last.id
WHERE s.status = $3 AND s.started_at IS NOT NULL AND s.finished_at IS NOT NULL ORDER BY s.finished_at, s.job_id, s.id`

// LastRuns are the stages that ran in the last jobs of all tenants that ended well, oldest first.
func (q *Queries) LastRuns(ctx context.Context, jobs int) ([]Run, error) {
	rows, err := q.tx.Query(ctx, lastRuns, JobSucceeded, jobs, StageSucceeded)
	if err != nil {
		return nil, fmt.Errorf("cannot read how long stages took: %w", err)
	}
	var out []Run
	var r Run
	var begin, end time.Time
	_, err = pgx.ForEachRow(rows, []any{&r.Task, &r.Engine, &begin, &end}, func() error {
		r.Took = end.Sub(begin)
		out = append(out, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read how long stages took: %w", err)
	}
	return out, nil
}

const queuedStages = tenants + `SELECT s.lane, count(*)
FROM tenants t CROSS JOIN LATERAL (SELECT id FROM myspinbot.jobs WHERE tenant = t.tenant AND status = ANY($1) OFFSET 0) j
JOIN myspinbot.stages s ON s.job_id = j.id WHERE s.status = $2 AND s.lane IS NOT NULL GROUP BY s.lane`

// Queued counts the stages of all tenants that wait on a lane, by lane.
func (q *Queries) Queued(ctx context.Context) (map[string]int, error) {
	rows, err := q.tx.Query(ctx, queuedStages, []string{JobQueued, JobRunning}, StageQueued)
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	var lane string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&lane, &n}, func() error {
		out[lane] = n
		return nil
	})
	return out, err
}

const openJobs = tenants + `SELECT j.tenant, j.id
FROM tenants t CROSS JOIN LATERAL (SELECT tenant, id FROM myspinbot.jobs WHERE tenant = t.tenant AND status = ANY($1) LIMIT $2) j`

// OpenJobs are the jobs of all tenants that have not ended, up to a limit of each tenant,
// in no order: the tenants by their jobs' ids.
func (q *Queries) OpenJobs(ctx context.Context, limit int) (map[string]string, error) {
	rows, err := q.tx.Query(ctx, openJobs, open, limit)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	var tenant, id string
	_, err = pgx.ForEachRow(rows, []any{&tenant, &id}, func() error {
		out[id] = tenant
		return nil
	})
	return out, err
}
