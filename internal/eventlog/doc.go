// Package eventlog is the log: a Kafka-compatible broker behind plain records.
// It is the only importer of franz-go, so that every client in the program is
// built by one factory with the settings that the promises need.
//
// What belongs here: topics and their settings, producing, committed reads, the
// transaction runner of the deciding path, the lane consumer of the workers, the
// group consumer. What does not: what a record means. Values stay bytes.
//
// Topic names in this package's API never carry the configured prefix.
package eventlog
