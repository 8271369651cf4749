// Tests of the rebuild: beside readers, writers and other rebuilds, and of what mends itself.

package projections

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// lay writes drawn facts where they say that they lie.
func lay(t testing.TB, l *memoryLog, all []fact) {
	t.Helper()
	for _, x := range all {
		b, err := events.Encode(x.message)
		ok(t, err)
		for int64(len(l.values[x.at])) < x.offset {
			l.add(x.at, nil)
		}
		l.add(x.at, b)
	}
}

// TestRebuildEqualsTheLiveTablesForRandomHistories draws histories, lets a projector
// fill the tables, and rebuilds them in other batches.
func TestRebuildEqualsTheLiveTablesForRandomHistories(t *testing.T) {
	t.Parallel()
	logs := rapid.Custom(drawLog)
	for seed := range drawnLogs {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			pool, l := database(t), newLog()
			all := logs.Example(seed)
			lay(t, l, all[:len(all)/2])
			live := projector(pool, l, 1+seed)
			stop := launch(t, live)
			lay(t, l, all[len(all)/2:])
			caughtUp(t, l, live)
			stop()
			before := dump(t, pool)
			rebuilt(t, projector(pool, l, 1+seed%3), RebuildOptions{Compare: true})
			if after := dump(t, pool); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			wantProven(t, pool, l, len(all))
		})
	}
}

// TestRebuildOfOneTable damages every table, and rebuilds each alone.
func TestRebuildOfOneTable(t *testing.T) {
	t.Parallel()
	for _, table := range migrations.Tables() {
		t.Run(table, func(t *testing.T) {
			t.Parallel()
			pool, l := database(t), newLog()
			n := tellInTurn(t, l, person("p1"), whole("job-0"), eventful("job-1"), whole("job-2"))
			live := projector(pool, l, 7)
			launch(t, live)
			caughtUp(t, l, live)
			before := dump(t, pool)
			exec(t, pool, "DELETE FROM gen_1."+table)
			l.tell(t, whole("job-3").messages...) // beyond what is taken over
			made := rebuilt(t, projector(pool, l, 1), RebuildOptions{Table: table})
			if made.Generation != 2 || made.Old != 1 {
				t.Errorf("the rebuild says %+v", made)
			}
			caughtUp(t, l, live)
			eventually(t, "the projector goes on with the new tables", func() bool { return live.Status().Generation == 2 })
			caughtUp(t, l, live)
			wantProven(t, pool, l, n+19)
			for _, line := range strings.Split(before, "\n") {
				if !strings.Contains(dump(t, pool), line) {
					t.Fatalf("a row is not as it was: %s", line)
				}
			}
		})
	}
}

func TestRebuildRefusesATableThatThereIsNot(t *testing.T) {
	t.Parallel()
	_, err := rebuildAll(t.Context(), projector(database(t), newLog(), 1), RebuildOptions{Table: "videos"})
	if err == nil || !strings.Contains(err.Error(), `there is no table "videos"; choose from [artifacts job_events jobs profiles stages]`) {
		t.Errorf("the rebuild ended with %v", err)
	}
}

