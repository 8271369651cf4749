package migrations

// This file holds the registry of generations: which are there, how one is begun,
// completed, made the live one, and dropped.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Statuses of a generation.
const (
	Building = "building" // being filled, or left half filled
	LiveNow  = "live"     // what readers see; at most one
	Kept     = "kept"     // it was live, and its tables stay as they were then
	Leaving  = "leaving"  // it was live, and is about to be dropped
)

// Generation is one set of tables.
type Generation struct {
	Number  int
	Shape   string // SHA-256, in hex, of the SQL that made it and of Version
	Version int
	Status  string // one of the constants
}

// Entry is a generation as the registry lists it.
type Entry struct {
	Generation
	CreatedAt time.Time
	Copied    []string // tables that were taken over from the live generation
	Indexed   []string // tables whose indexes are made
	Offsets   int64    // sum of its checkpoints: how much of the log is in its tables
	Bytes     int64    // on disk, with indexes
}

const columns = "generation, shape, version, status"

func scan(row pgx.Row) (g Generation, err error) {
	err = row.Scan(&g.Number, &g.Shape, &g.Version, &g.Status)
	return g, err
}

// Live is the generation that readers see, or ErrNoGeneration.
func Live(ctx context.Context, db DB) (Generation, error) {
	g, err := scan(db.QueryRow(ctx, "SELECT "+columns+" FROM myspinbot.generations WHERE status = 'live'"))
	if errors.Is(err, pgx.ErrNoRows) {
		return Generation{}, ErrNoGeneration
	}
	if err != nil {
		return Generation{}, fmt.Errorf("cannot read the registry of generations: %w", err)
	}
	return g, nil
}

// List is every generation, by number.
func List(ctx context.Context, db DB) ([]Entry, error) {
	rows, err := db.Query(ctx, `SELECT `+columns+`, created_at, copied, indexed,
		coalesce((SELECT sum(next_offset) FROM myspinbot.checkpoints c WHERE c.generation = g.generation), 0)::bigint,
		coalesce((SELECT sum(pg_total_relation_size(r.oid)) FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
			WHERE n.nspname = 'gen_' || g.generation AND r.relkind = 'r'), 0)::bigint
		FROM myspinbot.generations g ORDER BY generation`)
	if err != nil {
		return nil, fmt.Errorf("cannot list the generations: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Entry, err error) {
		err = row.Scan(&e.Number, &e.Shape, &e.Version, &e.Status, &e.CreatedAt, &e.Copied, &e.Indexed, &e.Offsets, &e.Bytes)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the generations: %w", err)
	}
	return list, nil
}

// Ready is Apply, and then the live generation if this program can keep it up to
// date. Otherwise the error is ErrNoGeneration, ErrDamaged, ErrOtherShape or ErrNewer;
// with all but the first comes the generation as well.
func Ready(ctx context.Context, pool *pgxpool.Pool) (Generation, error) {
	if err := Apply(ctx, pool); err != nil {
		return Generation{}, err
	}
	g, err := Live(ctx, pool)
	if err != nil {
		return g, err
	}
	if g.Version > Version {
		return g, ErrNewer
	}
	if g.Shape != Shape() {
		return g, ErrOtherShape
	}
	whole, err := complete(ctx, pool, g.Number, true)
	if err == nil && !whole {
		err = ErrDamaged
	}
	return g, err
}

// complete says whether all tables of a generation exist, and the readers' views as well if asked.
func complete(ctx context.Context, db DB, n int, withViews bool) (bool, error) {
	var tables, views int
	err := db.QueryRow(ctx, `SELECT count(*) FILTER (WHERE n.nspname = $1 AND c.relkind = 'r'),
		count(*) FILTER (WHERE n.nspname = 'myspinbot' AND c.relkind = 'v')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = ANY($2)`,
		Schema(n), Tables()).Scan(&tables, &views)
	if err != nil {
		return false, fmt.Errorf("cannot look at the tables of generation %d: %w", n, err)
	}
	return tables == len(Tables()) && (views == len(Tables()) || !withViews), nil
}

// ErrBusy says that another process builds a generation.
var ErrBusy = errors.New("another process is building the tables; only one can at a time")

// Claim makes the caller's connection the one that builds, until it ends. It
// returns ErrBusy if another one is.
func Claim(ctx context.Context, conn DB) error {
	var got bool
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", building).Scan(&got); err != nil {
		return fmt.Errorf("cannot claim the building of tables: %w", err)
	}
	if !got {
		return ErrBusy
	}
	return nil
}

