// Attempts and the card's memory: what fits is accepted, what others need is unloaded,
// what never fits is refused, and what was measured counts.

package gpu

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// heavyEngine is a test engine that works in the card's memory, and may keep its model.
type heavyEngine struct {
	*testEngine
	mib int
}

func (e *heavyEngine) weighs() int { return e.mib }

// keepingEngine also keeps its model.
type keepingEngine struct {
	heavyEngine
	server   string
	unloads  atomic.Int32
	unloaded func() error
}

func (e *keepingEngine) unit() string { return e.server }

func (e *keepingEngine) unload(context.Context) error {
	e.unloads.Add(1)
	if e.unloaded != nil {
		return e.unloaded()
	}
	return nil
}

// labour is an engine of a task that runs until it is let go.
type labour struct {
	mu      sync.Mutex
	running map[string]bool
	release chan struct{}
}

func newLabour() *labour { return &labour{running: map[string]bool{}, release: make(chan struct{})} }

func (w *labour) run(ctx context.Context, a *Attempt) (*Output, error) {
	w.mu.Lock()
	w.running[a.Stage] = true
	w.mu.Unlock()
	select {
	case <-w.release:
		return &Output{}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *labour) runs(stage string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.running[stage]
}

func can(task string) events.TaskCapability {
	return events.TaskCapability{Task: task, Lane: taskLanes[task], Engine: "test-" + task, Model: "m-" + task, Fidelity: events.FidelityPreview}
}

// sendTo writes a command of a task to a partition of its lane.
func (b *bench) sendTo(task, stage string, partition int32, more ...func(*events.Message, *events.TaskRun)) {
	b.t.Helper()
	run := events.TaskRun{Subject: "default/-/" + benchJob}
	m := b.message(stage, run)
	m.Task, m.Lane = task, taskLanes[task]
	for _, fn := range more {
		fn(&m, &run)
	}
	m.Data = run
	value, err := events.Encode(m)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.log.Produce(b.t.Context(), eventlog.Record{Topic: events.LaneTopic(m.Lane), Partition: partition, Key: benchJob, Value: value}); err != nil {
		b.t.Fatal(err)
	}
}

// onLanes gives the worker two slots on each lane of the tasks.
func (b *bench) onLanes(tasks ...string) {
	b.worker.roster.slots = map[string]int{}
	for _, task := range tasks {
		b.worker.roster.slots[taskLanes[task]] = 2
		b.worker.cfg.Slots[taskLanes[task]] = 2
	}
}

func TestACommandIsAcceptedWhenTheCardHasRoom(t *testing.T) {
	t.Parallel()
	render, speak := newLabour(), newLabour()
	b := newBench(t, &heavyEngine{&testEngine{can: can("render_video"), run: render.run}, 700}, &heavyEngine{&testEngine{can: can("tts.synthesize"), run: speak.run}, 400})
	b.onLanes("render_video", "tts.synthesize")
	b.start()
	b.sendTo("render_video", "first", 0)
	eventlogtest.Eventually(t, patience, "the first runs", func() bool { return render.runs("first") })
	b.sendTo("tts.synthesize", "second", 0)
	b.sendTo("render_video", "third", 1)
	card := b.worker.memory.account()
	eventlogtest.Eventually(t, patience, "both others wait", func() bool {
		u, err := card.Usage()
		return err == nil && u.Waiting == 2
	})
	b.await("task.accepted", "first")
	if n := len(b.of("task.accepted", "")); n != 1 {
		t.Errorf("%d commands are accepted, want the one that fits", n)
	}
	close(render.release)
	eventlogtest.Eventually(t, patience, "the second runs when the first has ended", func() bool { return speak.runs("second") })
	close(speak.release)
	b.await("task.succeeded", "third")
	eventlogtest.Eventually(t, patience, "everything is given back", func() bool {
		u, err := card.Usage()
		return err == nil && u.Running == 0 && u.Waiting == 0
	})
}

func TestModelsAreUnloadedForWhoNeedsTheRoom(t *testing.T) {
	t.Parallel()
	quick := func(context.Context, *Attempt) (*Output, error) { return &Output{}, nil }
	keeps := &keepingEngine{heavyEngine: heavyEngine{&testEngine{can: can("render_video"), run: quick}, 700}, server: "comfy"}
	gone := &keepingEngine{heavyEngine: heavyEngine{&testEngine{can: can("upscale_video"), run: quick}, 300}, server: "gone",
		unloaded: func() error { return &timeoutless{syscall.ECONNREFUSED} }}
	b := newBench(t, keeps, gone, &heavyEngine{&testEngine{can: can("tts.synthesize"), run: quick}, 1000})
	b.onLanes("render_video", "tts.synthesize", "upscale_video")
	b.start()
	b.sendTo("render_video", "one", 0)
	b.await("task.succeeded", "one")
	b.sendTo("render_video", "two", 0)
	b.await("task.succeeded", "two")
	b.sendTo("upscale_video", "three", 0)
	b.await("task.succeeded", "three")
	if n := keeps.unloads.Load(); n != 0 {
		t.Errorf("the model was unloaded %d times although there was room", n)
	}
	b.sendTo("tts.synthesize", "large", 0)
	b.await("task.succeeded", "large")
	if keeps.unloads.Load() != 1 || gone.unloads.Load() != 1 {
		t.Errorf("the servers were asked %d and %d times to unload, want once each", keeps.unloads.Load(), gone.unloads.Load())
	}
}

// timeoutless is what a refused connection looks like.
type timeoutless struct{ error }

func (e *timeoutless) Unwrap() error { return e.error }

func TestWhatNeverFitsIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	quick := func(context.Context, *Attempt) (*Output, error) { return &Output{}, nil }
	b := newBench(t, &heavyEngine{&testEngine{can: can("render_video"), run: quick}, 500})
	needs, err := parseNeeds([]string{"render_video@1080p=2000", "render_video/other=5000"})
	if err != nil {
		t.Fatal(err)
	}
	b.worker.memory.needs = needs
	b.start()
	size := func(name string) func(*events.Message, *events.TaskRun) {
		return func(_ *events.Message, run *events.TaskRun) { run.Params = map[string]any{"resolution": name} }
	}
	b.sendTo("render_video", "large", 0, size("1080p"))
	f := b.failed("large", events.ClassInvalidInput)
	if !strings.Contains(f.Message, "takes 2000 MiB") || !strings.Contains(f.Message, "there are 1024") || !strings.Contains(f.Hint, "720p") {
		t.Errorf("said %q, %q; want what it takes, what there is and what fits", f.Message, f.Hint)
	}
	b.sendTo("render_video", "small", 0, size("720p"))
	b.await("task.succeeded", "small")
	eventlogtest.Eventually(t, patience, "the manifest tells of needs and budget", func() bool {
		m := lastManifest(b)
		return m.VRAMBytes == 1024<<20 && len(m.Needs) == 3 && m.Needs[2] == events.TaskNeed{Task: "render_video", Engine: "test-render_video", Resolution: "1080p", MiB: 2000}
	})
}

