// Which engines a job allows: what the planner says to it, what a decision takes, and
// that the log shows nothing else.

package aggregates_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

func full(task, engine string) events.TaskCapability {
	return events.TaskCapability{Task: task, Engine: engine, Version: "1", Fidelity: events.FidelityFull}
}

func preview(task, engine string) events.TaskCapability {
	return events.TaskCapability{Task: task, Engine: engine, Version: "1", Fidelity: events.FidelityPreview, Builtin: true}
}

// real announces a real engine for every task, but for those that are left out.
func realTasks(but ...string) []events.TaskCapability {
	var all []events.TaskCapability
	for _, t := range aggregates.Tasks() {
		if !slices.Contains(but, t.Name) {
			all = append(all, full(t.Name, "real"))
		}
	}
	return all
}

func TestThePlannerGoesByTheEnginesThatAJobAllows(t *testing.T) {
	t.Parallel()
	builtin := preview(aggregates.TaskLipsync, "talking-photo")
	onPortraits := full(aggregates.TaskLipsync, "talker")
	onPortraits.Takes = "portrait"
	cloning := full(aggregates.TaskSpeech, "cloner")
	cloning.Takes = "voice_reference"
	gone := events.TaskGap{Task: aggregates.TaskLipsync, Engine: "comfyui-infinitetalk", Reason: "ComfyUI does not answer", Hint: "start it"}
	other := events.TaskGap{Task: aggregates.TaskLipsync, Engine: "comfyui-s2v", Reason: "a file is missing", Hint: "put it there"}
	unweighted := events.TaskGap{Task: aggregates.TaskLipsync, Engine: "talking-photo", Reason: "no weights", Hint: "run make deps", Builtin: true}
	twice := full(aggregates.TaskUpscale, "esrgan")
	twice.Factor = 2
	rest := slices.Clip(realTasks(aggregates.TaskLipsync)) // each case appends its own
	for name, c := range map[string]struct {
		variant, engines string
		voice            bool
		caps             []events.TaskCapability
		gaps             []events.TaskGap
		want             []string // code field, or nothing
		says             []string
	}{
		"auto, built in":                {"sadtalker", "", false, append(rest, builtin), nil, nil, nil},
		"auto, said":                    {"sadtalker", events.EnginesAuto, false, append(rest, builtin), nil, nil, nil},
		"real, built in":                {"sadtalker", events.EnginesReal, false, append(rest, builtin), nil, []string{"capability_missing /engines"}, []string{"no worker has a real engine for lipsync.apply now", "none is configured", "or ask with engines auto"}},
		"real, away":                    {"sadtalker", events.EnginesReal, false, append(rest, builtin), []events.TaskGap{other}, []string{"capability_missing /engines"}, []string{"a file is missing; put it there", "engines auto"}},
		"real, nobody at all":           {"sadtalker", events.EnginesReal, false, rest, []events.TaskGap{unweighted}, []string{"capability_missing /variant"}, []string{"no worker runs lipsync.apply now"}},
		"real":                          {"sadtalker", events.EnginesReal, false, append(rest, full(aggregates.TaskLipsync, "any")), nil, nil, nil},
		"real, on portraits, of one":    {"sadtalker", events.EnginesReal, false, append(rest, onPortraits), nil, nil, nil},
		"real, on portraits, of a clip": {"svd_wav2lip", events.EnginesReal, false, append(rest, onPortraits, builtin), nil, []string{"capability_missing /engines"}, []string{"a real engine for lipsync.apply now that works without portrait"}},
		"real, a cloner, no voice":      {"sadtalker", events.EnginesReal, false, append(realTasks(aggregates.TaskSpeech), cloning, preview(aggregates.TaskSpeech, "flite")), nil, []string{"capability_missing /engines"}, []string{"works without voice_reference"}},
		"real, a cloner, a voice":       {"sadtalker", events.EnginesReal, true, append(realTasks(aggregates.TaskSpeech), cloning, preview(aggregates.TaskSpeech, "flite")), nil, nil, nil},
		"preview, built in":             {"sadtalker", events.EnginesPreview, false, announced(), nil, nil, nil},
		"preview, none":                 {"sadtalker", events.EnginesPreview, false, append(announced(aggregates.TaskLipsync), full(aggregates.TaskLipsync, "any")), []events.TaskGap{other, unweighted}, []string{"capability_missing /engines"}, []string{"has a built-in engine", "run make deps"}},
		"infinitetalk, built in":        {"infinitetalk", "", false, append(rest, builtin), nil, nil, nil},
		"infinitetalk, real":            {"infinitetalk", events.EnginesReal, false, append(rest, full(aggregates.TaskLipsync, "comfyui-infinitetalk")), nil, nil, nil},
		"infinitetalk, another's":       {"infinitetalk", events.EnginesReal, false, append(rest, builtin, full(aggregates.TaskLipsync, "comfyui-s2v")), []events.TaskGap{other, gone}, []string{"capability_missing /engines"}, []string{"the engine comfyui-infinitetalk", "ComfyUI does not answer; start it"}},
		"infinitetalk, another's alone": {"infinitetalk", "", false, append(rest, full(aggregates.TaskLipsync, "comfyui-s2v")), []events.TaskGap{gone}, []string{"capability_missing /variant"}, []string{"ComfyUI does not answer"}},
		"real, enlarging as asked":      {"enlarged", events.EnginesReal, false, append(realTasks(aggregates.TaskUpscale), twice, preview(aggregates.TaskUpscale, "lanczos")), nil, nil, nil},
		"real, enlarging otherwise":     {"enlarged4", events.EnginesReal, false, append(realTasks(aggregates.TaskUpscale), twice, preview(aggregates.TaskUpscale, "lanczos")), nil, []string{"capability_missing /engines"}, []string{"a real engine for upscale_video now that enlarges 4 times; there is one for 2; or ask with engines auto"}},
		"auto, enlarging otherwise":     {"enlarged4", "", false, append(realTasks(aggregates.TaskUpscale), twice, preview(aggregates.TaskUpscale, "lanczos")), nil, nil, nil},
		"enlarging otherwise, no other": {"enlarged4", "", false, append(realTasks(aggregates.TaskUpscale), twice), nil, []string{"capability_missing /options/factor"}, []string{"no worker has an engine for upscale_video now that enlarges 4 times; there is one for 2"}},
		"no such choice":                {"sadtalker", "best", false, append(rest, builtin), nil, []string{"engines_unknown /engines"}, []string{"auto, real, preview"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := trainRequest()
			r.Variant, r.Engines = c.variant, c.engines
			if factor := map[string]float64{"enlarged": 2, "enlarged4": 4}[c.variant]; factor > 0 {
				r.Variant, r.Options = "sadtalker", map[string]any{"factor": factor}
			}
			if c.voice {
				r.Inputs["voice"] = portrait
			}
			_, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r, Engines: aggregates.EnginesOf(c.caps...), Gaps: map[string][]events.TaskGap{aggregates.TaskLipsync: c.gaps}})
			var got []string
			said := ""
			for _, reason := range reasons {
				got, said = append(got, reason.Code+" "+reason.Field), said+reason.Detail
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q: %s", got, c.want, said)
			}
			for _, part := range c.says {
				if !strings.Contains(said, part) {
					t.Errorf("%q is not in %q", part, said)
				}
			}
		})
	}
}

