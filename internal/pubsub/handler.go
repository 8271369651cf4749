// Watermill handlers inside the log's own consumers: decisions in the transaction
// runner, tasks in the lanes.

package pubsub

import (
	"context"
	"runtime/debug"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

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
	decide RecordFunc
}

// RecordFunc is a handler of records, without the form of messages around them.
type RecordFunc func(ctx context.Context, in eventlog.Record) ([]eventlog.Record, error)

// NewRecordDecider is NewDecider for a handler that needs no middleware: the maps of
// four answers and their input cost more than most decisions (BenchmarkDecide).
func NewRecordDecider(state eventlog.State, f RecordFunc) *Decider {
	return &Decider{State: state, decide: recovering(f)}
}

// recovering makes a panic an error.
func recovering(f RecordFunc) RecordFunc {
	return func(ctx context.Context, in eventlog.Record) (out []eventlog.Record, err error) {
		defer func() {
			if v := recover(); v != nil {
				out, err = nil, middleware.RecoveredPanicError{V: v, Stacktrace: string(debug.Stack())}
			}
		}()
		return f(ctx, in)
	}
}

// NewDecider makes a handler a decider: each input is a message, and the messages
// that it returns (topic and key in their metadata) are written in the input's
// transaction. An error ends the runner, but one that wraps
// eventlog.ErrUndecodable sends the input to the dead letters. A panic is an error.
// Acks mean nothing here.
func NewDecider(state eventlog.State, h message.HandlerFunc, middlewares ...message.HandlerMiddleware) *Decider {
	h = middleware.Recoverer(Wrap(h, middlewares...))
	return &Decider{State: state, decide: func(ctx context.Context, in eventlog.Record) ([]eventlog.Record, error) {
		m := Message(in)
		m.SetContext(ctx)
		out, err := h(m)
		if err != nil {
			return nil, err
		}
		return records(out)
	}}
}

// Decide runs the handler.
func (d *Decider) Decide(ctx context.Context, in eventlog.Record) ([]eventlog.Record, error) {
	return d.decide(ctx, in)
}

// Task makes a handler what a lane runs: the messages that it returns are what the lane
// writes. What failed returns is written instead when the handler has returned an error
// or panicked.
func Task(h message.HandlerFunc, failed func(cmd eventlog.Record, err error) []eventlog.Record, middlewares ...message.HandlerMiddleware) RecordFunc {
	h = Wrap(h, middlewares...)
	return RecordTask(func(ctx context.Context, cmd eventlog.Record) ([]eventlog.Record, error) {
		m := Message(cmd)
		m.SetContext(ctx)
		answers, err := h(m)
		if err != nil {
			return nil, err
		}
		return records(answers)
	}, failed)
}

// RecordTask is Task for a handler that needs no middleware.
func RecordTask(f RecordFunc, failed func(cmd eventlog.Record, err error) []eventlog.Record) RecordFunc {
	f = recovering(f)
	return func(ctx context.Context, cmd eventlog.Record) ([]eventlog.Record, error) {
		out, err := f(ctx, cmd)
		if err != nil {
			out = failed(cmd, err)
		}
		return out, nil
	}
}
