// Lanes of mixed workers: what one of them can do is done, and by nobody else.

package handlers

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/placement"
)

// mate is one worker, which can do what its manifest says.
type mate struct {
	name string
	d    events.WorkerManifest
}

func (w *mate) can(m events.Message) bool {
	run := m.Data.(events.TaskRun)
	return slices.ContainsFunc(w.d.Tasks, func(c events.TaskCapability) bool {
		return c.Task == m.Task && c.Serves(run.Engines, run.Wants) && !slices.ContainsFunc(w.d.Needs, func(n events.TaskNeed) bool {
			return n.Task == c.Task && n.Engine == c.Engine && int64(n.MiB)<<20 > w.d.VRAMBytes
		})
	})
}

// mates are workers that come and go, their lanes, and a handler that hears of them late.
type mates struct {
	*memory
	t       *rapid.T
	there   []*mate
	owners  map[string][]*mate            // by lane and partition
	waiting map[string][][]events.Message // commands, by lane and partition
	jobs    int
	strays  int // attempts that came to a worker that cannot do them
}

var matesLanes = []string{events.LaneScript, events.LaneTTS, events.LaneRender, events.LaneLipsync}

// drawMate is a worker with some engines; a keeper has a real one for everything.
func drawMate(t *rapid.T, keeper bool) *mate {
	w := &mate{name: rapid.StringMatching("[a-z]{3}").Draw(t, "name"), d: events.WorkerManifest{Slots: map[string]int{}}}
	for _, lane := range matesLanes {
		w.d.Slots[lane] = 1
		c := events.TaskCapability{Task: "noop." + lane, Lane: lane, Engine: rapid.SampledFrom([]string{"one", "other"}).Draw(t, "engine"), Fidelity: events.FidelityFull}
		switch kind := rapid.IntRange(0, 3).Draw(t, "kind"); {
		case keeper || kind == 0:
		case kind == 1:
			c.Fidelity, c.Builtin = events.FidelityPreview, true
		case kind == 2: // on a card that is too small
			w.d.VRAMBytes = 1000 << 20
			w.d.Needs = append(w.d.Needs, events.TaskNeed{Task: c.Task, Engine: c.Engine, MiB: 2000})
		default:
			continue
		}
		w.d.Tasks = append(w.d.Tasks, c)
	}
	return w
}

// share gives out the partitions as the lanes' group does.
func (f *mates) share() {
	slices.SortFunc(f.there, func(a, b *mate) int { return strings.Compare(a.name, b.name) })
	for _, lane := range matesLanes {
		able := make([][]string, len(f.there))
		for i, w := range f.there {
			for _, c := range w.d.Tasks {
				switch {
				case c.Lane != lane:
				case c.Builtin:
					able[i] = append(able[i], c.Task)
				case w.can(events.Message{Columns: events.Columns{Task: c.Task}, Data: events.TaskRun{}}):
					able[i] = append(able[i], c.Task+" real", c.Task+" "+c.Engine)
				}
			}
		}
		n := lanes()[lane]
		f.owners[lane] = make([]*mate, n)
		seats := placement.Seats(able, n)
		for p := range n {
			f.owners[lane][p] = f.there[seats[p*len(seats)/n]]
		}
	}
}

// tell has the handler hear of a worker as it is now.
func (f *mates) tell(w *mate, stopped bool) {
	d := w.d
	d.Stopped, d.Partitions = stopped, map[string][]int32{}
	for lane, owners := range f.owners {
		for p, owner := range owners {
			if owner == w {
				d.Partitions[lane] = append(d.Partitions[lane], int32(p)) //nolint:gosec // few
			}
		}
	}
	r, err := encode(events.TopicWorkers, events.Message{ID: "manifest", AggregateType: events.AggregateWorker, AggregateID: w.name, OccurredAt: f.now, Data: d})
	if err != nil {
		f.t.Fatal(err)
	}
	f.h.Learn([]eventlog.Record{r})
}

// pass lets time go by, in which every worker tells of itself.
func (f *mates) pass(d time.Duration) {
	f.now = f.now.Add(d)
	for _, w := range f.there {
		f.tell(w, false)
	}
	for _, r := range f.h.Due(f.now) {
		f.decide(r)
	}
}

