// Tests of the operator's endpoints, as the API shows them.

package api

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/internal/webhooks"
)

func TestAnEndpointOfTheOperatorIsToldOfEveryJob(t *testing.T) {
	t.Parallel()
	var e webhooks.Endpoint
	w := newWorld(t, options{config: func(c *Config) {
		allowInside(c)
		// The receiver listens before the server that shows where it is.
		r := (&world{t: t}).receiver("whsec_" + base64.StdEncoding.EncodeToString(make([]byte, 32)))
		e = webhooks.Endpoint{URL: r.URL + "/canary-path", Secrets: []string{r.secret}, Events: []string{"job.submitted", "job.succeeded"}}
		c.Endpoints = []webhooks.Endpoint{e}
		t.Cleanup(func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.forged > 0 || len(r.bodies) != 4 {
				t.Errorf("%d messages of 4, %d of them not signed", len(r.bodies), r.forged)
			}
			for id, m := range r.bodies {
				if m.Data.Job.ID != m.Data.JobID || m.Data.Event.JobID != m.Data.JobID {
					t.Errorf("message %s is %+v", id, m)
				}
			}
		})
	}})
	w.notified(e)
	own := w.receiver("")
	request := map[string]any{"variant": "sadtalker", "script": canaryScript, "portrait": w.portrait()}
	without := w.submit(jsonBody(t, request))
	request["webhook"] = map[string]any{"url": own.URL + "/canary-path", "events": []string{"job.succeeded", "job.failed"}}
	with := w.submit(jsonBody(t, request))
	for _, job := range []accepted{without, with} {
		want := []string{"job.submitted delivered delivered", "job.succeeded delivered delivered"}
		if job.ID == with.ID {
			want = append(want, want[1])
		}
		eventually(t, "every delivery is made", func() bool { return slices.Equal(w.deliveriesOf(job.ID).words(), want) })
		d := w.deliveriesOf(job.ID)
		endpoints := 0
		for _, i := range d.Items {
			if i.Endpoint != nil && "http://"+strings.TrimPrefix(*i.Endpoint, "http://")+"/canary-path" == e.URL {
				endpoints++
			}
		}
		if endpoints != 2 || (d.Webhook != nil) != (job.ID == with.ID) {
			t.Errorf("deliveries %+v", d)
		}
	}
	// All who were told of an event are told again.
	d := w.deliveriesOf(with.ID)
	var again Redelivered
	w.want(http.StatusAccepted, w.post("/api/jobs/"+with.ID+"/redeliver", jsonBody(t, map[string]string{"delivery_id": d.Items[1].ID}))).decode(t, &again)
	if len(again.Deliveries) != 2 {
		t.Errorf("asked for again: %+v", again)
	}
	eventually(t, "both are told again", func() bool {
		return slices.Equal(w.deliveriesOf(with.ID).words()[1:], []string{"job.succeeded delivered delivered delivered", "job.succeeded delivered delivered delivered"})
	})
	w.noSecret(with, "canary-path", strings.TrimPrefix(e.Secrets[0], "whsec_"))
}
