// Where jobs stand in the queue and when they will be done: a fold of the live feed,
// with the tables for what happened before it began.
//
//  1. The feed's events are kept until the tables are as far as its first one. Then the
//     tables' unfinished jobs are taken, and the kept events folded over them by version.
//  2. Until then nobody knows, and queue_position and eta_seconds are null.
//  3. What is predicted when a job's first stage is queued is held against what came of
//     it, so that the error of the prediction is a metric.

package api

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

type queue struct {
	logger *slog.Logger
	now    func() time.Time
	slots  func() map[string]int // how many stages each lane runs at once
	ratio  prometheus.Histogram  // predicted by actual

	mu     sync.Mutex
	loaded bool
	kept   []*eventView    // since the feed began, until loaded
	missed map[int32]int64 // by partition: the offset behind the last event that was not kept
	jobs   map[string]*queuedJob
	lanes  map[string]*lane
	pace   pace
	spread spread
	shapes map[string]*shape
}

// lane is what waits and runs on one lane. All tenants share its workers, so that all that
// waits counts for when a job will be done; its place in the queue is that among its
// tenant's own jobs, which tells nothing of others.
type lane struct {
	all     places
	own     map[string]*places // by tenant
	running int
}

// places are who waits; interactive work goes before batch work.
type places struct{ interactive, batch lineup }

func (p *places) of(batch bool) *lineup {
	if batch {
		return &p.batch
	}
	return &p.interactive
}

// ahead is how many wait before w.
func (p *places) ahead(w waiting, batch bool) int {
	n := p.of(batch).ahead(w)
	if batch {
		n += len(p.interactive)
	}
	return n
}

// of are those of the tenant.
func (l *lane) of(tenant string) *places {
	p := l.own[tenant]
	if p == nil {
		p = &places{}
		l.own[tenant] = p
	}
	return p
}

func (l *lane) join(tenant string, batch bool, w waiting) {
	l.all.of(batch).join(w)
	l.of(tenant).of(batch).join(w)
}

func (l *lane) leave(tenant string, batch bool, w waiting) {
	l.all.of(batch).leave(w)
	own := l.of(tenant)
	own.of(batch).leave(w)
	if len(own.interactive)+len(own.batch) == 0 {
		delete(l.own, tenant)
	}
}

// shape is the part of a graph that times depend on. Jobs of one kind share it.
type shape struct {
	ids    []string
	tasks  []string
	lanes  []string // empty: decided inside the job handler
	before [][]int  // of each node, in a topological order
}

// queuedJob is a job that has not ended.
type queuedJob struct {
	tenant    string
	id        string
	version   int64
	shape     *shape
	marks     []mark  // of each node
	asked     bool    // waits for somebody's approval
	seconds   float64 // predicted; 0: not predicted, or a person's delay has spoilt it
	predicted time.Time
}

// mark is where a stage stands.
type mark struct {
	state stageState
	batch bool
	since int64 // Unix nanoseconds: queued or running
}

type stageState uint8

const (
	stagePending stageState = iota
	stageQueued
	stageRunning
	stageDone
)

// maxKept bounds the events that wait for the tables.
const maxKept = 100_000

// maxShapes bounds the memory of graphs, which an installation has few of.
const maxShapes = 1000

func newQueue(logger *slog.Logger, ratio prometheus.Histogram, slots func() map[string]int) *queue {
	return &queue{logger: logger, now: time.Now, slots: slots, ratio: ratio, missed: map[int32]int64{},
		jobs: map[string]*queuedJob{}, lanes: map[string]*lane{}, pace: newPace(), shapes: map[string]*shape{}}
}

// loadPause is how long the tables are left alone when they do not answer or are not far enough.
const loadPause = 500 * time.Millisecond

