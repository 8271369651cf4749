// Submitting a job: a request is checked, planned, sealed and becomes one command
// on the log. The order matters:
//
//  1. Everything that can be refused is refused before anything is written.
//  2. The content key comes first, then the inputs are copied into the job's folder.
//  3. The command comes last: 202 means that it is durable and what it names exists.
//  4. The job handler's reply is waited for a moment: it alone knows whether the
//     Idempotency-Key belongs to another request.
//
// A repeat with the same Idempotency-Key makes the same ids, so that a step that
// was done already changes nothing.

package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

// submitting is one submission on its way.
type submitting struct {
	server  *Server
	who     *caller
	route   string
	mode    string // that the route implies
	jobID   string
	keyed   bool
	key     string // Idempotency-Key
	body    JobRequest
	digest  string // of the body
	trace   string
	prefer  preference
	profile string // id: the given one, or the one that the job makes
	uploads map[string]upload
	files   map[string]*formFile // that came with it, by the id in the body
	dir     string               // where they lie until the answer
	graph   events.Graph
	again   *again // of a retry or re-run

	engines    string   // that the job allows; empty: auto
	definition string   // of its pipeline, if that is an own one
	labels     []string // sorted, each once

	notBefore int64         // Unix milliseconds; 0: at once
	unseen    error         // why the tables could not say whether the job is there
	copying   time.Duration // granted for copying the uploads
	camel     bool          // the route speaks the specification's camelCase
	written   spelling      // of the fields that the client gave
}

// accepted is the answer: the Job object and where to go on.
type accepted struct {
	jobView
	Position   string  `json:"position"`             // <job id>:<version>; give it to GET /api/jobs/{id}
	JobID      string  `json:"jobId,omitempty"`      // the specification's names, on its own routes
	ProfileID  *string `json:"profileId,omitempty"`  //
	WorkflowID string  `json:"workflowId,omitempty"` //
	// WebhookSecret is one that was made here, told to nobody but who submits the job.
	WebhookSecret string `json:"webhook_secret,omitempty"`
}

func (s *Server) train(c *fiber.Ctx) error {
	return s.submit(c, "/api/train", aggregates.ModeTrainAndGenerate, true)
}

func (s *Server) generate(c *fiber.Ctx) error {
	return s.submit(c, "/api/generate", aggregates.ModeGenerateFromProfile, true)
}

func (s *Server) submitJob(c *fiber.Ctx) error { return s.submit(c, "/api/jobs", "", false) }

func (s *Server) submit(c *fiber.Ctx, route, mode string, camel bool) error {
	return s.answerSubmission(c, &submitting{server: s, who: callerOf(c), route: route, mode: mode, camel: camel, trace: traceID(c)})
}

// taken is what became of a submission.
type taken struct {
	view     jobView
	version  int64 // of the job; 0: not known
	repeated bool  // the job was there already
}

func (s *Server) answerSubmission(c *fiber.Ctx, sub *submitting) error {
	got, err := sub.accept(c)
	outcome := "accepted"
	switch {
	case got.repeated:
		outcome = "repeated"
	case err != nil && kinds[asRefusal(err).code].status >= fiber.StatusInternalServerError:
		outcome = "unavailable"
	case err != nil:
		outcome = "refused"
	}
	s.metrics.submitted.WithLabelValues(sub.pattern(), outcome).Inc()
	if err != nil {
		return err
	}
	status, view, applied := fiber.StatusAccepted, got.view, make([]string, 0, 2)
	switch wait := sub.prefer.wait; {
	case wait > 0:
		if done, ok := s.waitForEnd(c.UserContext(), sub.who.tenant, sub.jobID, min(wait, s.longestWait)); ok {
			view, status = done, fiber.StatusOK
		}
		applied = append(applied, fmt.Sprintf("wait=%d", int(wait.Seconds())))
	case sub.prefer.async:
		applied = append(applied, "respond-async")
	}
	answer := accepted{jobView: view, Position: positionToken(view.ID, max(1, view.Version, got.version))}
	answer.WebhookSecret = sub.madeSecret()
	if sub.camel {
		answer.JobID, answer.WorkflowID = view.ID, view.Pipeline
		if view.Profile != nil {
			answer.ProfileID = &view.Profile.ID
		}
	}
	brief := sub.prefer.minimal && status == fiber.StatusAccepted
	if brief {
		applied = append(applied, "return=minimal")
	}
	if len(applied) > 0 {
		c.Set("Preference-Applied", strings.Join(applied, ", "))
	}
	c.Set(fiber.HeaderLocation, "/api/jobs/"+view.ID)
	if brief {
		return sendWritten(c.Status(status), func(w *jobWriter) { w.briefly(&answer) })
	}
	return sendWritten(c.Status(status), func(w *jobWriter) { w.accepted(&answer) })
}

