// The notifier against a broker in memory and receivers on this machine.

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
	"github.com/myspinbot/myspinbot/internal/objects"
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

// trail is what the log says of the job's deliveries.
func (s *story) trail() *Trail {
	s.w.t.Helper()
	t, err := Read(s.w.t.Context(), s.w.log, "default", s.id, s.at)
	if err != nil {
		s.w.t.Fatal(err)
	}
	return t
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

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventlogtest.Eventually(t, 30*time.Second, what, ok)
}

func TestEventsThatAreAskedForAreTold(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	n, _ := w.notifier(nil, nil)
	without := w.job("")
	with := w.job(r.URL, "job.submitted", "job.succeeded")
	with.fact(events.JobPlanned{})
	without.fact(events.JobSucceeded{})
	last := with.fact(events.JobSucceeded{})
	with.await("job.submitted delivered: delivered", "job.succeeded delivered: delivered")
	all := r.messages()
	slices.SortFunc(all, func(a, b got) int { return len(a.Type) - len(b.Type) })
	want := []got{{events.NameID(with.id, "1"), "job.submitted", with.id, 0, true}, {last, "job.succeeded", with.id, 0, true}}
	if len(all) == 2 && all[0] != want[0] {
		slices.Reverse(all)
	}
	if !slices.Equal(all, want) {
		t.Errorf("received %+v, want %+v", all, want)
	}
	if tr := with.trail(); !tr.Closed || tr.Stopped || without.trail() != nil {
		t.Errorf("the trail is %+v", tr)
	}
	eventually(t, "nothing is kept of jobs that are told of", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.parts) == 2 && len(n.parts[0].jobs)+len(n.parts[1].jobs) == 0
	})
}

func TestFailuresAreTriedAgainUntilTheScheduleEnds(t *testing.T) {
	t.Parallel()
	w, r, dead := newWorld(t), newReceiver(t), newReceiver(t)
	r.answering(func(n int, w http.ResponseWriter, _ *http.Request) {
		if n < 3 {
			w.WriteHeader(503)
		}
	})
	dead.answering(status(500))
	w.notifier(nil, nil)
	better, never := w.job(r.URL, "job.failed"), w.job(dead.URL, "job.failed")
	better.fact(events.JobFailed{})
	never.fact(events.JobFailed{})
	better.await("job.failed delivered: retrying retrying delivered")
	never.await("job.failed failed: retrying retrying retrying failed")
	d := never.trail().Deliveries[0]
	for i, a := range d.List {
		if a.Number != i+1 || a.Status != 500 || a.Class != ClassStatus || a.Message == "" || a.Took <= 0 || a.Next.IsZero() != (i == 3) {
			t.Errorf("attempt %d is %+v", i+1, a)
		}
	}
	for _, g := range dead.messages() {
		if g != dead.messages()[0] || g.ID != d.DeliveryID {
			t.Errorf("received %+v", dead.messages())
		}
	}
}

func TestA410EndsAllThatIsForThatJob(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	r.answering(status(410))
	w.notifier(nil, nil)
	s, other := w.job(r.URL, "job.planned", "job.succeeded"), w.job(r.URL, "job.planned")
	s.fact(events.JobPlanned{})
	s.await("job.planned stopped: gone")
	s.fact(events.JobSucceeded{})
	r.answering(nil)
	other.fact(events.JobPlanned{})
	other.await("job.planned delivered: delivered")
	if s.await("job.planned stopped: gone"); len(r.messages()) != 2 {
		t.Errorf("received %+v", r.messages())
	}
}

// Given the receiver has answered, when the process dies before that is written down,
// then the message comes again under its id, and is not lost.
func TestADeathBetweenAnswerAndRecordRepeatsTheMessage(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	var net eventlogtest.Network
	r.answering(func(n int, _ http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			net.Cut() // to the log this process is dead from now on
		}
	})
	_, stop := w.notifier(func(c *Config) { c.Instance = "first" }, &net)
	s := w.job(r.URL, "job.succeeded")
	id := s.fact(events.JobSucceeded{})
	eventually(t, "the first process has sent", func() bool { return len(r.messages()) == 1 })
	if have := s.outcomes(); !slices.Equal(have, []string{"job.succeeded pending:"}) {
		t.Fatalf("the log says %q", have)
	}
	go stop()
	w.notifier(nil, nil)
	s.await("job.succeeded delivered: delivered")
	if all := r.messages(); len(all) != 2 || all[0] != all[1] || all[0].ID != id {
		t.Errorf("received %+v, want %s twice", all, id)
	}
}

// Given deliveries that wait for their next attempt, when the process is started again,
// then they are made at their times, and what was delivered is not sent again.
func TestWhatIsPendingSurvivesARestart(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	r.answering(func(_ int, w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/bad" {
			w.WriteHeader(500)
		}
	})
	slowly := func(c *Config) { c.Schedule = Schedule{time.Second, time.Second} }
	_, stop := w.notifier(slowly, nil)
	good, bad := w.job(r.URL+"/good", "job.succeeded"), w.job(r.URL+"/bad", "job.planned", "job.succeeded")
	good.fact(events.JobSucceeded{})
	bad.fact(events.JobPlanned{})
	good.await("job.succeeded delivered: delivered")
	bad.await("job.planned pending: retrying")
	stop()
	bad.fact(events.JobSucceeded{}) // while nobody is there
	r.answering(nil)
	next := bad.trail().Deliveries[0].List[0].Next
	w.notifier(slowly, nil)
	bad.await("job.planned delivered: retrying delivered", "job.succeeded delivered: delivered")
	if a := bad.trail().Deliveries[0].List[1]; a.At.Before(next) {
		t.Errorf("tried at %v, before its time %v", a.At, next)
	}
	if good.await("job.succeeded delivered: delivered"); len(r.messages()) != 4 {
		t.Errorf("received %+v", r.messages())
	}
}

