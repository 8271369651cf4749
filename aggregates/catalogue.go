// The catalogue: every task with its parameters, every pipeline as data.

package aggregates

import (
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// Modes, variants and workflow ids, as the specification names them.
const (
	ModeTrainAndGenerate    = "train_and_generate"
	ModeGenerateFromProfile = "generate_from_profile"

	VariantSVDWav2Lip   = "svd_wav2lip"
	VariantSadTalker    = "sadtalker"
	VariantInfiniteTalk = "infinitetalk"

	// A diagnostic job goes through four lanes and makes nothing.
	ModeDiagnostic = "diagnostic"
	VariantNoop    = "noop"

	WorkflowTrainAndGenerate    = "train_and_generate_v1"
	WorkflowGenerateFromProfile = "generate_from_profile_v1"
	WorkflowDiagnostic          = "diagnostic_v1"
)

// Tasks.
const (
	TaskScript         = "script.generate_script"
	TaskApproval       = "script.approval"
	TaskSafety         = "script.safety_filter"
	TaskProfileResolve = "profiles.resolve_or_create"
	TaskProfileLoad    = "profiles.load_existing"
	TaskTrainLora      = "train_lora"
	TaskTrainVoice     = "train_voice"
	TaskRender         = "render_video"
	TaskSpeech         = "tts.synthesize"
	TaskLipsync        = "lipsync.apply"
	TaskUpscale        = "upscale_video"
	TaskAssemble       = "media.assemble"
	TaskCheck          = "media.check"
	TaskRegister       = "artifacts.register_outputs"
)

// TaskSpec describes a registered task.
type TaskSpec struct {
	Name    string
	Plane   string
	Lane    string // empty: decided inside the job handler
	Params  []Param
	Weight  float64 // relative; a plan scales the weights of its nodes to a sum of 1
	Timeout int64   // milliseconds of one run
	// PerSecond is how many milliseconds more a run may take for every second of its
	// longest sound or video.
	PerSecond int64
	// Share lets a result stand in for equal work of other jobs of the tenant. Tasks
	// that judge, or that are asked again for something new, do not.
	Share bool
	// ByProfile says that engines make something else of the same inputs for another
	// profile, so that only work for the same one is equal.
	ByProfile bool
}

// Pipeline is a graph of tasks as data, before a request fills it.
type Pipeline struct {
	Workflow string
	Mode     string
	Variant  string
	Title    string
	Hidden   bool // not offered to users: it serves operators
	Nodes    []PipelineNode
	Results  map[string]string // name of a job's output → key of the value
	// Params are the options that the pipeline offers; nil: those of its tasks that no
	// node fixes.
	Params []Param
	// Definition is the pipeline as JSON where it is an installation's own.
	Definition string
}

// PipelineNode is one task in a pipeline.
type PipelineNode struct {
	ID    string
	Task  string
	After []string          // ids it waits for beside the writers of its inputs
	In    map[string]string // input name → key; a key ending in "?" is optional
	Out   map[string]string // output name → key
	Pass  map[string]string // output name → key taken over when skipped
	// Fixed are parameters of the task that the pipeline sets, and From those that it
	// takes from an option of another name.
	Fixed  map[string]any
	From   map[string]string
	Engine string  // that does it, or a built-in one as a preview; empty: any
	Weight float64 // relative; 0: the task's own
}

const minute = int64(60_000)

// resolutions are names of the short side in pixels.
var (
	resolution = Param{Name: "resolution", Kind: "string", Enum: []string{"576p", "720p", "1080p"}, Default: "720p", Doc: "short side of the picture"}
	aspect     = Param{Name: "aspect", Kind: "string", Enum: []string{"1:1", "16:9", "9:16"}, Default: "1:1", Doc: "shape of the picture, width to height"}
	fps        = Param{Name: "fps", Kind: "integer", Min: 10, Max: 60, Default: 25.0, Doc: "frames per second"}
	language   = Param{Name: "language", Kind: kindLanguage, Default: "en", Doc: "language of script and voice by its code of ISO 639-1, with or without a region: en, de, pt-BR"}
	fit        = Param{Name: "fit", Kind: "string", Enum: []string{"cover", "contain", "blur"}, Default: "cover",
		Doc: "how a picture of another shape fills the frame: cut around the face, whole between black bars, or whole over a blurred copy of itself"}
	draft = Param{Name: "draft", Kind: "boolean", Default: false, Doc: "small and fast, to see what it will be: 360 pixels, at most 15 frames per second, not enlarged, labelled as a draft"}
	seed  = Param{Name: "seed", Kind: "integer", Min: 0, Max: maxSeed, Doc: "the same seed gives the same picture; without one it follows from the job"}
	face  = Param{Name: "no_face", Kind: "string", Enum: []string{"fail", "still"}, Default: "fail", Doc: "what to do when no face is found: fail, or a video of the picture itself"}
)

// maxSeed is the largest seed, which every engine can take.
const maxSeed = 1<<31 - 1

var tasks = []TaskSpec{
	{Name: TaskScript, Plane: events.PlaneControl, Lane: events.LaneScript, Weight: 5, Timeout: 20 * minute, Params: []Param{
		{Name: "tone", Kind: "string", Enum: []string{"casual", "formal", "playful", "dramatic"}, Default: "casual", Doc: "how the script speaks"},
		{Name: "seconds", Kind: "integer", Min: 1, Max: 60, Default: 20.0, Doc: "length that a generated script aims at, in seconds"},
		language,
	}},
	{Name: TaskApproval, Plane: events.PlaneControl, Weight: 1},
	{Name: TaskSafety, Plane: events.PlaneControl, Lane: events.LaneScript, Weight: 1, Timeout: 10 * minute, Params: []Param{
		{Name: "policy", Kind: "string", Enum: []string{"standard", "strict"}, Default: "standard", Doc: "rules the script is held against"},
	}},
	{Name: TaskProfileResolve, Plane: events.PlaneControl, Weight: 1},
	{Name: TaskProfileLoad, Plane: events.PlaneControl, Weight: 1},
	{Name: TaskTrainLora, Share: true, Plane: events.PlaneGPU, Lane: events.LaneTrain, Weight: 20, Timeout: 240 * minute, Params: []Param{
		{Name: "max_steps", Kind: "integer", Min: 1, Max: 10_000, Default: 800.0, Doc: "training steps"},
		{Name: "rank", Kind: "integer", Min: 1, Max: 256, Default: 16.0, Doc: "rank of the LoRA"},
		{Name: "scheduler", Kind: "string", Enum: []string{"cosine", "constant", "linear"}, Default: "cosine", Doc: "learning rate schedule"},
	}},
	{Name: TaskTrainVoice, Share: true, Plane: events.PlaneGPU, Lane: events.LaneTrain, Weight: 10, Timeout: 60 * minute, Params: []Param{
		{Name: "sample_rate", Kind: "integer", Min: 16_000, Max: 48_000, Default: 24_000.0, Doc: "of the reference clip, in Hz"},
		{Name: "max_seconds", Kind: "integer", Min: 3, Max: 60, Default: 15.0, Doc: "longest reference clip"},
		language,
	}},
	{Name: TaskRender, Share: true, Plane: events.PlaneGPU, Lane: events.LaneRender, Weight: 25, Timeout: 30 * minute, Params: []Param{
		{Name: "duration_seconds", Kind: "integer", Min: 1, Max: 60, Default: 8.0, Doc: "length of the scene clip, in seconds"},
		resolution, aspect, fps, fit, draft, seed,
	}},
	{Name: TaskSpeech, Share: true, ByProfile: true, Plane: events.PlaneGPU, Lane: events.LaneTTS, Weight: 10, Timeout: 10 * minute, Params: []Param{
		{Name: "speed", Kind: "number", Min: 0.5, Max: 2, Default: 1.0, Doc: "of speech; 1 is the voice's own"},
		{Name: "voice", Kind: "string", Enum: []string{"slt", "rms", "awb", "kal"}, Default: "slt", Doc: "built-in voice, used when no other engine speaks"},
		{Name: "format", Kind: "string", Enum: []string{"wav", "flac"}, Default: "wav", Doc: "of the speech file"},
		language,
	}},
	{Name: TaskLipsync, Share: true, Plane: events.PlaneGPU, Lane: events.LaneLipsync, Weight: 30, Timeout: 30 * minute, PerSecond: 2 * minute, Params: []Param{
		face, resolution, aspect, fps, fit, draft, seed,
	}},
	{Name: TaskUpscale, Share: true, Plane: events.PlaneGPU, Lane: events.LaneUpscale, Weight: 10, Timeout: 30 * minute, Params: []Param{
		{Name: "factor", Kind: "integer", Min: 1, Max: 4, Enum: []string{"1", "2", "4"}, Default: 1.0, Doc: "enlargement; 1 leaves the stage out"},
		draft,
	}},
	{Name: TaskAssemble, Share: true, Plane: events.PlaneControl, Lane: events.LaneMedia, Weight: 8, Timeout: 20 * minute, Params: []Param{
		{Name: "captions", Kind: "string", Enum: []string{"file", "burned"}, Default: "file", Doc: "captions beside the video, or burnt into it as well"},
		{Name: "music_level", Kind: "number", Min: -40, Max: 0, Default: -12.0, Doc: "loudness of the music in the pauses, in LU against the speech; while somebody speaks it steps back by about 10 more"},
		{Name: "label", Kind: "boolean", Default: false, Doc: "the words AI generated in a corner of the picture"},
		aspect, fit, draft, seed,
	}},
	{Name: TaskCheck, Plane: events.PlaneControl, Lane: events.LaneMedia, Weight: 2, Timeout: 10 * minute, Params: []Param{face, draft}},
	{Name: TaskRegister, Plane: events.PlaneControl, Weight: 1, Params: []Param{
		{Name: optionTakes, Kind: "integer", Min: 1, Max: maxTakes, Default: 1.0, Doc: "how many variants of the picture are made, each with a seed of its own"},
	}},
	noopTask(events.LaneScript), noopTask(events.LaneTTS), noopTask(events.LaneRender), noopTask(events.LaneLipsync),
}

// noopTask is a task that occupies a lane and makes nothing.
func noopTask(lane string) TaskSpec {
	return TaskSpec{Name: NoopTask(lane), Plane: events.PlaneGPU, Lane: lane, Weight: 1, Timeout: 10 * minute, Params: []Param{
		{Name: "work_ms", Kind: "integer", Min: 0, Max: 60_000, Default: 0.0, Doc: "how long each stage takes, in milliseconds"},
		{Name: "fail_attempts", Kind: "integer", Min: 0, Max: 5, Default: 0.0, Doc: "how many attempts of each stage fail before one succeeds"},
	}}
}

// NoopTask is the name of the lane's task that makes nothing.
func NoopTask(lane string) string { return "noop." + lane }

// pipelines are the built-in graphs, and one for operators.
var pipelines = []Pipeline{
	{Workflow: WorkflowTrainAndGenerate, Mode: ModeTrainAndGenerate, Variant: VariantSVDWav2Lip, Title: "Scene video from the portrait, speech, lip-sync",
		Nodes: slices.Concat(opening(resolveProfile), []PipelineNode{trainLora, trainVoice, renderNode("portrait", "lora?", "train_lora"), speechNode("train_voice", "voice_transcript?"), lipsyncOnClip}, closing), Results: results},
	{Workflow: WorkflowTrainAndGenerate, Mode: ModeTrainAndGenerate, Variant: VariantSadTalker, Title: "Talking head straight from the portrait",
		Nodes: slices.Concat(opening(resolveProfile), []PipelineNode{trainVoice, speechNode("train_voice", "voice_transcript?"), lipsyncOnPortrait}, closing), Results: results},
	{Workflow: WorkflowGenerateFromProfile, Mode: ModeGenerateFromProfile, Variant: VariantSVDWav2Lip, Title: "Scene video of a profile, speech, lip-sync",
		Nodes: slices.Concat(opening(loadProfile), []PipelineNode{renderNode("portrait", "lora?", "profile"), speechNode("profile", "reference_transcript?"), lipsyncOnClip}, closing), Results: results},
	{Workflow: WorkflowGenerateFromProfile, Mode: ModeGenerateFromProfile, Variant: VariantSadTalker, Title: "Talking head of a profile",
		Nodes: slices.Concat(opening(loadProfile), []PipelineNode{speechNode("profile", "reference_transcript?"), lipsyncOnPortrait}, closing), Results: results},
	{Workflow: WorkflowTrainAndGenerate, Mode: ModeTrainAndGenerate, Variant: VariantInfiniteTalk, Title: "Long talking video from the portrait by InfiniteTalk, with a cloned voice",
		Nodes: slices.Concat(opening(resolveProfile), []PipelineNode{trainVoice, speechNode("train_voice", "voice_transcript?"), infiniteTalk}, closing), Results: results},
	{Workflow: WorkflowGenerateFromProfile, Mode: ModeGenerateFromProfile, Variant: VariantInfiniteTalk, Title: "Long talking video of a profile by InfiniteTalk",
		Nodes: slices.Concat(opening(loadProfile), []PipelineNode{speechNode("profile", "reference_transcript?"), infiniteTalk}, closing), Results: results},
	{Workflow: WorkflowDiagnostic, Mode: ModeDiagnostic, Variant: VariantNoop, Title: "Four lanes, nothing made", Hidden: true, Nodes: []PipelineNode{
		{ID: events.LaneScript, Task: NoopTask(events.LaneScript)},
		{ID: "approval", Task: TaskApproval, After: []string{events.LaneScript}},
		{ID: events.LaneTTS, Task: NoopTask(events.LaneTTS), After: []string{"approval"}},
		{ID: events.LaneRender, Task: NoopTask(events.LaneRender), After: []string{events.LaneTTS}},
		{ID: events.LaneLipsync, Task: NoopTask(events.LaneLipsync), After: []string{events.LaneRender}},
	}},
}

var results = map[string]string{"video": "video", "thumbnail": "thumbnail", "captions_srt": "captions_srt", "captions_vtt": "captions_vtt", "speech": "speech"}

var (
	resolveProfile = PipelineNode{ID: "profile", Task: TaskProfileResolve, After: []string{"safety"}, In: map[string]string{"portrait": "portrait"}}
	// What is said in a profile's voice comes from the profile, unless the request says it.
	loadProfile = PipelineNode{ID: "profile", Task: TaskProfileLoad, After: []string{"safety"}, In: map[string]string{transcriptValue: "voice_transcript?"},
		Out: map[string]string{"portrait": "portrait", "voice_reference": "voice_reference", transcriptValue: "reference_transcript", weightsValue: weightsValue, "lora": "lora"}}
	trainLora = PipelineNode{ID: "train_lora", Task: TaskTrainLora, After: []string{"profile"}, In: map[string]string{"images": "images"}, Out: map[string]string{"lora": "lora"}}
	// A run without a voice sample passes no reference on, and the built-in voice speaks.
	trainVoice = PipelineNode{ID: "train_voice", Task: TaskTrainVoice, After: []string{"profile"},
		In: map[string]string{"voice": "voice", "voice_transcript": "voice_transcript?"}, Out: map[string]string{"voice_reference": "voice_reference", weightsValue: weightsValue}}
	lipsyncOnClip = PipelineNode{ID: "lipsync", Task: TaskLipsync,
		In: map[string]string{"clip": "clip", "speech": "speech", "timing": "timing?"}, Out: map[string]string{"talking": "talking"}}
	lipsyncOnPortrait = PipelineNode{ID: "lipsync", Task: TaskLipsync,
		In: map[string]string{"portrait": "portrait", "speech": "speech", "timing": "timing?", "scene": "scene?"}, Out: map[string]string{"talking": "talking"}}
	infiniteTalk = PipelineNode{ID: "lipsync", Task: TaskLipsync, Engine: "comfyui-infinitetalk",
		In: map[string]string{"portrait": "portrait", "speech": "speech", "timing": "timing?", "scene": "scene?"}, Out: map[string]string{"talking": "talking"}}
	closing = []PipelineNode{
		{ID: "upscale", Task: TaskUpscale, In: map[string]string{"video": "talking"}, Out: map[string]string{"video": "upscaled"}, Pass: map[string]string{"video": "talking"}},
		{ID: "assemble", Task: TaskAssemble, In: map[string]string{"video": "upscaled", "speech": "speech", "timing": "timing?", "narration": "narration", "music": "music?"},
			Out: map[string]string{"video": "video", "thumbnail": "thumbnail", "captions_srt": "captions_srt", "captions_vtt": "captions_vtt"}},
		{ID: "check", Task: TaskCheck, In: map[string]string{"video": "video", "speech": "speech"}},
		{ID: "register", Task: TaskRegister, After: []string{"check"}, In: map[string]string{"video": "video"}},
	}
)

// opening is how every video's pipeline starts: script, approval, safety filter, profile.
func opening(profile PipelineNode) []PipelineNode {
	return []PipelineNode{
		{ID: "script", Task: TaskScript, In: map[string]string{"prompt": "prompt?", "script": "script?"}, Out: map[string]string{"narration": "draft_narration", "scene": "draft_scene"}},
		{ID: "approval", Task: TaskApproval, In: map[string]string{narrationOutput: "draft_narration"},
			Out: map[string]string{narrationOutput: "approved_narration"}, Pass: map[string]string{narrationOutput: "draft_narration"}},
		{ID: "safety", Task: TaskSafety, In: map[string]string{"narration": "approved_narration", "scene": "draft_scene"}, Out: map[string]string{"narration": "narration", "scene": "scene"}},
		profile,
	}
}

func renderNode(portrait, lora, after string) PipelineNode {
	return PipelineNode{ID: "render", Task: TaskRender, After: []string{after},
		In: map[string]string{"scene": "scene", "portrait": portrait, "lora": lora}, Out: map[string]string{"scene_image": "scene_image", "clip": "clip"}}
}

// transcriptValue is what is said in a voice reference, where it is known.
const transcriptValue = "voice_transcript"

// weightsValue are what was trained on a voice, where somebody trained.
const weightsValue = "voice_weights"

func speechNode(after, transcript string) PipelineNode {
	return PipelineNode{ID: "tts", Task: TaskSpeech, After: []string{after},
		In:  map[string]string{"narration": "narration", "voice_reference": "voice_reference?", transcriptValue: transcript, weightsValue: weightsValue + "?", events.InputRecording: "audio?"},
		Out: map[string]string{"speech": "speech", "timing": "timing"}}
}

// Pipelines lists what is offered to users.
func Pipelines() []Pipeline {
	return slices.DeleteFunc(slices.Clone(pipelines), func(p Pipeline) bool { return p.Hidden })
}

// Diagnostic is the pipeline that serves operators.
func Diagnostic() Pipeline { return pipelines[len(pipelines)-1] }

// Tasks lists every registered task.
func Tasks() []TaskSpec { return slices.Clone(tasks) }

// Task finds a registered task.
func Task(name string) (TaskSpec, bool) {
	i := slices.IndexFunc(tasks, func(t TaskSpec) bool { return t.Name == name })
	if i < 0 {
		return TaskSpec{}, false
	}
	return tasks[i], true
}

// FindPipeline gives the pipeline of a mode and variant.
func FindPipeline(mode, variant string) (Pipeline, bool) {
	i := slices.IndexFunc(pipelines, func(p Pipeline) bool { return p.Mode == mode && p.Variant == variant })
	if i < 0 {
		return Pipeline{}, false
	}
	return pipelines[i], true
}

// Variants and modes in the catalogue, in its order.
func Variants() []string { return distinct(func(p Pipeline) string { return p.Variant }) }

// Modes lists the modes in the catalogue's order.
func Modes() []string { return distinct(func(p Pipeline) string { return p.Mode }) }

func distinct(f func(Pipeline) string) []string {
	var out []string
	for _, p := range Pipelines() {
		if v := f(p); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// Options lists the parameters that a pipeline's user may set: those of its
// tasks, each name once (tasks that share a name share the value).
func (p Pipeline) Options() []Param {
	if p.Params != nil {
		return p.Params
	}
	var out []Param
	for _, n := range p.Nodes {
		t, _ := Task(n.Task)
		for _, q := range t.Params {
			if _, fixed := n.Fixed[q.Name]; !fixed && !slices.ContainsFunc(out, func(o Param) bool { return o.Name == q.Name }) {
				out = append(out, q)
			}
		}
	}
	return out
}

// Inputs lists the keys that the request fills: those that nodes read and none writes.
func (p Pipeline) Inputs() (required, optional []string) {
	written := map[string]bool{}
	for _, n := range p.Nodes {
		for _, k := range n.Out {
			written[k] = true
		}
	}
	for _, n := range p.Nodes {
		for _, k := range n.In {
			name, opt := optionalKey(k)
			if written[name] || slices.Contains(required, name) || slices.Contains(optional, name) {
				continue
			}
			if opt || skippable(n.Task) {
				optional = append(optional, name)
			} else {
				required = append(required, name)
			}
		}
	}
	slices.Sort(required)
	slices.Sort(optional)
	return required, optional
}

// skippable tasks are left out, with a reason, when their samples are missing.
func skippable(task string) bool { return task == TaskTrainLora || task == TaskTrainVoice }

func optionalKey(k string) (name string, optional bool) {
	if k != "" && k[len(k)-1] == '?' {
		return k[:len(k)-1], true
	}
	return k, false
}
