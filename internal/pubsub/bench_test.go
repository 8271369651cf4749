// What a decision costs around the handler.

package pubsub_test

import (
	"context"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/pubsub"
)

func BenchmarkDecide(b *testing.B) {
	in := eventlog.Record{
		Topic: events.TopicJobCommands, Partition: 3, Offset: 123456, Key: "0192f1a2-0000-7000-8000-000000000001", Value: make([]byte, 700),
		Headers: []eventlog.Header{
			{Key: "ce_id", Value: "0192f1a2-7a3b-7c4d-8e5f-001122334455"}, {Key: "ce_type", Value: "stage.scheduled"}, {Key: "ce_source", Value: "myspinbot"},
			{Key: "ce_specversion", Value: "1.0"}, {Key: "ce_time", Value: "2026-01-02T03:04:05.123456789Z"}, {Key: "ce_subject", Value: "0192f1a2"},
			{Key: "content-type", Value: "application/json"}, {Key: "traceparent", Value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		},
	}
	out := in
	out.Topic = events.TopicJobEvents
	messages := pubsub.NewDecider(noState{}, func(*message.Message) ([]*message.Message, error) {
		ms := make([]*message.Message, 4)
		for i := range ms {
			ms[i] = pubsub.Message(out)
		}
		return ms, nil
	})
	records := pubsub.NewRecordDecider(noState{}, func(context.Context, eventlog.Record) ([]eventlog.Record, error) {
		return []eventlog.Record{out, out, out, out}, nil
	})
	for name, d := range map[string]*pubsub.Decider{"messages": messages, "records": records} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := d.Decide(context.Background(), in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
