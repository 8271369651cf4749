// Who waits on a lane, in order.

package api

import (
	"cmp"
	"slices"
)

// waiting is a stage that lies on its lane.
type waiting struct {
	since int64  // Unix nanoseconds
	stage string // of which job, and which of its stages
}

func (a waiting) compare(b waiting) int {
	return cmp.Or(cmp.Compare(a.since, b.since), cmp.Compare(a.stage, b.stage))
}

// lineup holds those who wait, the one that came first in front. Most join at the end
// and leave near the front, which costs little however many there are.
type lineup []waiting

func (l *lineup) join(w waiting) {
	if i, there := slices.BinarySearchFunc(*l, w, waiting.compare); !there {
		*l = slices.Insert(*l, i, w)
	}
}

func (l *lineup) leave(w waiting) {
	i, there := slices.BinarySearchFunc(*l, w, waiting.compare)
	switch q := *l; {
	case !there:
	case i < len(q)/2: // the shorter side moves
		copy(q[1:i+1], q[:i])
		q[0] = waiting{}
		*l = q[1:]
	default:
		*l = slices.Delete(q, i, i+1)
	}
}

// ahead is how many wait before w, which need not be there itself.
func (l lineup) ahead(w waiting) int {
	i, _ := slices.BinarySearchFunc(l, w, waiting.compare)
	return i
}
