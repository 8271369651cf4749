// Watermill handlers inside the log's own consumers: decisions in the transaction
// runner, tasks in the lanes.

package pubsub

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// reportPause lies between two tries to report.
const reportPause = 200 * time.Millisecond

// Wrap puts middlewares around a handler, the first outermost.
func Wrap(h message.HandlerFunc, middlewares ...message.HandlerMiddleware) message.HandlerFunc {
	for i := len(middlewares) - 1; i >= 0; i-- {
		h = middlewares[i](h)
	}
	return h
}

// Decider is a handler with its state, for the transaction runner.
type Decider struct {
	eventlog.State
	handler message.HandlerFunc
}

// NewDecider makes a handler a decider: each input is a message, and the messages
// that it returns (topic and key in their metadata) are written in the input's
// transaction. An error ends the runner, but one that wraps
// eventlog.ErrUndecodable sends the input to the dead letters. A panic is an error.
// Acks mean nothing here.
func NewDecider(state eventlog.State, h message.HandlerFunc, middlewares ...message.HandlerMiddleware) *Decider {
	return &Decider{State: state, handler: middleware.Recoverer(Wrap(h, middlewares...))}
}

// Decide runs the handler.
func (d *Decider) Decide(ctx context.Context, in eventlog.Record) ([]eventlog.Record, error) {
	m := Message(in)
	m.SetContext(ctx)
	out, err := d.handler(m)
	if err != nil {
		return nil, err
	}
	return records(out)
}

// Task makes a handler what a lane runs: the messages that it returns are written
// when it has ended, for as long as that takes, so that a worker without a broker
// reports later. What failed returns is written instead when the handler has
// returned an error or panicked.
func Task(l *eventlog.Log, h message.HandlerFunc, failed func(cmd eventlog.Record, err error) []eventlog.Record, middlewares ...message.HandlerMiddleware) func(context.Context, eventlog.Record) error {
	h = middleware.Recoverer(Wrap(h, middlewares...))
	return func(ctx context.Context, cmd eventlog.Record) error {
		m := Message(cmd)
		m.SetContext(ctx)
		var out []eventlog.Record
		answers, err := h(m)
		if err == nil {
			out, err = records(answers)
		}
		if err != nil {
			out = failed(cmd, err)
		}
		return report(ctx, l, out)
	}
}

// report writes until it succeeds; once ctx has ended it tries a last time.
func report(ctx context.Context, l *eventlog.Log, out []eventlog.Record) error {
	for {
		last := ctx.Err() != nil
		err := l.Produce(context.WithoutCancel(ctx), out...)
		if err == nil {
			return nil
		}
		if last || !errors.Is(err, eventlog.ErrUnavailable) {
			return fmt.Errorf("cannot report what came of a command: %w", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(reportPause):
		}
	}
}
