// Retry and re-run: a new job that goes on from one that has ended. Nothing is copied:
// the new job's command names the parent's inputs and results where they lie.
//
//  1. Only a job that has ended, as the tables show it, can be a parent.
//  2. The request is the parent's, with what the client changes. Mode, variant, inputs
//     and profile stay: no second profile is made.
//  3. The seed that the parent drew stays, so that its results can be reused. Where the
//     first stage that draws by it is to run again, a new one is drawn, for the old one
//     would make the same again.
//  4. An approval that was granted holds as long as the words are the same. A changed
//     script is approved anew where the parent asked for approval.

package api

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/projections"
)

// again is what a retry or re-run changes, and its parent once it was read.
type again struct {
	schema  string // of the body
	pattern string // of the route
	job     string // the parent's id
	body    RerunRequest
	results events.Parent
	parent  aggregates.Job
	request events.Request // of the child, without what is sealed for it
}

func (s *Server) retryJob(c *fiber.Ctx) error { return s.goOnFrom(c, "retry", "Nothing") }

func (s *Server) rerunJob(c *fiber.Ctx) error { return s.goOnFrom(c, "rerun", "RerunRequest") }

func (s *Server) goOnFrom(c *fiber.Ctx, verb, schema string) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	return s.answerSubmission(c, &submitting{server: s, who: callerOf(c), route: "/api/jobs/" + id + "/" + verb, trace: traceID(c),
		again: &again{schema: schema, pattern: "/api/jobs/:id/" + verb, job: id}})
}

// pattern is the route without ids, for the metrics.
func (sub *submitting) pattern() string {
	if sub.again != nil {
		return sub.again.pattern
	}
	return sub.route
}

// planAgain refuses what cannot be done again, with every reason at once.
func (sub *submitting) planAgain(ctx context.Context, faults []fault) error {
	if err := sub.readParent(ctx); err != nil {
		return err
	}
	a := sub.again
	stages, script := nodeIDs(a.parent.Graph), a.body.Script
	if from := a.body.From; from != "" && !slices.Contains(stages, from) {
		detail := "from must be a stage of job " + a.job + ", which has " + strings.Join(stages, ", ")
		if len(stages) == 0 {
			detail = "from must be left out: job " + a.job + " was never planned and has no stages"
		}
		faults = append(faults, fault{Pointer: "/from", Code: "stage_unknown", Detail: detail})
	}
	switch {
	case script == nil:
	case a.parent.Request.Mode == aggregates.ModeDiagnostic:
		faults = append(faults, fault{Pointer: "/script", Code: "input_unused", Detail: "script must be left out: this pipeline says nothing"})
	case !hasWord(*script):
		faults = append(faults, wordless("script"))
	}
	a.request = a.child(sub.digest)
	if a.body.Engines != "" {
		a.request.Engines = sub.server.engines(a.body.Engines, a.request.Mode)
	}
	if script != nil {
		a.request.Edit = &events.Value{Text: &events.Sealed{}}
	}
	graph, more, err := sub.planned(a.request)
	if err != nil {
		return err
	}
	faults = append(faults, fresh(more, faults)...)
	if len(faults) > 0 {
		return invalid(faults...)
	}
	sub.graph, sub.profile = graph, a.request.ProfileID
	return sub.someWorker(ctx)
}

func nodeIDs(g events.Graph) []string {
	ids := make([]string, len(g.Nodes))
	for i, n := range g.Nodes {
		ids[i] = n.ID
	}
	return ids
}

// readParent folds the parent's events as the tables hold them.
func (sub *submitting) readParent(ctx context.Context) error {
	a := sub.again
	var rows []*projections.JobEvent
	err := sub.server.read(ctx, func(ctx context.Context, q *projections.Queries) (err error) {
		rows, err = q.JobEvents(ctx, sub.who.tenant, a.job, 0, streamBacklog)
		return err
	})
	switch {
	case err != nil:
		return err
	case len(rows) == 0 && sub.server.accepted.has(sub.who.tenant, a.job): // the tables do not show it yet
		return &refusal{code: codeJobNotEnded, jobID: a.job}
	case len(rows) == 0:
		return refuse(codeNotFound, "there is no job %s", a.job)
	}
	facts := make([]events.Message, len(rows))
	for i, row := range rows {
		if facts[i], err = row.Message(); err != nil {
			return &refusal{code: codeJobUnread, jobID: a.job, cause: err}
		}
	}
	// A stage that the job does not have is refused later, together with everything else.
	if a.results, a.parent, err = aggregates.ParentOf(facts, ""); err != nil {
		return fmt.Errorf("cannot fold job %s: %w", a.job, err)
	}
	if !a.parent.Terminal() {
		return &refusal{code: codeJobNotEnded, jobID: a.job, detail: fmt.Sprintf("job %s is %s; wait for its end, or cancel it first", a.job, a.parent.State)}
	}
	if _, has := a.parent.Node(a.body.From); has {
		if a.results, a.parent, err = aggregates.ParentOf(facts, a.body.From); err != nil {
			return fmt.Errorf("cannot fold job %s: %w", a.job, err)
		}
	}
	return nil
}

