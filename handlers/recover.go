// eventlog.State: recovering a partition's state, committing what was decided
// over it, or dropping it all.

package handlers

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// mark is the text of a commit: what recovery has to know before it reads anything.
type mark struct {
	oldest  int64     // offset in jobs.events at which recovery of the oldest live job starts
	lastAt  time.Time // of the newest fact, which recovery may not read
	indexed int       // jobs with an entry in jobs.index
}

func (m mark) String() string {
	b := append(make([]byte, 0, 64), "oldest="...)
	b = strconv.AppendInt(b, m.oldest, 10)
	if m.indexed > 0 {
		b = append(b, " index="...)
		b = strconv.AppendInt(b, int64(m.indexed), 10)
	}
	if !m.lastAt.IsZero() {
		b = append(b, " at="...)
		b = strconv.AppendInt(b, m.lastAt.UnixNano(), 10)
	}
	return string(b)
}

func parseMark(meta string) (m mark, err error) {
	for _, field := range strings.Fields(meta) {
		name, text, _ := strings.Cut(field, "=")
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return m, fmt.Errorf("the commit metadata %q cannot be read: %w", meta, err)
		}
		switch name {
		case "oldest":
			m.oldest = n
		case "index":
			m.indexed = int(n)
		case "at":
			m.lastAt = time.Unix(0, n).UTC()
		}
	}
	return m, nil
}

// Recover folds the partition's facts from the oldest live job on, all of its
// profiles, and the index of ended jobs. Where the index has lost entries, all facts
// are folded.
func (c *Core) Recover(ctx context.Context, n int32, meta string) (err error) {
	from, err := parseMark(meta)
	if err != nil {
		return err
	}
	c.Drop(n)
	p := newPartition(c.cfg.Now())
	p.lastAt = from.lastAt
	defer func() {
		if err != nil { // it will be tried again
			c.forget(p)
		}
	}()
	if _, err := c.cfg.Replay(ctx, eventlog.TopicPartition{Topic: events.TopicJobIndex, Partition: n}, 0, p.foldIndex); err != nil {
		return err
	}
	if p.indexed < from.indexed {
		c.cfg.Logger.Warn("the index of ended jobs has lost entries; all facts are read to rebuild it",
			"partition", n, "found", p.indexed, "expected", from.indexed)
		from.oldest = 0
	}
	if _, err := c.cfg.Replay(ctx, eventlog.TopicPartition{Topic: events.TopicProfileEvents, Partition: n}, 0, c.foldAll(p, c.foldProfile)); err != nil {
		return err
	}
	end, err := c.cfg.Replay(ctx, eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: n}, from.oldest, c.foldAll(p, c.foldJob))
	if err != nil {
		return err
	}
	p.end = end
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, live := range p.jobs {
		c.wake(p, live, c.state(live))
	}
	c.parts[n] = p
	c.cfg.Logger.Info("partition recovered", "partition", n, "from", from.oldest, "end", end,
		"live_jobs", len(p.jobs), "ended_jobs", len(p.ended)+len(p.archived), "unindexed", len(p.unindexed), "profiles", len(p.profiles))
	return nil
}

// foldAll decodes records and folds each. What cannot be read stops recovery: to
// decide over a hole would be to guess.
func (c *Core) foldAll(p *partition, fold func(*partition, events.Message, int64) error) func([]eventlog.Record) error {
	return func(records []eventlog.Record) error {
		for _, r := range records {
			m, err := events.Decode(r.Value)
			if err == nil {
				err = fold(p, m, r.Offset)
			}
			if err != nil {
				return fmt.Errorf("cannot fold the record at %s offset %d: %w", r.At(), r.Offset, err)
			}
			if m.OccurredAt.After(p.lastAt) {
				p.lastAt = m.OccurredAt
			}
		}
		return nil
	}
}

func (c *Core) foldJob(p *partition, m events.Message, offset int64) error {
	k := keyOf(m.AggregateID)
	_, carried := m.Data.(events.JobCarriedForward)
	live := p.jobs[k]
	var before aggregates.Job
	switch {
	case live != nil:
		before = *c.state(live)
	case m.Version != 1 && !carried:
		return nil // the chain began before the replay's start: the job has ended, or is carried forward later
	}
	next, err := before.Apply(m)
	if err != nil {
		c.reject(m, offset, err)
		return nil
	}
	if next.Chain == before.Chain {
		return nil // a fact seen before
	}
	if live == nil {
		live = &liveJob{key: k, slot: -1}
		p.jobs[k] = live
		p.remember(k, m.AggregateID)
	}
	if carried || m.Version == 1 {
		if before.Chain.Version > 0 {
			p.order.remove(live)
		}
		live.first = offset
		p.order.push(live)
	}
	c.places.move(p.loads, &before, &next)
	live.input = shortDigest(m.CausationID)
	c.mu.Lock()
	c.store(live, &next)
	c.mu.Unlock()
	if next.Terminal() {
		p.foldEnd(k, entryOf(next, m, live.first, offset))
		p.finish(live)
	}
	return nil
}