// Capabilities that come and go change what the planner allows, and what GET
// /api/pipelines says.
func TestCapabilitiesChangeWhatIsAllowed(t *testing.T) {
	t.Parallel()
	r := talker()
	r.Engines = events.EnginesReal
	pipe, _ := aggregates.FindPipeline(aggregates.ModeTrainAndGenerate, r.Variant)
	var w aggregates.Workers
	tell := func(n int, caps ...events.TaskCapability) (refused bool) {
		at := start.AddDate(0, 0, n)
		w.Apply(events.Message{AggregateID: "w", OccurredAt: at, Data: events.WorkerManifest{Tasks: caps}})
		_, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r, Engines: w.Engines(at), Gaps: w.Gaps(at)})
		if missing := pipe.Missing(w.Engines(at), events.EnginesReal); len(missing) > 0 != (len(reasons) > 0) {
			t.Errorf("missing are %v, and the reasons are %v", missing, reasons)
		}
		return len(reasons) > 0
	}
	if !tell(0, announced()...) {
		t.Error("real work is planned where previews alone are announced")
	}
	if tell(1, realTasks()...) {
		t.Error("real work is refused where real engines are announced")
	}
	if !tell(2, realTasks(aggregates.TaskSpeech)...) {
		t.Error("real work is planned after the engine went away")
	}
}

// Given a job that wants the real thing, when a worker reports a preview, then it is no
// result and another attempt follows.
func TestARealJobTakesNoPreview(t *testing.T) {
	t.Parallel()
	s := newScript(t)
	s.env.Engines = aggregates.EnginesOf(realTasks()...)
	r := talker()
	r.Engines = events.EnginesReal
	s.submit(r)
	s.want(s.succeed("script", 1, "narration", "scene"), "stage.failed script#1")
	s.want(s.when(events.ClockRetryDue{DeadlineMS: s.job.Stages[0].DeadlineMS}, events.Columns{Stage: "script", Attempt: 1}), "stage.scheduled script#2")
	got := s.when(events.TaskSucceeded{Result: events.Result{Fidelity: events.FidelityFull, Engine: "real"}}, events.Columns{Stage: "script", Attempt: 2})
	s.want(got, "stage.succeeded script#2", "stage.scheduled safety#1")
}

