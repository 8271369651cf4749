// The publisher.

package pubsub

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// ErrClosed says that the publisher or subscriber has been closed.
var ErrClosed = errors.New("closed")

// Publisher writes messages to the log.
type Publisher struct {
	log    *eventlog.Log
	closed atomic.Bool
}

// NewPublisher makes a publisher. The log stays the caller's to close.
func NewPublisher(l *eventlog.Log) *Publisher { return &Publisher{log: l} }

// Publish writes the messages in order and returns when all replicas have them. The
// partition follows from the metadata's key, as everywhere on the log. An error may
// leave some written; eventlog.ErrUnavailable says that it is not known.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	if p.closed.Load() {
		return ErrClosed
	}
	if len(messages) == 0 {
		return nil
	}
	out := make([]eventlog.Record, 0, len(messages))
	for _, m := range messages {
		c := m.Copy()
		c.Metadata.Set(MetaTopic, topic)
		delete(c.Metadata, MetaOffset) // of a message that is passed on
		r, err := Record(c)
		if err != nil {
			return err
		}
		out = append(out, r)
	}
	// The contexts of the messages say how long somebody waits for each, not for all.
	return p.log.Produce(context.WithoutCancel(messages[0].Context()), out...)
}

// Close refuses further messages; none is pending between calls.
func (p *Publisher) Close() error {
	p.closed.Store(true)
	return nil
}
