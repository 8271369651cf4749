// The handler over a log in memory: what follows from facts, what recovery
// rebuilds, and what an aborted transaction leaves behind.

package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// memory is one partition of every topic, with transactions of whole calls.
type memory struct {
	topics map[string][]eventlog.Record
	meta   string
	h      *Handler
	n      int
}

func newMemory() *memory {
	m := &memory{topics: map[string][]eventlog.Record{}}
	m.restart()
	return m
}

// restart makes a handler that knows nothing, and recovers it.
func (m *memory) restart() {
	dir := newDirectory(func() time.Time { return start })
	close(dir.caughtUp)
	all := events.WorkerManifest{}
	for _, task := range aggregates.Tasks() {
		all.Tasks = append(all.Tasks, events.TaskCapability{Task: task.Name})
	}
	dir.workers.Apply(events.Message{AggregateID: "w", OccurredAt: start, Data: all})
	m.h = &Handler{cfg: Config{Policy: aggregates.DefaultPolicy(), Lanes: map[string]int{}, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return start }},
		dir: dir, parts: map[int32]*partition{}, metrics: newMetrics(), replay: m.read}
	if err := m.h.Recover(context.Background(), 0, m.meta); err != nil {
		panic(err)
	}
}

func (m *memory) read(_ context.Context, at eventlog.TopicPartition, from int64, fn func([]eventlog.Record) error) (int64, error) {
	all := m.topics[at.Topic]
	if int(from) < len(all) {
		if err := fn(all[from:]); err != nil {
			return 0, err
		}
	}
	return int64(len(all)), nil
}

// drop is what the runner does when a transaction does not commit.
func (m *memory) drop() {
	m.h.Drop(0)
	if err := m.h.Recover(context.Background(), 0, m.meta); err != nil {
		panic(err)
	}
}

// input makes a record of the next message.
func (m *memory) input(topic, id string, p events.Payload, c events.Columns) eventlog.Record {
	m.n++
	kind := events.AggregateJob
	if topic == events.TopicProfileCommands {
		kind = events.AggregateProfile
	}
	msg := events.Message{ID: fmt.Sprintf("in-%d", m.n), CommandID: fmt.Sprintf("in-%d", m.n), CorrelationID: "story", AggregateType: kind, AggregateID: id,
		OccurredAt: start.Add(time.Duration(m.n) * time.Second), Tenant: "default", Actor: "test", Columns: c, Data: p}
	r, err := encode(topic, msg)
	if err != nil {
		panic(err)
	}
	return r
}

// transact decides inputs together and commits or aborts them.
func (m *memory) transact(commit bool, inputs ...eventlog.Record) ([]eventlog.Record, error) {
	var out []eventlog.Record
	for _, in := range inputs {
		records, err := m.h.decide(in)
		if err != nil {
			m.drop()
			return nil, err
		}
		out = append(out, records...)
	}
	if !commit {
		m.drop()
		return nil, nil
	}
	for i, r := range out {
		out[i].Offset = int64(len(m.topics[r.Topic]))
		m.topics[r.Topic] = append(m.topics[r.Topic], out[i])
	}
	m.meta = m.h.Meta(0, out)
	m.h.Committed(0, out)
	return out, nil
}

func request() events.Request {
	sealed := events.Sealed{Bytes: []byte("x"), Key: "k"}
	return events.Request{Variant: aggregates.VariantSadTalker, ProfileID: "prof", ProfileName: &sealed, Consent: &events.Consent{By: sealed, Statement: sealed},
		Inputs: map[string]events.Value{"prompt": {Text: &sealed}, "portrait": {Artifacts: []events.Artifact{{ID: "p", SHA256: "1"}}}, "voice": {Artifacts: []events.Artifact{{ID: "v", SHA256: "2"}}}}}
}

func topicsOf(rs []eventlog.Record) []string {
	var out []string
	for _, r := range rs {
		m, err := events.Decode(r.Value)
		if err != nil {
			out = append(out, r.Topic)
			continue
		}
		out = append(out, r.Topic+" "+m.Type())
	}
	return out
}

