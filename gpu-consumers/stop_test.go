// Attempts that are stopped from afar: before, at and after their start.

package gpu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// askStop writes the handler's request to stop the first attempt of a stage.
func (b *bench) askStop(stage string) {
	b.t.Helper()
	m := b.message(stage, events.TaskRun{})
	m.Data = events.TaskStop{Reason: "the job is being cancelled"}
	r, err := record(events.TopicTaskControl, m)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.log.Produce(b.t.Context(), r); err != nil {
		b.t.Fatal(err)
	}
}

// heeded says whether the worker remembers the stop of the stage's first attempt.
func (b *bench) heeded(stage string) bool {
	s := &b.worker.stops
	s.mu.Lock()
	defer s.mu.Unlock()
	_, yes := s.asked[events.AttemptID(benchJob, stage, 1)]
	return yes
}

// listening waits until the worker reads what is to be stopped.
func (b *bench) listening() {
	b.t.Helper()
	eventlogtest.Eventually(b.t, patience, "the worker heeds stops", func() bool {
		b.askStop("nobody's")
		return b.heeded("nobody's")
	})
}

func TestAStopEndsTheProcessGroupAndLeavesNothing(t *testing.T) {
	t.Parallel()
	pids := filepath.Join(t.TempDir(), "pids")
	b := newBench(t, engineOf(func(ctx context.Context, a *Attempt) (*Output, error) {
		a.Progress(1, "started")
		_, err := child{name: "sh", path: "sh", dir: a.Dir, args: []string{"-c",
			`sleep 600 & echo $$ $! > left; cp left "` + pids + `.new"; mv "` + pids + `.new" "` + pids + `"; wait`}}.run(ctx)
		return nil, err
	}))
	b.start()
	b.listening()
	b.send("s1", events.TaskRun{})
	var alive []int
	eventlogtest.Eventually(t, patience, "the child and its child run", func() bool {
		text, err := os.ReadFile(pids)
		for _, word := range strings.Fields(string(text)) {
			pid, _ := strconv.Atoi(word) //nolint:errcheck // 0 is no process
			alive = append(alive, pid)
		}
		return err == nil && len(alive) == 2
	})
	b.askStop("s1")
	m := b.await("task.cancelled", "s1")
	if m.CausationID != events.AttemptID(benchJob, "s1", 1) || m.Attempt != 1 || m.Worker != "w1" || m.ErrorClass != "" {
		t.Errorf("the cancellation is %+v", m)
	}
	for _, pid := range alive {
		eventlogtest.Eventually(t, patience, "the process is gone", func() bool { return gone(pid) })
	}
	if left, err := os.ReadDir(b.worker.dir); err != nil || len(left) != 0 {
		t.Errorf("the attempt left %v (%v)", left, err)
	}
	if n := len(b.of("task.failed", "")) + len(b.of("task.succeeded", "")); n != 0 {
		t.Errorf("%d other results", n)
	}
}

func TestAStopThatIsEarlyKeepsTheAttemptFromRunning(t *testing.T) {
	t.Parallel()
	var ran atomic.Int32
	b := newBench(t, engineOf(func(_ context.Context, a *Attempt) (*Output, error) {
		ran.Add(1)
		return &Output{Engine: "test"}, nil
	}))
	b.start()
	b.listening()
	b.askStop("s1")
	eventlogtest.Eventually(t, patience, "the stop is remembered", func() bool { return b.heeded("s1") })
	b.send("s1", events.TaskRun{})
	b.await("task.cancelled", "s1")
	if len(b.of("task.accepted", "s1")) != 1 || ran.Load() != 0 {
		t.Errorf("accepted %d times, ran %d times", len(b.of("task.accepted", "s1")), ran.Load())
	}
	b.send("s2", events.TaskRun{})
	b.await("task.succeeded", "s2")
}

// Between acceptance and start a stop finds no running attempt either.
func TestAStopBetweenAcceptanceAndStart(t *testing.T) {
	t.Parallel()
	b := newBench(t, engineOf(misbehave))
	b.start()
	m := b.message("s1", events.TaskRun{})
	value, err := events.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	cmd := eventlog.Record{Topic: events.LaneTopic(events.LaneRender), Key: benchJob, Value: value}
	if _, err := b.worker.accept(cmd); err != nil {
		t.Fatal(err)
	}
	b.worker.stops.ask(m.ID, time.Now())
	out, err := b.worker.run(t.Context(), cmd)
	if err != nil || len(out) != 1 {
		t.Fatalf("it reports %v, %v", out, err)
	}
	if said, err := events.Decode(out[0].Value); err != nil || said.Type() != "task.cancelled" {
		t.Errorf("it reports %s, %v; want task.cancelled", said.Type(), err)
	}
}

func TestStopsAreForgottenInTheEnd(t *testing.T) {
	t.Parallel()
	var s stops
	now := time.Now()
	refused := func(attempt string) bool {
		if !s.begin(attempt, func(error) {}) {
			return true
		}
		s.end(attempt)
		return false
	}
	s.ask("a", now)
	s.ask("b", now)
	s.ask("a", now.Add(stopsKeptAs)) // again
	s.ask("c", now.Add(stopsKeptAs+time.Second))
	if !refused("a") || refused("b") || !refused("c") {
		t.Errorf("asked are %v", s.asked)
	}
	for i := range stopsKept {
		s.ask(strconv.Itoa(i), now.Add(stopsKeptAs+2*time.Second))
	}
	if refused("c") || !refused("0") || len(s.asked) != stopsKept || len(s.order) != stopsKept {
		t.Errorf("%d are remembered, in %d places", len(s.asked), len(s.order))
	}
	var cause error
	s.begin("runs", func(err error) { cause = err })
	if !s.ask("runs", now) || !errors.Is(cause, errStopped) {
		t.Errorf("a running attempt was stopped with %v", cause)
	}
}
