// A GPU consumer: it accepts commands of its lanes in a transaction, runs them,
// beats, reports, stops when it is told to, and fails in every way.

package simulation

import (
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

const slots = 3

type worker struct {
	w       *world
	name    string
	up      bool
	frozen  bool
	skew    time.Duration // of its clock
	offline bool          // without the broker: what runs goes on, reports are kept

	runs     []*run
	reports  []report  // made, not written yet
	control  int64     // position in gpu.control
	manifest time.Time // of its latest one
}

// run is an accepted attempt.
type run struct {
	at      place
	cmd     events.Message
	task    events.TaskRun
	stopped bool
	until   time.Time // when its work is done
}

func newWorker(w *world, name string) *worker {
	k := &worker{w: w, name: name, skew: time.Duration(w.between(-3000, 3000)) * time.Millisecond}
	k.start()
	return k
}

// laneGroup is a group for each lane, where the workers have one for all of theirs: here
// the partitions of one lane move while the others' stay.
func (w *world) laneGroup(lane string) *group { return w.log.group(eventlog.GroupLanes + "." + lane) }

func (k *worker) start() {
	k.up, k.frozen, k.offline, k.manifest = true, false, false, time.Time{}
	k.control = int64(len(k.w.log.parts[place{Topic: events.TopicTaskControl}]))
	for _, lane := range events.Lanes() {
		k.w.laneGroup(lane).join(k.name)
		k.w.assignLane(lane)
	}
}

func (w *world) assignLane(lane string) {
	w.laneGroup(lane).assign(lanePartitions, w.rng.IntN)
	for p := range int32(lanePartitions) {
		w.owned[place{Topic: lane, Partition: p}] = w.now
	}
}

func (w *world) anyWorker(do func(*worker) bool) func() bool {
	return func() bool {
		at := slices.DeleteFunc(slices.Clone(w.workers), func(k *worker) bool { return !k.up || k.frozen })
		return len(at) > 0 && do(pick(w, at))
	}
}

// announce writes the manifest when the last one is getting old.
func (k *worker) announce() {
	if !k.up || k.frozen || k.offline || k.w.now.Sub(k.manifest) < 30*time.Second {
		return
	}
	k.manifest = k.w.now
	m := events.WorkerManifest{Slots: map[string]int{}, Running: map[string]int{}}
	for _, t := range aggregates.Tasks() {
		if t.Lane != "" {
			m.Tasks = append(m.Tasks, events.TaskCapability{Task: t.Name, Lane: t.Lane, Engine: "model", Fidelity: events.FidelitySimulated})
		}
	}
	k.w.log.write(record(events.TopicWorkers, events.Message{
		ID: events.NameID("manifest", k.name, k.w.now.String()), AggregateType: events.AggregateWorker, AggregateID: k.name,
		OccurredAt: k.w.now.Add(k.skew), Tenant: "-", Actor: k.name, Data: m,
	}), nil)
}

// work reports, obeys, finishes or accepts.
func (k *worker) work() bool {
	if k.offline {
		return k.finish()
	}
	if len(k.reports) > 0 {
		k.report()
		return true
	}
	if k.obey() {
		return true
	}
	if k.w.chance(50) {
		return k.finish() || k.accept()
	}
	return k.accept() || k.finish()
}

// obey reads what is to be stopped.
func (k *worker) obey() bool {
	records, next := k.w.log.read(place{Topic: events.TopicTaskControl}, k.control, 10)
	k.control = next
	some := false
	for _, r := range records {
		m, err := events.Decode(r.Value)
		if err != nil {
			continue
		}
		for _, run := range k.runs {
			if attemptOf(run.cmd) == attemptOf(m) {
				run.stopped, some = true, true
				k.w.saw("a worker is told to stop")
				k.w.say("%s stops %s %s %d", k.name, short(m.JobID), m.Stage, m.Attempt)
			}
		}
	}
	return some
}

func attemptOf(m events.Message) string { return events.AttemptID(m.JobID, m.Stage, m.Attempt) }

// accept takes the next command of a lane partition that is this worker's, with
// its answer and the position in one transaction.
func (k *worker) accept() bool {
	if len(k.runs) >= slots {
		return false
	}
	for _, i := range k.w.rng.Perm(len(events.Lanes()) * lanePartitions) {
		lane, p := events.Lanes()[i/lanePartitions], int32(i%lanePartitions) //nolint:gosec // a handful
		g := k.w.laneGroup(lane)
		if g.owner[p] != k.name || !k.settled(lane, p) {
			continue
		}
		topics := []string{events.LaneTopic(lane), events.LaneBatchTopic(lane)}
		if k.w.chance(10) {
			slices.Reverse(topics) // a batch command that has waited long
		}
		for _, topic := range topics {
			at := place{Topic: topic, Partition: p}
			if cmds, next := k.w.log.read(at, g.commits[at].offset, 1); len(cmds) > 0 {
				k.take(lane, at, cmds[0], next)
				return true
			}
		}
	}
	return false
}

// settled says whether the attempt that was accepted last on a lane partition has
// ended, as far as its new owner can know.
func (k *worker) settled(lane string, p int32) bool {
	at := place{Topic: lane, Partition: p}
	attempt := k.w.accepted[at]
	if attempt == "" || k.w.ended[attempt] {
		return true
	}
	if slices.ContainsFunc(k.runs, func(r *run) bool { return attemptOf(r.cmd) == attempt }) {
		return false
	}
	quiet := k.w.owned[at]
	if beat := k.w.beats[attempt]; beat.After(quiet) {
		quiet = beat
	}
	if k.w.now.Sub(quiet) < lease {
		return false
	}
	k.w.saw("a lane partition is taken over after a silent lease")
	return true
}

func (k *worker) take(lane string, at place, cmd eventlog.Record, next int64) {
	m, err := events.Decode(cmd.Value)
	task, ok := m.Data.(events.TaskRun)
	if err != nil || !ok {
		k.w.wrong("T1", cmd.Key, "a worker cannot read its command: %v", err)
		return
	}
	id := "lane." + lane + "." + k.name
	t := k.w.log.begin(id, k.w.log.producer(id))
	k.w.log.write(k.message(m, events.TaskAccepted{LeaseMS: lease.Milliseconds(), GPU: "gpu"}).rec, t)
	if k.w.fault(k.w.chances.broker / 2) {
		k.w.saw("an acceptance is aborted")
		k.w.log.end(t, txnAborted)
		return
	}
	t.group, t.pending = k.w.laneGroup(lane), map[place]commit{at: {offset: next}}
	if err := k.w.log.commit(t); err != nil {
		return
	}
	k.w.accepted[place{Topic: lane, Partition: at.Partition}] = m.ID
	k.w.beats[m.ID] = k.w.now
	k.w.say("%s accepts %s %s %d", k.name, short(m.JobID), m.Stage, m.Attempt)
	if k.w.fault(k.w.chances.broker / 4) {
		k.w.saw("an acceptance commits and is lost")
		return
	}
	k.runs = append(k.runs, &run{at: at, cmd: m, task: task, until: k.w.now.Add(k.w.takes())})
}

// message is what the worker says about an attempt.
func (k *worker) message(cmd events.Message, p events.Payload) report {
	c := cmd.Columns
	c.Worker, c.State = k.name, ""
	if _, ok := p.(events.TaskFailed); !ok {
		c.ErrorClass = ""
	}
	id := events.NameID("said", cmd.ID, p.EventType(), k.name)
	m := events.Message{
		ID: id, AggregateType: events.AggregateJob, AggregateID: cmd.AggregateID, OccurredAt: k.w.now.Add(k.skew), CommandID: cmd.CommandID,
		CausationID: cmd.ID, CorrelationID: cmd.CorrelationID, Tenant: cmd.Tenant, Actor: k.name, Columns: c, Data: p,
	}
	return report{record(events.TopicTaskEvents, m), m}
}

// beat says that everything here still runs.
func (k *worker) beat() bool {
	if k.offline {
		return false
	}
	for _, r := range k.runs {
		msg := k.message(r.cmd, events.TaskProgress{Percent: 50}).rec
		msg.Topic = events.TopicTaskProgress
		k.w.log.write(msg, nil)
		k.w.beats[r.cmd.ID] = k.w.now
	}
	return len(k.runs) > 0
}

// takes is how long the next run works.
func (w *world) takes() time.Duration {
	if w.calm || w.chance(60) {
		return 0
	}
	return time.Duration(w.between(1, 20)) * time.Second
}

// finish ends one of the runs, if the work of one is done.
func (k *worker) finish() bool {
	i := slices.IndexFunc(k.runs, func(r *run) bool { return r.stopped || k.w.calm || !r.until.After(k.w.now) })
	if i < 0 {
		return false
	}
	r := k.runs[i]
	k.runs = slices.Delete(k.runs, i, i+1)
	p, class := k.outcome(r)
	r.cmd.ErrorClass = class
	msg := k.message(r.cmd, p)
	k.reports = append(k.reports, msg)
	k.w.say("%s ends %s %s %d: %s %s", k.name, short(r.cmd.JobID), r.cmd.Stage, r.cmd.Attempt, p.EventType(), class)
	if !k.offline && k.w.chance(70) {
		k.report()
	}
	return true
}

// report writes what was kept: once, twice, or not yet.
func (k *worker) report() {
	for len(k.reports) > 0 {
		r := k.reports[0]
		if k.w.fault(k.w.chances.broker / 3) {
			k.w.saw("a report is not acknowledged")
			if k.w.chance(50) {
				k.write(r) // it landed, and is written again
			}
			return
		}
		k.write(r)
		k.reports = k.reports[1:]
		if k.w.fault(k.w.chances.double) {
			k.w.saw("a report is doubled")
			k.write(r)
		}
	}
}

func (k *worker) write(r report) {
	k.w.log.write(r.rec, nil)
	k.w.ended[r.m.CausationID] = true
	k.w.reports = append(k.w.reports, r)
	k.w.saw(r.m.Type())
	if _, failed := r.m.Data.(events.TaskFailed); failed {
		k.w.giveUp(r.m.AggregateID)
	}
}

// die loses what runs and what was not reported.
func (k *worker) die() bool {
	k.w.saw("a worker dies")
	if len(k.runs) > 0 {
		k.w.saw("a worker dies with work")
	}
	k.w.say("%s dies with %d runs", k.name, len(k.runs))
	k.up, k.runs, k.reports = false, nil, nil
	k.leaveLanes()
	return true
}

func (k *worker) freeze() bool {
	if len(k.runs) > 0 {
		k.w.saw("a worker freezes with work")
	}
	k.w.say("%s freezes with %d runs", k.name, len(k.runs))
	k.frozen = true
	k.leaveLanes()
	return true
}

// leaveLanes is what the groups see of a worker that says nothing any more.
func (k *worker) leaveLanes() {
	for _, lane := range events.Lanes() {
		k.w.laneGroup(lane).leave(k.name)
		k.w.assignLane(lane)
	}
}

// cut takes the broker away from the worker alone.
func (k *worker) cut() bool {
	if len(k.runs) > 0 {
		k.w.saw("a worker with work loses the broker")
	}
	k.w.say("%s loses the broker", k.name)
	k.offline = true
	return true
}

// back gives the broker back.
func (k *worker) back() bool {
	if !k.offline {
		return k.w.wake()
	}
	if len(k.reports) > 0 {
		k.w.saw("a worker reports late")
	}
	k.offline = false
	return true
}

// wake starts a worker that died, or lets a frozen one go on.
func (w *world) wake() bool {
	for _, k := range w.workers {
		switch {
		case !k.up:
			k.start()
			return true
		case k.frozen:
			w.say("%s thaws with %d runs", k.name, len(k.runs))
			k.frozen = false
			for _, lane := range events.Lanes() {
				w.laneGroup(lane).join(k.name)
				w.assignLane(lane)
			}
			return true
		}
	}
	return false
}

func (w *world) moveLanes() bool {
	w.saw("a rebalance of lanes")
	for _, lane := range events.Lanes() {
		w.assignLane(lane)
	}
	return true
}

// oldAnswer writes a report again that may be long past.
func (w *world) oldAnswer() bool {
	if len(w.reports) == 0 || w.calm {
		return false
	}
	w.saw("an old answer comes again")
	w.log.write(pick(w, w.reports).rec, nil)
	return true
}