func TestRebuildThatComparesSwitchesOnlyWithoutDifferences(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	tellAll(t, l, 2)
	live := projector(pool, l, 50)
	launch(t, live)
	caughtUp(t, l, live)
	good := dump(t, pool)
	exec(t, pool, "UPDATE gen_1.jobs SET status = 'lost' WHERE id = 'job-1'")
	before := dump(t, pool)
	made, err := rebuildAll(t.Context(), projector(pool, l, 50), RebuildOptions{Compare: true})
	if !errors.Is(err, ErrDifferent) || len(made.Compared.Differences) != 1 || made.Compared.Differences[0].String() != `jobs job-1: status is "lost", the log says "succeeded"` {
		t.Errorf("the rebuild ended with %v, found %v", err, made.Compared.Differences)
	}
	if dump(t, pool) != before {
		t.Error("the live tables were changed")
	}
	made = rebuilt(t, projector(pool, l, 50), RebuildOptions{KeepOld: true})
	if !made.Resumed || made.Generation != 2 || dump(t, pool) != good {
		t.Errorf("what was built is not what is shown: %+v", made)
	}
	list, err := migrations.List(t.Context(), pool)
	ok(t, err)
	if len(list) != 2 || list[0].Status != migrations.Kept || list[1].Status != migrations.LiveNow {
		t.Errorf("the registry has %+v", list)
	}
	l.tell(t, whole("later").messages...)
	ok(t, NewReader(pool).waitLong(t, "default", "later", 19))
	var n int
	ok(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM gen_1.jobs WHERE id = 'later'").Scan(&n))
	if n != 0 {
		t.Error("the kept tables were written to")
	}
}

func TestRebuildAnewDropsWhatIsHalfBuilt(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	n := tellAll(t, l, 3)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := rebuildAll(ctx, projector(pool, l, 1), RebuildOptions{Report: func(p Progress) {
		if p.Done > p.Total/2 {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	exec(t, pool, "DELETE FROM gen_2.job_events") // it would be missing
	made := rebuilt(t, projector(pool, l, 1), RebuildOptions{Fresh: true})
	if made.Resumed || made.Events != int64(n) {
		t.Errorf("the rebuild says %+v", made)
	}
	wantProven(t, pool, l, n)
}

// TestRebuildUnderLoad rebuilds again and again while jobs are told and a projector works.
func TestRebuildUnderLoad(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	live := projector(pool, l, 7)
	launch(t, live)
	told := underLoad(t, l)
	for i := range 4 {
		made := rebuilt(t, projector(pool, l, 1+i), RebuildOptions{Compare: i == 2})
		if made.Generation != 2+i || made.Old != 1+i {
			t.Errorf("the rebuild says %+v", made)
		}
	}
	n := told()
	caughtUp(t, l, live)
	eventually(t, "the projector goes on with the new tables", func() bool { return live.Status().Generation == 5 })
	caughtUp(t, l, live)
	if s := live.Status(); s.Rejected != 0 {
		t.Errorf("%d facts rejected", s.Rejected)
	}
	before := dump(t, pool)
	rebuilt(t, projector(pool, l, 100), RebuildOptions{Compare: true})
	if dump(t, pool) != before {
		t.Error("the rebuilt tables differ")
	}
	wantProven(t, pool, l, n)
}

// underLoad tells jobs until the returned function is called, which says how many facts there are.
func underLoad(t *testing.T, l *memoryLog) (end func() (facts int)) {
	t.Helper()
	stop, ended, n := make(chan struct{}), make(chan struct{}), 0
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			for _, m := range whole(fmt.Sprintf("load-%d", i)).messages {
				select {
				case <-stop:
					return
				case <-time.After(200*time.Microsecond + time.Duration(n)*200*time.Nanosecond): // ever slower: a slow machine must get done, too
					l.tell(t, m)
					n++
				}
			}
		}
	}()
	halt := sync.OnceFunc(func() { close(stop); <-ended })
	t.Cleanup(halt)
	return func() int { halt(); return n }
}

// TestReadersNeverSeeAGapOrAMixture reads without pause while rebuilds switch: rows and
// checkpoints of one snapshot belong together, and nothing ever goes back.
func TestReadersNeverSeeAGapOrAMixture(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	live := projector(pool, l, 3)
	launch(t, live)
	told := underLoad(t, l)
	rebuilding, stop := context.WithCancel(t.Context())
	var switches int
	var work sync.WaitGroup
	work.Go(func() {
		for rebuilding.Err() == nil {
			if _, err := rebuildAll(rebuilding, projector(pool, l, 2), RebuildOptions{}); err == nil {
				switches++
			} else if rebuilding.Err() == nil {
				t.Error(err)
			}
		}
	})
	r, last, reads := NewReader(readers(t, pool)), make(eventlog.Offsets), 0
	for ; reads < 1000 || generation(t, pool) < 6; reads++ {
		seen, err := r.look(t.Context())
		if err != nil {
			t.Fatalf("read %d: %v", reads, err)
		}
		if fault := seen.fault(last); fault != "" {
			t.Fatalf("read %d, after %d switches: %s", reads, switches, fault)
		}
		last = seen.checkpoints
	}
	stop()
	work.Wait()
	t.Logf("%d reads, %d switches", reads, switches)
	n := told()
	caughtUp(t, l, live)
	eventually(t, "the projector goes on with the new tables", func() bool { return live.Status().Generation == generation(t, pool) })
	caughtUp(t, l, live)
	wantProven(t, pool, l, n)
}

// readers is a pool beside the one that rebuilds.
func readers(t *testing.T, pool *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	other, err := pgxpool.NewWithConfig(t.Context(), pool.Config().Copy())
	ok(t, err)
	t.Cleanup(other.Close)
	return other
}

func generation(t testing.TB, pool *pgxpool.Pool) int {
	t.Helper()
	g, err := migrations.Live(context.Background(), pool)
	ok(t, err)
	return g.Number
}

// sight is what one snapshot shows.
type sight struct {
	checkpoints eventlog.Offsets
	ends        map[int32]int64 // behind the last event of each partition in job_events
	jobEnds     map[int32]int64 // the same by jobs
	events      int64           // rows of job_events
	versions    int64           // sum of the versions of jobs
}

// look reads checkpoints first, so that a view that resolves later than the snapshot shows.
func (r *Reader) look(ctx context.Context) (s sight, err error) {
	s.ends, s.jobEnds = make(map[int32]int64), make(map[int32]int64)
	err = r.Snapshot(ctx, func(q *Queries) error {
		var err error
		if s.checkpoints, err = q.Checkpoints(ctx, events.TopicJobEvents); err != nil {
			return err
		}
		if err = q.tx.QueryRow(ctx, "SELECT coalesce(sum(version), 0)::bigint FROM myspinbot.jobs").Scan(&s.versions); err != nil {
			return err
		}
		if err = q.tx.QueryRow(ctx, "SELECT count(*) FROM myspinbot.job_events").Scan(&s.events); err != nil {
			return err
		}
		for into, sql := range map[*map[int32]int64]string{
			&s.ends:    "SELECT partition, max(log_offset) + 1 FROM myspinbot.job_events GROUP BY 1",
			&s.jobEnds: "SELECT partition, max(last_offset) + 1 FROM myspinbot.jobs GROUP BY 1",
		} {
			rows, err := q.tx.Query(ctx, sql)
			if err != nil {
				return err
			}
			for rows.Next() {
				var p int32
				var end int64
				if err := rows.Scan(&p, &end); err != nil {
					return err
				}
				(*into)[p] = end
			}
			if err := rows.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	return s, err
}

// fault tells what does not belong together, or goes back behind an earlier sight.
func (s sight) fault(last eventlog.Offsets) string {
	if s.events != s.versions {
		return fmt.Sprintf("%d events explain versions that sum up to %d", s.events, s.versions)
	}
	for tp, o := range s.checkpoints {
		// A marker follows every event of the tests.
		if end := s.ends[tp.Partition]; end != s.jobEnds[tp.Partition] || end > o || o > end+1 {
			return fmt.Sprintf("%s has the checkpoint %d, events up to %d, jobs up to %d", tp, o, end, s.jobEnds[tp.Partition])
		}
		if o < last[tp] {
			return fmt.Sprintf("%s went back from %d to %d", tp, last[tp], o)
		}
	}
	for tp := range last {
		if _, ok := s.checkpoints[tp]; !ok {
			return fmt.Sprintf("%s has no checkpoint any more", tp)
		}
	}
	return ""
}
