// What is asked of all tenants at once: as a plain question answers it, and without looking
// at jobs that have ended.

package projections

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestTheWorkOfAllTenantsIsFound(t *testing.T) {
	t.Parallel()
	pool, _ := shop(t)
	rows := func(sql string, args ...any) []string {
		t.Helper()
		found, err := pool.Query(t.Context(), sql, args...)
		ok(t, err)
		out, err := pgx.CollectRows(found, pgx.RowTo[string])
		ok(t, err)
		return out
	}
	snapshot(t, pool, func(ctx context.Context, q *Queries) {
		jobs, err := q.OpenJobs(ctx, 100)
		ok(t, err)
		var got []string
		for id, tenant := range jobs {
			got = append(got, tenant+" "+id)
		}
		want := rows("SELECT tenant || ' ' || id FROM myspinbot.jobs WHERE status = ANY($1)", open)
		equal(t, fmt.Sprint(slices.Sorted(slices.Values(got))), fmt.Sprint(slices.Sorted(slices.Values(want))))
		if of := slices.Sorted(maps.Values(jobs)); len(slices.Compact(of)) < 2 {
			t.Fatalf("open jobs are of %v alone", of)
		}
		one, err := q.OpenJobs(ctx, 1)
		ok(t, err)
		equal(t, fmt.Sprint(len(one)), rows("SELECT count(DISTINCT tenant)::text FROM myspinbot.jobs WHERE status = ANY($1)", open)[0])

		unfinished, err := q.Unfinished(ctx)
		ok(t, err)
		got = nil
		for _, u := range unfinished {
			got = append(got, fmt.Sprint(u.Tenant, " ", u.ID, " ", u.Version, " ", len(u.Stages), " ", len(u.Graph.Nodes)))
		}
		equal(t, fmt.Sprint(got), fmt.Sprint(rows(`SELECT j.tenant || ' ' || j.id || ' ' || j.version || ' ' || (SELECT count(*) FROM myspinbot.stages s WHERE s.job_id = j.id) || ' ' || jsonb_array_length(j.graph->'nodes')
			FROM myspinbot.jobs j WHERE status = ANY($1) AND graph IS NOT NULL ORDER BY j.id`, open)))

		for _, n := range []int{1, 3, 100} {
			runs, err := q.LastRuns(ctx, n)
			ok(t, err)
			got = nil
			for _, r := range runs {
				got = append(got, r.Task+" "+r.Took.Truncate(time.Microsecond).String())
			}
			want := []string{}
			found, err := pool.Query(ctx, `SELECT s.task, s.started_at, s.finished_at
				FROM (SELECT id FROM myspinbot.jobs WHERE status = 'succeeded' ORDER BY created_at DESC, id DESC LIMIT $1) j JOIN myspinbot.stages s ON s.job_id = j.id
				WHERE s.status = 'succeeded' AND s.started_at IS NOT NULL AND s.finished_at IS NOT NULL ORDER BY s.finished_at, s.job_id, s.id`, n)
			ok(t, err)
			var task string
			var from, to time.Time
			_, err = pgx.ForEachRow(found, []any{&task, &from, &to}, func() error {
				want = append(want, task+" "+to.Sub(from).String())
				return nil
			})
			ok(t, err)
			if equal(t, fmt.Sprint(got), fmt.Sprint(want)); len(got) == 0 {
				t.Errorf("no stage ran in the last %d jobs", n)
			}
		}

		queued, err := q.Queued(ctx)
		ok(t, err)
		got = nil
		for lane, n := range queued {
			got = append(got, fmt.Sprint(lane, n))
		}
		want = rows(`SELECT s.lane || count(*) FROM myspinbot.jobs j JOIN myspinbot.stages s ON s.job_id = j.id
			WHERE j.status = ANY($1) AND s.status = 'queued' AND s.lane IS NOT NULL GROUP BY s.lane`, []string{JobQueued, JobRunning})
		equal(t, fmt.Sprint(slices.Sorted(slices.Values(got))), fmt.Sprint(slices.Sorted(slices.Values(want))))
	})
}

// TestQuestionsAboutAllTenantsUseTheirIndexes has 30,000 jobs of three tenants of which few
// have not ended, and looks at how the questions are answered.
func TestQuestionsAboutAllTenantsUseTheirIndexes(t *testing.T) {
	t.Parallel()
	pool, _ := shop(t)
	_, err := pool.Exec(t.Context(), `INSERT INTO myspinbot.jobs (id, tenant, version, last_event_id, status, cancelling, priority, created_at, progress, partition, first_offset, last_offset)
		SELECT 'many-' || n, 'tenant-' || n % 3, 1, 'e', CASE WHEN n % 1000 = 0 THEN 'running' ELSE 'succeeded' END, false, 'interactive', '2026-01-01'::timestamptz + n * interval '1 s', 1, 0, n, n
		FROM generate_series(1, 30000) n`)
	ok(t, err)
	for _, analysed := range []bool{false, true} {
		if analysed {
			_, err := pool.Exec(t.Context(), "ANALYZE")
			ok(t, err)
		}
		for name, c := range map[string]struct {
			sql  string
			args []any
		}{
			"Unfinished": {unfinished, []any{open}},
			"LastRuns":   {lastRuns, []any{JobSucceeded, 100, StageSucceeded}},
			"Queued":     {queuedStages, []any{[]string{JobQueued, JobRunning}, StageQueued}},
			"OpenJobs":   {openJobs, []any{open, 100}},
		} {
			found, err := pool.Query(t.Context(), "EXPLAIN "+c.sql, c.args...)
			ok(t, err)
			plan, err := pgx.CollectRows(found, pgx.RowTo[string])
			ok(t, err)
			if text := strings.Join(plan, "\n"); strings.Contains(text, "Seq Scan on jobs") || !strings.Contains(text, "jobs_page") {
				t.Errorf("%s (analysed %v) looks at every job:\n%s", name, analysed, text)
			}
		}
	}
}
