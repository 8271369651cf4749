// One prompt on a ComfyUI server, from its submission to its end.
//
// Rules, each of which answers a trap seen on a real server: a 200 counts only if no
// node of the wanted output is among its errors; the same id may be posted twice and
// runs twice, so that queue and history are looked at before every post; messages are
// for progress alone, the truth is in queue and history; history may lag behind the
// message of success for a moment; and a prompt that is in neither is lost, which is
// what a restarted server makes of all of them.

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// comfyPrompt is a graph under its id.
type comfyPrompt struct {
	id     string // canonical lower-case UUID, also the name under which messages are asked for
	graph  comfyGraph
	output string // id of the node whose result is wanted
	// before are ids of earlier attempts, which must not go on in our place.
	before []string
}

type comfyPhase int

const (
	comfyUnknown comfyPhase = iota // in neither queue nor history
	comfyPending
	comfyRunning
	comfySucceeded
	comfyFailed
	comfyInterrupted
)

func (p comfyPhase) over() bool { return p >= comfySucceeded }

// comfyState is what the server knows of a prompt.
type comfyState struct {
	phase   comfyPhase
	outputs map[string]map[string]json.RawMessage // by node id
	failure comfyFailure
}

// comfyFailure is the data of execution_error. What it says may hold user text.
type comfyFailure struct {
	Node      string `json:"node_id"`
	Class     string `json:"node_type"`
	Type      string `json:"exception_type"`
	Message   string `json:"exception_message"`
	Traceback any    `json:"traceback"`
}

// comfyHistory is an entry of /history/{id}; /api/jobs/{id} has the same under other names.
type comfyHistory struct {
	Outputs map[string]map[string]json.RawMessage `json:"outputs"`
	Status  comfyVerdict                          `json:"status"`
}

type comfyVerdict struct {
	Text     string              `json:"status_str"`
	Messages [][]json.RawMessage `json:"messages"`
}

// state reads an entry of the history. An interrupted prompt is an error there, and
// only its last message tells.
func (h comfyHistory) state() comfyState {
	s := comfyState{phase: comfySucceeded, outputs: h.Outputs}
	if h.Status.Text == "error" {
		s.phase = comfyFailed
	}
	for _, m := range h.Status.Messages {
		var kind string
		if len(m) != 2 || json.Unmarshal(m[0], &kind) != nil {
			continue
		}
		switch kind {
		case "execution_error":
			_ = json.Unmarshal(m[1], &s.failure) // what could be read is enough
		case "execution_interrupted":
			s.phase = comfyInterrupted
		}
	}
	return s
}

// state asks what has become of a prompt.
func (c *comfyClient) state(ctx context.Context, id string) (comfyState, error) {
	has, err := c.hasJobs(ctx)
	if err != nil {
		return comfyState{}, err
	}
	if has {
		return c.jobState(ctx, id)
	}
	// The queue first: a prompt that leaves it between the two is in the history.
	running, pending, err := c.queue(ctx)
	switch {
	case err != nil:
		return comfyState{}, err
	case slices.Contains(running, id):
		return comfyState{phase: comfyRunning}, nil
	case slices.Contains(pending, id):
		return comfyState{phase: comfyPending}, nil
	}
	var history map[string]comfyHistory
	if err := c.get(ctx, "/history/"+url.PathEscape(id), &history); err != nil {
		return comfyState{}, err
	}
	entry, known := history[id]
	if !known {
		return comfyState{}, nil
	}
	return entry.state(), nil
}

// hasJobs says whether the server has /api/jobs, which answers in one request and
// without the graphs of others.
func (c *comfyClient) hasJobs(ctx context.Context) (bool, error) {
	c.mu.Lock()
	known := c.jobsAPI
	c.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	var answer struct {
		Jobs *[]json.RawMessage `json:"jobs"`
	}
	err := c.get(ctx, "/api/jobs?limit=1", &answer)
	if transient(err) {
		return false, err
	}
	has := err == nil && answer.Jobs != nil
	c.mu.Lock()
	c.jobsAPI = &has
	c.mu.Unlock()
	return has, nil
}

func (c *comfyClient) jobState(ctx context.Context, id string) (comfyState, error) {
	var job struct {
		Status   string                                `json:"status"`
		Outputs  map[string]map[string]json.RawMessage `json:"outputs"`
		Verdict  comfyVerdict                          `json:"execution_status"`
		Failure  *comfyFailure                         `json:"execution_error"`
		Returned string                                `json:"id"`
	}
	err := c.get(ctx, "/api/jobs/"+url.PathEscape(id), &job)
	var status *comfyStatus
	if errors.As(err, &status) && status.code == http.StatusNotFound {
		c.mu.Lock()
		c.jobsAPI = nil // or an older server has taken its place
		c.mu.Unlock()
		return comfyState{}, nil
	}
	if err != nil {
		return comfyState{}, err
	}
	s := comfyHistory{job.Outputs, job.Verdict}.state()
	if job.Failure != nil {
		s.failure = *job.Failure
	}
	phases := map[string]comfyPhase{
		"pending": comfyPending, "in_progress": comfyRunning, "completed": comfySucceeded, "failed": comfyFailed, "cancelled": comfyInterrupted,
	}
	phase, known := phases[job.Status]
	if !known || job.Returned != id {
		return comfyState{}, fmt.Errorf("%w: a job of status %.40q", errComfyFormat, job.Status)
	}
	if s.phase != comfyInterrupted || phase != comfyFailed { // some versions say failed of it
		s.phase = phase
	}
	return s, nil
}

