// Attempts and the workers that can do them.

package aggregates_test

import (
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// fleet tells of workers, each on every lane and with one partition of it.
func fleet(at time.Time, workers map[string][]events.TaskCapability, partition map[string]int32) *aggregates.Fleet {
	var w aggregates.Workers
	for name, caps := range workers {
		d := events.WorkerManifest{Tasks: caps, Slots: map[string]int{}, Partitions: map[string][]int32{}}
		for _, lane := range events.Lanes() {
			d.Slots[lane] = 1
			if p, has := partition[name]; has {
				d.Partitions[lane] = []int32{p}
			}
		}
		w.Apply(events.Message{AggregateID: name, OccurredAt: at, Data: d})
	}
	return w.Fleet(at)
}

// suited submits a job and gives how well partitions 0 to 3 suit its script; nil where
// they are all alike.
func suited(t *testing.T, f *aggregates.Fleet, engines string) (suits []aggregates.Suit) {
	t.Helper()
	s := newScript(t)
	s.env.Fleet, s.env.Engines = f, aggregates.EnginesOf(append(realTasks(), announced()...)...)
	s.env.Place = func(lane, _, _ string, _ bool, of func(int32) aggregates.Suit) int32 {
		if lane == events.LaneScript && of != nil && suits == nil {
			for p := range int32(4) {
				suits = append(suits, of(p))
			}
		}
		return 0
	}
	r := talker()
	r.Engines = engines
	s.submit(r)
	return suits
}

func TestAttemptsGoToWorkersThatCanDoThem(t *testing.T) {
	t.Parallel()
	mixed := fleet(start, map[string][]events.TaskCapability{"a": announced(), "b": realTasks(), "idle": realTasks()}, map[string]int32{"a": 0, "b": 1})
	well, unknown, not := aggregates.SuitsWell, aggregates.SuitUnknown, aggregates.SuitsNot
	for name, c := range map[string]struct {
		fleet   *aggregates.Fleet
		engines string
		want    []aggregates.Suit
	}{
		"real":         {mixed, events.EnginesReal, []aggregates.Suit{not, well, unknown, unknown}},
		"preview":      {mixed, events.EnginesPreview, []aggregates.Suit{well, not, unknown, unknown}},
		"auto":         {mixed, "", []aggregates.Suit{well, well, unknown, unknown}},
		"all alike":    {fleet(start, map[string][]events.TaskCapability{"a": realTasks(), "b": realTasks()}, map[string]int32{"a": 0, "b": 1}), events.EnginesReal, nil},
		"nobody known": {nil, events.EnginesReal, nil},
	} {
		if got := suited(t, c.fleet, c.engines); len(got) != len(c.want) || len(got) > 0 && [4]aggregates.Suit(got) != [4]aggregates.Suit(c.want) {
			t.Errorf("%s: partitions suit %v, want %v", name, got, c.want)
		}
	}
}

// The newest claim of a partition counts, whichever comes first.
func TestAPartitionIsItsNewestClaimants(t *testing.T) {
	t.Parallel()
	claim := func(w *aggregates.Workers, name string, at time.Time, caps []events.TaskCapability) {
		w.Apply(events.Message{AggregateID: name, OccurredAt: at, Data: events.WorkerManifest{Tasks: caps, Slots: map[string]int{events.LaneScript: 1},
			Partitions: map[string][]int32{events.LaneScript: {0}}}})
	}
	for name, older := range map[string]string{"the later in name": "b", "the earlier in name": "a"} {
		var w aggregates.Workers
		at := map[string]time.Time{"a": start.Add(time.Second), "b": start.Add(time.Second)}
		at[older] = start
		claim(&w, "a", at["a"], realTasks())
		claim(&w, "b", at["b"], announced())
		want := aggregates.SuitsWell
		if older == "a" {
			want = aggregates.SuitsNot
		}
		if got := suited(t, w.Fleet(start.Add(time.Second)), events.EnginesReal); got[0] != want {
			t.Errorf("%s is older: partition 0 suits %v, want %v", name, got[0], want)
		}
	}
}

// Given a lane of mixed workers, when an attempt comes to one that cannot do it, then
// another follows that does not count, as often as is reasonable.
func TestAMisplacedAttemptCountsForNothing(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.env.Engines = aggregates.EnginesOf(append(realTasks(), announced()...)...)
	s.env.Fleet = fleet(start, map[string][]events.TaskCapability{"a": announced(), "b": realTasks()}, map[string]int32{"a": 0, "b": 1})
	r := talker()
	r.Engines = events.EnginesReal
	s.submit(r)
	attempt := 1
	back := func(worker string) []string {
		return s.when(events.TaskFailed{Message: "not here", Misplaced: true}, events.Columns{Stage: "script", Attempt: attempt, Worker: worker, ErrorClass: events.ClassEngineUnavailable})
	}
	again := func() {
		t.Helper()
		s.at = time.UnixMilli(s.job.Stages[0].DeadlineMS)
		s.when(events.ClockRetryDue{DeadlineMS: s.job.Stages[0].DeadlineMS}, events.Columns{Stage: "script", Attempt: attempt})
		attempt++
	}
	for range aggregates.MostMisplaced {
		s.accept("script", attempt)
		back("a")
		fact := s.facts[len(s.facts)-1]
		if fact.ErrorClass != events.ClassMisplaced || s.job.Stages[0].State != aggregates.StageWaiting {
			t.Fatalf("after attempt %d: %s with class %s, the stage is %s", attempt, fact.Type(), fact.ErrorClass, s.job.Stages[0].State)
		}
		if wait := time.UnixMilli(s.job.Stages[0].DeadlineMS).Sub(fact.OccurredAt); wait <= 0 || wait > 11*time.Second {
			t.Fatalf("after attempt %d the next one waits for %v", attempt, wait)
		}
		again()
	}
	for range s.env.Policy.MaxAttempts - 1 { // from now on they count, and all of them are left
		back("a")
		if fact := s.facts[len(s.facts)-1]; fact.ErrorClass != events.ClassEngineUnavailable || s.job.Terminal() {
			t.Fatalf("attempt %d: class %s, the job is %s", attempt, fact.ErrorClass, s.job.State)
		}
		again()
	}
	if back("a"); s.job.State != aggregates.JobFailed {
		t.Fatalf("the job is %s after %d attempts", s.job.State, attempt)
	}
}

// Where nobody else can do it, the failure is what its worker says of it.
func TestAnAttemptThatNobodyCanDoIsAFailure(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]*aggregates.Fleet{
		"nothing is known of others": nil,
		"all are like its worker":    fleet(start, map[string][]events.TaskCapability{"a": realTasks(), "b": realTasks()}, nil),
		"the others cannot either":   fleet(start, map[string][]events.TaskCapability{"a": nil, "b": announced()}, nil),
	} {
		s := newScript(t)
		s.env.Engines = aggregates.EnginesOf(realTasks()...)
		s.env.Fleet = f
		r := talker()
		r.Engines = events.EnginesReal
		s.submit(r)
		s.when(events.TaskFailed{Message: "too large", Misplaced: true}, events.Columns{Stage: "script", Attempt: 1, Worker: "a", ErrorClass: events.ClassInvalidInput})
		if s.job.State != aggregates.JobFailed {
			t.Errorf("%s: the job is %s", name, s.job.State)
		}
	}
}
