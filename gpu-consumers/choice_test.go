// The engines that a job allows: the configured one alone, built-in ones alone, or the
// one standing in for the other.

package gpu

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// card is a configured engine that can be taken away, in the middle of an attempt too.
type card struct {
	testEngine
	here, runs atomic.Int32
	falters    chan struct{} // closed: an attempt on it breaks off
}

var cardCan = events.TaskCapability{Task: benchTask.Task, Lane: events.LaneRender, Engine: "card", Version: "1", Fidelity: events.FidelityFull}

func newCard() *card {
	c := &card{falters: make(chan struct{})}
	c.here.Store(1)
	c.can = cardCan
	return c
}

func (c *card) Capability(context.Context) (events.TaskCapability, *events.TaskGap) {
	if c.here.Load() == 0 {
		return events.TaskCapability{}, &events.TaskGap{Task: benchTask.Task, Engine: "card", Reason: "the card is gone", Hint: "plug it in"}
	}
	return c.can, nil
}

func (c *card) Run(ctx context.Context, _ *Attempt) (*Output, error) {
	c.runs.Add(1)
	select {
	case <-c.falters:
		c.here.Store(0)
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "the card went away", Hint: "plug it in"}
	case <-ctx.Done():
		return nil, ctx.Err()
	default:
		return &Output{Fidelity: events.FidelityFull, Engine: "card", Version: "1"}, nil
	}
}

// standIn is a built-in engine of the same task.
func standIn() *testEngine {
	e := engineOf(func(context.Context, *Attempt) (*Output, error) {
		return &Output{Fidelity: events.FidelityPreview, Engine: "stand-in"}, nil
	})
	e.can.Engine, e.can.Builtin = "stand-in", true
	return e
}

// made is who made a stage's result, and of what fidelity.
func (b *bench) made(stage, engines string) (engine, fidelity string) {
	b.t.Helper()
	b.send(stage, events.TaskRun{Engines: engines})
	r := b.await("task.succeeded", stage).Data.(events.TaskSucceeded)
	return r.Engine, r.Fidelity
}

// Given a configured engine that goes away in the middle of an attempt, when further
// attempts follow, then a job that allows both is made by the built-in one, and one that
// wants the real thing fails until the engine is back.
func TestARealEngineGoesAwayInTheMiddle(t *testing.T) {
	t.Parallel()
	c := newCard()
	b := newBench(t, c, standIn())
	b.start()
	for _, engines := range []string{"", events.EnginesAuto, events.EnginesReal} {
		if engine, fidelity := b.made("before-"+engines, engines); engine != "card" || fidelity != events.FidelityFull {
			t.Errorf("engines %q: made by %s, fidelity %s", engines, engine, fidelity)
		}
	}
	if engine, fidelity := b.made("preview", events.EnginesPreview); engine != "stand-in" || fidelity != events.FidelityPreview {
		t.Errorf("a preview was made by %s, fidelity %s", engine, fidelity)
	}

	close(c.falters)
	b.send("breaks", events.TaskRun{Engines: events.EnginesReal})
	b.failed("breaks", events.ClassEngineUnavailable)
	eventlogtest.Eventually(t, patience, "the gap is told", func() bool { return len(lastManifest(b).Unavailable) == 1 })

	if engine, fidelity := b.made("auto", events.EnginesAuto); engine != "stand-in" || fidelity != events.FidelityPreview {
		t.Errorf("with the card away, auto was made by %s, fidelity %s", engine, fidelity)
	}
	b.send("real", events.TaskRun{Engines: events.EnginesReal})
	if f := b.failed("real", events.ClassEngineUnavailable); !strings.Contains(f.Message, "card: the card is gone") || !strings.Contains(f.Hint, "plug it in") {
		t.Errorf("the failure says %q, %q", f.Message, f.Hint)
	}

	c.falters = make(chan struct{})
	c.here.Store(1)
	eventlogtest.Eventually(t, patience, "the card is back", func() bool { return len(lastManifest(b).Unavailable) == 0 })
	if engine, _ := b.made("again", events.EnginesReal); engine != "card" {
		t.Errorf("with the card back, made by %s", engine)
	}
}