// Unfinished is the newest generation of this program's shape that is being built
// with these tables taken over, or ErrNoGeneration. It is the caller's who holds Claim.
func Unfinished(ctx context.Context, db DB, copied []string) (Generation, error) {
	g, err := scan(db.QueryRow(ctx, "SELECT "+columns+` FROM myspinbot.generations
		WHERE status = 'building' AND shape = $1 AND copied = $2 ORDER BY generation DESC LIMIT 1`, Shape(), copied))
	if errors.Is(err, pgx.ErrNoRows) {
		return Generation{}, ErrNoGeneration
	}
	if err != nil {
		return Generation{}, fmt.Errorf("cannot read the registry of generations: %w", err)
	}
	whole, err := complete(ctx, db, g.Number, false)
	if err == nil && !whole {
		err = ErrNoGeneration
	}
	return g, err
}

// Begin makes the next generation with empty tables, without what they get once they
// are filled, and registers it as being built, without checkpoints. Call it in a transaction.
func Begin(ctx context.Context, tx DB, copied []string) (Generation, error) {
	g := Generation{Shape: Shape(), Version: Version, Status: Building}
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", creation); err != nil {
		return g, fmt.Errorf("cannot begin a generation: %w", err)
	}
	err := tx.QueryRow(ctx, `INSERT INTO myspinbot.generations (generation, shape, version, status, copied)
		SELECT coalesce(max(generation), 0) + 1, $1, $2, 'building', $3 FROM myspinbot.generations RETURNING generation`,
		g.Shape, g.Version, copied).Scan(&g.Number)
	if err != nil {
		return g, fmt.Errorf("cannot register a generation: %w", err)
	}
	all, _ := definitions()
	schema := Schema(g.Number)
	for _, s := range []string{"DROP SCHEMA IF EXISTS " + schema + " CASCADE", "CREATE SCHEMA " + schema} { // a registry that was lost may have left one
		if _, err := tx.Exec(ctx, s); err != nil {
			return g, fmt.Errorf("cannot create the schema of generation %d: %w", g.Number, err)
		}
	}
	for _, d := range all {
		if err := within(ctx, tx, schema, d.create); err != nil {
			return g, err
		}
	}
	return g, nil
}

// searched are the columns by which rows are found, of which plans need statistics at
// once. PostgreSQL takes those of the others by itself, when it finds how many rows are new.
var searched = map[string]string{
	"artifacts": "job_id, id, tenant", "job_events": "partition, log_offset, job_id, version, tenant",
	"jobs":     "id, tenant, status, variant, mode, profile_id, parent_job_id, labels, created_at",
	"profiles": "id, tenant, created_at", "stages": "job_id, id, tenant",
}

// Complete makes the indexes of a table of generation n, unless they are made, and
// the statistics for plans. Call it in a transaction.
func Complete(ctx context.Context, tx DB, n int, table string) error {
	all, _ := definitions()
	i := slices.IndexFunc(all, func(d definition) bool { return d.table == table })
	if i < 0 {
		return fmt.Errorf("there is no table %q; choose from %v", table, Tables())
	}
	var done bool
	if err := tx.QueryRow(ctx, "SELECT $2 = ANY(indexed) FROM myspinbot.generations WHERE generation = $1", n, table).Scan(&done); err != nil {
		return fmt.Errorf("cannot read the state of generation %d: %w", n, err)
	}
	if done {
		return nil
	}
	if err := within(ctx, tx, Schema(n), all[i].complete); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "ANALYZE "+Schema(n)+"."+table+" ("+searched[table]+")"); err != nil {
		return fmt.Errorf("cannot analyse %s: %w", table, err)
	}
	if _, err := tx.Exec(ctx, "UPDATE myspinbot.generations SET indexed = array_append(indexed, $2) WHERE generation = $1", n, table); err != nil {
		return fmt.Errorf("cannot note the indexes of %s: %w", table, err)
	}
	return nil
}

// Lock takes the creation of schemas for the rest of a transaction and returns the
// live generation, whose checkpoints no projector moves meanwhile; ErrNoGeneration if there is none.
func Lock(ctx context.Context, tx DB) (Generation, error) {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", creation); err != nil {
		return Generation{}, fmt.Errorf("cannot lock the generations: %w", err)
	}
	g, err := Live(ctx, tx)
	if err != nil {
		return g, err
	}
	// In the order in which projectors lock them, so that nobody waits in a circle.
	if _, err := tx.Exec(ctx, "SELECT 1 FROM myspinbot.checkpoints WHERE generation = $1 ORDER BY topic, partition FOR UPDATE", g.Number); err != nil {
		return g, fmt.Errorf("cannot lock the checkpoints of generation %d: %w", g.Number, err)
	}
	return g, nil
}

