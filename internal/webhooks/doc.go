// Package webhooks tells others of jobs, over HTTP, as Standard Webhooks
// (https://www.standardwebhooks.com) has it: signed, repeated over days, and never to
// an address inside. It is the notifier, and what the API needs of it: the check of
// an address, and what became of a job's deliveries.
//
// What belongs here: signatures, addresses, the schedule, the stream of deliveries.
// What does not: what a job looks like (api), how a key is kept (objects), how the
// log is reached (eventlog).
//
// Rules, in the order in which they matter:
//
//  1. The log is the truth. Each event that a webhook asks for becomes one
//     webhook.queued, in the transaction that consumes the event. What is due is a fold
//     of webhooks.deliveries, and nothing of it is kept elsewhere.
//  2. A message goes out at least once. An attempt is recorded after its answer: who
//     dies in between sends again, under the same id.
//  3. An event that is older than the schedule is never sent, whoever reads the log anew.
//  4. Addresses are checked when dialling, with nothing between the check and the
//     connection. Nobody is redirected.
//  5. A slow receiver holds back nobody but itself.
package webhooks
