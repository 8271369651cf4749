// What webhooks are told: the event and the job as it was right after it, the same
// objects as in every other answer.

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/projections"
)

// Payloads makes the messages of webhooks, from the log and the keys alone: no table
// and no server is needed.
type Payloads struct {
	views
	history *projections.History
}

// NewPayloads makes it. Run keeps the names of profiles.
func NewPayloads(log *eventlog.Log, keyring *objects.Keyring, logger *slog.Logger) *Payloads {
	return &Payloads{views: views{newKnowledge(log, logger), keyring}, history: projections.NewHistory(log, nil)}
}

// Run follows the profiles until ctx ends.
func (p *Payloads) Run(ctx context.Context) error { return p.known.run(ctx) }

// hookMessage is what a webhook is sent.
type hookMessage struct {
	Type      string      `json:"type"`
	Timestamp time.Time   `json:"timestamp"` // of the event
	Data      hookContent `json:"data"`
}

type hookContent struct {
	JobID    string        `json:"job_id"`
	Tenant   string        `json:"tenant"` // an endpoint of the operator hears of the jobs of all
	Event    *eventView    `json:"event,omitempty"`
	Job      *jobView      `json:"job,omitempty"` // as it was right after the event, without request, graph and recent_events
	Progress *progressView `json:"progress,omitempty"`
}

// Event implements webhooks.Payloads.
func (p *Payloads) Event(ctx context.Context, tenant, job string, first int64, d events.Delivery) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pastTimeout)
	defer cancel()
	past, err := p.history.JobFrom(ctx, tenant, job, first, projections.Moment{Place: &projections.Place{Partition: d.Partition, Offset: d.Offset}})
	if err != nil {
		return nil, fmt.Errorf("cannot look at job %s as of %d:%d: %w", job, d.Partition, d.Offset, err)
	}
	event := viewEvent(past.Events[len(past.Events)-1])
	if event.EventID != d.DeliveryID {
		return nil, fmt.Errorf("%d:%d holds event %s of job %s, not %s", d.Partition, d.Offset, event.EventID, job, d.DeliveryID)
	}
	o := p.opener(ctx)
	v := p.viewJob(o, past.Job, past.Stages, nil)
	v.Outputs, v.Artifacts = viewOutputs(past.Job.Outputs), make([]artifactView, len(past.Artifacts))
	for i, a := range past.Artifacts {
		v.Artifacts[i] = viewArtifact(a)
	}
	event = o.event(event)
	if o.down {
		return nil, fmt.Errorf("the texts of job %s cannot be opened now: %w", job, objects.ErrUnavailable)
	}
	v.Content = o.content
	return json.Marshal(hookMessage{Type: event.Type, Timestamp: event.OccurredAt, Data: hookContent{JobID: job, Tenant: tenant, Event: event, Job: &v}})
}

// Progress implements webhooks.Payloads.
func (p *Payloads) Progress(m events.Message) ([]byte, error) {
	beat, ok := viewProgress(m)
	if !ok {
		return nil, fmt.Errorf("a %s is no beat", m.Type())
	}
	return json.Marshal(hookMessage{Type: events.WebhookProgress, Timestamp: m.OccurredAt, Data: hookContent{JobID: m.JobID, Tenant: m.Tenant, Progress: &beat}})
}
