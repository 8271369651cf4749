// The bench on which the worker is tested: a broker in memory, the embedded S3
// server, engines of the test's own; and the worker's life from start to end.

package gpu

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/devstack"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

var benchTask = events.TaskCapability{
	Task: "render_video", Lane: events.LaneRender, Engine: "test", Model: "m1", Version: "7", Fidelity: events.FidelityPreview,
}

// testEngine runs a function for a task.
type testEngine struct {
	can events.TaskCapability
	run func(context.Context, *Attempt) (*Output, error)

	mu  sync.Mutex
	gap *events.TaskGap
}

func (e *testEngine) Capability(context.Context) (events.TaskCapability, *events.TaskGap) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.can, e.gap
}

func (e *testEngine) mend() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.gap = nil
}

func (e *testEngine) Run(ctx context.Context, a *Attempt) (*Output, error) { return e.run(ctx, a) }

func engineOf(run func(context.Context, *Attempt) (*Output, error)) *testEngine {
	return &testEngine{can: benchTask, run: run}
}

// bench is a worker with everything around it.
type bench struct {
	t      *testing.T
	net    *eventlogtest.Network // between the worker and the broker
	s3     *devstack.HelperServer
	log    *eventlog.Log // the test's own way to the broker
	store  *objects.Store
	ring   *objects.Keyring
	worker *Worker
	broker eventlog.Config // to reach it by another name
	temp   string
	key    string // id of the job's content key

	mu   sync.Mutex
	seen []events.Message
	dead []eventlog.Record
}

const benchJob = "0d4ce4b0-3f8b-5d9e-8a50-2a0f5f7f3a11"

func newBench(t *testing.T, engines ...engine) *bench {
	t.Helper()
	b := &bench{t: t, net: &eventlogtest.Network{}, temp: t.TempDir()}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var err error
	if b.s3, err = devstack.StartHelper(ctx, devstack.Helper{Dir: t.TempDir(), NoLog: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.s3.Stop(context.Background()) })
	b.store, err = objects.Open(ctx, objects.Config{Endpoint: b.s3.S3(), AccessKey: b.s3.AccessKey, SecretKey: b.s3.SecretKey, Bucket: "bench"})
	if err != nil {
		t.Fatal(err)
	}
	b.ring = objects.NewKeyring(b.store, [32]byte{1})
	if b.key, _, err = b.ring.Create(ctx, "default", "", benchJob); err != nil {
		t.Fatal(err)
	}
	_, cfg := eventlogtest.Fake(t)
	b.broker = cfg
	cfg.ProduceTimeout = patience // of the test's own, which must not fail where the machine is slow
	b.log = eventlogtest.Open(t, cfg)
	cfg.Dial, cfg.ProduceTimeout, cfg.SessionTimeout = b.net.Dial, 300*time.Millisecond, time.Second
	theirs, err := eventlog.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(theirs.Close)
	b.worker, err = New(Config{
		Log: theirs, Objects: b.store, Keyring: b.ring, Worker: "w1", Slots: map[string]int{events.LaneRender: 2}, Engines: engines,
		TempDir: b.temp, Grace: 100 * time.Millisecond, GPU: "Test GPU", Memory: MemoryConfig{BudgetMiB: 1024, Folder: t.TempDir()}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	b.worker.pace.manifest, b.worker.pace.manifestGap = 50*time.Millisecond, time.Millisecond
	b.worker.pace.first, b.worker.pace.beat, b.worker.pace.progress = 5*time.Millisecond, 20*time.Millisecond, 5*time.Millisecond
	return b
}

// start runs the worker until the returned function, which gives Run's error.
func (b *bench) start() (stop func() error) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.worker.Run(ctx) }()
	tailing := make(chan struct{})
	go func() {
		defer close(tailing)
		topics := b.log.Whole(events.TopicTaskEvents, events.TopicTaskProgress, events.TopicWorkers, events.TopicDeadLetters)
		_ = b.log.Tail(ctx, topics, b.collect, nil)
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		<-tailing
		return <-ended
	})
	b.t.Cleanup(func() {
		if err := stop(); err != nil {
			b.t.Errorf("Run = %v", err)
		}
		if left, err := os.ReadDir(b.temp); err != nil || len(left) > 0 {
			b.t.Errorf("the worker left %v in its folder (%v)", left, err)
		}
	})
	return stop
}

