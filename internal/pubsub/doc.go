// Package pubsub carries Watermill over the log: a publisher and a subscriber for
// ordinary consumers, and the glue that runs a Watermill handler inside the
// transaction runner and the lanes of eventlog.
//
// What belongs here: translation between records and messages, and who calls a
// handler. What does not: what a handler does, and how the log is reached.
package pubsub