// child is the request of the new job.
func (a *again) child(digest string) events.Request {
	r := a.parent.Request
	r.ParentJobID, r.BodyDigest, r.KeyDigest, r.NotBeforeMS = a.job, digest, "", 0
	if r.ProfileID == "" && r.Mode == aggregates.ModeTrainAndGenerate {
		r.ProfileID = events.ProfileIDOfJob(a.job)
	}
	anew := a.anew()
	options := maps.Clone(r.Options)
	if options == nil {
		options = map[string]any{}
	}
	for _, n := range a.parent.Graph.Nodes { // the first that draws a seed draws that of take 1, which decides all others
		seed, drawn := n.Params["seed"]
		if !drawn {
			continue
		}
		if options["seed"] = seed; anew[n.ID] {
			delete(options, "seed")
		}
		break
	}
	maps.Copy(options, plainNumbers(a.body.Options))
	r.Options = options
	if a.body.Labels != nil {
		r.Labels = labelsOf(*a.body.Labels)
	}
	a.approved(&r, anew)
	return r
}

// anew are the stages that are to run again whatever there is to reuse.
func (a *again) anew() map[string]bool {
	anew := map[string]bool{}
	if a.body.From == "" {
		return anew
	}
	anew[a.body.From] = true
	for _, n := range a.parent.Graph.Nodes { // in a topological order
		for _, e := range a.parent.Graph.Edges {
			if e.To == n.ID && anew[e.From] {
				anew[n.ID] = true
			}
		}
	}
	return anew
}

// approved carries the words over that somebody wrote or approved in the parent.
func (a *again) approved(r *events.Request, anew map[string]bool) {
	g := a.parent.Graph
	script := slices.IndexFunc(g.Nodes, func(n events.Node) bool { return n.Task == aggregates.TaskScript })
	if script >= 0 && anew[g.Nodes[script].ID] {
		r.Edit = nil // new words are asked for
	}
	gate := slices.IndexFunc(g.Nodes, func(n events.Node) bool { return n.Task == aggregates.TaskApproval })
	if a.body.Script != nil || gate < 0 || anew[g.Nodes[gate].ID] || a.parent.Stages[gate].State != aggregates.StageSucceeded {
		return
	}
	r.Approval = false
	for _, key := range g.Nodes[gate].Out {
		if words, ok := a.parent.Values[key]; ok {
			r.Edit = &words
		}
	}
}

// composeAgain is the command of a retry or re-run: the child's own key, and the
// script that was changed, sealed with it.
func (sub *submitting) composeAgain(ctx context.Context) (events.JobSubmit, error) {
	s, a := sub.server, sub.again
	var keyID string
	err := inTime(ctx, objectTimeout, func(ctx context.Context) (err error) {
		if err = s.readable(ctx, a.request); err != nil {
			return err
		}
		if keyID, _, err = sub.contentKey(ctx); err == nil {
			a.request.Webhook, err = s.resealedHook(ctx, a.request.Webhook, keyID)
		}
		return err
	})
	switch {
	case errors.Is(err, objects.ErrErased):
		return events.JobSubmit{}, &refusal{code: codeContentErased, jobID: a.job, cause: err}
	case err != nil:
		return events.JobSubmit{}, fmt.Errorf("cannot make the job's content key: %w", err)
	}
	r := a.request
	if a.body.Script != nil {
		said := strings.TrimSpace(*a.body.Script)
		sealed, err := s.keyring.Seal(ctx, keyID, said)
		if err != nil {
			return events.JobSubmit{}, fmt.Errorf("cannot seal the script: %w", err)
		}
		r.Edit = &events.Value{Text: &sealed, Digest: s.textDigest(sub.who.tenant, said)}
	}
	if sub.keyed {
		r.KeyDigest = s.textDigest(sub.who.tenant, sub.key)
	}
	return events.JobSubmit{Request: r, Parent: &a.results}, nil
}

// readable says objects.ErrErased when a text that the request names was erased.
func (s *Server) readable(ctx context.Context, r events.Request) error {
	asked := map[string]bool{}
	for _, v := range append(slices.Collect(maps.Values(r.Inputs)), valueOf(r.Edit)) {
		if v.Text == nil || v.Text.Key == "" || asked[v.Text.Key] {
			continue
		}
		asked[v.Text.Key] = true
		if _, err := s.keyring.Key(ctx, v.Text.Key); err != nil {
			return err
		}
	}
	return nil
}

func valueOf(v *events.Value) events.Value {
	if v == nil {
		return events.Value{}
	}
	return *v
}
