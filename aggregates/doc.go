// Package aggregates decides. A job and a profile are each two pure functions:
// Decide(state, command) gives facts, Evolve(state, fact) gives the next state.
// The planner and the catalogue of pipelines and tasks live here too.
//
// What belongs here: rules. What may not: clocks, randomness, contexts, logging,
// clients; time and ids arrive inside the command. The package stands on package
// events and the standard library.
package aggregates
