// What every engine that writes scripts must do, whatever writes behind it: one suite
// that is run over all of them.

package gpu

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Behaviours of a server beside those of voices (hangs, stalls, garbles, lost, starves) and of ComfyUI (restarts).
const (
	loops     = "loops"           // repeats itself until the server cuts it
	overlong  = "overlong"        // is cut for its length
	schemas   = "another schema"  // answers with another object
	modelless = "unknown model"   // has not the model
	schemaBad = "refused schema"  // an error of class 5xx that no repeat mends
	foreign   = "another program" // does not speak the protocol
	crashes   = "crashes"         // fails while answering
)

// scriptSubject is an engine in one behaviour, with what the suite must know of it.
type scriptSubject struct {
	engine engine
	asked  func() int  // how often a server was asked
	gone   func() bool // whether nobody is asked any more
}

type scriptTrial struct {
	name    string
	begin   func(t *testing.T, behaviour string) scriptSubject
	classes map[string]string // of the behaviours that the engine can show
}

// repaired are the behaviours after which the model is asked again.
var repaired = []string{loops, overlong, schemas, garbles}

func (tr scriptTrial) conforms(t *testing.T) {
	t.Run("writes", tr.writesWell)
	t.Run("refuses nothing to say", func(t *testing.T) {
		t.Parallel()
		s := tr.begin(t, speaks)
		for _, topic := range []string{"", " \n", "<b></b>"} {
			_, err := s.engine.Run(t.Context(), about(topic))
			wantTaskError(t, err, events.ClassInvalidInput)
		}
		if s.engine.(chooser).takes(about("")) || s.asked() != 0 {
			t.Error("an attempt without a topic was taken")
		}
	})
	if _, ok := tr.classes[hangs]; ok {
		t.Run("ends when asked", tr.endsWhenAsked)
	}
	for behaviour, class := range tr.classes {
		t.Run(behaviour, func(t *testing.T) {
			t.Parallel()
			s := tr.begin(t, behaviour)
			out, err := s.engine.Run(context.Background(), about("green tea"))
			te := wantTaskError(t, err, class)
			if out != nil || te.Message == "" || te.Hint == "" || strings.Contains(te.Message+te.Hint, "green") {
				t.Errorf("output %v, error %q, hint %q", out, te.Message, te.Hint)
			}
			want := 1
			if slices.Contains(repaired, behaviour) {
				want = chatTries
			}
			if n := s.asked(); n != want && behaviour != lost {
				t.Errorf("the model was asked %d times, want %d", n, want)
			}
			pollUntil(t, 5*time.Second, s.gone)
		})
	}
}

func (tr scriptTrial) writesWell(t *testing.T) {
	t.Parallel()
	s := tr.begin(t, speaks)
	can, gap := s.engine.Capability(t.Context())
	if gap != nil || can.Task != taskScript || can.Lane != events.LaneScript || can.Engine == "" || can.Version == "" {
		t.Fatalf("capability %+v, gap %+v", can, gap)
	}
	a := about("green tea")
	var progress []float64
	a.Progress = func(percent float64, _ string) { progress = append(progress, percent) }
	out, err := s.engine.Run(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	if narration := out.Texts["narration"]; !strings.Contains(strings.ToLower(narration), "tea") || narration != plainText(narration) || out.Texts["scene"] == "" {
		t.Errorf("texts %q", out.Texts)
	}
	if out.Engine != can.Engine || out.Model != can.Model || out.Fidelity != can.Fidelity {
		t.Errorf("output %+v of %+v", out, can)
	}
	if !slices.IsSorted(progress) || len(progress) == 0 || progress[len(progress)-1] != 100 {
		t.Errorf("progress %v", progress)
	}
	if _, asks := tr.classes[hangs]; asks && len(slices.Compact(slices.Clone(progress))) < 5 {
		t.Errorf("the progress %v does not follow the answer", progress)
	}
}

// endsWhenAsked cancels while the model is at work.
func (tr scriptTrial) endsWhenAsked(t *testing.T) {
	t.Parallel()
	for _, behaviour := range []string{hangs, stalls} {
		s := tr.begin(t, behaviour+" for long")
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			_, err := s.engine.Run(ctx, about("green tea"))
			done <- err
		}()
		pollUntil(t, 20*time.Second, func() bool { return s.asked() > 0 })
		cancel()
		select {
		case err := <-done:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v, want an error that wraps context.Canceled", behaviour, err)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("%s: it went on for 5 s", behaviour)
		}
		pollUntil(t, 5*time.Second, s.gone)
	}
}

