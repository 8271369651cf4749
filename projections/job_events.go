// Table job_events: the audit trail of every job.

package projections

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// JobEvent is one event of a job, with the columns of its envelope and its place on the log.
type JobEvent struct {
	Partition      int32 // of jobs.events
	Offset         int64
	JobID          string
	Version        int64
	EventID        string
	PrevEventID    string
	Type           string
	SchemaVersion  int32
	OccurredAt     time.Time // microseconds
	OccurredNS     int32     // the nanoseconds below them
	CommandID      string
	CausationID    string
	CorrelationID  string
	Tenant         string
	Actor          string
	Stage          string
	Task           string
	Attempt        int32
	State          string
	Variant        string
	Lane           string
	Worker         string
	Model          string
	DurationMS     int64
	ErrorClass     string
	ArtifactURI    string
	ArtifactSHA256 string
	Data           json.RawMessage
}

var jobEvents = table[JobEvent]{name: "job_events", key: 2, fixed: true, columns: []column[JobEvent]{
	number("partition", "integer[]", func(e *JobEvent) *int32 { return &e.Partition }),
	number("log_offset", "bigint[]", func(e *JobEvent) *int64 { return &e.Offset }),
	text("job_id", func(e *JobEvent) *string { return &e.JobID }),
	number("version", "bigint[]", func(e *JobEvent) *int64 { return &e.Version }),
	text("event_id", func(e *JobEvent) *string { return &e.EventID }),
	text("prev_event_id", func(e *JobEvent) *string { return &e.PrevEventID }),
	text("type", func(e *JobEvent) *string { return &e.Type }),
	number("schema_version", "integer[]", func(e *JobEvent) *int32 { return &e.SchemaVersion }),
	moment("occurred_at", func(e *JobEvent) *time.Time { return &e.OccurredAt }),
	number("occurred_ns", "integer[]", func(e *JobEvent) *int32 { return &e.OccurredNS }),
	text("command_id", func(e *JobEvent) *string { return &e.CommandID }),
	text("causation_id", func(e *JobEvent) *string { return &e.CausationID }),
	text("correlation_id", func(e *JobEvent) *string { return &e.CorrelationID }),
	text("tenant", func(e *JobEvent) *string { return &e.Tenant }),
	text("actor", func(e *JobEvent) *string { return &e.Actor }),
	text("stage", func(e *JobEvent) *string { return &e.Stage }),
	text("task", func(e *JobEvent) *string { return &e.Task }),
	count("attempt", "integer[]", func(e *JobEvent) *int32 { return &e.Attempt }),
	text("state", func(e *JobEvent) *string { return &e.State }),
	text("variant", func(e *JobEvent) *string { return &e.Variant }),
	text("lane", func(e *JobEvent) *string { return &e.Lane }),
	text("worker", func(e *JobEvent) *string { return &e.Worker }),
	text("model", func(e *JobEvent) *string { return &e.Model }),
	count("duration_ms", "bigint[]", func(e *JobEvent) *int64 { return &e.DurationMS }),
	text("error_class", func(e *JobEvent) *string { return &e.ErrorClass }),
	text("artifact_uri", func(e *JobEvent) *string { return &e.ArtifactURI }),
	text("artifact_sha256", func(e *JobEvent) *string { return &e.ArtifactSHA256 }),
	raw("data", func(e *JobEvent) *json.RawMessage { return &e.Data }),
}}

// auditTrail are the rows of facts that their jobs' chains have accepted.
func auditTrail(facts []*fact) ([]*JobEvent, error) {
	rows, out := make([]JobEvent, len(facts)), make([]*JobEvent, len(facts))
	for i, x := range facts {
		out[i] = &rows[i]
		if err := rows[i].Apply(&x.message, x.at.Partition, x.offset); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Apply fills the row from one event, which the job's chain has accepted.
func (e *JobEvent) Apply(m *events.Message, partition int32, offset int64) error {
	data, err := events.EncodeData(m.Data)
	if err != nil {
		return fmt.Errorf("cannot encode the data of event %s: %w", m.ID, err)
	}
	at := micro(m.OccurredAt)
	*e = JobEvent{
		Partition: partition, Offset: offset, JobID: m.AggregateID, Version: m.Version, EventID: m.ID, PrevEventID: m.PrevID,
		Type: m.Type(), SchemaVersion: int32(m.SchemaVersion), //nolint:gosec // versions are few
		OccurredAt: at, OccurredNS: int32(m.OccurredAt.UTC().Sub(at)), //nolint:gosec // below a microsecond
		CommandID: m.CommandID, CausationID: m.CausationID, CorrelationID: m.CorrelationID, Tenant: m.Tenant, Actor: m.Actor,
		Stage: m.Stage, Task: m.Task, Attempt: int32(m.Attempt), State: m.State, Variant: m.Variant, Lane: m.Lane, //nolint:gosec // attempts are few
		Worker: m.Worker, Model: m.Model, DurationMS: m.DurationMS, ErrorClass: m.ErrorClass,
		ArtifactURI: m.ArtifactURI, ArtifactSHA256: m.ArtifactSHA256, Data: data,
	}
	return nil
}

// Message is the event as it lies on the log, so that readers of the table and of
// the log show the same. The job id stands in its column there as well.
func (e *JobEvent) Message() (events.Message, error) {
	zero, err := events.Zero(e.Type)
	if err != nil {
		return events.Message{}, err
	}
	p := reflect.New(reflect.TypeOf(zero))
	if err := json.Unmarshal(e.Data, p.Interface()); err != nil {
		return events.Message{}, fmt.Errorf("cannot read the data of event %s: %w", e.EventID, err)
	}
	return events.Message{
		ID: e.EventID, SchemaVersion: int(e.SchemaVersion), AggregateType: events.AggregateJob, AggregateID: e.JobID,
		Version: e.Version, PrevID: e.PrevEventID, OccurredAt: e.OccurredAt.Add(time.Duration(e.OccurredNS)),
		CommandID: e.CommandID, CausationID: e.CausationID, CorrelationID: e.CorrelationID, Tenant: e.Tenant, Actor: e.Actor,
		Columns: events.Columns{
			JobID: e.JobID, Stage: e.Stage, Task: e.Task, Attempt: int(e.Attempt), State: e.State, Variant: e.Variant,
			Lane: e.Lane, Worker: e.Worker, Model: e.Model, DurationMS: e.DurationMS, ErrorClass: e.ErrorClass,
			ArtifactURI: e.ArtifactURI, ArtifactSHA256: e.ArtifactSHA256,
		},
		Data: p.Elem().Interface().(events.Payload),
	}, nil
}

// JobEvents are the events of one job of the tenant behind the given version (0: from the first), at most limit, oldest first.
func (q *Queries) JobEvents(ctx context.Context, tenant, jobID string, after int64, limit int) ([]*JobEvent, error) {
	return jobEvents.collect(q.tx.Query(ctx,
		jobEvents.query(views, "WHERE job_id = $1 AND tenant = $2 AND version > $3 ORDER BY version LIMIT $4"), jobID, tenant, after, limit))
}

// RecentJobEvents are the last events of one job of the tenant, at most limit, oldest first.
func (q *Queries) RecentJobEvents(ctx context.Context, tenant, jobID string, limit int) ([]*JobEvent, error) {
	rows, err := jobEvents.collect(q.tx.Query(ctx,
		jobEvents.query(views, "WHERE job_id = $1 AND tenant = $2 ORDER BY version DESC LIMIT $3"), jobID, tenant, limit))
	slices.Reverse(rows)
	return rows, err
}
