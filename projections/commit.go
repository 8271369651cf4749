// One batch and its checkpoints, in one transaction.

package projections

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// beginWrite opens the transaction of a batch. Without waiting for the disk a crash
// of PostgreSQL can lose the last transactions, but only whole, with their
// checkpoints; the log still has them. All lookups are by key; a plan made while a
// table was empty would otherwise read all of it for ever.
const beginWrite = "BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL enable_seqscan = off"

// beginPatient is beginWrite where others may hold locks, which are waited for no longer than lockPatience.
var beginPatient = fmt.Sprintf("%s; SET LOCAL lock_timeout = %d", beginWrite, lockPatience.Milliseconds())

// commit writes one batch and its checkpoints in one transaction.
func (s *session) commit(ctx context.Context, facts []fact, next eventlog.Offsets) (Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if s.bulk != nil {
		return s.add(ctx, facts, next)
	}
	f := newFold()
	err := pgx.BeginTxFunc(ctx, s.p.cfg.Pool, pgx.TxOptions{BeginQuery: beginPatient}, func(tx pgx.Tx) error {
		return s.write(ctx, tx, f, facts, next)
	})
	if err != nil {
		return Counts{}, err
	}
	s.wrote(f, next)
	s.p.metrics.committed(facts, time.Now())
	return f.counts, nil
}

// write folds one batch and writes it with its checkpoints.
func (s *session) write(ctx context.Context, tx pgx.Tx, f *fold, facts []fact, next eventlog.Offsets) error {
	m, schema, b := s.moves(next), migrations.Schema(s.generation), &pgx.Batch{}
	m.queueLock(b)
	f.queueLoad(b, schema, facts)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("cannot load what a batch builds on: %w", err)
	}
	return f.write(ctx, tx, schema, facts, m.queueUpdate)
}

// wrote notes a batch that is written.
func (s *session) wrote(f *fold, next eventlog.Offsets) {
	for tp, o := range next {
		s.stored[tp] = o
	}
	for _, err := range f.rejected {
		s.p.cfg.Logger.Error("an event does not continue its chain and is not applied", "error", err)
	}
}

// moves are checkpoints on their way from one offset to the next, as columns.
type moves struct {
	generation  int
	status      string
	topics      []string
	partitions  []int32
	from, until []int64
}

func (s *session) moves(next eventlog.Offsets) moves {
	m := moves{generation: s.generation, status: s.status}
	for _, tp := range sorted(next) {
		m.topics, m.partitions = append(m.topics, tp.Topic), append(m.partitions, tp.Partition)
		m.from, m.until = append(m.from, s.stored[tp]), append(m.until, next[tp])
	}
	return m
}

// queueLock takes the checkpoints, in one order so that two projectors cannot
// deadlock, and finds out early whether another one has moved them. The generation's
// row is locked behind them: who waited here while it was retired sees that.
func (m moves) queueLock(b *pgx.Batch) {
	b.Queue(`SELECT c.next_offset FROM myspinbot.checkpoints c
		JOIN unnest($2::text[], $3::integer[]) AS m (topic, partition) USING (topic, partition)
		JOIN myspinbot.generations g USING (generation)
		WHERE c.generation = $1 AND g.shape = $4 AND g.status = $5 ORDER BY c.topic, c.partition FOR UPDATE OF c FOR SHARE OF g`,
		m.generation, m.topics, m.partitions, migrations.Shape(), m.status).
		Query(func(rows pgx.Rows) error {
			found, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			if err != nil {
				return err
			}
			if len(found) != len(m.from) {
				return errFenced
			}
			for i := range found {
				if found[i] != m.from[i] {
					return errFenced
				}
			}
			return nil
		})
}

// queueUpdate moves the checkpoints from where this projector left them, or fails.
func (m moves) queueUpdate(b *pgx.Batch) {
	b.Queue(`UPDATE myspinbot.checkpoints c SET next_offset = m.until
		FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[]) AS m (topic, partition, expected, until)
		WHERE c.generation = $1 AND c.topic = m.topic AND c.partition = m.partition AND c.next_offset = m.expected`,
		m.generation, m.topics, m.partitions, m.from, m.until).
		Exec(func(tag pgconn.CommandTag) error {
			if tag.RowsAffected() != int64(len(m.from)) {
				return errFenced
			}
			return nil
		})
}
