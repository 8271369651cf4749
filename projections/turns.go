// Turns: what the partitions of a live session write together, and who is next.

package projections

import (
	"slices"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// turn is what one transaction writes: the records at the heads of some queues.
type turn struct {
	parts []*part
	batch eventlog.Batch // records by partition
	small bool           // far from a full batch
}

// dispatch gives turns out as long as there are some to give. The caller holds mu.
//
// Partitions that have little take turns together, one transaction at a time: while it
// runs, what comes waits and is the next one. So a trickle in many partitions costs few
// commits, and nobody waits for longer than one. Full batches are written beside it.
func (l *live) dispatch() {
	for l.running < l.most && len(l.waiting) > 0 {
		chosen, small := l.choose()
		if len(chosen) == 0 {
			return
		}
		t := turn{parts: chosen, small: small, batch: eventlog.Batch{Next: make(eventlog.Offsets)}}
		for _, p := range chosen {
			n := min(len(p.queue), l.p.cfg.BatchSize)
			t.batch.Records = append(t.batch.Records, p.queue[:n]...)
			t.batch.Next[p.tp] = p.next
			if n < len(p.queue) {
				t.batch.Next[p.tp] = p.queue[n-1].Offset + 1
			}
		}
		l.waiting = slices.DeleteFunc(l.waiting, func(p *part) bool {
			_, taken := t.batch.Next[p.tp]
			return taken
		})
		l.running++
		l.small = l.small || small
		chosen[0].turn <- t
	}
}

// choose is who of those that wait has the next turn; nobody, if it would be a second small one.
func (l *live) choose() (chosen []*part, small bool) {
	size := l.p.cfg.BatchSize
	alone := slices.IndexFunc(l.waiting, func(p *part) bool { return p.blocked || 2*len(p.queue) >= size })
	if alone == 0 {
		return []*part{l.waiting[0]}, false
	}
	n := 0
	for _, p := range l.waiting {
		if k := len(p.queue); !p.blocked && 2*k < size && n+k <= size {
			chosen, n = append(chosen, p), n+k
		}
	}
	if small = 2*n < size; !small || !l.small {
		return chosen, small
	}
	if alone > 0 {
		return []*part{l.waiting[alone]}, false
	}
	return nil, false
}
