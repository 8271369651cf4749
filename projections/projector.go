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
)

// Config is what a projector works with. Log and Pool are required.
type Config struct {
	Log  *eventlog.Log
	Pool *pgxpool.Pool // two connections are enough
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

// cursor reads on from a position.
type cursor interface {
	Poll(ctx context.Context, max int) (eventlog.Batch, error)
	Close()
}

// wholeLog is the log itself as a source.
type wholeLog struct{ *eventlog.Log }

func (l wholeLog) reader(from eventlog.Offsets) (cursor, error) { return l.NewReader(from) }

// topics are what the tables are made from.
func topics() []string { return []string{events.TopicJobEvents, events.TopicProfileEvents} }

// commitTimeout bounds one transaction, so that a PostgreSQL that hangs counts as away.
const commitTimeout = time.Minute

// errReached ends a run with a goal.
var errReached = errors.New("the goal is reached")

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
	Generation int    // whose tables it fills; 0 before the first contact with PostgreSQL
	Trouble    string // why nothing moves at present; empty while all is well
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

// Run works until ctx ends, then returns nil. It makes missing tables and fills
// them from the start of the log. While PostgreSQL or the log is away it tries
// again, from every 50 ms to every 2 s, and says so in Status.
func (p *Projector) Run(ctx context.Context) error {
	_ = p.run(ctx, nil, nil) // without a goal it ends with ctx alone
	return nil
}

// run works until ctx ends, or until every partition has reached the goal or has
// stopped; then it returns errReached. report, if given, is told every position.
func (p *Projector) run(ctx context.Context, goal eventlog.Offsets, report func(eventlog.Offsets)) error {
	const least, most = 50 * time.Millisecond, 2 * time.Second
	for delay := least; ; delay = min(2*delay, most) {
		s := &session{p: p, goal: goal, report: report}
		err := s.run(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errReached):
			return err
		case errors.Is(err, errFenced):
			// The other projector is at work; there is no hurry to compete with it.
			delay = least + rand.N(4*least)
		case s.progressed:
			delay = least
			p.trouble(err)
		default:
			p.trouble(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(delay):
		}
	}
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

// Progress is how far a rebuild has come, in offsets of the log (markers count).
type Progress struct {
	Done, Total int64
}

// Rebuild throws the live tables away, makes them in this program's shape and
// fills them from the log, up to its end as of the call. Readers see the tables
// grow. A projector that runs meanwhile takes part, and goes on from there
// afterwards. An interrupted rebuild is finished by the next projector. report, if
// given, is called after every batch. A partition that cannot be read is an error,
// after the others are done.
func Rebuild(ctx context.Context, cfg Config, report func(Progress)) error {
	return rebuild(ctx, newProjector(cfg, wholeLog{cfg.Log}), report)
}

func rebuild(ctx context.Context, p *Projector, report func(Progress)) error {
	ranges, err := p.log.Ranges(ctx, topics()...)
	if err != nil {
		return fmt.Errorf("cannot rebuild the tables: %w", err)
	}
	goal, all := make(eventlog.Offsets), Progress{}
	for tp, r := range ranges {
		goal[tp] = r.Stable
		all.Total += r.Stable
	}
	if err := reset(ctx, p.cfg.Pool); err != nil {
		return err
	}
	told := func(at eventlog.Offsets) {
		now := Progress{Total: all.Total}
		for tp, end := range goal {
			now.Done += min(at[tp], end)
		}
		if report != nil {
			report(now)
		}
	}
	if err := p.run(ctx, goal, told); !errors.Is(err, errReached) {
		return fmt.Errorf("cannot finish the rebuild: %w", err)
	}
	var stopped []error
	for _, ps := range p.Status().Partitions {
		if ps.Stopped != "" {
			stopped = append(stopped, errors.New(ps.Stopped))
		}
	}
	if err := errors.Join(stopped...); err != nil {
		return fmt.Errorf("cannot rebuild all of the tables: %w", err)
	}
	return nil
}