// positionToken is what a client gives to read its own write.
func positionToken(job string, version int64) string { return fmt.Sprintf("%s:%d", job, version) }

// accept does everything up to the job handler's reply.
func (sub *submitting) accept(c *fiber.Ctx) (got taken, err error) {
	if err = checkQuery(c); err != nil {
		return got, err
	}
	if sub.prefer, err = preferred(c); err != nil {
		return got, err
	}
	if err = sub.identify(c); err != nil {
		return got, err
	}
	defer sub.discard()
	faults, err := sub.read(c)
	if err != nil {
		return got, err
	}
	// The time begins when the body is here, and begins anew when files in it have been checked.
	end := time.Now().Add(sub.server.cfg.SubmitTimeout)
	if len(faults) == 0 && sub.keyed {
		if got, err = sub.repeatBy(c.UserContext(), end); got.repeated || err != nil {
			return got, err
		}
	}
	if len(sub.files) > 0 {
		if err = sub.cleanFiles(c.UserContext()); err != nil {
			return got, err
		}
		end = time.Now().Add(sub.server.cfg.SubmitTimeout)
	}
	return sub.write(c.UserContext(), faults, end)
}

// write plans what was read, puts it on the log by the end time, and waits for the reply. What
// must be copied is known once it is planned, and is given time of its own.
func (sub *submitting) write(parent context.Context, faults []fault, end time.Time) (got taken, err error) {
	ctx, cancel := context.WithDeadline(parent, end)
	defer cancel()
	if err = sub.plan(ctx, faults); err != nil {
		return got, err
	}
	undo, err := sub.admit()
	if err != nil {
		return got, err
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	if sub.copying = copyTime(sub.bytes()); sub.copying > 0 {
		ctx, cancel = context.WithDeadline(parent, end.Add(sub.copying))
		defer cancel()
	}
	written, err := sub.produce(ctx)
	if err != nil {
		return got, err
	}
	defer written.waiter.forget()
	return sub.settle(parent, written)
}

// admit counts the job among the open ones, of which there may be too many. undo takes
// that back, for a job that does not come about.
func (sub *submitting) admit() (undo func(), err error) {
	undo, full := sub.server.open.admit(sub.who.tenant, sub.jobID)
	if full != nil {
		sub.server.metrics.turnedAway.WithLabelValues(full.code).Inc()
		return nil, full
	}
	return undo, nil
}

// identify reads the Idempotency-Key and names the job.
func (sub *submitting) identify(c *fiber.Ctx) (err error) {
	if sub.key, sub.keyed, err = idempotencyKey(c); err != nil {
		return err
	}
	if sub.keyed {
		sub.jobID = events.JobID(sub.who.tenant, sub.route, sub.key)
		return nil
	}
	sub.jobID, err = newID()
	return err
}

// newID is for what no key names.
func newID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("cannot make an id: %w", err)
	}
	return id.String(), nil
}

// idempotencyKey is the one that the client chose, if it did.
func idempotencyKey(c *fiber.Ctx) (key string, given bool, err error) {
	values := c.Request().Header.PeekAll("Idempotency-Key")
	if len(values) == 0 {
		return "", false, nil
	}
	key = string(values[0])
	bad := func(r rune) bool { return r < 0x21 || r > 0x7e }
	if len(values) > 1 || key == "" || len(key) > 255 || strings.ContainsFunc(key, bad) {
		detail := "Idempotency-Key must be one value of 1 to 255 visible ASCII characters"
		return "", false, &refusal{code: codeKeyInvalid, detail: detail, faults: []fault{{Parameter: "Idempotency-Key", Code: codeKeyInvalid, Detail: detail}}}
	}
	return key, true, nil
}

// longestWait is what Prefer: wait may ask for.
const longestWait = time.Minute

// preference is what the Prefer header asks for (RFC 7240); preferences of other names may stand beside.
type preference struct {
	wait    time.Duration // for the end of the job
	async   bool          // answer as soon as the command lies on the log; wait goes before
	minimal bool          // a 202 need not hold the job
}

