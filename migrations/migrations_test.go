// Tests against a real PostgreSQL: four at once, missing tables, another shape, swapped views.

package migrations

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
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

// makeLive makes the next generation, complete, and shows it to readers.
func makeLive(t *testing.T, pool *pgxpool.Pool) (g Generation) {
	t.Helper()
	ok(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		if g, err = Begin(t.Context(), tx, []string{}); err != nil {
			return err
		}
		for _, table := range Tables() {
			if err := Complete(t.Context(), tx, g.Number, table); err != nil {
				return err
			}
		}
		return PointViews(t.Context(), tx, g.Number, Leaving)
	}))
	return g
}

func TestFourAtOnceMakeWhatIsMissing(t *testing.T) {
	t.Parallel()
	name := "missing_at_first"
	pool, err := pgxpool.New(t.Context(), server.DatabaseURL(name))
	ok(t, err)
	t.Cleanup(pool.Close)
	var all sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		all.Go(func() { _, errs[i] = Ready(t.Context(), pool) })
	}
	all.Wait()
	for _, err := range errs {
		if !errors.Is(err, ErrNoGeneration) {
			t.Errorf("a database without tables says %v", err)
		}
	}
	g := makeLive(t, pool)
	live, err := Ready(t.Context(), pool)
	ok(t, err)
	if g.Status = LiveNow; live != g || live.Number != 1 {
		t.Errorf("live is %+v, want %+v", live, g)
	}
	for _, table := range Tables() {
		if n := number(t, pool, "SELECT count(*) FROM myspinbot."+table); n != 0 {
			t.Errorf("%s has %d rows", table, n)
		}
	}
}

func TestADatabaseThatCannotBeMadeIsNamed(t *testing.T) {
	t.Parallel()
	pool := database(t)
	exec(t, pool, "CREATE ROLE powerless LOGIN")
	config := pool.Config().Copy()
	config.ConnConfig.User, config.ConnConfig.Database = "powerless", "no_such_thing"
	weak, err := pgxpool.NewWithConfig(t.Context(), config)
	ok(t, err)
	t.Cleanup(weak.Close)
	if err := Apply(t.Context(), weak); err == nil || !strings.Contains(err.Error(), `the database "no_such_thing" does not exist and cannot be made; create it by hand`) {
		t.Errorf("Apply says %v", err)
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

func TestReadySaysWhatIsNotWhole(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, damage string
		want         error
	}{
		{"whole", "SELECT 1", nil},
		{"a table is gone", "DROP TABLE gen_1.stages CASCADE", ErrDamaged},
		{"a view is gone", "DROP VIEW myspinbot.profiles", ErrDamaged},
		{"the tables' schema is gone", "DROP SCHEMA gen_1 CASCADE", ErrDamaged},
		{"the control schema is gone", "DROP SCHEMA myspinbot CASCADE", ErrNoGeneration},
		{"everything is gone", "DROP SCHEMA gen_1 CASCADE; DROP SCHEMA myspinbot CASCADE", ErrNoGeneration},
		{"another shape", "UPDATE myspinbot.generations SET shape = 'older'", ErrOtherShape},
		{"a newer version", "UPDATE myspinbot.generations SET shape = 'later', version = 1000", ErrNewer},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool := database(t)
			ok(t, Apply(t.Context(), pool))
			makeLive(t, pool)
			exec(t, pool, c.damage)
			if _, err := Ready(t.Context(), pool); !errors.Is(err, c.want) {
				t.Errorf("Ready says %v, want %v", err, c.want)
			}
			g := makeLive(t, pool) // whatever was there, a new generation takes its place
			live, err := Ready(t.Context(), pool)
			ok(t, err)
			if live.Number != g.Number {
				t.Errorf("live is %d, want %d", live.Number, g.Number)
			}
		})
	}
}

func TestAGenerationIsCompletedOnce(t *testing.T) {
	t.Parallel()
	pool := database(t)
	ok(t, Apply(t.Context(), pool))
	var g Generation
	ok(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) (err error) {
		g, err = Begin(t.Context(), tx, []string{})
		return err
	}))
	indexes := func() int { return number(t, pool, "SELECT count(*) FROM pg_indexes WHERE schemaname = 'gen_1'") }
	if n := indexes(); n != 4 { // the keys that filling needs
		t.Errorf("a generation that is being filled has %d indexes", n)
	}
	complete := func(table string) error {
		return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return Complete(t.Context(), tx, g.Number, table) })
	}
	for range 2 {
		for _, table := range Tables() {
			ok(t, complete(table))
		}
	}
	if n := indexes(); n != 15 {
		t.Errorf("a complete generation has %d indexes", n)
	}
	if err := complete("nothing"); err == nil {
		t.Error("a table that does not exist was completed")
	}
}

