// Tests of the projector against a real PostgreSQL: exactly once, whatever happens between batches.

package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/devstack"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// tellAll writes n whole jobs and a profile, interleaved, and returns how many facts that is.
func tellAll(t testing.TB, l *memoryLog, n int) (count int) {
	t.Helper()
	stories := []*story{person("p1")}
	for i := range n {
		stories = append(stories, whole(fmt.Sprintf("job-%d", i)))
	}
	return tellInTurn(t, l, stories...)
}

// tellInTurn writes stories, interleaved, and returns how many facts that is.
func tellInTurn(t testing.TB, l *memoryLog, stories ...*story) (count int) {
	t.Helper()
	for i := 0; ; i++ {
		told := false
		for _, s := range stories {
			if i < len(s.messages) {
				l.tell(t, s.messages[i])
				count, told = count+1, true
			}
		}
		if !told {
			return count
		}
	}
}

func TestRowsAreTheFoldOfTheLog(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	n := tellAll(t, l, 5)
	p := projector(pool, l, 10)
	launch(t, p)
	caughtUp(t, l, p)
	if s := p.Status(); s.Counts != (Counts{Applied: int64(n)}) || s.Trouble != "" || s.Generation != 1 {
		t.Errorf("status is %+v", s)
	}
	wantProven(t, pool, l, n)
	ok(t, NewReader(pool).Snapshot(t.Context(), func(q *Queries) error {
		got, err := q.Job(t.Context(), "default", "job-3")
		ok(t, err)
		want := foldAll(facts(whole("job-3"))).jobs["job-3"].row
		want.Partition, want.FirstOffset, want.LastOffset = got.Partition, got.FirstOffset, got.LastOffset
		equal(t, *got, want)
		return nil
	}))
}

// TestTablesEqualTheFoldInMemory compares the rows as the queries read them with
// the fold, for random histories and batches.
func TestTablesEqualTheFoldInMemory(t *testing.T) {
	t.Parallel()
	logs := rapid.Custom(drawLog)
	for seed := range drawnLogs { // each needs a database
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			pool, l, all := database(t), newLog(), logs.Example(seed)
			for _, x := range all {
				b, err := events.Encode(x.message)
				ok(t, err)
				for int64(len(l.values[x.at])) < x.offset {
					l.add(x.at, nil)
				}
				l.add(x.at, b)
			}
			p := projector(pool, l, 1+seed)
			launch(t, p)
			caughtUp(t, l, p)
			wantProven(t, pool, l, len(all))
			compareWithFold(t, pool, foldAll(all))
		})
	}
}

func compareWithFold(t testing.TB, pool *pgxpool.Pool, f *fold) {
	t.Helper()
	ctx := context.Background()
	same := func(got, want any) {
		t.Helper()
		if g, w := asJSON(got), asJSON(want); g != w {
			t.Errorf("the table has\n%s\nthe fold\n%s", g, w)
		}
	}
	told, err := auditTrail(f.events)
	ok(t, err)
	ok(t, NewReader(pool).Snapshot(ctx, func(q *Queries) error {
		for id, j := range f.jobs {
			tenant := j.row.Tenant
			row, err := q.Job(ctx, tenant, id)
			ok(t, err)
			same(row, j.row)
			rows, err := q.Stages(ctx, tenant, id)
			ok(t, err)
			same(rows[id], j.stages)
			trail, err := q.JobEvents(ctx, tenant, id, 0, 1000)
			ok(t, err)
			want := slices.DeleteFunc(slices.Clone(told), func(e *JobEvent) bool { return e.JobID != id })
			for i, e := range trail {
				got, err := e.Message()
				ok(t, err)
				from, err := want[i].Message()
				ok(t, err)
				same(got, from)
			}
		}
		for id, p := range f.profiles {
			row, err := q.Profile(ctx, "default", id)
			ok(t, err)
			same(row, p.row)
		}
		for key, a := range f.artifacts {
			rows, err := q.JobArtifacts(ctx, a.Tenant, key[0])
			ok(t, err)
			i := slices.IndexFunc(rows, func(r *Artifact) bool { return r.ID == key[1] })
			if i < 0 {
				t.Errorf("file %s of %s is missing", key[1], key[0])
				continue
			}
			same(rows[i], a)
		}
		return nil
	}))
}

