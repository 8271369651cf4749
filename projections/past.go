// One job as it was, straight from the log.

package projections

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// ErrNoSuchMoment says that the job is known, but not at that moment.
var ErrNoSuchMoment = errors.New("the job was not there then")

// ErrOtherPartition says that a place lies in a partition which does not hold the job.
var ErrOtherPartition = errors.New("this place is in another partition than the job's")

const (
	hintTimeout = 500 * time.Millisecond // of asking the tables where a job begins
	pollRecords = 2000                   // at once; bounds memory
)

// History answers what was, from the log alone; safe for concurrent use.
type History struct {
	log    source
	tables *Reader // says where a job begins, if it can; nil: nobody does
}

// NewHistory makes a history. With tables a job is found where its row says that it
// begins; without them, or where they are wrong, its partition is read from the start.
func NewHistory(log *eventlog.Log, tables *Reader) *History {
	return &History{log: wholeLog{log}, tables: tables}
}

// PastJob is a job as it was, as its rows were.
type PastJob struct {
	Job       *Job
	Stages    []*Stage    // in the order of its graph
	Artifacts []*Artifact // oldest first
	Events    []*JobEvent // all of them up to then, oldest first
}

// Job is one job of the tenant as it was at the moment; a time that has not come yet
// is now. It reads the job's partition alone and keeps nothing but the job's own
// facts. Errors: ErrNotFound, ErrNoSuchMoment, ErrOtherPartition, an unreadable fact
// of the job, an error of the log, or the context's.
func (h *History) Job(ctx context.Context, tenant, id string, at Moment) (*PastJob, error) {
	return h.job(ctx, tenant, id, at, func(end int64) int64 { return h.hint(ctx, tenant, id, end) })
}

// JobFrom is Job for who knows the offset of the job's first event.
func (h *History) JobFrom(ctx context.Context, tenant, id string, first int64, at Moment) (*PastJob, error) {
	return h.job(ctx, tenant, id, at, func(int64) int64 { return first })
}

func (h *History) job(ctx context.Context, tenant, id string, at Moment, hint func(end int64) int64) (*PastJob, error) {
	tp, whole, err := home(ctx, h.log, id)
	if err != nil {
		return nil, err
	}
	end := whole.Stable
	if at.Place != nil {
		switch {
		case at.Place.Partition != tp.Partition:
			return nil, fmt.Errorf("%w: job %s lies in partition %d", ErrOtherPartition, id, tp.Partition)
		case at.Place.Offset >= end:
			return nil, fmt.Errorf("%w: partition %d ends before offset %d", ErrNoSuchMoment, tp.Partition, at.Place.Offset)
		}
		end = at.Place.Offset + 1
	}
	t := trail{id: id, tp: tp, at: at}
	if from := hint(end); from > 0 {
		if err := t.read(ctx, h.log, from, end); err != nil {
			return nil, err
		}
	}
	if !t.begins() { // the tables did not know, or were wrong
		t = trail{id: id, tp: tp, at: at}
		if err := t.read(ctx, h.log, 0, end); err != nil {
			return nil, err
		}
	}
	return t.job(ctx, h.log, tenant, whole.Stable)
}

// home is the partition that holds a job's facts, and what is in it.
func home(ctx context.Context, log source, jobID string) (eventlog.TopicPartition, eventlog.Range, error) {
	tp := eventlog.TopicPartition{Topic: events.TopicJobEvents}
	ranges, err := log.Ranges(ctx, tp.Topic)
	if err != nil {
		return tp, eventlog.Range{}, err
	}
	n := 0
	for found := range ranges {
		if found.Topic == tp.Topic {
			n++
		}
	}
	if n == 0 {
		return tp, eventlog.Range{}, fmt.Errorf("the log has no topic %s", tp.Topic)
	}
	tp.Partition = eventlog.PartitionFor(jobID, n)
	return tp, ranges[tp], nil
}

