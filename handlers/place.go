// Placement: which partition of a lane an attempt goes to. A partition is a queue of
// its own, so the shortest is best, and among the short ones that whose worker has
// the model in memory already.

package handlers

import (
	"math"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/placement"
)

// places counts the attempts that this handler knows to lie on each partition of the
// lanes: those of its own jobs. Another handler's it does not know.
type places struct {
	lanes     map[string]*laneLoad
	tentative []*int // counts of attempts whose facts are being decided
}

type laneLoad struct {
	queued queues
	model  []string // by partition: what it was last given
	ahead  []int    // scratch of place
}

// queues are the attempts that lie on a lane or run, interactive and batch, by partition.
type queues [][2]int

// loads are a partition's own share of the queues, by lane.
type loads map[string]queues

func newPlaces(lanes map[string]int) places {
	ps := places{lanes: map[string]*laneLoad{}}
	for lane, n := range lanes {
		n = max(1, n)
		ps.lanes[lane] = &laneLoad{queued: make(queues, n), model: make([]string, n)}
	}
	return ps
}

// place picks a partition, among those that suit best, and remembers the model that it
// was given. An attempt that waits for nobody counts only what goes before it.
func (ps *places) place(lane, model, attemptID string, batch bool, suits func(int32) aggregates.Suit) int32 {
	l := ps.lanes[lane]
	if l == nil {
		return 0
	}
	l.ahead = l.ahead[:0]
	for _, q := range l.queued {
		n := q[0]
		if batch {
			n += q[1]
		}
		l.ahead = append(l.ahead, n)
	}
	if suits != nil {
		bar(l.ahead, suits)
	}
	// Handlers that do not know of one another spread.
	best := placement.Pick(l.ahead, l.model, model, int(eventlog.PartitionFor(attemptID, len(l.queued))))
	l.model[best] = model
	n := 0
	if batch {
		n = 1
	}
	l.queued[best][n]++
	ps.tentative = append(ps.tentative, &l.queued[best][n])
	return int32(best) //nolint:gosec // partitions are few
}

// bar makes the queues of partitions that suit less well than others too long to be
// chosen.
func bar(ahead []int, suits func(int32) aggregates.Suit) {
	best := aggregates.SuitsNot
	for p := range ahead {
		best = min(best, suits(int32(p))) //nolint:gosec // partitions are few
	}
	for p := range ahead {
		if suits(int32(p)) > best { //nolint:gosec // partitions are few
			ahead[p] = math.MaxInt / 2
		}
	}
}

// settle takes back what place has counted: the job's state after the decision says
// the same, and is counted by move.
func (ps *places) settle() {
	for _, n := range ps.tentative {
		*n--
	}
	ps.tentative = ps.tentative[:0]
}

// move counts a job's attempts as they are after, and no longer as they were before.
func (ps *places) move(own loads, before, after *aggregates.Job) {
	ps.count(own, before, -1, true)
	ps.count(own, after, 1, true)
}

// share counts a job's attempts among a partition's own alone.
func (ps *places) share(own loads, j *aggregates.Job) { ps.count(own, j, 1, false) }

func (ps *places) count(own loads, j *aggregates.Job, n int, everywhere bool) {
	if j.Terminal() {
		return // what still lies there is answered with a stop
	}
	class := 0
	if j.Request.Priority == events.PriorityBatch {
		class = 1
	}
	for i, s := range j.Stages {
		if s.State != aggregates.StageQueued && s.State != aggregates.StageRunning {
			continue
		}
		lane := j.Graph.Nodes[i].Lane
		l := ps.lanes[lane]
		if l == nil || int(s.Partition) >= len(l.queued) {
			continue // the lane had more partitions then
		}
		if own[lane] == nil {
			own[lane] = make(queues, len(l.queued))
		}
		own[lane][s.Partition][class] += n
		if everywhere {
			l.queued[s.Partition][class] += n
		}
	}
}

// add counts a partition's share n times, or takes it away.
func (ps *places) add(own loads, n int) {
	for lane, q := range own {
		for i := range q {
			ps.lanes[lane].queued[i][0] += n * q[i][0]
			ps.lanes[lane].queued[i][1] += n * q[i][1]
		}
	}
}
