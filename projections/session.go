// One session of a projector: from the checkpoints on, until something breaks.

package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// errFenced says that a checkpoint is not where this projector left it: another one is at work.
var errFenced = errors.New("another projector has moved the checkpoints")

type session struct {
	p      *Projector
	goal   eventlog.Offsets
	report func(eventlog.Offsets)

	generation int
	stored     eventlog.Offsets // the checkpoints as this session left them in PostgreSQL
	at         eventlog.Offsets // where it reads; ahead of stored by markers alone
	stopped    map[eventlog.TopicPartition]string
	stops      eventlog.Offsets // of the batch at hand: the unreadable records that stopped a partition
	progressed bool             // something was committed
}

func (s *session) run(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	c, err := s.p.log.reader(s.at)
	if err != nil {
		return err
	}
	defer c.Close()
	s.p.trouble(nil)
	s.tell(Counts{})
	for !s.reached() {
		b, err := c.Poll(ctx, s.p.cfg.BatchSize)
		if err != nil {
			return err
		}
		if err := s.take(ctx, b); err != nil {
			return err
		}
	}
	return errReached
}

// open makes the tables if need be and reads the checkpoints of every partition.
func (s *session) open(ctx context.Context) error {
	g, err := migrations.Ensure(ctx, s.p.cfg.Pool)
	if err != nil {
		return err
	}
	ranges, err := s.p.log.Ranges(ctx, topics()...)
	if err != nil {
		return err
	}
	var names []string
	var partitions []int32
	for tp := range ranges {
		names, partitions = append(names, tp.Topic), append(partitions, tp.Partition)
	}
	_, err = s.p.cfg.Pool.Exec(ctx, `INSERT INTO myspinbot.checkpoints (generation, topic, partition, next_offset)
		SELECT $1, t, p, 0 FROM unnest($2::text[], $3::integer[]) AS r (t, p) ORDER BY t, p ON CONFLICT DO NOTHING`, g.Number, names, partitions)
	if err != nil {
		return fmt.Errorf("cannot write the first checkpoints: %w", err)
	}
	s.generation, s.at = g.Number, make(eventlog.Offsets)
	s.stopped, s.stops = make(map[eventlog.TopicPartition]string), make(eventlog.Offsets)
	if s.stored, err = s.checkpoints(ctx); err != nil {
		return err
	}
	for tp, r := range ranges {
		if s.stored[tp] > r.End {
			return fmt.Errorf("the tables are ahead of the log: %s is read up to offset %d and ends at %d; "+
				"is this the right log? if so, run `myspinbot replay rebuild`", tp, s.stored[tp], r.End)
		}
		s.at[tp] = s.stored[tp]
	}
	return nil
}

func (s *session) reached() bool {
	if s.goal == nil {
		return false
	}
	for tp, end := range s.goal {
		if s.at[tp] < end && s.stopped[tp] == "" {
			return false
		}
	}
	return true
}

// take folds what one poll brought.
func (s *session) take(ctx context.Context, b eventlog.Batch) error {
	facts := make([]fact, 0, len(b.Records))
	for _, r := range b.Records {
		if s.stopped[r.At()] != "" {
			continue
		}
		x, err := decode(r)
		if err != nil {
			s.stop(r.At(), err)
			if r.Offset > s.at[r.At()] {
				s.stops[r.At()] = r.Offset
			}
			continue
		}
		facts = append(facts, x)
	}
	next := make(eventlog.Offsets, len(b.Next))
	for tp, o := range b.Next {
		if s.stopped[tp] == "" {
			next[tp] = o
		}
	}
	// A partition that stopped just now still moves up to the record at fault.
	for tp, o := range s.stops {
		next[tp] = o
		delete(s.stops, tp)
	}
	return s.apply(ctx, facts, next)
}

// apply commits facts and moves the position; markers alone move no checkpoint.
// Where another projector was faster, the rest is tried again. Facts that
// PostgreSQL refuses are narrowed down by halves to the one at fault, whose
// partition then stops.
func (s *session) apply(ctx context.Context, facts []fact, next eventlog.Offsets) error {
	facts, checkpoints := s.missing(facts, next)
	if len(facts) == 0 {
		s.move(next, Counts{})
		return nil
	}
	counts, err := s.commit(ctx, facts, checkpoints)
	switch {
	case err == nil:
		s.progressed = true
		s.move(next, counts)
		return nil
	case errors.Is(err, errFenced):
		if err := s.adopt(ctx); err != nil {
			return err
		}
		return s.apply(ctx, facts, next)
	case !refused(err):
		return err
	case len(facts) == 1:
		x := facts[0]
		s.stop(x.at, fmt.Errorf("PostgreSQL refuses the event at %s offset %d: %w", x.at, x.offset, err))
		s.move(s.running(next), Counts{})
		return nil
	}
	half, early := len(facts)/2, make(eventlog.Offsets)
	for _, x := range facts[:half] {
		early[x.at] = x.offset + 1
	}
	if err := s.apply(ctx, facts[:half], early); err != nil {
		return err
	}
	rest := slices.DeleteFunc(slices.Clone(facts[half:]), func(x fact) bool { return s.stopped[x.at] != "" })
	return s.apply(ctx, rest, s.running(next))
}

