// Records as messages and back.

package pubsub

import (
	"fmt"
	"strconv"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Metadata that is no header of the record but its place on the log. Handlers set
// topic and key of what they return, and the partition for a lane.
const (
	MetaTopic     = "log_topic"     // without the prefix
	MetaKey       = "log_key"       // decides the partition, but for lanes
	MetaPartition = "log_partition" // decimal
	MetaOffset    = "log_offset"    // decimal; of received messages only
	MetaTime      = "log_time"      // RFC 3339 with nanoseconds; of received messages only
)

// headerID carries a message's UUID. It is CloudEvents' id, and so an event's own.
const headerID = "ce_id"

// Message is the record as a message: its value is the payload, its headers are
// metadata, and its id the CloudEvents id, or its place on the log without one.
func Message(r eventlog.Record) *message.Message {
	id := r.Header(headerID)
	if id == "" {
		id = fmt.Sprintf("%v/%d", r.At(), r.Offset)
	}
	m := message.NewMessage(id, r.Value)
	m.Metadata = make(message.Metadata, len(r.Headers)+5)
	for _, h := range r.Headers {
		m.Metadata[h.Key] = h.Value
	}
	m.Metadata[MetaTopic] = r.Topic
	m.Metadata[MetaKey] = r.Key
	m.Metadata[MetaPartition] = strconv.Itoa(int(r.Partition))
	m.Metadata[MetaOffset] = strconv.FormatInt(r.Offset, 10)
	if !r.Time.IsZero() {
		m.Metadata[MetaTime] = r.Time.UTC().Format(time.RFC3339Nano)
	}
	return m
}

// Record is the message as a record to write, and of a received message the record
// that it was. Without a key the id is the key.
func Record(m *message.Message) (eventlog.Record, error) {
	r := eventlog.Record{Topic: m.Metadata[MetaTopic], Key: m.Metadata[MetaKey], Value: m.Payload}
	if r.Topic == "" {
		return r, fmt.Errorf("cannot write message %q: its metadata has no %s", m.UUID, MetaTopic)
	}
	if r.Key == "" {
		r.Key = m.UUID
	}
	if s := m.Metadata[MetaPartition]; s != "" {
		p, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			return r, fmt.Errorf("cannot write message %q: %s is %q, not a number", m.UUID, MetaPartition, s)
		}
		r.Partition = int32(p)
	}
	if s := m.Metadata[MetaOffset]; s != "" {
		o, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return r, fmt.Errorf("cannot write message %q: %s is %q, not a number", m.UUID, MetaOffset, s)
		}
		r.Offset = o
	}
	hasID := false
	r.Headers = make([]eventlog.Header, 0, len(m.Metadata)+1)
	for k, v := range m.Metadata {
		switch k {
		case MetaTopic, MetaKey, MetaPartition, MetaOffset, MetaTime:
			continue
		case headerID:
			hasID = true
		}
		r.Headers = append(r.Headers, eventlog.Header{Key: k, Value: v})
	}
	if !hasID && m.UUID != "" {
		r.Headers = append(r.Headers, eventlog.Header{Key: headerID, Value: m.UUID})
	}
	return r, nil
}

// records translates what a handler returned.
func records(ms []*message.Message) ([]eventlog.Record, error) {
	out := make([]eventlog.Record, 0, len(ms))
	for _, m := range ms {
		r, err := Record(m)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}
