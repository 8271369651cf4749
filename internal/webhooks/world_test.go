// What the notifier's tests run against: a broker in memory, receivers on this machine,
// and jobs whose facts the test writes.

package webhooks

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// keys seals by doing nothing, and may be told that everything was erased or is away.
type keys struct {
	mu   sync.Mutex
	fail error
}

func (k *keys) Open(_ context.Context, s events.Sealed) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return string(s.Bytes), k.fail
}

func (k *keys) failing(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

func open(text string) events.Sealed { return events.Sealed{Bytes: []byte(text), Key: "k"} }

// bodies are what messages hold here: what the notifier says of the event.
type bodies struct{}

func (bodies) Event(_ context.Context, tenant, job string, first int64, d events.Delivery) ([]byte, error) {
	return json.Marshal(map[string]any{"type": d.Event, "job": job, "tenant": tenant, "first": first, "offset": d.Offset})
}

func (bodies) Progress(m events.Message) ([]byte, error) {
	return json.Marshal(map[string]any{"type": events.WebhookProgress, "job": m.AggregateID, "percent": m.Data.(events.TaskProgress).Percent})
}

// got is a message as a receiver saw it.
type got struct {
	ID, Type, Job string
	Percent       float64
	signed        bool
}

// receiver is somebody's server. It answers 200 unless told otherwise.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	all    []got
	answer func(n int, w http.ResponseWriter, r *http.Request)
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	g := got{ID: req.Header.Get(HeaderID), signed: verify(exampleSecret, req.Header, body, time.Now()) == nil}
	_ = json.Unmarshal(body, &g)
	r.mu.Lock()
	r.all = append(r.all, g)
	n, answer := len(r.all), r.answer
	r.mu.Unlock()
	if answer != nil {
		answer(n, w, req)
	}
}

func (r *receiver) messages() []got {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.all)
}

func (r *receiver) answering(f func(n int, w http.ResponseWriter, r *http.Request)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

func status(code int) func(int, http.ResponseWriter, *http.Request) {
	return func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

// world is a log and what the test writes to it.
type world struct {
	t    *testing.T
	cfg  eventlog.Config
	log  *eventlog.Log // never cut
	keys keys
}

func newWorld(t *testing.T) *world {
	t.Helper()
	_, cfg := eventlogtest.Fake(t)
	cfg.Partitions = 2
	return &world{t: t, cfg: cfg, log: eventlogtest.Open(t, cfg)}
}

// notifier runs one until the returned function is called. A network, if given, is its alone.
func (w *world) notifier(change func(*Config), net *eventlogtest.Network) (n *Notifier, stop func()) {
	w.t.Helper()
	cfg := w.cfg
	if net != nil {
		cfg.Dial = net.Dial
		cfg.ProduceTimeout = 500 * time.Millisecond
	}
	log, err := eventlog.Open(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	c := Config{Log: log, Keys: &w.keys, Payloads: bodies{}, Policy: local, Schedule: Schedule{20 * time.Millisecond, 20 * time.Millisecond, 20 * time.Millisecond},
		ProgressEvery: time.Hour, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&c)
	}
	if n, err = New(c); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := n.Run(ctx); err != nil && net == nil {
			w.t.Error("Run:", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done; log.Close() })
	w.t.Cleanup(stop)
	return n, stop
}

// story is one job's facts.
type story struct {
	w       *world
	id      string
	version int64
	at      time.Time
}

// job submits a job with a webhook for those events.
func (w *world) job(address string, asked ...string) *story {
	w.t.Helper()
	s := &story{w: w, id: uuid.NewString(), at: time.Now().UTC()}
	r := events.Request{}
	if address != "" {
		r.Webhook = &events.Webhook{URL: open(address), Secret: open(exampleSecret), Endpoint: address, Events: asked}
	}
	s.fact(events.JobSubmitted{Request: r})
	return s
}

// fact writes the job's next fact and returns its id.
func (s *story) fact(data events.Payload) string {
	s.w.t.Helper()
	s.version++
	m := message(s.id, "default", "handler", events.NameID(s.id, fmt.Sprint(s.version)), s.at, data)
	m.Version = s.version
	s.w.write(events.TopicJobEvents, m)
	return m.ID
}

func (w *world) write(topic string, m events.Message) {
	w.t.Helper()
	r, err := record(topic, m)
	if err == nil {
		err = w.log.Produce(w.t.Context(), r)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// trail is what the log says of the deliveries to the job's own webhook.
func (s *story) trail() *Trail { return s.trailOf("") }

// trailOf is what the log says of the deliveries to an endpoint, nil if there are none.
func (s *story) trailOf(endpoint string) *Trail {
	s.w.t.Helper()
	all, err := Read(s.w.t.Context(), s.w.log, "default", s.id, s.at)
	if err != nil {
		s.w.t.Fatal(err)
	}
	for _, t := range all {
		if t.Endpoint() == endpoint {
			return t
		}
	}
	return nil
}

// outcomes are the attempts of the job's deliveries, by their words.
func (s *story) outcomes() (out []string) {
	t := s.trail()
	if t == nil {
		return nil
	}
	for _, d := range t.Deliveries {
		text := d.Event + " " + d.State + ":"
		for _, a := range d.List {
			text += " " + a.Outcome
		}
		out = append(out, text)
	}
	return out
}

func (s *story) await(want ...string) {
	s.w.t.Helper()
	var have []string
	defer func() {
		if s.w.t.Failed() {
			s.w.t.Logf("last seen: %q", have)
		}
	}()
	eventually(s.w.t, fmt.Sprintf("the deliveries are %q", want), func() bool { have = s.outcomes(); return slices.Equal(have, want) })
}

// tried waits until the deliveries have these events and states, each after an attempt
// at least. How many there were is a matter of time.
func (s *story) tried(want ...string) {
	s.w.t.Helper()
	eventually(s.w.t, fmt.Sprintf("the deliveries are %q, and tried", want), func() bool {
		t := s.trail()
		if t == nil || len(t.Deliveries) != len(want) {
			return false
		}
		for i, d := range t.Deliveries {
			if d.Event+" "+d.State != want[i] || len(d.List) == 0 {
				return false
			}
		}
		return true
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventlogtest.Eventually(t, 30*time.Second, what, ok)
}