// missing are the facts and positions that lie behind the checkpoints.
func (s *session) missing(facts []fact, next eventlog.Offsets) ([]fact, eventlog.Offsets) {
	ahead := make(eventlog.Offsets, len(next))
	for tp, o := range next {
		if o > s.stored[tp] {
			ahead[tp] = o
		}
	}
	return slices.DeleteFunc(facts, func(x fact) bool { return x.offset < s.stored[x.at] }), ahead
}

// running leaves out the partitions that have stopped.
func (s *session) running(next eventlog.Offsets) eventlog.Offsets {
	out := make(eventlog.Offsets, len(next))
	for tp, o := range next {
		if s.stopped[tp] == "" {
			out[tp] = o
		}
	}
	return out
}

// adopt takes over the checkpoints that another projector has moved onward. If
// they went back or are gone, the tables were replaced and the session ends.
func (s *session) adopt(ctx context.Context) error {
	now, err := s.checkpoints(ctx)
	if err != nil {
		return err
	}
	for tp, o := range s.stored {
		if have, ok := now[tp]; !ok || have < o {
			return errFenced
		}
	}
	s.stored = now
	return nil
}

func (s *session) checkpoints(ctx context.Context) (eventlog.Offsets, error) {
	rows, err := s.p.cfg.Pool.Query(ctx, `SELECT topic, partition, next_offset FROM myspinbot.checkpoints
		JOIN myspinbot.generations USING (generation) WHERE generation = $1 AND shape = $2`, s.generation, migrations.Shape())
	return collectOffsets(rows, err)
}

// stop ends the work on one partition, and says why, until the next session.
func (s *session) stop(tp eventlog.TopicPartition, err error) {
	s.stopped[tp] = err.Error()
	s.p.cfg.Logger.Error("a partition of the log cannot be read any further", "topic", tp.Topic, "partition", tp.Partition, "error", err)
}

func (s *session) move(next eventlog.Offsets, c Counts) {
	for tp, o := range next {
		s.at[tp] = o
	}
	s.tell(c)
}

func (s *session) tell(c Counts) {
	s.p.note(s.generation, s.at, s.stopped, c)
	if s.report != nil {
		s.report(s.at)
	}
}

// beginWrite opens the transaction of a batch. Without waiting for the disk a crash
// of PostgreSQL can lose the last transactions, but only whole, with their
// checkpoints; the log still has them. All lookups are by key; a plan made while a
// table was empty would otherwise read all of it for ever.
const beginWrite = "BEGIN; SET LOCAL synchronous_commit = off; SET LOCAL enable_seqscan = off"

// commit writes one batch and its checkpoints in one transaction.
func (s *session) commit(ctx context.Context, facts []fact, next eventlog.Offsets) (Counts, error) {
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	options := pgx.TxOptions{BeginQuery: beginWrite}
	f, m, schema := newFold(), s.moves(next), migrations.Schema(s.generation)
	err := pgx.BeginTxFunc(ctx, s.p.cfg.Pool, options, func(tx pgx.Tx) error {
		b := &pgx.Batch{}
		m.queueLock(b)
		f.queueLoad(b, schema, facts)
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return fmt.Errorf("cannot load what a batch builds on: %w", err)
		}
		return f.write(ctx, tx, schema, facts, m.queueUpdate)
	})
	if err != nil {
		return Counts{}, err
	}
	for tp, o := range next {
		s.stored[tp] = o
	}
	for _, err := range f.rejected {
		s.p.cfg.Logger.Error("an event does not continue its chain and is not applied", "error", err)
	}
	s.p.metrics.committed(facts, time.Now())
	return f.counts, nil
}

// moves are checkpoints on their way from one offset to the next, as columns.
type moves struct {
	generation  int
	topics      []string
	partitions  []int32
	from, until []int64
}

func (s *session) moves(next eventlog.Offsets) moves {
	m := moves{generation: s.generation}
	for _, tp := range sorted(next) {
		m.topics, m.partitions = append(m.topics, tp.Topic), append(m.partitions, tp.Partition)
		m.from, m.until = append(m.from, s.stored[tp]), append(m.until, next[tp])
	}
	return m
}

// queueLock takes the checkpoints, in one order so that two projectors cannot
// deadlock, and finds out early whether another one has moved them.
func (m moves) queueLock(b *pgx.Batch) {
	b.Queue(`SELECT c.next_offset FROM myspinbot.checkpoints c
		JOIN unnest($2::text[], $3::integer[]) AS m (topic, partition) USING (topic, partition)
		JOIN myspinbot.generations g USING (generation)
		WHERE c.generation = $1 AND g.shape = $4 ORDER BY c.topic, c.partition FOR UPDATE OF c`,
		m.generation, m.topics, m.partitions, migrations.Shape()).
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

// refused says whether PostgreSQL will never take these rows: a value it cannot
// hold, a broken constraint, a key twice.
func refused(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	return strings.HasPrefix(pg.Code, "21") || strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "23")
}

// reset throws the live tables away; a swap under way is tried again.
func reset(ctx context.Context, pool *pgxpool.Pool) error {
	for attempt := 1; ; attempt++ {
		_, err := migrations.Reset(ctx, pool)
		var pg *pgconn.PgError
		if attempt == 5 || !errors.As(err, &pg) || pg.Code != "40P01" {
			return err
		}
	}
}
