// Tests of the tables as they were, and of parts of the tables.

package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// orderly is a log of facts whose times never go back within a partition, as the handlers write them.
func orderly(t testing.TB, all []fact) (*memoryLog, []fact) {
	t.Helper()
	l, last := newLog(), map[eventlog.TopicPartition]time.Time{}
	for i := range all {
		x := &all[i]
		if at := last[x.at].Add(1500 * time.Nanosecond); x.message.OccurredAt.Before(at) {
			x.message.OccurredAt = at
		}
		last[x.at] = x.message.OccurredAt
		text, err := events.Encode(x.message)
		ok(t, err)
		l.add(x.at, text)
		x.offset = int64(len(l.values[x.at]) - 1)
		l.add(x.at, nil)
	}
	return l, all
}

func schemaDump(t testing.TB, pool *pgxpool.Pool, schema string) string {
	t.Helper()
	var b bytes.Buffer
	ok(t, pgx.BeginFunc(context.Background(), pool, func(tx pgx.Tx) error { return dumpSchema(context.Background(), tx, schema, &b) }))
	return b.String()
}

// TestTablesAsTheyWere holds each form of a moment against live tables that were made from those facts alone.
func TestTablesAsTheyWere(t *testing.T) {
	t.Parallel()
	logs := rapid.Custom(drawLog)
	for seed := range 5 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			l, all := orderly(t, logs.Example(seed))
			pool := database(t)
			byTime := slices.Clone(all)
			slices.SortStableFunc(byTime, func(a, b fact) int { return a.message.OccurredAt.Compare(b.message.OccurredAt) })
			for i, at := range []fact{byTime[0], byTime[len(all)/3], byTime[len(all)/2], byTime[len(all)-1]} {
				moment := micro(at.message.OccurredAt)
				before := func(x fact) bool { return !micro(x.message.OccurredAt).After(moment) }
				checkTravel(t, pool, l, all, Moment{Time: moment}, before, fmt.Sprintf("by_time_%d", i))
				if at.at.Topic == events.TopicJobEvents {
					checkTravel(t, pool, l, all, Moment{Place: &Place{at.at.Partition, at.offset}}, func(x fact) bool {
						return before(x) && (x.at != at.at || x.offset <= at.offset)
					}, fmt.Sprintf("by_place_%d", i))
				}
				checkTravel(t, pool, l, all, Moment{Number: at.offset}, func(x fact) bool { return x.offset <= at.offset }, fmt.Sprintf("by_offset_%d", i))
			}
			equal(t, schemaDump(t, pool, "gen_1"), schemaDump(t, database(t), "gen_1")) // the live tables are as they were
		})
	}
}

func checkTravel(t *testing.T, pool *pgxpool.Pool, l *memoryLog, all []fact, until Moment, before func(fact) bool, schema string) {
	t.Helper()
	var last Progress
	got, err := travel(t.Context(), projector(pool, l, 7), schema, until, func(p Progress) { last = p })
	ok(t, err)
	then := database(t)
	conn, err := then.Acquire(t.Context())
	ok(t, err)
	defer conn.Release()
	tx, err := conn.Begin(t.Context())
	ok(t, err)
	var prefix []fact
	for _, x := range all {
		if before(x) {
			prefix = append(prefix, x)
		}
	}
	ok(t, foldBatch(t.Context(), tx, "gen_1", prefix))
	ok(t, tx.Commit(t.Context()))
	if want, have := schemaDump(t, then, "gen_1"), schemaDump(t, pool, schema); have != want {
		t.Errorf("until %v:\n%s\nwant\n%s", until, have, want)
	}
	if got.Events != int64(len(prefix)) || got.Rows != int64(strings.Count(schemaDump(t, pool, schema), "\n")-len(shapes())) || last.Done != last.Total {
		t.Errorf("until %v: %+v and %+v of %d facts", until, got, last, len(prefix))
	}
}

func TestTravelThatCannotBe(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	tellAll(t, l, 2)
	p := projector(pool, l, 7)
	for _, name := range []string{"gen_2", "gen_x", "myspinbot", "public", "pg_then", "information_schema", "then", "", "Then", "a-b", "1st", "x; DROP SCHEMA gen_1 CASCADE", strings.Repeat("a", 64)} {
		if _, err := travel(t.Context(), p, name, Moment{Number: 1}, nil); !errors.Is(err, migrations.ErrSchemaName) {
			t.Errorf("schema %q: %v", name, err)
		}
	}
	_, err := travel(t.Context(), p, "then_again", Moment{Number: 1}, nil)
	ok(t, err)
	_, err = travel(t.Context(), p, "then_again", Moment{Number: 1}, nil)
	wantError(t, err, migrations.ErrSchemaName, "DROP SCHEMA then_again CASCADE")
	for _, place := range []Place{{0, 100_000}, {0, 1}, {99, 0}} { // behind the end, a marker, no such partition
		_, err := travel(t.Context(), p, "never", Moment{Place: &place}, nil)
		wantError(t, err, ErrNoEvent, fmt.Sprintf("there is no event at %v", place))
	}
	// What breaks on the way leaves nothing behind.
	l.add(eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: 0}, []byte("hello"))
	_, err = travel(t.Context(), p, "never", Moment{Time: start.Add(time.Hour)}, nil)
	wantError(t, err, err, "jobs.events/0 offset")
	var there bool
	ok(t, pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'never')").Scan(&there))
	equal(t, there, false)
	var about string
	ok(t, pool.QueryRow(t.Context(), "SELECT obj_description('then_again'::regnamespace)").Scan(&about))
	if !strings.Contains(about, "as they were at 1;") {
		t.Errorf("the schema says about itself: %q", about)
	}
}

