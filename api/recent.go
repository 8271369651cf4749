// What this process has accepted lately: the answer to a repeated request before
// the tables have the job.

package api

import (
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// recentSize bounds the memory; older submissions are found in the tables.
const recentSize = 4096

// submission is a job whose command lies on the log.
type submission struct {
	tenant     string
	command    string // its id
	bodyDigest string
	// record is the command as it lies on the log, which is small and holds no pointers: with
	// thousands of whole Job objects the collector would have more to do than the requests.
	record  []byte
	status  string // of the job after the command; empty: as planned
	version int64  // of the job after the command; 0: not known
	// confirmed says that the job handler has taken this very body. Until then the key
	// may belong to another one, so that nothing is refused on account of it.
	confirmed bool
}

// recent remembers the last submissions, the oldest leaves first.
type recent struct {
	mu    sync.Mutex
	byJob map[string]submission
	order []string
	next  int
}

func newRecent() *recent { return &recent{byJob: map[string]submission{}} }

// add remembers a submission. One that was confirmed stays, unless by another that is.
func (r *recent) add(job string, s submission) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, known := r.byJob[job]; known {
		if s.confirmed || !old.confirmed {
			r.byJob[job] = s
		}
		return
	}
	if len(r.order) < recentSize {
		r.order = append(r.order, job)
	} else {
		delete(r.byJob, r.order[r.next])
		r.order[r.next] = job
		r.next = (r.next + 1) % recentSize
	}
	r.byJob[job] = s
}

// settle takes the reply to a submission in, however late: a refused one is forgotten.
func (r *recent) settle(job, command string, reply events.CommandReplied) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.byJob[job]
	if !ok || s.confirmed || s.command != command {
		return
	}
	if reply.Outcome == events.OutcomeRefused {
		delete(r.byJob, job)
		return
	}
	r.byJob[job] = s.after(reply)
}

// after is the submission once the job handler has taken it.
func (s submission) after(reply events.CommandReplied) submission {
	s.confirmed, s.version, s.status = true, reply.Version, reply.Status
	return s
}

// request is what was submitted, and when.
func (s submission) request() (r events.Request, at time.Time, ok bool) {
	m, err := events.Decode(s.record)
	d, ok := m.Data.(events.JobSubmit)
	return d.Request, m.OccurredAt, err == nil && ok
}

// find is the tenant's submission of that job.
func (r *recent) find(tenant, job string) (submission, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.byJob[job]
	if !ok || s.tenant != tenant {
		return submission{}, false
	}
	return s, true
}

// open says whether the reply to the job's submission has not been seen yet.
func (r *recent) open(job string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.byJob[job]
	return ok && !s.confirmed
}

func (r *recent) has(tenant, job string) bool {
	_, ok := r.find(tenant, job)
	return ok
}
