// Package projections makes the tables of PostgreSQL from the facts on the log,
// and reads them. A table can be thrown away at any time: the log makes it again,
// byte for byte.
//
// What belongs here: a file per table with its row, its Apply and its queries; the
// projector that keeps the tables up to date; the rebuild; the proof that tables
// equal the log. What does not: decisions (aggregates), SQL that makes tables
// (migrations), HTTP (api). Nothing here writes to the log.
//
// Promises:
//
//   - Rows are the fold of each partition up to its checkpoint, which changes in the
//     same transaction; so every event counts exactly once, also with two projectors.
//   - A fact counts only if it continues its aggregate's chain. A duplicate is
//     skipped; anything else is counted as rejected and changes nothing.
//   - A record that cannot be read stops its partition, with a sentence in Status;
//     the other partitions go on. So they do while somebody else has locked what one
//     partition is about to write.
//   - Tables that are missing, damaged or older than the program are built from the
//     log beside what is there. Readers see one whole generation, before and after the
//     switch, and never one that knows less than what they saw before.
//   - A row holds nothing but what events say: no clock, no serial, no generation.
package projections
