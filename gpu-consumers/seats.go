// Which partitions of the lanes are this worker's, and what it tells of itself to those
// who share them out: with more workers than partitions, those who can do what others
// cannot get one.

package gpu

import (
	"slices"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// assigned notes the partitions of a lane that are this worker's now.
func (r *roster) assigned(lane string, partitions []int32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Equal(r.owned[lane], partitions) {
		r.owned[lane] = partitions
		signal(r.changed)
	}
}

// skills name what jobs can ask for that the worker can do on a lane: a task by an engine
// of this program; by any real engine, and by that very one, at each resolution that fits
// the card. So a real engine counts for more than a built-in one, which most have.
func (r *roster) skills(lane string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for i, s := range r.states {
		if !s.known || s.gap != nil || taskLanes[s.can.Task] != lane {
			continue
		}
		task := s.can.Task + " " + s.can.Takes
		if !events.IsReal(s.can.Fidelity) {
			out = append(out, task)
			continue
		}
		for _, size := range resolutions {
			a := &Attempt{Task: s.can.Task, Params: map[string]any{"resolution": size.name}}
			if r.memory.fits(r.engines[i], s.can, a) {
				out = append(out, task+" real "+size.name, task+" "+s.can.Engine+" "+size.name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// seatPause lies between two times at which skills that have changed have the partitions
// shared out anew: for a moment no lane of the group accepts anything then.
const seatPause = 30 * time.Second

// seats keeps what is told of the skills current.
type seats struct {
	roster *roster

	mu    sync.Mutex
	lanes interface{ Reseat() } // nil: none run yet
	told  map[string][]string   // by lane
	last  time.Time             // when the partitions were last shared out anew
}

func (s *seats) serve(lanes interface{ Reseat() }) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lanes = lanes
}

// tell is what the others are to know, and notes that they do.
func (s *seats) tell(lane string) []string {
	skills := s.roster.skills(lane)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told == nil {
		s.told = map[string][]string{}
	}
	s.told[lane] = skills
	return skills
}

// renew has the partitions shared out anew where skills are not as they were told.
func (s *seats) renew() {
	s.mu.Lock()
	lanes := s.lanes
	stale := false
	for lane, told := range s.told {
		stale = stale || !slices.Equal(told, s.roster.skills(lane))
	}
	due := lanes != nil && stale && time.Since(s.last) >= seatPause
	if due {
		s.last = time.Now()
	}
	s.mu.Unlock()
	if due {
		lanes.Reseat()
	}
}
