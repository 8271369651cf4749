// One job as it was: the same object as the live one, from the log.

package api

import (
	"context"
	"errors"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	pastTimeout = 10 * time.Second // of one look back, which may read a whole partition
	pastAtOnce  = 4                // looks back at the same time; each is a client of the log
)

// getPastJob answers with the job as it was at a time, a version or an event's position.
func (s *Server) getPastJob(c *fiber.Ctx, id, text string) error {
	if copied(c, "position") != "" {
		return badParameter("position", "give at or position: a look back waits for nothing")
	}
	at, err := projections.ParseMoment(text)
	if err != nil {
		return badParameter("at", "at: %s", err)
	}
	if at.Time.IsZero() && at.Place == nil && at.Number == 0 {
		return badParameter("at", "at: the first version of a job is 1")
	}
	ctx, cancel := context.WithTimeout(c.UserContext(), pastTimeout)
	defer cancel()
	past, err := s.pastJob(ctx, callerOf(c).tenant, id, at)
	switch {
	case errors.Is(err, projections.ErrNotFound):
		return refuse(codeNotFound, "there is no job %s", id)
	case errors.Is(err, projections.ErrNoSuchMoment):
		return refuse(codeNotFound, "%s", err)
	case errors.Is(err, projections.ErrOtherPartition):
		return badParameter("at", "at: %s", err)
	case err != nil:
		return err
	}
	v := s.viewWhole(c.UserContext(), past, nil)
	return sendWritten(c, func(w *jobWriter) { w.job(&v) })
}

func (s *Server) pastJob(ctx context.Context, tenant, id string, at projections.Moment) (*projections.PastJob, error) {
	select {
	case s.lookingBack <- struct{}{}:
		defer func() { <-s.lookingBack }()
	case <-ctx.Done():
		return nil, refuse(codeBusy, "%d looks back are under way, which is this server's limit", pastAtOnce)
	}
	past, err := s.history.Job(ctx, tenant, id, at)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, &refusal{code: codeLogUnavailable, cause: err,
			detail: "the log did not give the job's events in time; ask again, best when the tables answer, which know where the job begins"}
	}
	return past, err
}

// viewWhole is the whole Job object. Its texts open, or do not, by today's keys.
func (w *views) viewWhole(ctx context.Context, p *projections.PastJob, beats map[string]progressView) jobView {
	o := w.opener(ctx)
	v := w.viewJob(o, p.Job, p.Stages, beats)
	v.Request, v.Graph, v.Outputs = viewRequest(o, p.Job.Request), viewGraph(p.Job.Graph), viewOutputs(p.Job.Outputs)
	v.Draft = aggregates.IsDraft(p.Job.Graph)
	v.Artifacts = make([]artifactView, len(p.Artifacts))
	for i, a := range p.Artifacts {
		v.Artifacts[i] = viewArtifact(a)
	}
	trail := p.Events[max(0, len(p.Events)-recentEvents):]
	v.RecentEvents = make([]*eventView, len(trail))
	for i, e := range trail {
		v.RecentEvents[i] = o.event(viewEvent(e))
	}
	v.Content = o.content
	return v
}