func TestExactlyOnceWhenKilledBetweenBatches(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	n := tellAll(t, l, 6)
	var applied int64
	for i := range 6 {
		p := projector(pool, l, 3+i)
		g, err := migrations.Ready(t.Context(), pool)
		ok(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		s, batches := &session{p: p, generation: g.Number, status: migrations.LiveNow}, 0
		s.report = func(_ eventlog.Offsets, c Counts) {
			applied += c.Applied
			if batches++; batches > 2 {
				cancel() // from here on nothing is committed
			}
		}
		ok(t, s.open(ctx))
		if err := s.follow(ctx); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
	}
	p := projector(pool, l, 10)
	launch(t, p)
	caughtUp(t, l, p)
	if applied += p.Status().Applied; applied != int64(n) {
		t.Errorf("%d events applied in all lives, the log has %d", applied, n)
	}
	wantProven(t, pool, l, n)
}

func TestTwoProjectorsShareTheWork(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	first, second := projector(pool, l, 3), projector(pool, l, 4)
	launch(t, first)
	launch(t, second)
	n := tellAll(t, l, 12)
	caughtUp(t, l, first)
	caughtUp(t, l, second)
	if got := first.Status().Applied + second.Status().Applied; got != int64(n) {
		t.Errorf("both applied %d events, the log has %d", got, n)
	}
	wantProven(t, pool, l, n)
}

func TestTheFenceHoldsBackAnOldProjector(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	s := whole("job-1")
	l.tell(t, s.messages...)
	old := &session{p: projector(pool, l, 100), generation: 1, status: migrations.LiveNow}
	ok(t, old.open(t.Context()))

	p := projector(pool, l, 100)
	launch(t, p)
	caughtUp(t, l, p)
	before := dump(t, pool)

	tp := place(s.messages[0])
	late := []fact{{at: tp, offset: 0, message: s.messages[0]}}
	if _, err := old.commit(t.Context(), late, eventlog.Offsets{tp: 1}); !errors.Is(err, errFenced) {
		t.Errorf("a projector with an old checkpoint got %v", err)
	}
	if dump(t, pool) != before {
		t.Error("it changed the tables")
	}
	// Tables that were replaced end the session; it does not adopt what it finds.
	exec(t, pool, "UPDATE myspinbot.checkpoints SET next_offset = 0")
	old.stored[tp] = 5
	if err := old.adopt(t.Context()); !errors.Is(err, errReplaced) {
		t.Errorf("a checkpoint that went back was adopted: %v", err)
	}
}

func TestPostgresStoppedInTheMiddle(t *testing.T) {
	t.Parallel()
	own, err := devstack.StartPostgres(t.Context(), devstack.Postgres{Dir: t.TempDir()})
	ok(t, err)
	t.Cleanup(func() { _ = own.Stop(context.Background()) })
	pool, err := pgxpool.New(t.Context(), own.URL())
	ok(t, err)
	t.Cleanup(pool.Close)

	l, all := newLog(), whole("job-1").messages
	p := projector(pool, l, 3)
	launch(t, p) // makes the tables
	l.tell(t, all[:7]...)
	caughtUp(t, l, p)

	ok(t, own.Stop(t.Context()))
	l.tell(t, all[7:]...)
	eventually(t, "the projector says that PostgreSQL is away", func() bool { return p.Status().Trouble != "" })
	if err := NewReader(pool).Ping(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a reader says %v", err)
	}
	if err := NewReader(pool).Snapshot(t.Context(), func(*Queries) error { return nil }); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a snapshot says %v", err)
	}

	ok(t, own.Start(t.Context()))
	ok(t, NewReader(pool).waitLong(t, "default", "job-1", int64(len(all))))
	caughtUp(t, l, p)
	wantProven(t, pool, l, len(all))
}

func (r *Reader) waitLong(t *testing.T, tenant, id string, version int64) (err error) {
	eventually(t, "the awaited version", func() bool {
		err = r.WaitFor(t.Context(), tenant, id, version)
		return !errors.Is(err, ErrUnavailable)
	})
	return err
}

