// Reading jobs: pages, one job, its audit trail.

package api

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	readTimeout   = 3 * time.Second // of one read of the tables
	waitForTables = 3 * time.Second // for a row that the client knows to exist
	recentEvents  = 50
	defaultPage   = 50
	maxPage       = 200
)

// read runs fn on one snapshot of the tables.
func (s *Server) read(ctx context.Context, fn func(context.Context, *projections.Queries) error) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	err := s.cfg.Tables.Snapshot(ctx, func(q *projections.Queries) error { return fn(ctx, q) })
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &refusal{code: codeTablesDown, cause: err}
	}
	return err
}

// listOf is a page of a list.
type listOf[T any] struct {
	Items []T     `json:"items"`
	Next  *string `json:"next_cursor"`
}

func (s *Server) listJobs(c *fiber.Ctx) error {
	if err := checkQuery(c, "status", "variant", "mode", "profile_id", "parent_job_id", "label", "created_from", "created_to", "position", "limit", "cursor"); err != nil {
		return err
	}
	filter, err := s.jobFilter(c)
	if err != nil {
		return err
	}
	after, limit, err := pageOf(c)
	if err != nil {
		return err
	}
	if err := s.waitForPosition(c, ""); err != nil {
		return err
	}
	tenant := callerOf(c).tenant
	var rows projections.Page[projections.Job]
	var stages map[string][]*projections.Stage
	err = s.read(c.UserContext(), func(ctx context.Context, q *projections.Queries) (err error) {
		if rows, err = q.Jobs(ctx, tenant, filter, after, limit); err != nil {
			return err
		}
		ids := make([]string, len(rows.Rows))
		for i, j := range rows.Rows {
			ids[i] = j.ID
		}
		stages, err = q.Stages(ctx, tenant, ids...)
		return err
	})
	if err != nil {
		return err
	}
	out := listOf[jobView]{Items: make([]jobView, len(rows.Rows)), Next: cursorText(rows.Next)}
	texts := s.answering(c.UserContext())
	for i, j := range rows.Rows {
		out.Items[i] = s.viewJob(texts.item(), j, stages[j.ID], s.feed.stages(j.ID))
		s.foresee(&out.Items[i])
	}
	return sendWritten(c, func(w *jobWriter) { w.page(&out) })
}

// jobStatuses are all that a job can have.
var jobStatuses = []string{projections.JobScheduled, projections.JobQueued, projections.JobRunning, projections.JobWaitingApproval,
	projections.JobSucceeded, projections.JobFailed, projections.JobCancelled, projections.JobRejected}

func (s *Server) jobFilter(c *fiber.Ctx) (projections.JobFilter, error) {
	f := projections.JobFilter{Variant: copied(c, "variant"), Mode: copied(c, "mode"), ProfileID: copied(c, "profile_id"), ParentJobID: strings.ToLower(copied(c, "parent_job_id"))}
	if list := copied(c, "status"); list != "" {
		f.Statuses = strings.Split(list, ",")
	}
	for _, st := range f.Statuses {
		if !slices.Contains(jobStatuses, st) {
			return f, badParameter("status", "status is a list with commas of %s", strings.Join(jobStatuses, ", "))
		}
	}
	variants, modes := append(s.cfg.Catalogue.Variants(), aggregates.VariantNoop), append(aggregates.Modes(), aggregates.ModeDiagnostic)
	if f.Variant != "" && !slices.Contains(variants, f.Variant) {
		return f, badParameter("variant", "variant must be one of %s", strings.Join(variants, ", "))
	}
	if f.Mode != "" && !slices.Contains(modes, f.Mode) {
		return f, badParameter("mode", "mode must be one of %s", strings.Join(modes, ", "))
	}
	if f.Label = copied(c, "label"); f.Label != "" && len(s.contract.check("Label", f.Label)) > 0 {
		return f, badParameter("label", "label must be a word of 1 to 64 of the characters a to z, 0 to 9, point, hyphen and underscore")
	}
	for name, to := range map[string]*time.Time{"created_from": &f.CreatedFrom, "created_to": &f.CreatedTo} {
		text := copied(c, name)
		if text == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return f, badParameter(name, "%s must be a time with its zone, such as 2026-12-24T18:00:00+01:00 (in a URL + is written %%2B)", name)
		}
		*to = at
	}
	for name, id := range map[string]string{"profile_id": f.ProfileID, "parent_job_id": f.ParentJobID} {
		if id != "" && !isID(id) {
			return f, badParameter(name, "%s must be a UUID", name)
		}
	}
	return f, nil
}

// copied is a query parameter in memory of its own, for the server uses its buffers again.
func copied(c *fiber.Ctx, name string) string { return strings.Clone(c.Query(name)) }

func pageOf(c *fiber.Ctx) (*projections.Cursor, int, error) {
	limit := defaultPage
	if text := copied(c, "limit"); text != "" {
		n, err := wholeNumber(text)
		if err != nil || n < 1 || n > maxPage {
			return nil, 0, badParameter("limit", "limit must be a whole number from 1 to %d", maxPage)
		}
		limit = int(n)
	}
	after, err := projections.ParseCursor(copied(c, "cursor"))
	return after, limit, err
}

