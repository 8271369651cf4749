// Webhooks at the edge: whom a submission asks to tell, what became of it, and telling
// it again. The notifier does the telling.

package api

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/webhooks"
	"github.com/myspinbot/myspinbot/projections"
)

// hookEvents is what is told of where nothing else is asked for: how the job ended.
var hookEvents = []string{"job.succeeded", "job.failed", "job.rejected", "job.cancelled"}

// hookFaults are what the contract cannot say of a webhook.
func (sub *submitting) hookFaults() []fault {
	h := sub.body.Webhook
	if h == nil {
		return nil
	}
	var faults []fault
	if _, err := sub.server.cfg.Webhooks.Check(h.URL); err != nil {
		faults = append(faults, fault{Pointer: "/webhook/url", Code: "address_refused", Detail: "webhook.url: " + err.Error()})
	}
	if h.Secret != "" {
		if _, err := webhooks.SecretKey(h.Secret); err != nil {
			faults = append(faults, fault{Pointer: "/webhook/secret", Code: "format_wrong", Detail: "webhook.secret: " + err.Error()})
		}
	}
	return faults
}

// madeSecret is the secret where the client brought none; "" where it did, or has no webhook.
func (sub *submitting) madeSecret() string {
	if h := sub.body.Webhook; h == nil || h.Secret != "" {
		return ""
	}
	return webhooks.NewSecret(sub.server.keyring.WebhookKey(sub.who.tenant, sub.jobID))
}

// sealedHook is the webhook as the command carries it. Its address was checked.
func (sub *submitting) sealedHook(seal func(string) *events.Sealed) *events.Webhook {
	h := sub.body.Webhook
	secret := h.Secret
	if secret == "" {
		secret = sub.madeSecret()
	}
	hook := &events.Webhook{URL: *seal(h.URL), Secret: *seal(secret), Events: slices.Compact(slices.Sorted(slices.Values(h.Events)))}
	if len(hook.Events) == 0 {
		hook.Events = hookEvents
	}
	if u, err := sub.server.cfg.Webhooks.Check(h.URL); err == nil {
		hook.Endpoint = sub.server.textDigest(sub.who.tenant, "webhook endpoint\n"+webhooks.Server(u))
	}
	return hook
}

// resealedHook is a parent's webhook under the key of its child.
func (s *Server) resealedHook(ctx context.Context, h *events.Webhook, keyID string) (*events.Webhook, error) {
	if h == nil {
		return nil, nil
	}
	out := *h
	for _, part := range []*events.Sealed{&out.URL, &out.Secret} {
		text, err := s.keyring.Open(ctx, *part)
		if err != nil {
			return nil, err
		}
		if *part, err = s.keyring.Seal(ctx, keyID, text); err != nil {
			return nil, err
		}
	}
	return &out, nil
}

// listDeliveries shows what became of a job's webhook, from the log.
func (s *Server) listDeliveries(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	if err := checkQuery(c); err != nil {
		return err
	}
	trails, err := s.deliveries(c.UserContext(), callerOf(c).tenant, id)
	if err != nil {
		return err
	}
	out := Deliveries{Items: []Delivery{}}
	for _, trail := range trails {
		endpoint := s.endpoint(trail.Endpoint())
		if endpoint == nil {
			hook := viewHook(s.opener(c.UserContext()), &trail.Webhook)
			out.Webhook = &WebhookState{URL: hook.URL, Events: hook.Events, State: stateOf(trail)}
		}
		for _, d := range trail.Deliveries {
			out.Items = append(out.Items, viewDelivery(endpoint, d))
		}
	}
	slices.SortStableFunc(out.Items, func(a, b Delivery) int { return a.QueuedAt.Compare(b.QueuedAt) })
	return c.JSON(out)
}

func stateOf(t *webhooks.Trail) string {
	switch {
	case t.Stopped:
		return "stopped"
	case t.Closed:
		return "closed"
	}
	return "active"
}

// endpoint is where an operator's endpoint is, without its path, which may hold a secret;
// nil is none.
func (s *Server) endpoint(id string) *string {
	if id == "" {
		return nil
	}
	where := "an endpoint that is not configured here"
	for _, e := range s.cfg.Endpoints {
		if e.ID() == id {
			where = e.Server(s.cfg.Webhooks)
		}
	}
	return &where
}

