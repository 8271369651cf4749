//go:build synctests

// What a seed decides: the cluster, the processes, the load, and which faults come
// when. A plan is data, so that a failing seed can print it.

package brokersim_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/myspinbot/myspinbot/aggregates"
)

// plan is everything that a seed decides.
type plan struct {
	seed       uint64
	v1         bool // transactions as Redpanda has them: no KIP-890 on the broker
	brokers    int
	partitions int
	handlers   int
	workers    int
	skews      []time.Duration // of handlers' clocks, by life
	jobs       []plannedJob
	faults     []fault
	length     time.Duration // of the time with faults
	patience   time.Duration // with what is to come after them
	mutant     string        // what is wrong on purpose; empty: nothing is

	policy  aggregates.Policy
	session time.Duration // after which a silent member of a group is out
	passes  int           // how often an engine does its work in one attempt
	hours   bool          // most of the time nothing happens

	undecided []span // when no handler is there that reaches a broker, in seeds of hours
}

// span is a time, both ends since the beginning.
type span struct{ from, to time.Duration }

// plannedJob is one job and what its client wants of it.
type plannedJob struct {
	at          time.Duration
	submits     int           // the client repeats itself
	work        time.Duration // of each pass of each stage
	fails       int           // attempts of each stage that fail first
	batch       bool
	notBefore   time.Duration // after the submission; 0: at once
	cancelAfter time.Duration // the submission; 0: never
	approval    bool
	decideAfter time.Duration // the submission; 0: never, the approval expires
	deny        bool
}

// fault is one trouble. Which of its fields count depends on the kind.
type fault struct {
	at     time.Duration
	kind   string
	target string        // a process, or ""
	length time.Duration // until it is mended
	key    kmsg.Key      // a request
	err    *kerr.Error   // the broker's answer to it
	n      int           // how often
	flag   bool          // late delivery, or another name
}

func (f fault) String() string {
	s := fmt.Sprintf("%8.3fs %s %s", f.at.Seconds(), f.kind, f.target)
	if f.length > 0 {
		s += fmt.Sprintf(" for %v", f.length)
	}
	if f.n > 0 {
		s += fmt.Sprintf(" %v x%d", f.key.Name(), f.n)
	}
	if f.err != nil {
		s += " " + f.err.Message
	}
	if f.flag {
		s += " (late)"
	}
	return s
}

func (p plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: transactions v1=%v, %d brokers, %d partitions, %d handlers, %d workers, %d jobs in %v; jobs end in %v, approvals in %v, back-off %v\n",
		p.seed, p.v1, p.brokers, p.partitions, p.handlers, p.workers, len(p.jobs), p.length, p.policy.JobDeadline, p.policy.ApprovalExpiry, p.policy.BackOff)
	for _, f := range p.faults {
		fmt.Fprintln(&b, f)
	}
	return b.String()
}

// The kinds of faults.
const (
	faultStop    = "stop"        // a process ends well and comes back
	faultKill    = "kill"        // a process is gone at once; another of its name comes
	faultJoin    = "join"        // one more process for a while
	faultTwin    = "twin"        // a second process of the same name
	faultZombie  = "zombie"      // frozen, replaced under its name, then thawed
	faultFreeze  = "freeze"      // nothing goes in or out for a while
	faultCut     = "cut"         // the network is gone for a while
	faultReset   = "reset"       // connections break
	faultSlow    = "slow"        // every request and answer takes its time
	faultLose    = "lost answer" // the broker did it, the client does not know
	faultAnswer  = "error"       // the broker answers an error, some after it did the work
	faultLeaders = "leaders"     // all partitions get new leaders
	faultMove    = "coordinator" // all coordinators move
	faultBroker  = "broker"      // a broker goes and comes back
	faultOutage  = "outage"      // nobody reaches any broker
)

// targetClient is who submits.
const targetClient = "client"

var weights = []struct {
	kind   string
	weight int
}{
	{faultStop, 6}, {faultKill, 14}, {faultJoin, 6}, {faultTwin, 5}, {faultZombie, 6}, {faultFreeze, 8}, {faultCut, 6},
	{faultReset, 5}, {faultSlow, 4}, {faultLose, 16}, {faultAnswer, 14}, {faultLeaders, 6}, {faultMove, 6}, {faultBroker, 4}, {faultOutage, 2},
}

// lossy are the requests whose answers get lost.
var lossy = []kmsg.Key{
	kmsg.EndTxn, kmsg.EndTxn, kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.TxnOffsetCommit, kmsg.Produce, kmsg.Produce,
	kmsg.AddOffsetsToTxn, kmsg.AddPartitionsToTxn, kmsg.InitProducerID, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat,
	kmsg.OffsetFetch, kmsg.LeaveGroup, kmsg.Fetch, kmsg.FindCoordinator, kmsg.ListOffsets,
}

