// From records to facts.

package projections

import (
	"slices"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// decoded is what one poll brought, or several.
type decoded struct {
	facts      []fact
	next       eventlog.Offsets
	unreadable map[eventlog.TopicPartition]error // what stops a partition, which next leaves at the record at fault
}

func newDecoded() decoded {
	return decoded{next: make(eventlog.Offsets), unreadable: make(map[eventlog.TopicPartition]error)}
}

// batchReader decodes what polls bring, up to the goal and to the first unreadable record of each partition.
type batchReader struct {
	goal    eventlog.Offsets // nil: there is none
	at      eventlog.Offsets
	stopped map[eventlog.TopicPartition]bool
}

func newBatchReader(goal, at eventlog.Offsets) *batchReader {
	return &batchReader{goal: goal, at: at, stopped: make(map[eventlog.TopicPartition]bool)}
}

func (r *batchReader) reached() bool {
	for tp, o := range r.at {
		if o < r.goal[tp] && !r.stopped[tp] {
			return false
		}
	}
	return true
}

func (r *batchReader) decode(polled eventlog.Batch, b *decoded) {
	b.facts = slices.Grow(b.facts, len(polled.Records))
	for _, record := range polled.Records {
		tp := record.At()
		if r.stopped[tp] || (r.goal != nil && record.Offset >= r.goal[tp]) {
			continue
		}
		x, err := decode(record)
		if err != nil {
			r.stopped[tp], b.unreadable[tp] = true, err
			r.at[tp], b.next[tp] = record.Offset, record.Offset
			continue
		}
		b.facts = append(b.facts, x)
	}
	for tp, o := range polled.Next {
		if r.stopped[tp] {
			continue
		}
		if r.goal != nil {
			o = min(o, r.goal[tp])
		}
		r.at[tp], b.next[tp] = o, o
	}
}
