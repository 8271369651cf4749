// Package events is every word on the wire: the envelope, the facts, the
// commands, the answers of the workers, their codec, and the ids and seals they
// carry. Other Go programs may import it to read the log.
//
// What belongs here: a type per record kind, its wire name and schema version,
// and nothing that decides. What does not: policy, storage, clocks, clients.
// The package stands on the standard library alone.
package events