// TestTheComparedColumnsAreAllThereAre holds the tables of this package against the database's own catalogue.
func TestTheComparedColumnsAreAllThereAre(t *testing.T) {
	t.Parallel()
	pool := database(t)
	have := map[string][]string{}
	for _, s := range shapes() {
		have[s.name] = s.columns
	}
	rows, err := pool.Query(t.Context(), "SELECT table_name, array_agg(column_name::text ORDER BY ordinal_position) FROM information_schema.columns WHERE table_schema = 'gen_1' GROUP BY 1")
	ok(t, err)
	found := 0
	for rows.Next() {
		var table string
		var columns []string
		ok(t, rows.Scan(&table, &columns))
		equal(t, have[table], columns)
		found++
	}
	ok(t, rows.Err())
	equal(t, found, len(shapes()))
}

func TestVerifyOfOneJobAndOfASample(t *testing.T) {
	t.Parallel()
	pool, memory := database(t), newLog()
	l := keyed{memory}
	for i := range 40 {
		memory.tell(t, whole(fmt.Sprintf("job-%d", i)).messages...)
		memory.tell(t, person(fmt.Sprintf("p-%d", i)).messages...)
	}
	p := projector(pool, memory, 500)
	stop := launch(t, p)
	caughtUp(t, memory, p)
	stop()
	check := func(s Scope) Report {
		t.Helper()
		r, err := verifyScope(t.Context(), projector(pool, l, 100), s)
		ok(t, err)
		return r
	}
	if r := check(Scope{Job: "job-7"}); r.Events != 19 || r.Rows != 1+5+2+19 || len(r.Differences) > 0 {
		t.Errorf("one job: %+v", r)
	}
	all := check(Scope{})
	for _, s := range []Scope{{Share: 0.5, seed: "a"}, {Count: 20, seed: "b"}} {
		part := check(s)
		if part.Rows == 0 || part.Rows >= all.Rows || part.Events == 0 || part.Events >= all.Events || len(part.Differences) > 0 {
			t.Errorf("%+v: %d events, %d rows, differences %v", s, part.Events, part.Rows, part.Differences)
		}
	}
	equal(t, check(Scope{Count: 1000}).Rows, all.Rows)

	// One cell of every row is wrong: a part finds what lies in it, and nothing else.
	exec(t, pool, "UPDATE gen_1.stages SET task = task || 'x'; UPDATE gen_1.profiles SET updated_at = 'epoch'")
	exec(t, pool, "INSERT INTO gen_1.stages (job_id, id, tenant, position, task, plane, weight, status, batch) VALUES ('job-7', 'ghost', 't', 0, 't', 'p', 0, 's', false), ('job-8', 'ghost', 't', 0, 't', 'p', 0, 's', false)")
	if r := check(Scope{Job: "job-7"}); len(r.Differences) != 6 || !strings.Contains(fmt.Sprint(r.Differences), "job-7/ghost: no event explains") || strings.Contains(fmt.Sprint(r.Differences), "job-8") {
		t.Errorf("one job: %v", r.Differences)
	}
	seen := map[string]int{} // by aggregate, in how many of the samples
	for i := range 4 {
		for _, d := range check(Scope{Share: 0.25, seed: fmt.Sprint(i)}).Differences {
			id, _, _ := strings.Cut(d.Key, "/")
			seen[id]++
		}
	}
	if len(seen) < 25 || len(seen) >= 80 {
		t.Errorf("four samples of a quarter saw %d of 80 aggregates", len(seen))
	}
	exec(t, pool, "DELETE FROM gen_1.jobs WHERE id = 'job-9'")
	if r := check(Scope{Job: "job-9"}); !strings.Contains(fmt.Sprint(r.Differences), "jobs job-9: the row is missing") {
		t.Errorf("a missing job: %v", r.Differences)
	}
	if r := check(Scope{Job: "nobody"}); r.Rows != 0 {
		t.Errorf("a job that never was: %+v", r)
	}
}

func TestSamplesAreReadAsWritten(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Scope{"5%": {Share: 0.05}, "0.5%": {Share: 0.005}, "100%": {Share: 1}, "200": {Count: 200}} {
		s, err := ParseSample(text)
		ok(t, err)
		equal(t, s, want)
	}
	for _, text := range []string{"", "%", "0%", "101%", "-5%", "0", "-1", "x", "0.05", "NaN%"} {
		if s, err := ParseSample(text); !errors.Is(err, ErrBadSample) {
			t.Errorf("%q is %+v, %v", text, s, err)
		}
	}
}
