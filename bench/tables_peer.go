package main

// This file writes the rows of the tables without any fold: the limit of PostgreSQL and of its client.

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/migrations"
)

// peerSchema is where the peer's tables are.
const peerSchema = "peer"

// tableRows are the rows of one table in memory.
type tableRows struct {
	name    string
	columns []string
	rows    [][]any
}

// peer has the very same rows as a generation.
type peer struct {
	tables  []tableRows
	rows    int
	from    string // schema of the generation
	indexes []string
}

// loadRows reads all rows of a generation. Documents come as text, which is how they are written.
func loadRows(ctx context.Context, pool *pgxpool.Pool, schema string) (*peer, error) {
	p := &peer{from: schema}
	for _, name := range migrations.Tables() {
		t, err := loadTable(ctx, pool, schema, name, "")
		if err != nil {
			return nil, err
		}
		p.tables, p.rows = append(p.tables, t), p.rows+len(t.rows)
	}
	var err error
	p.indexes, err = indexesOf(ctx, pool, schema, peerSchema)
	return p, err
}

// loadTable reads rows of one table; where may restrict and order them.
func loadTable(ctx context.Context, pool *pgxpool.Pool, schema, name, where string) (tableRows, error) {
	t := tableRows{name: name}
	described, err := pool.Query(ctx, `SELECT column_name::text, column_name || CASE data_type WHEN 'jsonb' THEN '::text' ELSE '' END
		FROM information_schema.columns WHERE table_schema = $1 AND table_name = $2 ORDER BY ordinal_position`, schema, name)
	if err != nil {
		return t, fmt.Errorf("cannot read the columns of %s: %w", name, err)
	}
	var column, read string
	var list []string
	if _, err := pgx.ForEachRow(described, []any{&column, &read}, func() error {
		t.columns, list = append(t.columns, column), append(list, read)
		return nil
	}); err != nil {
		return t, fmt.Errorf("cannot read the columns of %s: %w", name, err)
	}
	rows, err := pool.Query(ctx, "SELECT "+strings.Join(list, ", ")+" FROM "+schema+"."+name+" "+where)
	if err != nil {
		return t, fmt.Errorf("cannot read %s: %w", name, err)
	}
	if t.rows, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() }); err != nil {
		return t, fmt.Errorf("cannot read %s: %w", name, err)
	}
	return t, nil
}

// empty makes empty tables of the generation's columns, without indexes.
func (p *peer) empty(ctx context.Context, pool *pgxpool.Pool) error {
	return execAll(ctx, pool, emptyTables())
}

func emptyTables() []string {
	statements := []string{"DROP SCHEMA IF EXISTS " + peerSchema + " CASCADE", "CREATE SCHEMA " + peerSchema}
	for _, name := range migrations.Tables() {
		statements = append(statements, "CREATE TABLE "+peerSchema+"."+name+" (LIKE myspinbot."+name+")")
	}
	return statements
}

func execAll(ctx context.Context, pool *pgxpool.Pool, statements []string) error {
	for _, s := range statements {
		if _, err := pool.Exec(ctx, s); err != nil {
			return fmt.Errorf("cannot run %q: %w", s, err)
		}
	}
	return nil
}

// copy writes all rows by pgx's own COPY into tables without indexes, then makes the indexes.
func (p *peer) copy(ctx context.Context, pool *pgxpool.Pool) (time.Duration, error) {
	if err := p.empty(ctx, pool); err != nil {
		return 0, err
	}
	began := time.Now()
	for _, t := range p.tables {
		if _, err := pool.CopyFrom(ctx, pgx.Identifier{peerSchema, t.name}, t.columns, pgx.CopyFromRows(t.rows)); err != nil {
			return 0, fmt.Errorf("cannot copy %s: %w", t.name, err)
		}
	}
	err := execAll(ctx, pool, p.indexes)
	return time.Since(began), err
}

// mergeRows writes the rows that the last facts have made in batches of 1,000 facts: by COPY into a
// temporary table, and from there into tables with the same indexes, where a row may exist.
func mergeRows(ctx context.Context, pool *pgxpool.Pool, facts int) (time.Duration, error) {
	live, err := migrations.Live(ctx, pool)
	if err != nil {
		return 0, err
	}
	schema := migrations.Schema(live.Number)
	p := &peer{from: schema}
	if p.indexes, err = indexesOf(ctx, pool, schema, peerSchema); err != nil {
		return 0, err
	}
	jobs := facts / factsPerJob
	for name, where := range map[string]string{
		"job_events": fmt.Sprintf("ORDER BY occurred_at DESC LIMIT %d", facts),
		"jobs":       fmt.Sprintf("ORDER BY created_at DESC LIMIT %d", jobs),
		"stages":     fmt.Sprintf("ORDER BY scheduled_at DESC LIMIT %d", jobs*len(noopLanes)),
	} {
		t, err := loadTable(ctx, pool, schema, name, where)
		if err != nil {
			return 0, err
		}
		p.tables = append(p.tables, t)
	}
	if err := p.empty(ctx, pool); err != nil {
		return 0, err
	}
	if err := execAll(ctx, pool, p.indexes); err != nil {
		return 0, err
	}
	began := time.Now()
	for from := 0; from < facts; from += mergeBatch {
		if err := p.merge(ctx, pool, from, min(from+mergeBatch, facts), facts); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}

// mergeBatch is how many facts' rows are merged in one transaction.
const mergeBatch = 1000

// shareOf are the rows that facts from…until-1 of all have made, as if all made as many.
func shareOf[T any](rows []T, from, until, all int) []T {
	return rows[from*len(rows)/all : until*len(rows)/all]
}

// keys are the primary keys of the tables that are merged.
var keys = map[string]string{"job_events": "partition, log_offset", "jobs": "id", "stages": "job_id, id"}

// mergeFrom is the statement that writes the rows of one table over those of another.
func mergeFrom(temp, target, key string, columns []string) string {
	set := make([]string, len(columns))
	for i, c := range columns {
		set[i] = c + " = excluded." + c
	}
	return "INSERT INTO " + target + " SELECT * FROM " + temp + " ON CONFLICT (" + key + ") DO UPDATE SET " + strings.Join(set, ", ")
}

// merge writes one share of the rows of every table in one transaction.
func (p *peer) merge(ctx context.Context, pool *pgxpool.Pool, from, until, all int) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = off"); err != nil { // as the projector
			return err
		}
		for _, t := range p.tables {
			rows := shareOf(t.rows, from, until, all)
			target, temp := peerSchema+"."+t.name, "new_"+t.name
			if _, err := tx.Exec(ctx, "CREATE TEMPORARY TABLE "+temp+" (LIKE "+target+") ON COMMIT DROP"); err != nil {
				return fmt.Errorf("cannot make a temporary table: %w", err)
			}
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{temp}, t.columns, pgx.CopyFromRows(rows)); err != nil {
				return fmt.Errorf("cannot copy %s: %w", t.name, err)
			}
			if _, err := tx.Exec(ctx, mergeFrom(temp, target, keys[t.name], t.columns)); err != nil {
				return fmt.Errorf("cannot merge %s: %w", t.name, err)
			}
		}
		return nil
	})
}
