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

// Version counts what the tables have been: raise it when generation/*.sql changes, or
// what a fold writes. A program replaces tables of a lower version by itself and
// leaves those of a higher one alone.
const Version = 5

// Errors that tell what the live tables are not.
var (
	// ErrNoGeneration says that the database has no live generation of tables.
	ErrNoGeneration = errors.New("the database has no tables yet: start a projector, or run `myspinbot replay rebuild`")
	// ErrDamaged says that a table or a view of the live generation is missing.
	ErrDamaged = errors.New("a table or a view is missing: start a projector, or run `myspinbot replay rebuild`")
	// ErrOtherShape says that the live tables were made by a program with other table definitions.
	ErrOtherShape = errors.New("the tables were made by another version of this program: start a projector of this one, or run `myspinbot replay rebuild`, to build them anew from the log")
	// ErrNewer says that the live tables were made by a later version of this program.
	ErrNewer = errors.New("the tables were made by a newer version of this program: update this one; `myspinbot replay rebuild` would make older tables")
)

// Advisory locks of the database; the numbers only have to differ from each other and
// from goose's.
const (
	creation int64 = 0x6d797370696e626f // serialises what makes or removes schemas, for a transaction
	building int64 = 0x6d797370696e6270 // is held by the one who builds a generation
)

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

// filled is the line of generation/*.sql behind which stands what a table gets faster
// once its rows are there.
const filled = "-- Once the table is filled:"

// definition is how one table is made: empty, and complete once it is filled.
type definition struct{ table, create, complete string }

// definitions are generation/*.sql in the order of Tables, and the digest of them and Version.
var definitions = sync.OnceValues(func() ([]definition, string) {
	h := sha256.New()
	fmt.Fprintln(h, Version)
	var all []definition
	for _, t := range Tables() {
		sql, err := files.ReadFile(path.Join("generation", t+".sql"))
		if err != nil {
			panic(err) // the file is embedded at build time; a test makes every table
		}
		h.Write(sql)
		create, complete, _ := strings.Cut(string(sql), filled)
		all = append(all, definition{t, create, complete})
	}
	return all, hex.EncodeToString(h.Sum(nil))
})

// Shape is the digest of this program's table definitions and of Version.
func Shape() string {
	_, shape := definitions()
	return shape
}

// wholeSQL makes all tables, complete.
func wholeSQL() string {
	all, _ := definitions()
	var b strings.Builder
	for _, d := range all {
		b.WriteString(d.create + d.complete)
	}
	return b.String()
}

// Apply makes the database if it is missing, and brings the schema myspinbot up to date. Any number of processes may call
// it at once: one works and the others wait, up to two minutes.
func Apply(ctx context.Context, pool *pgxpool.Pool) error {
	if err := ensureDatabase(ctx, pool); err != nil {
		return err
	}
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

// CreateScratch makes empty tables of this program's shape in pg_temp, where the
// caller's transaction alone sees them. They end with it when it is rolled back.
func CreateScratch(ctx context.Context, tx pgx.Tx) error {
	return within(ctx, tx, "pg_temp", wholeSQL())
}

// within runs SQL that makes tables in the given schema.
func within(ctx context.Context, tx DB, schema, sql string) error {
	for _, s := range []string{"SET LOCAL search_path = " + schema, sql, "SET LOCAL search_path = DEFAULT"} {
		if _, err := tx.Exec(ctx, s); err != nil {
			return fmt.Errorf("cannot make tables in the schema %s: %w", schema, err)
		}
	}
	return nil
}
