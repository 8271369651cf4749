// Webhooks from the submission to the receiver: what lies on the log, what arrives,
// what is told of it afterwards.

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/webhooks"
)

// hookReceiver is somebody's server, which checks every signature.
type hookReceiver struct {
	*httptest.Server
	world  *world
	mu     sync.Mutex
	secret string
	status int
	bodies map[string]hookMessage // by id
	raw    [][]byte
	forged int
}

func (w *world) receiver(secret string) *hookReceiver {
	r := &hookReceiver{world: w, secret: secret, status: 204, bodies: map[string]hookMessage{}}
	r.Server = httptest.NewServer(r)
	w.t.Cleanup(r.Close)
	return r
}

func (r *hookReceiver) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	var m hookMessage
	err := json.Unmarshal(body, &m)
	r.mu.Lock()
	defer r.mu.Unlock()
	id := req.Header.Get(webhooks.HeaderID)
	at, _ := strconv.ParseInt(req.Header.Get(webhooks.HeaderTimestamp), 10, 64)
	if want, signErr := webhooks.Sign(r.secret, id, time.Unix(at, 0), body); err != nil || signErr != nil || want != req.Header.Get(webhooks.HeaderSignature) {
		r.forged++
	}
	r.bodies[id] = m
	r.raw = append(r.raw, body)
	rw.WriteHeader(r.status)
}

func (r *hookReceiver) answers(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// notified runs a notifier that may reach this machine, and tells the endpoints of every job.
func (w *world) notified(endpoints ...webhooks.Endpoint) {
	p := NewPayloads(w.log, w.keyring, slog.New(slog.DiscardHandler))
	n, err := webhooks.New(webhooks.Config{Log: w.log, Keys: w.keyring, Payloads: p, Policy: hooksInside, Endpoints: endpoints, Logger: slog.New(slog.DiscardHandler),
		Schedule: webhooks.Schedule{10 * time.Millisecond}, ProgressEvery: time.Millisecond})
	ok(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { _ = p.Run(ctx) })
	parts.Go(func() {
		if err := n.Run(ctx); err != nil {
			w.t.Error("the notifier stopped:", err)
		}
	})
	w.t.Cleanup(func() { cancel(); parts.Wait() })
}

var hooksInside = webhooks.Policy{Private: []string{"127.0.0.1"}}

func allowInside(c *Config) { c.Webhooks = hooksInside }

func (w *world) deliveriesOf(job string) (out Deliveries) {
	w.want(http.StatusOK, w.get("/api/jobs/"+job+"/deliveries")).decode(w.t, &out)
	return out
}

func (d Deliveries) words() (out []string) {
	for _, i := range d.Items {
		text := i.Event + " " + i.Status
		for _, a := range i.Attempts {
			text += " " + a.Outcome
		}
		out = append(out, text)
	}
	return out
}

func TestAJobTellsItsWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{config: allowInside})
	w.notified()
	r := w.receiver("")
	hook := map[string]any{"url": r.URL + "/canary-path", "events": []string{"job.succeeded", "job.submitted", "job.submitted"}}
	body := jsonBody(t, map[string]any{"variant": "sadtalker", "script": canaryScript, "portrait": w.portrait(), "webhook": hook})
	r.mu.Lock() // until the secret is known
	job := w.submit(body, "Idempotency-Key", "hook-1")
	r.secret = job.WebhookSecret
	r.mu.Unlock()
	if _, err := webhooks.SecretKey(job.WebhookSecret); err != nil {
		t.Fatalf("secret %q: %v", job.WebhookSecret, err)
	}
	// Who repeats the submission is told the same secret, by another process as well.
	for _, world := range []*world{w, w.another()} {
		if again := world.submit(body, "Idempotency-Key", "hook-1"); again.ID != job.ID || again.WebhookSecret != job.WebhookSecret {
			t.Errorf("the repeat is job %s with secret %q", again.ID, again.WebhookSecret)
		}
	}
	eventually(t, "both events are delivered", func() bool {
		return slices.Equal(w.deliveriesOf(job.ID).words(), []string{"job.submitted delivered delivered", "job.succeeded delivered delivered"})
	})
	d := w.deliveriesOf(job.ID)
	if d.Webhook.State != "closed" || *d.Webhook.URL != r.URL+"/canary-path" || !slices.Equal(d.Webhook.Events, []string{"job.submitted", "job.succeeded"}) {
		t.Errorf("the webhook is %+v", d.Webhook)
	}
	w.checkMessages(r, job)
	w.noSecret(job, "canary-path", strings.TrimPrefix(job.WebhookSecret, "whsec_"))
}

