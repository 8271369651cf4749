// Package brokersim runs the real client code (handlers, lanes, runner, readers)
// over a broker in memory, in fake time, under faults that a seed plans. It holds
// tests only.
//
// The tests are built with the tag synctests: the log's client then locks with
// channels. A goroutine that waits for a sync.Mutex stops the clock of its bubble
// (testing/synctest), and the client holds some of its own over whole requests.
//
// Most seeds take a minute or two of fake time, in which much goes wrong. In some,
// hours pass in which little happens, so that what waits for hours is met too:
// deadlines, approvals, schedules, long back-offs, long absences.
//
// A seed decides the plan: what fails, when and for how long. It does not decide
// how goroutines interleave, so a failing seed is likely, not certain, to fail
// again; the plan and the events before the failure are printed with it.
package brokersim
