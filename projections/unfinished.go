// What has not ended, and how long things took: for those who tell where a job stands.

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
	ID      string
	Version int64
	Status  string
	Graph   *events.Graph
	// Stages are in the order of the graph. They have ID, Status, Batch, ScheduledAt and StartedAt alone.
	Stages []*Stage
}

// unfinished joins by the index of the statuses, so that what has ended costs nothing.
const unfinished = `SELECT j.id, j.version, j.status, CASE s.position WHEN 0 THEN j.graph END,
	s.id, s.status, s.batch, s.scheduled_at, s.started_at
FROM myspinbot.jobs j JOIN myspinbot.stages s ON s.job_id = j.id
WHERE j.graph IS NOT NULL AND j.tenant = $1 AND j.status = ANY($2) ORDER BY j.id, s.position`

// Unfinished are the tenant's jobs that were planned and have not ended.
func (q *Queries) Unfinished(ctx context.Context, tenant string) ([]*Unfinished, error) {
	rows, err := q.tx.Query(ctx, unfinished, tenant, []string{JobScheduled, JobQueued, JobRunning, JobWaitingApproval})
	if err != nil {
		return nil, fmt.Errorf("cannot read the unfinished jobs: %w", err)
	}
	var out []*Unfinished
	var u Unfinished
	var s Stage
	_, err = pgx.ForEachRow(rows, []any{&u.ID, &u.Version, &u.Status, &u.Graph,
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

const lastRuns = `SELECT s.task, coalesce(s.engine, ''), s.started_at, s.finished_at
FROM (SELECT id, created_at FROM myspinbot.jobs WHERE tenant = $1 AND status = $2 ORDER BY created_at DESC, id DESC LIMIT $3) j
JOIN myspinbot.stages s ON s.job_id = j.id
WHERE s.status = $4 AND s.started_at IS NOT NULL AND s.finished_at IS NOT NULL ORDER BY s.finished_at, s.job_id, s.id`

// LastRuns are the stages that ran in the tenant's last jobs that ended well, oldest first.
func (q *Queries) LastRuns(ctx context.Context, tenant string, jobs int) ([]Run, error) {
	rows, err := q.tx.Query(ctx, lastRuns, tenant, JobSucceeded, jobs, StageSucceeded)
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