func TestPartitionsMoveWithWhatIsPending(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	r.answering(status(500))
	slowly := func(name string) func(*Config) {
		return func(c *Config) { c.Schedule, c.Instance = Schedule{2 * time.Second}, name }
	}
	w.cfg.Instance = "one"
	_, stop := w.notifier(slowly("one"), nil)
	var jobs []*story
	for range 6 {
		s := w.job(r.URL, "job.succeeded")
		s.fact(events.JobSucceeded{})
		jobs = append(jobs, s)
	}
	for _, s := range jobs {
		s.await("job.succeeded pending: retrying")
	}
	r.answering(nil)
	w.cfg.Instance = "two"
	w.notifier(slowly("two"), nil)
	stop()
	for _, s := range jobs {
		s.await("job.succeeded delivered: retrying delivered")
	}
}

func TestRedelivery(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	r.answering(status(410))
	w.notifier(nil, nil)
	s := w.job(r.URL, "job.planned", "job.succeeded")
	first := s.fact(events.JobPlanned{})
	s.await("job.planned stopped: gone")
	r.answering(nil)
	again := func(id string) ([]string, error) {
		return Redeliver(t.Context(), w.log, s.trail(), id, "api", time.Now())
	}
	if ids, err := again(""); err != nil || !slices.Equal(ids, []string{first}) {
		t.Fatalf("Redeliver = %v, %v", ids, err)
	}
	s.await("job.planned delivered: gone delivered")
	s.fact(events.JobSucceeded{}) // the receiver is back, and is told of what comes
	s.await("job.planned delivered: gone delivered", "job.succeeded delivered: delivered")
	if ids, err := again(""); err != nil || len(ids) != 0 {
		t.Errorf("when all is delivered: %v, %v", ids, err)
	}
	// One by its id, although it was delivered and the job is over and forgotten.
	if ids, err := again(first); err != nil || len(ids) != 1 {
		t.Fatalf("Redeliver = %v, %v", ids, err)
	}
	s.await("job.planned delivered: gone delivered delivered", "job.succeeded delivered: delivered")
	if _, err := again(uuid.NewString()); err == nil {
		t.Error("an id that is no delivery's is taken")
	}
}

func TestOldEventsAreNotTold(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	s := w.job(r.URL, "job.planned", "job.succeeded")
	s.at = time.Now().Add(-grace - time.Minute)
	s.fact(events.JobPlanned{})
	s.at = time.Now()
	s.fact(events.JobSucceeded{})
	w.notifier(nil, nil) // which reads the log from its beginning
	s.await("job.succeeded delivered: delivered")
	if all := r.messages(); len(all) != 1 || all[0].Type != "job.succeeded" {
		t.Errorf("received %+v", all)
	}
}

func TestErasedContentAndKeysThatAreAway(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	n, _ := w.notifier(nil, nil)
	w.keys.failing(objects.ErrErased)
	s := w.job(r.URL, "job.succeeded")
	s.fact(events.JobSucceeded{})
	s.await("job.succeeded failed: failed")
	if a := s.trail().Deliveries[0].List[0]; a.Class != ClassErased || a.Status != 0 {
		t.Errorf("the attempt is %+v", a)
	}
	w.keys.failing(objects.ErrUnavailable)
	s = w.job(r.URL, "job.succeeded")
	s.fact(events.JobSucceeded{})
	eventually(t, "the delivery waits", func() bool { count, _ := n.waiting(); return count == 1 })
	w.keys.failing(nil)
	s.await("job.succeeded delivered: delivered")
	if len(r.messages()) != 1 {
		t.Errorf("received %+v", r.messages())
	}
}

func TestProgressIsToldOnceInAWhile(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	w.notifier(nil, nil)
	asks, other := w.job(r.URL, events.WebhookProgress, "job.planned"), w.job(r.URL, "job.planned")
	asks.fact(events.JobPlanned{})
	other.fact(events.JobPlanned{})
	asks.await("job.planned delivered: delivered")
	other.await("job.planned delivered: delivered")
	beats := 0.0
	beat := func(s *story) {
		beats++
		m := message(s.id, "default", "worker-1", uuid.NewString(), time.Now(), events.TaskProgress{Percent: beats})
		w.write(events.TopicTaskProgress, m)
	}
	told := func() (out []got) {
		return slices.DeleteFunc(r.messages(), func(g got) bool { return g.Type != events.WebhookProgress })
	}
	beat(other)
	eventually(t, "a beat is told", func() bool { beat(asks); return len(told()) == 1 })
	for range 20 {
		beat(asks)
	}
	end := asks.fact(events.JobSucceeded{})
	eventually(t, "the job is over", func() bool { return asks.trail().Closed })
	if all := told(); len(all) != 1 || all[0].Job != asks.id || all[0].Percent == 0 || !all[0].signed {
		t.Errorf("after %s: %+v", end, all)
	}
}
