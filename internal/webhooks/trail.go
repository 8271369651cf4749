// The fold of webhooks.deliveries, job by job.

package webhooks

import (
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// States of a delivery.
const (
	Pending   = "pending"
	Delivered = "delivered"
	Failed    = "failed"
	Stopped   = "stopped" // the receiver wants nothing more, which was said to this message or to another
)

// Trail is what became of telling one receiver of one job.
type Trail struct {
	JobID, Tenant string
	Webhook       events.Webhook
	FirstOffset   int64 // of the job's first event on jobs.events
	Closed        bool  // the job has ended
	Stopped       bool  // the receiver said 410
	Deliveries    []*Attempts

	since   int64     // offset of the registration; -1: it is being written
	beat    time.Time // when progress was sent last
	beating bool      // progress is being sent
}

// Attempts is one delivery with its attempts.
type Attempts struct {
	events.Delivery
	State    string
	QueuedAt time.Time
	Next     time.Time // of the next attempt, while it is pending
	List     []Attempt // oldest first

	failed int // attempts since it was queued
	turn   int // counts what is asked to be sent, so that a task which is out of date does nothing
}

// Attempt is one try.
type Attempt struct {
	ID      string // of its record
	Number  int    // from 1
	At      time.Time
	Outcome string // one of events' constants
	Status  int    // of the answer; 0: none came
	Took    time.Duration
	Class   string
	Message string
	Next    time.Time // zero: none follows
}

// id names the trail among all.
func (t *Trail) id() string { return trailID(t.JobID, t.Endpoint()) }

// Endpoint is the id of the operator's endpoint that is told; "": the job's own webhook is.
func (t *Trail) Endpoint() string { return endpointOf(t.Webhook) }

// Find is the delivery of that id, or nil.
func (t *Trail) Find(id string) *Attempts {
	if i := slices.IndexFunc(t.Deliveries, func(d *Attempts) bool { return d.DeliveryID == id }); i >= 0 {
		return t.Deliveries[i]
	}
	return nil
}

// wants says whether the webhook asks for events of that type.
func (t *Trail) wants(eventType string) bool {
	return !t.Stopped && slices.Contains(t.Webhook.Events, eventType)
}

// pending are the deliveries that are due now or later.
func (t *Trail) pending() (out []*Attempts) {
	for _, d := range t.Deliveries {
		if d.State == Pending {
			out = append(out, d)
		}
	}
	return out
}

// over says that nothing more comes of it by itself.
func (t *Trail) over() bool { return (t.Closed || t.Stopped) && len(t.pending()) == 0 }

// register is a trail's beginning.
func register(m events.Message, d events.WebhookRegistered) *Trail {
	return &Trail{JobID: jobOf(m.AggregateID), Tenant: m.Tenant, Webhook: d.Webhook, FirstOffset: d.FirstOffset, since: -1}
}

// apply folds a record of the job's. What it has seen changes nothing.
func (t *Trail) apply(m events.Message) {
	switch d := m.Data.(type) { //nolint:gochecksumtype // the stream's own
	case events.WebhookRegistered:
		t.Webhook, t.FirstOffset = d.Webhook, d.FirstOffset
	case events.WebhookQueued:
		t.queue(d.Delivery, m.OccurredAt)
	case events.WebhookAttempted:
		t.attempted(m, d)
	case events.WebhookClosed:
		t.Closed = true
	}
}

func (t *Trail) queue(d events.Delivery, at time.Time) {
	have := t.Find(d.DeliveryID)
	switch {
	case have == nil:
		t.Deliveries = append(t.Deliveries, &Attempts{Delivery: d, State: Pending, QueuedAt: at, Next: at})
	case have.State != Pending: // asked for again, which also opens what a 410 stopped
		have.State, have.Next, have.failed, t.Stopped = Pending, at, 0, false
		have.turn++
	}
}

func (t *Trail) attempted(m events.Message, a events.WebhookAttempted) {
	d := t.Find(a.DeliveryID)
	if d == nil || slices.ContainsFunc(d.List, func(have Attempt) bool { return have.ID == m.ID }) {
		return
	}
	d.turn++
	try := Attempt{ID: m.ID, Number: m.Attempt, At: m.OccurredAt, Outcome: m.State, Status: a.Status, Class: m.ErrorClass, Message: a.Message,
		Took: time.Duration(m.DurationMS) * time.Millisecond}
	if a.NextMS != 0 {
		try.Next = time.UnixMilli(a.NextMS).UTC()
	}
	d.List = append(d.List, try)
	switch {
	case m.State == events.WebhookDelivered:
		d.State = Delivered
	case d.State != Pending: // a process that had lost the partition says so late
	case m.State == events.WebhookRetrying:
		d.failed++
		d.Next = try.Next
	case m.State == events.WebhookFailed:
		d.State = Failed
	case m.State == events.WebhookGone:
		t.Stopped = true
		for _, other := range t.pending() {
			other.State = Stopped
		}
	}
}
