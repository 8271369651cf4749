// The handler: what it is made of, and the state it keeps for each partition.

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

// Group is the consumer group of all handlers.
const Group = "handler"

// Inputs are the topics that a handler decides on, and Journals those that show
// how far it came.
func Inputs() []string {
	return []string{events.TopicJobCommands, events.TopicTaskEvents, events.TopicProfileCommands}
}

// Journals are the topics whose records name the inputs they were decided from.
func Journals() []string { return []string{events.TopicJobEvents, events.TopicProfileEvents} }

// Config is what a handler needs.
type Config struct {
	Log        *eventlog.Log
	Policy     aggregates.Policy
	Lanes      map[string]int // partitions of each lane's topic
	Registerer prometheus.Registerer
	Logger     *slog.Logger     // default slog.Default
	Now        func() time.Time // default time.Now; the clock and the workers' silence go by it
}

// Handler decides for the partitions it owns. It implements eventlog.State, and
// its Handle is the message.HandlerFunc that runs inside the transactions.
type Handler struct {
	cfg     Config
	replay  replay
	dir     *directory
	metrics *metrics

	mu    sync.Mutex // the clock reads what the runner writes
	parts map[int32]*partition
}

// replay is eventlog.Log.Replay.
type replay func(ctx context.Context, at eventlog.TopicPartition, from int64, fn func([]eventlog.Record) error) (int64, error)

// New makes a handler that owns nothing yet.
func New(cfg Config) (*Handler, error) {
	if cfg.Log == nil || len(cfg.Lanes) == 0 {
		return nil, errors.New("cannot make a handler without a log and lanes")
	}
	if cfg.Policy.MaxAttempts < 1 {
		cfg.Policy = aggregates.DefaultPolicy()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	h := &Handler{cfg: cfg, replay: cfg.Log.Replay, dir: newDirectory(cfg.Now), parts: map[int32]*partition{}, metrics: newMetrics()}
	if cfg.Registerer != nil {
		for _, c := range h.metrics.collectors() {
			if err := cfg.Registerer.Register(c); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// partition is the state of one partition number: the live jobs and all profiles
// as committed, and over them what the open transaction has decided.
type partition struct {
	jobs     map[string]*liveJob
	profiles map[string]aggregates.Profile
	ended    map[string]indexEntry // finished jobs, so that no old command starts one again

	// started lists live jobs in the order they began; finished heads are dropped lazily.
	started []*liveJob
	end     int64     // offset after the last own record in jobs.events
	lastAt  time.Time // of the newest fact: occurred_at never decreases in a partition

	open overlay
}

// liveJob is a job with the offset of its first fact in jobs.events.
type liveJob struct {
	aggregates.Job
	first int64
	// clocked is the deadline that the clock has already put on the log, so that it
	// is written once; it is no part of the decision.
	clocked map[deadlineKey]bool
}

// overlay is what was decided since the last commit.
type overlay struct {
	jobs     map[string]aggregates.Job
	profiles map[string]aggregates.Profile
	lastAt   time.Time
	facts    []decided
}

// decided is a fact with the state after it, to be told about once it is committed.
type decided struct {
	job  aggregates.Job
	fact events.Message
}

// indexEntry is a record of jobs.index: how a job ended. The topic is a cache of
// jobs.events, compacted by job id.
type indexEntry struct {
	Status      string `json:"status"`
	Version     int64  `json:"version"`
	LastEventID string `json:"last_event_id"`
	BodyDigest  string `json:"body_digest,omitempty"`
}

func newPartition() *partition {
	return &partition{jobs: map[string]*liveJob{}, profiles: map[string]aggregates.Profile{}, ended: map[string]indexEntry{}}
}

func (p *partition) job(id string) (aggregates.Job, bool) {
	if j, ok := p.open.jobs[id]; ok {
		return j, true
	}
	if j, ok := p.jobs[id]; ok {
		return j.Job, true
	}
	_, ended := p.ended[id]
	return aggregates.Job{}, !ended
}

func (p *partition) profile(id string) aggregates.Profile {
	if f, ok := p.open.profiles[id]; ok {
		return f
	}
	return p.profiles[id]
}

// at is the time of a decision: the command's own, but not before an earlier fact.
func (p *partition) at(m events.Message) time.Time {
	last := p.lastAt
	if p.open.lastAt.After(last) {
		last = p.open.lastAt
	}
	if m.OccurredAt.Before(last) {
		return last
	}
	return m.OccurredAt
}

// oldest is the offset of the oldest live job's first fact, from where recovery
// starts; without live jobs it is the end.
func (p *partition) oldest() int64 {
	for len(p.started) > 0 && p.jobs[p.started[0].ID] != p.started[0] {
		p.started = p.started[1:]
	}
	if len(p.started) == 0 {
		return p.end
	}
	return p.started[0].first
}
