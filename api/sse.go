// The live stream of one job (server-sent events): what the tables hold, then the
// log from there on, every event once and in order.

package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	heartbeat      = 10 * time.Second // a comment, so that dead clients are noticed
	streamBacklog  = 10_000           // events of one job
	reconnectAfter = "retry: 1000\n\n"
)

// stream is one client's place in one job's events.
type stream struct {
	server *Server
	tenant string
	job    string
	conn   net.Conn
	sub    *subscriber
	last   int64      // offset of the last event sent, -1 before the first
	texts  *answering // renewed event by event
}

// streamJob answers with the job's events from the client's position on. It is
// 204 when the job is over and the client has seen all of it, which also tells a
// browser's EventSource to stop.
func (s *Server) streamJob(c *fiber.Ctx, id string) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	partition := eventlog.PartitionFor(id, s.cfg.Log.Partitions(events.TopicJobEvents))
	after := int64(-1)
	if text := strings.Clone(c.Get("Last-Event-ID")); text != "" {
		p, ok := parsePosition(text)
		if !ok || p.partition != partition {
			return &refusal{code: codeQueryInvalid, detail: "Last-Event-ID must be the id of an event of this job",
				faults: []fault{{Parameter: "Last-Event-ID", Code: codeQueryInvalid, Detail: "give the id of an event of this job, or leave it out"}}}
		}
		after = p.offset
	}
	if err := s.takeStream(); err != nil {
		return err
	}
	sub, held, begin, err := s.feed.subscribe(id, partition)
	if err != nil {
		s.releaseStream()
		return err
	}
	who := callerOf(c)
	st := &stream{server: s, tenant: who.tenant, job: id, conn: c.Context().Conn(), sub: sub, last: after}
	ctx, cancel := context.WithTimeout(c.UserContext(), backlogTimeout)
	defer cancel()
	backlog, ended, err := st.backlog(ctx, partition, ownedBy(st.tenant, held), begin)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = &refusal{code: codeLogUnavailable, cause: err}
	}
	if err != nil || (ended && len(backlog) == 0) {
		s.feed.unsubscribe(sub)
		s.releaseStream()
		if err != nil {
			return err
		}
		return c.SendStatus(fiber.StatusNoContent)
	}
	if !s.answerStream(c, func(w *bufio.Writer) {
		defer s.feed.unsubscribe(sub)
		st.while(who, w, func() error { return st.run(w, backlog, ended) })
	}) {
		s.feed.unsubscribe(sub)
	}
	return nil
}

// backlog is every event of the job behind the client's position that the ring's
// future will not bring: from the ring alone if it reaches back far enough, else
// from the tables up to their checkpoint, from the log up to the ring, and the ring.
func (st *stream) backlog(ctx context.Context, partition int32, held []*eventView, begin int64) (backlog []*eventView, ended bool, err error) {
	if st.last >= 0 && st.last+1 >= begin {
		return st.fromRing(ctx, held)
	}
	rows, next, err := st.fromTables(ctx, partition)
	switch {
	case errors.Is(err, projections.ErrUnavailable) && st.last >= 0:
		next = st.last + 1 // the log itself holds everything from there on
	case err != nil:
		return nil, false, err
	}
	if next < begin {
		gap, err := st.fromLog(ctx, partition, next, begin)
		if err != nil {
			return nil, false, err
		}
		rows = append(rows, gap...)
	}
	for _, e := range held {
		if e.at.offset >= max(next, begin) {
			rows = append(rows, e)
		}
	}
	if len(rows) == 0 && st.last < 0 && !st.server.accepted.has(st.tenant, st.job) {
		return nil, false, refuse(codeNotFound, "there is no job %s", st.job)
	}
	for _, e := range rows {
		ended = ended || e.ends()
	}
	return behind(rows, st.last), ended, nil
}

// fromRing is the backlog of a client that was here a moment ago. The tables are
// asked only whether the job has ended before what the ring holds.
func (st *stream) fromRing(ctx context.Context, held []*eventView) ([]*eventView, bool, error) {
	for _, e := range held {
		if e.ends() {
			return behind(held, st.last), true, nil
		}
	}
	lives := func(e *eventView) bool { return e.Type != labelled }
	if slices.ContainsFunc(held, lives) || len(held) == 0 && st.server.accepted.has(st.tenant, st.job) {
		return behind(held, st.last), false, nil
	}
	ended := false
	err := st.server.read(ctx, func(ctx context.Context, q *projections.Queries) error {
		row, err := q.Job(ctx, st.tenant, st.job)
		if err != nil {
			return err
		}
		ended = row.Ended()
		return nil
	})
	switch {
	case errors.Is(err, projections.ErrNotFound):
		return nil, false, refuse(codeNotFound, "there is no job %s", st.job)
	case errors.Is(err, projections.ErrUnavailable):
		return behind(held, st.last), false, nil // the stream goes on without them
	}
	return behind(held, st.last), ended, err
}

// labelled is the one kind of event that may follow a job's end.
var labelled = (events.JobLabelled{}).EventType()

