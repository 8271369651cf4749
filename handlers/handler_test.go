// The handler over a log in memory: what follows from facts, what recovery
// rebuilds, and what an aborted transaction leaves behind.

package handlers

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

func TestFactsSetCommandsInMotion(t *testing.T) {
	t.Parallel()
	m := newMemory()
	out, err := m.transact(m.input(events.TopicJobCommands, "j", events.JobSubmit{Request: request()}, events.Columns{}))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"jobs.events job.submitted", "jobs.events job.planned", "jobs.events stage.scheduled", "gpu.script.commands task.run", "jobs.replies command.replied"}; !slices.Equal(topicsOf(out), want) {
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
	if _, err := m.transact(m.input(events.TopicTaskEvents, "j", events.TaskSucceeded{}, events.Columns{Stage: "script", Attempt: 1})); err != nil {
		t.Fatal(err)
	}
	out, err = m.transact(m.input(events.TopicTaskEvents, "j", events.TaskSucceeded{}, events.Columns{Stage: "safety", Attempt: 1}))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"jobs.events stage.succeeded", "jobs.events stage.succeeded", "profiles.commands profile.create", "profiles.commands profile.record_consent",
		"profiles.commands profile.attach_portrait", "jobs.events stage.scheduled", "gpu.train.commands task.run"}
	if !slices.Equal(topicsOf(out), want) {
		t.Fatalf("got %v", topicsOf(out))
	}
	voice := events.Result{Outputs: map[string]events.Value{"voice_reference": {Artifacts: []events.Artifact{{ID: "ref", SHA256: "3"}}},
		"voice_weights": {Artifacts: []events.Artifact{{ID: "gpt", SHA256: "4"}, {ID: "sovits", SHA256: "5"}}}}}
	out, err = m.transact(m.input(events.TopicTaskEvents, "j", events.TaskSucceeded{Result: voice}, events.Columns{Stage: "train_voice", Attempt: 1}))
	if err != nil || !slices.Contains(topicsOf(out), "profiles.commands profile.attach_voice") {
		t.Fatalf("got %v, %v", topicsOf(out), err)
	}
	attach, err := events.Decode(out[slices.Index(topicsOf(out), "profiles.commands profile.attach_voice")].Value)
	if err != nil {
		t.Fatal(err)
	}
	if c := attach.Data.(events.ProfileAttachVoice); c.Artifact.ID != "ref" || len(c.Weights) != 2 || c.Weights[1].ID != "sovits" {
		t.Errorf("the profile gets %+v", c)
	}
	speak, err := events.Decode(out[slices.Index(topicsOf(out), "gpu.tts.commands task.run")].Value)
	if err != nil {
		t.Fatal(err)
	}
	if in := speak.Data.(events.TaskRun).Inputs; len(in["voice_weights"].Artifacts) != 2 || len(in["voice_reference"].Artifacts) != 1 {
		t.Errorf("the voice gets %+v", in)
	}
}

