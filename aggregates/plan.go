// The planner: a request and what is known about profile and workers go in, a
// graph comes out, or every reason why there is none. Single pass, deterministic.
//
//  1. Mode and variant choose the pipeline; defaults are train-and-generate and svd_wav2lip.
//  2. Every option is known to some task of the pipeline and within its range.
//  3. Every required input is there; script or prompt, at least one.
//  4. The approval gate is part of the plan only where it is asked for, or where the
//     request brings an edited narration.
//  5. Training without samples and upscaling by 1 are planned as skipped, with a reason.
//  6. Every task that will run is announced by some worker, by an engine that the job
//     allows and that works with the inputs that there are.
//  7. Every task that will run fits the memory of some worker's card, by an engine that
//     the job allows.
//  8. The graph is a DAG with one entry, and its weights add up to 1.
//  9. With several takes, every stage that a seed decides is there once for each.
//
// A refusal gives all reasons at once.

package aggregates

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/myspinbot/myspinbot/events"
)

// PlanInput is everything a plan depends on.
type PlanInput struct {
	JobID   string // seeds what the request leaves open
	Request events.Request
	Profile *events.ProfileSnapshot     // generate-only: nil when the tenant has no such profile
	Barred  *events.Reason              // why no new job may use the profile; see Profile.Barred
	Engines Engines                     // announced by workers; zero: not asked about
	Gaps    map[string][]events.TaskGap // by task: why an engine cannot work
	Rooms   Rooms                       // what no card has the memory for
	Limits  Limits
}

// Limits are an operator's constraints on one job. Zero means the catalogue's own.
type Limits struct {
	MaxDurationSeconds int
	MaxResolution      string
}

// Plan makes the job's graph.
func Plan(in PlanInput) (events.Graph, []events.Reason) {
	r := Defaults(in.Request)
	pipe, unknown := pipelineOf(r)
	if unknown != nil {
		return events.Graph{}, unknown
	}
	var reasons []events.Reason
	if (r.Approval || r.Edit != nil) && !pipe.has(TaskApproval) {
		reasons = append(reasons, events.Reason{Code: "approval_unsupported", Field: "/approval", Detail: "pipeline " + pipe.Workflow + " has no stage at which a script is approved or edited"})
	}
	if !r.Approval && r.Edit == nil {
		pipe = pipe.ungated()
	}
	if r.Priority != "" && r.Priority != events.PriorityInteractive && r.Priority != events.PriorityBatch {
		reasons = append(reasons, events.Reason{Code: "priority_unknown", Field: "/priority",
			Detail: "priority must be " + events.PriorityInteractive + " or " + events.PriorityBatch})
	}
	if r.Engines != "" && !slices.Contains(EngineChoices, r.Engines) {
		reasons = append(reasons, events.Reason{Code: "engines_unknown", Field: "/engines", Detail: "engines must be one of " + strings.Join(EngineChoices, ", ")})
	}
	if r.Workflow != pipe.Workflow {
		reasons = append(reasons, events.Reason{Code: "workflow_mismatch", Field: "/pipeline",
			Detail: "mode " + r.Mode + " runs pipeline " + pipe.Workflow})
	}
	opts, bad := checkOptions(pipe, r.Options, in.Limits)
	reasons = append(reasons, bad...)
	given := inputKeys(r, in.Profile)
	if in.Barred != nil {
		reasons = append(reasons, *in.Barred)
	} else {
		reasons = append(reasons, checkProfile(r, in.Profile)...)
	}
	reasons = append(reasons, checkInputs(pipe, r, given)...)
	g := events.Graph{Workflow: pipe.Workflow, Variant: r.Variant, Mode: r.Mode, ProfileID: r.ProfileID}
	if len(opts) > 0 { // an empty map would not come back from the wire as it was
		g.Options = opts
	}
	if len(reasons) == 0 {
		reasons = append(reasons, build(&g, pipe, opts, given, in.JobID)...)
		reasons = append(reasons, checkCapabilities(g, in, given)...)
		reasons = append(reasons, checkRooms(pipe, g, in, given)...)
	}
	if len(reasons) > 0 {
		return events.Graph{}, reasons
	}
	return g, nil
}

