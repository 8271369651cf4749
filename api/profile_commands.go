// Commands to profiles: make one, change it, erase it. What was asked becomes commands
// on the log, and the job handler's reply is waited for:
//
//  1. What is wrong with the request is refused before anything is written.
//  2. Files are copied into the profile's folder and texts sealed under its own key, both
//     before the command that names them.
//  3. A profile is made by one command, whole or not at all. A change is one command for
//     each thing that changes; they lie together, and nothing but an erasure comes between.
//  4. An accepted one is answered with the profile as the tables show it afterwards, an
//     erasure with 202: the notifier carries it out. Without a reply or tables in time
//     the answer is 202 as well: asked for.

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	profileCreate = "create"
	profileChange = "change"
	profileErase  = "erase"
)

// profileAsking is one request about a profile on its way.
type profileAsking struct {
	server *Server
	who    *caller
	verb   string
	id     string
	key    string // Idempotency-Key
	keyed  bool
	digest string // of the body
	trace  string

	label      *string
	consent    *ConsentGiven
	withdraws  bool
	transcript *string
	archived   *bool
	files      []*profileFile

	pending bool // no reply came in time
}

func (s *Server) createProfile(c *fiber.Ctx) error {
	return s.askProfile(c, profileCreate, func(p *profileAsking, c *fiber.Ctx) ([]fault, error) {
		if p.id = events.JobID(p.who.tenant, "/api/profiles", p.key); !p.keyed {
			var err error
			if p.id, err = newID(); err != nil {
				return nil, err
			}
		}
		var b ProfileRequest
		faults, err := p.read(c, "ProfileRequest", &b)
		if b.Label != "" { // otherwise its fault is among the others
			p.label = &b.Label
		}
		p.consent, p.transcript = b.Consent, b.VoiceTranscript
		p.give(b.Portrait, b.Voice)
		return faults, err
	})
}

func (s *Server) changeProfile(c *fiber.Ctx) error {
	return s.askProfile(c, profileChange, func(p *profileAsking, c *fiber.Ctx) (faults []fault, err error) {
		if p.id, err = pathID(c); err != nil {
			return nil, err
		}
		var b struct {
			ProfileChange
			Consent *ConsentGiven `json:"consent"`
		}
		faults, err = p.read(c, "ProfileChange", &b)
		p.label, p.consent, p.transcript, p.archived = b.Label, b.Consent, b.VoiceTranscript, b.Archived
		p.give(b.Portrait, b.Voice)
		return faults, err
	})
}

func (s *Server) eraseProfile(c *fiber.Ctx) error {
	return s.askProfile(c, profileErase, func(p *profileAsking, c *fiber.Ctx) (faults []fault, err error) {
		p.id, err = pathID(c)
		return nil, err
	})
}

func (s *Server) askProfile(c *fiber.Ctx, verb string, take func(*profileAsking, *fiber.Ctx) ([]fault, error)) error {
	p := &profileAsking{server: s, who: callerOf(c), verb: verb, trace: traceID(c)}
	err := p.handle(c, take)
	s.countCommand("profile_"+verb, err, p.pending)
	return err
}

func (p *profileAsking) handle(c *fiber.Ctx, take func(*profileAsking, *fiber.Ctx) ([]fault, error)) (err error) {
	if err = checkQuery(c); err != nil {
		return err
	}
	if p.key, p.keyed, err = idempotencyKey(c); err != nil {
		return err
	}
	faults, err := take(p, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.UserContext(), p.server.cfg.SubmitTimeout)
	defer cancel()
	done, err := p.meet(ctx)
	switch {
	case err != nil && len(faults) > 0:
		return invalid(faults...) // what is wrong with the request itself goes first
	case err != nil:
		return err
	case done != nil:
		return p.answer(c, *done)
	}
	if faults, err = p.check(ctx, faults); err != nil {
		return err
	}
	if len(faults) > 0 {
		return invalid(faults...)
	}
	if copying := copyTime(p.bytes()); copying > 0 {
		end, _ := ctx.Deadline()
		cancel()
		ctx, cancel = context.WithDeadline(c.UserContext(), end.Add(copying))
		defer cancel()
	}
	return p.send(c, ctx)
}

// read takes the body, and notes whether it takes the consent back.
func (p *profileAsking) read(c *fiber.Ctx, schema string, body any) ([]fault, error) {
	object, err := readObject(c)
	if err != nil {
		return nil, err
	}
	canonical, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("cannot write the request's canonical form: %w", err)
	}
	p.digest = p.server.textDigest(p.who.tenant, string(canonical))
	given, named := object["consent"]
	p.withdraws = named && given == nil
	return p.server.contract.take(schema, object, body)
}

// meet looks at the profile that there is. done is the reply to a request that was
// heeded before.
func (p *profileAsking) meet(ctx context.Context) (done *events.CommandReplied, err error) {
	profile, err := p.server.known.profile(p.who.tenant, p.id)
	if err != nil {
		return nil, err
	}
	exists := profile.Chain.Version > 0
	reply := events.CommandReplied{Outcome: events.OutcomeDuplicate, Version: profile.Chain.Version, Status: profile.Status}
	switch {
	case p.verb == profileCreate && exists && slices.Contains(profile.Heeded, p.commandID(events.ProfileCreate{})):
		return &reply, nil
	case p.verb == profileCreate && exists:
		return nil, p.conflict()
	case p.verb == profileCreate:
		return nil, nil
	case !exists:
		return nil, p.unknown(ctx)
	case p.verb == profileErase && profile.Gone():
		return &reply, nil
	case profile.Gone():
		return nil, &refusal{code: codeProfileErased}
	}
	return nil, nil
}