func behind(list []*eventView, after int64) []*eventView {
	var out []*eventView
	for _, e := range list {
		if e.at.offset > after {
			out = append(out, e)
			after = e.at.offset
		}
	}
	return out
}

// fromTables is the job's trail, and the first offset that is not in the same snapshot.
func (st *stream) fromTables(ctx context.Context, partition int32) (trail []*eventView, next int64, err error) {
	err = st.server.read(ctx, func(ctx context.Context, q *projections.Queries) error {
		rows, err := q.JobEvents(ctx, st.tenant, st.job, 0, streamBacklog)
		if err != nil {
			return err
		}
		trail = trail[:0]
		for _, r := range rows {
			trail = append(trail, viewEvent(r))
		}
		next, err = q.Checkpoint(ctx, events.TopicJobEvents, partition)
		return err
	})
	return trail, next, err
}

var errEnough = errors.New("read far enough")

// fromLog reads the events of the tenant's job in [from, to).
func (st *stream) fromLog(ctx context.Context, partition int32, from, to int64) ([]*eventView, error) {
	var out []*eventView
	at := eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: partition}
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	_, err := st.server.cfg.Log.Read(ctx, eventlog.Offsets{at: from}, func(records []eventlog.Record) error {
		for _, r := range records {
			if r.Offset >= to {
				return errEnough
			}
			if r.Key != st.job {
				continue
			}
			e, err := readEvent(r)
			if err != nil {
				return err
			}
			if e.tenant == st.tenant {
				out = append(out, e)
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, fmt.Errorf("cannot read the job's events from the log: %w", err)
	}
	return out, nil
}

// run writes the backlog and then what comes, until the job is over, the client is
// gone or too slow, or the server stops.
func (st *stream) run(w *bufio.Writer, backlog []*eventView, ended bool) error {
	if err := st.write(w, reconnectAfter); err != nil {
		return err
	}
	for _, e := range backlog {
		if _, err := st.event(w, e); err != nil {
			return err
		}
	}
	if ended { // what came behind the end is in the backlog, too
		return nil
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		select {
		case <-st.server.stopping:
			return nil
		case <-st.texts.ctx.Done():
			return nil
		case <-beat.C:
			if err := st.write(w, ": still here\n\n"); err != nil {
				return err
			}
		case x, open := <-st.sub.queue:
			if !open {
				st.server.metrics.cut.Inc()
				return nil
			}
			if x.progress != nil {
				if err := st.progress(w, x.progress); err != nil {
					return err
				}
				continue
			}
			if over, err := st.event(w, x.event); over || err != nil {
				return err
			}
		}
	}
}

// while runs the stream until it ends by itself, or the caller may not be served any more: then
// it says so, and why.
func (st *stream) while(who *caller, w *bufio.Writer, run func() error) {
	ctx, cancel := who.lasts()
	defer cancel()
	st.texts = st.server.answering(ctx)
	// A client that takes nothing keeps no stream either.
	stop := context.AfterFunc(ctx, func() { _ = st.conn.SetWriteDeadline(time.Now().Add(socketGoodbye)) })
	run() //nolint:errcheck // the client went away, which needs no word
	stop()
	if ctx.Err() == nil {
		return
	}
	if body, err := json.Marshal(problemOf(&refusal{code: codeKeyUnknown}, newTrace())); err == nil {
		_ = st.send(w, "event: problem\ndata: "+string(body)+"\n\n", socketGoodbye)
	}
}

// event sends one event, unless the client has it, and says whether it was the last.
func (st *stream) event(w *bufio.Writer, e *eventView) (over bool, err error) {
	if e.at.offset <= st.last || e.tenant != st.tenant {
		return false, nil
	}
	body, err := json.Marshal(st.opener().event(e))
	if err != nil {
		return false, err
	}
	st.last = e.at.offset
	return e.ends(), st.write(w, "id: "+e.Position+"\nevent: event\ndata: "+string(body)+"\n\n")
}

// opener is the next event's. While the keys cannot be read, one event in ten seconds
// is kept waiting to find out, and the others are sent without their texts.
func (st *stream) opener() *opener {
	if !st.texts.down || time.Since(st.texts.until) > heartbeat {
		st.texts = st.server.answering(st.texts.ctx)
	}
	return st.texts.item()
}

func (st *stream) progress(w *bufio.Writer, p *progressView) error {
	if p.tenant != st.tenant {
		return nil
	}
	body, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return st.write(w, "event: progress\ndata: "+string(body)+"\n\n")
}

// write sends at once. A client that takes nothing for the write time-out is cut
// and may resume by its last id.
func (st *stream) write(w *bufio.Writer, text string) error {
	if err := st.texts.ctx.Err(); err != nil {
		return err
	}
	return st.send(w, text, st.server.cfg.WriteTimeout)
}

func (st *stream) send(w *bufio.Writer, text string, within time.Duration) error {
	if err := st.conn.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if _, err := w.WriteString(text); err != nil {
		return err
	}
	return w.Flush()
}