func TestMissingTablesAreMadeAndFilled(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	n := tellAll(t, l, 2)
	p := projector(pool, l, 50)
	launch(t, p)
	caughtUp(t, l, p)
	before := dump(t, pool)

	exec(t, pool, "DROP SCHEMA gen_1 CASCADE")
	exec(t, pool, "DROP SCHEMA myspinbot CASCADE")
	l.tell(t, whole("job-9").messages[0]) // what makes the projector notice
	eventually(t, "the tables are back", func() bool { return NewReader(pool).Ping(t.Context()) == nil && p.Status().Trouble == "" })
	ok(t, NewReader(pool).waitLong(t, "default", "job-9", 1))
	caughtUp(t, l, p)
	wantProven(t, pool, l, n+1)
	for _, line := range strings.Split(before, "\n") {
		if !strings.Contains(dump(t, pool), line) {
			t.Errorf("a row is not as it was: %s", line)
			break
		}
	}
}

func TestALogThatFailsIsReadOn(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	p := projector(pool, l, 50)
	launch(t, p)
	tellAll(t, l, 1)
	caughtUp(t, l, p)
	l.fail(2)
	l.tell(t, whole("job-9").messages...)
	ok(t, NewReader(pool).waitLong(t, "default", "job-9", 19))
	caughtUp(t, l, p)
	wantProven(t, pool, l, 19+5+19)
}

func TestAnUnreadableRecordStopsItsPartitionAlone(t *testing.T) {
	t.Parallel()
	newer, err := events.Encode(whole("x").messages[0])
	ok(t, err)
	for _, c := range []struct {
		name, want string
		value      []byte
	}{
		{"no JSON", "only the job and profile handlers may write there", []byte("hello")},
		{"an unknown type", "update this program", []byte(strings.Replace(string(newer), "job.submitted", "job.teleported", 1))},
		{"a newer version", "this program reads up to 3; update this program", []byte(strings.Replace(string(newer), `"schema_version":3`, `"schema_version":4`, 1))},
		{"a value that PostgreSQL refuses", "PostgreSQL refuses the event", func() []byte {
			m := jobStory("other").submitted().messages[0]
			m.Tenant = ""
			b, err := events.Encode(m)
			ok(t, err)
			return b
		}()},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool, l := database(t), newLog()
			all := whole("job-0").messages
			l.tell(t, all[:6]...)
			at := place(all[0])
			l.add(at, c.value)
			l.tell(t, all[6:]...)
			l.tell(t, person("p1").messages...)
			p := projector(pool, l, 50)
			launch(t, p)
			caughtUp(t, l, p)
			stopped := 0
			for _, ps := range p.Status().Partitions {
				if ps.Stopped == "" {
					continue
				}
				stopped++
				if ps.Topic != at.Topic || ps.Partition != at.Partition || !strings.Contains(ps.Stopped, c.want) || !strings.Contains(ps.Stopped, "offset 12") {
					t.Errorf("%s/%d stopped: %s", ps.Topic, ps.Partition, ps.Stopped)
				}
			}
			if stopped != 1 {
				t.Errorf("%d partitions stopped", stopped)
			}
			ok(t, NewReader(pool).Snapshot(t.Context(), func(q *Queries) error {
				j, err := q.Job(t.Context(), "default", "job-0")
				ok(t, err)
				pr, err := q.Profile(t.Context(), "default", "p1")
				ok(t, err)
				next, err := q.Checkpoint(t.Context(), at.Topic, at.Partition)
				if j.Version != 6 || pr.Version != 5 || next > 12 || next < 11 {
					t.Errorf("job version %d, profile version %d, checkpoint %d", j.Version, pr.Version, next)
				}
				return err
			}))
		})
	}
}

func TestABrokenChainIsCountedAndSkipped(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	all := whole("job-0").messages
	forged := all[8]
	forged.PrevID = "somebody"
	l.tell(t, all[:8]...)
	l.tell(t, forged)
	l.tell(t, all[7])
	l.tell(t, all[8:]...)
	p := projector(pool, l, 4)
	launch(t, p)
	caughtUp(t, l, p)
	equal(t, p.Status().Counts, Counts{Applied: int64(len(all)), Duplicates: 1, Rejected: 1})
	wantProven(t, pool, l, len(all)+2)
}

func TestTablesAheadOfTheLogAreReported(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	exec(t, pool, "INSERT INTO myspinbot.checkpoints VALUES (1, 'jobs.events', 0, 500)")
	p := projector(pool, l, 4)
	launch(t, p)
	eventually(t, "the projector says so", func() bool { return strings.Contains(p.Status().Trouble, "the tables are ahead of the log") })
}