// checkMessages holds what arrived against the contract and the API's own words.
func (w *world) checkMessages(r *hookReceiver, job accepted) {
	w.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.forged != 0 || len(r.bodies) != 2 {
		w.t.Fatalf("%d messages, %d not signed right", len(r.bodies), r.forged)
	}
	for _, raw := range r.raw {
		var v any
		ok(w.t, json.Unmarshal(raw, &v))
		if faults := w.server.contract.check("WebhookMessage", v); len(faults) > 0 {
			w.t.Errorf("a message is not as the contract says: %v\n%s", faults, raw)
		}
	}
	var now jobView
	w.want(http.StatusOK, w.get("/api/jobs/"+job.ID)).decode(w.t, &now)
	for id, m := range r.bodies {
		if m.Data.Event.EventID != id || m.Data.JobID != job.ID || m.Type != m.Data.Event.Type || m.Data.Job.Version != m.Data.Event.Version {
			w.t.Errorf("message %s is %+v", id, m)
		}
		switch m.Type {
		case "job.submitted":
			if m.Data.Job.Status == "succeeded" || !strings.Contains(string(m.Data.Event.Data), canaryScript) {
				w.t.Errorf("the job was submitted as %+v with %s", m.Data.Job, m.Data.Event.Data)
			}
		default: // it is the object that the API shows, without its largest parts
			now.Request, now.Graph, now.RecentEvents = nil, nil, nil
			if got, want := jsonBody(w.t, m.Data.Job), jsonBody(w.t, now); got != want {
				w.t.Errorf("the job that was told of is\n%s\nthe API shows\n%s", got, want)
			}
		}
	}
}

// noSecret searches what is said of the job, and what lies on the log.
func (w *world) noSecret(job accepted, address, secret string) {
	w.t.Helper()
	for _, topic := range []string{events.TopicJobCommands, events.TopicJobEvents, events.TopicWebhooks, events.TopicWebhookCommands} {
		for _, r := range w.records(topic) {
			if bytes.Contains(r.Value, []byte(address)) || bytes.Contains(r.Value, []byte(secret)) {
				w.t.Errorf("%s holds the address or the secret: %s", topic, r.Value)
			}
		}
	}
	for _, path := range []string{"", "/events", "/deliveries", "?at=1"} {
		if a := w.get("/api/jobs/" + job.ID + path); a.status != http.StatusOK || bytes.Contains(a.body, []byte(secret)) {
			w.t.Errorf("GET …%s tells the secret: %s", path, a.body)
		}
	}
	var now jobView
	w.want(http.StatusOK, w.get("/api/jobs/"+job.ID)).decode(w.t, &now)
	if h := now.Request.Webhook; h == nil || !strings.HasSuffix(*h.URL, address) || len(h.Events) != 2 {
		w.t.Errorf("the request shows webhook %+v", h)
	}
}

func TestASecretOfOnesOwnAndRedelivery(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{config: allowInside})
	w.notified()
	secret := webhooks.NewSecret(bytes.Repeat([]byte{9}, 24))
	r := w.receiver(secret)
	r.answers(500)
	job := w.submit(jsonBody(t, map[string]any{"mode": "diagnostic", "webhook": map[string]any{"url": r.URL, "secret": secret}}))
	if job.WebhookSecret != "" {
		t.Errorf("a secret that the client brought is repeated: %q", job.WebhookSecret)
	}
	eventually(t, "the delivery has failed", func() bool {
		return slices.Equal(w.deliveriesOf(job.ID).words(), []string{"job.succeeded failed retrying failed"})
	})
	if a := w.deliveriesOf(job.ID).Items[0].Attempts[1]; a.Number != 2 || *a.HTTPStatus != 500 || *a.Class != "status" || a.LatencyMS < 1 {
		t.Errorf("the attempt is %+v", a)
	}
	r.answers(200)
	path := "/api/jobs/" + job.ID + "/redeliver"
	var again Redelivered
	w.want(http.StatusAccepted, w.post(path, "")).decode(t, &again)
	if id := w.deliveriesOf(job.ID).Items[0].ID; !slices.Equal(again.Deliveries, []string{id}) {
		t.Errorf("asked for %v, want %s", again.Deliveries, id)
	}
	delivered := []string{"job.succeeded delivered retrying failed delivered"}
	eventually(t, "it is delivered", func() bool { return slices.Equal(w.deliveriesOf(job.ID).words(), delivered) })
	// With the tables away the log alone answers.
	w.tableNet.Cut()
	if got := w.deliveriesOf(job.ID).words(); !slices.Equal(got, delivered) {
		t.Errorf("without tables: %q", got)
	}
	w.want(http.StatusAccepted, w.post(path, fmt.Sprintf(`{"delivery_id": %q}`, again.Deliveries[0])))
	eventually(t, "it is delivered again", func() bool { return strings.HasSuffix(w.deliveriesOf(job.ID).words()[0], "delivered delivered") })
	w.want(http.StatusNotFound, w.post(path, fmt.Sprintf(`{"delivery_id": %q}`, uuid.NewString())))
	w.want(http.StatusUnprocessableEntity, w.post(path, `{"delivery_id": "x"}`))
	w.want(http.StatusUnprocessableEntity, w.post(path, `{"all": true}`))
	if r.mu.Lock(); r.forged != 0 || len(r.bodies) != 1 || len(r.raw) != 4 {
		t.Errorf("%d messages under %d ids, %d not signed right", len(r.raw), len(r.bodies), r.forged)
	}
	r.mu.Unlock()
}

