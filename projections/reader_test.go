// Tests of the queries.

package projections

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/events"
)

// shop is a database with jobs of two tenants in all statuses, made by a projector.
func shop(t *testing.T) (*pgxpool.Pool, *memoryLog) {
	t.Helper()
	pool, l := database(t), newLog()
	tell := func(s *story, tenant string, created int) {
		s.now = start.Add(time.Duration(created) * time.Minute)
		for i := range s.messages {
			s.messages[i].Tenant = tenant
			s.messages[i].OccurredAt = s.now
		}
		l.tell(t, s.messages...)
	}
	for i := range 7 {
		tell(whole(fmt.Sprintf("done-%d", i)), "default", i)
	}
	for i := range 3 {
		tell(jobStory(fmt.Sprintf("no-%d", i)).submitted().rejected(), "default", 10+i)
	}
	for i := range 2 {
		tell(jobStory(fmt.Sprintf("same-%d", i)).submitted(), "default", 20)
	}
	tell(eventful("again"), "studio", 30)
	tell(stopped("stopped"), "studio", 31)
	tell(jobStory("asking").submitted().plannedAs(gatedGraph()).approvalRequested(), "studio", 32)
	tell(jobStory("later").submittedWith(func(r *events.Request) { r.NotBeforeMS = start.Add(24 * time.Hour).UnixMilli() }).planned(), "studio", 33)
	tell(whole("foreign"), "acme", 5)
	tell(eventful("foreign-again"), "acme", 6)
	tell(person("p1"), "default", 1)
	tell(person("p2"), "default", 2)
	tell(person("p9"), "acme", 3)
	p := projector(pool, l, 100)
	stop := launch(t, p)
	caughtUp(t, l, p)
	stop()
	return pool, l
}

func snapshot(t *testing.T, pool *pgxpool.Pool, fn func(ctx context.Context, q *Queries)) {
	t.Helper()
	ok(t, NewReader(pool).Snapshot(t.Context(), func(q *Queries) error {
		fn(t.Context(), q)
		return nil
	}))
}