func preferred(c *fiber.Ctx) (preference, error) {
	var out preference
	for _, p := range strings.Split(c.Get("Prefer"), ",") {
		p = strings.TrimSpace(p)
		out.async = out.async || p == "respond-async"
		out.minimal = out.minimal || p == "return=minimal"
		text, ok := strings.CutPrefix(p, "wait=")
		if !ok || out.wait > 0 {
			continue
		}
		d, err := time.ParseDuration(strings.Clone(text) + "s")
		if err != nil || d < 0 || d > longestWait || d%time.Second != 0 {
			return out, badParameter("Prefer", "wait must be a whole number of seconds from 0 to 60")
		}
		out.wait = d
	}
	out.async = out.async && out.wait == 0
	return out, nil
}

// repeatBy is repeat by an end time.
func (sub *submitting) repeatBy(ctx context.Context, end time.Time) (taken, error) {
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	return sub.repeat(ctx)
}

// repeat finds the job that this key made before. What this process has written but
// got no reply to does not count: the key may be another request's.
func (sub *submitting) repeat(ctx context.Context) (taken, error) {
	s := sub.server
	known, ok := s.accepted.find(sub.who.tenant, sub.jobID)
	if ok = ok && known.confirmed; !ok {
		known = submission{}
		ctx, cancel := context.WithTimeout(ctx, repeatTimeout)
		defer cancel()
		err := s.read(ctx, func(ctx context.Context, q *projections.Queries) error {
			row, err := q.Job(ctx, sub.who.tenant, sub.jobID)
			if err == nil && row.Request != nil {
				known.bodyDigest, ok = row.Request.BodyDigest, true
			}
			return err
		})
		// With the tables down the command is written again: the handler knows it.
		if err != nil && !errors.Is(err, projections.ErrNotFound) && !errors.Is(err, projections.ErrUnavailable) && asRefusal(err).code != codeTablesDown {
			return taken{}, err
		}
		if !errors.Is(err, projections.ErrNotFound) {
			sub.unseen = err
		}
	}
	if !ok {
		return taken{}, nil
	}
	if known.bodyDigest != sub.digest {
		return taken{}, sub.conflict()
	}
	if view, ok := s.asPlanned(sub.jobID, known); ok {
		return taken{view, known.version, true}, nil
	}
	view, err := s.job(ctx, sub.who.tenant, sub.jobID)
	return taken{view, view.Version, err == nil}, err
}

// conflict refuses a key that belongs to another request.
func (sub *submitting) conflict() *refusal {
	return refuse(codeKeyConflict, "this Idempotency-Key belongs to job %s, which asked for something else; send the same body, or use a new key", sub.jobID)
}

// waitForEnd waits until the job is over and in the tables. It asks them when it begins, for a
// job that was over before, and when an event has ended the job.
func (s *Server) waitForEnd(ctx context.Context, tenant, id string, d time.Duration) (jobView, bool) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	sub, held, _, err := s.feed.subscribe(id, eventlog.PartitionFor(id, s.cfg.Log.Partitions(events.TopicJobEvents)))
	if err != nil {
		return jobView{}, false
	}
	defer s.feed.unsubscribe(sub)
	end, over := lastVersion(held)
	if !over {
		if v, err := s.job(ctx, tenant, id); err == nil && endStates[v.Status] {
			return v, true
		}
		end, over = s.followToEnd(ctx, sub)
	}
	if !over || s.cfg.Tables.WaitFor(ctx, tenant, id, end) != nil {
		return jobView{}, false
	}
	v, err := s.job(ctx, tenant, id)
	return v, err == nil && endStates[v.Status]
}

// lastVersion is that of the event that ended the job, if it is among them.
func lastVersion(list []*eventView) (version int64, over bool) {
	for _, e := range list {
		if e.ends() {
			return e.Version, true
		}
	}
	return 0, false
}

// followToEnd waits for the event that ends the job, and returns its version.
func (s *Server) followToEnd(ctx context.Context, sub *subscriber) (version int64, over bool) {
	for {
		select {
		case <-ctx.Done():
			return 0, false
		case <-s.stopping:
			return 0, false
		case x, open := <-sub.queue:
			switch {
			case !open:
				return 0, false
			case x.event != nil && x.event.ends():
				return x.event.Version, true
			}
		}
	}
}

var endStates = map[string]bool{aggregates.JobSucceeded: true, aggregates.JobFailed: true, aggregates.JobRejected: true, aggregates.JobCancelled: true}
