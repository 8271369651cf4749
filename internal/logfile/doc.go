// Package logfile carries a history: records out of a log into a file of JSON lines,
// and out of such a file into another log.
//
// What belongs here: the file's format, exporting, importing. What does not: what a
// record means, and how it is written to a broker (eventlog).
//
// The format, one JSON object a line, in UTF-8:
//
//	{"myspinbot_history":1,"partitions":{"jobs.events":12},"ends":{"jobs.events":[0,0,0,1044,…]}}
//	{"topic":"jobs.events","partition":3,"offset":1042,"time":"2026-03-01T12:00:00.123Z","key":"…","headers":[["ce_id","…"]],"value":{…}}
//	{"end":true,"records":1}
//
// The first line names the number of partitions of every topic in the file, and, of a
// whole history, where each ended, so that what is written next does not get an offset
// that a reader has passed already. A value
// that is no JSON, or that one line cannot hold as it is, stands in base64 under
// value_base64; a record without a value has neither. Records of one partition stand
// in the order of their offsets. The last line tells a whole file from one that was cut.
package logfile
