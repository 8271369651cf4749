// Results that are there already: what a retry or re-run takes over, and what it makes anew.

package aggregates_test

import (
	"reflect"
	"slices"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// finished runs a whole svd_wav2lip job and returns its facts.
func finished(t *testing.T, env func(*script)) *script {
	t.Helper()
	s := newScript(t)
	env(s)
	r := trainRequest()
	prompt := digested("a prompt")
	r.Inputs["prompt"] = prompt
	r.Options = map[string]any{"seed": 7.0}
	s.submit(r)
	s.said("script", 1, map[string]string{"narration": "words", "scene": "sea"})
	s.said("safety", 1, map[string]string{"narration": "words", "scene": "sea"})
	s.succeed("train_lora", 1, "lora")
	s.succeed("train_voice", 1, "voice_reference")
	s.succeed("tts", 1, "speech", "timing")
	s.succeed("render", 1, "clip", "scene_image")
	s.succeed("lipsync", 1, "talking")
	s.succeed("upscale", 1, "video")
	s.succeed("assemble", 1, "video")
	s.said("check", 1, nil)
	if s.job.State != aggregates.JobSucceeded {
		t.Fatalf("the parent is %s: %+v", s.job.State, s.job.Stages)
	}
	return s
}

// again makes the child of a parent, with changes to its request, and returns the
// stages that are reused and those that are not.
func again(t *testing.T, parent *script, from string, change func(*events.Request)) (reused, scheduled []string, child *script) {
	t.Helper()
	p, job, err := aggregates.ParentOf(deepCopy(t, parent.facts), from)
	if err != nil {
		t.Fatal(err)
	}
	r := job.Request
	r.ParentJobID = job.ID
	change(&r)
	child = newScript(t)
	child.env = parent.env
	child.when(events.JobSubmit{Request: r, Parent: &p}, events.Columns{})
	for _, f := range child.facts {
		switch f.Data.(type) {
		case events.StageReused:
			reused = append(reused, f.Stage)
		case events.StageScheduled:
			scheduled = append(scheduled, f.Stage)
		}
	}
	return reused, scheduled, child
}

func TestRetryReusesEverythingThatStillHolds(t *testing.T) {
	t.Parallel()
	parent := finished(t, func(*script) {})
	reused, scheduled, child := again(t, parent, "", func(*events.Request) {})
	if len(scheduled) != 0 || child.job.State != aggregates.JobSucceeded || !slices.Contains(reused, "lipsync") {
		t.Errorf("reused %v, scheduled %v, the job is %s", reused, scheduled, child.job.State)
	}
	if !reflect.DeepEqual(child.job.Values["video"], parent.job.Values["video"]) {
		t.Errorf("the child's video is %v", child.job.Values["video"])
	}
	// A child of the child reuses as well.
	if reused, scheduled, _ := again(t, child, "", func(*events.Request) {}); len(scheduled) != 0 || len(reused) == 0 {
		t.Errorf("of the child: reused %v, scheduled %v", reused, scheduled)
	}
}

func TestEditedScriptRecomputesOnlyWhatDependsOnIt(t *testing.T) {
	t.Parallel()
	parent := finished(t, func(*script) {})
	edit := digested("other words")
	reused, scheduled, child := again(t, parent, "", func(r *events.Request) { r.Edit = &edit })
	if !slices.Equal(reused, []string{"script"}) || !slices.Equal(scheduled, []string{"safety"}) {
		t.Fatalf("at first: reused %v, scheduled %v", reused, scheduled)
	}
	child.said("safety", 1, map[string]string{"narration": "other words", "scene": "sea"})
	for _, stage := range []string{"render", "train_lora", "train_voice"} {
		if i, ok := child.job.Node(stage); !ok || child.job.Stages[i].State != aggregates.StageReused && child.job.Stages[i].State != aggregates.StageSkipped {
			t.Errorf("%s does not depend on the script, but is %+v", stage, child.job.Stages[i])
		}
	}
	if i, _ := child.job.Node("tts"); child.job.Stages[i].State != aggregates.StageQueued {
		t.Errorf("tts depends on the script, but is %s", child.job.Stages[i].State)
	}
}

func TestRerunFromAStage(t *testing.T) {
	t.Parallel()
	parent := finished(t, func(*script) {})
	reused, scheduled, child := again(t, parent, "lipsync", func(*events.Request) {})
	if !slices.Equal(scheduled, []string{"lipsync"}) || !slices.Contains(reused, "render") {
		t.Errorf("reused %v, scheduled %v", reused, scheduled)
	}
	for stage, anew := range map[string]bool{"render": false, "tts": false, "lipsync": true, "upscale": true, "check": true} {
		if child.job.Anew(stage) != anew {
			t.Errorf("%s is asked for anew: %v", stage, !anew)
		}
	}
	if _, _, err := aggregates.ParentOf(parent.facts, "nowhere"); err == nil {
		t.Error("an unknown stage is no error")
	}
}

func TestAnotherEngineOrOptionMakesAnotherResult(t *testing.T) {
	t.Parallel()
	parent := finished(t, func(s *script) {
		s.env.Engines = withEngines(events.TaskCapability{Task: aggregates.TaskSpeech, Engine: "flite", Version: "2", Model: "slt"})
	})
	_, scheduled, _ := again(t, parent, "", func(r *events.Request) { r.Options = map[string]any{"seed": 8.0} })
	if !slices.Contains(scheduled, "render") || slices.Contains(scheduled, "tts") {
		t.Errorf("another seed: scheduled %v", scheduled)
	}
	parent.env.Engines = withEngines(events.TaskCapability{Task: aggregates.TaskSpeech, Engine: "neural", Version: "1", Model: "x"})
	if _, scheduled, _ := again(t, parent, "", func(*events.Request) {}); !slices.Contains(scheduled, "tts") || slices.Contains(scheduled, "render") {
		t.Errorf("another engine: scheduled %v", scheduled)
	}
}

// Engines may know a voice for a profile, beside its reference.
func TestAnotherProfileIsSpokenForAnew(t *testing.T) {
	t.Parallel()
	parent := newScript(t)
	parent.env.Profile = &events.ProfileSnapshot{ID: "prof", Version: 3, Portrait: &events.Artifact{ID: "pp", SHA256: "pp"}}
	r := profileRequest()
	r.Inputs = map[string]events.Value{"script": digested("words")}
	r.Options = map[string]any{"seed": 7.0}
	parent.submit(r)
	parent.said("script", 1, map[string]string{"narration": "words", "scene": "sea"})
	parent.said("safety", 1, map[string]string{"narration": "words", "scene": "sea"})
	parent.succeed("tts", 1, "speech", "timing")
	parent.succeed("render", 1, "clip", "scene_image")
	for profile, anew := range map[string]bool{"prof": false, "other": true} {
		_, _, child := again(t, parent, "", func(r *events.Request) { r.ProfileID = profile })
		child.said("safety", 1, map[string]string{"narration": "words", "scene": "sea"})
		for stage, want := range map[string]bool{"tts": anew, "render": false} {
			i, _ := child.job.Node(stage)
			if got := child.job.Stages[i].State != aggregates.StageReused; got != want {
				t.Errorf("profile %s: %s is %s", profile, stage, child.job.Stages[i].State)
			}
		}
	}
}

func TestWorkersResultIsReused(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	from := events.ReusedFrom{JobID: "other", Stage: "script", InputHash: "h"}
	s.want(s.when(events.TaskSucceeded{ReusedFrom: &from}, events.Columns{Stage: "script", Attempt: 1}), "stage.reused script#1", "stage.scheduled safety#1")
}

func TestTextsWithoutADigestHaveNoName(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	r := talker()
	r.Inputs["prompt"] = events.Value{Text: digested("x").Text}
	s.submit(r)
	i, _ := s.job.Node("script")
	if got := aggregates.InputHash(s.job, s.job.Graph.Nodes[i], "e"); got != "" {
		t.Errorf("the name is %q", got)
	}
}
