// A recording in place of a voice: what a person has said is the speech of the video, and
// the script says which words those are.
//
//  1. A job with a recording brings a script, which the safety filter reads and which
//     captions and mouth follow; a prompt would have other words written.
//  2. It is as long as a video may be; what is silent at its ends is cut off later, and
//     what is left is measured again by who plays it.
//  3. Options of the voice are refused: nobody would hear them.
//  4. The engine that takes a recording does the work, and no other, whatever engines the
//     job allows: what makes it is the person.

package aggregates

import (
	"fmt"
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// playsRecordings says whether the engine makes speech of a recording, and of nothing else.
func playsRecordings(c events.TaskCapability) bool { return c.Takes == events.InputRecording }

// Bounds of a recording in milliseconds, where its length is known; formats that pad what
// they hold get a little more.
const (
	shortestRecordingMS = 500
	longestRecordingMS  = 60_500
)

// voiceParams are the parameters of tts.synthesize that decide how a voice sounds.
var voiceParams = []string{"speed", "voice"}

// checkRecording says what a job with a recording lacks, and what it may not have.
func checkRecording(pipe Pipeline, r events.Request, given map[string]bool) []events.Reason {
	i := slices.IndexFunc(pipe.Nodes, func(n PipelineNode) bool {
		key, _ := optionalKey(n.In[events.InputRecording])
		return given[key]
	})
	if i < 0 {
		return nil
	}
	n := pipe.Nodes[i]
	key, _ := optionalKey(n.In[events.InputRecording])
	var reasons []events.Reason
	if !given["script"] {
		reasons = append(reasons, events.Reason{Code: "input_missing", Field: "/script",
			Detail: "give the words that are said in " + key + " as script: they are checked, and captions and mouth follow them"})
	}
	if given["prompt"] {
		reasons = append(reasons, events.Reason{Code: "input_unused", Field: "/prompt",
			Detail: "a prompt has a script written, and " + key + " says one already: leave prompt out"})
	}
	for _, a := range r.Inputs[key].Artifacts {
		if ms := a.DurationMS; ms > 0 && (ms < shortestRecordingMS || ms > longestRecordingMS) {
			reasons = append(reasons, events.Reason{Code: "input_invalid", Field: "/" + key,
				Detail: fmt.Sprintf("%s lasts %.1f s: a recording has half a second to 60 seconds of speech; record it again, or cut it", key, float64(ms)/1000)})
		}
	}
	for _, param := range voiceParams {
		option := param
		if other, renamed := n.From[param]; renamed {
			option = other
		}
		if _, set := r.Options[option]; set {
			reasons = append(reasons, events.Reason{Code: "input_unused", Field: "/options/" + option,
				Detail: key + " is heard as it was recorded: leave " + option + " out"})
		}
	}
	return reasons
}

// noVoice is why no voice is trained where no sample of one is given.
func noVoice(given map[string]bool) string {
	if given["audio"] {
		return "no voice sample was given, and the recording needs none"
	}
	return "no voice sample was given; the built-in voice speaks"
}

// unplayed says that nobody makes speech of the job's recording.
func unplayed(n events.Node) events.Reason {
	key, _ := optionalKey(n.In[events.InputRecording])
	return events.Reason{Code: "capability_missing", Field: "/" + key,
		Detail: "no worker makes speech of a recording now: update the workers and look at GET /api/capabilities, or leave " + key + " out to have a voice speak"}
}
