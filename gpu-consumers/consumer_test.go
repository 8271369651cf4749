// One command after another through a worker: success, every kind of failure, and
// outages of what the worker depends on.

package gpu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func (b *bench) seal(text string) events.Value {
	b.t.Helper()
	s, err := b.ring.Seal(b.t.Context(), b.key, text)
	if err != nil {
		b.t.Fatal(err)
	}
	return events.Value{Text: &s}
}

func (b *bench) unseal(s *events.Sealed) string {
	b.t.Helper()
	if s == nil {
		b.t.Fatal("nothing is sealed")
	}
	text, err := b.ring.Open(b.t.Context(), *s)
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

func (b *bench) upload(text string) events.Value {
	b.t.Helper()
	a, err := b.store.Put(b.t.Context(), "default/-/upload1", "png", "image/png", strings.NewReader(text))
	if err != nil {
		b.t.Fatal(err)
	}
	a.ID, a.Name, a.Type = "the-upload", "portrait.png", "portrait"
	return events.Value{Artifacts: []events.Artifact{a}}
}

// paint is an engine's work that uses every input and makes every kind of output.
func paint(_ context.Context, a *Attempt) (*Output, error) {
	picture, err := os.ReadFile(a.Files["portrait"][0].Path)
	if err != nil {
		return nil, err
	}
	clip := filepath.Join(a.Dir, "clip.mp4")
	if err := os.WriteFile(clip, append(picture, a.Texts["scene"]...), 0o600); err != nil {
		return nil, err
	}
	return &Output{
		Texts: map[string]string{"caption": "about " + a.Texts["scene"]},
		Files: map[string][]File{"clip": {{Path: clip, Artifact: events.Artifact{
			Name: "clip.mp4", Type: "video", MediaType: "video/mp4", Width: 720, Height: 720, DurationMS: 8000,
		}}}},
		Fidelity: events.FidelityPreview, Engine: "test", Model: "m1", Version: "7", Notes: []string{"A note."},
		Verdict: &events.Verdict{Allowed: false, Reasons: []events.Reason{{Code: "dull", Detail: "It is dull."}}},
	}, nil
}

func TestACommandBecomesAResult(t *testing.T) {
	t.Parallel()
	var got Attempt
	b := newBench(t, engineOf(func(ctx context.Context, a *Attempt) (*Output, error) {
		got = *a
		return paint(ctx, a)
	}))
	metrics := prometheus.NewRegistry()
	var err error
	if b.worker.metrics, err = newTaskMetrics(metrics); err != nil {
		t.Fatal(err)
	}
	b.start()
	cmd := b.send("render", events.TaskRun{
		Params: map[string]any{"fps": 25}, Inputs: map[string]events.Value{"scene": b.seal("a garden"), "portrait": b.upload("pixels")}, TimeoutMS: 60_000,
	})
	done := b.await("task.succeeded", "render")

	if got.ID != cmd.ID || got.JobID != benchJob || got.Task != benchTask.Task || got.Variant != "svd_wav2lip" || got.Number != 1 || got.Params["fps"] != 25.0 {
		t.Errorf("the attempt was %+v", got)
	}
	if f := got.Files["portrait"][0]; f.Artifact.ID != "the-upload" || filepath.Ext(f.Path) != ".png" || !filepath.IsAbs(got.Dir) {
		t.Errorf("the input file was %+v in %s", f, got.Dir)
	}
	accepted := b.await("task.accepted", "render")
	if a := accepted.Data.(events.TaskAccepted); a.LeaseMS != 15_000 || a.GPU != "Test GPU" {
		t.Errorf("accepted = %+v", a)
	}
	for _, m := range []events.Message{accepted, done} {
		c := m.Columns
		if m.AggregateID != benchJob || m.CommandID != "the-submit" || m.CausationID != cmd.ID || m.CorrelationID != "the-story" ||
			m.Tenant != "default" || m.Actor != "w1" || c.Worker != "w1" || c.Attempt != 1 || c.Lane != events.LaneRender || c.Task != benchTask.Task {
			t.Errorf("the envelope of %s is %+v", m.Type(), m)
		}
	}
	r := done.Data.(events.TaskSucceeded).Result
	if r.Fidelity != events.FidelityPreview || r.Engine != "test" || r.Version != "7" || len(r.Notes) != 1 || r.Verdict == nil || r.Verdict.Allowed || done.Model != "m1" || done.DurationMS < 1 {
		t.Errorf("result = %+v, model %q, %d ms", r, done.Model, done.DurationMS)
	}
	if d := r.Outputs["caption"].Digest; d != b.ring.Digest("default", "about a garden") {
		t.Errorf("the caption has the digest %q", d)
	}
	if text := b.unseal(r.Outputs["caption"].Text); text != "about a garden" {
		t.Errorf("caption = %q", text)
	}
	clip := r.Outputs["clip"].Artifacts[0]
	if clip.ID != events.ArtifactID(benchJob, "render", 1, "clip.mp4") || clip.Type != "video" || clip.Width != 720 || clip.MediaType != "video/mp4" ||
		!strings.HasPrefix(clip.URI, "s3://bench/default/-/"+benchJob+"/") || done.ArtifactURI != clip.URI || done.ArtifactSHA256 != clip.SHA256 {
		t.Errorf("clip = %+v", clip)
	}
	path := filepath.Join(t.TempDir(), "clip")
	if err := b.store.Fetch(t.Context(), clip, path); err != nil {
		t.Fatal(err)
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "pixelsa garden" {
		t.Errorf("the clip holds %q, %v", content, err)
	}
	families, err := metrics.Gather()
	if err != nil || len(families) == 0 || families[0].GetName() != "myspinbot_task_seconds" || families[0].Metric[0].GetHistogram().GetSampleCount() != 1 {
		t.Errorf("metrics = %v, %v", families, err)
	}
	if left, err := os.ReadDir(b.worker.dir); err != nil || len(left) != 0 {
		t.Errorf("the attempt left %v (%v)", left, err)
	}
	if n := len(b.of("task.accepted", "render")) + len(b.of("task.succeeded", "render")); n != 2 {
		t.Errorf("%d records about one attempt, want 2", n)
	}
}

// misbehave does what the parameter "do" says.
func misbehave(ctx context.Context, a *Attempt) (*Output, error) {
	file := func(path, name string) *Output {
		return &Output{Files: map[string][]File{"clip": {{Path: path, Artifact: events.Artifact{Name: name, MediaType: "video/mp4"}}}}}
	}
	empty := filepath.Join(a.Dir, "empty.mp4")
	switch a.Params["do"] {
	case "oom":
		return nil, &TaskError{Class: events.ClassOOM, Message: "too little memory", Hint: "use less", LogTail: "the secret prompt", Err: errors.New("exit 137")}
	case "error":
		return nil, errors.New("something about the secret prompt")
	case "class":
		return nil, &TaskError{Class: "made-up", Message: "the secret prompt"}
	case "panic":
		panic("the secret prompt")
	case "hang":
		<-ctx.Done()
		return nil, ctx.Err()
	case "nothing":
		return nil, nil
	case "outside":
		return file("/etc/hostname", "hostname.mp4"), nil
	case "absent":
		return file(filepath.Join(a.Dir, "none.mp4"), ""), nil
	case "empty":
		return file(empty, ""), os.WriteFile(empty, nil, 0o600)
	}
	return &Output{}, nil
}

func TestFailuresHaveAClassAndNoUserText(t *testing.T) {
	t.Parallel()
	b := newBench(t, engineOf(misbehave))
	b.start()
	lost := b.upload("lost")
	if err := b.store.Delete(t.Context(), lost.Artifacts[0].URI); err != nil {
		t.Fatal(err)
	}
	damaged := b.upload("damaged")
	damaged.Artifacts[0].Size++
	foreign := b.upload("foreign")
	foreign.Artifacts[0].URI = "s3://elsewhere/default/-/x/y.png"
	erased := b.seal("gone")
	erased.Text.Key = "keys/default/-/erased"
	changed := b.seal("changed")
	changed.Text.Bytes[20] ^= 1
	in := func(v events.Value) map[string]events.Value { return map[string]events.Value{"x": v} }
	for name, c := range map[string]struct {
		task  events.TaskRun
		class string
		tail  string
	}{
		"oom":     {class: events.ClassOOM, tail: "the secret prompt\nexit 137"},
		"error":   {class: events.ClassInternal, tail: "something about the secret prompt"},
		"class":   {class: events.ClassInternal, tail: "the secret prompt"},
		"panic":   {class: events.ClassInternal, tail: "the secret prompt"},
		"nothing": {class: events.ClassInternal}, "outside": {class: events.ClassInternal},
		"absent": {class: events.ClassInternal}, "empty": {class: events.ClassInternal},
		"hang":    {task: events.TaskRun{TimeoutMS: 50}, class: events.ClassTimeout},
		"lost":    {task: events.TaskRun{Inputs: in(lost)}, class: events.ClassArtifactMissing},
		"damaged": {task: events.TaskRun{Inputs: in(damaged)}, class: events.ClassArtifactMissing},
		"foreign": {task: events.TaskRun{Inputs: in(foreign)}, class: events.ClassInvalidInput},
		"erased":  {task: events.TaskRun{Inputs: in(erased)}, class: events.ClassArtifactMissing},
		"changed": {task: events.TaskRun{Inputs: in(changed)}, class: events.ClassInvalidInput},
	} {
		c.task.Params = map[string]any{"do": name}
		b.send(name, c.task)
		f := b.failed(name, c.class)
		if f.Message == "" || strings.Contains(f.Message+f.Hint, "secret") {
			t.Errorf("%s: message %q, hint %q", name, f.Message, f.Hint)
		}
		if c.tail != "" && !strings.Contains(b.unseal(f.LogTail), c.tail) {
			t.Errorf("%s: log tail %q", name, b.unseal(f.LogTail))
		}
		if name == "oom" && (f.Message != "too little memory" || f.Hint != "use less") {
			t.Errorf("an engine's own failure became %+v", f)
		}
	}
	b.send("well", events.TaskRun{})
	b.await("task.succeeded", "well")
}

func TestWhatIsNoCommandGoesToTheDeadLetters(t *testing.T) {
	t.Parallel()
	b := newBench(t, engineOf(misbehave))
	b.start()
	b.sendRaw([]byte("{nope"))
	b.send("elsewhere", events.TaskRun{Subject: "default/../x"})
	b.send("s1", events.TaskRun{})
	b.await("task.succeeded", "s1")
	eventlogtest.Eventually(t, patience, "two dead letters", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.dead) == 2
	})
	if string(b.dead[0].Value) != "{nope" || !strings.Contains(b.dead[0].Header(eventlog.HeaderReason), "malformed") {
		t.Errorf("the dead letter is %q: %s", b.dead[0].Value, b.dead[0].Header(eventlog.HeaderReason))
	}
	if len(b.of("task.accepted", "elsewhere")) != 0 {
		t.Error("a command for a folder that cannot be was accepted")
	}
}

