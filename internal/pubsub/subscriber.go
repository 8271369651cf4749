// The subscriber.

package pubsub

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

var errNacked = errors.New("the handler asks for the message again")

// SubscriberConfig says as whom to subscribe.
type SubscriberConfig struct {
	Group string        // members of a group share its messages
	Retry time.Duration // the pause before a message that was not acknowledged comes again; default 100 ms
	Log   *slog.Logger  // default slog.Default
}

// Subscriber reads messages as a member of a group: each partition in order, and
// several at once. A message is committed after its Ack; after a Nack it comes
// again before any later one of its partition. Its context ends when its partition
// is taken away.
type Subscriber struct {
	log    *eventlog.Log
	cfg    SubscriberConfig
	ctx    context.Context // ends on Close
	cancel context.CancelFunc

	mu   sync.Mutex
	subs sync.WaitGroup
}

// NewSubscriber makes a subscriber. The log stays the caller's to close.
func NewSubscriber(l *eventlog.Log, cfg SubscriberConfig) (*Subscriber, error) {
	if cfg.Group == "" {
		return nil, errors.New("cannot subscribe without a group")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	s := &Subscriber{log: l, cfg: cfg}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Subscribe joins the group for a topic. A group that is new starts at the topic's
// beginning. The channel is closed when ctx or the subscriber ends, or when the log
// has lost records, which is logged.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	out := make(chan *message.Message)
	s.subs.Go(func() {
		defer cancel()
		defer stop()
		defer close(out)
		err := s.log.Consume(ctx, eventlog.ConsumerConfig{
			Group: s.cfg.Group, Topics: []string{topic}, Retry: s.cfg.Retry,
			Handle: func(ctx context.Context, r eventlog.Record) error { return deliver(ctx, r, out) },
		})
		if err != nil {
			s.cfg.Log.Error("a subscription has ended", "topic", topic, "group", s.cfg.Group, "error", err)
		}
	})
	return out, nil
}

// deliver hands one message out and waits for its answer.
func deliver(ctx context.Context, r eventlog.Record, out chan<- *message.Message) error {
	m := Message(r)
	msgCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.SetContext(msgCtx)
	select {
	case out <- m:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-m.Acked():
		return nil
	case <-m.Nacked():
		return errNacked
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close ends every subscription and waits until what was acknowledged is committed.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.subs.Wait()
	return nil
}