// hint is the offset of the job's first event according to the tables; 0: read all.
func (h *History) hint(ctx context.Context, tenant, id string, end int64) (first int64) {
	if h.tables == nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, hintTimeout)
	defer cancel()
	err := h.tables.pool.QueryRow(ctx, "SELECT first_offset FROM "+views+".jobs WHERE id = $1 AND tenant = $2", id, tenant).Scan(&first)
	if err != nil || first >= end {
		return 0
	}
	return first
}

// trail is what was found of one job's facts.
type trail struct {
	id    string
	tp    eventlog.TopicPartition
	at    Moment
	facts []fact
	next  *fact // the first one behind the moment
}

// begins says whether the chain's first fact is among those found.
func (t *trail) begins() bool {
	switch {
	case len(t.facts) > 0:
		return t.facts[0].message.Version == 1
	case t.next != nil:
		return t.next.message.Version == 1
	}
	return false
}

// read collects the job's facts from one offset up to another, not included, or up
// to the moment.
func (t *trail) read(ctx context.Context, log source, from, end int64) error {
	if from >= end {
		return nil
	}
	c, err := log.reader(eventlog.Offsets{t.tp: from})
	if err != nil {
		return err
	}
	defer c.Close()
	for from < end {
		b, err := c.Poll(ctx, pollRecords)
		if err != nil {
			return err
		}
		for _, r := range b.Records {
			if r.Offset >= end {
				return nil
			}
			if done, err := t.take(r); err != nil || done {
				return err
			}
		}
		from = max(from, b.Next[t.tp])
	}
	return nil
}

// take keeps a record of the job, and says whether the moment has passed. Another
// job's record tells that too, for within a partition time never goes back.
func (t *trail) take(r eventlog.Record) (done bool, err error) {
	if r.Key != t.id {
		if len(t.facts) == 0 || t.at.Time.IsZero() {
			return false, nil // it is still to be said whether the job began later
		}
		other, _, err := events.DecodeOf(r.Value, func([]byte) bool { return false })
		return err == nil && t.at.after(other.OccurredAt), nil
	}
	x, err := decode(r)
	if err != nil {
		return false, err
	}
	if t.at.after(x.message.OccurredAt) || t.at.Number > 0 && x.message.Version > t.at.Number {
		t.next = &x
		return true, nil
	}
	t.facts = append(t.facts, x)
	return false, nil
}

// job folds what was found.
func (t *trail) job(ctx context.Context, log source, tenant string, end int64) (*PastJob, error) {
	f := newFold()
	f.applyAll(t.facts)
	j := f.jobs[t.id]
	if j == nil {
		return nil, t.missing(ctx, log, tenant, end)
	}
	if j.row.Tenant != tenant {
		return nil, ErrNotFound
	}
	if t.at.Number > j.row.Version {
		return nil, fmt.Errorf("%w: job %s has come to version %d, not to %d", ErrNoSuchMoment, t.id, j.row.Version, t.at.Number)
	}
	told, err := auditTrail(f.events)
	if err != nil {
		return nil, err
	}
	files := slices.SortedFunc(maps.Values(f.artifacts), func(a, b *Artifact) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return &PastJob{Job: &j.row, Stages: j.stages, Artifacts: files, Events: told}, nil
}

// missing says why there is no job: it began after the moment, or never.
func (t *trail) missing(ctx context.Context, log source, tenant string, end int64) error {
	if t.next == nil && t.at.Place != nil { // nothing behind the place was read
		later := trail{id: t.id, tp: t.tp, at: Moment{Number: 1}}
		if err := later.read(ctx, log, t.at.Place.Offset+1, end); err != nil {
			return err
		}
		if len(later.facts) > 0 {
			t.next = &later.facts[0]
		}
	}
	if t.next == nil || t.next.message.Tenant != tenant {
		return ErrNotFound
	}
	return fmt.Errorf("%w: job %s began at %s, with the event at %d:%d", ErrNoSuchMoment, t.id,
		t.next.message.OccurredAt.UTC().Format(time.RFC3339Nano), t.tp.Partition, t.next.offset)
}