func (b *bench) collect(batch eventlog.Batch) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range batch.Records {
		if r.Topic == events.TopicDeadLetters {
			b.dead = append(b.dead, r)
			continue
		}
		m, err := events.Decode(r.Value)
		if err != nil {
			b.t.Errorf("the worker wrote to %s: %v", r.Topic, err)
		}
		if r.Key != m.AggregateID || r.Header("ce_id") != m.ID {
			b.t.Errorf("%s has key %q and ce_id %q", m.Type(), r.Key, r.Header("ce_id"))
		}
		b.seen = append(b.seen, m)
	}
	return nil
}

// of are the messages of a type and, if given, a stage, as far as they have come.
func (b *bench) of(eventType, stage string) []events.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []events.Message
	for _, m := range b.seen {
		if m.Type() == eventType && (stage == "" || m.Stage == stage) {
			out = append(out, m)
		}
	}
	return out
}

// send writes a command of its own stage.
func (b *bench) send(stage string, task events.TaskRun) events.Message {
	b.t.Helper()
	m := b.message(stage, task)
	b.sendMessage(m)
	return m
}

// message is the first attempt of a stage.
func (b *bench) message(stage string, task events.TaskRun) events.Message {
	if task.Subject == "" {
		task.Subject = "default/-/" + benchJob
	}
	return events.Message{
		ID: events.AttemptID(benchJob, stage, 1), AggregateType: events.AggregateJob, AggregateID: benchJob,
		OccurredAt: time.Now(), CommandID: "the-submit", CausationID: "the-plan", CorrelationID: "the-story", Tenant: "default", Actor: "handler",
		Columns: events.Columns{JobID: benchJob, Stage: stage, Task: benchTask.Task, Attempt: 1, Lane: events.LaneRender, Variant: "svd_wav2lip"},
		Data:    task,
	}
}

func (b *bench) sendMessage(m events.Message) {
	b.t.Helper()
	value, err := events.Encode(m)
	if err != nil {
		b.t.Fatal(err)
	}
	b.sendRaw(value)
}

func (b *bench) sendRaw(value []byte) {
	b.t.Helper()
	err := b.log.Produce(b.t.Context(), eventlog.Record{Topic: events.LaneTopic(events.LaneRender), Key: benchJob, Value: value})
	if err != nil {
		b.t.Fatal(err)
	}
}

// await is the first message of the type for the stage.
func (b *bench) await(eventType, stage string) events.Message {
	b.t.Helper()
	var got []events.Message
	eventlogtest.Eventually(b.t, patience, eventType+" of "+stage, func() bool {
		got = b.of(eventType, stage)
		return len(got) > 0
	})
	return got[0]
}

// failed is the failure of a stage, whose class must be as given.
func (b *bench) failed(stage, class string) events.TaskFailed {
	b.t.Helper()
	m := b.await("task.failed", stage)
	if m.ErrorClass != class {
		b.t.Errorf("%s failed with class %s, want %s: %+v", stage, m.ErrorClass, class, m.Data)
	}
	return m.Data.(events.TaskFailed)
}

func lastManifest(b *bench) events.WorkerManifest {
	all := b.of("worker.manifest", "")
	if len(all) == 0 {
		return events.WorkerManifest{}
	}
	return all[len(all)-1].Data.(events.WorkerManifest)
}