// PointViews makes generation n the live one: every view of schema myspinbot shows
// its tables. The one that was live is retired as Kept or Leaving. Call it in a
// transaction, so that readers see the old views or the new.
func PointViews(ctx context.Context, tx DB, n int, retireAs string) error {
	var same bool // of the same columns a view can be replaced, which keeps its grants and what others have built on it
	err := tx.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM myspinbot.generations old JOIN myspinbot.generations new USING (shape) WHERE old.status = 'live' AND new.generation = $1) = 1
		AND (SELECT count(*) FROM pg_class WHERE relnamespace = 'myspinbot'::regnamespace AND relkind = 'v' AND relname = ANY($2)) = $3`,
		n, Tables(), len(Tables())).Scan(&same)
	if err != nil {
		return fmt.Errorf("cannot look at the views: %w", err)
	}
	for _, t := range Tables() {
		if !same {
			if _, err := tx.Exec(ctx, "DROP VIEW IF EXISTS myspinbot."+t); err != nil {
				return fmt.Errorf("cannot replace the view %s: %w", t, err)
			}
		}
		if _, err := tx.Exec(ctx, "CREATE OR REPLACE VIEW myspinbot."+t+" AS SELECT * FROM "+Schema(n)+"."+t); err != nil {
			return fmt.Errorf("cannot point the view %s at generation %d: %w", t, n, err)
		}
	}
	if _, err := tx.Exec(ctx, "UPDATE myspinbot.generations SET status = $2 WHERE status = 'live' AND generation <> $1", n, retireAs); err != nil {
		return fmt.Errorf("cannot retire the old generation: %w", err)
	}
	tag, err := tx.Exec(ctx, "UPDATE myspinbot.generations SET status = 'live' WHERE generation = $1", n)
	if err != nil {
		return fmt.Errorf("cannot make generation %d live: %w", n, err)
	}
	if tag.RowsAffected() != 1 {
		return fmt.Errorf("cannot make generation %d live: it does not exist", n)
	}
	return nil
}

// ErrIsLive says that a generation cannot be dropped because readers see it.
var ErrIsLive = errors.New("this is the live generation, which readers see: it cannot be dropped")

// Starter is what begins transactions: a pool or a connection.
type Starter interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Drop removes a generation that is not live, with its schema and checkpoints. It
// waits for who still reads its tables, and returns ErrIsLive, or ErrBusy for one
// that another connection is building.
func Drop(ctx context.Context, db Starter, n int) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		g, err := scan(tx.QueryRow(ctx, "SELECT "+columns+" FROM myspinbot.generations WHERE generation = $1 FOR UPDATE", n))
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("there is no generation %d; `myspinbot replay generations` lists them", n)
		case err != nil:
			return fmt.Errorf("cannot read generation %d: %w", n, err)
		case g.Status == LiveNow:
			return ErrIsLive
		case g.Status == Building:
			var free bool
			if err := tx.QueryRow(ctx, "SELECT pg_try_advisory_xact_lock($1)", building).Scan(&free); err != nil || !free {
				return errors.Join(err, ErrBusy)
			}
		}
		for _, s := range []string{"DROP SCHEMA IF EXISTS " + Schema(n) + " CASCADE", fmt.Sprintf("DELETE FROM myspinbot.generations WHERE generation = %d", n)} {
			if _, err := tx.Exec(ctx, s); err != nil {
				return fmt.Errorf("cannot drop generation %d: %w", n, err)
			}
		}
		return nil
	})
}

// DropLeaving drops the generations that were live and need not be kept. It waits for
// who still reads them.
func DropLeaving(ctx context.Context, db interface {
	DB
	Starter
}) error {
	rows, err := db.Query(ctx, "SELECT generation FROM myspinbot.generations WHERE status = 'leaving' ORDER BY generation")
	if err != nil {
		return fmt.Errorf("cannot read the registry of generations: %w", err)
	}
	leaving, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return fmt.Errorf("cannot read the registry of generations: %w", err)
	}
	for _, n := range leaving {
		if err := Drop(ctx, db, n); err != nil {
			return err
		}
	}
	return nil
}