func (f *mates) decide(in eventlog.Record) {
	out, err := f.transact(in)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, r := range out {
		m, err := events.Decode(r.Value)
		if err != nil {
			continue // an entry of the index
		}
		if _, run := m.Data.(events.TaskRun); run {
			f.waiting[m.Lane][r.Partition] = append(f.waiting[m.Lane][r.Partition], m)
		}
	}
}

// said is an input of this very time.
func (f *mates) said(topic, job string, p events.Payload, c events.Columns) eventlog.Record {
	f.n++
	id := fmt.Sprint("said-", f.n)
	r, err := encode(topic, events.Message{ID: id, CommandID: id, CorrelationID: "story", AggregateType: events.AggregateJob, AggregateID: job,
		OccurredAt: f.now, Tenant: "default", Actor: "test", Columns: c, Data: p})
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// work has the partitions' owners do what waits, or hand it back.
func (f *mates) work() {
	for _, lane := range matesLanes {
		for p, queue := range f.waiting[lane] {
			if len(queue) == 0 {
				continue
			}
			m, w := queue[0], f.owners[lane][p]
			f.waiting[lane][p] = queue[1:]
			say := func(data events.Payload, class string) {
				f.decide(f.said(events.TopicTaskEvents, m.JobID, data, events.Columns{Stage: m.Stage, Task: m.Task, Attempt: m.Attempt, Worker: w.name, ErrorClass: class}))
			}
			say(events.TaskAccepted{LeaseMS: 15_000}, "")
			if w.can(m) {
				say(events.TaskSucceeded{Result: events.Result{Engine: "one", Fidelity: events.FidelityFull}}, "")
			} else {
				f.strays++
				say(events.TaskFailed{Message: "this worker cannot do it", Misplaced: true}, events.ClassEngineUnavailable)
			}
		}
	}
}

func (f *mates) submit() {
	s := diagnostic()
	s.Request.Engines = events.EnginesReal
	f.decide(f.said(events.TopicJobCommands, fmt.Sprint("job-", f.jobs), s, events.Columns{}))
	f.jobs++
}

// Whatever engines workers have, however they come, leave and are killed, and however
// late the handler hears of it: a job that wants real engines, which some worker has all
// the time, ends well.
func TestWhatSomeWorkerCanDoIsDone(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		f := &mates{memory: newMemory(), t: t, owners: map[string][]*mate{}, waiting: map[string][][]events.Message{}}
		for _, lane := range matesLanes {
			f.waiting[lane] = make([][]events.Message, lanes()[lane])
		}
		keeper := drawMate(t, true)
		f.there = append(f.there, keeper)
		f.share()
		f.pass(0)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 6).Draw(t, "step") {
			case 0, 1:
				w := drawMate(t, false)
				w.name += fmt.Sprint(f.n) // no two in one life
				f.there = append(f.there, w)
				f.share()
			case 2:
				w := rapid.SampledFrom(f.there).Draw(t, "who")
				if w == keeper {
					continue
				}
				f.there = slices.DeleteFunc(f.there, func(o *mate) bool { return o == w })
				f.share()
				if rapid.Bool().Draw(t, "cleanly") {
					f.tell(w, true)
				}
			case 3:
				f.tell(rapid.SampledFrom(f.there).Draw(t, "who"), false)
			case 4:
				f.pass(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
			case 5:
				f.work()
			case 6:
				f.submit()
			}
		}
		f.submit()
		before := f.strays
		for range 60 {
			f.pass(5 * time.Second)
			f.work()
		}
		ended := 0
		for _, r := range f.topics[events.TopicJobEvents] {
			m := mustDecodeFact(t, r)
			switch d := m.Data.(type) { //nolint:gochecksumtype // ends, and what failed on the way
			case events.JobSucceeded:
				ended++
			case events.JobFailed, events.JobRejected, events.JobCancelled:
				t.Fatalf("%s ended with %s: %+v", r.Key, m.Type(), d)
			case events.StageFailed:
				if m.ErrorClass != events.ClassMisplaced {
					t.Fatalf("%s of %s failed with class %s", m.Stage, r.Key, m.ErrorClass)
				}
			}
		}
		if ended != f.jobs {
			t.Fatalf("%d of %d jobs have ended", ended, f.jobs)
		}
		if n := f.strays - before; n > 5*f.jobs*len(matesLanes) {
			t.Fatalf("%d attempts went astray although everybody had told of themselves", n)
		}
	})
}

func mustDecodeFact(t *rapid.T, r eventlog.Record) events.Message {
	m, err := events.Decode(r.Value)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
