// Tests of `webhooks`, and of webhooks through the real roles.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/internal/webhooks"
)

func webhooksCommand(args ...string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out bytes.Buffer
	status := runWebhooks(ctx, args, &out, &out)
	return status, out.String()
}

func TestWebhooksCommand(t *testing.T) {
	t.Parallel()
	var asked []string
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/jobs/{id}/deliveries", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("id") == "silent" {
			fmt.Fprint(w, `{"webhook": null, "items": [], "next_cursor": null}`)
			return
		}
		if r.PathValue("id") == "told" {
			fmt.Fprint(w, `{"webhook": null, "items": [{"id": "d3", "endpoint": "https://ops.example.com:443", "event": "job.failed", "status": "delivered", "next_attempt_at": null, "attempts": []}], "next_cursor": null}`)
			return
		}
		fmt.Fprint(w, `{"webhook": {"url": "https://example.com/\u001b[2J", "events": ["job.failed"], "state": "active"}, "items": [
			{"id": "d1", "event": "job.failed", "status": "pending", "next_attempt_at": "2026-11-01T12:00:00Z", "attempts": [
			{"at": "2026-11-01T11:00:00Z", "http_status": 503, "latency_ms": 40, "message": "the receiver answered 503"}]},
			{"id": "d2", "event": "job.failed", "status": "delivered", "next_attempt_at": null, "attempts": [
			{"at": "2026-11-01T11:00:00Z", "http_status": 204, "latency_ms": 40, "message": null}]}], "next_cursor": null}`)
	})
	mux.HandleFunc("POST /api/jobs/{id}/redeliver", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.PathValue("id")+" "+string(body))
		w.WriteHeader(202)
		fmt.Fprint(w, `{"id": "j", "deliveries": ["d1"], "detail": "1 deliveries are asked for again"}`)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"j"}, 0, "https://example.com/·[2J is active, and is told of job.failed"},
		{[]string{"list", "j"}, 0, "the receiver answered 503"},
		{[]string{"list", "j"}, 0, "204 in 40 ms"},
		{[]string{"list", "j", "--json"}, 0, `"next_attempt_at": "2026-11-01T12:00:00Z"`},
		{[]string{"list", "silent"}, 0, "tells no webhook"},
		{[]string{"list", "told"}, 0, "https://ops.example.com:443"},
		{[]string{"redeliver", "j"}, 0, "asked for again"},
		{[]string{"redeliver", "j", "d1"}, 0, "asked for again"},
		{[]string{"redeliver", "--json", "j", "d1"}, 0, `"deliveries": ["d1"]`},
		{[]string{"list"}, 2, "usage"}, {[]string{"redeliver"}, 2, "usage"}, {[]string{"list", "a", "b"}, 2, "usage"}, {[]string{"j", "--nothing"}, 2, "nothing"},
	} {
		status, out := webhooksCommand(append(c.args, "--server", server.URL)...)
		if status != c.status || !strings.Contains(out, c.says) {
			t.Errorf("%v: status %d, %s; want %d with %q", c.args, status, out, c.status, c.says)
		}
	}
	if want := []string{"j {}", `j {"delivery_id":"d1"}`, `j {"delivery_id":"d1"}`}; !slices.Equal(asked, want) {
		t.Errorf("asked %q, want %q", asked, want)
	}
}

func TestSubmitAsksForAWebhook(t *testing.T) {
	t.Parallel()
	h := webhookFlags{url: "https://example.com", events: "job.failed, job.progress", secret: "whsec_x"}
	if body, err := json.Marshal(h.body()); err != nil || string(body) != `{"events":["job.failed","job.progress"],"secret":"whsec_x","url":"https://example.com"}` {
		t.Errorf("the body is %s, %v", body, err)
	}
	var out bytes.Buffer
	if err := new(submission).parse([]string{"--mode", "diagnostic", "--webhook-events", "job.failed"}, &out); err == nil || !strings.Contains(err.Error(), "--webhook, which is missing") {
		t.Errorf("events without a webhook: %v", err)
	}
}

// audience is a receiver that keeps what is signed right.
type audience struct {
	mu     sync.Mutex
	secret string
	types  []string
	forged int
}

func (r *audience) ServeHTTP(_ http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	at, _ := strconv.ParseInt(req.Header.Get(webhooks.HeaderTimestamp), 10, 64)
	var m struct {
		Type string `json:"type"`
		Data struct {
			Job struct {
				Status string `json:"status"`
			} `json:"job"`
		} `json:"data"`
	}
	err := json.Unmarshal(body, &m)
	r.mu.Lock()
	defer r.mu.Unlock()
	if want, signErr := webhooks.Sign(r.secret, req.Header.Get(webhooks.HeaderID), time.Unix(at, 0), body); err != nil || signErr != nil || want != req.Header.Get(webhooks.HeaderSignature) {
		r.forged++
		return
	}
	r.types = append(r.types, m.Type+" "+m.Data.Job.Status)
}

func TestAWebhookThroughTheRealRoles(t *testing.T) {
	t.Parallel()
	s := startSystem(t, "embedded", "--engines-noop", "true", "--webhooks-allow-private", "127.0.0.1")
	s.eventually(time.Minute, "the diagnostic pipeline is shown", func() error {
		if _, body := s.get("/api/pipelines"); !strings.Contains(string(body), "diagnostic_v1") {
			return fmt.Errorf("%s", body)
		}
		return nil
	})
	r := &audience{}
	server := httptest.NewServer(r)
	defer server.Close()
	r.mu.Lock() // until the secret is known
	status, out := s.submit("--mode", "diagnostic", "--webhook", server.URL, "--webhook-events", "job.planned,job.succeeded")
	secret := regexp.MustCompile(`whsec_\S+`).FindString(out)
	id := regexp.MustCompile(`(?m)^job (\S+)$`).FindStringSubmatch(out)
	r.secret = secret
	r.mu.Unlock()
	if status != 0 || secret == "" || id == nil {
		t.Fatalf("status %d: %s", status, out)
	}
	s.eventually(time.Minute, "both events are told", func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		slices.Sort(r.types)
		if want := []string{"job.planned queued", "job.succeeded succeeded"}; !slices.Equal(r.types, want) || r.forged != 0 {
			return fmt.Errorf("told %q, %d forged; want %q", r.types, r.forged, want)
		}
		return nil
	})
	s.eventually(time.Minute, "the deliveries are listed", func() error {
		if status, out := webhooksCommand("list", id[1], "--server", s.url); status != 0 || strings.Count(out, "delivered") != 2 || !strings.Contains(out, server.URL+" is closed") {
			return fmt.Errorf("status %d: %s", status, out)
		}
		return nil
	})
	if status, out := webhooksCommand("redeliver", id[1], "--server", s.url); status != 0 || !strings.Contains(out, "every delivery was delivered") {
		t.Errorf("status %d: %s", status, out)
	}
	if status, out := s.submit("--mode", "diagnostic", "--no-wait", "--webhook", "https://192.168.1.1/"); status != 1 || !strings.Contains(out, "not a public address") {
		t.Errorf("a private address: status %d, %s", status, out)
	}
}
