//go:build synctests

// Seeds of hours: nights in which nothing runs, machines that sleep, an outage that
// nobody mends, and between them some minutes in which jobs get on. So everything
// that waits for hours waits for them: deadlines, approvals, schedules, back-offs.

package brokersim_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ofHours are two seeds in forty, one for each kind of transactions. One costs as much
// as nine others: an hour with everybody there is full of polls and beats.
func ofHours(seed uint64) bool { return seed%40 >= 38 }

// awake is how long everybody is there between two absences, at least.
const awake = 2 * time.Minute

// The kinds of absences.
const (
	absentNight    = "night"    // all processes end, and come back
	absentSleep    = "sleep"    // all machines stand still
	absentBrokers  = "brokers"  // nobody reaches one
	absentWorkers  = "workers"  // only handlers are there
	absentHandlers = "handlers" // only workers are there
)

// lastHours makes the plan one of hours: a few absences with minutes between them.
// Every job's deadline lies within it, so that what follows the faults is short.
func (p *plan) lastHours(r *rand.Rand) {
	p.hours, p.session, p.passes, p.length = true, 30*time.Second, 15, awake
	p.brokers, p.handlers, p.workers = 1+r.IntN(2), 1, 1
	switch r.IntN(4) {
	case 0:
		p.handlers = 2
	case 1:
		p.workers = 2
	}
	kinds := []string{absentNight, absentSleep, absentBrokers, []string{absentWorkers, absentHandlers}[r.IntN(2)]}
	r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	mornings := []time.Duration{0}
	for _, kind := range kinds {
		p.addAbsence(r, kind)
		mornings = append(mornings, p.length-awake)
	}
	p.policy.JobDeadline = (p.length * time.Duration(50+r.IntN(20)) / 100).Round(time.Minute)
	p.policy.ApprovalExpiry = time.Hour + within(r, p.policy.JobDeadline/3)
	p.policy.BackOff = 30*time.Minute + within(r, 30*time.Minute)
	for i := range 12 {
		p.jobs = append(p.jobs, p.newHoursJob(r, i, mornings))
	}
	slices.SortFunc(p.jobs, func(a, b plannedJob) int { return int(a.at - b.at) })
	slices.SortFunc(p.faults, func(a, b fault) int { return int(a.at - b.at) })
}

// addAbsence appends an absence and the minutes after it, perhaps with an ordinary
// fault in them. Handlers come back first, so that they find workers silent.
func (p *plan) addAbsence(r *rand.Rand, kind string) {
	at := p.length
	var length time.Duration
	away := func(role string, n int, kinds ...string) {
		kind := kinds[r.IntN(len(kinds))]
		for i := range n {
			f := fault{at: at + within(r, 10*time.Second), kind: kind, target: fmt.Sprint(role, i), length: length, flag: r.IntN(2) == 0}
			if role == "w" {
				f.length += within(r, awake/4)
			}
			p.faults = append(p.faults, f)
		}
	}
	switch kind {
	case absentNight:
		length = 2*time.Hour + within(r, 3*time.Hour)
		if r.IntN(5) == 0 { // and a day
			length += 12*time.Hour + within(r, 12*time.Hour)
		}
		away("h", p.handlers, faultStop, faultKill)
		away("w", p.workers, faultStop, faultKill, faultFreeze)
	case absentSleep:
		length = time.Hour + within(r, 3*time.Hour)
		away("h", p.handlers, faultFreeze)
		away("w", p.workers, faultFreeze)
	case absentBrokers:
		length = time.Hour + within(r, 20*time.Minute)
		p.faults = append(p.faults, fault{at: at, kind: faultOutage, length: length}, fault{at: at, kind: faultCut, target: targetClient, length: length})
	case absentWorkers:
		length = minutesOrMore(r)
		away("w", p.workers, faultFreeze, faultZombie, faultCut, faultKill)
	case absentHandlers:
		length = minutesOrMore(r)
		away("h", p.handlers, faultFreeze, faultCut, faultKill)
	}
	if kind != absentWorkers {
		p.undecided = append(p.undecided, span{at, at + 10*time.Second + length})
	}
	p.length += length + awake/3 + within(r, awake/6) + awake // when the last of them is back
	if f := p.newFault(r); r.IntN(2) == 0 {
		f.at = p.length - awake + within(r, awake/2)
		p.faults = append(p.faults, f)
	}
}

// minutesOrMore is how long some are away while others are not: mostly minutes, because
// an hour of that is dear.
func minutesOrMore(r *rand.Rand) time.Duration {
	d := 5*time.Minute + within(r, 5*time.Minute)
	if r.IntN(2) == 0 {
		d += time.Hour
	}
	return d
}

// newHoursJob makes the i-th job: each wants something else that takes hours. Nobody
// plans a job before the first worker has said what it can, or while none is there.
func (p *plan) newHoursJob(r *rand.Rand, i int, mornings []time.Duration) plannedJob {
	last := p.length - p.policy.JobDeadline - awake // when a job may begin, so that its deadline is within the plan
	hours := func(most time.Duration) time.Duration {
		return time.Hour + within(r, max(most-time.Hour, time.Minute))
	}
	j := plannedJob{at: 20*time.Second + within(r, awake/3), submits: 1 + r.IntN(2), work: within(r, time.Second/2), batch: r.IntN(4) == 0}
	switch i % 6 {
	case 0:
		j.notBefore = min(hours(last), last)
	case 1:
		j.approval = true // and nobody decides
	case 2:
		j.approval, j.deny, j.decideAfter = true, r.IntN(4) == 0, hours(p.policy.ApprovalExpiry*5/4)
	case 3:
		j.fails = 1 + r.IntN(2)
	case 4: // at work when the first absence comes; those of more than ten minutes are too long for their stages
		j.at, j.work = awake-10*time.Second-within(r, 10*time.Second), 25*time.Second+within(r, 30*time.Second)
	case 5:
		if at := mornings[r.IntN(len(mornings))]; at < last {
			j.at += at
		}
		j.approval, j.decideAfter = r.IntN(2) == 0, hours(p.policy.ApprovalExpiry)
	}
	if r.IntN(8) == 0 {
		j.cancelAfter = hours(last)
	}
	return j
}

// slowFetches lets the broker keep a fetch that finds nothing sixteen times as long as
// it was asked to, which is less than a client waits. What is written is handed on at once all the same; what differs is
// the price of an hour in which nothing is.
func (w *world) slowFetches() {
	w.cluster.ControlKey(int16(kmsg.Fetch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		r.(*kmsg.FetchRequest).MaxWaitMillis *= 16
		return nil, nil, false
	})
}