// An engine that does not fit leaves the attempt to the next one.
func TestASmallerEngineStandsInForOneThatNeverFits(t *testing.T) {
	t.Parallel()
	var by atomic.Value
	run := func(name string) func(context.Context, *Attempt) (*Output, error) {
		return func(context.Context, *Attempt) (*Output, error) {
			by.Store(name)
			return &Output{}, nil
		}
	}
	b := newBench(t, &heavyEngine{&testEngine{can: can("render_video"), run: run("large")}, 5000}, &testEngine{can: can("render_video"), run: run("built in")})
	b.start()
	b.sendTo("render_video", "one", 0)
	b.await("task.succeeded", "one")
	if by.Load() != "built in" {
		t.Errorf("the engine was %v", by.Load())
	}
}

// fickleEngine takes no attempt once its inputs are known.
type fickleEngine struct{ heavyEngine }

func (*fickleEngine) takes(a *Attempt) bool { return a.Dir == "" }

// The engine that is picked may need more than the expected one: then its attempt gives
// back what it has, waits, and says so.
func TestAnAttemptWithAnotherEngineThanExpectedClaimsAnew(t *testing.T) {
	t.Parallel()
	first, second := newLabour(), newLabour()
	b := newBench(t, &heavyEngine{&testEngine{can: can("tts.synthesize"), run: first.run}, 600},
		&fickleEngine{heavyEngine{&testEngine{can: can("render_video"), run: second.run}, 100}}, &heavyEngine{&testEngine{can: can("render_video"), run: second.run}, 800})
	b.onLanes("render_video", "tts.synthesize")
	b.start()
	b.sendTo("tts.synthesize", "first", 0)
	eventlogtest.Eventually(t, patience, "the first runs", func() bool { return first.runs("first") })
	b.sendTo("render_video", "second", 0)
	eventlogtest.Eventually(t, patience, "the second waits with beats", func() bool {
		for _, m := range b.of("task.progress", "second") {
			if m.Data.(events.TaskProgress).Message == "waiting for GPU memory" {
				return true
			}
		}
		return false
	})
	if second.runs("second") {
		t.Error("the second runs although there is no room")
	}
	close(first.release)
	eventlogtest.Eventually(t, patience, "the second runs when there is room", func() bool { return second.runs("second") })
	close(second.release)
	b.await("task.succeeded", "second")
}

