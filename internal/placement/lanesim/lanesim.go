// Package lanesim is a lane in simulated time: attempts come, are placed, and run one
// after another in each partition, which changes models between them where it must.
//
// What belongs here: that, for tests and measures of placement. The program does not
// link it.
package lanesim

import (
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/myspinbot/myspinbot/internal/placement"
)

// Load is what comes.
type Load struct {
	Partitions, Attempts int
	Models               []float64     // shares of the attempts, by model
	Longest              time.Duration // attempts take half of it to all of it
	Swap                 time.Duration // to change the model
	Busy                 float64       // share of the partitions' time that the attempts themselves take
}

// Outcome is what came of it.
type Outcome struct {
	Swaps   int
	Longest time.Duration // longest wait from coming to beginning
	// Bound is the greatest share that an attempt waited of what it may:
	// (shortest queue + placement.Affinity) × (longest attempt + change of models).
	Bound float64
}

// Place chooses a partition for the n-th attempt.
type Place func(n int, ahead []int, last []string, model string) int

// Affine is the handlers' placement.
func Affine(n int, ahead []int, last []string, model string) int {
	return placement.Pick(ahead, last, model, n%len(ahead))
}

// RoundRobin takes one partition after the other.
func RoundRobin(n int, ahead []int, _ []string, _ string) int { return n % len(ahead) }

type partition struct {
	ends  []time.Duration // of the attempts that it was given, in their order
	model string
}

// Run plays a load, which follows from the seed.
func Run(l Load, seed uint64, place Place) Outcome {
	r := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // a simulation
	parts := make([]partition, l.Partitions)
	ahead, last := make([]int, l.Partitions), make([]string, l.Partitions)
	mean := 0.75 * float64(l.Longest) / l.Busy / float64(l.Partitions)
	var now time.Duration
	var out Outcome
	for n := range l.Attempts {
		now += time.Duration(r.ExpFloat64() * mean)
		took := l.Longest/2 + time.Duration(r.Int64N(int64(l.Longest/2)))
		model := l.draw(r)
		shortest := len(parts[0].ends)
		for i := range parts {
			p := &parts[i]
			for len(p.ends) > 0 && p.ends[0] <= now {
				p.ends = p.ends[1:]
			}
			ahead[i] = len(p.ends)
			shortest = min(shortest, ahead[i])
		}
		p := &parts[place(n, ahead, last, model)]
		begins := now
		if k := len(p.ends); k > 0 {
			begins = p.ends[k-1]
		}
		wait := begins - now
		if p.model != model {
			took += l.Swap
			out.Swaps++
		}
		p.model = model
		p.ends = append(p.ends, begins+took)
		for i := range parts {
			last[i] = parts[i].model
		}
		out.Longest = max(out.Longest, wait)
		out.Bound = max(out.Bound, float64(wait)/float64(time.Duration(shortest+placement.Affinity)*(l.Longest+l.Swap)))
	}
	return out
}

func (l Load) draw(r *rand.Rand) string {
	x := r.Float64()
	for i, share := range l.Models {
		if x -= share; x < 0 {
			return strconv.Itoa(i)
		}
	}
	return strconv.Itoa(len(l.Models) - 1)
}
