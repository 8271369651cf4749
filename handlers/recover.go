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

// recovery is a partition in the making. Several may be made side by side: what they
// share is the core's configuration and metrics, and the words of packed jobs.
type recovery struct {
	*partition
	core *Core
	hot  hot // its own
}

// recoveringHot divides the jobs that lie unpacked: what recovery reads of a job mostly
// lies together, and several partitions have theirs at once.
const recoveringHot = 8

// Recover folds the partition's facts from the oldest live job on, all of its
// profiles, and the index of ended jobs. Where the index has lost entries, all facts
// are folded. It may run for several partitions at once.
func (c *Core) Recover(ctx context.Context, n int32, meta string) error {
	from, err := parseMark(meta)
	if err != nil {
		return err
	}
	c.Drop(n)
	r := recovery{partition: newPartition(c.cfg.Now()), core: c, hot: hot{common: c.common, most: c.hot.most / recoveringHot}}
	r.lastAt = from.lastAt
	if _, err := c.cfg.Replay(ctx, eventlog.TopicPartition{Topic: events.TopicJobIndex, Partition: n}, 0, r.foldIndex); err != nil {
		return err
	}
	if r.indexed < from.indexed {
		c.cfg.Logger.Warn("the index of ended jobs has lost entries; all facts are read to rebuild it",
			"partition", n, "found", r.indexed, "expected", from.indexed)
		from.oldest = 0
	}
	if _, err := c.cfg.Replay(ctx, eventlog.TopicPartition{Topic: events.TopicProfileEvents, Partition: n}, 0, each(r.foldProfile)); err != nil {
		return err
	}
	if r.end, err = c.cfg.Replay(ctx, eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: n}, from.oldest, each(r.foldJob)); err != nil {
		return err
	}
	r.putInPlace(n)
	c.cfg.Logger.Info("partition recovered", "partition", n, "from", from.oldest, "end", r.end,
		"live_jobs", len(r.jobs), "ended_jobs", len(r.ended)+len(r.archived), "unindexed", len(r.unindexed), "profiles", len(r.profiles))
	return nil
}

// each folds records one by one. What cannot be read stops recovery: to decide over a
// hole would be to guess.
func each(fold func(eventlog.Record) error) func([]eventlog.Record) error {
	return func(records []eventlog.Record) error {
		for _, r := range records {
			if err := fold(r); err != nil {
				return fmt.Errorf("cannot fold the record at %s offset %d: %w", r.At(), r.Offset, err)
			}
		}
		return nil
	}
}

// putInPlace makes the partition one of the core's, with the times and places of its jobs.
func (r *recovery) putInPlace(n int32) {
	c, p := r.core, r.partition
	for _, live := range p.jobs {
		job := c.state(live)
		c.places.share(p.loads, job)
		c.mu.Lock()
		live.hear(job, p.recovered) // from here on their beats count
		c.wake(p, live, job)
		c.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.places.add(p.loads, 1)
	c.hot.take(&r.hot)
	c.parts[n] = p
}

// foldJob folds a fact of a job. Those of jobs that have ended are checked and left:
// the index says all that is still to be known of them.
func (r *recovery) foldJob(rec eventlog.Record) error {
	var k jobKey
	over, labels := false, rec.Header("ce_type") == (events.JobLabelled{}).EventType()
	m, wanted, err := events.DecodeOf(rec.Value, func(aggregateID []byte) bool {
		k = keyOf(aggregateID)
		over = r.over(k)
		return !over || labels
	})
	if err != nil {
		return err
	}
	r.occurred(m.OccurredAt)
	switch {
	case over && wanted:
		r.foldLabelled(k, m, rec.Offset)
	case wanted:
		r.foldLive(k, m, rec.Offset)
	}
	return nil
}

// foldLive folds a fact of a job that has not ended so far.
func (r *recovery) foldLive(k jobKey, m events.Message, offset int64) {
	_, carried := m.Data.(events.JobCarriedForward)
	live := r.jobs[k]
	var before aggregates.Job
	switch {
	case live != nil:
		before = *r.core.state(live)
	case m.Version != 1 && !carried:
		return // the chain began before the replay's start: the job has ended, or is carried forward later
	}
	next, err := before.Apply(m)
	if err != nil {
		r.core.reject(m, offset, err)
		return
	}
	if next.Chain == before.Chain {
		return // a fact seen before
	}
	if live == nil {
		live = &liveJob{key: k, slot: -1}
		r.jobs[k] = live
		r.remember(k, m.AggregateID)
	}
	if carried || m.Version == 1 {
		if before.Chain.Version > 0 {
			r.order.remove(live)
		}
		live.first = offset
		r.order.push(live)
	}
	live.input = shortDigest(m.CausationID)
	if next.Terminal() {
		r.foldEnd(k, entryOf(next, m, live.first, offset))
		r.finish(live)
		return
	}
	r.hot.store(live, &next)
}

func (r *recovery) foldProfile(rec eventlog.Record) error {
	m, err := events.Decode(rec.Value)
	if err != nil {
		return err
	}
	r.occurred(m.OccurredAt)
	next, err := r.profiles[m.AggregateID].Apply(m)
	if err != nil {
		r.core.reject(m, rec.Offset, err)
		return nil
	}
	r.profiles[m.AggregateID] = next
	return nil
}

// occurred notes the time of a fact.
func (p *partition) occurred(at time.Time) {
	if at.After(p.lastAt) {
		p.lastAt = at
	}
}

// finish takes a job out of the live ones.
func (p *partition) finish(l *liveJob) {
	p.order.remove(l)
	p.due.remove(l)
	delete(p.jobs, l.key)
	delete(p.given, l.key)
	l.gone = true
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
		p.archive(k, p.ended[k].owner)
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
		p.close(o.key, o.end, o.job.Labelled)
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
	c.hot.store(o.live, &job)
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
	c.places.add(p.loads, -1)
}
