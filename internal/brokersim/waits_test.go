//go:build synctests

// What jobs wait for, in seeds of hours: that all of it is met, and comes in time.

package brokersim_test

import (
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// What the seeds of hours are for: each of them is met, or the test fails.
const (
	waitSchedule  = "hours until a not-before"
	waitExpiry    = "hours until an approval expired"
	waitDecision  = "hours until an approval was decided"
	waitBackOff   = "an hour of back-off before another attempt"
	waitDeadline  = "hours until a job's deadline"
	waitStage     = "a stage's time-out"
	waitLostLease = "a lease lost in a seed of hours"
)

var hoursWaits = []string{waitSchedule, waitExpiry, waitDecision, waitBackOff, waitDeadline, waitStage, waitLostLease}

// prompt is how late the clock may be while a handler is there: it may just have
// come, and wait for one that has died in the middle of joining.
const prompt = 2 * time.Minute

// waited is something that a job waits for: since when, and until when at most.
type waited struct{ since, due time.Time }

// waits are those of one job, by what is waited for and, where it is one's, the stage.
type waits struct {
	world *world
	job   string
	open  map[string]waited
}

// checkWaits holds every job to its times.
func (w *world) checkWaits(facts []eventlog.Record) {
	jobs := map[string]*waits{}
	for _, r := range facts {
		m, err := events.Decode(r.Value)
		if err != nil {
			continue // the observer has told
		}
		j := jobs[m.AggregateID]
		if j == nil {
			j = &waits{w, m.AggregateID, map[string]waited{}}
			jobs[m.AggregateID] = j
		}
		j.take(m)
	}
}

func (j *waits) take(m events.Message) {
	const deadline, schedule, gate, retry = "deadline", "schedule", "gate ", "retry "
	at := m.OccurredAt
	switch d := m.Data.(type) {
	case events.JobSubmitted:
		j.wait(schedule, at, d.Request.NotBeforeMS)
	case events.JobPlanned:
		j.wait(deadline, at, d.DeadlineMS)
	case events.StageScheduled:
		j.met(schedule, waitSchedule, at)
		j.met(retry+m.Stage, waitBackOff, at)
	case events.StageFailed:
		if m.ErrorClass == events.ClassTimeout {
			j.world.count(waitStage)
		}
		j.wait(retry+m.Stage, at, d.RetryAtMS)
	case events.StageAttemptExpired:
		j.world.count(waitLostLease)
		j.wait(retry+m.Stage, at, d.RetryAtMS)
	case events.StageSucceeded: // of an attempt whose lease was lost, perhaps
		delete(j.open, retry+m.Stage)
	case events.ApprovalRequested:
		j.wait(gate+m.Stage, at, d.ExpiresMS)
	case events.ApprovalExpired:
		j.met(gate+m.Stage, waitExpiry, at)
	case events.ApprovalGranted, events.ApprovalDenied:
		j.met(gate+m.Stage, waitDecision, at)
	case events.JobCancelRequested: // from here on only the deadline counts
		j.open = map[string]waited{deadline: j.open[deadline]}
	case events.JobFailed:
		what := ""
		if m.Stage == "" && m.ErrorClass == events.ClassTimeout {
			what = waitDeadline
		}
		j.met(deadline, what, at)
		j.end(at)
	case events.JobSucceeded, events.JobCancelled, events.JobRejected:
		j.met(deadline, "", at)
		j.end(at)
	}
}

// wait begins a wait; 0 means that there is none.
func (j *waits) wait(of string, since time.Time, dueMS int64) {
	if dueMS > 0 {
		j.open[of] = waited{since, time.UnixMilli(dueMS)}
	}
}

// met ends a wait, counts it if it took an hour, and holds it to its time.
func (j *waits) met(of, count string, at time.Time) {
	x, waits := j.open[of]
	if !waits {
		return
	}
	delete(j.open, of)
	if count != "" && at.Sub(x.since) >= time.Hour {
		j.world.count(count)
	}
	if last := j.world.latest(x.due); at.After(last) {
		j.world.fail("job %s: the %s was due at %v, at %v at the latest, and met at %v", j.job, of, x.due.Sub(j.world.began), last.Sub(j.world.began), at.Sub(j.world.began))
	}
}

// end ends what the job still waits for: that may not be overdue either.
func (j *waits) end(at time.Time) {
	for of := range j.open {
		j.met(of, "", at)
	}
}

// latest is until when the clock has to have acted on what is due at a time: promptly,
// once a handler is there for long enough.
func (w *world) latest(due time.Time) time.Time {
	at := due.Sub(w.began)
	for _, s := range w.plan.undecided { // in order
		if at+prompt > s.from && at < s.to {
			at = s.to
		}
	}
	return w.began.Add(at + prompt)
}
