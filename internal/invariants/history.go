// What the checkers are given, and the list of them.

package invariants

import (
	"fmt"
	"time"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// History is everything that a run of the system left behind. Topics that are not
// in Records are not checked, so that a reader may give as much as it has.
type History struct {
	// Records are the committed records by topic without prefix, each partition in
	// offset order. Partitions of a topic may follow one another or mix.
	Records map[string][]eventlog.Record
	Calls   []Call // what clients asked, and what they were told
	// Settled says that faults had stopped and the system had time to finish.
	Settled bool
	Limits  Limits
	Tables  *Tables // for P1 and P3; nil: there were none
	// Object looks up an object by its URI, for A1; nil: there was no store.
	Object func(uri string) (Object, bool)
}

// Limits are the settings that the history was made under. Zero is not checked.
type Limits struct {
	MaxAttempts int           // of one stage
	BackOff     time.Duration // least time between a failure and the next attempt
	Partitions  int           // of jobs.* and gpu.events
	// Canaries are words that only ever stood in what people wrote, and secrets: none
	// of them may lie on the log in clear.
	Canaries []string
}

// Kinds of calls.
const (
	Submit  = "submit"
	Cancel  = "cancel"
	Approve = "approve"
	Deny    = "deny"
	Label   = "label"
)

// Outcomes of calls, as the client was told.
const (
	Accepted  = "accepted"
	Refused   = "refused"   // a 4xx
	Duplicate = "duplicate" // it had happened already
	Unknown   = "unknown"   // a 503, a time-out, a broken connection
)

// Call is one request of a client.
type Call struct {
	Kind       string
	JobID      string // that the client was told, or that tenant and key name
	CommandID  string // of the command that it led to; empty: not known
	Key        string // idempotency key, with its tenant if there are several
	BodyDigest string // as the command has it; empty: not known
	Outcome    string
	Status     int // of HTTP; 0: not over HTTP
	At         time.Time
}

// Tables are rows made from the facts of a history, in a form that can be compared.
type Tables struct {
	Dump string // all rows in a fixed order
	// Next are the offsets that the rows stand at, by topic and partition: every
	// record before them is in the rows. nil: all records are.
	Next map[eventlog.TopicPartition]int64
	// Fold makes rows from facts, in the order in which they are given.
	Fold func([]eventlog.Record) (string, error)
}

// Object is what a store says of an object.
type Object struct {
	Size   int64
	SHA256 string
}

// Violation is one broken promise.
type Violation struct {
	Invariant string // L1 … W2; T1 is "one transaction"
	Job       string // empty: not about one job
	Detail    string
}

// String is the violation in one line.
func (v Violation) String() string {
	if v.Job == "" {
		return v.Invariant + ": " + v.Detail
	}
	return v.Invariant + ": job " + v.Job + ": " + v.Detail
}

// Check runs every checker over one reading of the history.
func Check(h History) []Violation {
	r := read(h)
	for _, check := range checks {
		check(r)
	}
	return r.found
}

// checks are all checkers; each of them may find breaches of several promises.
var checks = []func(*reading){
	(*reading).checkChains, (*reading).checkSources, (*reading).checkStories, (*reading).checkLanes, (*reading).checkReplies,
	(*reading).checkSubmits, (*reading).checkCalls, (*reading).checkSettled, (*reading).checkFold, (*reading).checkCanaries,
	(*reading).checkTables, (*reading).checkObjects, (*reading).checkTenants,
}

// L1 says: accepted means that the command is on the log and leads to exactly one job,
// and the same key and body is the same job.
func L1(h History) []Violation { return one("L1", h) }

// L2 says: what was refused leaves no fact; what is unknown leaves at most one job of its key.
func L2(h History) []Violation { return one("L2", h) }

// L3 says: the facts of every job are legal, its versions without holes, its end single.
func L3(h History) []Violation { return one("L3", h) }

// L4 says: at most one counted result for each job, stage and attempt.
func L4(h History) []Violation { return one("L4", h) }

// L5 says: a job that is being cancelled starts nothing and ends cancelled.
func L5(h History) []Violation { return one("L5", h) }

// L6 says: an attempt that is not the current one cannot advance a job.
func L6(h History) []Violation { return one("L6", h) }

// L7 says: attempts stay within their number, back-off is respected, a deadline ends the job.
func L7(h History) []Violation { return one("L7", h) }

// L8 says: once faults have stopped, every job ends and every command is answered.
func L8(h History) []Violation { return one("L8", h) }

// L9 says: the fold is deterministic, takes duplicates, and starts at a carried-forward
// fact as well as at the beginning.
func L9(h History) []Violation { return one("L9", h) }

// L10 says: nothing personal and no secret lies in clear in any record.
func L10(h History) []Violation { return one("L10", h) }

// T1 says: what was decided from one input lies on the log once and whole: facts with
// their source, one lane command for each scheduled attempt, one reply.
func T1(h History) []Violation { return one("T1", h) }

// P1 says: rows equal the fold of the records before the offsets stored with them.
func P1(h History) []Violation { return one("P1", h) }

// P3 says: applying facts twice changes no row.
func P3(h History) []Violation { return one("P3", h) }

// A1 says: every artifact that a fact names exists, with the size and digest it says.
func A1(h History) []Violation { return one("A1", h) }

// W2 says: jobs and profiles are of one tenant each, name nothing of another's, and for
// clients of others they do not exist.
func W2(h History) []Violation { return one("W2", h) }

func one(invariant string, h History) []Violation {
	var out []Violation
	for _, v := range Check(h) {
		if v.Invariant == invariant {
			out = append(out, v)
		}
	}
	return out
}

func (r *reading) violation(invariant, job, format string, args ...any) {
	r.found = append(r.found, Violation{Invariant: invariant, Job: job, Detail: fmt.Sprintf(format, args...)})
}
