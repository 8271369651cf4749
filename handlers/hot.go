// Which jobs lie in memory as they are, and which packed: the few that something
// happens to now must cost no time, the many that wait must cost no memory.

package handlers

import "github.com/myspinbot/myspinbot/aggregates"

// mostHot is how many jobs lie in memory unpacked.
const mostHot = 8192

// hot lists the jobs that are not packed, in the order in which they came to be so.
// What has been touched since then gets a second chance.
type hot struct {
	common *common
	queue  []*liveJob
	most   int
}

// state is a live job's state, unpacked for the caller if need be.
func (c *Core) state(l *liveJob) *aggregates.Job {
	if l.job != nil {
		return l.job
	}
	return c.common.unpack(l.packed)
}

// store gives a live job a new state. Of jobs that others know, Core.mu is held: the
// clock unpacks beside it.
func (h *hot) store(l *liveJob, j *aggregates.Job) {
	l.job, l.packed, l.touched = j, nil, true
	if !l.queued {
		l.queued, l.touched = true, false
		h.queue = append(h.queue, l)
	}
	h.cool()
}

// take takes over another's jobs.
func (h *hot) take(other *hot) {
	h.queue = append(h.queue, other.queue...)
	h.cool()
}

// cool packs from the front of the queue, or lets go on what was touched, until it is
// no longer than it may be.
func (h *hot) cool() {
	for len(h.queue) > h.most {
		l := h.queue[0]
		h.queue[0] = nil
		h.queue = h.queue[1:]
		switch {
		case l.gone:
			continue
		case l.touched:
			l.touched = false
			h.queue = append(h.queue, l)
			continue
		}
		l.queued = false
		if packed, ok := h.common.pack(l.job); ok {
			l.job, l.packed = nil, packed
		}
	}
}