// chatTrial is a language model behind a server of the wire's kind.
func chatTrial(w chatWire) scriptTrial {
	begin := func(t *testing.T, behaviour string) scriptSubject {
		all := recorded(t)
		answers := map[string]exchange{
			speaks: w.saying(goodScript), loops: all[w.loops], overlong: w.says(`{"narration": "Green tea is`, "length"),
			schemas: w.saying(`{"mood": "happy", "seconds": 5}`), garbles: w.saying("Sure! Here is your script about tea."),
			hangs: {Status: http.StatusOK, CType: w.kind, then: hangs}, stalls: w.begins(hangs), restarts: w.begins(lost),
			modelless: all[w.missing], schemaBad: w.refuses(500, "invalid JSON schema in format"), crashes: w.refuses(500, "llama runner process has terminated"),
			starves: w.refuses(500, "model requires more system memory (9.1 GiB) than is available (4.0 GiB)"),
			foreign: {Status: http.StatusOK, CType: "text/html", Lines: []string{"<!DOCTYPE html><title>It works!</title>"}},
			lost:    {},
		}
		if w.name == ollamaWire.name {
			answers[schemaBad] = all["bad_schema"]
		}
		name, patient := strings.CutSuffix(behaviour, " for long")
		c := ChatConfig{}
		if !patient && name == hangs {
			c.Patience = brief(50*time.Millisecond, time.Minute)
		}
		if !patient && name == stalls {
			c.Patience = brief(time.Minute, 50*time.Millisecond)
		}
		f := w.serve(t, answers[name])
		c.URL = f.URL
		if name == lost {
			f.Close()
		}
		return scriptSubject{w.writer(t, c), f.asked, f.idle}
	}
	return scriptTrial{name: w.name, begin: begin, classes: map[string]string{
		loops: events.ClassEngineRejected, overlong: events.ClassEngineRejected, schemas: events.ClassEngineRejected, garbles: events.ClassEngineRejected,
		hangs: events.ClassTimeout, stalls: events.ClassStalled, restarts: events.ClassEngineUnavailable, lost: events.ClassEngineUnavailable,
		modelless: events.ClassEngineUnavailable, crashes: events.ClassEngineUnavailable, schemaBad: events.ClassEngineRejected,
		starves: events.ClassOOM, foreign: events.ClassEngineRejected,
	}}
}

func TestScriptEnginesConform(t *testing.T) {
	t.Parallel()
	template := scriptTrial{name: "template", begin: func(*testing.T, string) scriptSubject {
		return scriptSubject{templateScript{}, func() int { return 0 }, func() bool { return true }}
	}}
	for _, tr := range []scriptTrial{template, chatTrial(ollamaWire), chatTrial(openAIWire)} {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			tr.conforms(t)
		})
	}
}

// A bad format is permanent, although its status is 500.
func TestARefusedSchemaIsNotAskedForAgain(t *testing.T) {
	t.Parallel()
	for _, w := range chatWires {
		for _, refusal := range []exchange{recorded(t)["bad_format"], w.refuses(400, "Failed to parse grammar"), w.refuses(422, "response_format: not supported")} {
			f := w.serve(t, refusal)
			_, err := w.writer(t, ChatConfig{URL: f.URL}).Run(t.Context(), about("tea"))
			if te := wantTaskError(t, err, events.ClassEngineRejected); !strings.Contains(te.Hint, "JSON schemas") || f.asked() != 1 {
				t.Errorf("%s: hint %q, asked %d times", w.name, te.Hint, f.asked())
			}
		}
	}
}