func TestATaskWithoutEngineSaysWhatToMend(t *testing.T) {
	t.Parallel()
	gap := &events.TaskGap{Task: benchTask.Task, Engine: "big", Reason: "no weights", Hint: "fetch them"}
	b := newBench(t, &testEngine{gap: gap}, engineOf(misbehave))
	b.worker.roster.refresh(t.Context())
	if _, can, err := b.worker.roster.pick(t.Context(), &Attempt{Task: benchTask.Task}); err != nil || can.Engine != "test" {
		t.Errorf("with the preferred engine away: %v, %v", can, err)
	}
	_, _, err := b.worker.roster.pick(t.Context(), &Attempt{Task: "lipsync.apply"})
	wantTaskError(t, err, events.ClassEngineUnavailable)

	alone := newRoster([]engine{&testEngine{gap: gap}}, nil)
	alone.refresh(t.Context())
	_, _, err = alone.pick(t.Context(), &Attempt{Task: benchTask.Task})
	if e := wantTaskError(t, err, events.ClassEngineUnavailable); !strings.Contains(e.Message, "big: no weights") || e.Hint != "fetch them" {
		t.Errorf("failure = %+v", e)
	}
}

func TestProgressNeverFallsAndNeverStops(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	b := newBench(t, engineOf(func(_ context.Context, a *Attempt) (*Output, error) {
		for i := range 2000 {
			a.Progress(float64(i%100), "painting")
		}
		a.Progress(-5, "painting")
		a.Progress(60, "nearly done")
		<-hold
		return &Output{}, nil
	}))
	b.start()
	b.send("s1", events.TaskRun{})
	eventlogtest.Eventually(t, patience, "beats without news", func() bool { return len(b.of("task.progress", "s1")) >= 5 })
	close(hold)
	b.await("task.succeeded", "s1")
	beats := b.of("task.progress", "s1")
	if len(beats) > 500 {
		t.Errorf("%d progress records", len(beats))
	}
	before := 0.0
	for _, m := range beats {
		p := m.Data.(events.TaskProgress)
		if p.Percent < before || p.Percent > 100 || m.AggregateID != benchJob || m.Attempt != 1 {
			t.Errorf("after %v came %+v", before, p)
		}
		before = p.Percent
	}
	if last := beats[len(beats)-1].Data.(events.TaskProgress); last.Percent != 99 || last.Message != "nearly done" {
		t.Errorf("the last beat is %+v", last)
	}
}

