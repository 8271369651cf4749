// Writing a submission's command, and what the job handler answers to it.

package api

import (
	"cmp"
	"context"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// sent is a command on the log, and who waits for its reply.
type sent struct {
	at      time.Time
	request events.Request
	entry   submission
	waiter  *waiter // nil: nobody waits
}

// produce writes key, inputs and command, in this order. Whoever gets no error must
// forget the waiter.
func (sub *submitting) produce(ctx context.Context) (*sent, error) {
	s := sub.server
	at := s.now().UTC()
	data, err := sub.compose(ctx)
	if err != nil {
		return nil, err
	}
	// Posts of one key and body are one command, and share its reply. Another body under
	// the key is another command, which is refused by itself.
	commandID := events.NameID("submit", sub.jobID, sub.digest)
	if !sub.keyed {
		if commandID, err = newID(); err != nil {
			return nil, err
		}
	}
	m := commandMessage(sub.who, sub.jobID, commandID, at, data)
	m.Variant = data.Request.Variant
	record, err := traced(events.TopicJobCommands, m.AggregateID, m, sub.trace)
	if err != nil {
		return nil, err
	}
	out := &sent{at: at, request: data.Request, entry: submission{tenant: sub.who.tenant, command: commandID, bodyDigest: sub.digest, record: record.Value}}
	if !sub.prefer.async {
		out.waiter = s.replies.expect(sub.jobID, commandID)
	}
	if err := s.cfg.Log.Produce(ctx, record); err != nil {
		out.waiter.forget()
		r := asRefusal(err)
		if r.code == codeLogUnavailable && sub.keyed {
			r.jobID = sub.jobID
		}
		return nil, r
	}
	s.accepted.add(sub.jobID, out.entry)
	return out, nil
}

// compose is the command. What it names exists.
func (sub *submitting) compose(ctx context.Context) (events.JobSubmit, error) {
	if sub.again != nil {
		return sub.composeAgain(ctx)
	}
	request, err := sub.sealed(ctx)
	return events.JobSubmit{Request: request}, err
}

// commandMessage is a command to a job as this process writes it.
func commandMessage(who *caller, job, command string, at time.Time, data events.Payload) events.Message {
	return events.Message{
		ID: command, SchemaVersion: data.SchemaVersion(), AggregateType: events.AggregateJob, AggregateID: job, OccurredAt: at,
		CommandID: command, CausationID: command, CorrelationID: command, Tenant: who.tenant, Actor: who.actor,
		Columns: events.Columns{JobID: job}, Data: data,
	}
}

// settle waits for the reply to a command that lies on the log, unless the client will
// not. Without one in time the answer is that it lies there, which is true.
func (sub *submitting) settle(ctx context.Context, out *sent) (taken, error) {
	s := sub.server
	if sub.prefer.async {
		return taken{view: sub.view(ctx, out)}, nil
	}
	reply, answered := out.waiter.wait(ctx, s.cfg.ReplyTimeout, s.stopping)
	switch {
	case !answered:
		s.log.WarnContext(ctx, "no reply to a submission in time", "jobId", sub.jobID, "trace_id", sub.trace)
		return taken{view: sub.view(ctx, out)}, nil
	case reply.Outcome == events.OutcomeRefused:
		s.accepted.settle(sub.jobID, out.entry.command, reply)
		if reply.Code == codeKeyConflict {
			return taken{}, sub.conflict()
		}
		return taken{}, refusedCommand(sub.jobID, reply)
	}
	out.entry = out.entry.after(reply)
	s.accepted.add(sub.jobID, out.entry)
	if reply.Outcome == events.OutcomeDuplicate {
		ctx, cancel := context.WithTimeout(ctx, repeatTimeout)
		defer cancel()
		// Without tables this process' own plan stands in: the same body made the same one.
		if view, err := s.job(ctx, sub.who.tenant, sub.jobID); err == nil {
			return taken{view, reply.Version, true}, nil
		}
		return taken{sub.view(ctx, out), reply.Version, true}, nil
	}
	s.log.InfoContext(ctx, "job accepted", "jobId", sub.jobID, "workflowId", out.request.Workflow, "variant", out.request.Variant, "trace_id", sub.trace)
	return taken{view: sub.view(ctx, out), version: reply.Version}, nil
}

// view is the job as planned, with what was written in clear.
func (sub *submitting) view(ctx context.Context, out *sent) jobView {
	s, request := sub.server, &out.request
	if sub.prefer.minimal && sub.prefer.wait == 0 {
		v := jobView{ID: sub.jobID, Status: cmp.Or(out.entry.status, firstStatus(request)), Pipeline: sub.graph.Workflow}
		if request.ProfileID != "" {
			v.Profile = &profileRef{ID: request.ProfileID}
		}
		return v
	}
	view := viewPlan(sub.who.tenant, sub.jobID, out.at, sub.graph, request)
	view.Status = cmp.Or(out.entry.status, view.Status)
	o := s.opener(ctx)
	view.Request = viewRequest(o, request)
	if view.Profile != nil {
		label := request.ProfileName
		if label == nil {
			label = s.known.profileName(sub.who.tenant, view.Profile.ID)
		}
		view.Profile = &profileRef{ID: view.Profile.ID, Label: o.text(label)}
	}
	view.Content = o.content
	return view
}

// send writes one message before ctx ends.
func (s *Server) send(ctx context.Context, topic string, m events.Message, trace string) error {
	return s.sendAs(ctx, topic, m.AggregateID, m, trace)
}

// sendAs is send with a key of its own.
func (s *Server) sendAs(ctx context.Context, topic, key string, m events.Message, trace string) error {
	r, err := traced(topic, key, m, trace)
	if err != nil {
		return err
	}
	return s.cfg.Log.Produce(ctx, r)
}

// sendAll writes messages, which lie on the log in their order where their key is one.
func (s *Server) sendAll(ctx context.Context, topic, trace string, messages ...events.Message) error {
	records := make([]eventlog.Record, len(messages))
	for i, m := range messages {
		var err error
		if records[i], err = traced(topic, m.AggregateID, m, trace); err != nil {
			return err
		}
	}
	return s.cfg.Log.Produce(ctx, records...)
}

// traced is the record of a message that a request led to.
func traced(topic, key string, m events.Message, trace string) (eventlog.Record, error) {
	value, err := events.Encode(m)
	if err != nil {
		return eventlog.Record{}, err
	}
	r := eventlog.Record{Topic: topic, Key: key, Value: value}
	headers := events.Headers(m)
	r.Headers = make([]eventlog.Header, 0, len(headers)+1)
	for _, h := range headers {
		r.Headers = append(r.Headers, eventlog.Header(h))
	}
	r.Headers = append(r.Headers, eventlog.Header{Key: traceParent, Value: "00-" + trace + "-" + newTrace()[:16] + "-01"})
	return r, nil
}