// run takes the tables' unfinished jobs once they are as far as the feed's begin.
func (q *queue) run(ctx context.Context, tables *projections.Reader, begin func() map[int32]int64) error {
	told := false
	for {
		done, err := q.load(ctx, tables, begin())
		switch {
		case done:
			return nil
		case err != nil && !told && ctx.Err() == nil && !errors.Is(err, projections.ErrUnavailable):
			q.logger.Error("the unfinished jobs cannot be read, so that places in the queue are not known", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(loadPause):
		}
	}
}

// load says whether the queue is whole now. The feed runs on meanwhile.
func (q *queue) load(ctx context.Context, tables *projections.Reader, begin map[int32]int64) (bool, error) {
	if begin == nil {
		return false, nil
	}
	var open []*projections.Unfinished
	var runs []projections.Run
	var at eventlog.Offsets
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := tables.Snapshot(ctx, func(r *projections.Queries) (err error) {
		if at, err = r.Checkpoints(ctx, events.TopicJobEvents); err != nil {
			return err
		}
		if runs, err = r.LastRuns(ctx, lastJobs); err != nil {
			return err
		}
		open, err = r.Unfinished(ctx)
		return err
	})
	if err != nil {
		return false, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for p, from := range begin {
		if at[eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: p}] < max(from, q.missed[p]) {
			return false, nil
		}
	}
	q.take(open, runs)
	return true, nil
}

// lastJobs is from how many jobs that ended well the first paces are taken.
const lastJobs = 100

func (q *queue) take(open []*projections.Unfinished, runs []projections.Run) {
	for _, r := range runs {
		q.pace.note(r.Task, r.Engine, r.Took)
	}
	for _, u := range open {
		j := &queuedJob{tenant: u.Tenant, id: u.ID, version: u.Version, asked: u.Status == projections.JobWaitingApproval}
		j.shape = q.shapeOf(u.Graph.Nodes, u.Graph.Edges)
		j.marks = make([]mark, len(u.Graph.Nodes))
		q.jobs[u.ID] = j
		for i, st := range u.Stages {
			switch {
			case st.Status == projections.StageQueued:
				q.move(j, i, mark{stageQueued, st.Batch, st.ScheduledAt.UnixNano()})
			case st.Status == projections.StageRunning:
				q.move(j, i, mark{stageRunning, st.Batch, st.StartedAt.UnixNano()})
			case st.Ended():
				q.move(j, i, mark{state: stageDone})
			}
		}
	}
	q.loaded = true
	for _, e := range q.kept {
		q.fold(e)
	}
	q.kept, q.missed = nil, nil
}

// apply takes an event of the feed in.
func (q *queue) apply(e *eventView) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.loaded:
		q.fold(e)
	case len(q.kept) < maxKept:
		q.kept = append(q.kept, e)
	default: // the tables have been away for long: they must come so far before they count
		for _, old := range append(q.kept, e) {
			q.missed[old.at.partition] = old.at.offset + 1
		}
		q.kept = nil
	}
}

// fold is the state after an event. An event of a job whose plan was not seen says
// nothing here: its end is in the tables.
func (q *queue) fold(e *eventView) {
	j := q.jobs[e.JobID]
	if e.Type == "job.planned" && j == nil {
		q.plan(e)
		return
	}
	if j == nil || e.Version <= j.version {
		return
	}
	j.version = e.Version
	switch {
	case e.ends():
		q.end(j, e)
	case e.Type == "approval.requested":
		j.asked, j.seconds = true, 0
	case e.Type == "approval.granted":
		j.asked = false
	}
	if e.Stage == nil {
		return
	}
	for i, id := range j.shape.ids {
		if id == *e.Stage {
			q.foldStage(j, i, e)
		}
	}
}

