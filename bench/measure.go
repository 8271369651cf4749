package main

// This file holds what all measures share: what one is, what it finds, how some are chosen, and
// how rounds become one figure.

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// measure is one thing that can be measured. It may find several rows; their ids begin with its own.
type measure struct {
	id  string
	run func(ctx context.Context, s setting) ([]Result, error)
}

// setting is what a measure runs in.
type setting struct {
	root     string // of the checkout, absolute
	dir      string // temporary folder, empty at first
	rounds   int
	progress io.Writer // a line for each round
}

// size is how much of something a measure uses: BENCH_<name> in the environment, or the size that the
// figures in docs/benchmarks.md are for. Smaller ones try a measure out.
func size(name string, usual int) int {
	if n, err := strconv.Atoi(os.Getenv("BENCH_" + name)); err == nil && n > 0 {
		return n
	}
	return usual
}

// Result is one row of the table and of results.json. Peer, PeerValue and Ratio stay empty where
// there is nothing to compare with.
type Result struct {
	ID        string   `json:"id"`
	Value     float64  `json:"value"` // median of the rounds, in Unit
	Unit      string   `json:"unit"`
	Peer      string   `json:"peer"`
	PeerValue *float64 `json:"peer_value"` // median of the peer's rounds, in Unit
	Ratio     *float64 `json:"ratio"`      // Value over PeerValue
	Rounds    int      `json:"rounds"`
	Min       float64  `json:"min"` // of the rounds that Value is the median of
	Max       float64  `json:"max"`
}

// newResult makes a row from at least one round.
func newResult(id, unit string, rounds []float64) Result {
	return Result{ID: id, Value: median(rounds), Unit: unit, Rounds: len(rounds), Min: slices.Min(rounds), Max: slices.Max(rounds)}
}

// against adds the peer's rounds, which were run in between ours.
func (r Result) against(peer string, rounds []float64) Result {
	value := median(rounds)
	ratio := r.Value / value
	r.Peer, r.PeerValue, r.Ratio = peer, &value, &ratio
	return r
}

// median is the middle of at least one value, or the mean of the two in the middle.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// choose finds the measures that a list such as "footprint,talking_photo" names; an empty list
// names all. They come in the order of all, each once.
func choose(all []measure, list string) ([]measure, error) {
	var ids []string
	for _, m := range all {
		ids = append(ids, m.id)
	}
	wanted := strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
	for _, id := range wanted {
		if !slices.Contains(ids, id) {
			return nil, fmt.Errorf("there is no measure %q; choose from %s", id, strings.Join(ids, ", "))
		}
	}
	if len(wanted) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(m measure) bool { return !slices.Contains(wanted, m.id) }), nil
}
