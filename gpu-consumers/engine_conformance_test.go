// What every engine must do that moves lips, renders or trains, whatever does the work:
// one suite that is run over all of them. Voices have their own.

package gpu

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Behaviours of servers beside those of the fake voices and programs.
const (
	restarts = "restarts" // is started anew in the middle
	unheard  = "unheard"  // takes the work, and its answer is lost
)

// trialEngine is an engine in one behaviour.
type trialEngine struct {
	engine engine
	works  func() bool     // whether it is in the middle of its work
	gone   func() bool     // whether nothing of what it ran for us is left
	files  func() []string // what it left outside of the attempt's folder
}

// engineTrial is one kind of engine.
type engineTrial struct {
	name, task, lane string
	fidelity         string
	begin            func(t *testing.T, behaviour string) trialEngine
	attempt          func(t *testing.T) *Attempt
	// check holds the result against what its task promises.
	check func(t *testing.T, a *Attempt, out *Output)
	// classes are the classes of the behaviours that the engine can show; an empty one
	// means that it works all the same.
	classes map[string]string
}

// conforms runs the suite.
func (tr engineTrial) conforms(t *testing.T) {
	t.Run("works", func(t *testing.T) { t.Parallel(); tr.worksWell(t, works) })
	t.Run("ends when asked", tr.endsWhenAsked)
	for behaviour, class := range tr.classes {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			if class == "" {
				tr.worksWell(t, behaviour)
				return
			}
			tr.fails(t, behaviour, class)
		})
	}
}

// works is the behaviour of an engine that does what it should.
const works = "works"

// watched is an attempt whose progress is looked at.
func (tr engineTrial) watched(t *testing.T) (*Attempt, func() []float64) {
	a := tr.attempt(t)
	a.ID, a.JobID, a.Stage, a.Number, a.Task, a.Dir = events.AttemptID(comfyJob, "stage", 1), comfyJob, "stage", 1, tr.task, t.TempDir()
	var mu sync.Mutex
	var percents []float64
	a.Progress = func(p float64, message string) {
		mu.Lock()
		defer mu.Unlock()
		if message == "" {
			t.Errorf("%g %% of nothing", p)
		}
		percents = append(percents, p)
	}
	return a, func() []float64 {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(percents)
	}
}

func rises(percents []float64) bool {
	return slices.IsSorted(percents) && len(percents) > 0 && percents[0] >= 0 && percents[len(percents)-1] <= 100
}

func (tr engineTrial) worksWell(t *testing.T, behaviour string) {
	e := tr.begin(t, behaviour)
	c, gap := e.engine.Capability(t.Context())
	if gap != nil || c.Task != tr.task || c.Lane != tr.lane || c.Engine == "" || c.Version == "" || c.Fidelity != tr.fidelity {
		t.Fatalf("capability %+v, gap %+v", c, gap)
	}
	a, percents := tr.watched(t)
	if picky, is := e.engine.(chooser); is && !picky.takes(a) {
		t.Fatal("it does not take the attempt")
	}
	out, err := e.engine.Run(inTime(t), a)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if p := percents(); !rises(p) || len(p) < 2 || !slices.ContainsFunc(p, func(v float64) bool { return v > 15 && v < 98 }) {
		t.Errorf("progress %v", p)
	}
	if out.Engine != c.Engine || out.Version != c.Version || out.Fidelity != c.Fidelity || out.Model != c.Model {
		t.Errorf("made by %q %q %q, fidelity %q; announced was %+v", out.Engine, out.Model, out.Version, out.Fidelity, c)
	}
	names := map[string]bool{}
	for _, files := range out.Files {
		for _, f := range files {
			inside, err := filepath.Rel(a.Dir, f.Path)
			if err != nil || !filepath.IsLocal(inside) || !plainFile(f.Path) || f.Artifact.Name == "" || f.Artifact.Type == "" || f.Artifact.MediaType == "" || names[f.Artifact.Name] {
				t.Errorf("file %q is %+v", inside, f.Artifact)
			}
			names[f.Artifact.Name] = true
		}
	}
	tr.check(t, a, out)
	if left := e.files(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

// endsWhenAsked stops the attempt in the middle of the work, as a cancelled job does.
func (tr engineTrial) endsWhenAsked(t *testing.T) {
	t.Parallel()
	e := tr.begin(t, hangs)
	ctx, stop := context.WithCancelCause(t.Context())
	defer stop(nil)
	done := make(chan error, 1)
	a, percents := tr.watched(t)
	go func() {
		_, err := e.engine.Run(ctx, a)
		done <- err
	}()
	pollUntil(t, 2*time.Minute, func() bool {
		select {
		case err := <-done:
			t.Fatalf("it ended by itself: %v", err)
		default:
		}
		return e.works()
	})
	stop(errStopped)
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) && !errors.Is(err, errStopped) {
			t.Errorf("got %v, want an error that wraps the end that was asked for", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it went on for 5 s")
	}
	pollUntil(t, 5*time.Second, e.gone)
	if left := e.files(); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if p := percents(); len(p) > 0 && !rises(p) {
		t.Errorf("progress %v", p)
	}
	if err := os.RemoveAll(a.Dir); err != nil { // as the worker does; nobody writes there any more
		t.Error(err)
	}
}

func (tr engineTrial) fails(t *testing.T, behaviour, class string) {
	e := tr.begin(t, behaviour)
	a, percents := tr.watched(t)
	out, err := e.engine.Run(inTime(t), a)
	te := wantTaskError(t, err, class)
	if out != nil || te.Message == "" || te.Hint == "" || strings.Contains(te.Message+te.Hint, "Traceback") {
		t.Errorf("output %v, error %q, hint %q", out, te.Message, te.Hint)
	}
	if p := percents(); len(p) > 0 && !rises(p) {
		t.Errorf("progress %v", p)
	}
	pollUntil(t, 5*time.Second, e.gone)
	if again := slices.Contains([]string{events.ClassOOM, events.ClassTimeout, events.ClassStalled, events.ClassEngineUnavailable}, class); !again {
		if left := e.files(); len(left) > 0 { // what another attempt can use may stay
			t.Errorf("left behind: %q", left)
		}
	}
}

// nothing is what an engine leaves that works in the attempt's folder alone.
func nothing() []string { return nil }

// plantedEngine is an engine whose program is a planted one.
func plantedEngine(t *testing.T, program string, e engine, files func() []string) trialEngine {
	return trialEngine{engine: e, files: files, works: func() bool { return len(callsOf(t, program)) > 0 }, gone: planted(t, program, nil).gone}
}

// impatience makes a program's silence end early where a test waits for it.
func impatience(behaviour string) time.Duration {
	if behaviour == stalls {
		return 2 * time.Second
	}
	return 0
}
