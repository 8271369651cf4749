// The proof that every row can be explained by events, and a dump to compare tables as text.

package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// Difference is one cell, or one whole row, that is not what the log says.
type Difference struct {
	Table  string
	Key    string // the primary key's values, separated by "/"
	Column string // empty: the whole row
	Live   string // what the table holds, as JSON; empty: the row is missing
	Log    string // what the log says; empty: no event explains the row
}

func (d Difference) String() string {
	switch {
	case d.Column != "":
		return fmt.Sprintf("%s %s: %s is %s, the log says %s", d.Table, d.Key, d.Column, d.Live, d.Log)
	case d.Log == "":
		return fmt.Sprintf("%s %s: no event explains this row", d.Table, d.Key)
	}
	return fmt.Sprintf("%s %s: the row is missing", d.Table, d.Key)
}

// Report is the outcome of Verify.
type Report struct {
	Events      int64 // facts folded
	Rows        int64 // rows that the log says there are
	Differences []Difference
	Truncated   bool // a table had more than maxDifferences rows that differ; the rest is not listed
}

const (
	scratch        = "pg_temp"
	maxDifferences = 100 // rows listed of one table
)

// Verify folds the log from its start up to the checkpoints of the live tables, into
// temporary tables that only its own transaction sees, and compares every row. A
// projector may go on meanwhile. Errors: ErrUnavailable, migrations.ErrNoGeneration,
// migrations.ErrOtherShape, an unreadable record, an error of the log.
func Verify(ctx context.Context, cfg Config) (Report, error) { return VerifyScope(ctx, cfg, Scope{}) }

// VerifyScope is Verify of a part of the tables. It reads as much of the log as holds
// the part's facts, and folds and compares those alone.
func VerifyScope(ctx context.Context, cfg Config, part Scope) (Report, error) {
	return verifyScope(ctx, newProjector(cfg, wholeLog{cfg.Log}), part)
}

func verify(ctx context.Context, p *Projector) (Report, error) { return verifyScope(ctx, p, Scope{}) }

func verifyScope(ctx context.Context, p *Projector, part Scope) (Report, error) {
	var r Report
	conn, err := p.cfg.Pool.Acquire(ctx)
	if err != nil {
		return r, readError(ctx, err)
	}
	defer conn.Release()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	if err != nil {
		return r, readError(ctx, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // takes the temporary tables with it

	live, end, err := pin(ctx, tx)
	if err != nil {
		return r, readError(ctx, err)
	}
	if err := migrations.CreateScratch(ctx, tx); err != nil {
		return r, readError(ctx, err)
	}
	if _, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = off"); err != nil { // see beginWrite
		return r, readError(ctx, err)
	}
	c, err := part.chooser(ctx, tx, p.log)
	if err != nil {
		return r, readError(ctx, err)
	}
	if r.Events, err = p.foldInto(ctx, tx, scratch, c.selection(end), nil); err != nil {
		return r, readError(ctx, err)
	}
	if _, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = on"); err != nil {
		return r, readError(ctx, err)
	}
	for _, t := range shapes() {
		if err := r.compare(ctx, tx, migrations.Schema(live.Number), scratch, t, c); err != nil {
			return r, readError(ctx, err)
		}
	}
	return r, nil
}

// pin takes the snapshot and keeps the live tables from being dropped while it is read.
func pin(ctx context.Context, tx pgx.Tx) (migrations.Generation, eventlog.Offsets, error) {
	live, err := migrations.Live(ctx, tx)
	if err != nil {
		return live, nil, err
	}
	if live.Shape != migrations.Shape() {
		return live, nil, migrations.ErrOtherShape
	}
	for _, t := range migrations.Tables() {
		if _, err := tx.Exec(ctx, "LOCK TABLE "+migrations.Schema(live.Number)+"."+t+" IN ACCESS SHARE MODE"); err != nil {
			return live, nil, fmt.Errorf("cannot lock the live tables: %w", err)
		}
	}
	rows, err := tx.Query(ctx, "SELECT topic, partition, next_offset FROM myspinbot.checkpoints WHERE generation = $1", live.Number)
	end, err := collectOffsets(rows, err)
	return live, end, err
}

// shape is a table's name and columns, whatever its rows are.
type shape struct {
	name    string
	columns []string
	key     int
}

