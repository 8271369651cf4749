// Several takes of one picture, drafts, music, and the shape of what takes share.

package aggregates_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

func node(t *testing.T, g events.Graph, id string) events.Node {
	t.Helper()
	i := slices.IndexFunc(g.Nodes, func(n events.Node) bool { return n.ID == id })
	if i < 0 {
		t.Fatalf("the graph has no node %s", id)
	}
	return g.Nodes[i]
}

func TestTakesRepeatWhatASeedDecides(t *testing.T) {
	t.Parallel()
	r := trainRequest()
	r.Options = map[string]any{"takes": 2.0, "seed": 2147483647.0}
	want := []string{
		"script < ", "safety < script", "profile < safety", "train_lora- < profile", "train_voice- < profile", "render < safety train_lora", "tts < safety train_voice",
		"lipsync < render tts", "upscale- < lipsync", "assemble < safety tts upscale", "check < assemble tts",
		"render_2 < safety train_lora", "lipsync_2 < render_2 tts", "upscale_2- < lipsync_2", "assemble_2 < safety tts upscale_2", "check_2 < assemble_2 tts",
		"register < assemble assemble_2 check check_2",
	}
	g := plan(t, r)
	if got := shape(g); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for stage, seed := range map[string]float64{"render": 2147483647, "lipsync": 2147483647, "assemble": 2147483647, "render_2": 0, "lipsync_2": 0, "assemble_2": 0} {
		if got := node(t, g, stage).Params["seed"]; got != seed {
			t.Errorf("%s draws seed %v, want %v", stage, got, seed)
		}
	}
	second := node(t, g, "lipsync_2")
	if second.In["clip"] != "clip_2" || second.In["speech"] != "speech" || second.In["timing"] != "timing?" || second.Out["talking"] != "talking_2" {
		t.Errorf("lipsync_2 reads %v and writes %v", second.In, second.Out)
	}
	if pass := node(t, g, "upscale_2").Pass["video"]; pass != "talking_2" {
		t.Errorf("upscale_2 passes %s on", pass)
	}
	sum := 0.0
	for _, n := range g.Nodes {
		sum += n.Weight
	}
	if sum < 0.999 || sum > 1.001 {
		t.Errorf("the weights add up to %g", sum)
	}
}

// A talking head draws its seed at the lips; what comes before is there once.
func TestTakesOfATalkingHead(t *testing.T) {
	t.Parallel()
	r := talker()
	r.Options = map[string]any{"takes": 4.0}
	g := plan(t, r)
	seeds := map[any]bool{}
	for _, n := range g.Nodes {
		if n.Task == aggregates.TaskLipsync {
			seeds[n.Params["seed"]] = true
		}
	}
	if len(seeds) != 4 || slices.ContainsFunc(g.Nodes, func(n events.Node) bool { return n.ID == "tts_2" }) {
		t.Errorf("%d seeds in\n%s", len(seeds), strings.Join(shape(g), "\n"))
	}
	for _, takes := range []any{0.0, 5.0, 1.5, "two"} {
		r.Options = map[string]any{"takes": takes}
		if _, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r}); len(reasons) != 1 || reasons[0].Field != "/options/takes" {
			t.Errorf("%v takes: %+v", takes, reasons)
		}
	}
}

func TestEveryTakeIsAnOutput(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	r := talker()
	r.Inputs["prompt"] = digested("a prompt")
	r.Options = map[string]any{"takes": 2.0}
	s.submit(r)
	s.said("script", 1, map[string]string{"narration": "words", "scene": "sea"})
	s.said("safety", 1, map[string]string{"narration": "words", "scene": "sea"})
	s.succeed("tts", 1, "speech", "timing")
	for _, take := range []string{"", "_2"} {
		s.succeed("lipsync"+take, 1, "talking")
		s.succeed("assemble"+take, 1, "video", "thumbnail", "captions_srt", "captions_vtt")
	}
	s.said("check", 1, nil)
	if s.job.Terminal() {
		t.Fatalf("the job is %s before its second take was checked", s.job.State)
	}
	s.said("check_2", 1, nil)
	done, ok := s.facts[len(s.facts)-1].Data.(events.JobSucceeded)
	if !ok {
		t.Fatalf("the job is %s", s.job.State)
	}
	for _, output := range []string{"video", "video_2", "thumbnail", "thumbnail_2", "captions_srt", "speech"} {
		if !done.Outputs[output].Present() {
			t.Errorf("there is no output %s: %v", output, done.Outputs)
		}
	}
	// A job with the second take's seed, and one take, has that take already.
	second := node(t, s.job.Graph, "lipsync_2").Params["seed"]
	reused, scheduled, _ := again(t, s, "", func(child *events.Request) { child.Options = map[string]any{"seed": second} })
	if len(scheduled) > 0 || !slices.Contains(reused, "lipsync") {
		t.Errorf("the second take alone: reused %v, scheduled %v", reused, scheduled)
	}
}

// A take that does not pass its check fails the job, with every reason in its sentence.
func TestAFailedCheckTellsEveryReason(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.submit(talker())
	s.said("script", 1, map[string]string{"narration": "words", "scene": "sea"})
	s.said("safety", 1, map[string]string{"narration": "words", "scene": "sea"})
	s.succeed("tts", 1, "speech", "timing")
	s.succeed("lipsync", 1, "talking")
	s.succeed("assemble", 1, "video")
	verdict := events.Result{Verdict: &events.Verdict{Reasons: []events.Reason{{Code: "frozen", Detail: "the picture stands still"}, {Code: "silent", Detail: "the sound is not audible"}}}}
	s.want(s.when(events.TaskSucceeded{Result: verdict}, events.Columns{Stage: "check", Attempt: 1, Worker: "w"}), "stage.failed check#1", "job.failed check")
	failed := s.facts[len(s.facts)-2].Data.(events.StageFailed)
	if !strings.Contains(failed.Message, "stands still; the sound is not audible") || failed.Hint == "" {
		t.Errorf("%+v", failed)
	}
}

func TestADraftIsSmallAndSaysSo(t *testing.T) {
	t.Parallel()
	r := trainRequest()
	r.Options = map[string]any{"draft": true, "factor": 4.0}
	g := plan(t, r)
	if skip := node(t, g, "upscale").Skip; skip != "a draft is not enlarged" {
		t.Errorf("upscale is skipped for %q", skip)
	}
	for _, stage := range []string{"render", "lipsync", "assemble", "check"} {
		if node(t, g, stage).Params["draft"] != true {
			t.Errorf("%s does not know that it makes a draft", stage)
		}
	}
	if !aggregates.IsDraft(&g) || g.Options["draft"] != true {
		t.Errorf("the graph's options are %v", g.Options)
	}
	if plain := plan(t, trainRequest()); aggregates.IsDraft(&plain) || aggregates.IsDraft(nil) {
		t.Error("what is no draft counts as one")
	}
}

func TestMusicIsAnInputOfEveryVideo(t *testing.T) {
	t.Parallel()
	music := events.Value{Artifacts: []events.Artifact{{ID: "m", URI: "s3://b/m"}}}
	for _, r := range []events.Request{trainRequest(), talker(), profileRequest()} {
		r.Inputs["music"] = music
		if in := node(t, plan(t, r), "assemble").In["music"]; in != "music?" {
			t.Errorf("%s %s reads %q", r.Mode, r.Variant, in)
		}
	}
}
