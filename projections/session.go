// One session: from the checkpoints of a generation on, until something breaks or a goal is reached.

package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// Errors that end a session.
var (
	// errFenced says that a checkpoint is not where this projector left it: another one is at work.
	errFenced = errors.New("another projector has moved the checkpoints")
	// errReplaced says that readers see another generation now.
	errReplaced = errors.New("the live tables were replaced")
)

// session fills the tables of one generation from the log. One goroutine reads and
// decodes, ahead by one batch; the caller's folds and writes.
type session struct {
	p          *Projector
	generation int
	status     string           // of the generation: the fence lets no batch through once it is another
	goal       eventlog.Offsets // nil: for ever
	bulk       *bulk            // how new rows are written in large numbers; nil: as they come
	report     func(eventlog.Offsets, Counts)

	stored     eventlog.Offsets // the checkpoints as this session left them in PostgreSQL
	at         eventlog.Offsets // where it reads; ahead of stored by markers alone
	stopped    map[eventlog.TopicPartition]string
	progressed bool // something was committed
}

// begin sets the position of the session's partitions.
func (s *session) begin(stored eventlog.Offsets) {
	s.stored, s.at, s.stopped = make(eventlog.Offsets), make(eventlog.Offsets), make(map[eventlog.TopicPartition]string)
	for tp, o := range stored {
		s.stored[tp], s.at[tp] = o, o
	}
}

// follow reads from where the session stands and writes, until the goal is reached,
// which is nil, or something breaks. Ctx's cause is the error when it ends.
func (s *session) follow(ctx context.Context) error {
	from := make(eventlog.Offsets)
	for tp, o := range s.at {
		if s.goal == nil || o < s.goal[tp] {
			from[tp] = o
		}
	}
	if len(from) == 0 {
		return nil
	}
	c, err := s.p.log.reader(from)
	if err != nil {
		return err
	}
	reading, stop := context.WithCancel(ctx)
	batches, ended := make(chan decoded), make(chan error, 1)
	var reader sync.WaitGroup
	reader.Go(func() { ended <- s.ahead(reading, c, from, batches) })
	defer func() { stop(); reader.Wait(); c.Close() }()
	defer s.abandon(ctx)
	for !s.reached() {
		select {
		case b := <-batches:
			if err := s.take(ctx, b); err != nil {
				return err
			}
		case err := <-ended:
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return err
		}
	}
	counts, err := s.finish(ctx)
	if err != nil {
		return err
	}
	s.report(s.at, counts)
	return nil
}

// decoded is what one poll brought, or several.
type decoded struct {
	facts      []fact
	next       eventlog.Offsets
	unreadable map[eventlog.TopicPartition]error // what stops a partition, which next leaves at the record at fault
}

// ahead polls and decodes until ctx ends or the log fails. In bulk, batches are
// filled up as long as the goal lies ahead.
func (s *session) ahead(ctx context.Context, c cursor, open eventlog.Offsets, out chan<- decoded) error {
	r := batchReader{goal: s.goal, at: open, stopped: make(map[eventlog.TopicPartition]bool)}
	least := 1
	if s.bulk != nil {
		least = s.batchSize() / 2
	}
	for {
		b := decoded{next: make(eventlog.Offsets), unreadable: make(map[eventlog.TopicPartition]error)}
		for len(b.next) == 0 || (len(b.facts) < least && !r.reached()) {
			polled, err := c.Poll(ctx, s.batchSize())
			if err != nil {
				return err
			}
			r.decode(polled, &b)
		}
		select {
		case out <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
		if r.reached() {
			return nil // the last batch ends the session
		}
	}
}

func (s *session) batchSize() int {
	if s.bulk != nil {
		return bulkFactor * s.p.cfg.BatchSize
	}
	return s.p.cfg.BatchSize
}

// batchReader decodes what polls bring, up to the goal and to the first unreadable record of each partition.
type batchReader struct {
	goal    eventlog.Offsets
	at      eventlog.Offsets
	stopped map[eventlog.TopicPartition]bool
}

func (r *batchReader) reached() bool {
	if r.goal == nil {
		return false
	}
	for tp, o := range r.at {
		if o < r.goal[tp] && !r.stopped[tp] {
			return false
		}
	}
	return true
}

func (r *batchReader) decode(polled eventlog.Batch, b *decoded) {
	b.facts = slices.Grow(b.facts, len(polled.Records))
	for _, record := range polled.Records {
		tp := record.At()
		if r.stopped[tp] || (r.goal != nil && record.Offset >= r.goal[tp]) {
			continue
		}
		x, err := decode(record)
		if err != nil {
			r.stopped[tp], b.unreadable[tp] = true, err
			r.at[tp], b.next[tp] = record.Offset, record.Offset
			continue
		}
		b.facts = append(b.facts, x)
	}
	for tp, o := range polled.Next {
		if r.stopped[tp] {
			continue
		}
		if r.goal != nil {
			o = min(o, r.goal[tp])
		}
		r.at[tp], b.next[tp] = o, o
	}
}

func (s *session) reached() bool {
	if s.goal == nil {
		return false
	}
	for tp, o := range s.at {
		if o < s.goal[tp] && s.stopped[tp] == "" {
			return false
		}
	}
	return true
}

// take folds and writes a batch.
func (s *session) take(ctx context.Context, b decoded) error {
	facts := slices.DeleteFunc(b.facts, func(x fact) bool { return s.stopped[x.at] != "" })
	next := s.running(b.next)
	for tp, err := range b.unreadable {
		if s.stopped[tp] == "" {
			s.stop(tp, err)
		}
	}
	return s.apply(ctx, facts, next)
}

// apply writes facts and moves the position; markers alone move no checkpoint,
// except in bulk. Where another projector was faster, the rest is tried again. Facts
// that PostgreSQL refuses are narrowed down by halves to the one at fault, whose
// partition then stops; in bulk only when each batch is committed by itself.
func (s *session) apply(ctx context.Context, facts []fact, next eventlog.Offsets) error {
	facts, checkpoints := s.missing(facts, next)
	if len(facts) == 0 && (s.bulk == nil || len(checkpoints) == 0) {
		s.move(next, Counts{})
		return nil
	}
	counts, err := s.commit(ctx, facts, checkpoints)
	switch {
	case err == nil:
		s.progressed = true
		s.move(next, counts)
		return nil
	case errors.Is(err, errFenced) && s.bulk == nil:
		if err := s.adopt(ctx); err != nil {
			return err
		}
		return s.apply(ctx, facts, next)
	case !refused(err), s.bulk != nil && !s.bulk.single:
		return err
	case len(facts) == 1:
		x := facts[0]
		s.stop(x.at, fmt.Errorf("PostgreSQL refuses the event at %s offset %d: %w", x.at, x.offset, err))
		return s.apply(ctx, nil, s.running(next))
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
			return errReplaced
		}
	}
	s.stored = now
	return nil
}

func (s *session) checkpoints(ctx context.Context) (eventlog.Offsets, error) {
	rows, err := s.p.cfg.Pool.Query(ctx, `SELECT topic, partition, next_offset FROM myspinbot.checkpoints
		JOIN myspinbot.generations USING (generation) WHERE generation = $1 AND shape = $2 AND status = $3`, s.generation, migrations.Shape(), s.status)
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
	s.report(s.at, c)
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
