// The notifier: one member of the group that follows jobs.events.

package webhooks

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/internal/pubsub"
)

// Group is the consumer group of the notifiers.
const Group = "notifier"

const (
	// patience is how long events that nobody is to be told of wait to be passed together.
	patience = 250 * time.Millisecond
	// pause lies before another try where the keys, the log or its records cannot be read.
	pause = 5 * time.Second
	// recordPause lies between two tries to write down what came of an attempt.
	recordPause = 200 * time.Millisecond
	// drain is how long what is under way may take once the process is to stop.
	drain = 5 * time.Second
)

// Payloads makes the bodies of messages.
type Payloads interface {
	// Event is the message about the event of a delivery. First is the offset of its job's
	// first event on jobs.events. An error that wraps eventlog.ErrUnavailable or
	// objects.ErrUnavailable is no attempt, and is tried again.
	Event(ctx context.Context, tenant, job string, first int64, d events.Delivery) ([]byte, error)
	// Progress is the message about a beat, a task.progress.
	Progress(beat events.Message) ([]byte, error)
}

// Keys opens sealed texts, as objects.Keyring does.
type Keys interface {
	Open(ctx context.Context, s events.Sealed) (string, error)
}

// Config is what a notifier needs. Log, Keys and Payloads are required.
type Config struct {
	Log      *eventlog.Log
	Keys     Keys
	Payloads Payloads
	Instance string // this process among its peers; default "local"
	Policy   Policy
	// Endpoints are told of every job that is submitted while they are configured.
	Endpoints []Endpoint

	Schedule      Schedule      // default Standard
	ProgressEvery time.Duration // least time between two messages about one job's progress, where an endpoint has none of its own; default 10 s

	Trust    *x509.CertPool // whose certificates are trusted; default the system's
	Resolver *net.Resolver  // default the system's
	Now      func() time.Time

	Registerer prometheus.Registerer // default: none
	Logger     *slog.Logger          // default slog.Default
}