// An engine that falls back by itself does not pass for the real thing.
func TestAPreviewInDisguiseIsNoResult(t *testing.T) {
	t.Parallel()
	e := engineOf(func(context.Context, *Attempt) (*Output, error) {
		return &Output{Fidelity: events.FidelityPreview, Engine: "card"}, nil
	})
	e.can = cardCan
	b := newBench(t, e)
	b.start()
	b.send("s1", events.TaskRun{Engines: events.EnginesReal})
	if f := b.failed("s1", events.ClassEngineUnavailable); !strings.Contains(f.Message, "fidelity preview") {
		t.Errorf("the failure says %q", f.Message)
	}
}

// A preview that another job made does not stand in for real work of the same name.
func TestAPreviewIsNotReusedForRealWork(t *testing.T) {
	t.Parallel()
	c := newCard()
	c.here.Store(0)
	b := newBench(t, c, standIn())
	b.start()
	eventlogtest.Eventually(t, patience, "the gap is told", func() bool { return len(lastManifest(b).Unavailable) == 1 })
	task := events.TaskRun{InputHash: sameWork, Share: true, Engine: "stand-in/7/m1"}
	b.send("preview", task)
	b.await("task.succeeded", "preview")
	c.here.Store(1)
	eventlogtest.Eventually(t, patience, "the card is there", func() bool { return len(lastManifest(b).Unavailable) == 0 })
	if b.send("auto", task); b.await("task.succeeded", "auto").Data.(events.TaskSucceeded).ReusedFrom == nil {
		t.Error("what stood in is not reused where it may")
	}
	task.Engines = events.EnginesReal
	b.send("real", task)
	if r := b.await("task.succeeded", "real").Data.(events.TaskSucceeded); r.ReusedFrom != nil || r.Fidelity != events.FidelityFull {
		t.Errorf("real work ended as %+v", r)
	}
}

// Whatever engines there are and come and go, what an attempt is run by is what its job
// allows and its node wants.
func TestThePickObeysTheChoice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var engines []engine
		for range rapid.IntRange(0, 5).Draw(t, "engines") {
			e := &testEngine{can: events.TaskCapability{Task: benchTask.Task, Engine: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name"),
				Fidelity: rapid.SampledFrom([]string{events.FidelityFull, events.FidelityPreview, events.FidelityPrepared}).Draw(t, "fidelity"), Builtin: rapid.Bool().Draw(t, "builtin")}}
			if rapid.IntRange(0, 2).Draw(t, "away") == 0 {
				e.gap = &events.TaskGap{Task: benchTask.Task, Engine: e.can.Engine, Reason: "away", Hint: "mend it", Builtin: e.can.Builtin}
			}
			engines = append(engines, e)
		}
		r := newRoster(engines, nil)
		r.refresh(context.Background())
		a := &Attempt{Task: benchTask.Task, Engines: rapid.SampledFrom([]string{"", events.EnginesAuto, events.EnginesReal, events.EnginesPreview}).Draw(t, "choice"),
			Wants: rapid.SampledFrom([]string{"", "", "b"}).Draw(t, "wants")}
		allowed := func(c events.TaskCapability) bool {
			return (a.Engines != events.EnginesReal || c.Fidelity == events.FidelityFull) && (a.Engines != events.EnginesPreview || c.Builtin) && (a.Wants == "" || c.Engine == a.Wants || c.Builtin)
		}
		_, can, err := r.pick(context.Background(), a)
		if err == nil {
			if !allowed(can) {
				t.Fatalf("%+v runs on %+v", a, can)
			}
			return
		}
		for _, e := range engines {
			if e := e.(*testEngine); e.gap == nil && allowed(e.can) {
				t.Fatalf("%+v runs on nothing (%v), and %+v is there", a, err, e.can)
			}
		}
	})
}
