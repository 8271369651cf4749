// The fleet: which worker can do what, and which partitions of the lanes are whose, so
// that an attempt goes to a worker that can do it.
//
//  1. A worker can do an attempt if one of its engines serves the job's choice, works with
//     the inputs that there are, and has room for it on the worker's card.
//  2. A partition is its newest claimant's.
//  3. Where a lane's workers are all alike in a task, it does not matter whose partition is.

package aggregates

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Suit is how well a partition suits an attempt, the best first.
type Suit int

// How well it suits.
const (
	SuitsWell   Suit = iota // its worker can do it
	SuitUnknown             // nobody is known to have it
	SuitsNot                // its worker cannot do it
)

const (
	// MostMisplaced is how often an attempt of a stage may come to a worker that cannot
	// do it before that counts as a failure.
	MostMisplaced = 20
	// A worker's partitions are told within seconds of a change, and a silent worker's are
	// another's within a minute: the back-off of the policy, a quarter of it, doubles until
	// then.
	misplacedShare = 25
	misplacedSteps = 5
)

// Fleet is what the manifests say of each worker at work. It is never changed; nil knows
// of none.
type Fleet struct {
	workers map[string]*crew
	seats   map[string]map[int32]*crew // by lane and partition
	mixed   map[string]bool            // tasks that not all workers of their lane do alike
}

// crew is one worker.
type crew struct {
	rooms map[string][]Room // by task
	how   map[string]string // by task of the lanes that it hosts: the same text for who does it alike
}

// Fleet gathers the workers at work.
func (w *Workers) Fleet(now time.Time) *Fleet {
	f := &Fleet{workers: map[string]*crew{}, seats: map[string]map[int32]*crew{}, mixed: map[string]bool{}}
	claimed := map[string]map[int32]time.Time{}
	first := map[string]string{} // by task: how some worker does it
	for _, m := range w.Alive(now) {
		d := m.Data.(events.WorkerManifest)
		c := &crew{rooms: map[string][]Room{}}
		for _, r := range roomsOf(d) {
			c.rooms[r.Can.Task] = append(c.rooms[r.Can.Task], r)
		}
		f.workers[m.AggregateID], c.how = c, c.skills(d.Slots)
		for task, how := range c.how {
			if other, known := first[task]; known && other != how {
				f.mixed[task] = true
			}
			first[task] = how
		}
		for lane, partitions := range d.Partitions {
			if claimed[lane] == nil {
				claimed[lane], f.seats[lane] = map[int32]time.Time{}, map[int32]*crew{}
			}
			for _, p := range partitions {
				if before, taken := claimed[lane][p]; !taken || m.OccurredAt.After(before) {
					claimed[lane][p], f.seats[lane][p] = m.OccurredAt, c
				}
			}
		}
	}
	return f
}

// skills tell by task how the worker does it, for all tasks of the lanes that it hosts.
func (c *crew) skills(slots map[string]int) map[string]string {
	out := map[string]string{}
	for _, t := range Tasks() {
		if slots[t.Lane] < 1 {
			continue
		}
		var how []string
		for _, r := range c.rooms[t.Name] {
			how = append(how, fmt.Sprint(r.Can.Engine, r.Can.Builtin, r.Can.Fidelity, r.Can.Takes, r.Can.Languages, r.Can.Factor, slices.Sorted(maps.Keys(r.Over))))
		}
		slices.Sort(how)
		out[t.Name] = strings.Join(how, " ")
	}
	return out
}

// work is what an engine has to be able to do.
type work struct {
	node    events.Node
	engines string                  // that the job allows
	reduce  int                     // attempts that ran out of memory
	has     func(input string) bool // which inputs there are
}

func (d *decision) work(n events.Node) work {
	w := work{node: n, engines: d.job.Request.Engines}
	w.reduce = d.job.stage(n.ID).Reduce
	w.has = func(input string) bool { return d.has(n, input) }
	return w
}

// has says whether the node's input is there.
func (d *decision) has(n events.Node, input string) bool {
	k, _ := optionalKey(n.In[input])
	v, there := d.job.Values[k]
	return there && v.Present()
}

func (c *crew) can(w work) bool {
	size := resolutionOf(w.node)
	if asked := slices.Index(resolution.Enum, size); asked >= 0 {
		size = resolution.Enum[max(0, asked-w.reduce)]
	}
	return slices.ContainsFunc(c.rooms[w.node.Task], func(r Room) bool {
		_, over := r.Over[size]
		return !over && serves(r.Can, w.node, w.engines, w.has)
	})
}

// suits says of each partition of the node's lane how well its worker suits; nil where
// that is the same for all.
func (d *decision) suits(n events.Node) func(partition int32) Suit {
	if d.s.Fleet == nil || !d.s.Fleet.mixed[n.Task] {
		return nil
	}
	seats, w := d.s.Fleet.seats[n.Lane], d.work(n)
	return func(partition int32) Suit {
		switch c := seats[partition]; {
		case c == nil:
			return SuitUnknown
		case c.can(w):
			return SuitsWell
		}
		return SuitsNot
	}
}

// elsewhere says whether an attempt that its worker cannot do is to be tried with another
// worker, without counting: one that is not like it can do it, and the stage did not go
// astray too often.
func (d *decision) elsewhere() bool {
	i, ok := d.job.Node(d.cause.Stage)
	if !ok || d.s.Fleet == nil || d.job.Stages[i].Misplaced >= MostMisplaced {
		return false
	}
	w, its := d.work(d.job.Graph.Nodes[i]), d.s.Fleet.workers[d.cause.Worker]
	for _, c := range d.s.Fleet.workers {
		alike := its != nil && c.how[w.node.Task] == its.how[w.node.Task]
		if !alike && c.can(w) {
			return true
		}
	}
	return false
}
