// The handler: the core inside the transaction runner, with the directory, the
// clock and the beats beside it.

package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/pubsub"
)

// Group is the consumer group of all handlers.
const Group = "handler"

// tick is how often deadlines are looked at; they are seconds to hours long.
const tick = 250 * time.Millisecond

// frozen is a gap between two ticks that says that this process stood still.
const frozen = 4 * tick

// Inputs are the topics that a handler decides on, and Journals those that show
// how far it came.
func Inputs() []string {
	return []string{events.TopicJobCommands, events.TopicTaskEvents, events.TopicProfileCommands}
}

// Journals are the topics whose records name the inputs they were decided from.
// Replies are among them because a refused command leaves nothing else: decided
// again, after the group's offsets are lost, it might be accepted.
func Journals() []string {
	return []string{events.TopicJobEvents, events.TopicProfileEvents, events.TopicJobReplies}
}

// Config is what a handler needs.
type Config struct {
	Log        *eventlog.Log
	Policy     aggregates.Policy
	Lanes      map[string]int // partitions of each lane's topic
	CarryAfter int64          // see CoreConfig
	Archive    time.Duration  // see CoreConfig
	Registerer prometheus.Registerer
	Logger     *slog.Logger     // default slog.Default
	Now        func() time.Time // default time.Now; the clock and the workers' silence go by it
}

// Handler decides for the partitions that the group gives it.
type Handler struct {
	*Core
	log   *eventlog.Log
	known chan struct{} // closed when everything written before the start is known
}

// New makes a handler that owns nothing yet.
func New(cfg Config) (*Handler, error) {
	if cfg.Log == nil {
		return nil, errors.New("cannot make a handler without a log")
	}
	core, err := NewCore(CoreConfig{Policy: cfg.Policy, Lanes: cfg.Lanes, Replay: cfg.Log.ReplayBare, CarryAfter: cfg.CarryAfter, Archive: cfg.Archive,
		Logger: cfg.Logger, Now: cfg.Now})
	if err != nil {
		return nil, err
	}
	if cfg.Registerer != nil {
		for _, c := range core.Collectors() {
			if err := cfg.Registerer.Register(c); err != nil {
				return nil, err
			}
		}
	}
	return &Handler{Core: core, log: cfg.Log, known: make(chan struct{})}, nil
}

// Run decides until ctx ends. It returns eventlog.ErrFenced when another process
// has taken over its name.
func (h *Handler) Run(ctx context.Context) error {
	runner, err := h.log.NewRunner(eventlog.RunnerConfig{
		Group: Group, Topics: Inputs(), Journals: Journals(),
		Decider: pubsub.NewRecordDecider(h, func(_ context.Context, in eventlog.Record) ([]eventlog.Record, error) { return h.Decide(in) }),
		Patient: patient,
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.follow(ctx) })
	g.Go(func() error { h.runClock(ctx); return nil })
	g.Go(func() error { return h.listen(ctx) })
	g.Go(func() error { h.log.EndHanging(ctx, append(Journals(), events.TopicTaskEvents)...); return nil })
	g.Go(func() error { return runner.Run(ctx) })
	return g.Wait()
}

// patient: that a task has begun leads to nothing. Of a short task the result comes in
// a moment, and both are decided in one transaction.
func patient(in eventlog.Record) bool {
	return in.Header(events.HeaderType) == events.TaskAccepted{}.EventType()
}

// Recover waits for the workers and profiles, and then recovers as the core does:
// a plan that knew of no worker would be refused.
func (h *Handler) Recover(ctx context.Context, n int32, meta string) error {
	select {
	case <-h.known:
		return h.Core.Recover(ctx, n, meta)
	case <-ctx.Done():
		return fmt.Errorf("workers and profiles were not read in time: %w", ctx.Err())
	}
}

// follow keeps the directory up to date until ctx ends.
func (h *Handler) follow(ctx context.Context) error {
	from := h.log.Whole(events.TopicWorkers, events.TopicProfileEvents)
	return h.log.Tail(ctx, from, func(b eventlog.Batch) error { h.Learn(b.Records); return nil }, func() { close(h.known) })
}

// listen follows the beats of running attempts until ctx ends.
func (h *Handler) listen(ctx context.Context) error {
	return h.log.Watch(ctx, []string{events.TopicTaskProgress}, func(b eventlog.Batch) error {
		now := h.cfg.Now()
		for _, r := range b.Records {
			h.Beat(r, now)
		}
		return nil
	}, func(current bool) { h.BeatsCurrent(current, h.cfg.Now()) })
}

// runClock writes due commands until ctx ends.
func (h *Handler) runClock(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	last := h.cfg.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			now := h.cfg.Now()
			if now.Sub(last) > frozen { // the beats of that time are still unread
				h.restartLeases(now)
			}
			last = now
			h.writeDue(ctx)
		}
	}
}

// most is how many commands are written at once.
const most = 500

func (h *Handler) writeDue(ctx context.Context) {
	for due := range slices.Chunk(h.Due(h.cfg.Now()), most) {
		err := h.log.Produce(ctx, due...)
		if err == nil {
			continue
		}
		h.cfg.Logger.Warn("the clock's commands could not be written; they are due again", "commands", len(due), "error", err)
		for _, r := range due { // some may lie there: the second of two is void
			h.GiveBack(r)
		}
	}
}

var _ eventlog.State = (*Handler)(nil)