func TestAResultSurvivesAnOutageOfTheLog(t *testing.T) {
	t.Parallel()
	started, hold := make(chan struct{}), make(chan struct{})
	var ran atomic.Int32
	b := newBench(t, engineOf(func(context.Context, *Attempt) (*Output, error) {
		ran.Add(1)
		close(started)
		<-hold
		return &Output{Engine: "test"}, nil
	}))
	b.start()
	b.send("s1", events.TaskRun{})
	<-started
	b.net.Cut()
	close(hold)
	eventlogtest.Eventually(t, patience, "a failed delivery", func() bool {
		// The attempt is over and its folder gone, but the slot is still taken.
		left, err := os.ReadDir(b.worker.dir)
		return err == nil && len(left) == 0
	})
	if got := b.of("task.succeeded", "s1"); len(got) != 0 {
		t.Fatalf("a result came through the cut: %v", got)
	}
	b.net.Mend()
	b.await("task.succeeded", "s1")
	if n := ran.Load(); n != 1 {
		t.Errorf("the attempt ran %d times", n)
	}
}

func TestOutputsWaitForTheObjectStore(t *testing.T) {
	t.Parallel()
	started, hold := make(chan struct{}), make(chan struct{})
	b := newBench(t, engineOf(func(ctx context.Context, a *Attempt) (*Output, error) {
		close(started)
		<-hold
		return paint(ctx, a)
	}))
	b.start()
	b.send("s1", events.TaskRun{Inputs: map[string]events.Value{"scene": b.seal("a garden"), "portrait": b.upload("pixels")}})
	<-started
	if err := b.s3.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(hold)
	tried, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	<-tried.Done() // long enough for a first upload to fail
	if err := b.s3.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	clip := b.await("task.succeeded", "s1").Data.(events.TaskSucceeded).Outputs["clip"].Artifacts[0]
	if _, err := b.store.Stat(t.Context(), clip.URI); err != nil {
		t.Error(err)
	}
}

func TestAnAbsentObjectStoreIsAnswered(t *testing.T) {
	t.Parallel()
	b := newBench(t, engineOf(misbehave))
	b.worker.pace.store = time.Millisecond
	b.start()
	in := b.upload("pixels")
	if err := b.s3.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.send("s1", events.TaskRun{Inputs: map[string]events.Value{"x": in}})
	if f := b.failed("s1", events.ClassEngineUnavailable); !strings.Contains(f.Message, "object store") {
		t.Errorf("failure = %+v", f)
	}
}
