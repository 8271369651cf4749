// Commands to a job that is there: cancel, approve, deny, label. Each becomes one record on
// the log, and the job handler's reply is waited for:
//
//  1. What is wrong with the request itself is refused before anything is written.
//  2. An accepted command answers 200 with the job as the tables show it afterwards.
//  3. A refused one answers 404, 409 or 410, and has left no event.
//  4. Without a reply in time, or without tables that show what came of it, the answer
//     is 202: asked for.

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/projections"
)

// asking is one command on its way to a job.
type asking struct {
	server  *Server
	who     *caller
	verb    string // cancel, approve, deny or label
	schema  string // of the body
	job     string
	command string // its id
	keyed   bool   // the client named it
	pending bool   // no reply came in time
	payload func(ctx context.Context, a *asking) (events.Payload, error)
	body    struct { // of whichever command it is
		ApproveRequest
		DenyRequest
		JobPatch
	}
}

const outcomePending = "pending"

func (s *Server) cancelJob(c *fiber.Ctx) error {
	return s.ask(c, &asking{verb: "cancel", schema: "Nothing", payload: func(context.Context, *asking) (events.Payload, error) {
		return events.JobCancel{}, nil
	}})
}

func (s *Server) approveJob(c *fiber.Ctx) error {
	return s.ask(c, &asking{verb: "approve", schema: "ApproveRequest", payload: func(ctx context.Context, a *asking) (events.Payload, error) {
		edit, err := a.server.sealedFor(ctx, a.who.tenant, a.job, a.body.Script)
		return events.JobApprove{Edit: edit}, err
	}})
}

func (s *Server) denyJob(c *fiber.Ctx) error {
	return s.ask(c, &asking{verb: "deny", schema: "DenyRequest", payload: func(ctx context.Context, a *asking) (events.Payload, error) {
		reason, err := a.server.sealedFor(ctx, a.who.tenant, a.job, a.body.Reason)
		if err != nil || reason == nil {
			return events.JobDeny{}, err
		}
		return events.JobDeny{Reason: reason.Text}, nil
	}})
}

func (s *Server) patchJob(c *fiber.Ctx) error {
	return s.ask(c, &asking{verb: "label", schema: "JobPatch", payload: func(_ context.Context, a *asking) (events.Payload, error) {
		return events.JobLabel{Labels: labelsOf(a.body.Labels)}, nil
	}})
}

func (s *Server) ask(c *fiber.Ctx, a *asking) error {
	a.server, a.who = s, callerOf(c)
	err := a.send(c)
	s.countCommand(a.verb, err, a.pending)
	return err
}

// countCommand counts a command by what its client was told.
func (s *Server) countCommand(verb string, err error, pending bool) {
	outcome := events.OutcomeAccepted
	switch {
	case err != nil && kinds[asRefusal(err).code].status >= fiber.StatusInternalServerError:
		outcome = "unavailable"
	case err != nil:
		outcome = events.OutcomeRefused
	case pending:
		outcome = outcomePending
	}
	s.metrics.commands.WithLabelValues(verb, outcome).Inc()
}

// send writes the command and answers with what became of it.
func (a *asking) send(c *fiber.Ctx) error {
	s := a.server
	if err := checkQuery(c); err != nil {
		return err
	}
	if err := a.read(c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.UserContext(), s.cfg.SubmitTimeout)
	defer cancel()
	data, err := a.payload(ctx, a)
	if err != nil {
		return err
	}
	w := s.replies.expect(a.job, a.command)
	defer w.forget()
	if err := s.send(ctx, events.TopicJobCommands, commandMessage(a.who, a.job, a.command, s.now().UTC(), data), traceID(c)); err != nil {
		r := asRefusal(err)
		if r.code == codeLogUnavailable {
			r.jobID = a.job
		}
		return r
	}
	reply, answered := w.wait(c.UserContext(), s.cfg.ReplyTimeout, s.stopping)
	if a.pending = !answered; a.pending {
		return c.Status(fiber.StatusAccepted).JSON(asked{ID: a.job, Command: a.verb, Outcome: outcomePending,
			Detail: a.verb + " is asked for and will be handled; the job's events say what came of it"})
	}
	return a.answer(c, reply)
}

// read takes id, key and body. The same key and body are the same command.
func (a *asking) read(c *fiber.Ctx) (err error) {
	if a.job, err = pathID(c); err != nil {
		return err
	}
	key := ""
	if key, a.keyed, err = idempotencyKey(c); err != nil {
		return err
	}
	object, err := readObject(c)
	if err != nil {
		return err
	}
	canonical, err := json.Marshal(object)
	if err != nil {
		return fmt.Errorf("cannot write the request's canonical form: %w", err)
	}
	faults, err := a.server.contract.take(a.schema, object, &a.body)
	switch {
	case err != nil:
		return err
	case len(faults) > 0:
		return invalid(faults...)
	}
	if said := a.body.Script; said != nil && !hasWord(*said) {
		return invalid(wordless("script"))
	}
	if !a.keyed {
		a.command, err = newID()
		return err
	}
	a.command = events.NameID(a.verb, a.job, key, a.server.textDigest(a.who.tenant, string(canonical)))
	return nil
}