// scale is a card that says what the test has it say.
type scale struct{ used, total, reads atomic.Int64 }

func (s *scale) readMemory(context.Context) (reading, error) {
	s.reads.Add(1)
	return reading{"Scale 3000", int(s.used.Load()), int(s.total.Load())}, nil
}

func TestAMeasuredPeakRaisesWhatIsSetAside(t *testing.T) {
	t.Parallel()
	card := &scale{}
	card.used.Store(300)
	card.total.Store(8000)
	run := func(context.Context, *Attempt) (*Output, error) {
		card.used.Add(900)
		defer card.used.Add(-900)
		seen := card.reads.Load()
		eventlogtest.Eventually(t, patience, "the card is read", func() bool { return card.reads.Load() >= seen+2 })
		return &Output{}, nil
	}
	b := newBench(t, &heavyEngine{&testEngine{can: can("render_video"), run: run}, 500})
	b.worker.cfg.GPU, b.worker.memory.cfg.BudgetMiB, b.worker.memory.meters, b.worker.memory.readings = "", 0, []meter{card}, time.Millisecond
	b.start()
	b.sendTo("render_video", "one", 0)
	b.await("task.succeeded", "one")
	want := []events.TaskNeed{
		{Task: "render_video", Engine: "test-render_video", Resolution: "576p", MiB: 500},
		{Task: "render_video", Engine: "test-render_video", Resolution: "720p", MiB: 960, Measured: 960},
		{Task: "render_video", Engine: "test-render_video", Resolution: "1080p", MiB: 500},
	}
	eventlogtest.Eventually(t, patience, "the manifest tells of what was measured", func() bool {
		m := lastManifest(b)
		return m.GPU == "Scale 3000" && m.VRAMBytes == 8000<<20 && slices.Equal(m.Needs, want)
	})
}

func TestNeedsAreReadAndBadOnesRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"render_video", "render_video=x", "render_video=-1", "dance=5", "render_video@8k=5"} {
		if _, err := parseNeeds([]string{bad}); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v, want an error that names it", bad, err)
		}
	}
	if r, err := parseSMI("NVIDIA GeForce RTX 4090, 517, 24564\n"); err != nil || r != (reading{"NVIDIA GeForce RTX 4090", 517, 24564}) {
		t.Errorf("nvidia-smi's line reads as %+v, %v", r, err)
	}
	if _, err := parseSMI("NVIDIA, [N/A], [N/A]"); err == nil {
		t.Error("a card without figures has a memory")
	}
}
