// Reading a job's deliveries, and asking for one again: what the API does.

package webhooks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Read folds a job's deliveries from the log: those to its own webhook first, then those to
// each of the operator's endpoints. There are none where nobody was to be told, or where that
// was so long ago that the log has forgotten it (90 days). Since is a time before the job's
// submission; zero reads the whole partition. Errors are the log's and the context's.
func Read(ctx context.Context, log *eventlog.Log, tenant, job string, since time.Time) ([]*Trail, error) {
	at := eventlog.TopicPartition{Topic: events.TopicWebhooks, Partition: eventlog.PartitionFor(job, log.Partitions(events.TopicWebhooks))}
	from := int64(0)
	if !since.IsZero() {
		offsets, err := log.Since(ctx, events.TopicWebhooks, since)
		if err != nil {
			return nil, err
		}
		from = offsets[at]
	}
	trails := map[string]*Trail{}
	_, err := log.ReadBare(ctx, eventlog.Offsets{at: from}, func(records []eventlog.Record) error {
		for _, r := range records {
			if r.Key == job {
				fold(trails, r)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the deliveries of job %s: %w", job, err)
	}
	var out []*Trail
	for _, id := range slices.Sorted(maps.Keys(trails)) { // a job's id sorts before what begins with it
		if trails[id].Tenant == tenant {
			out = append(out, trails[id])
		}
	}
	return out, nil
}

// fold takes a record into the trail that it is of. What cannot be read, and what comes
// before the registration, is left out.
func fold(trails map[string]*Trail, r eventlog.Record) {
	m, err := events.Decode(r.Value)
	if err != nil {
		return
	}
	t := trails[m.AggregateID]
	if d, first := m.Data.(events.WebhookRegistered); first && t == nil {
		t = register(m, d)
		t.since = r.Offset
		trails[m.AggregateID] = t
	}
	if t != nil {
		t.apply(m)
	}
}

// ErrNoDelivery says that the job has no delivery of that id.
var ErrNoDelivery = errors.New("there is no such delivery")

// Redeliver asks the notifier for a delivery again, or, with an empty id, for all that
// were not delivered and wait for no further attempt. It returns the ids, once they are
// asked for. Errors: ErrNoDelivery, those of the log.
func Redeliver(ctx context.Context, log *eventlog.Log, t *Trail, id, actor string, now time.Time) ([]string, error) {
	ids := []string{}
	var records []eventlog.Record
	for _, d := range t.Deliveries {
		if id != "" && d.DeliveryID != id || id == "" && d.State != Failed && d.State != Stopped {
			continue
		}
		command, err := uuid.NewV7()
		if err != nil {
			return nil, fmt.Errorf("cannot draw an id: %w", err)
		}
		r, err := record(events.TopicWebhookCommands, message(t.id(), t.Tenant, actor, command.String(), now,
			events.WebhookRedeliver{Webhook: t.Webhook, FirstOffset: t.FirstOffset, Delivery: d.Delivery, Ended: t.Closed}))
		if err != nil {
			return nil, err
		}
		ids, records = append(ids, d.DeliveryID), append(records, r)
	}
	if len(records) == 0 {
		if id != "" {
			return nil, fmt.Errorf("%w: job %s has none with the id %s", ErrNoDelivery, t.JobID, id)
		}
		return ids, nil
	}
	return ids, log.Produce(ctx, records...)
}

// message is one of a trail.
func message(trail, tenant, actor, id string, now time.Time, data events.Payload) events.Message {
	return events.Message{
		ID: id, SchemaVersion: data.SchemaVersion(), AggregateType: events.AggregateJob, AggregateID: trail, OccurredAt: now.UTC(),
		CommandID: id, CausationID: id, CorrelationID: id, Tenant: tenant, Actor: actor, Columns: events.Columns{JobID: jobOf(trail)}, Data: data,
	}
}

func record(topic string, m events.Message) (eventlog.Record, error) {
	value, err := events.Encode(m)
	if err != nil {
		return eventlog.Record{}, err
	}
	r := eventlog.Record{Topic: topic, Key: jobOf(m.AggregateID), Value: value} // all trails of a job lie in its partition
	for _, h := range events.Headers(m) {
		r.Headers = append(r.Headers, eventlog.Header(h))
	}
	return r, nil
}