// answers are errors that brokers give in normal life, by request.
var answers = []struct {
	key  kmsg.Key
	errs []*kerr.Error
}{
	{kmsg.EndTxn, []*kerr.Error{kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.ConcurrentTransactions}},
	// The first two come after the work was done.
	{kmsg.Produce, []*kerr.Error{kerr.RequestTimedOut, kerr.NotEnoughReplicasAfterAppend, kerr.NotLeaderForPartition, kerr.NotEnoughReplicas}},
	{kmsg.TxnOffsetCommit, []*kerr.Error{kerr.RequestTimedOut, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator, kerr.CoordinatorNotAvailable}},
	{kmsg.InitProducerID, []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.ConcurrentTransactions, kerr.NotCoordinator}},
	{kmsg.AddPartitionsToTxn, []*kerr.Error{kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator}},
	{kmsg.AddOffsetsToTxn, []*kerr.Error{kerr.ConcurrentTransactions, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator}},
	{kmsg.Heartbeat, []*kerr.Error{kerr.RebalanceInProgress, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress}},
	{kmsg.JoinGroup, []*kerr.Error{kerr.CoordinatorLoadInProgress, kerr.NotCoordinator}},
	{kmsg.SyncGroup, []*kerr.Error{kerr.RebalanceInProgress, kerr.NotCoordinator}},
	{kmsg.OffsetFetch, []*kerr.Error{kerr.UnstableOffsetCommit, kerr.NotCoordinator, kerr.CoordinatorLoadInProgress}},
	{kmsg.Fetch, []*kerr.Error{kerr.NotLeaderForPartition, kerr.KafkaStorageError, kerr.OffsetNotAvailable}},
	{kmsg.ListOffsets, []*kerr.Error{kerr.NotLeaderForPartition, kerr.OffsetNotAvailable}},
	{kmsg.FindCoordinator, []*kerr.Error{kerr.CoordinatorNotAvailable}},
	{kmsg.Metadata, []*kerr.Error{kerr.LeaderNotAvailable}},
	{kmsg.ListTransactions, []*kerr.Error{kerr.CoordinatorLoadInProgress}},
}

func newPlan(seed uint64) plan {
	r := rand.New(rand.NewPCG(seed, 0x6d7973706e))
	p := plan{
		seed: seed, v1: seed%2 == 1, brokers: 1 + r.IntN(2) + r.IntN(2)*r.IntN(2), partitions: 1 + r.IntN(3),
		patience: 10 * time.Minute,
		handlers: 1 + r.IntN(2), workers: 1 + r.IntN(2), length: time.Duration(20+r.IntN(20)) * time.Second,
		policy: aggregates.DefaultPolicy(), session: 6 * time.Second, passes: 1,
	}
	p.policy.ApprovalExpiry = 20 * time.Second
	for range 5 {
		p.skews = append(p.skews, within(r, 4*time.Second)-2*time.Second)
	}
	if ofHours(seed) {
		p.lastHours(r)
		return p
	}
	for range 12 + r.IntN(12) {
		p.jobs = append(p.jobs, newJob(r, p.length))
	}
	slices.SortFunc(p.jobs, func(a, b plannedJob) int { return int(a.at - b.at) })
	for range 6 + r.IntN(8) {
		p.faults = append(p.faults, p.newFault(r))
	}
	slices.SortFunc(p.faults, func(a, b fault) int { return int(a.at - b.at) })
	return p
}

func newJob(r *rand.Rand, length time.Duration) plannedJob {
	j := plannedJob{at: within(r, length), submits: 1, work: within(r, 3*time.Second), batch: r.IntN(4) == 0}
	one := func(in int) bool { return r.IntN(in) == 0 }
	if one(3) {
		j.submits = 2
	}
	if one(5) {
		j.fails = 1 + r.IntN(3)
	}
	if one(20) {
		j.work = time.Second + within(r, 12*time.Second)
	}
	if one(6) {
		j.notBefore = within(r, 20*time.Second)
	}
	if one(6) {
		j.cancelAfter = within(r, 10*time.Second)
	}
	if one(5) {
		j.approval, j.deny = true, one(4)
		if !one(4) {
			j.decideAfter = 2*time.Second + within(r, 12*time.Second)
		}
	}
	return j
}

func (p plan) newFault(r *rand.Rand) fault {
	f := fault{at: within(r, p.length), kind: pickKind(r), target: p.process(r)}
	switch f.kind {
	case faultStop, faultKill:
		// Below and above the session time-out.
		f.length, f.flag = within(r, 12*time.Second), r.IntN(2) == 0
	case faultJoin, faultTwin:
		f.length = time.Second + within(r, 15*time.Second)
	case faultZombie, faultFreeze, faultCut:
		f.length, f.flag = time.Second+within(r, 20*time.Second), r.IntN(2) == 0
	case faultSlow:
		f.length, f.n = within(r, 15*time.Second), 1+r.IntN(400)
	case faultLose:
		f.key, f.n = lossy[r.IntN(len(lossy))], 1+r.IntN(2)
	case faultAnswer:
		a := answers[r.IntN(len(answers))]
		f.key, f.err, f.n, f.target = a.key, a.errs[r.IntN(len(a.errs))], 1+r.IntN(4), ""
	case faultBroker, faultOutage:
		f.length, f.target = time.Second+within(r, 15*time.Second), ""
	case faultLeaders, faultMove:
		f.target = ""
	}
	switch f.kind {
	case faultFreeze, faultCut, faultReset, faultSlow, faultLose:
		if r.IntN(10) == 0 {
			f.target = targetClient
		}
	}
	return f
}

// process names who is hit: handlers twice as often as workers.
func (p plan) process(r *rand.Rand) string {
	switch n := r.IntN(3 * (p.handlers + p.workers)); {
	case n < 2*(p.handlers+p.workers):
		return fmt.Sprintf("h%d", r.IntN(p.handlers))
	default:
		return fmt.Sprintf("w%d", r.IntN(p.workers))
	}
}

func pickKind(r *rand.Rand) string {
	total := 0
	for _, w := range weights {
		total += w.weight
	}
	n := r.IntN(total)
	for _, w := range weights {
		if n -= w.weight; n < 0 {
			return w.kind
		}
	}
	panic("weights that do not add up")
}

func within(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d/time.Millisecond))) * time.Millisecond
}