func viewDelivery(endpoint *string, d *webhooks.Attempts) Delivery {
	v := Delivery{ID: d.DeliveryID, Endpoint: endpoint, Event: d.Event, Status: d.State, QueuedAt: d.QueuedAt, Attempts: []DeliveryAttempt{}}
	if d.State == webhooks.Pending {
		v.NextAttemptAt = optTime(d.Next)
	}
	for _, a := range d.List {
		v.Attempts = append(v.Attempts, DeliveryAttempt{Number: a.Number, At: a.At, Outcome: a.Outcome, HTTPStatus: opt(a.Status), LatencyMS: a.Took.Milliseconds(),
			Class: opt(a.Class), Message: opt(a.Message)})
	}
	return v
}

// clockSkew is by how much the clocks of two processes may differ.
const clockSkew = 10 * time.Minute

// deliveries are the trails of the tenant's job: of its own webhook, and of the operator's endpoints.
func (s *Server) deliveries(ctx context.Context, tenant, id string) ([]*webhooks.Trail, error) {
	ctx, cancel := context.WithTimeout(ctx, pastTimeout)
	defer cancel()
	var row *projections.Job
	known := s.read(ctx, func(ctx context.Context, q *projections.Queries) (err error) {
		row, err = q.Job(ctx, tenant, id)
		return err
	})
	var since time.Time
	switch {
	case known == nil && len(s.cfg.Endpoints) == 0 && (row.Request == nil || row.Request.Webhook == nil):
		return nil, nil
	case known == nil:
		since = row.CreatedAt.Add(-clockSkew)
	case errors.Is(known, projections.ErrNotFound) && !s.accepted.has(tenant, id):
		return nil, refuse(codeNotFound, "there is no job %s", id)
	}
	select {
	case s.lookingBack <- struct{}{}:
		defer func() { <-s.lookingBack }()
	case <-ctx.Done():
		return nil, refuse(codeBusy, "%d looks back are under way, which is this server's limit", pastAtOnce)
	}
	trails, err := webhooks.Read(ctx, s.cfg.Log, tenant, id, since)
	switch {
	case err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, &refusal{code: codeLogUnavailable, cause: err, detail: "the log did not give the deliveries in time; ask again, best when the tables answer"}
	case err != nil:
		return nil, err
	case len(trails) == 0 && known != nil && !s.accepted.has(tenant, id):
		return nil, refuse(codeNotFound, "no job %s has told a webhook of anything, as far as is known while the tables do not answer", id)
	}
	return trails, nil
}

// redeliver asks for one delivery again, or for all that were not delivered.
func (s *Server) redeliver(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	if err := checkQuery(c); err != nil {
		return err
	}
	object, err := readObject(c)
	if err != nil {
		return err
	}
	var body RedeliverRequest
	faults, err := s.contract.take("RedeliverRequest", object, &body)
	switch {
	case err != nil:
		return err
	case len(faults) > 0:
		return invalid(faults...)
	}
	trails, err := s.deliveries(c.UserContext(), callerOf(c).tenant, id)
	if err != nil {
		return err
	}
	if len(trails) == 0 {
		return refuse(codeNotFound, "job %s has told no webhook of anything", id)
	}
	ids, found := []string{}, body.DeliveryID == ""
	for _, trail := range trails {
		again, err := webhooks.Redeliver(c.UserContext(), s.cfg.Log, trail, strings.ToLower(body.DeliveryID), callerOf(c).actor, s.now())
		if err != nil && !errors.Is(err, webhooks.ErrNoDelivery) {
			return err
		}
		ids, found = append(ids, again...), found || err == nil
	}
	if !found {
		return refuse(codeNotFound, "job %s has no delivery %s; GET /api/jobs/%s/deliveries lists them", id, body.DeliveryID, id)
	}
	detail := fmt.Sprintf("%d deliveries are asked for again; GET /api/jobs/%s/deliveries says what comes of them", len(ids), id)
	if len(ids) == 0 {
		detail = "every delivery was delivered, or waits for its next attempt"
	}
	return c.Status(fiber.StatusAccepted).JSON(Redelivered{ID: id, Deliveries: ids, Detail: detail})
}

// viewHook is whom the job tells. Its secret is told to nobody any more.
func viewHook(o *opener, h *events.Webhook) *WebhookView {
	if h == nil {
		return nil
	}
	return &WebhookView{URL: o.text(&h.URL), Events: orEmpty(h.Events)}
}
