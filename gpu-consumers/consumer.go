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
	"sync"
	"time"

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
	at     int64 // offset of the command
	cmd    events.Message
	task   events.TaskRun
	id     string // of the attempt
	began  time.Time
	light  lightweight           // runs the task without a folder, or nil
	can    events.TaskCapability // of the engine, once picked
	worked bool                  // the engine has begun

	madeAgain bool // there is a result of the command's name, of no use
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
		worker: w, at: cmd.Offset, cmd: m, task: task, began: time.Now(),
		id: events.AttemptID(m.JobID, m.Stage, m.Attempt),
	}, nil
}

// accepting keeps what was read of a command for its run. A partition has one
// accepted command at a time, which bounds it.
type accepting struct {
	mu   sync.Mutex
	runs map[eventlog.TopicPartition]*run
}

func (a *accepting) keep(at eventlog.TopicPartition, r *run) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.runs == nil {
		a.runs = make(map[eventlog.TopicPartition]*run)
	}
	a.runs[at] = r
}

// take gives back what keep got for the command, or nil.
func (a *accepting) take(cmd eventlog.Record) *run {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.runs[cmd.At()]
	if r == nil || r.at != cmd.Offset {
		return nil
	}
	delete(a.runs, cmd.At())
	return r
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
	w.accepting.keep(cmd.At(), r)
	return eventlog.Acceptance{Record: rec, Attempt: mark{r.id, r.cmd.JobID, m.OccurredAt, w.pace.lease}.String()}, nil
}

// run executes an accepted command and returns its result. ctx ends only when the
// worker has to stop before the attempt does.
func (w *Worker) run(ctx context.Context, cmd eventlog.Record) ([]eventlog.Record, error) {
	r := w.accepting.take(cmd)
	if r == nil { // accepted in an earlier session, whose commit came to light late
		var err error
		if r, err = w.newRun(cmd); err != nil {
			return nil, err
		}
	}
	r.began = time.Now()
	defer func() { w.memory.end(r.id, r.worked) }()
	failed := func(_ eventlog.Record, err error) []eventlog.Record { return r.failed(ctx, err) }
	return pubsub.RecordTask(r.perform, failed)(ctx, cmd)
}

// perform is the attempt itself: inputs, engine, outputs. It returns the success.
func (r *run) perform(ctx context.Context, _ eventlog.Record) (_ []eventlog.Record, err error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	if !r.worker.stops.begin(r.id, stop) {
		return nil, errStopped
	}
	defer r.worker.stops.end(r.id)
	if len(r.task.Inputs) == 0 {
		r.light, r.can = r.worker.roster.light(r.cmd.Task, r.task.Engines, r.task.Wants)
	}
	space := workspace{parent: r.worker.dir}
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), errStopped) {
			err = errStopped // whatever the engine made of it
		}
		err = errors.Join(err, space.remove())
	}()
	beats := r.startHeartbeat(ctx)
	defer beats.end()
	done, err := r.worker.turns.take(ctx, r)
	if err != nil {
		return nil, err
	}
	defer done()
	ctx, cancel := r.limited(ctx)
	defer cancel()
	r.tell(slog.LevelInfo, "node started")

	if r.shares() {
		if made := r.reuse(ctx); made != nil {
			r.can.Engine = made.Result.Engine
			from := events.ReusedFrom{JobID: made.JobID, Stage: made.Stage, InputHash: made.InputHash}
			return r.success(events.TaskSucceeded{Result: made.Result, ReusedFrom: &from}, made.Model)
		}
	}
	a := &Attempt{
		ID: r.id, JobID: r.cmd.JobID, Stage: r.cmd.Stage, Task: r.cmd.Task, Variant: r.cmd.Variant, Number: r.cmd.Attempt,
		Params: r.task.Params, Reduce: r.task.Reduce, Profile: r.profile(), Progress: beats.report,
		Engines: r.task.Engines, Wants: r.task.Wants,
	}
	engine, err := r.prepare(ctx, a, &space)
	if err != nil {
		return nil, err
	}
	claim, err := r.claim(ctx, engine, a)
	if err != nil {
		return nil, err
	}
	gauge := r.worker.memory.watch(ctx, claim, engine, r.can, a)
	r.worked = true
	out, err := engine.Run(ctx, a)
	gauge.settle()
	if err != nil {
		return nil, err
	}
	if out == nil {
		return nil, fmt.Errorf("engine %s gave neither a result nor an error", r.can.Engine)
	}
	if a.Engines == events.EnginesReal && !events.IsReal(out.Fidelity) {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: fmt.Sprintf("engine %s made a result of fidelity %s, and the job takes none but full", r.can.Engine, out.Fidelity),
			Hint: "look after the engine, or ask with engines " + events.EnginesAuto}
	}
	return r.succeed(ctx, space.root, out)
}