func (q *queue) foldStage(j *queuedJob, i int, e *eventView) {
	was, at := j.marks[i], e.OccurredAt.UnixNano()
	switch e.Type {
	case "stage.scheduled":
		var d struct{ Batch bool }
		_ = json.Unmarshal(e.Data, &d) // an event that a newer program wrote otherwise counts as interactive
		q.move(j, i, mark{stageQueued, d.Batch, at})
		q.predict(j, e.OccurredAt)
	case "stage.started":
		q.move(j, i, mark{stageRunning, was.batch, at})
	case "stage.succeeded":
		if was.state == stageRunning {
			q.pace.note(j.shape.tasks[i], engineOf(e.Data), time.Duration(at-was.since))
		}
		q.move(j, i, mark{state: stageDone})
	case "stage.skipped", "stage.reused", "stage.cancelled", "approval.granted":
		q.move(j, i, mark{state: stageDone})
	case "stage.failed", "stage.attempt_expired":
		q.move(j, i, mark{}) // another attempt follows, or the job's end
	}
}

func engineOf(data json.RawMessage) string {
	var d struct{ Engine string }
	_ = json.Unmarshal(data, &d) // without an engine's name all of them count as one
	return d.Engine
}

// plan notes a new job.
func (q *queue) plan(e *eventView) {
	var d struct{ Graph events.Graph }
	if err := json.Unmarshal(e.Data, &d); err != nil {
		q.logger.Warn("a job's plan cannot be read, so that its place in the queue is not known", "jobId", e.JobID, "error", err)
		return
	}
	s := q.shapeOf(d.Graph.Nodes, d.Graph.Edges)
	q.jobs[e.JobID] = &queuedJob{tenant: e.tenant, id: e.JobID, version: e.Version, shape: s, marks: make([]mark, len(s.ids))}
}

// shapeOf is the one shape of all graphs that are alike.
func (q *queue) shapeOf(nodes []events.Node, edges []events.Edge) *shape {
	s := &shape{before: make([][]int, len(nodes))}
	index := make(map[string]int, len(nodes))
	for i, n := range nodes {
		if n.Skip != "" {
			n.Lane = "" // no worker will see it
		}
		s.ids, s.tasks, s.lanes = append(s.ids, n.ID), append(s.tasks, n.Task), append(s.lanes, n.Lane)
		index[n.ID] = i
	}
	for _, e := range edges {
		if from, to := index[e.From], index[e.To]; from < to { // else it is no edge of these nodes
			s.before[to] = append(s.before[to], from)
		}
	}
	key, err := json.Marshal([]any{s.ids, s.tasks, s.lanes, s.before})
	if err != nil {
		return s // strings and numbers are always written
	}
	if same := q.shapes[string(key)]; same != nil {
		return same
	}
	if len(q.shapes) >= maxShapes {
		clear(q.shapes)
	}
	q.shapes[string(key)] = s
	return s
}

// move puts a stage where it stands now, and its lane with it.
func (q *queue) move(j *queuedJob, i int, to mark) {
	was, name := j.marks[i], j.shape.lanes[i]
	j.marks[i] = to
	if name == "" {
		return
	}
	l := q.lanes[name]
	if l == nil {
		l = &lane{own: map[string]*places{}}
		q.lanes[name] = l
	}
	switch key := j.key(i); was.state {
	case stageQueued:
		l.leave(j.tenant, was.batch, waiting{was.since, key})
	case stageRunning:
		l.running--
	case stagePending, stageDone:
	}
	switch to.state {
	case stageQueued:
		l.join(j.tenant, to.batch, waiting{to.since, j.key(i)})
	case stageRunning:
		l.running++
	case stagePending, stageDone:
	}
}

func (j *queuedJob) key(i int) string { return j.id + "/" + j.shape.ids[i] }

// end lets a job go, and holds what was predicted against what came of it.
func (q *queue) end(j *queuedJob, e *eventView) {
	for i := range j.marks {
		q.move(j, i, mark{state: stageDone})
	}
	delete(q.jobs, j.id)
	if took := e.OccurredAt.Sub(j.predicted).Seconds(); e.Type == "job.succeeded" && j.seconds > 0 && took > 0 {
		q.ratio.Observe(j.seconds / took)
		q.spread.note(took / j.seconds)
	}
}
