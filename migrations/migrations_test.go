// Tests against a real PostgreSQL: four at once, missing tables, another shape, swapped views.

package migrations

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/internal/devstack/devstacktest"
)

var server *devstacktest.Postgres

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if server, err = devstacktest.StartPostgres(context.Background(), nil, nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = server.Close() }()
	return m.Run()
}

// database is a new, empty database of this test alone.
func database(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return server.Database(t)
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql)
	ok(t, err)
}

func number(t *testing.T, pool *pgxpool.Pool, sql string) (n int) {
	t.Helper()
	ok(t, pool.QueryRow(t.Context(), sql).Scan(&n))
	return n
}

func TestFourAtOnceMakeOneGeneration(t *testing.T) {
	t.Parallel()
	pool := database(t)
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		all.Go(func() { _, errs[i] = Ensure(t.Context(), pool) })
	}
	all.Wait()
	ok(t, errors.Join(errs...))
	g, err := Live(t.Context(), pool)
	ok(t, err)
	if g != (Generation{1, Shape()}) {
		t.Errorf("live is %+v", g)
	}
	for _, table := range Tables() {
		if n := number(t, pool, "SELECT count(*) FROM myspinbot."+table); n != 0 {
			t.Errorf("%s has %d rows", table, n)
		}
	}
}

func TestApplyTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	pool := database(t)
	ok(t, Apply(t.Context(), pool))
	if _, err := Live(t.Context(), pool); !errors.Is(err, ErrNoGeneration) {
		t.Errorf("an empty registry says %v", err)
	}
	exec(t, pool, "INSERT INTO myspinbot.generations VALUES (7, 's', 'live')")
	ok(t, Apply(t.Context(), pool))
	if g, err := Live(t.Context(), pool); err != nil || g.Number != 7 {
		t.Errorf("after a second Apply live is %+v, %v", g, err)
	}
}

func TestEnsureKeepsWhatIsWholeAndMendsWhatIsNot(t *testing.T) {
	t.Parallel()
	const row = "INSERT INTO gen_1.jobs (id, tenant, version, last_event_id, status, cancelling, priority, created_at, progress, partition, first_offset, last_offset) " +
		"VALUES ('j', 't', 1, 'e', 'queued', false, 'interactive', now(), 0, 0, 0, 0); INSERT INTO myspinbot.checkpoints VALUES (1, 'jobs.events', 0, 5)"
	for _, c := range []struct {
		name, damage string
		rows         int
	}{
		{"whole", "SELECT 1", 1},
		{"a table is gone", "DROP TABLE gen_1.stages CASCADE", 0},
		{"a view is gone", "DROP VIEW myspinbot.profiles", 0},
		{"the tables' schema is gone", "DROP SCHEMA gen_1 CASCADE", 0},
		{"the control schema is gone", "DROP SCHEMA myspinbot CASCADE", 0},
		{"everything is gone", "DROP SCHEMA gen_1 CASCADE; DROP SCHEMA myspinbot CASCADE", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool := database(t)
			_, err := Ensure(t.Context(), pool)
			ok(t, err)
			exec(t, pool, row)
			exec(t, pool, c.damage)
			g, err := Ensure(t.Context(), pool)
			ok(t, err)
			if g.Number != 1 {
				t.Errorf("generation %d", g.Number)
			}
			if n := number(t, pool, "SELECT count(*) FROM myspinbot.jobs"); n != c.rows {
				t.Errorf("%d rows, want %d", n, c.rows)
			}
			if n := number(t, pool, "SELECT count(*) FROM myspinbot.live_checkpoints"); n != c.rows {
				t.Errorf("%d checkpoints, want %d: they belong to the rows", n, c.rows)
			}
		})
	}
}

func TestAnotherShapeIsRefusedUntilReset(t *testing.T) {
	t.Parallel()
	pool := database(t)
	_, err := Ensure(t.Context(), pool)
	ok(t, err)
	exec(t, pool, "UPDATE myspinbot.generations SET shape = 'older'; INSERT INTO myspinbot.checkpoints VALUES (1, 'jobs.events', 0, 5)")
	if _, err := Ensure(t.Context(), pool); !errors.Is(err, ErrOtherShape) {
		t.Fatalf("Ensure says %v", err)
	}
	g, err := Reset(t.Context(), pool)
	ok(t, err)
	if g != (Generation{1, Shape()}) || number(t, pool, "SELECT count(*) FROM myspinbot.checkpoints") != 0 {
		t.Errorf("after Reset: %+v, and checkpoints are left", g)
	}
	_, err = Ensure(t.Context(), pool)
	ok(t, err)
}

func TestPointViewsSwapsAllOrNothing(t *testing.T) {
	t.Parallel()
	pool := database(t)
	_, err := Ensure(t.Context(), pool)
	ok(t, err)
	exec(t, pool, "INSERT INTO gen_1.profiles (id, tenant, version, last_event_id, created_at, updated_at) VALUES ('p', 't', 1, 'e', now(), now())")

	failed := errors.New("changed my mind")
	swap := func(end error) error {
		return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			if err := CreateGeneration(t.Context(), tx, 2); err != nil {
				return err
			}
			if err := PointViews(t.Context(), tx, 2); err != nil {
				return err
			}
			return end
		})
	}
	if err := swap(failed); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if n := number(t, pool, "SELECT count(*) FROM myspinbot.profiles"); n != 1 {
		t.Errorf("a swap that was rolled back shows %d rows", n)
	}
	ok(t, swap(nil))
	if n := number(t, pool, "SELECT count(*) FROM myspinbot.profiles"); n != 0 {
		t.Errorf("the views still show the old generation: %d rows", n)
	}
	if g, err := Live(t.Context(), pool); err != nil || g.Number != 2 {
		t.Errorf("live is %+v, %v", g, err)
	}
	if err := PointViews(t.Context(), pool, 9); err == nil {
		t.Error("the views were pointed at tables that do not exist")
	}
}

func TestScratchEndsWithItsTransaction(t *testing.T) {
	t.Parallel()
	pool := database(t)
	ok(t, Apply(t.Context(), pool))
	tx, err := pool.Begin(t.Context())
	ok(t, err)
	ok(t, CreateScratch(t.Context(), tx))
	for _, table := range Tables() {
		var n int
		ok(t, tx.QueryRow(t.Context(), "SELECT count(*) FROM pg_temp."+table).Scan(&n))
	}
	ok(t, tx.Rollback(t.Context()))
	if n := number(t, pool, "SELECT count(*) FROM pg_class WHERE relname = 'job_events'"); n != 0 {
		t.Errorf("%d tables are left", n)
	}
}

func TestTablesAreSorted(t *testing.T) {
	t.Parallel()
	if !slices.IsSorted(Tables()) {
		t.Error("the shape's digest depends on the order of Tables")
	}
}
