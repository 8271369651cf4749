// Which jobs lie in memory as they are, and which packed: the few that something
// happens to now must cost no time, the many that wait must cost no memory.

package handlers

import "github.com/myspinbot/myspinbot/aggregates"

// mostHot is how many jobs lie in memory unpacked.
const mostHot = 8192

// hot lists the jobs that are not packed, in the order in which they came to be so.
// What has been touched since then gets a second chance.
type hot struct {
	queue []*liveJob
	most  int
}

// state is a live job's state, unpacked for the caller if need be.
func (c *Core) state(l *liveJob) *aggregates.Job {
	if l.job != nil {
		return l.job
	}
	return c.common.unpack(l.packed)
}

// store gives a live job a new state. mu is held: the clock unpacks beside it.
func (c *Core) store(l *liveJob, j *aggregates.Job) {
	l.job, l.packed, l.touched = j, nil, true
	if !l.queued {
		l.queued, l.touched = true, false
		c.hot.queue = append(c.hot.queue, l)
	}
	for len(c.hot.queue) > c.hot.most {
		c.cool()
	}
}

// cool packs the first in the queue, or lets it go on.
func (c *Core) cool() {
	l := c.hot.queue[0]
	c.hot.queue[0] = nil
	c.hot.queue = c.hot.queue[1:]
	switch {
	case l.gone:
		return
	case l.touched:
		l.touched = false
		c.hot.queue = append(c.hot.queue, l)
		return
	}
	l.queued = false
	if packed, ok := c.common.pack(l.job); ok {
		l.job, l.packed = nil, packed
	}
}
