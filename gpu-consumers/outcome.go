// What is said about a command: how it ended, and the envelope and log lines of it.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// tell writes a line of the worker's log about the attempt. Of lightweight engines'
// attempts, thousands a second, it tells at the level of debugging alone.
func (r *run) tell(level slog.Level, message string, more ...any) {
	if r.light != nil {
		level = slog.LevelDebug
	}
	if l := r.worker.log; l.Enabled(context.Background(), level) {
		l.With("jobId", r.cmd.JobID, "workflowId", r.task.Workflow, "nodeId", r.cmd.Stage, "plane", r.task.Plane,
			"task", r.cmd.Task, "attempt", r.cmd.Attempt).Log(context.Background(), level, message, more...)
	}
}

// failed turns whatever went wrong into a failure with a class, and an end that was
// asked for into a cancellation.
func (r *run) failed(ctx context.Context, err error) []eventlog.Record {
	if errors.Is(err, errStopped) {
		return r.cancelled()
	}
	e := r.classify(ctx, err)
	took := time.Since(r.began)
	r.tell(slog.LevelWarn, "node finished", "engine", r.can.Engine, "duration", took, "outcome", "failed", "class", e.Class, "reason", e.Message)
	r.worker.metrics.observe(r.cmd.Task, r.can.Engine, e.Class, took)
	if e.Class == events.ClassEngineUnavailable {
		signal(r.worker.roster.recheck)
	}
	rec, err := r.result(events.TaskFailed{Message: e.Message, Hint: e.Hint, LogTail: r.sealedTail(ctx, e), Misplaced: e.Misplaced}, events.Columns{ErrorClass: e.Class})
	if err != nil { // strings and numbers always encode
		r.tell(slog.LevelError, "a failure cannot be written down", "error", err)
		return nil
	}
	return []eventlog.Record{rec}
}

// cancelled is the end of an attempt that was asked to end.
func (r *run) cancelled() []eventlog.Record {
	took := time.Since(r.began)
	r.tell(slog.LevelInfo, "node finished", "engine", r.can.Engine, "duration", took, "outcome", "cancelled")
	r.worker.metrics.observe(r.cmd.Task, r.can.Engine, "cancelled", took)
	rec, err := r.result(events.TaskCancelled{}, events.Columns{})
	if err != nil { // it has no data
		r.tell(slog.LevelError, "a cancellation cannot be written down", "error", err)
		return nil
	}
	return []eventlog.Record{rec}
}

// killed is the failure of an attempt that ended with its process.
func (r *run) killed() (eventlog.Record, error) {
	return r.result(events.TaskFailed{Message: "the worker ended before the attempt did", Hint: "another attempt follows"},
		events.Columns{ErrorClass: events.ClassEngineUnavailable})
}

// classify names the cause. ctx is the worker's: when it has ended, the attempt
// was cut short by us, whatever the engine made of that.
func (r *run) classify(ctx context.Context, err error) *TaskError {
	var panicked middleware.RecoveredPanicError
	var e *TaskError
	switch {
	case errors.As(err, &panicked):
		// The value may hold user text; the stack holds none.
		r.tell(slog.LevelError, "an engine panicked", "engine", r.can.Engine, "stack", panicked.Stacktrace)
		return &TaskError{
			Class: events.ClassInternal, Message: "the engine met a fault in this program", Hint: "please report it with the worker's log",
			LogTail: fmt.Sprint(panicked.V),
		}
	case ctx.Err() != nil:
		return &TaskError{Class: events.ClassEngineUnavailable, Message: "the worker was stopped before the attempt ended", Hint: "another attempt follows", Err: err}
	case errors.As(err, &e) && slices.Contains(classes, e.Class):
		return e
	case errors.Is(err, context.DeadlineExceeded):
		return &TaskError{Class: events.ClassTimeout, Message: "the attempt ran longer than it may", Hint: "ask for less, or raise the stage's time limit", Err: err}
	}
	return &TaskError{Class: events.ClassInternal, Message: "the attempt failed unexpectedly", Hint: "the end of its log says more", Err: err}
}

var classes = []string{
	events.ClassOOM, events.ClassTimeout, events.ClassStalled, events.ClassEngineUnavailable, events.ClassEngineRejected,
	events.ClassInvalidInput, events.ClassArtifactMissing, events.ClassPolicy, events.ClassInternal,
}

// sealedTail is the end of the log under the job's key; without the key there is none.
func (r *run) sealedTail(ctx context.Context, e *TaskError) *events.Sealed {
	text := e.LogTail
	if e.Err != nil {
		text += "\n" + e.Err.Error()
	}
	if text == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.worker.pace.sealing)
	defer cancel()
	sealed, err := r.worker.cfg.Keyring.Seal(ctx, objects.KeyID(r.task.Subject), tailOf(text))
	if err != nil {
		r.tell(slog.LevelWarn, "the end of an attempt's log was not kept", "error", err)
		return nil
	}
	return &sealed
}

// message is the envelope of everything that is said about the command.
func (r *run) message(data events.Payload, more events.Columns, n int) events.Message {
	now := time.Now().UTC()
	c := r.cmd.Columns
	more.JobID, more.Stage, more.Task, more.Attempt, more.Variant, more.Lane = c.JobID, c.Stage, c.Task, c.Attempt, c.Variant, c.Lane
	more.Worker = r.worker.cfg.Worker
	return events.Message{
		ID:            events.EventID(now, r.cmd.ID+"/"+data.EventType(), n),
		AggregateType: events.AggregateJob, AggregateID: r.cmd.JobID, OccurredAt: now,
		CommandID: r.cmd.CommandID, CausationID: r.cmd.ID, CorrelationID: r.cmd.CorrelationID,
		Tenant: r.cmd.Tenant, Actor: r.worker.cfg.Worker, Columns: more, Data: data,
	}
}

// result is the one record that answers the command.
func (r *run) result(data events.Payload, c events.Columns) (eventlog.Record, error) {
	c.DurationMS = max(1, time.Since(r.began).Milliseconds())
	return record(events.TopicTaskEvents, r.message(data, c, 0))
}
