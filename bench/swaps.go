package main

// This file measures placement alone, in simulated time: how often lanes change their models.

import (
	"context"
	"fmt"
	"time"

	"github.com/myspinbot/myspinbot/internal/placement/lanesim"
)

// measureSwaps places the same attempts by affinity and by round robin.
func measureSwaps(_ context.Context, s setting) ([]Result, error) {
	load := lanesim.Load{Partitions: 4, Attempts: size("SWAP_ATTEMPTS", 100_000), Models: []float64{.4, .3, .2, .1}, Longest: 10 * time.Second, Swap: 5 * time.Second, Busy: .5}
	var swaps, peer, longest, peerLongest, bound, limit []float64
	for i := range s.rounds {
		seed := uint64(i) + 1 //nolint:gosec // a count
		ours, theirs := lanesim.Run(load, seed, lanesim.Affine), lanesim.Run(load, seed, lanesim.RoundRobin)
		share := 100 / float64(load.Attempts)
		swaps, peer = append(swaps, share*float64(ours.Swaps)), append(peer, share*float64(theirs.Swaps))
		longest, peerLongest = append(longest, ours.Longest.Seconds()), append(peerLongest, theirs.Longest.Seconds())
		bound, limit = append(bound, 100*ours.Bound), append(limit, 100)
		fmt.Fprintf(s.progress, "  round %d: %.1f %% of the attempts change the model, by round robin %.1f %%; the longest wait is %.0f s, by round robin %.0f s, and %.0f %% of what it may be\n",
			i+1, swaps[i], peer[i], longest[i], peerLongest[i], bound[i])
	}
	return []Result{newResult("model_swaps", "%", swaps).against("round robin", peer), newResult("model_swaps.wait", "s", longest).against("round robin", peerLongest),
		newResult("model_swaps.bound", "%", bound).against("the bound", limit)}, nil
}
