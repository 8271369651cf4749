// One command to many jobs: a dry run that says whom it would meet, and then a page of
// jobs a request. The server keeps nothing between them:
//
//  1. The dry run closes the filter at the present, so that no job that comes later is met.
//  2. Its confirm is a digest of action and filter: nothing else can be done with it.
//  3. The ids of commands and new jobs follow from confirm and job, so that a page that
//     is sent again does nothing twice.

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	bulkPage  = 50     // jobs a request
	bulkCount = 10_000 // how far is counted
)

// bulkStatuses are those of the jobs that each action can meet; the first ones are the
// action's own when the filter says nothing.
var bulkStatuses = map[string]struct{ usual, more []string }{
	"cancel": {usual: []string{projections.JobScheduled, projections.JobQueued, projections.JobRunning, projections.JobWaitingApproval}},
	"retry":  {usual: []string{projections.JobFailed}, more: []string{projections.JobCancelled, projections.JobRejected}},
}

func (s *Server) bulkJobs(c *fiber.Ctx) error {
	who := callerOf(c)
	b, err := s.readBulk(c)
	if err != nil {
		return err
	}
	dry := b.Confirm == ""
	if dry && b.Filter.CreatedTo == nil {
		now := s.now().UTC()
		b.Filter.CreatedTo = &now
	}
	confirm, err := s.bulkDigest(who, b)
	switch {
	case err != nil:
		return err
	case !dry && b.Confirm != confirm:
		return invalid(fault{Pointer: "/confirm", Code: "confirm_wrong",
			Detail: "confirm belongs to another action or filter; send the filter as the dry run gave it back, or leave confirm out for a dry run"})
	}
	after, err := projections.ParseCursor(b.Cursor)
	if err != nil {
		return invalid(fault{Pointer: "/cursor", Code: "format_wrong", Detail: "cursor must be the next_cursor of the page before"})
	}
	out := Bulk{Action: b.Action, DryRun: dry, Filter: b.Filter, Confirm: confirm, Refused: []BulkRefusal{}}
	var rows projections.Page[projections.Job]
	err = s.read(c.UserContext(), func(ctx context.Context, q *projections.Queries) (err error) {
		if out.Total, err = q.CountJobs(ctx, who.tenant, bulkRows(b.Filter), bulkCount+1); err != nil || dry {
			return err
		}
		rows, err = q.Jobs(ctx, who.tenant, bulkRows(b.Filter), after, bulkPage)
		return err
	})
	if err != nil {
		return err
	}
	if out.More = out.Total > bulkCount; out.More {
		out.Total = bulkCount
	}
	for _, row := range rows.Rows {
		r, err := s.bulkOne(c.UserContext(), who, b, row.ID, traceID(c))
		switch {
		case err != nil:
			return err // the page can be sent again
		case r != nil:
			out.Refused = append(out.Refused, *r)
		default:
			out.Done++
		}
	}
	out.NextCursor = cursorText(rows.Next)
	return c.JSON(out)
}

// readBulk takes the body and says what is wrong with it.
func (s *Server) readBulk(c *fiber.Ctx) (b BulkRequest, err error) {
	if err := checkQuery(c); err != nil {
		return b, err
	}
	object, err := readObject(c)
	if err != nil {
		return b, err
	}
	if faults := s.contract.check("BulkRequest", object); len(faults) > 0 {
		return b, invalid(faults...)
	}
	text, err := json.Marshal(object)
	if err != nil {
		return b, fmt.Errorf("cannot write the request's clean form: %w", err)
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return b, invalid(fault{Pointer: "/filter", Code: "format_wrong", Detail: "created_from and created_to must be times that exist, such as 2026-12-24T18:00:00+01:00"})
	}
	can := bulkStatuses[b.Action]
	if len(b.Filter.Status) == 0 {
		b.Filter.Status = can.usual
	}
	for _, status := range b.Filter.Status {
		if allowed := slices.Concat(can.usual, can.more); !slices.Contains(allowed, status) {
			return b, invalid(fault{Pointer: "/filter/status", Code: "value_not_allowed",
				Detail: fmt.Sprintf("to %s there are jobs that are %s", b.Action, strings.Join(allowed, ", "))})
		}
	}
	return b, nil
}

// bulkRows are the rows that the filter takes.
func bulkRows(f BulkFilter) projections.JobFilter {
	out := projections.JobFilter{Statuses: f.Status, Variant: f.Variant, Mode: f.Mode, ProfileID: strings.ToLower(f.ProfileID), Label: f.Label}
	if f.CreatedFrom != nil {
		out.CreatedFrom = *f.CreatedFrom
	}
	if f.CreatedTo != nil {
		out.CreatedTo = *f.CreatedTo
	}
	return out
}

func (s *Server) bulkDigest(who *caller, b BulkRequest) (string, error) {
	text, err := json.Marshal([]any{b.Action, b.Filter})
	if err != nil {
		return "", fmt.Errorf("cannot write the filter: %w", err)
	}
	return s.textDigest(who.tenant, "bulk\n"+string(text)), nil
}

// bulkOne writes one job's command. What this job refuses does not stop the others.
func (s *Server) bulkOne(ctx context.Context, who *caller, b BulkRequest, job, trace string) (*BulkRefusal, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.SubmitTimeout)
	defer cancel()
	var err error
	if b.Action == "cancel" {
		m := commandMessage(who, job, events.NameID("cancel", job, b.Confirm), s.now().UTC(), events.JobCancel{})
		err = s.send(ctx, events.TopicJobCommands, m, trace)
	} else {
		err = s.retryInBulk(ctx, who, job, b.Confirm, trace)
	}
	var r *refusal
	if errors.As(err, &r) && kinds[r.code].status < fiber.StatusInternalServerError {
		detail := r.detail
		for _, f := range r.faults {
			detail = strings.TrimPrefix(detail+"; "+f.Detail, "; ")
		}
		if detail == "" {
			detail = kinds[r.code].title
		}
		return &BulkRefusal{JobID: job, Code: r.code, Detail: detail}, nil
	}
	return nil, err
}

// retryInBulk is POST /api/jobs/{id}/retry with an Idempotency-Key of this run's own.
func (s *Server) retryInBulk(ctx context.Context, who *caller, job, confirm, trace string) error {
	route := "/api/jobs/" + job + "/retry"
	sub := &submitting{server: s, who: who, route: route, trace: trace, key: confirm, keyed: true, jobID: events.JobID(who.tenant, route, confirm),
		digest: s.textDigest(who.tenant, route+"\n{}"), again: &again{schema: "Nothing", pattern: "/api/jobs/:id/retry", job: job}}
	if err := sub.plan(ctx, nil); err != nil {
		return err
	}
	undo, err := sub.admit()
	if err != nil {
		return err
	}
	out, err := sub.produce(ctx)
	if err != nil {
		undo()
		return err
	}
	out.waiter.forget()
	return nil
}
