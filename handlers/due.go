// The clock: a time that has come becomes a command on the log, so that every input
// to a decision lies there. It is void unless that time is still the current one.

package handlers

import (
	"cmp"
	"container/heap"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

const (
	// sweepEvery is how often ended jobs are looked through for old ones.
	sweepEvery = time.Minute
	// sweepMost and carryMost bound what one call of Due hands out for a partition.
	sweepMost = 1000
	carryMost = 200
)

// deadlineKey names a time that the clock has put on the log.
type deadlineKey struct {
	command string // its type
	stage   string
	attempt int
}

// Due hands out the clock's commands whose time has come, each once.
func (c *Core) Due(now time.Time) []eventlog.Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []eventlog.Record
	for _, n := range slices.Sorted(maps.Keys(c.parts)) {
		p := c.parts[n]
		ms := c.dueJobs(p, now)
		ms = append(ms, c.dueCarries(p, now)...)
		ms = append(ms, c.dueArchives(p, now)...)
		for _, m := range ms {
			r, err := encode(events.TopicJobCommands, m)
			if err != nil { // a clock's command is made of numbers
				c.cfg.Logger.Error("a command of the clock cannot be encoded", "jobId", m.AggregateID, "error", err)
				continue
			}
			r.Partition = n
			out = append(out, r)
		}
	}
	return out
}

func (c *Core) dueJobs(p *partition, now time.Time) []events.Message {
	var out []events.Message
	for len(p.due) > 0 && p.due[0].dueMS <= now.UnixMilli() {
		l := p.due[0]
		j := c.state(l)
		for _, d := range c.times(p, l, j, now) {
			key := deadlineKey{d.Command.EventType(), d.Stage, d.Attempt}
			if d.AtMS > now.UnixMilli() || p.given[l.key][key] == d.AtMS {
				continue
			}
			if p.given[l.key] == nil {
				p.given[l.key] = map[deadlineKey]int64{}
			}
			p.given[l.key][key] = d.AtMS
			out = append(out, clockCommand(j, d, now))
		}
		c.wake(p, l, j)
		if l.dueMS <= now.UnixMilli() { // a lease whose silence does not count now
			l.dueMS = now.UnixMilli() + 1
			heap.Fix(&p.due, l.slot)
		}
	}
	return out
}

// times are the job's deadlines, those of leases among them.
func (c *Core) times(p *partition, l *liveJob, j *aggregates.Job, now time.Time) []aggregates.Deadline {
	ds := j.Deadlines()
	for i, s := range j.Stages {
		if s.State != aggregates.StageRunning || s.LeaseMS <= 0 {
			continue
		}
		d := aggregates.Deadline{Command: events.ClockLeaseExpired{LeaseMS: s.LeaseMS}, Stage: j.Graph.Nodes[i].ID, Attempt: s.Attempt}
		d.AtMS = c.leaseEnd(p, l, d.Stage, s, now)
		ds = append(ds, d)
	}
	return ds
}

// wake puts the job where the clock looks at it next.
func (c *Core) wake(p *partition, l *liveJob, j *aggregates.Job) {
	next := int64(math.MaxInt64)
	given := p.given[l.key]
	for _, d := range c.times(p, l, j, time.Time{}) {
		if at, ok := given[deadlineKey{d.Command.EventType(), d.Stage, d.Attempt}]; ok && (at == d.AtMS || isLease(d)) {
			continue
		}
		next = min(next, d.AtMS)
	}
	l.dueMS = next
	p.due.set(l)
}

func clockCommand(j *aggregates.Job, d aggregates.Deadline, now time.Time) events.Message {
	id := events.NameID("clock", j.ID, d.Command.EventType(), d.Stage, strconv.Itoa(d.Attempt), strconv.FormatInt(d.AtMS, 10))
	m := byClock(j.ID, id, d.Command, now)
	m.CausationID, m.CorrelationID, m.Tenant, m.Stage, m.Attempt = j.Chain.LastID, j.CorrelationID, j.Tenant, d.Stage, d.Attempt
	return m
}