// unknown says whether a profile of which this process has not heard is in the tables.
func (p *profileAsking) unknown(ctx context.Context) error {
	_, err := p.row(ctx)
	return err
}

func (p *profileAsking) row(ctx context.Context) (row *projections.Profile, err error) {
	err = p.server.read(ctx, func(ctx context.Context, q *projections.Queries) (err error) {
		row, err = q.Profile(ctx, p.who.tenant, p.id)
		return err
	})
	if errors.Is(err, projections.ErrNotFound) {
		return nil, noProfile(p.id)
	}
	return row, err
}

func noProfile(id string) *refusal { return refuse(codeNotFound, "there is no profile %s", id) }

func (p *profileAsking) conflict() *refusal {
	return refuse(codeKeyConflict, "this Idempotency-Key belongs to profile %s, for which something else was asked; send the same body, or use a new key", p.id)
}

// send writes the commands and answers with what became of them.
func (p *profileAsking) send(c *fiber.Ctx, ctx context.Context) error { //nolint:revive // Fiber's context is no context.Context
	s := p.server
	commands, err := p.compose(ctx)
	if err != nil {
		return err
	}
	if len(commands) == 0 {
		return p.show(c, fiber.StatusOK)
	}
	at := s.now().UTC()
	messages := make([]events.Message, len(commands))
	for i, data := range commands {
		id := p.commandID(data)
		if !p.keyed {
			if id, err = newID(); err != nil {
				return err
			}
		}
		m := commandMessage(p.who, p.id, id, at, data)
		m.AggregateType, m.JobID = events.AggregateProfile, ""
		messages[i] = m
	}
	w := s.replies.expect(p.id, messages[len(messages)-1].CommandID)
	defer w.forget()
	if err := s.sendAll(ctx, events.TopicProfileCommands, p.trace, messages...); err != nil {
		return err
	}
	reply, answered := w.wait(c.UserContext(), s.cfg.ReplyTimeout, s.stopping)
	if p.pending = !answered; p.pending {
		return p.told(c, outcomePending, events.CommandReplied{}, p.verb+" is asked for and will be handled; the profile shows what came of it")
	}
	return p.answer(c, reply)
}

// commandID is the id of one of the commands of a request with a key: the same key and
// body are the same commands.
func (p *profileAsking) commandID(data events.Payload) string {
	return events.NameID("profile", p.verb, p.id, p.key, p.digest, data.EventType(), p.who.tenant)
}

// answer tells what the job handler said.
func (p *profileAsking) answer(c *fiber.Ctx, reply events.CommandReplied) error {
	switch {
	case reply.Outcome != events.OutcomeRefused:
	case reply.Code == aggregates.CodeProfileUnknown:
		return noProfile(p.id)
	case reply.Code == aggregates.CodeProfileErased:
		return &refusal{code: codeProfileErased, detail: reply.Detail}
	case reply.Code == aggregates.CodeIdempotencyConflict:
		return p.conflict()
	default:
		return &refusal{code: codeCommandRefused, detail: reply.Detail}
	}
	ctx, cancel := context.WithTimeout(c.UserContext(), p.server.cfg.ReplyTimeout)
	defer cancel()
	seen := p.server.cfg.Tables.WaitForProfile(ctx, p.who.tenant, p.id, reply.Version) == nil
	switch {
	case p.verb == profileErase:
		return p.told(c, events.OutcomeAccepted, reply, "the profile is erased: its status is erased once nothing of it is left")
	case !seen:
		return p.told(c, events.OutcomeAccepted, reply, p.verb+" is done; the tables do not show it yet")
	case p.verb == profileCreate:
		c.Set(fiber.HeaderLocation, "/api/profiles/"+p.id)
		return p.show(c, fiber.StatusCreated)
	}
	return p.show(c, fiber.StatusOK)
}

// show answers with the profile as the tables have it.
func (p *profileAsking) show(c *fiber.Ctx, status int) error {
	row, err := p.row(c.UserContext())
	if err != nil {
		return err
	}
	return c.Status(status).JSON(viewProfile(p.server.opener(c.UserContext()), row))
}

func (p *profileAsking) told(c *fiber.Ctx, outcome string, reply events.CommandReplied, detail string) error {
	c.Set(fiber.HeaderLocation, "/api/profiles/"+p.id)
	return c.Status(fiber.StatusAccepted).JSON(profileAsked{ID: p.id, Command: p.verb, Outcome: outcome, Status: opt(reply.Status), Version: opt(reply.Version), Detail: detail})
}

// blank is a label in which there is nothing to read.
func (p *profileAsking) blank() []fault {
	if p.label == nil || strings.TrimSpace(*p.label) != "" {
		return nil
	}
	return []fault{{Pointer: "/label", Code: "text_empty", Detail: "label must hold more than blanks"}}
}

// longestVoice and shortestVoice bound a voice that is imitated as it is.
const (
	shortestVoice = time.Second
	longestVoice  = time.Minute
)