func TestOnlyOneBuilds(t *testing.T) {
	t.Parallel()
	pool := database(t)
	ok(t, Apply(t.Context(), pool))
	if _, err := Unfinished(t.Context(), pool, []string{}); !errors.Is(err, ErrNoGeneration) {
		t.Errorf("an empty registry has something unfinished: %v", err)
	}
	conn, err := pool.Acquire(t.Context())
	ok(t, err)
	ok(t, Claim(t.Context(), conn))
	if err := Claim(t.Context(), pool); !errors.Is(err, ErrBusy) {
		t.Errorf("a second claim says %v", err)
	}
	var g Generation
	ok(t, pgx.BeginFunc(t.Context(), conn, func(tx pgx.Tx) (err error) {
		g, err = Begin(t.Context(), tx, []string{"jobs"})
		return err
	}))
	if found, err := Unfinished(t.Context(), conn, []string{"jobs"}); err != nil || found != g {
		t.Errorf("unfinished is %+v, %v", found, err)
	}
	if _, err := Unfinished(t.Context(), conn, []string{}); !errors.Is(err, ErrNoGeneration) {
		t.Errorf("one with other tables taken over goes on: %v", err)
	}
	if err := Drop(t.Context(), pool, g.Number); !errors.Is(err, ErrBusy) {
		t.Errorf("dropping what is being built says %v", err)
	}
	ok(t, conn.Hijack().Close(t.Context()))
	for err = ErrBusy; errors.Is(err, ErrBusy); { // until the server has noticed
		err = Drop(t.Context(), pool, g.Number)
	}
	ok(t, err)
	if n := number(t, pool, "SELECT count(*) FROM pg_namespace WHERE nspname = 'gen_1'"); n != 0 {
		t.Error("the schema is left")
	}
}

func TestPointViewsSwapsAllOrNothing(t *testing.T) {
	t.Parallel()
	pool := database(t)
	ok(t, Apply(t.Context(), pool))
	makeLive(t, pool)
	exec(t, pool, "INSERT INTO gen_1.profiles (id, tenant, version, last_event_id, status, created_at, updated_at) VALUES ('p', 't', 1, 'e', 'active', now(), now())")
	exec(t, pool, "CREATE VIEW public.mine AS SELECT id FROM myspinbot.profiles") // what others have built on a view outlasts the swap

	failed := errors.New("changed my mind")
	swap := func(end error) error {
		return pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			g, err := Begin(t.Context(), tx, []string{})
			if err != nil {
				return err
			}
			if err := PointViews(t.Context(), tx, g.Number, Kept); err != nil {
				return err
			}
			return end
		})
	}
	if err := swap(failed); !errors.Is(err, failed) {
		t.Fatal(err)
	}
	if n := number(t, pool, "SELECT count(*) FROM public.mine"); n != 1 {
		t.Errorf("a swap that was rolled back shows %d rows", n)
	}
	ok(t, swap(nil))
	if n := number(t, pool, "SELECT count(*) FROM public.mine"); n != 0 {
		t.Errorf("the views still show the old generation: %d rows", n)
	}
	if g, err := Live(t.Context(), pool); err != nil || g.Number != 2 {
		t.Errorf("live is %+v, %v", g, err)
	}
	if err := PointViews(t.Context(), pool, 9, Kept); err == nil {
		t.Error("the views were pointed at tables that do not exist")
	}
	list, err := List(t.Context(), pool)
	ok(t, err)
	if len(list) != 2 || list[0].Status != Kept || list[0].Bytes == 0 || list[1].Status != LiveNow {
		t.Errorf("the registry has %+v", list)
	}
	if err := Drop(t.Context(), pool, 2); !errors.Is(err, ErrIsLive) {
		t.Errorf("dropping the live generation says %v", err)
	}
	exec(t, pool, "UPDATE myspinbot.generations SET status = 'leaving' WHERE generation = 1")
	ok(t, DropLeaving(t.Context(), pool))
	if list, err = List(t.Context(), pool); err != nil || len(list) != 1 {
		t.Errorf("the registry has %+v, %v", list, err)
	}
	if err := Drop(t.Context(), pool, 1); err == nil || !strings.Contains(err.Error(), "there is no generation 1") {
		t.Errorf("dropping nothing says %v", err)
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

// TestAChangeOfTheTablesIsANewVersion holds Shape against what was written down for
// Version: programs tell older tables from newer ones by it.
func TestAChangeOfTheTablesIsANewVersion(t *testing.T) {
	t.Parallel()
	const want = "722d1d1d54e2cd1360a5c31ddccbf0ea9c9f1832ac1cfa6d543d1cb740a2fd10"
	if Version != 5 || Shape() != want {
		t.Errorf("the tables have changed: raise Version to %d, and write it here with the shape %s", Version+1, Shape())
	}
}
