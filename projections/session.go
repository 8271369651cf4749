// One session: what is written to a generation, from its checkpoints on.

package projections

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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

// session writes facts of some partitions, which are its own in this process, to the
// tables of one generation. It is for one goroutine.
type session struct {
	p          *Projector
	generation int
	status     string           // of the generation: the fence lets no batch through once it is another
	goal       eventlog.Offsets // of a rebuild; nil: there is none
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

// take folds and writes a batch, and stops what cannot be read behind it.
func (s *session) take(ctx context.Context, b decoded) error {
	facts := slices.DeleteFunc(b.facts, func(x fact) bool { return s.stopped[x.at] != "" })
	if err := s.apply(ctx, facts, s.running(b.next)); err != nil || len(b.unreadable) == 0 {
		return err
	}
	for tp, err := range b.unreadable {
		if s.stopped[tp] == "" {
			s.stop(tp, err)
		}
	}
	s.report(s.at, Counts{})
	return nil
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
		s.stored[tp] = now[tp]
	}
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
