// Watermill's own suite over a broker in memory.

package pubsub_test

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/internal/pubsub"
)

// broker is one broker with what the suite needs around it.
type broker struct {
	cfg     eventlog.Config
	log     *eventlog.Log
	network *eventlogtest.Network
	groups  atomic.Int64
}

func start(t *testing.T) *broker {
	_, cfg := eventlogtest.Fake(t)
	b := &broker{network: new(eventlogtest.Network)}
	cfg.Dial = b.network.Dial
	cfg.ProduceTimeout = 10 * time.Second
	b.cfg, b.log = cfg, eventlogtest.Open(t, cfg)
	return b
}

func (b *broker) connect(t *testing.T, group string) (message.Publisher, message.Subscriber) {
	sub, err := pubsub.NewSubscriber(b.log, pubsub.SubscriberConfig{Group: group, Retry: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return keyed{pubsub.NewPublisher(b.log)}, creating{sub, b.cfg}
}

// The suite's TestReconnect is left out: it compares what it received with a list
// that another goroutine of it may not have finished (Watermill 1.5.1).
// TestOutage is in its place.
func TestWatermillSuite(t *testing.T) {
	b := start(t)
	tests.TestPubSub(t, tests.Features{
		ConsumerGroups:  true,
		GuaranteedOrder: true,
		Persistent:      true,
	}, func(t *testing.T) (message.Publisher, message.Subscriber) { return b.connect(t, "tests") }, b.connect)
}

// A subscriber of a new group receives what others have consumed before.
func TestWatermillNewSubscriber(t *testing.T) {
	b := start(t)
	tests.TestNewSubscriberReceivesOldMessages(t, tests.TestContext{
		TestID: tests.NewTestID(), Features: tests.Features{NewSubscriberReceivesOldMessages: true},
	}, func(t *testing.T) (message.Publisher, message.Subscriber) {
		return b.connect(t, "group-"+strconv.FormatInt(b.groups.Add(1), 10))
	})
}

func TestOutage(t *testing.T) {
	t.Parallel()
	const count, publishers = 2000, 20
	b := start(t)
	pub, sub := b.connect(t, "outage")
	if err := sub.(creating).SubscribeInitialize("outage"); err != nil {
		t.Fatal(err)
	}
	messages, err := sub.Subscribe(t.Context(), "outage")
	if err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	for range publishers {
		go func() {
			for i := sent.Add(1); i <= count; i = sent.Add(1) {
				if i == count/3 || i == count/2 {
					b.network.Cut()
					time.AfterFunc(300*time.Millisecond, b.network.Mend)
				}
				m := message.NewMessage(strconv.FormatInt(i, 10), []byte(strconv.FormatInt(i, 10)))
				for pub.Publish("outage", m) != nil {
					b.network.Mend()
				}
			}
		}()
	}
	received := make(map[string]bool)
	deadline := time.After(eventlogtest.Patience)
	for len(received) < count {
		select {
		case m := <-messages:
			received[m.UUID] = true
			m.Ack()
		case <-deadline:
			t.Fatalf("%d of %d messages came", len(received), count)
		}
	}
	if err := sub.Close(); err != nil {
		t.Error(err)
	}
	if _, err := sub.Subscribe(t.Context(), "outage"); !errors.Is(err, pubsub.ErrClosed) {
		t.Errorf("subscribing after the end: %v", err)
	}
}

// keyed keys messages by their payload: the suite expects order among equal ones.
type keyed struct{ *pubsub.Publisher }

func (k keyed) Publish(topic string, ms ...*message.Message) error {
	for _, m := range ms {
		m.Metadata.Set(pubsub.MetaKey, "payload "+string(m.Payload))
	}
	return k.Publisher.Publish(topic, ms...)
}

// creating makes the topic before the suite uses it; the log itself never does.
type creating struct {
	*pubsub.Subscriber
	cfg eventlog.Config
}

func (c creating) SubscribeInitialize(topic string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.cfg.Brokers...))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err = kadm.NewClient(cl).CreateTopic(ctx, 4, 1, nil, "myspinbot."+topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}
