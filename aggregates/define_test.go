// Pipelines of an installation's own: read with every fault at its place, planned by the
// words that travel with the job.

package aggregates_test

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

func exampleText(t interface{ Fatal(args ...any) }) []byte {
	text, err := os.ReadFile("../deploy/pipelines/upright.json")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func example(t *testing.T) aggregates.Pipeline {
	t.Helper()
	p, faults := aggregates.ReadPipeline(exampleText(t))
	if len(faults) > 0 {
		t.Fatalf("the example is refused: %+v", faults)
	}
	return p
}

// document is a pipeline as parsed JSON.
type document map[string]any

func (d document) node(id string) map[string]any {
	for _, n := range d["nodes"].([]any) {
		if n := n.(map[string]any); n["id"] == id {
			return n
		}
	}
	return nil
}

func (d document) part(node, member string) map[string]any {
	m, _ := d.node(node)[member].(map[string]any)
	return m
}

func (d document) param(name string) map[string]any {
	return d["parameters"].(map[string]any)[name].(map[string]any)
}

// changed is the example with a change.
func changed(t *testing.T, change func(document)) []byte {
	t.Helper()
	var d document
	if err := json.Unmarshal(exampleText(t), &d); err != nil {
		t.Fatal(err)
	}
	change(d)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestReadPipelineFindsEveryDefect(t *testing.T) {
	t.Parallel()
	drop := func(d document, id string) {
		d["nodes"] = slices.DeleteFunc(d["nodes"].([]any), func(n any) bool { return n.(map[string]any)["id"] == id })
	}
	for name, c := range map[string]struct {
		change func(document)
		want   []string // code pointer
	}{
		"nothing":            {func(document) {}, nil},
		"unknown task":       {func(d document) { d.node("check")["task"] = "dance" }, []string{"task_unknown /nodes/8/task"}},
		"an operator's task": {func(d document) { d.node("check")["task"] = "noop.tts" }, []string{"task_unknown /nodes/8/task"}},
		"missing input":      {func(d document) { d.part("assemble", "in")["video"] = "talkin" }, []string{"input_missing /nodes/7/in/video"}},
		"input left out":     {func(d document) { delete(d.part("tts", "in"), "narration") }, []string{"input_missing /nodes/5/in/narration"}},
		"input in question":  {func(d document) { d.part("check", "in")["speech"] = "speech?" }, []string{"input_missing /nodes/8/in/speech"}},
		"two of one":         {func(d document) { d.part("lipsync", "in")["clip"] = "talking" }, []string{"graph_cycle /nodes/6", "input_missing /nodes/6/in", "graph_cycle /nodes/7", "graph_cycle /nodes/8", "graph_cycle /nodes/9"}},
		"unknown input":      {func(d document) { d.part("check", "in")["sound"] = "speech" }, []string{"input_unknown /nodes/8/in/sound"}},
		"unknown output":     {func(d document) { d.part("tts", "out")["song"] = "song" }, []string{"output_unknown /nodes/5/out/song"}},
		"wrong kind":         {func(d document) { d.part("check", "in")["speech"] = "talking" }, []string{"input_wrong /nodes/8/in/speech"}},
		"left out sometimes": {func(d document) { d.part("tts", "in")["voice_reference"] = "voice_reference" }, []string{"input_missing /nodes/5/in/voice_reference"}},
		"cycle":              {func(d document) { d.node("check")["needs"] = []any{"register"} }, []string{"graph_cycle /nodes/8", "graph_cycle /nodes/9"}},
		"unreachable":        {func(d document) { delete(d.node("profile"), "needs"); d.node("train_voice")["needs"] = []any{} }, []string{"node_unreachable /nodes/3", "node_unreachable /nodes/4"}},
		"duplicate id":       {func(d document) { d.node("profile")["id"] = "safety" }, []string{"node_duplicate /nodes/3/id", "edge_dangling /nodes/4/needs/0"}},
		"edge to nowhere":    {func(d document) { d.node("profile")["needs"] = []any{"safety", "nowhere"} }, []string{"edge_dangling /nodes/3/needs/1"}},
		"two writers": {func(d document) {
			d.part("safety", "out")["scene"] = "draft_scene"
			d.part("lipsync", "in")["scene"] = "draft_scene"
		}, []string{"output_duplicate /nodes/2"}},
		"parameter range":     {func(d document) { d.part("lipsync", "params")["fps"] = 61 }, []string{"param_invalid /nodes/6/params/fps"}},
		"unknown parameter":   {func(d document) { d.part("lipsync", "params")["warp"] = 1 }, []string{"param_unknown /nodes/6/params/warp"}},
		"unknown option":      {func(d document) { d.part("tts", "params")["format"] = "$sound" }, []string{"param_unknown /nodes/5/params/format"}},
		"option out of range": {func(d document) { d.param("pace")["maximum"] = 3 }, []string{"param_invalid /parameters/pace/maximum"}},
		"option of a kind":    {func(d document) { d.param("pace")["type"] = "boolean" }, []string{"value_wrong /parameters/pace/maximum", "value_wrong /parameters/pace/minimum", "param_invalid /parameters/pace/default", "param_invalid /parameters/pace/type"}},
		"option's words":      {func(d document) { d.param("size")["enum"] = []any{"576p", "4k"} }, []string{"param_invalid /parameters/size/enum"}},
		"option's default":    {func(d document) { d.param("seconds")["default"] = 31 }, []string{"param_invalid /parameters/seconds/default"}},
		"unused option":       {func(d document) { delete(d.part("tts", "params"), "speed") }, []string{"param_unused /parameters/pace"}},
		"weight":              {func(d document) { d.node("tts")["weight"] = 0 }, []string{"weight_invalid /nodes/5/weight"}},
		"unsafe":              {func(d document) { d.part("tts", "in")["narration"] = "approved" }, []string{"unsafe /nodes/5/in/narration"}},
		"unchecked":           {func(d document) { drop(d, "check"); delete(d.node("register"), "needs") }, []string{"unchecked /nodes/8/needs", "unchecked /results/video"}},
		"unlabelled":          {func(d document) { d["results"].(map[string]any)["video"] = "talking" }, []string{"unchecked /results/video"}},
		"no profile":          {func(d document) { d["mode"] = aggregates.ModeGenerateFromProfile }, []string{"profile_wrong /nodes", "input_missing /nodes/3/in/portrait", "input_missing /nodes/4/in/voice", "input_missing /nodes/6/in/portrait"}},
		"mode":                {func(d document) { d["mode"] = "diagnostic" }, []string{"mode_unknown /mode"}},
		"names":               {func(d document) { d["id"], d["variant"] = "Up Right", "../x" }, []string{"value_wrong /id", "value_wrong /variant"}},
		"members":             {func(d document) { d["author"] = "me"; delete(d, "title"); d.node("tts")["retries"] = 3 }, []string{"member_unknown /author", "member_unknown /nodes/5/retries", "member_missing /title"}},
		"an idle engine":      {func(d document) { d.node("approval")["engine"] = "x" }, []string{"engine_unused /nodes/1/engine"}},
		"no nodes":            {func(d document) { d["nodes"] = []any{} }, []string{"type_wrong /nodes"}},
		"several": {func(d document) {
			d.node("script")["task"] = "dance"
			d.part("check", "in")["video"] = "film"
			d.part("tts", "params")["speed"] = 9
		}, []string{"task_unknown /nodes/0/task", "param_invalid /nodes/5/params/speed", "input_missing /nodes/8/in/video", "param_unused /parameters/pace", "param_unused /parameters/seconds", "param_unused /parameters/tone"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, faults := aggregates.ReadPipeline(changed(t, c.change))
			for _, want := range c.want {
				if !slices.ContainsFunc(faults, func(f events.Reason) bool { return f.Code+" "+f.Field == want && f.Detail != "" }) {
					t.Errorf("there is no fault %s", want)
				}
			}
			if len(c.want) == 0 != (len(faults) == 0) || len(faults) > 0 && p.Workflow != "" {
				t.Errorf("pipeline %q with faults", p.Workflow)
			}
			if name == "no nodes" {
				return // without nodes nothing else holds either
			}
			for _, f := range faults {
				if !slices.Contains(c.want, f.Code+" "+f.Field) {
					t.Errorf("unexpected: %s %s: %s", f.Code, f.Field, f.Detail)
				}
			}
		})
	}
}

func TestReadPipelineRefusesWhatIsNoPipeline(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing": "", "no JSON": "{nope", "a list": "[]", "two documents": "{}{}", "no UTF-8": "\xff", "a member twice": `{"id":"a","id":"b"}`,
		"deep": strings.Repeat("[", 99) + strings.Repeat("]", 99), "long": `{"id":"` + strings.Repeat("x", 70_000) + `"}`,
	} {
		if _, faults := aggregates.ReadPipeline([]byte(text)); len(faults) == 0 {
			t.Errorf("%s is read as a pipeline", name)
		}
	}
}

// Any text at all is read or refused, and what is read is planned in any case.
func TestReadPipelineNeverBreaks(t *testing.T) {
	t.Parallel()
	text := string(exampleText(t))
	rapid.Check(t, func(t *rapid.T) {
		words := []string{"null", "{}", "[]", `"x"`, "7", `"$pace"`, `"talking"`, `"script"`, "true"}
		at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		end := min(len(text), at+rapid.IntRange(0, 40).Draw(t, "length"))
		damaged := text[:at] + rapid.SampledFrom(words).Draw(t, "word") + text[end:]
		p, faults := aggregates.ReadPipeline([]byte(damaged))
		if len(faults) > 0 {
			return
		}
		if _, again := aggregates.ReadPipeline([]byte(p.Definition)); len(again) > 0 {
			t.Fatalf("its own words are refused: %+v", again)
		}
	})
}

// Given a job that carries a definition, when it is planned by a process that has no file,
// then its graph is as the definition says, and another installation's plans are the same.
func TestAJobIsPlannedByTheWordsItCarries(t *testing.T) {
	t.Parallel()
	var api aggregates.Catalogue
	if faults := api.Add(example(t)); len(faults) > 0 {
		t.Fatal(faults)
	}
	r := trainRequest()
	r.Variant, r.Options = "upright", map[string]any{"pace": 1.25}
	r = api.Defaults(r)
	if r.Workflow != "upright_v1" || r.Mode != aggregates.ModeTrainAndGenerate || r.Definition == "" {
		t.Fatalf("the request is %+v", r)
	}
	g := plan(t, r) // by a catalogue that knows nothing of the file
	want := []string{"script < ", "safety < script", "profile < safety", "train_voice- < profile", "tts < safety train_voice", "lipsync < safety tts",
		"assemble < lipsync safety tts", "check < assemble tts", "register < assemble check"}
	if got := shape(g); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	sum := 0.0
	for _, n := range g.Nodes {
		sum += n.Weight
		switch n.ID {
		case "tts":
			if n.Params["speed"] != 1.25 {
				t.Errorf("speech has %v", n.Params)
			}
		case "lipsync":
			if n.Params["aspect"] != "9:16" || n.Params["resolution"] != "576p" || n.Params["no_face"] != "fail" || n.Params["fps"] != 25.0 || n.Engine != "comfyui-infinitetalk" {
				t.Errorf("lip-sync has %v, engine %q", n.Params, n.Engine)
			}
		case "script":
			if n.Params["tone"] != "playful" || n.Params["seconds"] != 12.0 {
				t.Errorf("the script has %v", n.Params)
			}
		}
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("weights add up to %g", sum)
	}

	for name, c := range map[string]struct {
		change func(*events.Request)
		want   string
	}{
		"an option of the task's own name": {func(r *events.Request) { r.Options = map[string]any{"speed": 1.0} }, "option_unknown /options/speed"},
		"beyond the pipeline's range":      {func(r *events.Request) { r.Options = map[string]any{"pace": 1.9} }, "option_invalid /options/pace"},
		"what the pipeline fixes":          {func(r *events.Request) { r.Options = map[string]any{"aspect": "1:1"} }, "option_unknown /options/aspect"},
		"another variant":                  {func(r *events.Request) { r.Variant = aggregates.VariantSadTalker }, "pipeline_invalid /pipeline"},
		"damaged words":                    {func(r *events.Request) { r.Definition = "{" }, "pipeline_invalid /pipeline"},
	} {
		bad := r
		c.change(&bad)
		_, reasons := aggregates.Plan(aggregates.PlanInput{Request: bad, Engines: everyTask()})
		if len(reasons) == 0 || reasons[0].Code+" "+reasons[0].Field != c.want {
			t.Errorf("%s: %+v, want %s", name, reasons, c.want)
		}
	}
	limited := aggregates.PlanInput{Request: r, Limits: aggregates.Limits{MaxResolution: "576p"}}
	limited.Request.Options = map[string]any{"size": "720p"}
	if _, reasons := aggregates.Plan(limited); len(reasons) != 1 || reasons[0].Code+" "+reasons[0].Field != "limit_exceeded /options/size" {
		t.Errorf("a size by another name than resolution: %+v", reasons)
	}
}

// A job of an own pipeline goes the whole way, and a retry of it is planned by its parent's
// words.
func TestAnOwnPipelinesJob(t *testing.T) {
	t.Parallel()
	var api aggregates.Catalogue
	api.Add(example(t))
	r := trainRequest()
	r.Variant, r.Approval = "upright", true
	r.Inputs["prompt"] = digested("a prompt")
	s := newScript(t)
	s.submit(api.Defaults(r))
	s.said("script", 1, map[string]string{"narration": "words", "scene": "sea"})
	s.when(events.JobApprove{}, events.Columns{})
	s.said("safety", 1, map[string]string{"narration": "words", "scene": "sea"})
	s.succeed("tts", 1, "speech", "timing")
	s.succeed("lipsync", 1, "talking")
	s.succeed("assemble", 1, "video", "thumbnail")
	s.said("check", 1, nil)
	if s.job.State != aggregates.JobSucceeded {
		t.Fatalf("the job is %s: %+v", s.job.State, s.job.Stages)
	}
	ended, ok := s.facts[len(s.facts)-1].Data.(events.JobSucceeded)
	if !ok || !ended.Outputs["video"].Present() || !ended.Outputs["thumbnail"].Present() {
		t.Errorf("its results are %+v", ended.Outputs)
	}
	reused, scheduled, child := again(t, s, "", func(r *events.Request) { r.Approval = false })
	if len(scheduled) != 0 || !slices.Contains(reused, "lipsync") || child.job.State != aggregates.JobSucceeded {
		t.Errorf("the retry reused %v and scheduled %v", reused, scheduled)
	}
}

func TestNamesAreHadOnce(t *testing.T) {
	t.Parallel()
	var c aggregates.Catalogue
	if faults := c.Add(example(t)); len(faults) > 0 {
		t.Fatal(faults)
	}
	for name, change := range map[string]func(document){
		"the same again":     func(document) {},
		"a built-in variant": func(d document) { d["id"], d["variant"] = "mine_v1", aggregates.VariantSadTalker },
		"a built-in id":      func(d document) { d["id"], d["variant"] = aggregates.WorkflowDiagnostic, "mine" },
		"the diagnostic one": func(d document) { d["id"], d["variant"] = "mine_v1", aggregates.VariantNoop },
	} {
		p, faults := aggregates.ReadPipeline(changed(t, change))
		if len(faults) > 0 {
			t.Fatalf("%s: %+v", name, faults)
		}
		if faults = c.Add(p); len(faults) == 0 || faults[0].Code != "name_taken" {
			t.Errorf("%s is taken in: %+v", name, faults)
		}
	}
	if len(c.Own()) != 1 || !slices.Contains(c.Variants(), "upright") {
		t.Errorf("the catalogue has %v", c.Variants())
	}
}
