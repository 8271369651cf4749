// Tests of the rebuild and of the proof.

package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// rebuilt rebuilds the tables; bulk batches are larger than the projector's.
func rebuilt(t testing.TB, p *Projector, o RebuildOptions) Rebuilt {
	t.Helper()
	made, err := rebuildAll(context.Background(), p, o)
	ok(t, err)
	return made
}

func TestRebuildIsEqualByteForByte(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	live := projector(pool, l, 5)
	stop := launch(t, live)
	n := tellAll(t, l, 6)
	l.tell(t, jobStory("open").submitted().planned().scheduled("script", 1).messages...)
	l.tell(t, jobStory("refused").submitted().rejected().messages...)
	m := tellInTurn(t, l, eventful("eventful"), stopped("stopped"), jobStory("asked").submitted().plannedAs(gatedGraph()).approvalRequested())
	caughtUp(t, l, live)
	stop()
	before := dump(t, pool)
	if strings.Count(before, "\n") < n {
		t.Fatalf("the dump is too short:\n%s", before)
	}
	exec(t, pool, "DELETE FROM gen_1.stages; UPDATE gen_1.jobs SET status = 'lost'")

	var told []Progress
	made := rebuilt(t, projector(pool, l, 1), RebuildOptions{Report: func(p Progress) { told = append(told, p) }})
	if made.Generation != 2 || made.Old != 1 || made.Resumed || made.Events != int64(n+5+m) {
		t.Errorf("the rebuild says %+v", made)
	}
	if after := dump(t, pool); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	last := told[len(told)-1]
	if last.Done != last.Total || last.Total != int64(2*(n+5+m)) || told[0].Done != 0 || told[0].Phase != PhaseCopy || last.Phase != PhaseSwitch {
		t.Errorf("progress went from %+v to %+v", told[0], last)
	}
}

func TestRebuildBesideARunningProjector(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	live := projector(pool, l, 5)
	launch(t, live)
	n := tellAll(t, l, 6)
	caughtUp(t, l, live)
	before := dump(t, pool)
	rebuilt(t, projector(pool, l, 1), RebuildOptions{})
	if dump(t, pool) != before {
		t.Error("the rebuilt tables differ")
	}
	l.tell(t, whole("later").messages...)
	ok(t, NewReader(pool).waitLong(t, "default", "later", 19))
	wantProven(t, pool, l, n+19)
}

