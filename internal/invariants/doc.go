// Package invariants holds what must be true of every history of the system,
// whatever broke while it was made. Each promise is one named function over a
// History; every layer of tests calls them.
//
// What belongs here: an independent reading of the log, written from what is
// promised and not from the code that keeps it. What may not: deciding, I/O, and
// anything that would make a checker agree with the code by sharing it. The one
// exception is L9, which is about the fold itself.
package invariants
