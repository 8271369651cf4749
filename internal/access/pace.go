// How often: a bucket of requests, which fills again at an even pace.

package access

import (
	"sync"
	"time"
)

// Pace is how often somebody may ask: a bucket is the time at which it would be full again,
// and one request takes a step of it (the generic cell rate algorithm).
type Pace struct {
	step  time.Duration // between two requests
	depth time.Duration // of a full bucket
}

// NewPace is of perSecond requests over time and burst at once.
func NewPace(perSecond float64, burst int) Pace {
	step := time.Duration(float64(time.Second) / perSecond)
	return Pace{step, step * time.Duration(burst)}
}

// Take takes a request from the bucket that would be full at a time, and says when it would
// be full then; or how long the request must wait.
func (p Pace) Take(full, now time.Time) (then time.Time, wait time.Duration) {
	if full.Before(now) {
		full = now
	}
	full = full.Add(p.step)
	if wait = full.Sub(now) - p.depth; wait > 0 {
		return time.Time{}, wait
	}
	return full, 0
}

// bucket is a key's.
type bucket struct {
	perSecond float64 // 0: no limit
	pace      Pace

	mu   sync.Mutex
	full time.Time
}

func (b *bucket) take(now time.Time) (wait time.Duration) {
	if b.perSecond <= 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	then, wait := b.pace.Take(b.full, now)
	if wait <= 0 {
		b.full = then
	}
	return wait
}
