// Reading the tables: one snapshot a request.

package projections

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// Errors that readers tell apart.
var (
	// ErrUnavailable: PostgreSQL does not answer, or its tables are being made. Jobs run on; try again.
	ErrUnavailable = errors.New("the tables are unavailable: PostgreSQL does not answer or is being rebuilt; try again")
	// ErrNotFound: the tenant has no such row.
	ErrNotFound = errors.New("not found")
	// ErrNotYet: the tables had not reached the awaited version when the time was over.
	ErrNotYet = errors.New("the tables have not reached that version yet")
)

// views is the schema through which readers see the live generation.
const views = "myspinbot"

// Reader reads the tables, safe for concurrent use.
type Reader struct{ pool *pgxpool.Pool }

// NewReader makes a reader; it does not connect.
func NewReader(pool *pgxpool.Pool) *Reader { return &Reader{pool: pool} }

// Queries are the questions of one snapshot; they end with it.
type Queries struct{ tx pgx.Tx }

// Snapshot runs fn on one REPEATABLE READ snapshot, so that all its answers belong
// together. Fn runs once more if the tables were replaced under it, or its connection turned
// out to be dead, so it must set results, not add to them. Errors: fn's own,
// ErrUnavailable, or the context's.
func (r *Reader) Snapshot(ctx context.Context, fn func(q *Queries) error) error {
	err := r.onLiving(ctx, func() error { return r.snapshot(ctx, fn) })
	var pg *pgconn.PgError
	if errors.As(err, &pg) && replaced(pg.Code) {
		err = r.snapshot(ctx, fn)
	}
	return readError(ctx, err)
}

// onLiving runs a read, and once more on a new connection if the one it got is dead: after a
// restart of PostgreSQL the pool is full of those. What only reads may always be repeated.
func (r *Reader) onLiving(ctx context.Context, read func() error) error {
	err := read()
	if err == nil || ctx.Err() != nil || !dead(err) {
		return err
	}
	r.pool.Reset()
	return read()
}

// dead says whether a connection that was there broke, rather than that none could be made
// or that an answer took too long.
func dead(err error) bool {
	var connect *pgconn.ConnectError
	if errors.As(err, &connect) || pgconn.Timeout(err) {
		return false
	}
	var network net.Error
	return hasCode(err, "57P01") || hasCode(err, "57P02") || // admin_shutdown, crash_shutdown
		errors.As(err, &network) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || pgconn.SafeToRetry(err)
}

func (r *Reader) snapshot(ctx context.Context, fn func(q *Queries) error) error {
	return inSnapshot(ctx, r.pool, func(tx pgx.Tx) error { return fn(&Queries{tx: tx}) })
}

// lockViews keeps the views as they are until the transaction ends. It must come
// before the transaction's snapshot, which a LOCK does not take: views resolve to
// tables as of now, rows and checkpoints as of the snapshot, and a switch to another
// generation in between would mix the two.
var lockViews = "LOCK TABLE " + views + "." + strings.Join(migrations.Tables(), ", "+views+".") + " IN ACCESS SHARE MODE"

// inSnapshot runs fn in a transaction that sees one state of one generation.
func inSnapshot(ctx context.Context, pool *pgxpool.Pool, fn func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockViews); err != nil {
			return fmt.Errorf("cannot take a snapshot of the tables: %w", err)
		}
		return fn(tx)
	})
}

// replaced says whether an error's code tells that the tables were swapped while they were read.
func replaced(code string) bool {
	switch code {
	case "40P01", // deadlock_detected
		"40001", // serialization_failure
		"0A000", // feature_not_supported: "cached plan must not change result type"
		"42P01", // undefined_table
		"XX000": // internal_error: "could not open relation"
		return true
	}
	return false
}

