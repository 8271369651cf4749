// What is said over a WebSocket: the client's wishes are looked up by one goroutine,
// and everything is written by another, so that what one job needs keeps no other waiting.

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

// talk is one client's connection.
type talk struct {
	server *Server
	tenant string
	ws     *websocket.Conn
	sub    *subscriber
	heard  chan wish // from the client, for the writer
	gone   chan struct{}
	lasts  context.Context     //nolint:containedctx // ends when the client may not be served any more
	jobs   map[string]*watched // the writer's
}

// watched is a job that the client follows.
type watched struct {
	job   *projections.Followed // nil: it is being looked up
	early []*eventView          // that came meanwhile
}

// wish is a step of what the client asked for.
type wish struct {
	job     string
	pending bool                  // it is being looked up
	found   *projections.Followed // it was
	left    bool                  // the client does not want it any more
	fault   *socketFault          // it cannot be followed, or the message not be read
}

func newTalk(s *Server, ws *websocket.Conn, lasts context.Context, tenant string) *talk { //nolint:revive // it is not this function's own
	return &talk{server: s, tenant: tenant, ws: ws, lasts: lasts, sub: newSubscriber(socketQueue), heard: make(chan wish), gone: make(chan struct{}), jobs: map[string]*watched{}}
}

// listen takes the client's messages until it goes.
func (t *talk) listen(ctx context.Context) {
	defer close(t.gone)
	for {
		kind, text, err := t.ws.Read(ctx)
		if err != nil {
			return
		}
		var m socketRequest
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if kind != websocket.MessageText || d.Decode(&m) != nil || d.More() || !m.valid() {
			if !t.say(ctx, wish{fault: newFault("", &refusal{code: codeInvalid, detail: `send {"action": "subscribe" or "unsubscribe", "jobId": "…"} or "jobIds": […]`})}) {
				return
			}
			continue
		}
		for _, id := range m.ids() {
			if !t.take(ctx, m.Action, id) {
				return
			}
		}
	}
}

// say hands a wish to the writer; false if that has ended.
func (t *talk) say(ctx context.Context, w wish) bool {
	select {
	case t.heard <- w:
		return true
	case <-ctx.Done():
		return false
	}
}

// take does what is asked of one job. Whatever is wrong with it, the others go on.
func (t *talk) take(ctx context.Context, action, id string) bool {
	if !isID(id) {
		return t.say(ctx, wish{job: id, fault: newFault(shortened(id), &refusal{code: codeIDInvalid})})
	}
	id = strings.ToLower(id)
	n, there := t.server.feed.follows(t.sub, id)
	switch {
	case action == actionUnsubscribe:
		t.server.feed.part(t.sub, id)
		return t.say(ctx, wish{job: id, left: true})
	case !there && n >= socketJobs:
		return t.say(ctx, wish{job: id, fault: newFault(id, refuse(codeBusy, "one connection follows %d jobs at most", socketJobs))})
	case !t.say(ctx, wish{job: id, pending: true}):
		return false
	}
	found, err := t.lookUp(ctx, id)
	if err != nil {
		t.server.feed.part(t.sub, id)
		return t.say(ctx, wish{job: id, fault: newFault(id, asRefusal(err))})
	}
	return t.say(ctx, wish{job: id, found: found})
}

// lookUp joins the job's feed and then finds how it stands: from the tables, and from
// the log and the ring what they do not have yet.
func (t *talk) lookUp(ctx context.Context, id string) (*projections.Followed, error) {
	s := t.server
	partition := eventlog.PartitionFor(id, s.cfg.Log.Partitions(events.TopicJobEvents))
	held, begin, err := s.feed.join(t.sub, id, partition)
	if err != nil {
		return nil, err
	}
	held = ownedBy(t.tenant, held)
	var row *projections.Job
	var stages []*projections.Stage
	var next int64
	err = s.read(ctx, func(ctx context.Context, q *projections.Queries) (err error) {
		row, stages = nil, nil
		if next, err = q.Checkpoint(ctx, events.TopicJobEvents, partition); err != nil {
			return err
		}
		if row, err = q.Job(ctx, t.tenant, id); errors.Is(err, projections.ErrNotFound) {
			row = nil
			return nil
		} else if err != nil {
			return err
		}
		of, err := q.Stages(ctx, t.tenant, id)
		stages = of[id]
		return err
	})
	if err != nil {
		return nil, err
	}
	if next < begin {
		st := stream{server: s, tenant: t.tenant, job: id}
		gap, err := st.fromLog(ctx, partition, next, begin)
		if err != nil {
			return nil, err
		}
		held = append(gap, held...)
	}
	job := projections.Follow(id, row, stages)
	if err := fold(job, held); err != nil {
		return nil, &refusal{code: codeJobUnread, cause: err}
	}
	if row, _ := job.Rows(); row == nil && !s.accepted.has(t.tenant, id) {
		return nil, refuse(codeNotFound, "there is no job %s", id)
	}
	return job, nil
}

// fold brings a job up to the events.
func fold(job *projections.Followed, list []*eventView) error {
	for _, e := range list {
		r := eventlog.Record{Topic: events.TopicJobEvents, Partition: e.at.partition, Offset: e.at.offset, Key: e.JobID, Value: e.value}
		if _, err := job.Apply(r); err != nil {
			return err
		}
	}
	return nil
}

