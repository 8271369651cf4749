// Package erasure carries out what a profile.erased says: it deletes the keys and the
// objects of erased profiles.
//
// What belongs here: who is to be erased, when to look again, what is told of it. What
// does not: how keys and objects lie (objects), what an erased profile is (aggregates),
// how the log is reached (eventlog).
//
// Rules, in the order in which they matter:
//
//  1. The log is the truth. Who is erased and who is done is a fold of profiles.events;
//     nothing of it is kept elsewhere. Who dies in between begins anew, and so does every
//     other process that plays this role: all that is done here may be done twice.
//  2. Jobs of the profile are asked to end, then the keys go, then the objects: a text is
//     unreadable as soon as its key is gone, and jobs are found by their keys.
//  3. Completed is said when a look finds nothing, a while after one that may have found
//     something. By then no process remembers a key, and what ran was stopped or has lost
//     its lease.
//  4. It is looked again later: a worker without the log, or an API that had not heard of
//     the erasure, may write something afterwards.
//  5. What cannot be deleted is tried for ever, and a metric says so.
package erasure
