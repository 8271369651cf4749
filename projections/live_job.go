// One job's rows in memory, kept up with its events.

package projections

import (
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Followed is one job that its follower keeps up with the log; for one goroutine.
type Followed struct {
	id string
	f  *fold
}

// Follow begins with rows of the tables, which belong to it from then on; nil, if the
// tables do not have the job yet.
func Follow(id string, row *Job, stages []*Stage) *Followed {
	f := newFold()
	if row != nil {
		f.jobs[id] = &foldedJob{row: *row, stages: stages}
	}
	return &Followed{id: id, f: f}
}

// Apply folds a record of jobs.events, and says whether it changed the job: one that is
// folded already does not. Errors: a record that this program cannot read, or one
// that does not continue the job's chain.
func (l *Followed) Apply(r eventlog.Record) (changed bool, err error) {
	x, err := decode(r)
	if err != nil {
		return false, err
	}
	before := l.f.counts
	l.f.apply(&x)
	l.f.events = nil // nobody writes them here
	clear(l.f.artifacts)
	if l.f.counts.Rejected > before.Rejected {
		return false, l.f.rejected[len(l.f.rejected)-1]
	}
	return l.f.counts.Applied > before.Applied, nil
}

// Rows are the job and its stages as of the last event; nil before the first.
func (l *Followed) Rows() (*Job, []*Stage) {
	j := l.f.jobs[l.id]
	if j == nil {
		return nil, nil
	}
	return &j.row, j.stages
}