// run tells the client what it wants to know, until it goes, is too slow, wants
// nothing any more, or the server stops; it says by what the connection is to be closed.
func (t *talk) run(ctx context.Context) (websocket.StatusCode, string) {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	idle := time.NewTimer(t.server.cfg.IdleTimeout)
	defer idle.Stop()
	// A write that is cut closes the connection without a word, so that one under way gets a moment.
	ctx, cancel := t.server.untilStopping(ctx, socketGoodbye)
	defer cancel()
	defer context.AfterFunc(t.lasts, func() { time.AfterFunc(socketGoodbye, cancel) })()
	for {
		var err error
		busy := len(t.jobs) > 0
		select {
		case <-t.server.stopping:
			return websocket.StatusGoingAway, "the server stops; connect again later"
		case <-t.lasts.Done():
			return websocket.StatusPolicyViolation, kinds[codeKeyUnknown].title
		case <-t.gone:
			return websocket.StatusNormalClosure, ""
		case <-idle.C:
			if !busy {
				return websocket.StatusNormalClosure, "no job is subscribed"
			}
		case <-beat.C:
			err = t.ping(ctx)
		case w := <-t.heard:
			err = t.answer(ctx, w)
		case x, open := <-t.sub.queue:
			if !open {
				t.server.metrics.cut.Inc()
				return websocket.StatusTryAgainLater, "the client read too slowly; connect and subscribe again"
			}
			err = t.pass(ctx, x)
		}
		switch {
		case err != nil && t.lasts.Err() != nil:
			return websocket.StatusPolicyViolation, kinds[codeKeyUnknown].title
		case err != nil && t.server.isStopping():
			return websocket.StatusGoingAway, "the server stops; connect again later"
		case errors.Is(err, context.DeadlineExceeded):
			t.server.metrics.cut.Inc()
			return websocket.StatusTryAgainLater, "the client takes nothing; connect and subscribe again"
		case err != nil:
			return websocket.StatusInternalError, "the message could not be sent"
		}
		if busy && len(t.jobs) == 0 {
			idle.Reset(t.server.cfg.IdleTimeout)
		}
	}
}

// ping makes sure that the client is there, in as long as a write may take.
func (t *talk) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.server.cfg.WriteTimeout)
	defer cancel()
	return t.ws.Ping(ctx)
}

// answer takes a step of what the client asked for.
func (t *talk) answer(ctx context.Context, w wish) error {
	at := t.jobs[w.job]
	switch {
	case w.fault != nil:
		if at != nil && at.job == nil {
			delete(t.jobs, w.job)
		}
		return t.write(ctx, w.fault)
	case w.left:
		delete(t.jobs, w.job)
		return t.write(ctx, socketLeft{Type: "unsubscribed", JobID: w.job})
	case w.pending:
		if at == nil {
			t.jobs[w.job] = &watched{}
		}
		return nil
	}
	if at == nil { // it ended meanwhile
		at = &watched{}
		t.jobs[w.job] = at
	}
	if at.job == nil {
		at.job = w.found
		early := at.early
		at.early = nil
		if err := fold(at.job, early); err != nil {
			return t.giveUp(ctx, w.job, err)
		}
	}
	return t.update(ctx, w.job)
}

// pass takes a frame, and all others that wait, and then tells each job's state once.
func (t *talk) pass(ctx context.Context, x frame) error {
	var changed []string
	for {
		id := x.job()
		if at := t.jobs[id]; at != nil && x.tenant() == t.tenant {
			told, err := at.take(x)
			if err != nil {
				if err := t.giveUp(ctx, id, err); err != nil {
					return err
				}
			}
			if told && !slices.Contains(changed, id) {
				changed = append(changed, id)
			}
		}
		more := false
		select {
		case x, more = <-t.sub.queue:
		default:
		}
		if !more { // a queue that was closed is found so again
			break
		}
	}
	for _, id := range changed {
		if t.jobs[id] == nil {
			continue
		}
		if err := t.update(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// take folds a frame, and says whether there is something to tell.
func (at *watched) take(x frame) (tell bool, err error) {
	if x.event == nil {
		return at.job != nil, nil
	}
	if at.job == nil {
		if len(at.early) >= socketQueue {
			return false, errCut
		}
		at.early = append(at.early, x.event)
		return false, nil
	}
	return true, fold(at.job, []*eventView{x.event})
}

// giveUp ends the following of a job that this program cannot read.
func (t *talk) giveUp(ctx context.Context, id string, cause error) error {
	t.server.log.Error("a job cannot be followed", "job_id", id, "error", cause)
	t.server.feed.part(t.sub, id)
	delete(t.jobs, id)
	return t.write(ctx, newFault(id, &refusal{code: codeJobUnread}))
}

// update tells how the job stands, for the last time if it is over.
func (t *talk) update(ctx context.Context, id string) error {
	u := t.server.socketUpdate(t.tenant, id, t.jobs[id].job)
	if u.Ended {
		t.server.feed.part(t.sub, id)
		delete(t.jobs, id)
	}
	return t.write(ctx, u)
}

func (t *talk) write(ctx context.Context, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, t.server.cfg.WriteTimeout)
	defer cancel()
	err = t.ws.Write(ctx, websocket.MessageText, body)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