func TestJobsWithoutAWebhook(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	job := w.ended(`{"mode": "diagnostic"}`)
	if d := w.deliveriesOf(job.ID); d.Webhook != nil || len(d.Items) != 0 {
		t.Errorf("deliveries %+v", d)
	}
	w.want(http.StatusNotFound, w.post("/api/jobs/"+job.ID+"/redeliver", ""))
	w.want(http.StatusNotFound, w.get("/api/jobs/"+uuid.NewString()+"/deliveries"))
	w.want(http.StatusNotFound, w.post("/api/jobs/"+uuid.NewString()+"/redeliver", ""))
	w.want(http.StatusUnprocessableEntity, w.get("/api/jobs/x/deliveries"))
	w.want(http.StatusBadRequest, w.get("/api/jobs/"+job.ID+"/deliveries?limit=1"))
}

func TestAReRunTellsTheSameWebhookUnderItsOwnKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, config: allowInside})
	secret := webhooks.NewSecret(bytes.Repeat([]byte{9}, 24))
	job := w.ended(jsonBody(t, map[string]any{"mode": "diagnostic", "webhook": map[string]any{"url": "https://example.com/h", "secret": secret}}))
	child := w.goOn(job.ID, "retry", "")
	parent, hook := w.request(job.ID).Webhook, w.request(child.ID).Webhook
	if hook == nil || hook.Endpoint != parent.Endpoint || hook.URL.Key == parent.URL.Key || !slices.Equal(hook.Events, parent.Events) {
		t.Fatalf("the child's webhook is %+v, the parent's %+v", hook, parent)
	}
	for sealed, want := range map[*events.Sealed]string{&hook.URL: "https://example.com/h", &hook.Secret: secret} {
		if text, err := w.keyring.Open(t.Context(), *sealed); err != nil || text != want {
			t.Errorf("%q, %v; want %q", text, err, want)
		}
	}
	ok(t, w.keyring.Erase(t.Context(), parent.URL.Key))
	ok(t, w.server.cfg.Keyring.Erase(t.Context(), parent.URL.Key))
	w.want(http.StatusGone, w.post("/api/jobs/"+job.ID+"/retry", ""))
}

func TestWebhooksThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	for hook, where := range map[string]string{
		`{}`:                                                                 "/webhook/url",
		`{"url": "https://127.1/"}`:                                          "/webhook/url",
		`{"url": "https://[::ffff:10.0.0.1]/"}`:                              "/webhook/url",
		`{"url": "https://169.254.169.254/"}`:                                "/webhook/url",
		`{"url": "http://example.com/"}`:                                     "/webhook/url",
		`{"url": "https://user@example.com/"}`:                               "/webhook/url",
		`{"url": "https://localhost/"}`:                                      "/webhook/url",
		`{"url": "https://example.com:25/"}`:                                 "/webhook/url",
		`{"url": "https://example.com/", "x": 1}`:                            "/webhook/x",
		`{"url": "https://example.com/", "events": []}`:                      "/webhook/events",
		`{"url": "https://example.com/", "events": ["job.carried_forward"]}`: "/webhook/events/0",
		`{"url": "https://example.com/", "secret": "hunter2"}`:               "/webhook/secret",
		`{"url": "https://example.com/", "secret": "whsec_` + strings.Repeat("A", 33) + `"}`: "/webhook/secret",
	} {
		a := w.want(http.StatusUnprocessableEntity, w.post("/api/jobs", `{"mode": "diagnostic", "webhook": `+hook+`}`))
		var p problem
		a.decode(t, &p)
		if len(p.Errors) != 1 || p.Errors[0].Pointer != where {
			t.Errorf("%s: %s", hook, a.body)
		}
	}
	if n := len(w.records(events.TopicJobCommands)); n != 0 {
		t.Errorf("%d commands were written", n)
	}
}

func TestTheContractNamesWhatWebhooksAreToldOf(t *testing.T) {
	t.Parallel()
	k, err := loadContract()
	ok(t, err)
	var named []string
	for _, v := range list(k.checker.resolve("#/components/schemas/WebhookEvent")["enum"]) {
		named = append(named, fmt.Sprint(v))
	}
	if !slices.Equal(named, events.WebhookEvents()) {
		t.Errorf("the contract names %v, events has %v", named, events.WebhookEvents())
	}
	for _, name := range named {
		zero, err := events.Zero(name)
		if _, fact := zero.(events.JobFact); !fact && name != events.WebhookProgress {
			t.Errorf("%s is no fact of a job: %v", name, err)
		}
	}
	for _, name := range hookEvents {
		if !events.EndsJob(name) {
			t.Errorf("%s does not end a job", name)
		}
	}
}
