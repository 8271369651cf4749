// Deciding what is due: events and commands in, webhook.queued out, in the transaction
// that consumes them. What was decided is kept as a fold of the same records.

package webhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// part is what is known of one partition number.
type part struct {
	ctx    context.Context //nolint:containedctx // ends when the partition is taken away
	cancel context.CancelFunc
	jobs   map[string]*Trail // those of which something may still come, by their ids
	end    int64             // behind the last record on webhooks.deliveries, as far as is known
	fresh  []sending         // queued, not committed yet
}

// sending is a delivery that is to be tried.
type sending struct {
	trail    *Trail
	delivery *Attempts
}

// Recover folds the deliveries from where the oldest trail begins that was not over.
func (n *Notifier) Recover(ctx context.Context, p int32, meta string) error {
	from := int64(0)
	if meta != "" {
		var err error
		if from, err = strconv.ParseInt(meta, 10, 64); err != nil {
			return fmt.Errorf("cannot read %q, which was committed with the offsets: %w", meta, err)
		}
	}
	jobs, end, err := n.replay(ctx, p, from)
	if errors.Is(err, eventlog.ErrDataLoss) && from > 0 { // the topic's retention has passed that place
		jobs, end, err = n.replay(ctx, p, 0)
	}
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	own := &part{jobs: jobs, end: end}
	own.ctx, own.cancel = context.WithCancel(context.Background())
	n.parts[p] = own
	for id, t := range jobs {
		if e := t.Endpoint(); t.over() || e != "" && n.endpoints[e].URL == "" { // nobody is there any more to be told
			delete(jobs, id)
			continue
		}
		for _, d := range t.pending() {
			n.send(own, sending{t, d})
		}
	}
	return nil
}

func (n *Notifier) replay(ctx context.Context, p int32, from int64) (jobs map[string]*Trail, end int64, err error) {
	jobs = map[string]*Trail{}
	end, err = n.log.ReplayBare(ctx, eventlog.TopicPartition{Topic: events.TopicWebhooks, Partition: p}, from, func(records []eventlog.Record) error {
		for _, r := range records {
			fold(jobs, r)
		}
		return nil
	})
	return jobs, end, err
}

// Decide handles the next event or command of a partition.
func (n *Notifier) Decide(_ context.Context, in eventlog.Record) ([]eventlog.Record, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	own := n.parts[in.Partition]
	if !n.concerns(own, in) {
		return nil, nil
	}
	if in.Topic == events.TopicWebhookCommands {
		return n.decideCommand(own, in)
	}
	// The envelope is all that is needed, so that events of a newer program are told of
	// as well.
	var m envelope
	if err := json.Unmarshal(in.Value, &m); err != nil {
		n.cfg.Logger.Error("an event of a job cannot be read, and no webhook is told of it", "at", in.At().String(), "offset", in.Offset, "error", err)
		return nil, nil
	}
	d := decision{notifier: n, own: own, cause: m.message()}
	if m.Type == (events.JobSubmitted{}).EventType() {
		d.begin(m.Data.Request.Webhook, in.Offset)
	}
	for _, t := range n.trails(own, m.JobID) {
		d.trail = t
		d.tell(m.Type, in)
	}
	return d.out, d.err
}

// begin registers whom a new job is told to.
func (d *decision) begin(hook *events.Webhook, first int64) {
	var hooks []events.Webhook
	if hook != nil {
		hooks = append(hooks, *hook)
	}
	for _, id := range d.notifier.order {
		hooks = append(hooks, d.notifier.endpoints[id].webhook())
	}
	for _, h := range hooks {
		if d.trail = d.own.jobs[trailID(d.cause.AggregateID, endpointOf(h))]; d.trail == nil {
			d.write("registered", events.WebhookRegistered{Webhook: h, FirstOffset: first})
		}
	}
}

// trails are those of a job, its own webhook's first.
func (n *Notifier) trails(own *part, job string) (out []*Trail) {
	if own == nil {
		return nil
	}
	if t := own.jobs[job]; t != nil {
		out = append(out, t)
	}
	for _, id := range n.order {
		if t := own.jobs[trailID(job, id)]; t != nil {
			out = append(out, t)
		}
	}
	return out
}

// envelope is what the notifier needs of an event.
type envelope struct {
	ID            string    `json:"event_id"`
	Type          string    `json:"event_type"`
	JobID         string    `json:"aggregate_id"`
	OccurredAt    time.Time `json:"occurred_at"`
	CorrelationID string    `json:"correlation_id"`
	Tenant        string    `json:"tenant"`
	Data          struct {
		Request struct {
			Webhook *events.Webhook `json:"webhook"`
		} `json:"request"`
	} `json:"data"`
}

func (e envelope) message() events.Message {
	return events.Message{ID: e.ID, AggregateID: e.JobID, OccurredAt: e.OccurredAt, CorrelationID: e.CorrelationID, Tenant: e.Tenant}
}

func (n *Notifier) decideCommand(own *part, in eventlog.Record) ([]eventlog.Record, error) {
	m, err := events.Decode(in.Value)
	command, ok := m.Data.(events.WebhookRedeliver)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", eventlog.ErrUndecodable, err)
	case !ok:
		return nil, fmt.Errorf("%w: %s is no command to a webhook", eventlog.ErrUndecodable, m.Type())
	}
	d := decision{notifier: n, own: own, cause: m, trail: own.jobs[m.AggregateID]}
	d.redeliver(command)
	return d.out, d.err
}