func TestProfileCommandsBecomeFacts(t *testing.T) {
	t.Parallel()
	m := newMemory()
	create := events.ProfileCreate{Name: events.Sealed{Key: "k"}}
	byJob := events.Columns{JobID: "j"}
	for i, want := range []int{1, 0} { // the second time there is nothing to do
		out, err := m.transact(m.input(events.TopicProfileCommands, "prof", create, byJob))
		if err != nil || len(out) != want {
			t.Fatalf("call %d: %v, %v", i, topicsOf(out), err)
		}
	}
	m.restart()
	out, err := m.transact(m.input(events.TopicProfileCommands, "prof", events.ProfileAttachPortrait{}, byJob))
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
		if _, err := m.transact(in); !errors.Is(err, eventlog.ErrUndecodable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign := m.input(events.TopicJobCommands, "j", events.JobSubmit{}, events.Columns{})
	foreign.Partition = 5
	if _, err := m.h.Decide(foreign); err == nil || errors.Is(err, eventlog.ErrUndecodable) {
		t.Errorf("an input of a partition that is not ours: %v", err)
	}
}

// A finished job is known after a restart although its facts are not replayed.
func TestAnEndedJobNeverStartsAgain(t *testing.T) {
	t.Parallel()
	m := newMemory()
	submit := m.input(events.TopicJobCommands, "j", events.JobSubmit{Request: events.Request{Variant: "none"}}, events.Columns{})
	if out, err := m.transact(submit); err != nil || len(out) != 4 {
		t.Fatalf("a rejected job: %v, %v", topicsOf(out), err)
	}
	if want := "oldest=2"; !strings.HasPrefix(m.meta, want+" ") {
		t.Fatalf("recovery would start at %q, want %q", m.meta, want)
	}
	m.restart()
	if out, err := m.transact(submit); err != nil || !slices.Equal(topicsOf(out), []string{"jobs.replies command.replied"}) {
		t.Fatalf("the old command started the job again: %v, %v", topicsOf(out), err)
	}
}

func TestTimeNeverDecreases(t *testing.T) {
	t.Parallel()
	m := newMemory()
	late := m.input(events.TopicJobCommands, "late", events.JobSubmit{Request: request()}, events.Columns{})
	later := m.input(events.TopicJobCommands, "later", events.JobSubmit{Request: request()}, events.Columns{})
	if _, err := m.transact(later, late); err != nil {
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
	if _, err := m.transact(m.input(events.TopicJobCommands, "j", events.JobSubmit{Request: request()}, events.Columns{}),
		m.input(events.TopicTaskEvents, "j", events.TaskFailed{}, events.Columns{Stage: "script", Attempt: 1, ErrorClass: events.ClassInternal})); err != nil {
		t.Fatal(err)
	}
	if got := m.h.Due(start); len(got) != 0 {
		t.Fatalf("due too early: %v", topicsOf(got))
	}
	got := m.h.Due(start.Add(time.Minute))
	if !slices.Equal(topicsOf(got), []string{"jobs.commands clock.retry_due"}) {
		t.Fatalf("due: %v", topicsOf(got))
	}
	if again := m.h.Due(start.Add(time.Minute)); len(again) != 0 {
		t.Fatal("handed out twice")
	}
	m.h.GiveBack(got[0])
	if again := m.h.Due(start.Add(time.Minute)); len(again) != 1 || string(again[0].Value) != string(got[0].Value) {
		t.Fatalf("given back, %v is due", topicsOf(again))
	}
	out, err := m.transact(got[0])
	if err != nil || !slices.Contains(topicsOf(out), "jobs.events stage.scheduled") {
		t.Fatalf("the retry: %v, %v", topicsOf(out), err)
	}
}

// A recovery that breaks off leaves nothing behind, and the next one is whole.
func TestRecoveryThatBreaksOff(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.must(t, m.command("j", diagnostic()))
	before := m.picture()
	broken, replay := errors.New("broken off"), m.h.cfg.Replay
	m.h.cfg.Replay = func(ctx context.Context, at eventlog.TopicPartition, from int64, fn func([]eventlog.Record) error) (int64, error) {
		n, err := replay(ctx, at, from, fn)
		if at.Topic == events.TopicJobEvents && err == nil {
			err = broken
		}
		return n, err
	}
	if err := m.h.Recover(t.Context(), 0, m.meta); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if m.h.Live() != 0 || slices.ContainsFunc(m.h.places.lanes[events.LaneScript].queued, func(n [2]int) bool { return n != [2]int{} }) {
		t.Error("something is left of it")
	}
	m.h.cfg.Replay = replay
	m.drop()
	if after := m.picture(); !slices.Equal(after, before) {
		t.Errorf("recovered\n%v\nwas\n%v", after, before)
	}
}

// Partitions that are recovered at once come out as each does alone, whatever the clock
// and the beats do meanwhile.
func TestRecoveriesSideBySide(t *testing.T) {
	t.Parallel()
	m := newMemory()
	for n := range 20 {
		id := "job-" + strconv.Itoa(n) // a word of its own in every packed job
		m.must(t, m.command(id, diagnostic()))
		switch n % 4 {
		case 0:
			m.must(t, m.command(id, events.JobCancel{}))
		case 1:
			m.must(t, m.answer(id, events.LaneScript, 1, events.TaskAccepted{LeaseMS: 15_000}))
		case 2:
			m.must(t, m.answer(id, events.LaneScript, 1, events.TaskFailed{}))
		}
	}
	before, queued := m.picture(), slices.Clone(m.h.places.lanes[events.LaneScript].queued)
	m.restart()
	m.h.Drop(0)
	m.h.common = newCommon() // words that nobody has packed yet
	m.h.hot = hot{common: m.h.common, most: m.mostHot}
	const partitions = 4
	var begun sync.WaitGroup
	begun.Add(partitions)
	m.h.cfg.Replay = func(ctx context.Context, at eventlog.TopicPartition, from int64, fn func([]eventlog.Record) error) (int64, error) {
		if at.Topic == events.TopicJobEvents { // all at once, and in turns
			begun.Done()
			begun.Wait()
		}
		return m.read(ctx, at, from, func(records []eventlog.Record) error {
			for i := range records {
				runtime.Gosched()
				if err := fn(records[i : i+1]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var recoveries errgroup.Group
	for n := range int32(partitions) {
		recoveries.Go(func() error { return m.h.Recover(t.Context(), n, m.meta) })
	}
	done := make(chan struct{})
	var others sync.WaitGroup
	for _, do := range []func(){
		func() { m.h.Due(start) }, func() { m.h.Live() },
		func() { m.h.BeatsCurrent(true, start); m.h.BeatsCurrent(false, start) },
	} {
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					do()
				}
			}
		})
	}
	err := recoveries.Wait()
	close(done)
	others.Wait()
	if err != nil {
		t.Fatal(err)
	}
	for n := range int32(partitions) {
		if after := m.pictureOf(n); !slices.Equal(after, before) {
			t.Errorf("partition %d is\n%v\nwant\n%v", n, after, before)
		}
	}
	for i, n := range m.h.places.lanes[events.LaneScript].queued {
		if want := [2]int{partitions * queued[i][0], partitions * queued[i][1]}; n != want {
			t.Errorf("%v attempts are counted in queue %d, want %v", n, i, want)
		}
	}
}
