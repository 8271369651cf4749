// How long stages take here, as was seen lately.

package api

import (
	"slices"
	"time"
)

// paceSize is how many runs of an engine are remembered: enough for a median that one
// odd run does not move, few enough that a new card or model shows soon.
const paceSize = 16

// pace remembers the last runs of every task by the engine that worked.
type pace struct {
	runs   map[[2]string]*runs // by task and engine
	engine map[string]string   // by task: that worked last
}

type runs struct {
	took [paceSize]time.Duration
	n    int // that were ever seen
}

func newPace() pace { return pace{runs: map[[2]string]*runs{}, engine: map[string]string{}} }

func (p pace) note(task, engine string, took time.Duration) {
	if took < 0 {
		return // two machines' clocks
	}
	key := [2]string{task, engine}
	r := p.runs[key]
	if r == nil {
		r = &runs{}
		p.runs[key] = r
	}
	r.took[r.n%paceSize] = took
	r.n++
	p.engine[task] = engine
}

// expected is the median of the last runs with the engine that worked last; false for a
// task that was never seen to end well.
func (p pace) expected(task string) (time.Duration, bool) {
	engine, seen := p.engine[task]
	if !seen {
		return 0, false
	}
	r := p.runs[[2]string{task, engine}]
	took := slices.Clone(r.took[:min(r.n, paceSize)])
	slices.Sort(took)
	return took[len(took)/2], true
}