// wholeNumber reads digits and nothing else, where strconv would take a sign.
func wholeNumber(text string) (int64, error) {
	n, err := strconv.ParseUint(text, 10, 63)
	return int64(n), err //nolint:gosec // 63 bits
}

func cursorText(next *projections.Cursor) *string {
	if next == nil {
		return nil
	}
	text := next.String()
	return &text
}

func (s *Server) getJob(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	if err := checkQuery(c, "position", "at"); err != nil {
		return err
	}
	if at := copied(c, "at"); at != "" {
		return s.getPastJob(c, id, at)
	}
	if err := s.waitForPosition(c, id); err != nil {
		return err
	}
	v, err := s.job(c.UserContext(), callerOf(c).tenant, id)
	if err != nil {
		return err
	}
	return sendWritten(c, func(w *jobWriter) { w.job(&v) })
}

// waitForPosition waits until the tables show what the client's token promises of
// the job that is read; an empty id is any job.
func (s *Server) waitForPosition(c *fiber.Ctx, id string) error {
	token := copied(c, "position")
	if token == "" {
		return nil
	}
	job, version, ok := strings.Cut(strings.ToLower(token), ":")
	n, err := wholeNumber(version)
	if !ok || err != nil || n < 1 || !isID(job) || id != "" && job != id {
		return badParameter("position", "position must be the token of the job, as the answer to a command gave it: <job id>:<version>")
	}
	ctx, cancel := context.WithTimeout(c.UserContext(), s.positions)
	defer cancel()
	return s.cfg.Tables.WaitFor(ctx, callerOf(c).tenant, job, n)
}

// job is the whole Job object of the tenant. A job that this process has accepted a moment ago
// is shown as planned until the tables have it.
func (s *Server) job(ctx context.Context, tenant, id string) (jobView, error) {
	var found projections.PastJob // as it is now
	err := s.read(ctx, func(ctx context.Context, q *projections.Queries) (err error) {
		if found.Job, err = q.Job(ctx, tenant, id); err != nil {
			return err
		}
		stages, err := q.Stages(ctx, tenant, id)
		if err != nil {
			return err
		}
		found.Stages = stages[id]
		if found.Artifacts, err = q.JobArtifacts(ctx, tenant, id); err != nil {
			return err
		}
		found.Events, err = q.RecentJobEvents(ctx, tenant, id, recentEvents)
		return err
	})
	if errors.Is(err, projections.ErrNotFound) {
		if known, ok := s.accepted.find(tenant, id); ok {
			if v, ok := s.asPlanned(id, known); ok {
				return v, nil
			}
		}
		return jobView{}, refuse(codeNotFound, "there is no job %s", id)
	}
	if err != nil {
		return jobView{}, err
	}
	v := s.viewWhole(ctx, &found, s.feed.stages(id))
	s.foresee(&v)
	return v, nil
}

// foresee adds the job's place in the queue and when it will be done.
func (s *Server) foresee(v *jobView) {
	if endStates[v.Status] {
		return
	}
	notBefore := time.Time{}
	if v.NotBefore != nil {
		notBefore = *v.NotBefore
	}
	f := s.queue.of(v.ID, notBefore, s.feed.stages(v.ID))
	v.QueuePosition, v.EtaSeconds, v.EtaRange = f.position, f.seconds, f.around
}

// getJobEvents is a page of the audit trail, or the live stream where the client accepts one.
func (s *Server) getJobEvents(c *fiber.Ctx) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	if strings.Contains(c.Get(fiber.HeaderAccept), "text/event-stream") {
		return s.streamJob(c, id)
	}
	if err := checkQuery(c, "after", "position", "limit"); err != nil {
		return err
	}
	_, limit, err := pageOf(c)
	if err != nil {
		return err
	}
	after := int64(0)
	if text := copied(c, "after"); text != "" {
		if after, err = wholeNumber(text); err != nil {
			return badParameter("after", "after must be the version of an event, a whole number from 0")
		}
	}
	if err := s.waitForPosition(c, id); err != nil {
		return err
	}
	tenant := callerOf(c).tenant
	var rows []*projections.JobEvent
	err = s.read(c.UserContext(), func(ctx context.Context, q *projections.Queries) (err error) {
		if _, err = q.Job(ctx, tenant, id); err != nil {
			return err
		}
		rows, err = q.JobEvents(ctx, tenant, id, after, limit+1)
		return err
	})
	if errors.Is(err, projections.ErrNotFound) {
		return refuse(codeNotFound, "there is no job %s", id)
	}
	if err != nil {
		return err
	}
	out := struct {
		Items []*eventView `json:"items"`
		Next  *int64       `json:"next_after"`
	}{Items: []*eventView{}}
	if len(rows) > limit {
		rows = rows[:limit]
		out.Next = &rows[limit-1].Version
	}
	o := s.opener(c.UserContext())
	for _, e := range rows {
		out.Items = append(out.Items, o.event(viewEvent(e)))
	}
	return c.JSON(out)
}