// readError sorts an error of a read: the caller's context, PostgreSQL away, or a fault of its own.
func readError(ctx context.Context, err error) error {
	switch {
	case err == nil, errors.Is(err, ErrNotFound), errors.Is(err, ErrUnavailable):
		return err
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case unavailable(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// unavailable says whether err tells of PostgreSQL's state and not of the statement.
func unavailable(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		for _, class := range []string{"08", "53", "57", "58"} { // connection, resources, operator intervention, system error
			if strings.HasPrefix(pg.Code, class) {
				return true
			}
		}
		switch pg.Code {
		case "42P01", "42703", "3F000", "3D000", // no table, column, schema or database yet
			"40P01", "40001": // a swap under way
			return true
		}
		return false
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// Checkpoint is the first offset of a partition that is not in this snapshot: a
// stream that shows the snapshot and then reads the log from there misses nothing
// and repeats nothing. 0 if the partition has none.
func (q *Queries) Checkpoint(ctx context.Context, topic string, partition int32) (int64, error) {
	all, err := q.Checkpoints(ctx, topic)
	return all[eventlog.TopicPartition{Topic: topic, Partition: partition}], err
}

// Checkpoints are those of every partition of the topic.
func (q *Queries) Checkpoints(ctx context.Context, topic string) (eventlog.Offsets, error) {
	rows, err := q.tx.Query(ctx, "SELECT topic, partition, next_offset FROM myspinbot.live_checkpoints WHERE topic = $1", topic)
	return collectOffsets(rows, err)
}

func collectOffsets(rows pgx.Rows, err error) (eventlog.Offsets, error) {
	if err != nil {
		return nil, fmt.Errorf("cannot read the checkpoints: %w", err)
	}
	out := make(eventlog.Offsets)
	var tp eventlog.TopicPartition
	var next int64
	_, err = pgx.ForEachRow(rows, []any{&tp.Topic, &tp.Partition, &next}, func() error {
		out[tp] = next
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the checkpoints: %w", err)
	}
	return out, nil
}

// WaitFor waits until the tenant's job has at least the given version in the
// tables, so that a client reads its own write. It asks again after 2 ms, then
// ever more seldom up to 50 ms. Errors: ErrNotYet when ctx's time is over,
// ErrUnavailable, or context.Canceled.
func (r *Reader) WaitFor(ctx context.Context, tenant, jobID string, version int64) error {
	return r.waitFor(ctx, events.AggregateJob, jobs.name, tenant, jobID, version)
}

// WaitForProfile is WaitFor for a profile.
func (r *Reader) WaitForProfile(ctx context.Context, tenant, id string, version int64) error {
	return r.waitFor(ctx, events.AggregateProfile, profiles.name, tenant, id, version)
}

func (r *Reader) waitFor(ctx context.Context, what, table, tenant, id string, version int64) error {
	var have int64
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := r.onLiving(ctx, func() error {
			return r.pool.QueryRow(ctx, "SELECT version FROM "+views+"."+table+" WHERE id = $1 AND tenant = $2", id, tenant).Scan(&have)
		})
		switch {
		case err == nil && have >= version:
			return nil
		case err == nil || errors.Is(err, pgx.ErrNoRows):
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return fmt.Errorf("%w: %s %s has version %d, not %d", ErrNotYet, what, id, have, version)
		default:
			return readError(ctx, err)
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
			return fmt.Errorf("%w: %s %s has version %d, not %d", ErrNotYet, what, id, have, version)
		case <-time.After(pause):
		}
	}
}

// Ping says whether the live tables answer: nil or ErrUnavailable.
func (r *Reader) Ping(ctx context.Context) error {
	var one int
	err := r.onLiving(ctx, func() error { return r.pool.QueryRow(ctx, "SELECT 1 FROM myspinbot.jobs LIMIT 1").Scan(&one) })
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return readError(ctx, err)
}

// hasCode says whether PostgreSQL gave this code.
func hasCode(err error, code string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == code
}

func first[T any](rows []*T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, ErrNotFound
	}
	return rows[0], nil
}
