// Following a job over server-sent events, resuming where a broken stream ended.

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// silence is how long a stream may say nothing, its heartbeats included.
const silence = 45 * time.Second

// update is one message of the stream: an event of the job, or a beat of a stage.
type update struct {
	Type       string  `json:"type"` // empty: a beat
	Version    int64   `json:"version"`
	Stage      string  `json:"stage"`
	Attempt    int     `json:"attempt"`
	Model      string  `json:"model"`
	DurationMS int64   `json:"duration_ms"`
	ErrorClass string  `json:"error_class"`
	Actor      string  `json:"actor"`
	Percent    float64 `json:"percent"` // of a beat, 0 to 100
	Message    string  `json:"message"` // of a beat
	Data       struct {
		Reason    string `json:"reason"`
		Message   string `json:"message"`
		Engine    string `json:"engine"`
		Fidelity  string `json:"fidelity"`
		RetryAtMS int64  `json:"retry_at_ms"`
		ExpiresMS int64  `json:"expires_ms"`
		From      struct {
			JobID string `json:"job_id"`
		} `json:"from"`
	} `json:"data"`
}

// final says whether the job has ended with this event.
func (u update) final() bool {
	switch u.Type {
	case "job.succeeded", "job.failed", "job.rejected", "job.cancelled":
		return true
	}
	return false
}

// errGaveUp says that a stream was tried often enough.
var errGaveUp = errors.New("the server does not answer any more; the job goes on without us")

// follow hands every event of the job to see, once and in order, and the beats in
// between, until the job has ended. It returns the job's last version, 0 if the
// server only said that the job is over. A broken stream is resumed behind the
// last event; lost tells of the first break in a row.
func (c *client) follow(ctx context.Context, id string, see func(update), lost func(error)) (version int64, err error) {
	last, failures := "", 0
	for {
		done, version, next, err := c.listen(ctx, id, last, see)
		if done || ctx.Err() != nil {
			return version, ctx.Err()
		}
		if next != last {
			last, failures = next, 0
		}
		failures++
		var p *problem
		switch {
		case errors.As(err, &p) && p.Status != http.StatusNotFound && !transient(err):
			return 0, err
		case failures > 10:
			return 0, fmt.Errorf("%w (%v)", errGaveUp, err) //nolint:errorlint // the cause is told, not handled
		case failures == 1 && err != nil:
			lost(err)
		}
		wait := min(time.Duration(failures)*time.Second, longestBackOff)
		if p != nil && p.retryAfter > 0 {
			wait = min(p.retryAfter, longestBackOff)
		}
		if err := c.pause(ctx, wait); err != nil {
			return 0, err
		}
	}
}

// listen reads one stream. next is the id of the last event that was seen.
func (c *client) listen(ctx context.Context, id, last string, see func(update)) (done bool, version int64, next string, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(silence, func() { cancel(fmt.Errorf("the stream was silent for %s", silence)) })
	defer watch.Stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/api/jobs/"+url.PathEscape(id)+"/events", nil)
	if err != nil {
		return false, 0, last, err
	}
	req.Header.Set("Accept", "text/event-stream")
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return false, 0, last, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNoContent:
		return true, 0, last, nil
	case http.StatusOK:
	default:
		return false, 0, last, refusal(resp)
	}
	next = last
	err = readEvents(resp.Body, func() { watch.Reset(silence) }, func(eventID, data string) (bool, error) {
		var u update
		if err := json.Unmarshal([]byte(data), &u); err != nil {
			return false, fmt.Errorf("an event cannot be read: %w", err)
		}
		see(u)
		if eventID != "" {
			next = eventID
		}
		if u.final() {
			done, version = true, u.Version
		}
		return done, nil
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return done, version, next, err
}

// readEvents parses a stream of server-sent events (WHATWG HTML, section 9.2)
// until take is done. alive is called for every line, comments included.
func readEvents(r io.Reader, alive func(), take func(id, data string) (done bool, err error)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxAnswer)
	var id string
	var data []string
	for lines.Scan() {
		alive()
		line := lines.Text()
		if line == "" {
			if len(data) > 0 {
				if done, err := take(id, strings.Join(data, "\n")); done || err != nil {
					return err
				}
			}
			id, data = "", nil
			continue
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			id = value
		case "data":
			data = append(data, value)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return io.ErrUnexpectedEOF
}