// limited ends ctx when the attempt has run for as long as it may.
func (r *run) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	limit := time.Duration(r.task.TimeoutMS) * time.Millisecond
	if limit <= 0 {
		limit = longestAttempt
	}
	return context.WithTimeout(ctx, limit)
}

// prepare gives the attempt its inputs and its folder, and picks its engine.
func (r *run) prepare(ctx context.Context, a *Attempt, space *workspace) (e engine, err error) {
	if r.light != nil {
		return r.light, nil
	}
	if a.Dir, err = space.make(); err != nil {
		return nil, err
	}
	if err := r.openInputs(ctx, a, space.root); err != nil {
		return nil, err
	}
	e, r.can, err = r.worker.roster.pick(ctx, a)
	return e, err
}

// workspace is the folder of an attempt, made when it is needed.
type workspace struct{ parent, root string }

// make gives the part of it that is the engine's.
func (w *workspace) make() (dir string, err error) {
	if w.root, err = os.MkdirTemp(w.parent, "attempt-"); err == nil {
		dir = filepath.Join(w.root, "work")
		err = os.Mkdir(dir, 0o700)
	}
	if err != nil {
		return "", fmt.Errorf("cannot make the attempt's folder: %w", err)
	}
	return dir, nil
}

func (w *workspace) remove() error {
	if w.root == "" {
		return nil
	}
	return os.RemoveAll(w.root)
}

func (r *run) succeed(ctx context.Context, dir string, out *Output) ([]eventlog.Record, error) {
	outputs, err := r.keepOutputs(ctx, dir, out)
	if err != nil {
		return nil, err
	}
	result := events.Result{
		Outputs: outputs, Fidelity: out.Fidelity, Engine: out.Engine, Version: out.Version, Notes: out.Notes, Verdict: out.Verdict,
	}
	if r.shares() && r.asPlanned() {
		r.offer(ctx, result, out.Model)
	}
	return r.success(events.TaskSucceeded{Result: result}, out.Model)
}

// success is the record that says so.
func (r *run) success(data events.TaskSucceeded, model string) ([]eventlog.Record, error) {
	c := events.Columns{Model: model}
	if files := slices.Concat(artifactsOf(data.Outputs)...); len(files) == 1 {
		c.ArtifactURI, c.ArtifactSHA256 = files[0].URI, files[0].SHA256
	}
	rec, err := r.result(data, c)
	if err != nil {
		return nil, err
	}
	outcome := "succeeded"
	if data.ReusedFrom != nil {
		outcome = "reused"
	}
	took := time.Since(r.began)
	r.tell(slog.LevelInfo, "node finished", "engine", r.can.Engine, "duration", took, "outcome", outcome)
	r.worker.metrics.observe(r.cmd.Task, r.can.Engine, outcome, took)
	return []eventlog.Record{rec}, nil
}

func artifactsOf(outputs map[string]events.Value) [][]events.Artifact {
	var all [][]events.Artifact
	for _, v := range outputs {
		all = append(all, v.Artifacts)
	}
	return all
}