// finish takes a job out of the live ones.
func (p *partition) finish(l *liveJob) {
	p.order.remove(l)
	p.due.remove(l)
	delete(p.jobs, l.key)
	delete(p.given, l.key)
	l.gone = true
}

func (c *Core) foldProfile(p *partition, m events.Message, offset int64) error {
	next, err := p.profiles[m.AggregateID].Apply(m)
	if err != nil {
		c.reject(m, offset, err)
		return nil
	}
	p.profiles[m.AggregateID] = next
	return nil
}

func (c *Core) reject(m events.Message, offset int64, err error) {
	c.metrics.rejected.Inc()
	c.cfg.Logger.Error("a fact is not applied", "error", err, "type", m.Type(), "offset", offset)
}

// Meta is what recovery of the partition has to know after this commit.
func (c *Core) Meta(n int32, out []eventlog.Record) string {
	p := c.parts[n]
	return mark{oldest: p.oldestAfter(out), lastAt: p.latest(), indexed: p.indexed + p.open.entries}.String()
}

// oldestAfter is where recovery starts once the open transaction is committed: at the
// oldest job that lives then, or at the end.
func (p *partition) oldestAfter(out []eventlog.Record) int64 {
	for l := p.order.head; l != nil; l = l.next {
		if o := p.open.jobs[l.key]; o == nil || o.start < 0 && !o.job.Terminal() {
			return l.first
		}
	}
	facts := factOffsets(out)
	first := -1
	for _, o := range p.open.touched {
		if o.start >= 0 && !o.job.Terminal() && (first < 0 || o.start < first) {
			first = o.start
		}
	}
	switch {
	case first >= 0:
		return facts[first]
	case len(facts) > 0:
		return facts[len(facts)-1] + 1
	}
	return p.end
}

// factOffsets are where the facts of jobs lie, in their order.
func factOffsets(out []eventlog.Record) []int64 {
	var offsets []int64
	for _, r := range out {
		if r.Topic == events.TopicJobEvents {
			offsets = append(offsets, r.Offset)
		}
	}
	return offsets
}

// Committed merges what was decided: it is on the log now.
func (c *Core) Committed(n int32, out []eventlog.Record) {
	now := c.cfg.Now()
	facts := factOffsets(out)
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts[n]
	if len(facts) > 0 {
		p.end = facts[len(facts)-1] + 1
	}
	for _, o := range p.open.touched {
		c.merge(p, o, now)
	}
	// What starts anew goes to the end of the order, the earliest first.
	started := slices.DeleteFunc(p.open.touched, func(o *openJob) bool { return o.start < 0 || o.job.Terminal() })
	slices.SortFunc(started, func(a, b *openJob) int { return cmp.Compare(a.start, b.start) })
	for _, o := range started {
		o.live.first = facts[o.start]
		p.order.push(o.live)
	}
	for _, k := range p.open.archived {
		p.archive(k)
	}
	maps.Copy(p.profiles, p.open.profiles)
	p.lastAt = p.latest()
	p.indexed += p.open.entries
	p.unindexed = p.unindexed[p.open.flushed:]
	for _, t := range p.open.told {
		c.observe(t)
	}
	p.open = overlay{}
}

// merge makes a job's state in the open transaction the committed one.
func (c *Core) merge(p *partition, o *openJob, now time.Time) {
	if o.job.Terminal() {
		if o.live != nil {
			p.finish(o.live)
		} else {
			p.remember(o.key, o.job.ID)
		}
		p.ended[o.key] = o.end
		return
	}
	if o.live == nil {
		o.live = &liveJob{key: o.key, slot: -1}
		p.jobs[o.key] = o.live
		p.remember(o.key, o.job.ID)
	} else if o.start >= 0 {
		p.order.remove(o.live)
	}
	job := o.job
	c.store(o.live, &job)
	o.live.input = o.input
	o.live.hear(&job, now)
	c.wake(p, o.live, &job)
}

// Drop forgets a partition, with what was decided and not committed: another
// process owns it now, or it is recovered again before its next decision.
func (c *Core) Drop(n int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.parts[n]; p != nil {
		c.forget(p)
		delete(c.parts, n)
	}
}

// forget takes a partition out of what the partitions share.
func (c *Core) forget(p *partition) {
	for _, l := range p.jobs {
		l.gone = true
	}
	c.places.forget(p.loads)
}
