// Webhooks: whom to tell of a job, and what became of telling it. Their stream, on
// webhooks.deliveries, stands beside the job's: it has no versions, for who delivers
// may do so twice, and a fold takes what comes twice once.

package events

// Webhook is whom to tell of a job. The address is sealed as well, because it may hold
// a secret in its path.
type Webhook struct {
	URL    Sealed `json:"url"`
	Secret Sealed `json:"secret"` // whsec_ and base64, as Standard Webhooks writes it
	// Endpoint is a digest of scheme, host and port, under the tenant's digest key: what
	// goes to one server is held together by it without opening the address.
	Endpoint string   `json:"endpoint"`
	Events   []string `json:"events"` // of WebhookEvents
}

// WebhookProgress asks for the beats of running stages, which are no facts.
const WebhookProgress = "job.progress"

// WebhookEvents lists what a webhook can be told of: the facts of a job that mean
// something to others, and progress.
func WebhookEvents() []string {
	return []string{
		"job.submitted", "job.planned", "job.rejected", "job.succeeded", "job.failed", "job.cancel_requested", "job.cancelled", WebhookProgress,
		"stage.scheduled", "stage.started", "stage.succeeded", "stage.failed", "stage.skipped", "stage.reused", "stage.attempt_expired", "stage.cancelled",
		"approval.requested", "approval.granted", "approval.denied", "approval.expired", "artifact.registered",
	}
}

// EndsJob says whether the fact is a job's last.
func EndsJob(eventType string) bool {
	switch eventType {
	case "job.succeeded", "job.failed", "job.rejected", "job.cancelled":
		return true
	}
	return false
}

// Delivery is one message to a webhook. Its id is the event's, so that receivers know
// a message that comes twice.
type Delivery struct {
	DeliveryID string `json:"delivery_id"`
	Event      string `json:"event"` // the event's type
	Partition  int32  `json:"partition"`
	Offset     int64  `json:"offset"` // where the event lies on jobs.events
}

// WebhookRegistered opens the stream of a job's webhook.
type WebhookRegistered struct {
	v1
	Webhook     Webhook `json:"webhook"`
	FirstOffset int64   `json:"first_offset"` // of the job's first event, on jobs.events
}

// EventType implements Payload.
func (WebhookRegistered) EventType() string { return "webhook.registered" }

// WebhookQueued says that a message is due. For one that has ended it begins anew.
type WebhookQueued struct {
	v1
	Delivery
}

// EventType implements Payload.
func (WebhookQueued) EventType() string { return "webhook.queued" }

// What became of an attempt at a delivery: the state column of webhook.attempted.
const (
	WebhookDelivered = "delivered"
	WebhookRetrying  = "retrying"
	WebhookFailed    = "failed" // no further attempt follows
	WebhookGone      = "gone"   // the receiver said 410: it wants nothing more of this job
)

// WebhookAttempted is one attempt. The columns hold its number, its duration, its
// outcome as the state, and the class of what went wrong.
type WebhookAttempted struct {
	v1
	DeliveryID string `json:"delivery_id"`
	Status     int    `json:"status,omitempty"`  // of the answer; 0: none came
	Message    string `json:"message,omitempty"` // what went wrong; nothing that the receiver wrote
	NextMS     int64  `json:"next_ms,omitempty"` // Unix milliseconds of the next attempt
}

// EventType implements Payload.
func (WebhookAttempted) EventType() string { return "webhook.attempted" }

// WebhookClosed says that the job has ended and nothing more will be queued by itself.
type WebhookClosed struct{ v1 }

// EventType implements Payload.
func (WebhookClosed) EventType() string { return "webhook.closed" }

// WebhookRedeliver asks for a delivery again. It holds all that is needed for it: the
// stream of a job that has ended is in nobody's memory.
type WebhookRedeliver struct {
	v1
	Webhook     Webhook  `json:"webhook"`
	FirstOffset int64    `json:"first_offset"`
	Delivery    Delivery `json:"delivery"`
	Ended       bool     `json:"ended,omitempty"` // the job has
}

// EventType implements Payload.
func (WebhookRedeliver) EventType() string { return "webhook.redeliver" }
