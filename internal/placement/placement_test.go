// Affinity against round robin, and its bound in waiting time.

package placement_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/internal/placement/lanesim"
)

// With no more models than partitions affinity makes at most half of round robin's
// changes, whatever the mix and the load, and nobody waits longer than the bound.
func TestAffinityHalvesTheChangesOfModelsWithinItsBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := lanesim.Load{Partitions: rapid.IntRange(2, 8).Draw(t, "partitions"), Attempts: 2000, Longest: 10 * time.Second}
		l.Swap = time.Duration(rapid.IntRange(1, 30).Draw(t, "swap")) * time.Second
		l.Busy = rapid.Float64Range(.1, .7).Draw(t, "busy")
		models := rapid.IntRange(2, l.Partitions).Draw(t, "models")
		for range models {
			l.Models = append(l.Models, 1/float64(models))
		}
		seed := rapid.Uint64().Draw(t, "seed")
		ours, theirs := lanesim.Run(l, seed, lanesim.Affine), lanesim.Run(l, seed, lanesim.RoundRobin)
		if 2*ours.Swaps > theirs.Swaps {
			t.Errorf("%d changes of models, round robin makes %d", ours.Swaps, theirs.Swaps)
		}
		if ours.Bound > 1 {
			t.Errorf("an attempt waited for %.2f times as long as it may", ours.Bound)
		}
	})
}
