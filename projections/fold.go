// Folding: facts in, changed rows out, in memory.

package projections

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// fact is one decoded record of jobs.events or profiles.events.
type fact struct {
	at      eventlog.TopicPartition
	offset  int64
	message events.Message
}

// decode reads a record; the error says what and where, and what to do.
func decode(r eventlog.Record) (fact, error) {
	m, err := events.Decode(r.Value)
	switch {
	case errors.Is(err, events.ErrNewerVersion), errors.Is(err, events.ErrUnknownType):
		return fact{}, fmt.Errorf("cannot read the record at %s offset %d: %w; update this program, then start it again", r.At(), r.Offset, err)
	case err != nil:
		return fact{}, fmt.Errorf("cannot read the record at %s offset %d: %w; only the job and profile handlers may write there", r.At(), r.Offset, err)
	}
	return fact{at: r.At(), offset: r.Offset, message: m}, nil
}

// Counts tells what became of the facts of a fold.
type Counts struct {
	Applied    int64
	Duplicates int64 // applied before, skipped
	Rejected   int64 // did not continue their chain; stays 0 while all is well
}

func (c *Counts) add(d Counts) {
	c.Applied += d.Applied
	c.Duplicates += d.Duplicates
	c.Rejected += d.Rejected
}

// fold holds the rows that its facts belong to, and which of them have changed.
type fold struct {
	jobs      map[string]*foldedJob
	profiles  map[string]*foldedProfile
	artifacts map[[2]string]*Artifact // by job and id
	events    []*fact                 // that jobs have accepted: rows of job_events, which are made as they are written
	counts    Counts
	rejected  []error // why, one for each rejected fact
	taken     taken   // what needs no rows
	waits     bool    // jobs that go on are not among the changes
	copies    bool    // new rows go by COPY, however few
	buf       []byte  // in which they are written
}

type foldedJob struct {
	row     Job
	stored  bool // PostgreSQL has a row of it, and may have rows of its stages and files
	changed bool
	stages  []*Stage
	touched []bool // which of the stages have changed; nil: none
}

// taken tells which tables hold the facts before some offsets already, because they
// were taken over from another generation. Jobs and stages never are: the rest of the
// fold builds on them.
type taken struct {
	artifacts, events bool
	until             eventlog.Offsets
}

func (t taken) before(x *fact) bool { return x.offset < t.until[x.at] }

type foldedProfile struct {
	row     Profile
	changed bool
}

func newFold() *fold {
	return &fold{
		jobs: make(map[string]*foldedJob), profiles: make(map[string]*foldedProfile),
		artifacts: make(map[[2]string]*Artifact),
	}
}

// applyAll folds facts, which belong to the fold from then on.
func (f *fold) applyAll(facts []fact) {
	for i := range facts {
		f.apply(&facts[i])
	}
}

// apply folds one fact, which belongs to the fold from then on.
func (f *fold) apply(x *fact) {
	if x.at.Topic == events.TopicProfileEvents {
		f.applyProfile(x)
		return
	}
	f.applyJob(x)
}

// accept decides whether a fact counts, and counts it.
func (f *fold) accept(c events.Chain, aggregate string, x *fact) bool {
	m := &x.message
	err := c.Check(*m)
	switch {
	case m.AggregateType != aggregate:
		err = fmt.Errorf("a fact about a %s does not belong here", m.AggregateType)
	case err == nil:
		f.counts.Applied++
		return true
	case c.Seen(*m) && (m.Version < c.Version || m.ID == c.LastID):
		f.counts.Duplicates++
		return false
	}
	f.counts.Rejected++
	f.rejected = append(f.rejected, fmt.Errorf("rejected %s %s at %s offset %d: %w", m.Type(), m.ID, x.at, x.offset, err))
	return false
}

func (f *fold) applyJob(x *fact) {
	m := &x.message
	j := f.jobs[m.AggregateID]
	if j == nil {
		j = &foldedJob{}
	}
	if !f.accept(j.row.Chain(), events.AggregateJob, x) {
		return
	}
	f.jobs[m.AggregateID] = j
	j.changed = true
	j.row.Apply(m, x.at.Partition, x.offset)
	j.applyToStages(m)
	if _, ok := m.Data.(events.ArtifactRegistered); ok && !(f.taken.artifacts && f.taken.before(x)) {
		a := &Artifact{}
		a.Apply(m)
		f.artifacts[[2]string{a.JobID, a.ID}] = a
	}
	if !(f.taken.events && f.taken.before(x)) {
		f.events = append(f.events, x)
	}
}

func (j *foldedJob) applyToStages(m *events.Message) {
	switch d := m.Data.(type) {
	case events.JobPlanned:
		j.stages = newStages(m, d.Graph)
		for i := range j.stages {
			j.touch(i)
		}
	case events.StageScheduled, events.StageStarted, events.StageSucceeded, events.StageFailed, events.StageSkipped,
		events.StageReused, events.StageAttemptExpired, events.StageCancelled,
		events.ApprovalRequested, events.ApprovalGranted, events.ApprovalDenied, events.ApprovalExpired:
		for i, s := range j.stages {
			if s.ID == m.Stage {
				s.Apply(m)
				j.touch(i)
			}
		}
		j.row.Progress = max(j.row.Progress, progress(j.stages))
	case events.JobSucceeded, events.JobFailed, events.JobCancelled, events.JobRejected:
		for i, s := range j.stages {
			if s.cancel(j.row.FinishedAt) {
				j.touch(i)
			}
		}
	default: // facts that leave stages as they are
	}
}

// touch notes that the i-th stage has changed.
func (j *foldedJob) touch(i int) {
	if len(j.touched) < len(j.stages) {
		j.touched = append(j.touched, make([]bool, len(j.stages)-len(j.touched))...)
	}
	j.touched[i] = true
}

func (f *fold) applyProfile(x *fact) {
	m := &x.message
	p := f.profiles[m.AggregateID]
	if p == nil {
		p = &foldedProfile{}
	}
	if !f.accept(p.row.Chain(), events.AggregateProfile, x) {
		return
	}
	f.profiles[m.AggregateID] = p
	p.changed = true
	p.row.Apply(m)
}

// changes are the rows to write, each key once, in the order of their keys, so
// that two writers lock rows in one order and a table fills the same way each time.
type changes struct {
	jobs      []*Job
	stages    []*Stage
	artifacts []*Artifact
	profiles  []*Profile
	events    []*fact
}

func (f *fold) changes() changes {
	c := changes{events: f.events}
	for _, id := range slices.Sorted(maps.Keys(f.jobs)) {
		if !f.due(id) {
			continue
		}
		j := f.jobs[id]
		if j.changed {
			c.jobs = append(c.jobs, &j.row)
		}
		for i, touched := range j.touched {
			if touched {
				c.stages = append(c.stages, j.stages[i])
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(f.profiles)) {
		if p := f.profiles[id]; p.changed {
			c.profiles = append(c.profiles, &p.row)
		}
	}
	keys := slices.SortedFunc(maps.Keys(f.artifacts), func(a, b [2]string) int {
		return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1]))
	})
	for _, k := range keys {
		if f.due(k[0]) {
			c.artifacts = append(c.artifacts, f.artifacts[k])
		}
	}
	return c
}

// due says whether the rows of a job are to be written now.
func (f *fold) due(id string) bool { return !f.waits || f.jobs[id].row.Ended() }