// answer tells what the job handler said.
func (a *asking) answer(c *fiber.Ctx, reply events.CommandReplied) error {
	s := a.server
	ctx, cancel := context.WithTimeout(c.UserContext(), s.cfg.ReplyTimeout)
	defer cancel()
	if reply.Outcome == events.OutcomeRefused && !a.fulfilled(ctx, reply) {
		return refusedCommand(a.job, reply)
	}
	position := positionToken(a.job, max(1, reply.Version))
	if s.cfg.Tables.WaitFor(ctx, a.who.tenant, a.job, reply.Version) == nil {
		if view, err := s.job(ctx, a.who.tenant, a.job); err == nil {
			return sendWritten(c, func(w *jobWriter) { w.accepted(&accepted{jobView: view, Position: position}) })
		}
	}
	return c.Status(fiber.StatusAccepted).JSON(asked{ID: a.job, Command: a.verb, Outcome: events.OutcomeAccepted, Status: opt(reply.Status),
		Version: opt(reply.Version), Position: &position, Detail: a.verb + " is done; the tables do not show it yet"})
}

// fulfilled says whether a refused command had done its work before: a job that is
// cancelled was, and the event that this very command led to is among the job's.
func (a *asking) fulfilled(ctx context.Context, reply events.CommandReplied) bool {
	switch {
	case a.verb == "cancel" && reply.Status == aggregates.JobCancelled:
		return true
	case !a.keyed || reply.Code == aggregates.CodeJobUnknown:
		return false
	}
	s := a.server
	for _, e := range s.feed.lately(a.who.tenant, a.job) {
		if e.CommandID == a.command {
			return true
		}
	}
	found := false
	if s.cfg.Tables.WaitFor(ctx, a.who.tenant, a.job, reply.Version) != nil {
		return false
	}
	err := s.read(ctx, func(ctx context.Context, q *projections.Queries) error {
		rows, err := q.JobEvents(ctx, a.who.tenant, a.job, 0, streamBacklog)
		for _, e := range rows {
			found = found || e.CommandID == a.command
		}
		return err
	})
	return err == nil && found
}

// refusedCommand is what the job handler refused, in HTTP.
func refusedCommand(job string, reply events.CommandReplied) *refusal {
	r := &refusal{code: codeCommandRefused, detail: reply.Detail, jobID: job}
	switch reply.Code {
	case aggregates.CodeJobUnknown:
		return refuse(codeNotFound, "there is no job %s", job)
	case codeJobEnded:
		r.code = codeJobEnded
		if reply.Status != "" {
			r.detail = fmt.Sprintf("job %s has ended: it is %s", job, reply.Status)
		}
	case codeNotWaiting:
		r.code = codeNotWaiting
		if reply.Status != "" {
			r.detail = fmt.Sprintf("job %s does not wait for approval: it is %s", job, reply.Status)
		}
	case codeKeyConflict, codeJobArchived:
		r.code = reply.Code
	}
	return r
}

// sealedFor seals text under the content key of a job of the tenant that is there; nil stays nil.
func (s *Server) sealedFor(ctx context.Context, tenant, job string, text *string) (*events.Value, error) {
	if text == nil || strings.TrimSpace(*text) == "" {
		return nil, nil
	}
	keyID, err := s.contentKey(ctx, tenant, job)
	if err != nil || keyID == "" {
		return nil, err // a job without texts never waits for approval, which the job handler says
	}
	said := strings.TrimSpace(*text)
	var sealed events.Sealed
	err = inTime(ctx, objectTimeout, func(ctx context.Context) (err error) {
		sealed, err = s.keyring.Seal(ctx, keyID, said)
		return err
	})
	if errors.Is(err, objects.ErrErased) {
		return nil, &refusal{code: codeContentErased, jobID: job}
	}
	return &events.Value{Text: &sealed, Digest: s.textDigest(tenant, said)}, err
}

// contentKey is the id of the job's content key, "" if it has none. It is named after the profile
// as well, which this process remembers, the tables know, or an event tells that came lately.
func (s *Server) contentKey(ctx context.Context, tenant, job string) (string, error) {
	if known, ok := s.accepted.find(tenant, job); ok && known.confirmed {
		if r, _, ok := known.request(); ok {
			return contentKeyID(tenant, job, r.Mode, &profileRef{ID: r.ProfileID})
		}
	}
	for _, e := range s.feed.lately(tenant, job) {
		var told struct {
			Request events.Request `json:"request"`
		}
		if e.Type == (events.JobSubmitted{}).EventType() && json.Unmarshal(e.Data, &told) == nil {
			return contentKeyID(tenant, job, told.Request.Mode, &profileRef{ID: told.Request.ProfileID})
		}
	}
	var row *projections.Job
	err := s.read(ctx, func(ctx context.Context, q *projections.Queries) (err error) {
		row, err = q.Job(ctx, tenant, job)
		return err
	})
	if errors.Is(err, projections.ErrNotFound) {
		return "", refuse(codeNotFound, "there is no job %s", job)
	}
	if err != nil {
		return "", err
	}
	return contentKeyID(tenant, job, row.Mode, &profileRef{ID: row.ProfileID})
}

func contentKeyID(tenant, job, mode string, profile *profileRef) (string, error) {
	if mode == aggregates.ModeDiagnostic {
		return "", nil
	}
	if profile == nil {
		profile = &profileRef{}
	}
	subject, err := objects.Subject(tenant, profile.ID, job)
	return objects.KeyID(subject), err
}
