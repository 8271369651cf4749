// The projector: it keeps the tables up to date with the log.

package projections

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// Config is what a projector works with. Log and Pool are required.
type Config struct {
	Log  *eventlog.Log
	Pool *pgxpool.Pool // two connections are enough; a projector that is behind writes with half of them at once
	// BatchSize bounds the events of one transaction; default 1000, beyond which
	// PostgreSQL gains nothing. Smaller shortens locks, never a result.
	BatchSize int
	Logger    *slog.Logger // default slog.Default
}

// source is the part of the log that is read here.
type source interface {
	Ranges(ctx context.Context, topics ...string) (map[eventlog.TopicPartition]eventlog.Range, error)
	reader(from eventlog.Offsets) (cursor, error)
}

// cursor reads on from a position. Pause and Resume are safe to call beside Poll.
type cursor interface {
	Poll(ctx context.Context, max int) (eventlog.Batch, error)
	Pause(at eventlog.TopicPartition)
	Resume(at eventlog.TopicPartition)
	Close()
}

// wholeLog is the log itself as a source.
type wholeLog struct{ *eventlog.Log }

// reader leaves the headers out: tables are made from values alone.
func (l wholeLog) reader(from eventlog.Offsets) (cursor, error) {
	r, err := l.NewReader(from)
	if err != nil {
		return nil, err
	}
	return r.Bare(), nil
}

// topics are what the tables are made from.
func topics() []string { return []string{events.TopicJobEvents, events.TopicProfileEvents} }

// commitTimeout bounds one transaction, so that a PostgreSQL that hangs counts as away.
const commitTimeout = time.Minute

// checkEvery is how often an idle projector looks whether its tables are still the live ones.
const checkEvery = time.Second

// Projector folds the log into the tables, from where their checkpoints stand.
type Projector struct {
	cfg     Config
	log     source
	metrics *metrics

	mu     sync.Mutex
	status Status
}

// Status is what a projector is doing, for people and for readiness.
type Status struct {
	Generation int      // whose tables it fills; 0 before the first contact with PostgreSQL
	Trouble    string   // why nothing moves at present; empty while all is well
	Building   Progress // of a generation that it builds before it goes on; zero otherwise
	Counts
	Partitions []PartitionStatus // by topic and partition
}

// PartitionStatus is where one partition stands.
type PartitionStatus struct {
	Topic     string
	Partition int32
	Next      int64  // the offset to be read next
	Stopped   string // why the partition has stopped; empty while it runs. A restart tries again
}

// NewProjector makes a projector; Run starts it.
func NewProjector(cfg Config) *Projector { return newProjector(cfg, wholeLog{cfg.Log}) }

func newProjector(cfg Config, log source) *Projector {
	if cfg.BatchSize <= 0 {
		cfg.BatchSize = 1000
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Projector{cfg: cfg, log: log, metrics: newMetrics()}
}

// Status is safe to call at any time.
func (p *Projector) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	s.Partitions = slices.Clone(s.Partitions)
	return s
}

// Run works until ctx ends, then returns nil. Tables that are missing, damaged or of
// an older version of the program it builds anew, like Rebuild, and goes on with them;
// readers see the old ones meanwhile, if there are any. While PostgreSQL or the log is
// away it tries again, from every 50 ms to every 2 s, and says so in Status.
func (p *Projector) Run(ctx context.Context) error {
	const least, most = 50 * time.Millisecond, 2 * time.Second
	for delay := least; ; delay = min(2*delay, most) {
		progressed, err := p.keepUp(ctx)
		if buildable(err) {
			progressed, err = true, p.heal(ctx, err)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil || errors.Is(err, errReplaced):
			delay = least
			continue
		case errors.Is(err, errFenced):
			// The other projector is at work; there is no hurry to compete with it.
			delay = least + rand.N(4*least)
		case progressed:
			delay = least
			p.trouble(err)
		default:
			p.trouble(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
}

// keepUp fills the live tables until something breaks, and says whether it got anywhere.
func (p *Projector) keepUp(ctx context.Context) (progressed bool, err error) {
	g, err := migrations.Ready(ctx, p.cfg.Pool)
	if err != nil {
		return false, err
	}
	s := &session{p: p, generation: g.Number, status: migrations.LiveNow}
	s.report = func(at eventlog.Offsets, c Counts) { p.note(s.generation, at, s.stopped, c) }
	if err := s.open(ctx); err != nil {
		return false, err
	}
	p.trouble(nil)
	s.report(s.at, Counts{})
	ctx, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { cancel(s.watch(ctx)) })
	defer watch.Wait()
	defer cancel(nil)
	err = newLive(s).follow(ctx)
	return s.progressed, err
}

// open gives every partition of the log a checkpoint, and begins at them.
func (s *session) open(ctx context.Context) error {
	ranges, err := s.p.log.Ranges(ctx, topics()...)
	if err != nil {
		return err
	}
	if err := firstCheckpoints(ctx, s.p.cfg.Pool, s.generation, ranges, nil, nil); err != nil {
		return err
	}
	stored, err := s.checkpoints(ctx)
	if err != nil {
		return err
	}
	if len(stored) < len(ranges) {
		return errReplaced
	}
	s.begin(stored)
	for tp, r := range ranges {
		if stored[tp] > r.End {
			return fmt.Errorf("the tables are ahead of the log: %s is read up to offset %d and ends at %d; "+
				"is this the right log? if so, run `myspinbot replay rebuild`", tp, stored[tp], r.End)
		}
	}
	return nil
}

// watch returns once the session's tables are no longer the live ones, or cannot be
// asked for; an idle projector would not notice.
func (s *session) watch(ctx context.Context) error {
	for tick := time.NewTicker(checkEvery); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return ctx.Err()
		case <-tick.C:
		}
		asking, cancel := context.WithTimeout(ctx, commitTimeout)
		live, err := migrations.Live(asking, s.p.cfg.Pool)
		cancel()
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return err
		case live.Number != s.generation:
			return errReplaced
		}
	}
}

