// L3 to L7 for one job: what is legal after what. Written from the promises; the
// code that decides is not asked.

package invariants

import (
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Where a stage stands for the checker.
const (
	pending  = "pending"
	queued   = "queued"
	running  = "running"
	waiting  = "waiting" // for its back-off, after a counted failure
	expired  = "expired" // for its back-off, the lost attempt may still report
	gated    = "gated"   // for an approval
	finished = "finished"
	lost     = "lost" // failed or cancelled for good
)

type stage struct {
	node    events.Node
	before  []string // ids of the stages that must have ended well
	state   string
	attempt int
	retryAt int64
	counted map[int]string // by attempt: the result that counted

	misplaced int // attempts that came to a worker that cannot do them
}

// mostMisplaced is how often that may be before it counts as a failure.
const mostMisplaced = 20

// story is what the checker knows of a job after some of its facts.
type story struct {
	r       *reading
	id      string
	request events.Request
	stages  map[string]*stage
	due     int64 // the job's deadline, Unix milliseconds

	started   bool
	planned   bool
	cancelled bool   // cancel_requested
	asks      bool   // approval.requested is open
	verdict   string // what must end the job, and has not yet
	ended     string // type of the terminal fact
}

// audit facts may follow the end of a job.
var audit = map[string]bool{"job.labelled": true, "job.content_erased": true}

func (r *reading) checkStories() {
	for _, id := range r.order {
		s := &story{r: r, id: id, stages: map[string]*stage{}}
		for _, e := range r.jobs[id] {
			s.take(e.m)
		}
		if s.verdict != "" && s.ended == "" {
			s.bad("L3", "%s must end the job in the same decision, and did not", s.verdict)
		}
	}
}

func (s *story) bad(invariant, format string, args ...any) {
	s.r.violation(invariant, s.id, format, args...)
}

func (s *story) take(m events.Message) {
	_, submitted := m.Data.(events.JobSubmitted)
	switch {
	case s.ended != "":
		if !audit[m.Type()] {
			s.bad(s.afterEnd(m), "%s after %s", m.Type(), s.ended)
		}
		return
	case submitted == s.started:
		s.bad("L3", "%s at version %d: a job is submitted once, at its beginning", m.Type(), m.Version)
		return
	}
	s.started = true
	switch d := m.Data.(type) {
	case events.JobSubmitted:
		s.request = d.Request
	case events.JobPlanned:
		s.plan(m, d)
	case events.JobSucceeded, events.JobFailed, events.JobRejected, events.JobCancelled:
		s.end(m)
	default:
		if !s.planned {
			s.bad("L3", "%s before the plan", m.Type())
			return
		}
		if s.verdict != "" && !s.cancelled && !trailing(m.Data) {
			s.bad("L3", "%s after %s, which ends the job", m.Type(), s.verdict)
		}
		s.takePlanned(m)
	}
}

// afterEnd names the promise that a fact after the end breaks.
func (s *story) afterEnd(m events.Message) string {
	switch m.Data.(type) {
	case events.StageScheduled, events.StageStarted, events.ApprovalRequested:
		if s.ended == (events.JobCancelled{}).EventType() {
			return "L5"
		}
	default:
	}
	return "L3"
}

// trailing facts may stand between a result and the end that follows from it.
func trailing(p events.Payload) bool {
	switch p.(type) {
	case events.ArtifactRegistered, events.JobCarriedForward, events.JobCancelRequested, events.JobLabelled:
		return true
	default:
		return false
	}
}

func (s *story) takePlanned(m events.Message) {
	switch d := m.Data.(type) {
	case events.JobCancelRequested:
		if s.cancelled {
			s.bad("L5", "the cancellation is requested twice")
		}
		s.cancelled = true
	case events.JobCarriedForward, events.JobLabelled: // L9 compares the one with the fold; the other changes nothing that runs
	case events.ApprovalRequested, events.ApprovalGranted, events.ApprovalDenied, events.ApprovalExpired:
		s.approval(m)
	default:
		st := s.stages[m.Stage]
		if st == nil {
			s.bad("L3", "%s names stage %q, which the plan does not have", m.Type(), m.Stage)
			return
		}
		if m.Task != st.node.Task || m.Lane != "" && m.Lane != st.node.Lane {
			s.bad("L3", "%s of %s says task %q and lane %q, the plan says %q and %q", m.Type(), m.Stage, m.Task, m.Lane, st.node.Task, st.node.Lane)
		}
		s.takeStage(st, m, d)
	}
}

func (s *story) plan(m events.Message, d events.JobPlanned) {
	if s.planned {
		s.bad("L3", "planned twice")
	}
	s.planned, s.due = true, d.DeadlineMS
	if m.Version != 2 {
		s.bad("L3", "planned at version %d and not with its submission", m.Version)
	}
	for _, n := range d.Graph.Nodes {
		s.stages[n.ID] = &stage{node: n, state: pending, counted: map[int]string{}}
	}
	for _, e := range d.Graph.Edges {
		if to := s.stages[e.To]; to != nil {
			to.before = append(to.before, e.From)
		}
	}
}

func (s *story) takeStage(st *stage, m events.Message, d events.Payload) {
	switch d := d.(type) {
	case events.StageScheduled:
		s.schedule(st, m)
	case events.StageStarted:
		s.begin(m)
		switch {
		case m.Attempt != st.attempt:
			s.bad("L6", "attempt %d of %s started while attempt %d is the current one", m.Attempt, m.Stage, st.attempt)
		case st.state != queued:
			s.bad("L3", "attempt %d of %s started while it is %s", m.Attempt, m.Stage, st.state)
		}
		st.state = running
	case events.StageSucceeded:
		s.succeed(st, m, d.Result)
	case events.StageReused:
		s.reuse(st, m, d.Result)
	case events.StageSkipped:
		s.needs(st, m)
		if st.state != pending {
			s.bad("L3", "%s skipped while it is %s", m.Stage, st.state)
		}
		st.state = finished
	case events.StageFailed:
		if s.result(st, m) {
			s.retry(st, m, waiting, d.RetryAtMS)
		}
	case events.StageAttemptExpired:
		switch {
		case m.Attempt != st.attempt:
			s.bad("L6", "attempt %d of %s expired while attempt %d is the current one", m.Attempt, m.Stage, st.attempt)
		case st.state != running:
			s.bad("L3", "attempt %d of %s expired while it is %s", m.Attempt, m.Stage, st.state)
		}
		s.retry(st, m, expired, d.RetryAtMS)
	case events.StageCancelled:
		if !s.cancelled {
			s.bad("L5", "%s ended cancelled, and nobody asked for it", m.Stage)
		}
		if s.result(st, m) {
			st.state = lost
		}
	case events.ArtifactRegistered:
		if st.state != finished {
			s.bad("L3", "%s registers an artifact while it is %s", m.Stage, st.state)
		}
	default:
		s.bad("L3", "%s has no place in the life of a job", m.Type())
	}
}

// begin is what every start of work must respect.
func (s *story) begin(m events.Message) {
	if s.cancelled {
		s.bad("L5", "%s of %s after the cancellation was requested", m.Type(), m.Stage)
	}
	if s.asks {
		s.bad("L3", "%s of %s while the job waits for approval", m.Type(), m.Stage)
	}
	if m.OccurredAt.UnixMilli() < s.request.NotBeforeMS {
		s.bad("L7", "%s of %s before the time that the request names", m.Type(), m.Stage)
	}
}

// needs holds a stage to the graph: everything before it has ended well.
func (s *story) needs(st *stage, m events.Message) {
	for _, id := range st.before {
		if b := s.stages[id]; b == nil || b.state != finished {
			s.bad("L3", "%s of %s although %s has not ended well", m.Type(), m.Stage, id)
		}
	}
}

func (s *story) schedule(st *stage, m events.Message) {
	s.begin(m)
	s.needs(st, m)
	if st.node.Lane == "" {
		s.bad("L3", "%s has no lane and was scheduled", m.Stage)
	}
	if m.Attempt != st.attempt+1 {
		s.bad("L7", "attempt %d of %s follows attempt %d", m.Attempt, m.Stage, st.attempt)
	}
	if most := s.r.h.Limits.MaxAttempts; most > 0 && m.Attempt-st.misplaced > most {
		s.bad("L7", "attempt %d of %s, where %d are allowed", m.Attempt, m.Stage, most)
	}
	switch st.state {
	case pending, waiting, expired:
	default:
		s.bad("L3", "attempt %d of %s scheduled while it is %s", m.Attempt, m.Stage, st.state)
	}
	if m.OccurredAt.UnixMilli() < st.retryAt {
		s.bad("L7", "attempt %d of %s scheduled %v before its back-off was over", m.Attempt, m.Stage,
			time.UnixMilli(st.retryAt).Sub(m.OccurredAt))
	}
	st.state, st.attempt, st.retryAt = queued, m.Attempt, 0
}

// result holds the report of an attempt to L4 and L6, and says whether it counts.
func (s *story) result(st *stage, m events.Message) bool {
	if m.Attempt != st.attempt {
		s.bad("L6", "%s of attempt %d of %s while attempt %d is the current one", m.Type(), m.Attempt, m.Stage, st.attempt)
		return false
	}
	if before := st.counted[m.Attempt]; before != "" {
		s.bad("L4", "%s of attempt %d of %s after its %s", m.Type(), m.Attempt, m.Stage, before)
		return false
	}
	// An attempt of a job that is being cancelled may end before its start is known:
	// nothing starts any more, and its worker was told to stop.
	if st.state != running && st.state != expired && (st.state != queued || !s.cancelled) {
		s.bad("L3", "%s of attempt %d of %s while it is %s", m.Type(), m.Attempt, m.Stage, st.state)
	}
	st.counted[m.Attempt] = m.Type()
	return true
}

func (s *story) succeed(st *stage, m events.Message, r events.Result) {
	if st.node.Lane != "" {
		if !s.result(st, m) {
			return
		}
	} else {
		s.decidedHere(st, m)
	}
	s.finish(st, r)
}

func (s *story) finish(st *stage, r events.Result) {
	st.state = finished
	if r.Verdict != nil && !r.Verdict.Allowed {
		s.verdict = "the verdict of " + st.node.ID
	}
}

// decidedHere are stages that need no worker.
func (s *story) decidedHere(st *stage, m events.Message) {
	s.needs(st, m)
	if st.state != pending {
		s.bad("L4", "%s of %s while it is %s", m.Type(), m.Stage, st.state)
	}
	if s.cancelled {
		s.bad("L5", "%s of %s after the cancellation was requested", m.Type(), m.Stage)
	}
}

// reuse ends a stage by a result that exists: found by the decision, before
// anything was scheduled, or by the worker that runs the attempt.
func (s *story) reuse(st *stage, m events.Message, r events.Result) {
	if st.state == pending {
		s.needs(st, m)
		if s.cancelled {
			s.bad("L5", "%s of %s after the cancellation was requested", m.Type(), m.Stage)
		}
	} else if !s.result(st, m) {
		return
	}
	s.finish(st, r)
}

func (s *story) retry(st *stage, m events.Message, state string, at int64) {
	st.state, st.retryAt = state, at
	if at == 0 {
		st.state = lost
		if !s.cancelled {
			s.verdict = m.Type() + " of " + m.Stage
		}
		return
	}
	if m.ErrorClass == events.ClassMisplaced {
		if st.misplaced++; st.misplaced > mostMisplaced {
			s.bad("L7", "attempt %d of %s came to a worker that cannot do it, after %d others", m.Attempt, m.Stage, mostMisplaced)
		}
	} else if most := s.r.h.Limits.MaxAttempts; most > 0 && m.Attempt-st.misplaced >= most {
		s.bad("L7", "attempt %d of %s is to be followed by another, where %d are allowed", m.Attempt, m.Stage, most)
	}
	if pause := time.UnixMilli(at).Sub(m.OccurredAt); pause <= 0 || pause < s.r.h.Limits.BackOff-time.Millisecond {
		s.bad("L7", "attempt %d of %s is to be followed by another after %v, the back-off is at least %v", m.Attempt, m.Stage, pause, s.r.h.Limits.BackOff)
	}
}
