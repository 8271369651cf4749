// eventlog.State: recovering a partition's state, committing what was decided
// over it, or dropping it all.

package handlers

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// metaPrefix opens the commit metadata: the offset in jobs.events of the oldest
// live job's first fact.
const metaPrefix = "oldest="

// Recover folds the partition's facts from the oldest live job on, all of its
// profiles, and the index of ended jobs.
func (h *Handler) Recover(ctx context.Context, n int32, meta string) error {
	if err := h.dir.ready(ctx); err != nil {
		return err
	}
	from := int64(0)
	if s, ok := strings.CutPrefix(meta, metaPrefix); ok {
		var err error
		if from, err = strconv.ParseInt(s, 10, 64); err != nil {
			return fmt.Errorf("the commit metadata %q names no offset: %w", meta, err)
		}
	}
	p := newPartition()
	if _, err := h.replay(ctx, eventlog.TopicPartition{Topic: events.TopicJobIndex, Partition: n}, 0, p.foldIndex); err != nil {
		return err
	}
	if _, err := h.replay(ctx, eventlog.TopicPartition{Topic: events.TopicProfileEvents, Partition: n}, 0, h.foldAll(p, h.foldProfile)); err != nil {
		return err
	}
	end, err := h.replay(ctx, eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: n}, from, h.foldAll(p, h.foldJob))
	if err != nil {
		return err
	}
	p.end = end
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parts[n] = p
	h.cfg.Logger.Info("partition recovered", "partition", n, "from", from, "end", end, "live_jobs", len(p.jobs), "profiles", len(p.profiles))
	return nil
}

// foldAll decodes records and folds each. What cannot be read stops recovery: to
// decide over a hole would be to guess.
func (h *Handler) foldAll(p *partition, fold func(*partition, events.Message, int64) error) func([]eventlog.Record) error {
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

func (h *Handler) foldJob(p *partition, m events.Message, offset int64) error {
	live := p.jobs[m.AggregateID]
	if live == nil {
		if m.Version != 1 {
			return nil // the chain began before the replay's start: the job has ended
		}
		live = &liveJob{first: offset}
	}
	next, err := live.Apply(m)
	if err != nil {
		h.metrics.rejected.Inc()
		h.cfg.Logger.Error("a fact is not applied", "error", err, "offset", offset)
		return nil
	}
	live.Job = next
	if m.Version == 1 {
		p.jobs[m.AggregateID] = live
		p.started = append(p.started, live)
	}
	if live.Terminal() {
		p.ended[live.ID] = indexEntryOf(live.Job)
		delete(p.jobs, live.ID)
	}
	return nil
}

func (h *Handler) foldProfile(p *partition, m events.Message, offset int64) error {
	next, err := p.profiles[m.AggregateID].Apply(m)
	if err != nil {
		h.metrics.rejected.Inc()
		h.cfg.Logger.Error("a fact is not applied", "error", err, "offset", offset)
		return nil
	}
	p.profiles[m.AggregateID] = next
	return nil
}

func (p *partition) foldIndex(records []eventlog.Record) error {
	for _, r := range records {
		if len(r.Value) == 0 {
			delete(p.ended, r.Key)
			continue
		}
		var e indexEntry
		if err := json.Unmarshal(r.Value, &e); err != nil {
			return fmt.Errorf("cannot read the index entry at %s offset %d: %w", r.At(), r.Offset, err)
		}
		p.ended[r.Key] = e
	}
	return nil
}

// Meta is the offset from which the partition would be recovered after this commit.
func (h *Handler) Meta(n int32, out []eventlog.Record) string {
	p := h.parts[n]
	oldest := p.oldest()
	// The oldest job may end in this very transaction, or be its first.
	if len(p.started) == 0 || p.endsNow(p.started[0].ID) {
		oldest = p.oldestAfter(out)
	}
	return metaPrefix + strconv.FormatInt(oldest, 10)
}

func (p *partition) endsNow(id string) bool {
	j, ok := p.open.jobs[id]
	return ok && j.Terminal()
}

// oldestAfter looks through what lives after the open transaction.
func (p *partition) oldestAfter(out []eventlog.Record) int64 {
	for _, l := range p.started {
		if p.jobs[l.ID] == l && !p.endsNow(l.ID) {
			return l.first
		}
	}
	end := p.end
	for _, r := range out {
		if r.Topic != events.TopicJobEvents {
			continue
		}
		if j, ok := p.open.jobs[r.Key]; ok && !j.Terminal() {
			return r.Offset // records are in order, so this is the job's first
		}
		end = r.Offset + 1
	}
	return end
}

// Committed merges what was decided: it is on the log now.
func (h *Handler) Committed(n int32, out []eventlog.Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.parts[n]
	for _, r := range out {
		if r.Topic != events.TopicJobEvents {
			continue
		}
		p.end = r.Offset + 1
		if p.jobs[r.Key] == nil {
			live := &liveJob{first: r.Offset}
			live.ID = r.Key
			p.jobs[r.Key] = live
			p.started = append(p.started, live)
		}
	}
	for id, j := range p.open.jobs {
		if j.Terminal() {
			p.ended[id] = indexEntryOf(j)
			delete(p.jobs, id)
			continue
		}
		p.jobs[id].Job = j
	}
	for id, f := range p.open.profiles {
		if f.Chain.Version > 0 {
			p.profiles[id] = f
		}
	}
	if p.open.lastAt.After(p.lastAt) {
		p.lastAt = p.open.lastAt
	}
	for _, d := range p.open.facts {
		h.observe(d.job, d.fact)
	}
	p.open = overlay{}
}

// Drop forgets a partition, with what was decided and not committed: another
// process owns it now, or it is recovered again before its next decision.
func (h *Handler) Drop(n int32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.parts, n)
}

// Live counts the live jobs of the partitions owned now.
func (h *Handler) Live() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, p := range h.parts {
		n += len(p.jobs)
	}
	return n
}

var _ eventlog.State = (*Handler)(nil)
