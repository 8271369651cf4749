// Messages and records, and handlers in the transaction runner and in lanes.

package pubsub_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/internal/pubsub"
)

func TestRecordsSurviveTheWayThroughMessages(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z_]{1,8}`)
		want := eventlog.Record{
			Topic: "t", Partition: rapid.Int32Range(0, 99).Draw(t, "partition"), Offset: rapid.Int64Range(0, 1e12).Draw(t, "offset"),
			Key: "k" + rapid.String().Draw(t, "key"), Value: []byte(rapid.String().Draw(t, "value")),
		}
		headers := rapid.MapOf(name, rapid.String()).Draw(t, "headers")
		headers["ce_id"] = "id-1"
		for _, k := range slices.Sorted(maps.Keys(headers)) {
			want.Headers = append(want.Headers, eventlog.Header{Key: k, Value: headers[k]})
		}
		m := pubsub.Message(want)
		got, err := pubsub.Record(m)
		if err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(got.Headers, func(a, b eventlog.Header) int { return strings.Compare(a.Key, b.Key) })
		slices.SortFunc(want.Headers, func(a, b eventlog.Header) int { return strings.Compare(a.Key, b.Key) })
		if m.UUID != "id-1" || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
			t.Fatalf("message %q gives\n%+v, want\n%+v", m.UUID, got, want)
		}
	})
}

func TestMessagesWithoutATopicAreRefused(t *testing.T) {
	t.Parallel()
	m := message.NewMessage("m1", nil)
	if _, err := pubsub.Record(m); err == nil || !strings.Contains(err.Error(), pubsub.MetaTopic) {
		t.Errorf("without a topic: %v", err)
	}
	m.Metadata[pubsub.MetaTopic] = "t"
	if r, err := pubsub.Record(m); err != nil || r.Key != "m1" || r.Header("ce_id") != "m1" {
		t.Errorf("without a key: %+v, %v; want the id as the key", r, err)
	}
	m.Metadata[pubsub.MetaPartition] = "one"
	if _, err := pubsub.Record(m); err == nil || !strings.Contains(err.Error(), `"one"`) {
		t.Errorf("with a wrong partition: %v", err)
	}
}

// noState is a decider's state that remembers nothing.
type noState struct{}

func (noState) Recover(context.Context, int32, string) error { return nil }
func (noState) Meta(int32, []eventlog.Record) string         { return "" }
func (noState) Committed(int32, []eventlog.Record)           {}
func (noState) Drop(int32)                                   {}

func answer(topic, key, text string) *message.Message {
	m := message.NewMessage("", []byte(text))
	m.Metadata[pubsub.MetaTopic], m.Metadata[pubsub.MetaKey] = topic, key
	return m
}

func read(t *testing.T, l *eventlog.Log, topic string) (rs []eventlog.Record) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), eventlogtest.Patience)
	defer cancel()
	if _, err := l.Read(ctx, l.Whole(topic), func(b []eventlog.Record) error { rs = append(rs, b...); return nil }); err != nil {
		t.Fatal(err)
	}
	return rs
}

func TestHandlerInTheRunner(t *testing.T) {
	t.Parallel()
	_, cfg := eventlogtest.Fake(t)
	l := eventlogtest.Open(t, cfg)
	var seen []string
	handler := func(m *message.Message) ([]*message.Message, error) {
		seen = append(seen, m.Metadata[pubsub.MetaTopic]+" "+m.Metadata[pubsub.MetaKey])
		switch string(m.Payload) {
		case "bad":
			return nil, fmt.Errorf("%w: bad", eventlog.ErrUndecodable)
		case "panic":
			panic("at the wrong moment")
		}
		return message.Messages{answer(events.TopicJobEvents, m.Metadata[pubsub.MetaKey], "done "+string(m.Payload))}, nil
	}
	run := func() (done chan error, stop func()) {
		r, err := l.NewRunner(eventlog.RunnerConfig{
			Group: "g", Topics: []string{events.TopicJobCommands}, Decider: pubsub.NewDecider(noState{}, handler, middleware.CorrelationID),
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done = make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		return done, cancel
	}
	pub := pubsub.NewPublisher(l)
	send := func(text string) {
		m := message.NewMessage("id of "+text, []byte(text))
		m.Metadata[pubsub.MetaKey] = "job"
		middleware.SetCorrelationID("story", m)
		if err := pub.Publish(events.TopicJobCommands, m); err != nil {
			t.Fatal(err)
		}
	}
	send("one")
	send("bad")
	send("two")
	send("panic")
	done, stop := run()
	defer stop()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "at the wrong moment") {
			t.Errorf("a panic ended the runner with %v", err)
		}
	case <-time.After(eventlogtest.Patience):
		t.Fatal("a panic did not end the runner")
	}
	// It took down its transaction; with another handler everything goes on.
	handler = func(m *message.Message) ([]*message.Message, error) {
		return message.Messages{answer(events.TopicJobEvents, "job", "again "+string(m.Payload))}, nil
	}
	done, stop = run()
	eventlogtest.Eventually(t, eventlogtest.Patience, "every command is answered", func() bool {
		return len(read(t, l, events.TopicJobEvents))+len(read(t, l, events.TopicDeadLetters)) == 4
	})
	for _, r := range read(t, l, events.TopicJobEvents) {
		if r.Header(middleware.CorrelationIDMetadataKey) != "story" {
			t.Errorf("%s has the correlation id %q", r.Value, r.Header(middleware.CorrelationIDMetadataKey))
		}
	}
	if len(seen) == 0 || seen[0] != "jobs.commands job" {
		t.Errorf("the handler saw %v", seen)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("the runner ended with %v", err)
	}
}

func TestARecordHandlersPanicIsAnError(t *testing.T) {
	t.Parallel()
	d := pubsub.NewRecordDecider(noState{}, func(_ context.Context, in eventlog.Record) ([]eventlog.Record, error) {
		if len(in.Value) == 0 {
			panic("at the wrong moment")
		}
		return []eventlog.Record{in}, nil
	})
	if out, err := d.Decide(t.Context(), eventlog.Record{Key: "job", Value: []byte("x")}); err != nil || len(out) != 1 || out[0].Key != "job" {
		t.Errorf("decided %v, %v", out, err)
	}
	if out, err := d.Decide(t.Context(), eventlog.Record{}); out != nil || err == nil || !strings.Contains(err.Error(), "at the wrong moment") {
		t.Errorf("a panic gives %v, %v", out, err)
	}
}

func TestHandlerInALane(t *testing.T) {
	t.Parallel()
	task := pubsub.Task(func(m *message.Message) ([]*message.Message, error) {
		switch string(m.Payload) {
		case "fails":
			return nil, errors.New("no luck")
		case "panics":
			panic("at the wrong moment")
		}
		return message.Messages{answer(events.TopicTaskEvents, "job", "succeeded "+string(m.Payload))}, nil
	}, func(cmd eventlog.Record, err error) []eventlog.Record {
		sentence, _, _ := strings.Cut(err.Error(), "\n")
		return []eventlog.Record{{Topic: events.TopicTaskEvents, Key: "job", Value: []byte("failed " + string(cmd.Value) + ": " + sentence)}}
	})
	for text, want := range map[string]string{
		"works": "succeeded works", "fails": "failed fails: no luck", "panics": `failed panics: panic occurred: "at the wrong moment"`,
	} {
		out, err := task(t.Context(), eventlog.Record{Topic: "gpu.tts.commands", Key: "job", Value: []byte(text)})
		if err != nil || len(out) != 1 || !strings.HasPrefix(string(out[0].Value), want) {
			t.Errorf("%s: reports %v, %v; want %q", text, out, err, want)
		}
	}
}