func TestFactsSetCommandsInMotion(t *testing.T) {
	t.Parallel()
	m := newMemory()
	out, err := m.transact(true, m.input(events.TopicJobCommands, "j", events.JobSubmit{Request: request()}, events.Columns{}))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"jobs.events job.submitted", "jobs.events job.planned", "jobs.events stage.scheduled", "gpu.script.commands task.run"}; !slices.Equal(topicsOf(out), want) {
		t.Fatalf("got %v", topicsOf(out))
	}
	run, err := events.Decode(out[3].Value)
	if err != nil {
		t.Fatal(err)
	}
	d := run.Data.(events.TaskRun)
	if run.ID != events.AttemptID("j", "script", 1) || d.Subject != "default/prof/j" || !d.Inputs["prompt"].Present() || d.TimeoutMS <= 0 || run.Version != 0 {
		t.Errorf("the lane's command is %+v", run)
	}
	if _, err := m.transact(true, m.input(events.TopicTaskEvents, "j", events.TaskSucceeded{}, events.Columns{Stage: "script", Attempt: 1})); err != nil {
		t.Fatal(err)
	}
	out, err = m.transact(true, m.input(events.TopicTaskEvents, "j", events.TaskSucceeded{}, events.Columns{Stage: "safety", Attempt: 1}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"jobs.events stage.succeeded", "jobs.events stage.succeeded", "profiles.commands profile.create", "profiles.commands profile.record_consent",
		"profiles.commands profile.attach_portrait", "jobs.events stage.scheduled", "gpu.train.commands task.run"}
	if !slices.Equal(topicsOf(out), want) {
		t.Fatalf("got %v", topicsOf(out))
	}
	voice := events.Result{Outputs: map[string]events.Value{"voice_reference": {Artifacts: []events.Artifact{{ID: "ref", SHA256: "3"}}}}}
	out, err = m.transact(true, m.input(events.TopicTaskEvents, "j", events.TaskSucceeded{Result: voice}, events.Columns{Stage: "train_voice", Attempt: 1}))
	if err != nil || !slices.Contains(topicsOf(out), "profiles.commands profile.attach_voice") {
		t.Fatalf("got %v, %v", topicsOf(out), err)
	}
}

func TestProfileCommandsBecomeFacts(t *testing.T) {
	t.Parallel()
	m := newMemory()
	create := events.ProfileCreate{Name: events.Sealed{Key: "k"}}
	for i, want := range []int{1, 0} { // the second time there is nothing to do
		out, err := m.transact(true, m.input(events.TopicProfileCommands, "prof", create, events.Columns{}))
		if err != nil || len(out) != want {
			t.Fatalf("call %d: %v, %v", i, topicsOf(out), err)
		}
	}
	m.restart()
	out, err := m.transact(true, m.input(events.TopicProfileCommands, "prof", events.ProfileAttachPortrait{}, events.Columns{}))
	if err != nil || !slices.Equal(topicsOf(out), []string{"profiles.events profile.portrait_attached"}) {
		t.Fatalf("a recovered profile: %v, %v", topicsOf(out), err)
	}
}