func (t table[T]) shape() shape {
	s := shape{name: t.name, key: t.key}
	for _, c := range t.columns {
		s.columns = append(s.columns, c.name)
	}
	return s
}

func shapes() []shape {
	return []shape{jobs.shape(), stages.shape(), artifacts.shape(), profiles.shape(), jobEvents.shape()}
}

// compare finds the chosen rows of the live schema whose text differs from those of the log's, and tells which columns do.
func (r *Report) compare(ctx context.Context, tx pgx.Tx, schema, logs string, s shape, c chooser) error {
	var rows int64
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM "+logs+"."+s.name).Scan(&rows); err != nil {
		return fmt.Errorf("cannot count %s: %w", s.name, err)
	}
	r.Rows += rows
	if _, err := tx.Exec(ctx, "ANALYZE "+logs+"."+s.name); err != nil {
		return fmt.Errorf("cannot analyse %s: %w", s.name, err)
	}
	keys := make([]string, s.key)
	for i, k := range s.columns[:s.key] {
		keys[i] = "coalesce(l." + k + ", e." + k + ")::text"
	}
	found, err := tx.Query(ctx, fmt.Sprintf(`SELECT concat_ws('/', %s), to_jsonb(l)::text, to_jsonb(e)::text
		FROM (SELECT * FROM %s.%s%s) l FULL JOIN %s.%s e USING (%s) WHERE l::text IS DISTINCT FROM e::text ORDER BY 1 LIMIT %d`,
		strings.Join(keys, ", "), schema, s.name, c.where(s), logs, s.name, strings.Join(s.columns[:s.key], ", "), maxDifferences+1), c.args...)
	if err != nil {
		return fmt.Errorf("cannot compare %s: %w", s.name, err)
	}
	var key string
	var live, log *string
	n := 0
	_, err = pgx.ForEachRow(found, []any{&key, &live, &log}, func() error {
		if n++; n > maxDifferences {
			r.Truncated = true
			return nil
		}
		return r.row(s, key, live, log)
	})
	if err != nil {
		return fmt.Errorf("cannot compare %s: %w", s.name, err)
	}
	return nil
}

// row adds what is different between a row of the table and the log's; nil: there is none.
func (r *Report) row(s shape, key string, live, log *string) error {
	if live == nil || log == nil {
		d := Difference{Table: s.name, Key: key}
		if live != nil {
			d.Live = *live
		}
		if log != nil {
			d.Log = *log
		}
		r.Differences = append(r.Differences, d)
		return nil
	}
	var have, want map[string]json.RawMessage
	if err := json.Unmarshal([]byte(*live), &have); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(*log), &want); err != nil {
		return err
	}
	for _, c := range slices.Sorted(maps.Keys(want)) {
		if !bytes.Equal(have[c], want[c]) {
			r.Differences = append(r.Differences, Difference{s.name, key, c, string(have[c]), string(want[c])})
		}
	}
	return nil
}

// Dump writes every row of the live tables as text, ordered by primary key, so
// that equal tables give equal bytes.
func Dump(ctx context.Context, pool *pgxpool.Pool, w io.Writer) error {
	err := inSnapshot(ctx, pool, func(tx pgx.Tx) error { return dumpSchema(ctx, tx, views, w) })
	if err != nil {
		return fmt.Errorf("cannot dump the tables: %w", readError(ctx, err))
	}
	return nil
}

// dumpSchema is Dump of the tables in any schema.
func dumpSchema(ctx context.Context, tx pgx.Tx, schema string, w io.Writer) error {
	if _, err := tx.Exec(ctx, "SET LOCAL timezone = 'UTC'"); err != nil {
		return err
	}
	for _, s := range shapes() {
		if _, err := fmt.Fprintf(w, "%s (%s)\n", s.name, strings.Join(s.columns, ", ")); err != nil {
			return err
		}
		sql := fmt.Sprintf("COPY (SELECT %s FROM %s.%s ORDER BY %s) TO STDOUT",
			strings.Join(s.columns, ", "), schema, s.name, strings.Join(s.columns[:s.key], ", "))
		if _, err := tx.Conn().PgConn().CopyTo(ctx, w, sql); err != nil {
			return err
		}
	}
	return nil
}