// queue lists the ids of what runs and what waits.
func (c *comfyClient) queue(ctx context.Context) (running, pending []string, err error) {
	var q struct {
		Running *[][]json.RawMessage `json:"queue_running"`
		Pending *[][]json.RawMessage `json:"queue_pending"`
	}
	if err := c.get(ctx, "/queue", &q); err != nil {
		return nil, nil, err
	}
	if q.Running == nil || q.Pending == nil {
		return nil, nil, fmt.Errorf("%w: a queue without its lists", errComfyFormat)
	}
	return comfyIDs(*q.Running), comfyIDs(*q.Pending), nil
}

// comfyIDs are the second members of queue entries: [number, id, graph, …].
func comfyIDs(entries [][]json.RawMessage) (ids []string) {
	for _, e := range entries {
		var id string
		if len(e) > 1 && json.Unmarshal(e[1], &id) == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// comfyTries is how often a prompt whose post got no answer is looked for and posted.
const comfyTries = 3

// submit sees to it that the prompt is on the server, once.
func (c *comfyClient) submit(ctx context.Context, p comfyPrompt) (err error) {
	c.takeBack(ctx, p.before...)
	for try := range comfyTries {
		if try > 0 && !pause(ctx, c.pace.soon) {
			return ctx.Err()
		}
		s, err := c.state(ctx, p.id)
		if err != nil {
			return err
		}
		switch s.phase {
		case comfyPending, comfyRunning, comfySucceeded:
			return nil
		case comfyFailed, comfyInterrupted: // would hide how the new run ends
			if err := c.forget(ctx, p.id); err != nil {
				return err
			}
		}
		if err = c.postPrompt(ctx, p); !transient(err) {
			return err
		}
	}
	return err
}

func (c *comfyClient) postPrompt(ctx context.Context, p comfyPrompt) error {
	var answer struct {
		ID         string                    `json:"prompt_id"`
		NodeErrors map[string]comfyNodeFault `json:"node_errors"`
	}
	err := c.post(ctx, "/prompt", map[string]any{"prompt": p.graph, "client_id": p.id, "prompt_id": p.id}, &answer)
	var status *comfyStatus
	switch {
	case errors.As(err, &status) && status.code == http.StatusBadRequest:
		return refusedGraph(p.graph, status.body)
	case err != nil:
		return err
	case answer.ID != p.id:
		return &TaskError{Class: events.ClassEngineRejected, Message: "ComfyUI runs the graph under another id than the one given",
			Hint: "update ComfyUI to 0.3.64 or newer"}
	}
	return faultOfOutput(p, answer.NodeErrors)
}

// forget takes a prompt out of the history, which holds its whole graph.
func (c *comfyClient) forget(ctx context.Context, id string) error {
	return c.post(ctx, "/history", map[string][]string{"delete": {id}}, nil)
}

// execute runs a prompt and gives its state of success. However else it ends, nothing
// of it is left on the server's queue, as far as the server can be reached.
func (c *comfyClient) execute(ctx context.Context, p comfyPrompt, w *comfyWatch) (comfyState, error) {
	err := c.submit(ctx, p)
	var s comfyState
	if err == nil {
		s, err = c.await(ctx, p, w)
	}
	if err == nil && s.phase != comfySucceeded {
		return s, failedPrompt(p, s)
	}
	if err != nil {
		err = c.explain(ctx, err)
		c.takeBack(context.WithoutCancel(ctx), p.id)
		return s, err
	}
	return s, nil
}

// await looks after the prompt until it is over.
func (c *comfyClient) await(ctx context.Context, p comfyPrompt, w *comfyWatch) (comfyState, error) {
	var missing, away time.Time // since when; zero: not
	for {
		s, err := c.state(ctx, p.id)
		wait := c.pace.poll
		switch {
		case err != nil && !transient(err), ctx.Err() != nil:
			return s, err
		case err != nil:
			if away.IsZero() {
				away = time.Now()
			}
			if time.Since(away) > c.pace.away {
				return s, err
			}
		case s.phase.over():
			return s, nil
		case s.phase == comfyUnknown:
			away, wait = time.Time{}, c.pace.soon
			if missing.IsZero() {
				missing = time.Now()
			}
			if time.Since(missing) > c.pace.unknown {
				return s, lostPrompt()
			}
		default:
			away, missing = time.Time{}, time.Time{}
			w.heardOf(s.phase)
			if w.silence() > c.Idle {
				return s, stalledPrompt(c.Idle)
			}
		}
		select {
		case <-ctx.Done():
			return s, ctx.Err()
		case <-w.ended:
		case <-time.After(wait):
		}
	}
}

// takeBack cancels as far as the server can be reached and is quick: the caller has
// another error to tell, or other work to do.
func (c *comfyClient) takeBack(ctx context.Context, ids ...string) {
	ctx, cancel := context.WithTimeout(ctx, c.pace.cancel)
	defer cancel()
	_ = c.cancel(ctx, ids...)
}

// cancel takes prompts back, whether they wait or run, and returns when none of them
// does either. A prompt whose post was cut short may only now arrive: the queue is
// looked at twice before that is believed.
func (c *comfyClient) cancel(ctx context.Context, ids ...string) error {
	for clean := 0; len(ids) > 0 && clean < 2; {
		running, pending, err := c.queue(ctx)
		if err != nil {
			return err
		}
		clean++
		for _, id := range ids {
			switch {
			case slices.Contains(pending, id):
				clean, err = 0, c.post(ctx, "/queue", map[string][]string{"delete": {id}}, nil)
			case slices.Contains(running, id): // by id: without one it would stop whatever runs
				clean, err = 0, c.post(ctx, "/interrupt", map[string]string{"prompt_id": id}, nil)
			}
			if err != nil {
				return err
			}
		}
		if clean < 2 && !pause(ctx, c.pace.soon) {
			return ctx.Err()
		}
	}
	return nil
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	due := time.NewTimer(d)
	defer due.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-due.C:
		return true
	}
}
