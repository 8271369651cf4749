// The core: every decision of a handler and the state it goes by, without a log,
// goroutines or a clock of its own, so that a simulation drives the very same code.

package handlers

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Replay reads a partition from an offset to its end, which it returns, as
// eventlog.Log.Replay does.
type Replay func(ctx context.Context, at eventlog.TopicPartition, from int64, fn func([]eventlog.Record) error) (int64, error)

// CoreConfig is what a core needs.
type CoreConfig struct {
	Policy aggregates.Policy // default aggregates.DefaultPolicy
	Lanes  map[string]int    // partitions of each lane's topic
	Replay Replay
	// CarryAfter is how far a live job's start may lie behind the end of its partition,
	// in offsets, before the job is carried forward. It bounds what recovery reads.
	// Default 10,000; with many live jobs it is four offsets for each of them, if that is more.
	CarryAfter int64
	// Archive is how long after its end a job is told apart from others that have
	// ended. Later it is known only as one that was. Default 30 days.
	Archive time.Duration
	Logger  *slog.Logger     // default slog.Default
	Now     func() time.Time // default time.Now; the workers' silence and new leases go by it
}

func (cfg *CoreConfig) fill() {
	if cfg.Policy.MaxAttempts < 1 {
		cfg.Policy = aggregates.DefaultPolicy()
	}
	if cfg.CarryAfter < 1 {
		cfg.CarryAfter = 10_000
	}
	if cfg.Archive <= 0 {
		cfg.Archive = 30 * 24 * time.Hour
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
}

// Core decides for the partitions it holds. It implements eventlog.State. Decide and
// the calls of eventlog.State come from one goroutine, but Recover, which may run for
// several partitions at once and beside none of the others. Due, GiveBack, Learn, Beat,
// BeatsCurrent and Live may run beside all of them.
type Core struct {
	cfg     CoreConfig
	dir     *directory
	metrics *metrics
	places  places // the deciding goroutine's own; changed under mu by what may run for several partitions at once

	// mu is held where that goroutine changes what the others read, and where the
	// others read or change it. What only the deciding goroutine writes it reads freely.
	mu     sync.Mutex
	parts  map[int32]*partition
	beats  beatsTail
	hot    hot
	common *common
}

// NewCore makes a core that holds no partition yet.
func NewCore(cfg CoreConfig) (*Core, error) {
	if cfg.Replay == nil || len(cfg.Lanes) == 0 {
		return nil, errors.New("cannot make a handler's core without lanes and a way to replay the log")
	}
	cfg.fill()
	common := newCommon()
	return &Core{cfg: cfg, dir: newDirectory(cfg.Now), metrics: newMetrics(), places: newPlaces(cfg.Lanes), parts: map[int32]*partition{},
		hot: hot{common: common, most: mostHot}, common: common}, nil
}

// Collectors are the core's metrics, for the caller's registry.
func (c *Core) Collectors() []prometheus.Collector { return c.metrics.collectors() }

// Learn takes records of events.TopicWorkers and events.TopicProfileEvents, both
// whole and in order.
func (c *Core) Learn(records []eventlog.Record) { c.dir.apply(records) }

// Live counts the live jobs of the partitions held now.
func (c *Core) Live() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, p := range c.parts {
		n += len(p.jobs)
	}
	return n
}

// surroundings gathers what a decision depends on beside the state.
func (c *Core) surroundings(p *partition, m events.Message) aggregates.Surroundings {
	s := aggregates.Surroundings{At: p.at(m), Policy: c.cfg.Policy, Place: c.places.place}
	known := c.dir.workersNow()
	s.Engines, s.Fleet = known.engines, known.fleet
	if cmd, ok := m.Data.(events.JobSubmit); ok {
		s.Gaps, s.Rooms = known.gaps, known.rooms
		profile := c.dir.profile(m.Tenant, cmd.Request.ProfileID)
		if s.Barred = profile.Barred(cmd.Request.Mode); cmd.Request.Mode == aggregates.ModeGenerateFromProfile {
			s.Profile = profile.Snapshot()
		}
	}
	return s
}

var _ eventlog.State = (*Core)(nil)