// checkOptions gives the options in canonical form, without defaults.
func checkOptions(pipe Pipeline, given map[string]any, lim Limits) (map[string]any, []events.Reason) {
	opts := map[string]any{}
	if len(given) == 0 {
		return opts, nil
	}
	params := pipe.Options()
	var reasons []events.Reason
	for _, name := range slices.Sorted(maps.Keys(given)) {
		i := slices.IndexFunc(params, func(p Param) bool { return p.Name == name })
		if i < 0 {
			reasons = append(reasons, events.Reason{Code: "option_unknown", Field: "/options/" + name,
				Detail: "this pipeline has no such option; it has " + strings.Join(paramNames(params), ", ")})
			continue
		}
		v, bad := params[i].Check(given[name])
		if bad != nil {
			reasons = append(reasons, *bad)
			continue
		}
		opts[name] = v
	}
	return opts, append(reasons, checkLimits(pipe, opts, lim)...)
}

// checkLimits holds the options that become a length or a size against the limits,
// whatever the pipeline calls them.
func checkLimits(pipe Pipeline, opts map[string]any, lim Limits) []events.Reason {
	names := map[string]string{"duration_seconds": "duration_seconds", "resolution": "resolution"} // option → task's parameter
	for _, n := range pipe.Nodes {
		for param, option := range n.From {
			names[option] = param
		}
	}
	var reasons []events.Reason
	for _, option := range slices.Sorted(maps.Keys(names)) {
		v, given := opts[option]
		if !given {
			continue
		}
		switch field := "/options/" + option; names[option] {
		case "duration_seconds":
			if d, ok := v.(float64); ok && lim.MaxDurationSeconds > 0 && d > float64(lim.MaxDurationSeconds) {
				reasons = append(reasons, events.Reason{Code: "limit_exceeded", Field: field, Detail: fmt.Sprintf("this installation allows at most %d seconds", lim.MaxDurationSeconds)})
			}
		case "resolution":
			if s, ok := v.(string); ok && lim.MaxResolution != "" && slices.Index(resolution.Enum, s) > slices.Index(resolution.Enum, lim.MaxResolution) {
				reasons = append(reasons, events.Reason{Code: "limit_exceeded", Field: field, Detail: "this installation allows at most " + lim.MaxResolution})
			}
		}
	}
	return reasons
}

func paramNames(ps []Param) []string {
	names := make([]string, len(ps))
	for i, p := range ps {
		names[i] = p.Name
	}
	slices.Sort(names)
	return names
}

// inputKeys are the keys that the request, or the profile, fills.
func inputKeys(r events.Request, p *events.ProfileSnapshot) map[string]bool {
	keys := map[string]bool{}
	for k, v := range r.Inputs {
		if v.Present() {
			keys[k] = true
		}
	}
	if r.Mode == ModeGenerateFromProfile {
		for k := range ProfileValues(p) {
			keys[k] = true
		}
	}
	return keys
}

// ProfileValues are the values that a loaded profile hands to the graph.
func ProfileValues(p *events.ProfileSnapshot) map[string]events.Value {
	vals := map[string]events.Value{}
	if p == nil {
		return vals
	}
	for name, a := range map[string]*events.Artifact{"portrait": p.Portrait, "voice_reference": p.Voice, "lora": p.Lora} {
		if a != nil {
			vals[name] = events.Value{Artifacts: []events.Artifact{*a}}
		}
	}
	if len(p.VoiceWeights) > 0 {
		vals[weightsValue] = events.Value{Artifacts: p.VoiceWeights}
	}
	if p.Transcript != nil {
		// The profile keeps one seal for all its jobs, which names the text as well as a
		// digest of the text itself does.
		sum := sha256.Sum256(p.Transcript.Bytes)
		vals[transcriptValue] = events.Value{Text: p.Transcript, Digest: hex.EncodeToString(sum[:])}
	}
	return vals
}

