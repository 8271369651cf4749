// Endpoints of the operator, which are told of every job.

package webhooks

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// outcomesAt are the attempts of the job's deliveries to an endpoint.
func (s *story) outcomesAt(e Endpoint) (out []string) {
	t := s.trailOf(e.ID())
	if t == nil {
		return nil
	}
	for _, d := range t.Deliveries {
		out = append(out, d.Event+" "+d.State)
	}
	return out
}

func (s *story) awaitAt(e Endpoint, want ...string) {
	s.w.t.Helper()
	eventually(s.w.t, "the endpoint's deliveries are "+strings.Join(want, ", "), func() bool { return slices.Equal(s.outcomesAt(e), want) })
}

func TestEndpointsAreToldOfEveryJob(t *testing.T) {
	t.Parallel()
	w, all, ends, own := newWorld(t), newReceiver(t), newReceiver(t), newReceiver(t)
	some := Endpoint{URL: all.URL + "/secret-path", Secrets: []string{exampleSecret}, Events: []string{"job.submitted", "job.failed"}}
	usual := Endpoint{URL: ends.URL, Secrets: []string{exampleSecret}}
	n, _ := w.notifier(func(c *Config) { c.Endpoints = []Endpoint{some, usual} }, nil)
	without, with := w.job(""), w.job(own.URL, "job.failed")
	ids := map[string]string{without.id: without.fact(events.JobFailed{}), with.id: with.fact(events.JobFailed{})}
	for _, job := range []*story{without, with} {
		job.awaitAt(some, "job.submitted delivered", "job.failed delivered")
		job.awaitAt(usual, "job.failed delivered")
	}
	with.await("job.failed delivered: delivered")
	for name, r := range map[string]*receiver{"some": all, "usual": ends, "own": own} {
		want := map[string]int{"some": 4, "usual": 2, "own": 1}[name]
		got := r.messages()
		for _, g := range got {
			if !g.signed || g.Type == "job.failed" && g.ID != ids[g.Job] {
				t.Errorf("%s received %+v", name, g)
			}
		}
		if len(got) != want {
			t.Errorf("%s received %d messages, want %d: %+v", name, len(got), want, got)
		}
	}
	if without.trail() != nil || !without.trailOf(usual.ID()).Closed {
		t.Error("a job without a webhook has one, or its endpoint's trail is open")
	}
	eventually(t, "nothing is kept of jobs that are told of", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.parts[0].jobs)+len(n.parts[1].jobs) == 0
	})
	if h := with.trailOf(some.ID()).Webhook; len(h.URL.Bytes)+len(h.Secret.Bytes) > 0 {
		t.Errorf("the log has %+v", h)
	}
	w.nowhere("secret-path", strings.TrimPrefix(exampleSecret, "whsec_"))
}

// nowhere searches the deliveries for what must not be on the log.
func (w *world) nowhere(texts ...string) {
	w.t.Helper()
	_, err := w.log.Read(w.t.Context(), w.log.Whole(events.TopicWebhooks), func(records []eventlog.Record) error {
		for _, r := range records {
			for _, text := range texts {
				if strings.Contains(string(r.Value), text) {
					w.t.Errorf("%q is on the log: %s", text, r.Value)
				}
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func TestEndpointsOutliveTheirProcessAndNotTheirConfiguration(t *testing.T) {
	t.Parallel()
	w, r := newWorld(t), newReceiver(t)
	r.answering(status(503))
	e := Endpoint{URL: r.URL, Secrets: []string{exampleSecret}, Events: []string{"job.planned", "job.succeeded"}}
	slow := func(c *Config) { c.Endpoints, c.Schedule = []Endpoint{e}, Schedule{10 * time.Millisecond, time.Hour} }
	_, stop := w.notifier(slow, nil)
	job := w.job("")
	job.fact(events.JobPlanned{})
	eventually(t, "it was tried twice", func() bool { return len(r.messages()) == 2 })
	stop()
	// Another process goes on with the job, whose first event it has not seen, and asks again when told to.
	r.answering(nil)
	_, stop = w.notifier(slow, nil)
	job.fact(events.JobSucceeded{})
	eventually(t, "the end is told", func() bool { return slices.Contains(job.outcomesAt(e), "job.succeeded delivered") })
	trail := job.trailOf(e.ID())
	if _, err := Redeliver(t.Context(), w.log, trail, trail.Deliveries[1].DeliveryID, "test", time.Now()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end is told again", func() bool { return len(job.trailOf(e.ID()).Deliveries[1].List) == 2 })
	stop()
	// Without its configuration nobody is told, and nothing is kept waiting.
	before := len(r.messages())
	n, _ := w.notifier(nil, nil)
	later := w.job(r.URL, "job.failed")
	later.fact(events.JobFailed{})
	later.await("job.failed delivered: delivered")
	if got := len(r.messages()); got != before+1 || later.trailOf(e.ID()) != nil {
		t.Errorf("%d messages came, want the later job's own alone", got-before)
	}
	if count, _ := n.waiting(); count != 0 {
		t.Errorf("%d deliveries wait", count)
	}
}

func TestEndpointsThatCannotBeToldAreRefused(t *testing.T) {
	t.Parallel()
	good := Endpoint{URL: "https://ops.example.com/hooks", Secrets: []string{exampleSecret}, Events: []string{"job.failed"}}
	for says, change := range map[string]func(*Endpoint){
		"":                        func(*Endpoint) {},
		"must begin with https":   func(e *Endpoint) { e.URL = "http://ops.example.com/" },
		"there must be a secret":  func(e *Endpoint) { e.Secrets = nil },
		"a name inside":           func(e *Endpoint) { e.URL = "https://grafana/" },
		"whsec_":                  func(e *Endpoint) { e.Secrets = []string{exampleSecret, "hunter2"} },
		`no event "job.finished"`: func(e *Endpoint) { e.Events = []string{"job.finished"} },
	} {
		e := good
		change(&e)
		err := e.Check(Policy{})
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q", e, err, says)
		}
	}
}
