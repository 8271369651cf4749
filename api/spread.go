// How far off forecasts were lately, so that one can be told with its spread.

package api

import (
	"cmp"
	"math"
	"slices"
)

const (
	spreadSize  = 50 // forecasts that are remembered
	spreadLeast = 10 // of them, before anything is said
)

// spread remembers what forecast jobs took, each by what was predicted of it.
type spread struct {
	off [spreadSize]float64
	n   int // that were ever seen
}

func (s *spread) note(off float64) {
	s.off[s.n%spreadSize] = off
	s.n++
}

// around is the time within which eight of ten jobs of such a forecast were done, in
// seconds; nil while too few were.
func (s *spread) around(seconds int64) *EtaRange {
	if s.n < spreadLeast {
		return nil
	}
	off := slices.Clone(s.off[:min(s.n, spreadSize)])
	slices.SortFunc(off, cmp.Compare[float64])
	at := func(part float64) int64 {
		return int64(math.Round(float64(seconds) * off[int(part*float64(len(off)-1))]))
	}
	return &EtaRange{Low: min(seconds, at(0.1)), High: max(seconds, at(0.9))}
}
