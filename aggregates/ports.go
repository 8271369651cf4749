// What each task reads and writes, by the names that its engines know: a pipeline from a
// file is held against it, so that a slip is found at start and not by a job.

package aggregates

import "github.com/myspinbot/myspinbot/events"

// kinds of values. A task reads what another wrote only where the kinds agree.
const (
	kindText    = "text"
	kindImage   = "image"
	kindAudio   = "audio"
	kindVideo   = "video"
	kindTiming  = "timing"
	kindWeights = "weights"
	kindCaption = "captions"
)

// port is an input or an output of a task.
type port struct {
	kind     string
	optional bool // of an input: the task works without it
	passes   bool // of an output: it is the input of the same name when the task is left out
}

type ports struct {
	in, out map[string]port
	oneOf   []string // inputs of which exactly one is wired
}

var (
	must     = func(kind string) port { return port{kind: kind} }
	may      = func(kind string) port { return port{kind: kind, optional: true} }
	passing  = func(kind string) port { return port{kind: kind, passes: true} }
	taskPort = map[string]ports{
		TaskScript:   {in: map[string]port{"prompt": may(kindText), "script": may(kindText)}, out: map[string]port{"narration": must(kindText), "scene": must(kindText)}},
		TaskApproval: {in: map[string]port{"narration": must(kindText)}, out: map[string]port{"narration": passing(kindText)}},
		TaskSafety: {in: map[string]port{"narration": must(kindText), "scene": may(kindText)},
			out: map[string]port{"narration": must(kindText), "scene": must(kindText)}},
		TaskProfileResolve: {in: map[string]port{"portrait": may(kindImage)}},
		TaskProfileLoad: {in: map[string]port{"voice_transcript": may(kindText)},
			out: map[string]port{"portrait": must(kindImage), "voice_reference": must(kindAudio), "voice_transcript": must(kindText), weightsValue: must(kindWeights), "lora": must(kindWeights)}},
		TaskTrainLora:  {in: map[string]port{"images": must(kindImage)}, out: map[string]port{"lora": must(kindWeights)}},
		TaskTrainVoice: {in: map[string]port{"voice": must(kindAudio), "voice_transcript": may(kindText)}, out: map[string]port{"voice_reference": must(kindAudio), weightsValue: must(kindWeights)}},
		TaskRender: {in: map[string]port{"scene": may(kindText), "portrait": must(kindImage), "lora": may(kindWeights)},
			out: map[string]port{"scene_image": must(kindImage), "clip": must(kindVideo)}},
		TaskSpeech: {in: map[string]port{"narration": must(kindText), "voice_reference": may(kindAudio), "voice_transcript": may(kindText), weightsValue: may(kindWeights), events.InputRecording: may(kindAudio)},
			out: map[string]port{"speech": must(kindAudio), "timing": must(kindTiming)}},
		TaskLipsync: {in: map[string]port{"portrait": may(kindImage), "clip": may(kindVideo), "speech": must(kindAudio), "timing": may(kindTiming), "scene": may(kindText)},
			out: map[string]port{"talking": must(kindVideo)}, oneOf: []string{"portrait", "clip"}},
		TaskUpscale: {in: map[string]port{"video": must(kindVideo)}, out: map[string]port{"video": passing(kindVideo)}},
		TaskAssemble: {in: map[string]port{"video": must(kindVideo), "speech": must(kindAudio), "timing": may(kindTiming), "narration": must(kindText), "music": may(kindAudio)},
			out: map[string]port{"video": must(kindVideo), "thumbnail": must(kindImage), "captions_srt": must(kindCaption), "captions_vtt": must(kindCaption)}},
		TaskCheck:    {in: map[string]port{"video": must(kindVideo), "speech": must(kindAudio)}},
		TaskRegister: {in: map[string]port{"video": may(kindVideo)}},
	}
	// requestPort are the keys that a request fills, in the mode that makes a profile. With
	// an existing one, portrait and voice come from it.
	requestPort = map[string]port{
		"prompt": must(kindText), "script": must(kindText), "voice_transcript": must(kindText),
		"portrait": must(kindImage), "images": must(kindImage), "voice": must(kindAudio), "music": must(kindAudio), "audio": must(kindAudio),
	}
)