func TestTheManifestFollowsTheWorker(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	e := engineOf(func(context.Context, *Attempt) (*Output, error) {
		<-hold
		return &Output{}, nil
	})
	e.gap = &events.TaskGap{Task: benchTask.Task, Engine: "test", Reason: "no card", Hint: "plug one in"}
	elsewhere := &testEngine{can: events.TaskCapability{Task: "tts.synthesize", Lane: events.LaneTTS, Engine: "voice"}}
	b := newBench(t, e, elsewhere)
	b.start()
	b.send("s1", events.TaskRun{})
	eventlogtest.Eventually(t, patience, "a manifest with the gap", func() bool { return len(lastManifest(b).Unavailable) == 1 })
	m := lastManifest(b)
	if len(m.Tasks) != 0 || m.Unavailable[0] != *e.gap || m.Slots[events.LaneRender] != 2 || m.GPU != "Test GPU" || m.VRAMBytes != 1<<30 || m.Stopped {
		t.Errorf("manifest = %+v", m)
	}
	if got := b.of("task.accepted", ""); len(got) != 0 {
		t.Errorf("a worker that can run nothing accepted %v", got)
	}
	e.mend()
	eventlogtest.Eventually(t, patience, "a manifest of the mended engine at work", func() bool {
		m := lastManifest(b)
		return slices.Equal(m.Tasks, []events.TaskCapability{benchTask}) && len(m.Unavailable) == 0 && m.Running[events.LaneRender] == 1
	})
	close(hold)
	b.await("task.succeeded", "s1")
	eventlogtest.Eventually(t, patience, "a manifest at rest", func() bool { return lastManifest(b).Running[events.LaneRender] == 0 })
}

// TestTheEndIsClean is not parallel, so that the goroutines it counts are its own.
func TestTheEndIsClean(t *testing.T) {
	started := make(chan string, 2)
	b := newBench(t, engineOf(func(ctx context.Context, a *Attempt) (*Output, error) {
		started <- a.Stage
		<-ctx.Done()
		return nil, &TaskError{Class: events.ClassEngineRejected, Message: "was killed", Err: ctx.Err()}
	}))
	stop := b.start()
	b.send("s1", events.TaskRun{})
	<-started
	if err := os.WriteFile(filepath.Join(b.worker.dir, "left-over"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := stop(); err != nil {
		t.Fatalf("Run = %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := b.log.Read(ctx, b.log.Whole(events.TopicTaskEvents, events.TopicWorkers), func(r []eventlog.Record) error {
		return b.collect(eventlog.Batch{Records: r})
	})
	if err != nil {
		t.Fatal(err)
	}
	if f := b.failed("s1", events.ClassEngineUnavailable); !strings.Contains(f.Message, "worker was stopped") {
		t.Errorf("failure = %+v", f)
	}
	if !lastManifest(b).Stopped {
		t.Error("the worker did not say that it stops")
	}
	eventlogtest.Eventually(t, patience, "no goroutine of this package left", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return !strings.Contains(string(stacks), "gpu-consumers.(*Worker)") && !strings.Contains(string(stacks), "gpu-consumers.(*run)")
	})
}

func TestAnAttemptMayEndWithinTheGrace(t *testing.T) {
	t.Parallel()
	started, hold := make(chan struct{}), make(chan struct{})
	b := newBench(t, engineOf(func(ctx context.Context, _ *Attempt) (*Output, error) {
		close(started)
		select {
		case <-hold:
			return &Output{Engine: "test"}, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}))
	b.worker.cfg.Grace = patience
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.worker.Run(ctx) }()
	b.send("s1", events.TaskRun{})
	<-started
	cancel()
	close(hold)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	_, err := b.log.Read(t.Context(), b.log.Whole(events.TopicTaskEvents), func(r []eventlog.Record) error {
		return b.collect(eventlog.Batch{Records: r})
	})
	if got := b.of("task.succeeded", "s1"); err != nil || len(got) != 1 {
		t.Errorf("results = %v, %v", got, err)
	}
}

func TestBadWorkerConfigsAreRefused(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Worker: "a/b", Slots: map[string]int{"tts": 0}, Lease: time.Millisecond})
	for _, want := range []string{"needs the log", `"a/b"`, "at least one engine", `lane "tts"`, "lease 1ms"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
}
