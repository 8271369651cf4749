// What this process has accepted lately: the answer to a repeated request before
// the tables have the job.

package api

import "sync"

// recentSize bounds the memory; older submissions are found in the tables.
const recentSize = 4096

// submission is a job on the log.
type submission struct {
	bodyDigest string
	view       *jobView // without the texts
}

// recent remembers the last submissions, the oldest leaves first.
type recent struct {
	mu    sync.Mutex
	byJob map[string]submission
	order []string
	next  int
}

func newRecent() *recent { return &recent{byJob: map[string]submission{}} }

func (r *recent) add(job string, s submission) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.byJob[job]; known {
		r.byJob[job] = s
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

func (r *recent) find(job string) (submission, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.byJob[job]
	return s, ok
}

func (r *recent) has(job string) bool {
	_, ok := r.find(job)
	return ok
}
