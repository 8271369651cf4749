// How an attempt, and with it a job, ends otherwise than well: failures and the
// back-off before another attempt, lost leases, cancelling.

package aggregates

import (
	"hash/fnv"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// failure is why an attempt made nothing.
type failure struct {
	class, message, hint string
	tail                 *events.Sealed
}

// failed ends the current attempt.
func (d *decision) failed(f failure) {
	if _, ok := d.current(); ok {
		d.unsuccessful(f, func(retryAtMS int64) events.Payload {
			return events.StageFailed{Message: f.message, Hint: f.hint, LogTail: f.tail, RetryAtMS: retryAtMS}
		})
	}
}

// expired ends a running attempt whose worker was silent for longer than its lease.
func (d *decision) expired() {
	if st, ok := d.current(); !ok || st.State != StageRunning {
		return
	}
	f := failure{class: events.ClassStalled, message: "the worker of the attempt fell silent", hint: "look at the workers: one of them has ended or lost its network"}
	d.unsuccessful(f, func(retryAtMS int64) events.Payload {
		return events.StageAttemptExpired{Message: f.message, RetryAtMS: retryAtMS}
	})
}

// unsuccessful ends the current attempt by a fact; another attempt follows if the
// class allows it, otherwise the job fails.
func (d *decision) unsuccessful(f failure, fact func(retryAtMS int64) events.Payload) {
	if d.job.Cancelling {
		d.stopped()
		return
	}
	c := d.columns(StageFailed)
	c.ErrorClass = f.class
	retryAtMS := d.retryAt(f.class, d.cause.Attempt)
	if retryAtMS > 0 {
		c.State = StageWaiting
	}
	d.emit(fact(retryAtMS), c)
	if retryAtMS == 0 {
		d.end(d.cause.Stage, f)
	}
}

// end fails the job.
func (d *decision) end(stage string, f failure) {
	c := events.Columns{State: JobFailed, Stage: stage, ErrorClass: f.class}
	if i, ok := d.job.Node(stage); ok {
		c.Task = d.job.Graph.Nodes[i].Task
	}
	d.emit(events.JobFailed{Message: f.message, Hint: f.hint, LogTail: f.tail}, c)
}

// overdue ends a job whose time is over.
func (d *decision) overdue() {
	if d.job.Cancelling {
		d.emit(events.JobCancelled{}, events.Columns{State: JobCancelled})
		return
	}
	d.end("", failure{class: events.ClassTimeout, message: "the job did not end before its deadline", hint: "look at the lanes: is a worker running?"})
}

// cancel asks the job to end. What lies on a lane and was not accepted does not run;
// what runs is stopped and waited for.
func (d *decision) cancel() {
	if d.job.Cancelling {
		return
	}
	d.emit(events.JobCancelRequested{}, events.Columns{State: d.job.State})
	d.endCancelled()
}

// stopped notes the end of an attempt of a job that is being cancelled.
func (d *decision) stopped() {
	d.emit(events.StageCancelled{}, d.columns(StageCancelled))
	d.endCancelled()
}

func (d *decision) endCancelled() {
	for _, s := range d.job.Stages {
		if s.State == StageRunning {
			return
		}
	}
	d.emit(events.JobCancelled{}, events.Columns{State: JobCancelled})
}

// backOffShares are the classes that may go away by themselves, each with its share
// of the policy's back-off in percent. All others would fail again.
var backOffShares = map[string]int64{
	events.ClassEngineUnavailable: 100,
	events.ClassInternal:          100,
	events.ClassTimeout:           100,
	events.ClassOOM:               50, // the next attempt asks for less
	events.ClassStalled:           25, // the lease was a wait already, and another worker takes it
}

// retryAt is when another attempt follows, in Unix milliseconds; 0: none does.
func (d *decision) retryAt(class string, attempt int) int64 {
	misplaced := d.job.stage(d.cause.Stage).Misplaced
	if class == events.ClassMisplaced {
		return d.s.At.Add(d.backOff(misplacedShare, min(misplaced+1, misplacedSteps))).UnixMilli()
	}
	attempt -= misplaced
	share, retryable := backOffShares[class]
	if !retryable || attempt >= d.s.Policy.MaxAttempts {
		return 0
	}
	return d.s.At.Add(d.backOff(share, attempt)).UnixMilli()
}

// backOff doubles with each attempt, with a jitter of up to a quarter that a
// repeated decision draws again.
func (d *decision) backOff(share int64, attempt int) time.Duration {
	base := d.s.Policy.BackOff * time.Duration(share) / 100 << min(attempt-1, 10)
	h := fnv.New32a()
	h.Write([]byte(events.AttemptID(d.job.ID, d.cause.Stage, attempt))) //nolint:errcheck // a hash's Write never fails
	return base + time.Duration(int64(base)/4*int64(h.Sum32()%1000)/1000)
}
