// Running a handler: the deciding path inside the transaction runner, the
// directory and the clock beside it.

package handlers

import (
	"context"

	"github.com/ThreeDotsLabs/watermill/message"
	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/pubsub"
)

// Run decides until ctx ends. It returns eventlog.ErrFenced when another process
// has taken over its name.
func (h *Handler) Run(ctx context.Context) error {
	runner, err := h.cfg.Log.NewRunner(eventlog.RunnerConfig{
		Group: Group, Topics: Inputs(), Journals: Journals(),
		Decider: pubsub.NewDecider(h, h.Handle),
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return h.dir.run(ctx, h.cfg.Log) })
	g.Go(func() error { h.runClock(ctx); return nil })
	g.Go(func() error { return runner.Run(ctx) })
	return g.Wait()
}

// Handle is the message.HandlerFunc of the deciding path: one input in, the
// records of its transaction out.
func (h *Handler) Handle(in *message.Message) ([]*message.Message, error) {
	record, err := pubsub.Record(in)
	if err != nil {
		return nil, err
	}
	out, err := h.decide(record)
	if err != nil {
		return nil, err
	}
	messages := make([]*message.Message, len(out))
	for i, r := range out {
		messages[i] = pubsub.Message(r)
	}
	return messages, nil
}
