// The wire form: flat UTF-8 JSON with every common column present or null.

package events

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"
)

// ErrMalformed says that a record is no valid envelope of its type.
var ErrMalformed = errors.New("malformed record")

// Encode gives the record's value. The field order is fixed, so that equal
// messages encode to equal bytes.
func Encode(m Message) ([]byte, error) {
	if m.Data == nil {
		return nil, fmt.Errorf("%w: a message without data", ErrMalformed)
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	w := dataWriter{JSONWriter{B: append((*buf)[:0], '{')}}
	w.plain("event_id", m.ID)
	w.plain("event_type", m.Type())
	w.Int("schema_version", int64(m.Data.SchemaVersion()))
	w.plain("aggregate_type", m.AggregateType)
	w.plain("aggregate_id", m.AggregateID)
	w.Int("aggregate_version", m.Version)
	w.nullable("prev_event_id", m.PrevID)
	w.Key("occurred_at")
	w.B = append(m.OccurredAt.UTC().AppendFormat(append(w.B, '"'), time.RFC3339Nano), '"')
	w.plain("command_id", m.CommandID)
	w.plain("causation_id", m.CausationID)
	w.plain("correlation_id", m.CorrelationID)
	w.plain("tenant", m.Tenant)
	w.plain("actor", m.Actor)
	w.nullable("job_id", m.JobID)
	w.nullable("stage", m.Stage)
	w.nullable("task", m.Task)
	w.nullableInt("attempt", int64(m.Attempt))
	w.nullable("state", m.State)
	w.nullable("variant", m.Variant)
	w.nullable("lane", m.Lane)
	w.nullable("worker", m.Worker)
	w.nullable("model", m.Model)
	w.nullableInt("duration_ms", m.DurationMS)
	w.nullable("error_class", m.ErrorClass)
	w.nullable("artifact_uri", m.ArtifactURI)
	w.nullable("artifact_sha256", m.ArtifactSHA256)
	w.Key("data")
	var ok bool
	if w.B, ok = appendData(w.B, m.Data); !ok {
		data, err := json.Marshal(m.Data)
		if err != nil {
			return nil, fmt.Errorf("cannot encode the data of %s: %w", m.Type(), err)
		}
		w.B = append(w.B, data...)
	}
	w.B = append(w.B, '}')
	*buf = w.B
	return bytes.Clone(w.B), nil
}

// EncodeData gives the data part of a record alone.
func EncodeData(p Payload) ([]byte, error) {
	if b, ok := appendData(nil, p); ok {
		return b, nil
	}
	return json.Marshal(p)
}

// buffers are what records are written in before they get memory of their size.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4096); return &b }}

// wire is the envelope as read. JSON null leaves a field at its zero value.
type wire struct {
	EventID          string          `json:"event_id"`
	EventType        string          `json:"event_type"`
	SchemaVersion    int             `json:"schema_version"`
	AggregateType    string          `json:"aggregate_type"`
	AggregateID      string          `json:"aggregate_id"`
	AggregateVersion int64           `json:"aggregate_version"`
	PrevEventID      string          `json:"prev_event_id"`
	OccurredAt       time.Time       `json:"occurred_at"`
	CommandID        string          `json:"command_id"`
	CausationID      string          `json:"causation_id"`
	CorrelationID    string          `json:"correlation_id"`
	Tenant           string          `json:"tenant"`
	Actor            string          `json:"actor"`
	JobID            string          `json:"job_id"`
	Stage            string          `json:"stage"`
	Task             string          `json:"task"`
	Attempt          int             `json:"attempt"`
	State            string          `json:"state"`
	Variant          string          `json:"variant"`
	Lane             string          `json:"lane"`
	Worker           string          `json:"worker"`
	Model            string          `json:"model"`
	DurationMS       int64           `json:"duration_ms"`
	ErrorClass       string          `json:"error_class"`
	ArtifactURI      string          `json:"artifact_uri"`
	ArtifactSHA256   string          `json:"artifact_sha256"`
	Data             json.RawMessage `json:"data"`
}

// Decode reads a record's value. It returns ErrMalformed, ErrUnknownType or
// ErrNewerVersion (wrapped, with what was found) and never a partly read message.
// Unknown fields are allowed: a minor addition does not stop older readers.
//
// What is read is not to be changed: messages share the parts of equal graphs.
func Decode(value []byte) (Message, error) {
	m, _, err := DecodeOf(value, nil)
	return m, err
}

// DecodeOf is Decode for who wants the records of some aggregates alone. Any other
// record is checked as well, but of it only the version and the time are certain to
// be there.
func DecodeOf(value []byte, want func(aggregateID []byte) bool) (m Message, wanted bool, err error) {
	if wanted, ok := scanMessage(value, &m, want); ok {
		return m, wanted, nil
	}
	m, err = decode(value)
	return m, err != nil || want == nil || want([]byte(m.AggregateID)), err
}

// decode reads whatever JSON a record is written in.
func decode(value []byte) (Message, error) {
	var e wire
	if err := json.Unmarshal(value, &e); err != nil {
		return Message{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if e.EventID == "" || e.AggregateID == "" || e.SchemaVersion < 1 {
		return Message{}, fmt.Errorf("%w: %q lacks event_id, aggregate_id or schema_version", ErrMalformed, e.EventType)
	}
	zero, err := Zero(e.EventType)
	if err != nil {
		return Message{}, err
	}
	if e.SchemaVersion > zero.SchemaVersion() {
		return Message{}, fmt.Errorf("%w: %s version %d, this program reads up to %d",
			ErrNewerVersion, e.EventType, e.SchemaVersion, zero.SchemaVersion())
	}
	p := newOf(zero)
	if err := json.Unmarshal(e.Data, p.Interface()); err != nil {
		return Message{}, fmt.Errorf("%w: data of %s: %w", ErrMalformed, e.EventType, err)
	}
	return Message{
		ID: e.EventID, SchemaVersion: e.SchemaVersion,
		AggregateType: e.AggregateType, AggregateID: e.AggregateID, Version: e.AggregateVersion, PrevID: e.PrevEventID,
		OccurredAt: e.OccurredAt, CommandID: e.CommandID, CausationID: e.CausationID, CorrelationID: e.CorrelationID,
		Tenant: e.Tenant, Actor: e.Actor,
		Columns: Columns{
			JobID: e.JobID, Stage: e.Stage, Task: e.Task, Attempt: e.Attempt, State: e.State, Variant: e.Variant,
			Lane: e.Lane, Worker: e.Worker, Model: e.Model, DurationMS: e.DurationMS, ErrorClass: e.ErrorClass,
			ArtifactURI: e.ArtifactURI, ArtifactSHA256: e.ArtifactSHA256,
		},
		Data: p.Elem().Interface().(Payload),
	}, nil
}

// Header is one record header.
type Header struct{ Key, Value string }

// HeaderType is the header with a record's type, for readers that do not decode it.
const HeaderType = "ce_type"

// Headers repeats the identity as CloudEvents 1.0 binary mode (Kafka protocol binding).
func Headers(m Message) []Header {
	return []Header{
		{"ce_specversion", "1.0"},
		{"ce_id", m.ID},
		{HeaderType, m.Type()},
		{"ce_source", source(m.AggregateType)},
		{"ce_subject", m.AggregateID},
		{"ce_time", m.OccurredAt.UTC().Format(time.RFC3339Nano)},
		{"content-type", "application/json"},
	}
}

// source is where an aggregate's records come from.
func source(aggregate string) string {
	if aggregate == AggregateJob {
		return "/myspinbot/" + AggregateJob
	}
	return "/myspinbot/" + aggregate
}

// plain writes a string of the envelope, nullable one that is null when empty.
func (w *dataWriter) plain(k, v string) {
	w.Key(k)
	w.B = appendString(w.B, v)
}

func (w *dataWriter) nullable(k, v string) {
	if v != "" {
		w.plain(k, v)
		return
	}
	w.Null(k)
}

func (w *dataWriter) nullableInt(k string, v int64) {
	if v != 0 {
		w.Int(k, v)
		return
	}
	w.Null(k)
}

// appendString writes plain ASCII directly and leaves the rest to encoding/json.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			quoted, _ := json.Marshal(s) // a string always encodes; invalid UTF-8 becomes U+FFFD
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