// firstCheckpoints registers the partitions that a generation does not know yet: at
// next, or their beginning, with what was taken over up to copied.
func firstCheckpoints(ctx context.Context, db migrations.DB, generation int, ranges map[eventlog.TopicPartition]eventlog.Range, next, copied eventlog.Offsets) error {
	var names []string
	var partitions []int32
	var from, until []int64
	for tp := range ranges {
		names, partitions = append(names, tp.Topic), append(partitions, tp.Partition)
		from, until = append(from, next[tp]), append(until, copied[tp])
	}
	_, err := db.Exec(ctx, `INSERT INTO myspinbot.checkpoints (generation, topic, partition, next_offset, copied_until)
		SELECT $1, t, p, n, c FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[]) AS r (t, p, n, c) ORDER BY t, p
		ON CONFLICT DO NOTHING`, generation, names, partitions, from, until)
	if hasCode(err, "23503") { // foreign_key_violation: the generation is gone
		return errReplaced
	}
	if err != nil {
		return fmt.Errorf("cannot write the first checkpoints: %w", err)
	}
	return nil
}

// buildable says whether a new generation mends what is wrong with the tables.
func buildable(err error) bool {
	return errors.Is(err, migrations.ErrNoGeneration) || errors.Is(err, migrations.ErrDamaged) || errors.Is(err, migrations.ErrOtherShape)
}

// heal builds the generation that is missing, and switches to it.
func (p *Projector) heal(ctx context.Context, why error) error {
	p.trouble(fmt.Errorf("the tables are being built from the log: %w", why))
	defer p.building(Progress{})
	_, err := rebuild(ctx, p, RebuildOptions{Report: p.building})
	return err
}

func (p *Projector) building(now Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.status.Building = now
}

// trouble notes why nothing moves (nil: all is well) and logs the change.
func (p *Projector) trouble(err error) {
	p.mu.Lock()
	before := p.status.Trouble
	p.status.Trouble = ""
	if err != nil {
		p.status.Trouble = err.Error()
	}
	p.mu.Unlock()
	switch {
	case err != nil && before == "":
		p.cfg.Logger.Warn("the tables are not kept up to date; trying again", "error", err)
	case err == nil && before != "":
		p.cfg.Logger.Info("the tables are kept up to date again")
	}
}

// note publishes where a session stands.
func (p *Projector) note(generation int, at eventlog.Offsets, stopped map[eventlog.TopicPartition]string, c Counts) {
	list := make([]PartitionStatus, 0, len(at))
	for _, tp := range sorted(at) {
		list = append(list, PartitionStatus{Topic: tp.Topic, Partition: tp.Partition, Next: at[tp], Stopped: stopped[tp]})
	}
	p.mu.Lock()
	p.status.Generation, p.status.Partitions = generation, list
	p.status.Counts.add(c)
	p.mu.Unlock()
	p.metrics.note(c, len(stopped))
}

func sorted(o eventlog.Offsets) []eventlog.TopicPartition {
	keys := make([]eventlog.TopicPartition, 0, len(o))
	for tp := range o {
		keys = append(keys, tp)
	}
	slices.SortFunc(keys, func(a, b eventlog.TopicPartition) int {
		if a.Topic != b.Topic {
			if a.Topic < b.Topic {
				return -1
			}
			return 1
		}
		return int(a.Partition - b.Partition)
	})
	return keys
}