func checkInputs(pipe Pipeline, r events.Request, given map[string]bool) []events.Reason {
	var reasons []events.Reason
	required, optional := pipe.Inputs()
	recorded := checkRecording(pipe, r, given)
	reasons = append(reasons, recorded...)
	if pipe.has(TaskScript) && len(recorded) == 0 && !given["prompt"] && !given["script"] {
		reasons = append(reasons, events.Reason{Code: "input_missing", Field: "/prompt", Detail: "give a prompt, or a script to be spoken as it is"})
	}
	for _, k := range required {
		if !given[k] {
			reasons = append(reasons, events.Reason{Code: "input_missing", Field: "/" + k, Detail: "a " + k + " is needed: upload a file and give its id"})
		}
	}
	for _, k := range slices.Sorted(maps.Keys(r.Inputs)) {
		if !slices.Contains(required, k) && !slices.Contains(optional, k) {
			reasons = append(reasons, events.Reason{Code: "input_unused", Field: "/" + k, Detail: "this pipeline takes no " + k})
		}
	}
	if n := len(r.Inputs["images"].Artifacts); n > 60 {
		reasons = append(reasons, events.Reason{Code: "input_invalid", Field: "/images", Detail: fmt.Sprintf("at most 60 images, %d were given", n)})
	}
	return reasons
}

// checkProfile looks whether a generate-only job has the profile that it needs.
func checkProfile(r events.Request, profile *events.ProfileSnapshot) []events.Reason {
	reason := func(code, detail string) []events.Reason {
		return []events.Reason{{Code: code, Field: "/profile_id", Detail: detail}}
	}
	switch {
	case r.Mode != ModeGenerateFromProfile:
		return nil
	case r.ProfileID == "":
		return reason("input_missing", "generate-only needs the id of a profile")
	case profile == nil:
		return reason(CodeProfileUnknown, "there is no such profile")
	case profile.Portrait == nil:
		return reason("profile_incomplete", "the profile has no portrait")
	}
	return nil
}

// has says whether some node of the pipeline runs the task.
func (p Pipeline) has(task string) bool {
	return slices.ContainsFunc(p.Nodes, func(n PipelineNode) bool { return n.Task == task })
}

// ungatedPipelines are the built-in pipelines without their approval, by mode and variant:
// most jobs run one of them.
var ungatedPipelines = func() map[[2]string]Pipeline {
	out := map[[2]string]Pipeline{}
	for _, p := range pipelines {
		out[[2]string{p.Mode, p.Variant}] = p.without(TaskApproval)
	}
	return out
}()

// ungated is the pipeline without approval.
func (p Pipeline) ungated() Pipeline {
	if built, ok := ungatedPipelines[[2]string{p.Mode, p.Variant}]; ok && p.Definition == "" {
		return built
	}
	return p.without(TaskApproval)
}

// without is the pipeline with no node of that task: who would read what the node
// writes reads what it would have passed on, and who would wait for it waits for
// what it would have waited for.
func (p Pipeline) without(task string) Pipeline {
	if !p.has(task) {
		return p
	}
	keys, before := map[string]string{}, map[string][]string{}
	kept := make([]PipelineNode, 0, len(p.Nodes))
	for _, n := range p.Nodes {
		if n.Task != task {
			kept = append(kept, n)
			continue
		}
		before[n.ID] = n.After
		for name, from := range n.Pass {
			keys[n.Out[name]] = from
		}
	}
	for i, n := range kept {
		in := make(map[string]string, len(n.In))
		for name, key := range n.In {
			if from, gone := keys[key]; gone {
				key = from
			}
			in[name] = key
		}
		after := make([]string, 0, len(n.After))
		for _, id := range n.After {
			if waits, gone := before[id]; gone {
				after = append(after, waits...)
				continue
			}
			after = append(after, id)
		}
		if n.In != nil {
			kept[i].In = in
		}
		kept[i].After = after
	}
	p.Nodes = kept
	return p
}
