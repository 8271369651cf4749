// Package handlers turns inputs into facts and facts into the next commands. It
// is the only writer of jobs.events and profiles.events: the owner of a partition
// folds its inputs one after another over state in memory.
//
// What belongs here: the route table, recovery, the clock, what follows from a
// fact. What may not: the rules themselves (package aggregates), engines, tables,
// HTTP. This package never imports projections or gpu-consumers.
package handlers