func (c *Config) fill() error {
	if c.Log == nil || c.Keys == nil || c.Payloads == nil {
		return errors.New("cannot make a notifier without a log, keys and payloads")
	}
	c.Instance = cmp.Or(c.Instance, "local")
	c.ProgressEvery = cmp.Or(c.ProgressEvery, 10*time.Second)
	c.Logger = cmp.Or(c.Logger, slog.Default())
	if c.Schedule == nil {
		c.Schedule = Standard()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// Notifier tells webhooks of jobs.
type Notifier struct {
	cfg     Config
	log     *eventlog.Log
	client  *client
	queue   *queue
	metrics *metrics
	runner  *eventlog.Runner

	endpoints map[string]Endpoint // by their ids
	order     []string            // their ids

	mu    sync.Mutex
	parts map[int32]*part
}

// New makes a notifier. Run does the work.
func New(cfg Config) (*Notifier, error) {
	if err := cfg.fill(); err != nil {
		return nil, err
	}
	n := &Notifier{cfg: cfg, log: cfg.Log, client: newClient(cfg.Policy, cfg.Trust, cfg.Resolver, cfg.Now), queue: newQueue(cfg.Now), parts: map[int32]*part{}, endpoints: map[string]Endpoint{}}
	for _, e := range cfg.Endpoints {
		if err := e.Check(cfg.Policy); err != nil {
			return nil, fmt.Errorf("a webhook endpoint for all jobs cannot be used: %w", err)
		}
		n.endpoints[e.ID()] = e
	}
	n.order = slices.Sorted(maps.Keys(n.endpoints))
	n.metrics = newMetrics(n)
	if cfg.Registerer != nil {
		for _, c := range n.metrics.collectors() {
			if err := cfg.Registerer.Register(c); err != nil {
				return nil, fmt.Errorf("cannot register the notifier's metrics: %w", err)
			}
		}
	}
	runner, err := cfg.Log.NewRunner(eventlog.RunnerConfig{
		Group: Group, Topics: []string{events.TopicJobEvents, events.TopicWebhookCommands}, Journals: []string{events.TopicWebhooks},
		Decider: pubsub.NewRecordDecider(n, n.Decide), Patient: n.patient, Patience: patience,
	})
	if err != nil {
		return nil, err
	}
	n.runner = runner
	return n, nil
}

// Run tells until ctx ends; what is under way then may take a few seconds more. Errors
// are those of eventlog.Runner.
func (n *Notifier) Run(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	group, running := errgroup.WithContext(running)
	group.Go(func() error { return n.runner.Run(running) })
	group.Go(func() error { return n.followProgress(running) })
	group.Go(func() error {
		select {
		case <-running.Done():
		case <-ctx.Done():
			n.queue.halt(drain)
			stop()
		}
		return nil
	})
	err := group.Wait()
	n.queue.halt(0)
	n.mu.Lock()
	for p, own := range n.parts { // of a runner that failed between two assignments
		own.cancel()
		delete(n.parts, p)
	}
	n.mu.Unlock()
	n.queue.work.Wait()
	n.client.close()
	return err
}

// send puts a delivery into the queue. The caller holds mu.
func (n *Notifier) send(own *part, s sending) {
	turn := s.delivery.turn
	n.queue.add(&task{ctx: own.ctx, endpoint: s.trail.Webhook.Endpoint, due: s.delivery.Next, run: func(ctx context.Context) { n.deliver(ctx, own, s, turn) }})
}

// deliver makes one attempt and writes down what came of it.
func (n *Notifier) deliver(ctx context.Context, own *part, s sending, turn int) {
	n.mu.Lock()
	current := s.delivery.State == Pending && s.delivery.turn == turn
	hook, tenant, first, what, failed := s.trail.Webhook, s.trail.Tenant, s.trail.FirstOffset, s.delivery.Delivery, s.delivery.failed
	number := len(s.delivery.List) + 1
	n.mu.Unlock()
	if !current {
		return
	}
	a, err := n.attempt(ctx, hook, what.DeliveryID, func() ([]byte, error) {
		return n.cfg.Payloads.Event(ctx, tenant, s.trail.JobID, first, what)
	})
	switch {
	case ctx.Err() != nil:
		return // whoever owns the partition sends it again
	case err != nil:
		n.cfg.Logger.Warn("a webhook's message cannot be made now", "jobId", s.trail.JobID, "event", what.Event, "error", err, "in", pause)
		n.postpone(own, s)
		return
	}
	n.settle(ctx, own, s, n.outcome(s.trail, what, a, number, failed))
}

// attempt opens what is sealed, makes the body, and sends it. An error says that
// nothing could be sent, for reasons that pass.
func (n *Notifier) attempt(ctx context.Context, hook events.Webhook, id string, body func() ([]byte, error)) (answer, error) {
	address, secrets, err := n.receiver(ctx, hook)
	var payload []byte
	if err == nil {
		payload, err = body()
	}
	switch {
	case errors.Is(err, objects.ErrErased):
		return answer{class: ClassErased, message: "the job's content was erased, and with it the webhook's address and secret"}, nil
	case errors.Is(err, objects.ErrUnavailable), errors.Is(err, eventlog.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return answer{}, err
	case err != nil:
		n.cfg.Logger.Error("a webhook's message cannot be made", "delivery", id, "error", err)
		return answer{class: ClassUnusable, message: "the message cannot be made; the notifier's log says why"}, nil
	}
	return n.client.post(ctx, address, secrets, id, payload), nil
}

// receiver is where a message goes, and by what it is signed.
func (n *Notifier) receiver(ctx context.Context, hook events.Webhook) (address string, secrets []string, err error) {
	if id := endpointOf(hook); id != "" {
		e := n.endpoints[id]
		if e.URL == "" {
			return "", nil, fmt.Errorf("the endpoint %s is not configured here any more", id)
		}
		return e.URL, e.Secrets, nil
	}
	var secret string
	if address, err = n.cfg.Keys.Open(ctx, hook.URL); err == nil {
		secret, err = n.cfg.Keys.Open(ctx, hook.Secret)
	}
	return address, []string{secret}, err
}

// outcome is the record of an attempt.
func (n *Notifier) outcome(t *Trail, what events.Delivery, a answer, number, failed int) events.Message {
	now := n.cfg.Now()
	data := events.WebhookAttempted{DeliveryID: what.DeliveryID, Status: a.status, Message: a.message}
	state := events.WebhookFailed
	switch next, again := n.cfg.Schedule.Next(failed+1, now, a.wish, rand.Float64()); {
	case a.class == "":
		state = events.WebhookDelivered
	case a.class == ClassGone:
		state = events.WebhookGone
	case a.class == ClassErased:
	case again:
		state, data.NextMS = events.WebhookRetrying, next.UnixMilli()
	}
	id, err := uuid.NewV7()
	if err != nil {
		id = uuid.New()
	}
	m := message(t.id(), t.Tenant, n.cfg.Instance, id.String(), now, data)
	m.CausationID, m.CorrelationID = what.DeliveryID, what.DeliveryID
	m.Attempt, m.State, m.ErrorClass, m.DurationMS = number, state, a.class, max(1, a.took.Milliseconds())
	return m
}

// settle writes what came of an attempt until it is written, and then takes it as true.
func (n *Notifier) settle(ctx context.Context, own *part, s sending, m events.Message) {
	if !n.written(ctx, m) {
		return // it is sent again, by whoever owns the partition
	}
	n.metrics.attempted(m)
	n.mu.Lock()
	defer n.mu.Unlock()
	s.trail.apply(m)
	switch {
	case s.delivery.State == Pending:
		n.send(own, s)
	case s.trail.over() && own.jobs[s.trail.id()] == s.trail && s.trail.since >= 0:
		delete(own.jobs, s.trail.id())
	}
}

// written writes a record until it lies on the log, or until ctx ends.
func (n *Notifier) written(ctx context.Context, m events.Message) bool {
	r, err := record(events.TopicWebhooks, m)
	if err != nil {
		n.cfg.Logger.Error("what came of a webhook's message cannot be encoded", "jobId", m.AggregateID, "error", err)
		return false
	}
	for {
		if err = n.log.Produce(context.WithoutCancel(ctx), r); err == nil {
			return true
		}
		n.cfg.Logger.Warn("what came of a webhook's message cannot be written down", "jobId", m.AggregateID, "error", err)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(recordPause):
		}
	}
}

// postpone tries a delivery again in a while; nothing was sent.
func (n *Notifier) postpone(own *part, s sending) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s.delivery.Next = n.cfg.Now().Add(pause)
	n.send(own, s)
}
