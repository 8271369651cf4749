// Leases: a worker that says nothing for too long has lost its attempt. Silence is
// not on the log, so it counts only while the beats are read up to their end.

package handlers

import (
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// beatsTail is where the tail of gpu.progress stands.
type beatsTail struct {
	current bool
	since   time.Time // when it became current
}

// heard is when a running attempt was last heard of.
type heard struct {
	stage   string
	attempt int32
	atMS    int64
}

// Beat takes a record of events.TopicTaskProgress.
func (c *Core) Beat(r eventlog.Record, now time.Time) {
	m, err := events.Decode(r.Value)
	if err != nil {
		return // no ground for a decision
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[r.Partition]
	if p == nil {
		return
	}
	l := p.jobs[keyOf(m.AggregateID)]
	if l == nil {
		return
	}
	for i, h := range l.heard {
		if h.stage == m.Stage && int(h.attempt) == m.Attempt {
			l.heard[i].atMS = max(h.atMS, now.UnixMilli())
		}
	}
}

// BeatsCurrent says whether the tail of events.TopicTaskProgress has reached its end.
// Silence counts only while it stays there, and every lease starts anew with it.
func (c *Core) BeatsCurrent(current bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if current && !c.beats.current {
		c.beats.since = now
	}
	c.beats.current = current
}

// restartLeases lets every lease start anew: this process has not listened.
func (c *Core) restartLeases(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.beats.since = now
}

// hear notes attempts that run now and did not before, and forgets those that ended.
func (l *liveJob) hear(j *aggregates.Job, now time.Time) {
	var running []heard
	for i, s := range j.Stages {
		if s.State != aggregates.StageRunning || s.LeaseMS <= 0 {
			continue
		}
		h := heard{j.Graph.Nodes[i].ID, int32(s.Attempt), now.UnixMilli()} //nolint:gosec // attempts are few
		for _, before := range l.heard {
			if before.stage == h.stage && before.attempt == h.attempt {
				h = before
			}
		}
		running = append(running, h)
	}
	l.heard = running
}

// leaseEnd is when the silence of an attempt will have been too long, as far as is
// known now. The zero now asks for a time that is not later than that.
func (c *Core) leaseEnd(p *partition, l *liveJob, stage string, s events.StageState, now time.Time) int64 {
	from := max(p.recovered.UnixMilli(), c.beats.since.UnixMilli())
	for _, h := range l.heard {
		if h.stage == stage && int(h.attempt) == s.Attempt {
			from = max(from, h.atMS)
		}
	}
	if !c.beats.current {
		from = max(from, now.UnixMilli())
	}
	return from + s.LeaseMS
}

func isLease(d aggregates.Deadline) bool {
	_, ok := d.Command.(events.ClockLeaseExpired)
	return ok
}
