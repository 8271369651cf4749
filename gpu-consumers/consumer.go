// One command of a lane: accepted in a short transaction, run outside of any, and
// answered with one result.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/internal/pubsub"
)

// longestAttempt ends an attempt whose command names no limit.
const longestAttempt = 2 * time.Hour

// run is one accepted command on its way.
type run struct {
	worker *Worker
	cmd    events.Message
	task   events.TaskRun
	log    *slog.Logger
	began  time.Time
	can    events.TaskCapability // of the engine, once picked
}

// newRun reads a command; one that can never be run is eventlog.ErrUndecodable.
func (w *Worker) newRun(cmd eventlog.Record) (*run, error) {
	m, err := events.Decode(cmd.Value)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", eventlog.ErrUndecodable, err)
	}
	task, ok := m.Data.(events.TaskRun)
	if !ok {
		return nil, fmt.Errorf("%w: a lane takes task.run, this is %s", eventlog.ErrUndecodable, m.Type())
	}
	if m.JobID == "" || m.JobID != m.AggregateID || m.Stage == "" || m.Task == "" || m.Attempt < 1 {
		return nil, fmt.Errorf("%w: task.run lacks its job, stage, task or attempt", eventlog.ErrUndecodable)
	}
	if err := objects.CheckSubject(task.Subject); err != nil {
		return nil, fmt.Errorf("%w: %w", eventlog.ErrUndecodable, err)
	}
	return &run{
		worker: w, cmd: m, task: task, began: time.Now(),
		log: w.log.With("jobId", m.JobID, "workflowId", task.Workflow, "nodeId", m.Stage, "plane", task.Plane, "task", m.Task, "attempt", m.Attempt),
	}, nil
}

// accept says on the log that the command is this worker's now.
func (w *Worker) accept(cmd eventlog.Record) (eventlog.Acceptance, error) {
	r, err := w.newRun(cmd)
	if err != nil {
		return eventlog.Acceptance{}, err
	}
	m := r.message(events.TaskAccepted{LeaseMS: w.pace.lease.Milliseconds(), GPU: w.cfg.GPU}, events.Columns{}, 0)
	rec, err := record(events.TopicTaskEvents, m)
	if err != nil {
		return eventlog.Acceptance{}, err
	}
	return eventlog.Acceptance{Record: rec, Attempt: events.AttemptID(r.cmd.JobID, r.cmd.Stage, r.cmd.Attempt)}, nil
}

// run executes an accepted command and reports its result, for as long as that
// takes while the log is away: the attempt keeps its slot until then, so that no
// more results wait than the worker has slots. ctx ends only when the worker has to
// stop before the attempt does.
func (w *Worker) run(ctx context.Context, cmd eventlog.Record) error {
	r, err := w.newRun(cmd)
	if err != nil { // accept has read the same bytes
		return err
	}
	w.roster.began(r.cmd.Lane)
	defer w.roster.ended(r.cmd.Lane)
	limit := time.Duration(r.task.TimeoutMS) * time.Millisecond
	if limit <= 0 {
		limit = longestAttempt
	}
	failed := func(_ eventlog.Record, err error) []eventlog.Record { return r.failed(ctx, err) }
	return pubsub.Task(w.cfg.Log, r.perform, failed, middleware.CorrelationID, middleware.Timeout(limit))(ctx, cmd)
}

// perform is the attempt itself: inputs, engine, outputs. It returns the success.
func (r *run) perform(in *message.Message) (_ []*message.Message, err error) {
	ctx := in.Context()
	middleware.SetCorrelationID(r.cmd.CorrelationID, in)
	r.log.Info("node started")
	dir, err := os.MkdirTemp(r.worker.dir, "attempt-")
	if err != nil {
		return nil, fmt.Errorf("cannot make the attempt's folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	beats := r.startHeartbeat(ctx)
	defer beats.end()

	a := &Attempt{
		ID:    events.AttemptID(r.cmd.JobID, r.cmd.Stage, r.cmd.Attempt),
		JobID: r.cmd.JobID, Stage: r.cmd.Stage, Task: r.cmd.Task, Variant: r.cmd.Variant, Number: r.cmd.Attempt,
		Params: r.task.Params, Dir: filepath.Join(dir, "work"), Progress: beats.report,
	}
	if err := os.Mkdir(a.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the attempt's folder: %w", err)
	}
	if err := r.openInputs(ctx, a, dir); err != nil {
		return nil, err
	}
	engine, can, err := r.worker.roster.pick(a)
	if err != nil {
		return nil, err
	}
	r.can = can
	out, err := engine.Run(ctx, a)
	if err != nil {
		return nil, err
	}
	if out == nil {
		return nil, fmt.Errorf("engine %s gave neither a result nor an error", can.Engine)
	}
	return r.succeed(ctx, dir, out)
}

func (r *run) succeed(ctx context.Context, dir string, out *Output) ([]*message.Message, error) {
	outputs, err := r.keepOutputs(ctx, dir, out)
	if err != nil {
		return nil, err
	}
	c := events.Columns{Model: out.Model}
	if files := slices.Concat(artifactsOf(outputs)...); len(files) == 1 {
		c.ArtifactURI, c.ArtifactSHA256 = files[0].URI, files[0].SHA256
	}
	rec, err := r.result(events.TaskSucceeded{Result: events.Result{
		Outputs: outputs, Fidelity: out.Fidelity, Engine: out.Engine, Version: out.Version, Notes: out.Notes, Verdict: out.Verdict,
	}}, c)
	if err != nil {
		return nil, err
	}
	took := time.Since(r.began)
	r.log.Info("node finished", "engine", r.can.Engine, "duration", took, "outcome", "succeeded")
	r.worker.metrics.observe(r.cmd.Task, r.can.Engine, "succeeded", took)
	return []*message.Message{pubsub.Message(rec)}, nil
}

func artifactsOf(outputs map[string]events.Value) [][]events.Artifact {
	var all [][]events.Artifact
	for _, v := range outputs {
		all = append(all, v.Artifacts)
	}
	return all
}

// failed turns whatever went wrong into a failure with a class.
func (r *run) failed(ctx context.Context, err error) []eventlog.Record {
	e := r.classify(ctx, err)
	took := time.Since(r.began)
	r.log.Warn("node finished", "engine", r.can.Engine, "duration", took, "outcome", "failed", "class", e.Class, "reason", e.Message)
	r.worker.metrics.observe(r.cmd.Task, r.can.Engine, e.Class, took)
	if e.Class == events.ClassEngineUnavailable {
		signal(r.worker.roster.recheck)
	}
	rec, err := r.result(events.TaskFailed{Message: e.Message, Hint: e.Hint, LogTail: r.sealedTail(ctx, e)}, events.Columns{ErrorClass: e.Class})
	if err != nil { // strings and numbers always encode
		r.log.Error("a failure cannot be written down", "error", err)
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
		r.log.Error("an engine panicked", "engine", r.can.Engine, "stack", panicked.Stacktrace)
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
		r.log.Warn("the end of an attempt's log was not kept", "error", err)
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