func TestAnInterruptedRebuildGoesOn(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	n := tellAll(t, l, 30)
	p := projector(pool, l, 50)
	launch(t, p)
	caughtUp(t, l, p)
	before := dump(t, pool)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := rebuildAll(ctx, projector(pool, l, 1), RebuildOptions{Report: func(p Progress) {
		if p.Events > int64(n)/3 { // committed
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("the rebuild ended with %v", err)
	}
	if dump(t, pool) != before {
		t.Error("an interrupted rebuild changed the live tables")
	}
	begun := int64(0)
	made := rebuilt(t, projector(pool, l, 1), RebuildOptions{Report: func(p Progress) {
		if begun == 0 {
			begun = p.Done
		}
	}})
	if !made.Resumed || made.Generation != 2 || begun == 0 || made.Events >= int64(n) {
		t.Errorf("it did not go on where it was: %+v, from %d", made, begun)
	}
	if dump(t, pool) != before {
		t.Error("the rebuilt tables differ")
	}
	caughtUp(t, l, p)
	wantProven(t, pool, l, n)
}

func TestRebuildTellsOfAnUnreadableRecord(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	n := tellAll(t, l, 1)
	l.add(eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: 0}, []byte("hello"))
	_, err := rebuildAll(t.Context(), projector(pool, l, 5), RebuildOptions{})
	if err == nil || !strings.Contains(err.Error(), "jobs.events/0 offset") {
		t.Errorf("the rebuild ended with %v", err)
	}
	wantProven(t, pool, l, n) // up to the checkpoints all is well
}

// TestVerifyFindsEveryChangedCell changes every column of one row of each table.
func TestVerifyFindsEveryChangedCell(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	n := tellInTurn(t, l, person("p1"), whole("job-0"), eventful("job-1"))
	p := projector(pool, l, 50)
	stop := launch(t, p)
	caughtUp(t, l, p)
	stop()
	wantProven(t, pool, l, n)
	for _, s := range shapes() {
		var restore []func()
		for _, column := range s.columns[s.key:] {
			restore = append(restore, flip(t, pool, s, column))
		}
		var found []string
		for _, d := range proven(t, pool, l).Differences {
			found = append(found, d.Column)
			if d.Table != s.name || !strings.HasPrefix(d.String(), s.name+" ") || !strings.Contains(d.String(), d.Column+" is "+d.Live+", the log says "+d.Log) {
				t.Errorf("a cell of %s was changed, found: %v", s.name, d)
			}
		}
		equal(t, found, slices.Sorted(slices.Values(s.columns[s.key:])))
		for _, r := range slices.Backward(restore) {
			r()
		}
		for _, column := range s.columns[:s.key] {
			undo := flip(t, pool, s, column)
			if d := proven(t, pool, l).Differences; len(d) != 2 { // one row too many, one too few
				t.Errorf("%s.%s was changed, found: %v", s.name, column, d)
			}
			undo()
		}
	}
	wantProven(t, pool, l, n)
}

// flip changes one cell of a column, in the first row, as little as its type allows, and tells how to undo it.
func flip(t *testing.T, pool *pgxpool.Pool, s shape, column string) (restore func()) {
	t.Helper()
	var kind, row string
	var old *string
	ok(t, pool.QueryRow(t.Context(), "SELECT udt_name FROM information_schema.columns WHERE table_schema = 'gen_1' AND table_name = $1 AND column_name = $2",
		s.name, column).Scan(&kind))
	changed, known := map[string]string{
		"bool": "NOT %s", "text": "coalesce(%s, '') || 'x'", "int4": "coalesce(%s, 0) + 1000", "int8": "coalesce(%s, 0) + 1001", "float8": "%s + 1e-12",
		"timestamptz": "coalesce(%s, 'epoch') + interval '1 microsecond'", "jsonb": "coalesce(%s, '[]') || '[1.0]'",
	}[kind]
	if !known {
		t.Fatalf("%s.%s has type %s, which the test cannot change", s.name, column, kind)
	}
	table, newest := "gen_1."+s.name, "SELECT ctid FROM gen_1."+s.name+" ORDER BY xmin::text::bigint DESC LIMIT 1"
	ok(t, pool.QueryRow(t.Context(), fmt.Sprintf("SELECT ctid::text, %s::text FROM %s WHERE ctid = (SELECT ctid FROM %s ORDER BY %s LIMIT 1)",
		column, table, table, strings.Join(s.columns[:s.key], ", "))).Scan(&row, &old))
	exec(t, pool, fmt.Sprintf("UPDATE %s SET %s = %s WHERE ctid = $1::text::tid", table, column, fmt.Sprintf(changed, column)), row)
	return func() { // the changed row is the one written last
		exec(t, pool, fmt.Sprintf("UPDATE %s SET %s = $1::text::%s WHERE ctid = (%s)", table, column, kind, newest), old)
	}
}

func TestVerifyFindsMissingAndUnexplainedRows(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	tellAll(t, l, 2)
	p := projector(pool, l, 50)
	stop := launch(t, p)
	caughtUp(t, l, p)
	stop()
	exec(t, pool, "DELETE FROM gen_1.jobs WHERE id = 'job-0'")
	exec(t, pool, "INSERT INTO gen_1.profiles (id, tenant, version, last_event_id, status, created_at, updated_at) VALUES ('ghost', 't', 1, 'e', 'active', now(), now())")
	r := proven(t, pool, l)
	got := fmt.Sprint(r.Differences)
	if len(r.Differences) != 2 || !strings.Contains(got, "jobs job-0: the row is missing") || !strings.Contains(got, "profiles ghost: no event explains this row") {
		t.Errorf("found %v", got)
	}
	exec(t, pool, "TRUNCATE gen_1.job_events")
	exec(t, pool, "INSERT INTO gen_1.stages (job_id, id, tenant, position, task, plane, weight, status, batch) "+
		"SELECT 'j' || i, 's', 't', 0, 't', 'p', 0, 's', false FROM generate_series(1, 150) i")
	if r = proven(t, pool, l); !r.Truncated || len(r.Differences) > 400 {
		t.Errorf("%d differences, truncated: %v", len(r.Differences), r.Truncated)
	}
}

func TestVerifyBesideARunningProjector(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	p := projector(pool, l, 3)
	launch(t, p)
	for i := range 10 {
		l.tell(t, whole(fmt.Sprintf("job-%d", i)).messages...)
		if r := proven(t, pool, l); len(r.Differences) > 0 {
			t.Fatalf("a moving table differs: %v", r.Differences)
		}
	}
	caughtUp(t, l, p)
	wantProven(t, pool, l, 190)
}

func TestVerifyWithoutTables(t *testing.T) {
	t.Parallel()
	pool := database(t)
	exec(t, pool, "DELETE FROM myspinbot.generations")
	if _, err := verify(t.Context(), projector(pool, newLog(), 5)); !errors.Is(err, migrations.ErrNoGeneration) {
		t.Errorf("Verify says %v", err)
	}
}