func TestJobsPageByPage(t *testing.T) {
	t.Parallel()
	pool, _ := shop(t)
	for _, c := range []struct {
		name   string
		tenant string
		filter JobFilter
		limit  int
		want   string
	}{
		{"newest first", "default", JobFilter{}, 5, "[same-1 same-0 no-2 no-1 no-0] [done-6 done-5 done-4 done-3 done-2] [done-1 done-0]"},
		{"a page that ends exactly", "default", JobFilter{}, 6, "[same-1 same-0 no-2 no-1 no-0 done-6] [done-5 done-4 done-3 done-2 done-1 done-0]"},
		{"equal times", "default", JobFilter{Statuses: []string{JobQueued}}, 1, "[same-1] [same-0]"},
		{"one status", "default", JobFilter{Statuses: []string{JobSucceeded}}, 4, "[done-6 done-5 done-4 done-3] [done-2 done-1 done-0]"},
		{"two statuses", "default", JobFilter{Statuses: []string{JobQueued, JobRejected}}, 9, "[same-1 same-0 no-2 no-1 no-0]"},
		{"a profile", "default", JobFilter{ProfileID: "p1"}, 9, "[done-6 done-5 done-4 done-3 done-2 done-1 done-0]"},
		{"a variant and a mode", "default", JobFilter{Variant: "sadtalker", Mode: "train_and_generate"}, 20, "[same-1 same-0 no-2 no-1 no-0 done-6 done-5 done-4 done-3 done-2 done-1 done-0]"},
		{"another variant", "default", JobFilter{Variant: "svd_wav2lip"}, 9, "[]"},
		{"another mode", "default", JobFilter{Mode: "generate_from_profile"}, 9, "[]"},
		{"another tenant", "acme", JobFilter{}, 9, "[foreign-again foreign]"},
		{"for later", "studio", JobFilter{Statuses: []string{JobScheduled}}, 9, "[later]"},
		{"waiting for approval", "studio", JobFilter{Statuses: []string{JobWaitingApproval}}, 9, "[asking]"},
		{"cancelled", "studio", JobFilter{Statuses: []string{JobCancelled}}, 9, "[stopped]"},
		{"not ended", "studio", JobFilter{Statuses: []string{JobScheduled, JobQueued, JobRunning, JobWaitingApproval}}, 1, "[later] [asking]"},
		{"a parent", "studio", JobFilter{ParentJobID: "parent"}, 9, "[again]"},
		{"a parent that another tenant has as well", "acme", JobFilter{ParentJobID: "parent"}, 9, "[foreign-again]"},
		{"another parent", "studio", JobFilter{ParentJobID: "done-1"}, 9, "[]"},
		{"nobody", "nobody", JobFilter{}, 9, "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, sep := "", ""
			for after := (*Cursor)(nil); ; {
				var p Page[Job]
				snapshot(t, pool, func(ctx context.Context, q *Queries) {
					var err error
					p, err = q.Jobs(ctx, c.tenant, c.filter, after, c.limit)
					ok(t, err)
				})
				ids := make([]string, len(p.Rows))
				for i, j := range p.Rows {
					ids[i] = j.ID
					if j.Graph != nil || j.Request != nil || j.Outputs != nil {
						t.Errorf("%s carries its documents", j.ID)
					}
				}
				got, sep = got+sep+fmt.Sprint(ids), " "
				if p.Next == nil {
					break
				}
				var err error
				after, err = ParseCursor(p.Next.String()) // as a client brings it back
				ok(t, err)
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestParseCursor(t *testing.T) {
	t.Parallel()
	if c, err := ParseCursor(""); c != nil || err != nil {
		t.Errorf("the first page: %v, %v", c, err)
	}
	for _, s := range []string{"x", "!", "e30", "bnVsbA", Cursor{start, ""}.String(), Cursor{start, "a\x00"}.String()} {
		if _, err := ParseCursor(s); !errors.Is(err, ErrBadCursor) {
			t.Errorf("%q gives %v", s, err)
		}
	}
}

func TestATenantNeverSeesAnothers(t *testing.T) {
	t.Parallel()
	pool, _ := shop(t)
	file := events.ArtifactID("foreign", "lipsync", 1, "v.mp4")
	for _, c := range []struct {
		tenant string
		found  bool
	}{{"acme", true}, {"default", false}} {
		snapshot(t, pool, func(ctx context.Context, q *Queries) {
			check := func(what string, err error, n int) {
				t.Helper()
				if c.found != (err == nil && n > 0) || (err != nil && !errors.Is(err, ErrNotFound)) {
					t.Errorf("%s sees %s: %d rows, %v", c.tenant, what, n, err)
				}
			}
			_, err := q.Job(ctx, c.tenant, "foreign")
			check("the job", err, 1)
			_, err = q.Profile(ctx, c.tenant, "p9")
			check("the profile", err, 1)
			_, err = q.Artifact(ctx, c.tenant, file)
			check("the file", err, 1)
			st, err := q.Stages(ctx, c.tenant, "foreign")
			check("the stages", err, len(st["foreign"]))
			files, err := q.JobArtifacts(ctx, c.tenant, "foreign")
			check("the files", err, len(files))
			trail, err := q.JobEvents(ctx, c.tenant, "foreign", 0, 9)
			check("the events", err, len(trail))
			trail, err = q.RecentJobEvents(ctx, c.tenant, "foreign", 9)
			check("the recent events", err, len(trail))
		})
	}
}

func TestEventsOfAJob(t *testing.T) {
	t.Parallel()
	pool, _ := shop(t)
	versions := func(rows []*JobEvent, err error) string {
		ok(t, err)
		out := make([]int64, len(rows))
		for i, e := range rows {
			out[i] = e.Version
		}
		return fmt.Sprint(out)
	}
	snapshot(t, pool, func(ctx context.Context, q *Queries) {
		equal(t, versions(q.JobEvents(ctx, "default", "done-1", 0, 3)), "[1 2 3]")
		equal(t, versions(q.JobEvents(ctx, "default", "done-1", 16, 9)), "[17 18 19]")
		equal(t, versions(q.JobEvents(ctx, "default", "done-1", 19, 9)), "[]")
		equal(t, versions(q.RecentJobEvents(ctx, "default", "done-1", 4)), "[16 17 18 19]")
		files, err := q.JobArtifacts(ctx, "default", "done-1")
		ok(t, err)
		if len(files) != 2 || files[0].JobID != "done-1" {
			t.Errorf("%d files", len(files))
		}
		st, err := q.Stages(ctx, "default", "done-1", "done-2", "nothing")
		ok(t, err)
		if len(st) != 2 || len(st["done-1"]) != 5 || st["done-2"][3].ID != "lipsync" {
			t.Errorf("stages are %s", asJSON(st))
		}
	})
}

func TestProfilesPageByPage(t *testing.T) {
	t.Parallel()
	pool, _ := shop(t)
	snapshot(t, pool, func(ctx context.Context, q *Queries) {
		active := []string{events.ProfileStatusActive}
		one, err := q.Profiles(ctx, "default", active, nil, 1)
		ok(t, err)
		two, err := q.Profiles(ctx, "default", active, one.Next, 1)
		ok(t, err)
		if none, err := q.Profiles(ctx, "default", []string{events.ProfileStatusArchived, events.ProfileStatusErased}, nil, 1); err != nil || len(none.Rows) != 0 {
			t.Errorf("%d are archived or erased, %v", len(none.Rows), err)
		}
		if one.Rows[0].ID != "p2" || two.Rows[0].ID != "p1" || two.Next != nil {
			t.Errorf("pages are %s and %s", one.Rows[0].ID, two.Rows[0].ID)
		}
	})
}

// TestASnapshotStandsStill reads before and after a commit that happens between.
func TestASnapshotStandsStill(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	p := projector(pool, l, 100)
	launch(t, p)
	all := whole("job-1").messages
	l.tell(t, all[:5]...)
	caughtUp(t, l, p)
	at := place(all[0])
	snapshot(t, pool, func(ctx context.Context, q *Queries) {
		before, err := q.Checkpoint(ctx, at.Topic, at.Partition)
		ok(t, err)
		l.tell(t, all[5:]...)
		ok(t, NewReader(pool).WaitFor(ctx, "default", "job-1", 19))
		j, err := q.Job(ctx, "default", "job-1")
		ok(t, err)
		after, err := q.Checkpoint(ctx, at.Topic, at.Partition)
		ok(t, err)
		if j.Version != 5 || after != before || after <= j.LastOffset {
			t.Errorf("version %d at checkpoint %d, which was %d", j.Version, after, before)
		}
	})
	// Rows and checkpoint belong together: the log from there on is exactly what is missing.
	snapshot(t, pool, func(ctx context.Context, q *Queries) {
		j, err := q.Job(ctx, "default", "job-1")
		ok(t, err)
		next, err := q.Checkpoint(ctx, at.Topic, at.Partition)
		ok(t, err)
		if j.Version != 19 || next <= j.LastOffset {
			t.Errorf("version %d, last offset %d, checkpoint %d", j.Version, j.LastOffset, next)
		}
	})
}

func TestASnapshotRunsOnceMoreWhenTheTablesWereReplaced(t *testing.T) {
	t.Parallel()
	pool, _ := shop(t)
	for code, want := range map[string]int{"40P01": 2, "0A000": 2, "42601": 1} {
		calls := 0
		err := NewReader(pool).Snapshot(t.Context(), func(q *Queries) error {
			if calls++; calls == 1 {
				return &pgconn.PgError{Code: code}
			}
			_, err := q.Job(t.Context(), "default", "done-1")
			return err
		})
		if calls != want || (err == nil) != (want == 2) {
			t.Errorf("after error %s fn ran %d times, and then: %v", code, calls, err)
		}
	}
}

func TestWaitFor(t *testing.T) {
	t.Parallel()
	pool, _ := shop(t)
	r := NewReader(pool)
	ok(t, r.WaitFor(t.Context(), "default", "done-1", 19))
	ok(t, r.WaitForProfile(t.Context(), "default", "p1", 1))
	soon, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	for _, id := range []string{"done-1", "nothing"} {
		if err := r.WaitFor(soon, "default", id, 20); !errors.Is(err, ErrNotYet) {
			t.Errorf("waiting for version 20 of %s says %v", id, err)
		}
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := r.WaitFor(gone, "default", "done-1", 20); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that left gets %v", err)
	}
}

func TestMissingTablesAreUnavailable(t *testing.T) {
	t.Parallel()
	pool := database(t)
	r := NewReader(pool)
	mine := errors.New("mine")
	if err := r.Snapshot(t.Context(), func(*Queries) error { return mine }); !errors.Is(err, mine) || errors.Is(err, ErrUnavailable) {
		t.Errorf("fn's own error became %v", err)
	}
	exec(t, pool, "DROP SCHEMA gen_1 CASCADE")
	err := r.Snapshot(t.Context(), func(q *Queries) error {
		_, err := q.Job(t.Context(), "default", "x")
		return err
	})
	if !errors.Is(err, ErrUnavailable) || !errors.Is(r.Ping(t.Context()), ErrUnavailable) {
		t.Errorf("readers get %v", err)
	}
}