func byClock(jobID, id string, command events.Payload, now time.Time) events.Message {
	return events.Message{
		ID: id, SchemaVersion: command.SchemaVersion(), AggregateType: events.AggregateJob, AggregateID: jobID,
		OccurredAt: now.UTC(), CommandID: id, CausationID: id, CorrelationID: id, Actor: "clock", Columns: events.Columns{JobID: jobID}, Data: command,
	}
}

// dueCarries asks to carry forward jobs that recovery would have to read far back for.
func (c *Core) dueCarries(p *partition, now time.Time) []events.Message {
	// Carrying pushes all others back by an event each: with many live jobs a fixed
	// distance would never be reached by all of them, and the carrying never end.
	far := max(c.cfg.CarryAfter, 4*int64(len(p.jobs)))
	var out []events.Message
	for l := p.order.head; l != nil && p.end-l.first > far && len(out) < carryMost; l = l.next {
		j := c.state(l)
		version := j.Chain.Version
		if l.carried == version {
			continue
		}
		l.carried = version
		id := events.NameID("clock", j.ID, "carry", strconv.FormatInt(version, 10))
		m := byClock(j.ID, id, events.ClockCarryDue{Version: version}, now)
		m.CausationID, m.CorrelationID, m.Tenant = j.Chain.LastID, j.CorrelationID, j.Tenant
		out = append(out, m)
	}
	return out
}

// dueArchives asks to forget how jobs ended that ended long ago.
func (c *Core) dueArchives(p *partition, now time.Time) []events.Message {
	if now.Before(p.sweepAt) {
		return nil
	}
	p.sweepAt = now.Add(sweepEvery)
	before := now.Add(-c.cfg.Archive).UnixMilli()
	var old []jobKey
	for k, e := range p.ended {
		if e.endedMS <= before && !e.clocked {
			old = append(old, k)
		}
	}
	slices.SortFunc(old, func(a, b jobKey) int {
		return cmp.Or(cmp.Compare(p.ended[a].endedMS, p.ended[b].endedMS), slices.Compare(a[:], b[:]))
	})
	if len(old) > sweepMost {
		old, p.sweepAt = old[:sweepMost], now
	}
	out := make([]events.Message, len(old))
	for i, k := range old {
		e := p.ended[k]
		e.clocked = true
		p.ended[k] = e
		id := p.id(k)
		out[i] = byClock(id, events.NameID("clock", id, "archive"), events.ClockArchiveDue{}, now)
	}
	return out
}

// GiveBack takes a command of Due that could not be written: it is due again.
func (c *Core) GiveBack(r eventlog.Record) {
	m, err := events.Decode(r.Value)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[r.Partition]
	if p == nil {
		return
	}
	k := keyOf(r.Key)
	if e, ok := p.ended[k]; ok {
		e.clocked = false
		p.ended[k], p.sweepAt = e, time.Time{}
	}
	l := p.jobs[k]
	if l == nil {
		return
	}
	if _, carry := m.Data.(events.ClockCarryDue); carry {
		l.carried = 0
		return
	}
	delete(p.given[k], deadlineKey{m.Type(), m.Stage, m.Attempt})
	c.wake(p, l, c.state(l))
}

// dueQueue is a heap of live jobs by the time at which the clock looks at them.
type dueQueue []*liveJob

func (q dueQueue) Len() int { return len(q) }
func (q dueQueue) Less(i, j int) bool {
	a, b := q[i], q[j]
	return a.dueMS < b.dueMS || a.dueMS == b.dueMS && slices.Compare(a.key[:], b.key[:]) < 0
}

func (q dueQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].slot, q[j].slot = i, j
}

// Push implements heap.Interface.
func (q *dueQueue) Push(x any) {
	l := x.(*liveJob)
	l.slot = len(*q)
	*q = append(*q, l)
}

// Pop implements heap.Interface.
func (q *dueQueue) Pop() any {
	l := (*q)[len(*q)-1]
	(*q)[len(*q)-1] = nil
	*q = (*q)[:len(*q)-1]
	l.slot = -1
	return l
}

// set moves a job to where its time belongs.
func (q *dueQueue) set(l *liveJob) {
	if l.slot < 0 {
		heap.Push(q, l)
		return
	}
	heap.Fix(q, l.slot)
}

func (q *dueQueue) remove(l *liveJob) {
	if l.slot >= 0 {
		heap.Remove(q, l.slot)
	}
}
