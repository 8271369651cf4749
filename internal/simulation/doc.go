// Package simulation runs the whole system in one goroutine from one number: the
// real deciding core, the real aggregates and the real folds, over a log, workers,
// clients, a clock and an object store that are modelled. The seed picks every
// step, so that a failing run is run again exactly as it was.
//
// What belongs here: models of what surrounds the deciding core, with every way in
// which they fail, and the order of steps. What may not: judging (package
// invariants), goroutines, a clock of its own, randomness that is not the seed's.
package simulation