// A preview of the parent stands in for no real work, and a real result for no preview.
func TestReuseObeysTheEngines(t *testing.T) {
	t.Parallel()
	// Its results are previews, made after the real engines that are announced went away,
	// so that they bear the real ones' name.
	parent := finished(t, func(s *script) { s.env.Engines = aggregates.EnginesOf(realTasks()...) })
	reused, _, _ := again(t, parent, "", func(r *events.Request) { r.Engines = events.EnginesAuto })
	if !slices.Contains(reused, "script") {
		t.Errorf("auto reused %v", reused)
	}
	reused, scheduled, _ := again(t, parent, "", func(r *events.Request) { r.Engines = events.EnginesReal })
	if len(reused) > 0 || !slices.Contains(scheduled, "script") {
		t.Errorf("real work reused %v and scheduled %v", reused, scheduled)
	}
	parent = finished(t, func(*script) {}) // by an engine that is none of the built-in ones
	if reused, scheduled, _ = again(t, parent, "", func(r *events.Request) { r.Engines = events.EnginesPreview }); len(reused) > 0 || !slices.Contains(scheduled, "script") {
		t.Errorf("a preview reused %v and scheduled %v", reused, scheduled)
	}
}

// Whatever is announced, reported and asked for: a result on the log is one that its job
// allows, and the name of a stage's result tells of no engine that its job does not.
func TestFidelityOnTheLogObeysTheJob(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var caps []events.TaskCapability
		for _, task := range aggregates.Tasks() {
			for _, c := range []events.TaskCapability{full(task.Name, "real"), preview(task.Name, "builtin"), full(task.Name, "comfyui-infinitetalk")} {
				if rapid.IntRange(0, 4).Draw(t, "announced") > 0 {
					caps = append(caps, c)
				}
			}
		}
		env := aggregates.Surroundings{At: start, Policy: aggregates.DefaultPolicy(), Engines: aggregates.EnginesOf(caps...), Place: func(string, string, string, bool, func(int32) aggregates.Suit) int32 { return 0 }}
		r := trainRequest()
		r.Variant = rapid.SampledFrom(aggregates.Variants()).Draw(t, "variant")
		r.Engines = rapid.SampledFrom([]string{"", events.EnginesReal, events.EnginesPreview}).Draw(t, "engines")
		var job aggregates.Job
		for step := 0; step < 60 && !job.Terminal(); step++ {
			m := events.Message{ID: fmt.Sprint("m", step), OccurredAt: env.At, CommandID: fmt.Sprint("m", step), AggregateID: "j", Tenant: "default", Data: events.JobSubmit{Request: r}}
			if active := job.Active(); len(active) > 0 {
				i := rapid.SampledFrom(active).Draw(t, "stage")
				m.Stage, m.Attempt = job.Graph.Nodes[i].ID, job.Stages[i].Attempt
				m.Data = events.TaskSucceeded{Result: events.Result{Engine: "x", Fidelity: rapid.SampledFrom([]string{events.FidelityFull, events.FidelityPreview, events.FidelityPrepared}).Draw(t, "fidelity")}}
			} else if due := job.Deadlines(); len(due) > 1 {
				m.Data, m.Stage, m.Attempt = due[1].Command, due[1].Stage, due[1].Attempt
			} else if step > 0 {
				break
			}
			facts, _ := aggregates.Decide(job, m, env)
			for _, f := range facts {
				job = aggregates.Evolve(job, f)
				switch d := f.Data.(type) { //nolint:gochecksumtype // results and what they are named by
				case events.StageSucceeded:
					if r.Engines == events.EnginesReal && d.Fidelity != events.FidelityFull {
						t.Fatalf("%s of a real job succeeded with fidelity %s", f.Stage, d.Fidelity)
					}
				case events.StageScheduled:
					if strings.Contains(d.Engine, "builtin") && r.Engines == events.EnginesReal || strings.Contains(d.Engine, "real") && r.Engines == events.EnginesPreview {
						t.Fatalf("%s with engines %s is to be made by %s", f.Stage, r.Engines, d.Engine)
					}
					if d.Engine == "" {
						t.Fatalf("%s was planned, and nothing may do it", f.Stage)
					}
				}
			}
		}
		if r.Engines == events.EnginesReal && job.State == aggregates.JobRunning && len(job.Active()) == 0 && len(job.Deadlines()) == 1 {
			t.Fatal("the job waits for nothing")
		}
	})
}