// concerns says whether anything can come of the record. Most events are of jobs
// without a webhook, and are not even decoded.
func (n *Notifier) concerns(own *part, in eventlog.Record) bool {
	if in.Topic == events.TopicWebhookCommands || len(n.trails(own, in.Key)) > 0 {
		return true
	}
	kind := in.Header(events.HeaderType)
	return (kind == "" || kind == events.JobSubmitted{}.EventType()) && (len(n.endpoints) > 0 || bytes.Contains(in.Value, []byte(`"webhook":`)))
}

// patient says whether an input may wait for others: nothing comes of it.
func (n *Notifier) patient(in eventlog.Record) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.concerns(n.parts[in.Partition], in)
}

// decision is what comes of one input.
type decision struct {
	notifier *Notifier
	own      *part
	cause    events.Message
	trail    *Trail
	out      []eventlog.Record
	err      error
}

// write decides a record, and folds it at once: the next input is decided on it.
func (d *decision) write(what string, data events.Payload) {
	c, id := d.cause, d.cause.AggregateID
	first, registers := data.(events.WebhookRegistered)
	switch {
	case registers:
		id = trailID(jobOf(id), endpointOf(first.Webhook))
	case d.trail != nil:
		id = d.trail.id()
	}
	name := []string{"webhook", c.ID, what}
	if id != jobOf(id) {
		name = append(name, id)
	}
	m := message(id, c.Tenant, d.notifier.cfg.Instance, events.NameID(name...), d.notifier.cfg.Now(), data)
	m.CausationID, m.CorrelationID = c.ID, c.CorrelationID
	r, err := record(events.TopicWebhooks, m)
	if err != nil {
		d.err = errors.Join(d.err, err)
		return
	}
	d.out = append(d.out, r)
	if registers && d.trail == nil {
		d.trail = register(m, first)
		d.own.jobs[id] = d.trail
	}
	d.trail.apply(m)
}

// tell queues the event where the webhook asks for it.
func (d *decision) tell(kind string, in eventlog.Record) {
	t := d.trail
	if t == nil || t.Tenant != d.cause.Tenant { // nobody is told of another tenant's job
		return
	}
	late := d.notifier.cfg.Now().Sub(d.cause.OccurredAt) > d.notifier.cfg.Schedule.Window()+grace
	if t.wants(kind) && t.Find(d.cause.ID) == nil && !late {
		d.queue(events.Delivery{DeliveryID: d.cause.ID, Event: kind, Partition: in.Partition, Offset: in.Offset})
	}
	if events.EndsJob(kind) && !t.Closed {
		d.write("closed", events.WebhookClosed{})
	}
}

// grace is by how much an event may be older than the schedule is long.
const grace = time.Hour

func (d *decision) queue(delivery events.Delivery) {
	d.write("queued", events.WebhookQueued{Delivery: delivery})
	if d.err == nil {
		d.own.fresh = append(d.own.fresh, sending{d.trail, d.trail.Find(delivery.DeliveryID)})
	}
}

// redeliver queues a delivery again. One that is still tried is tried at its time. For a
// client of another tenant there is nothing to deliver.
func (d *decision) redeliver(c events.WebhookRedeliver) {
	if d.trail != nil && d.trail.Tenant != d.cause.Tenant {
		return
	}
	if d.trail == nil {
		d.write("registered", events.WebhookRegistered{Webhook: c.Webhook, FirstOffset: c.FirstOffset})
		if c.Ended {
			d.write("closed", events.WebhookClosed{})
		}
	}
	if d.trail == nil {
		return // it could not be written, and d.err says so
	}
	if have := d.trail.Find(c.Delivery.DeliveryID); have == nil || have.State != Pending {
		d.queue(c.Delivery)
	}
}

// Meta is where the next owner's fold has to begin.
func (n *Notifier) Meta(p int32, out []eventlog.Record) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	own := n.parts[p]
	own.place(out)
	from := own.end
	for _, t := range own.jobs {
		if t.since >= 0 {
			from = min(from, t.since)
		}
	}
	return strconv.FormatInt(from, 10)
}

// trailOf is the trail that a record is of, which its headers repeat.
func trailOf(r eventlog.Record) string { return r.Header("ce_subject") }

// place notes where the records lie.
func (own *part) place(out []eventlog.Record) {
	for _, r := range out {
		if t := own.jobs[trailOf(r)]; t != nil && t.since < 0 {
			t.since = r.Offset
		}
		own.end = max(own.end, r.Offset+1)
	}
}

// Committed lets what was queued be sent.
func (n *Notifier) Committed(p int32, out []eventlog.Record) {
	n.mu.Lock()
	defer n.mu.Unlock()
	own := n.parts[p]
	own.place(out)
	for _, s := range own.fresh {
		n.send(own, s)
	}
	own.fresh = nil
	for _, r := range out {
		if t := own.jobs[trailOf(r)]; t != nil && t.over() {
			delete(own.jobs, t.id())
		}
	}
}

// Drop forgets the partition and gives up what is under way there.
func (n *Notifier) Drop(p int32) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if own := n.parts[p]; own != nil {
		own.cancel()
		delete(n.parts, p)
	}
}
