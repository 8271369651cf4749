// How far the tables are behind the log, seen from outside of the projector.

package projections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// countedAtMost bounds how much of the log is read to count what is not in the tables yet.
const countedAtMost = 100_000

// TablesStatus is how the live tables stand to the log.
type TablesStatus struct {
	Generation  int                `json:"generation"`   // that readers see
	OwnShape    bool               `json:"own_shape"`    // whether this program's definitions made it
	Generations []GenerationStatus `json:"generations"`  // all that are registered, by number
	Events      int64              `json:"lag_events"`   // not in the tables yet, of all partitions
	Counted     bool               `json:"lag_counted"`  // false: Events is what was counted, and there are more
	Seconds     float64            `json:"lag_seconds"`  // age of the oldest event that is not in the tables; 0: there is none
	Rate        float64            `json:"offsets_rate"` // offsets per second that the checkpoints moved while they were watched
	Partitions  []Lag              `json:"partitions"`   // by topic and partition
}

// GenerationStatus is one registered set of tables.
type GenerationStatus struct {
	Number int       `json:"generation"`
	Status string    `json:"status"`
	Since  time.Time `json:"created_at"`
}

// Lag is where the tables stand in one partition.
type Lag struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Next      int64   `json:"next_offset"` // the first that is not in the tables
	End       int64   `json:"end_offset"`  // of what is committed; markers take offsets too, so that a gap may hold no event
	Events    int64   `json:"lag_events"`
	Seconds   float64 `json:"lag_seconds"`
	Rate      float64 `json:"offsets_rate"`
	Error     string  `json:"error,omitempty"` // why the partition does not move, if a record is the reason

	first *fact // the first event that is not in the tables
}

// ReadStatus compares the live tables' checkpoints with the log, watches them for a
// while to tell their rate, and says of a partition that does not move whether its
// next record is why. Errors: ErrUnavailable, migrations.ErrNoGeneration, an error of the log.
func ReadStatus(ctx context.Context, cfg Config, watch time.Duration) (TablesStatus, error) {
	return readStatus(ctx, newProjector(cfg, wholeLog{cfg.Log}), watch, time.Now)
}

func readStatus(ctx context.Context, p *Projector, watch time.Duration, now func() time.Time) (TablesStatus, error) {
	var s TablesStatus
	live, err := migrations.Live(ctx, p.cfg.Pool)
	if err != nil {
		return s, readError(ctx, err)
	}
	s.Generation, s.OwnShape = live.Number, live.Shape == migrations.Shape()
	if s.Generations, err = p.generations(ctx); err != nil {
		return s, readError(ctx, err)
	}
	began := now()
	before, err := p.liveCheckpoints(ctx)
	if err != nil {
		return s, readError(ctx, err)
	}
	if err := s.measure(ctx, p, before, now); err != nil {
		return s, err
	}
	if watch <= 0 {
		return s, nil
	}
	timer := time.NewTimer(watch - now().Sub(began))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return s, ctx.Err()
	case <-timer.C:
	}
	after, err := p.liveCheckpoints(ctx)
	if err != nil {
		return s, readError(ctx, err)
	}
	took := now().Sub(began).Seconds()
	for i := range s.Partitions {
		l := &s.Partitions[i]
		tp := eventlog.TopicPartition{Topic: l.Topic, Partition: l.Partition}
		l.Rate = float64(max(0, after[tp]-before[tp])) / took // a rebuild moves them back
		s.Rate += l.Rate
		if l.first != nil && after[tp] == before[tp] && l.Error == "" && s.OwnShape {
			l.Error = p.refusal(ctx, live.Number, *l.first)
		}
	}
	return s, nil
}

func (p *Projector) generations(ctx context.Context) ([]GenerationStatus, error) {
	rows, err := p.cfg.Pool.Query(ctx, "SELECT generation, status, created_at FROM myspinbot.generations ORDER BY generation")
	if err != nil {
		return nil, fmt.Errorf("cannot read the registry of generations: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[GenerationStatus])
}

func (p *Projector) liveCheckpoints(ctx context.Context) (eventlog.Offsets, error) {
	rows, err := p.cfg.Pool.Query(ctx, "SELECT topic, partition, next_offset FROM myspinbot.live_checkpoints")
	return collectOffsets(rows, err)
}

// measure reads what lies between the checkpoints and the end of the log.
func (s *TablesStatus) measure(ctx context.Context, p *Projector, at eventlog.Offsets, now func() time.Time) error {
	ranges, err := p.log.Ranges(ctx, topics()...)
	if err != nil {
		return err
	}
	ends, place, open := make(eventlog.Offsets), make(map[eventlog.TopicPartition]int), make(eventlog.Offsets)
	for tp, r := range ranges {
		ends[tp] = r.Stable
	}
	for _, tp := range sorted(ends) {
		place[tp] = len(s.Partitions)
		s.Partitions = append(s.Partitions, Lag{Topic: tp.Topic, Partition: tp.Partition, Next: at[tp], End: ends[tp]})
		if at[tp] < ends[tp] {
			open[tp] = at[tp]
		}
	}
	s.Counted = true
	if len(open) == 0 {
		return nil
	}
	c, err := p.log.reader(open)
	if err != nil {
		return err
	}
	defer c.Close()
	for len(open) > 0 && s.Counted {
		b, err := c.Poll(ctx, pollRecords)
		if err != nil {
			return err
		}
		for _, r := range b.Records {
			if r.Offset < ends[r.At()] {
				s.Events++
				s.Partitions[place[r.At()]].see(r, now())
			}
		}
		for tp, o := range b.Next {
			if o >= ends[tp] {
				delete(open, tp)
			}
		}
		s.Counted = len(open) == 0 || s.Events < countedAtMost
	}
	for _, l := range s.Partitions {
		s.Seconds = max(s.Seconds, l.Seconds)
	}
	return nil
}

// see counts a record that is not in the tables.
func (l *Lag) see(r eventlog.Record, now time.Time) {
	l.Events++
	if l.Events > 1 {
		return
	}
	x, err := decode(r)
	if err != nil {
		l.Error, l.Seconds = err.Error(), max(0, now.Sub(r.Time).Seconds())
		return
	}
	l.first, l.Seconds = &x, max(0, now.Sub(x.message.OccurredAt).Seconds())
}

// refusal tries a fact on the tables, takes it back, and says why PostgreSQL refuses it; empty: it does not.
func (p *Projector) refusal(ctx context.Context, generation int, x fact) string {
	err := pgx.BeginTxFunc(ctx, p.cfg.Pool, pgx.TxOptions{BeginQuery: beginByKey + "; SET LOCAL lock_timeout = '1s'"}, func(tx pgx.Tx) error {
		if err := foldBatch(ctx, tx, migrations.Schema(generation), []fact{x}); err != nil {
			return err
		}
		return errTried
	})
	if errors.Is(err, errTried) || !refused(err) {
		return ""
	}
	return fmt.Sprintf("PostgreSQL refuses the event at %s offset %d: %v", x.at, x.offset, err)
}

// errTried ends a transaction that was only a trial.
var errTried = errors.New("a trial")
