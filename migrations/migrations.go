// Package migrations holds the SQL of the database and applies it. The schema
// myspinbot (control/*.sql, by goose) has the registry of generations, the
// checkpoints and the views that readers use. Each generation of the tables is a
// schema gen_<n> of its own, made whole from generation/*.sql.
//
// What belongs here: SQL that makes or removes tables and views. What does not:
// rows, queries, and any ALTER of a generation: a new shape is a new generation
// filled from the log.
package migrations

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed control/*.sql generation/*.sql
var files embed.FS

// ErrNoGeneration says that the database has no live generation of tables yet.
var ErrNoGeneration = errors.New("the database has no tables yet: start a projector, or run `myspinbot replay rebuild`")

// ErrOtherShape says that the live tables were made by a program with other table definitions.
var ErrOtherShape = errors.New("the tables were made by another version of this program: run `myspinbot replay rebuild` to build them anew from the log")

// creation serialises everything here that makes or removes schemas (an advisory
// lock of the database; the number only has to differ from goose's).
const creation int64 = 0x6d797370696e626f

// DB is what the functions of this package need: a pool, a connection or a transaction.
type DB interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Tables lists the tables of a generation, which are also the views of schema myspinbot.
func Tables() []string { return []string{"artifacts", "job_events", "jobs", "profiles", "stages"} }

// Schema is the schema of generation n.
func Schema(n int) string { return fmt.Sprintf("gen_%d", n) }

// Generation is one set of tables.
type Generation struct {
	Number int
	Shape  string // SHA-256, in hex, of the SQL that made it
}

// generationSQL is generation/*.sql in the order of their names, and its digest.
var generationSQL = sync.OnceValues(func() (string, string) {
	var b strings.Builder
	for _, t := range Tables() {
		sql, err := files.ReadFile(path.Join("generation", t+".sql"))
		if err != nil {
			panic(err) // the file is embedded at build time; a test makes every table
		}
		b.Write(sql)
	}
	h := sha256.Sum256([]byte(b.String()))
	return b.String(), hex.EncodeToString(h[:])
})

// Shape is the digest of this program's table definitions.
func Shape() string {
	_, shape := generationSQL()
	return shape
}

// Apply brings the schema myspinbot up to date. Any number of processes may call
// it at once: one works and the others wait, up to two minutes.
func Apply(ctx context.Context, pool *pgxpool.Pool) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", creation); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS myspinbot")
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot create the schema myspinbot: %w", err)
	}
	control, err := fs.Sub(files, "control")
	if err != nil {
		return fmt.Errorf("cannot read the embedded migrations: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 120))
	if err != nil {
		return fmt.Errorf("cannot prepare the migration lock: %w", err)
	}
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }() // closes the wrapper; the pool stays open
	p, err := goose.NewProvider(goose.DialectPostgres, db, control,
		goose.WithSessionLocker(locker), goose.WithTableName("myspinbot.migrations"), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("cannot read the migrations: %w", err)
	}
	if pending, err := p.HasPending(ctx); err == nil && !pending {
		return nil
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("cannot migrate the schema myspinbot: %w", err)
	}
	return nil
}

// Live is the generation that readers see, or ErrNoGeneration.
func Live(ctx context.Context, db DB) (Generation, error) {
	var g Generation
	err := db.QueryRow(ctx, "SELECT generation, shape FROM myspinbot.generations WHERE status = 'live'").Scan(&g.Number, &g.Shape)
	if errors.Is(err, pgx.ErrNoRows) {
		return Generation{}, ErrNoGeneration
	}
	if err != nil {
		return Generation{}, fmt.Errorf("cannot read the registry of generations: %w", err)
	}
	return g, nil
}

// CreateGeneration makes schema gen_<n> with empty tables and registers it as
// building, without checkpoints. What was left under that name is removed. Call it in a transaction.
func CreateGeneration(ctx context.Context, tx DB, n int) error {
	sql, shape := generationSQL()
	schema := Schema(n)
	for _, s := range []string{
		"DROP SCHEMA IF EXISTS " + schema + " CASCADE",
		"CREATE SCHEMA " + schema,
		"SET LOCAL search_path = " + schema,
		sql,
		"SET LOCAL search_path = DEFAULT",
	} {
		if _, err := tx.Exec(ctx, s); err != nil {
			return fmt.Errorf("cannot create the tables of generation %d: %w", n, err)
		}
	}
	if _, err := tx.Exec(ctx, "DELETE FROM myspinbot.checkpoints WHERE generation = $1", n); err != nil {
		return fmt.Errorf("cannot clear the checkpoints of generation %d: %w", n, err)
	}
	_, err := tx.Exec(ctx, `INSERT INTO myspinbot.generations (generation, shape, status) VALUES ($1, $2, 'building')
		ON CONFLICT (generation) DO UPDATE SET shape = excluded.shape, status = 'building', created_at = now()`, n, shape)
	if err != nil {
		return fmt.Errorf("cannot register generation %d: %w", n, err)
	}
	return nil
}

// CreateScratch makes empty tables of this program's shape in pg_temp, where the
// caller's transaction alone sees them. They end with it when it is rolled back.
func CreateScratch(ctx context.Context, tx pgx.Tx) error {
	sql, _ := generationSQL()
	for _, s := range []string{"SET LOCAL search_path = pg_temp", sql, "SET LOCAL search_path = DEFAULT"} {
		if _, err := tx.Exec(ctx, s); err != nil {
			return fmt.Errorf("cannot create temporary tables: %w", err)
		}
	}
	return nil
}

// PointViews makes generation n the live one: every view of schema myspinbot shows
// its tables. Call it in a transaction, so that readers see the old views or the new.
func PointViews(ctx context.Context, tx DB, n int) error {
	for _, t := range Tables() {
		for _, s := range []string{
			"DROP VIEW IF EXISTS myspinbot." + t,
			"CREATE VIEW myspinbot." + t + " AS SELECT * FROM " + Schema(n) + "." + t,
		} {
			if _, err := tx.Exec(ctx, s); err != nil {
				return fmt.Errorf("cannot point the view %s at generation %d: %w", t, n, err)
			}
		}
	}
	if _, err := tx.Exec(ctx, "DELETE FROM myspinbot.generations WHERE status = 'live' AND generation <> $1", n); err != nil {
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

// Ensure is Apply, and then makes an empty live generation if there is none or if
// one of its tables is gone. It returns ErrOtherShape, with the generation, when the
// live tables were made by other SQL than this program's.
func Ensure(ctx context.Context, pool *pgxpool.Pool) (Generation, error) {
	if err := Apply(ctx, pool); err != nil {
		return Generation{}, err
	}
	var g Generation
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		live, whole, err := inspect(ctx, tx)
		if err != nil || whole {
			g = live
			return err
		}
		g = Generation{Number: max(live.Number, 1), Shape: Shape()}
		return replace(ctx, tx, g.Number)
	})
	if err != nil {
		return Generation{}, fmt.Errorf("cannot prepare the tables: %w", err)
	}
	if g.Shape != Shape() {
		return g, ErrOtherShape
	}
	return g, nil
}

// Reset throws the live tables and their checkpoints away and makes them anew,
// empty, in this program's shape, in one transaction.
func Reset(ctx context.Context, pool *pgxpool.Pool) (Generation, error) {
	if err := Apply(ctx, pool); err != nil {
		return Generation{}, err
	}
	var g Generation
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		live, _, err := inspect(ctx, tx)
		if err != nil {
			return err
		}
		g = Generation{Number: max(live.Number, 1), Shape: Shape()}
		// A projector locks its checkpoints before it touches a table; in the same
		// order the two cannot deadlock.
		if _, err := tx.Exec(ctx, "SELECT 1 FROM myspinbot.checkpoints WHERE generation = $1 ORDER BY topic, partition FOR UPDATE", g.Number); err != nil {
			return err
		}
		return replace(ctx, tx, g.Number)
	})
	if err != nil {
		return Generation{}, fmt.Errorf("cannot reset the tables: %w", err)
	}
	return g, nil
}

// inspect takes the creation lock for the rest of the transaction and tells the
// live generation (zero if there is none) and whether all its tables and views exist.
func inspect(ctx context.Context, tx pgx.Tx) (g Generation, whole bool, err error) {
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", creation); err != nil {
		return g, false, err
	}
	g, err = Live(ctx, tx)
	if errors.Is(err, ErrNoGeneration) {
		return Generation{}, false, nil
	}
	if err != nil {
		return g, false, err
	}
	var tables, views int
	err = tx.QueryRow(ctx, `SELECT count(*) FILTER (WHERE n.nspname = $1 AND c.relkind = 'r'),
		count(*) FILTER (WHERE n.nspname = 'myspinbot' AND c.relkind = 'v')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relname = ANY($2)`,
		Schema(g.Number), Tables()).Scan(&tables, &views)
	return g, tables == len(Tables()) && views == len(Tables()), err
}

func replace(ctx context.Context, tx pgx.Tx, n int) error {
	if err := CreateGeneration(ctx, tx, n); err != nil {
		return err
	}
	return PointViews(ctx, tx, n)
}
