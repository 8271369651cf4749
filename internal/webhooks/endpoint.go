// Endpoints of the operator: told of every job, beside whom the job itself asks for. They
// are configuration: on the log stands which one a delivery is for, and neither its
// address nor its secret. One that is not configured any more is told nothing more.

package webhooks

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Endpoint is whom to tell of every job that is submitted from now on.
type Endpoint struct {
	URL string
	// Secrets are what messages are signed with, each by itself: a receiver takes a message
	// that one it knows has signed, so that another can take its place in the meantime.
	Secrets  []string
	Events   []string      // of events.WebhookEvents; empty: how jobs end
	Progress time.Duration // least time between two messages about one job's progress; 0: Config.ProgressEvery
}

// endpointMark begins Webhook.Endpoint of what is for an operator's endpoint; its id follows.
const endpointMark = "operator:"

// usualEvents is how jobs end.
var usualEvents = []string{"job.cancelled", "job.failed", "job.rejected", "job.succeeded"}

// ID names the endpoint on the log, by its address.
func (e Endpoint) ID() string { return events.NameID("webhook endpoint", e.URL) }

// CheckAddress refuses an endpoint where the policy allows none.
func (e Endpoint) CheckAddress(p Policy) error {
	_, err := p.Check(e.URL)
	return err
}

// ErrNoSecret says that an endpoint's messages would not be signed.
var ErrNoSecret = errors.New("there must be a secret that messages are signed with")

// CheckSecrets says ErrNoSecret or ErrSecret where not every secret is one.
func (e Endpoint) CheckSecrets() error {
	if len(e.Secrets) == 0 {
		return ErrNoSecret
	}
	for _, secret := range e.Secrets {
		if _, err := SecretKey(secret); err != nil {
			return err
		}
	}
	return nil
}

// Check refuses an endpoint that the policy does not allow, or that could not be told.
func (e Endpoint) Check(p Policy) error {
	err := errors.Join(e.CheckAddress(p), e.CheckSecrets())
	for _, kind := range e.Events {
		if !slices.Contains(events.WebhookEvents(), kind) {
			err = errors.Join(err, fmt.Errorf("there is no event %q to tell of; there are %s", kind, strings.Join(events.WebhookEvents(), ", ")))
		}
	}
	return err
}

// Server is where the endpoint is: scheme, host and port.
func (e Endpoint) Server(p Policy) string {
	u, err := p.Check(e.URL)
	if err != nil {
		return ""
	}
	return Server(u)
}

// webhook is the endpoint as the log has it.
func (e Endpoint) webhook() events.Webhook {
	asked := slices.Compact(slices.Sorted(slices.Values(e.Events)))
	if len(asked) == 0 {
		asked = usualEvents
	}
	return events.Webhook{Endpoint: endpointMark + e.ID(), Events: asked}
}

// endpointOf is the id of the operator's endpoint that the webhook stands for; "" for a job's own.
func endpointOf(h events.Webhook) string {
	id, operators := strings.CutPrefix(h.Endpoint, endpointMark)
	if !operators {
		return ""
	}
	return id
}

// trailID is the stream of one job's deliveries to one receiver: the job's own webhook has
// the job's id, an endpoint of the operator has its own behind it.
func trailID(job, endpoint string) string {
	if endpoint == "" {
		return job
	}
	return job + "/" + endpoint
}

// jobOf is the job of a stream.
func jobOf(trail string) string {
	job, _, _ := strings.Cut(trail, "/")
	return job
}