func TestInputsThatAreNone(t *testing.T) {
	t.Parallel()
	m := newMemory()
	garbage := eventlog.Record{Topic: events.TopicJobCommands, Value: []byte("{")}
	fact := m.input(events.TopicJobCommands, "j", events.JobSucceeded{}, events.Columns{})
	for name, in := range map[string]eventlog.Record{"garbage": garbage, "a fact": fact} {
		if _, err := m.transact(true, in); !errors.Is(err, eventlog.ErrUndecodable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign := m.input(events.TopicJobCommands, "j", events.JobSubmit{}, events.Columns{})
	foreign.Partition = 5
	if _, err := m.h.decide(foreign); err == nil || errors.Is(err, eventlog.ErrUndecodable) {
		t.Errorf("an input of a partition that is not ours: %v", err)
	}
}

// A finished job is known after a restart although its facts are not replayed.
func TestAnEndedJobNeverStartsAgain(t *testing.T) {
	t.Parallel()
	m := newMemory()
	submit := m.input(events.TopicJobCommands, "j", events.JobSubmit{Request: events.Request{Variant: "none"}}, events.Columns{})
	if out, err := m.transact(true, submit); err != nil || len(out) != 3 {
		t.Fatalf("a rejected job: %v, %v", topicsOf(out), err)
	}
	if want := metaPrefix + "2"; m.meta != want {
		t.Fatalf("recovery would start at %q, want %q", m.meta, want)
	}
	m.restart()
	if out, err := m.transact(true, submit); err != nil || len(out) != 0 {
		t.Fatalf("the old command started the job again: %v, %v", topicsOf(out), err)
	}
}

func TestTimeNeverDecreases(t *testing.T) {
	t.Parallel()
	m := newMemory()
	late := m.input(events.TopicJobCommands, "late", events.JobSubmit{Request: request()}, events.Columns{})
	later := m.input(events.TopicJobCommands, "later", events.JobSubmit{Request: request()}, events.Columns{})
	if _, err := m.transact(true, later, late); err != nil {
		t.Fatal(err)
	}
	var last time.Time
	for _, r := range m.topics[events.TopicJobEvents] {
		f, err := events.Decode(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if f.OccurredAt.Before(last) {
			t.Fatalf("%s occurred at %s, after a fact of %s", f.Type(), f.OccurredAt, last)
		}
		last = f.OccurredAt
	}
}

func TestClockWritesEachDeadlineOnce(t *testing.T) {
	t.Parallel()
	m := newMemory()
	if _, err := m.transact(true, m.input(events.TopicJobCommands, "j", events.JobSubmit{Request: request()}, events.Columns{}),
		m.input(events.TopicTaskEvents, "j", events.TaskFailed{}, events.Columns{Stage: "script", Attempt: 1, ErrorClass: events.ClassInternal})); err != nil {
		t.Fatal(err)
	}
	if got := m.h.takeDue(start); len(got) != 0 {
		t.Fatalf("due too early: %v", got)
	}
	got := m.h.takeDue(start.Add(time.Minute))
	if len(got) != 1 || got[0].msg.Type() != "clock.retry_due" || got[0].msg.Stage != "script" || got[0].msg.Attempt != 1 {
		t.Fatalf("due: %+v", got)
	}
	if again := m.h.takeDue(start.Add(time.Minute)); len(again) != 0 {
		t.Fatal("written twice")
	}
	in, err := encode(events.TopicJobCommands, got[0].msg)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.transact(true, in)
	if err != nil || !slices.Contains(topicsOf(out), "jobs.events stage.scheduled") {
		t.Fatalf("the retry: %v, %v", topicsOf(out), err)
	}
}

// TestRecoveryIsTheState runs random jobs through random transactions, aborts and
// restarts: what recovery builds from the committed metadata equals what was live,
// and no job is lost, doubled or decided from what an aborted transaction said.
func TestRecoveryIsTheState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newMemory()
		for range rapid.IntRange(1, 40).Draw(t, "transactions") {
			var inputs []eventlog.Record
			for range rapid.IntRange(1, 4).Draw(t, "inputs") {
				id := fmt.Sprint("job-", rapid.IntRange(0, 5).Draw(t, "job"))
				stage := rapid.SampledFrom([]string{"script", "safety", "train_voice", "tts", "lipsync", "assemble", "check"}).Draw(t, "stage")
				c := events.Columns{Stage: stage, Attempt: rapid.IntRange(1, 2).Draw(t, "attempt"), ErrorClass: events.ClassInvalidInput}
				switch rapid.IntRange(0, 5).Draw(t, "kind") {
				case 0, 1:
					inputs = append(inputs, m.input(events.TopicJobCommands, id, events.JobSubmit{Request: request()}, events.Columns{}))
				case 5:
					inputs = append(inputs, m.input(events.TopicTaskEvents, id, events.TaskFailed{}, c))
				default:
					inputs = append(inputs, m.input(events.TopicTaskEvents, id, events.TaskSucceeded{}, c))
				}
			}
			if _, err := m.transact(rapid.IntRange(0, 4).Draw(t, "abort") > 0, inputs...); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 3).Draw(t, "restart") == 0 {
				before := m.h.parts[0]
				m.restart()
				after := m.h.parts[0]
				if want, got := picture(before), picture(after); !reflect.DeepEqual(got, want) {
					t.Fatalf("recovered from %q\n%s\nwas\n%s", m.meta, strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			}
		}
		if n := metricValue(m.h.metrics.rejected); n != 0 {
			t.Fatalf("%g facts broke their chain", n)
		}
		foldWhole(t, m)
	})
}

// picture is a partition's state in lines that compare.
func picture(p *partition) []string {
	var out []string
	for id, j := range p.jobs {
		out = append(out, fmt.Sprintf("live %s first %d chain %v stages %v", id, j.first, j.Chain, j.Stages))
	}
	for id, e := range p.ended {
		out = append(out, fmt.Sprintf("ended %s %+v", id, e))
	}
	slices.Sort(out)
	return append(out, fmt.Sprint("end ", p.end, " oldest ", p.oldest(), " at ", p.lastAt.UTC()))
}

// foldWhole folds the whole of jobs.events from nothing: every fact continues its chain.
func foldWhole(t *rapid.T, m *memory) {
	jobs := map[string]aggregates.Job{}
	for _, r := range m.topics[events.TopicJobEvents] {
		f, err := events.Decode(r.Value)
		if err != nil {
			t.Fatal(err)
		}
		if jobs[r.Key].Terminal() {
			t.Fatalf("%s of %s after its end", f.Type(), r.Key)
		}
		next, err := jobs[r.Key].Apply(f)
		if err != nil {
			t.Fatal(err)
		}
		jobs[r.Key] = next
	}
}
