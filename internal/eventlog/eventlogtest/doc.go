// Package eventlogtest tests what the log promises: a broker in memory for the
// tests of other packages, and a suite that every broker the program claims to
// run on must pass.
//
// What belongs here: cases that speak to eventlog's public API alone. What does
// not: tests of its parts, which lie beside them.
package eventlogtest
