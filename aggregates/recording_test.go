// Jobs that bring a recording: what they need, who does the work, and what its name is.

package aggregates_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

var recorder = events.TaskCapability{Task: aggregates.TaskSpeech, Engine: "recording", Version: "1", Fidelity: events.FidelityFull, Builtin: true, Takes: events.InputRecording}

func recordingOf(digest string) events.Value {
	return events.Value{Artifacts: []events.Artifact{{ID: "a", URI: "s3://b/a", SHA256: digest, DurationMS: 3000}}}
}

func lasting(ms int64) events.Value {
	v := recordingOf("one")
	v.Artifacts[0].DurationMS = ms
	return v
}

func recorded(r events.Request) events.Request {
	delete(r.Inputs, "prompt")
	r.Inputs["script"], r.Inputs["audio"] = digested("words"), recordingOf("one")
	return r
}

func TestARecordingIsAnInputOfEveryVideo(t *testing.T) {
	t.Parallel()
	for _, variant := range aggregates.Variants() {
		for _, r := range []events.Request{trainRequest(), profileRequest()} {
			r.Variant = variant
			g, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: recorded(r), Profile: snapshot, Engines: aggregates.EnginesOf(append(announced(), recorder)...)})
			if len(reasons) > 0 {
				t.Fatalf("%s %s is refused: %+v", r.Mode, variant, reasons)
			}
			if in := node(t, g, "tts").In[events.InputRecording]; in != "audio?" {
				t.Errorf("%s %s: tts reads %q", r.Mode, variant, in)
			}
			if train := slices.IndexFunc(g.Nodes, func(n events.Node) bool { return n.Task == aggregates.TaskTrainVoice }); train >= 0 && strings.Contains(g.Nodes[train].Skip, "built-in voice") {
				t.Errorf("%s %s: the voice is left out because %s", r.Mode, variant, g.Nodes[train].Skip)
			}
		}
	}
}

func TestARecordingNeedsItsWordsAndNoVoice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*events.Request)
		want   []string
		says   string
	}{
		"all is well":        {func(*events.Request) {}, nil, ""},
		"another language":   {func(r *events.Request) { r.Options = map[string]any{"language": "de", "format": "flac"} }, nil, ""},
		"no words":           {func(r *events.Request) { delete(r.Inputs, "script") }, []string{"input_missing /script"}, "the words that are said in audio"},
		"a prompt":           {func(r *events.Request) { r.Inputs["prompt"] = text }, []string{"input_unused /prompt"}, "leave prompt out"},
		"a prompt, no words": {func(r *events.Request) { r.Inputs["prompt"] = text; delete(r.Inputs, "script") }, []string{"input_missing /script", "input_unused /prompt"}, "leave prompt out"},
		"a blink":            {func(r *events.Request) { r.Inputs["audio"] = lasting(400) }, []string{"input_invalid /audio"}, "audio lasts 0.4 s"},
		"a minute":           {func(r *events.Request) { r.Inputs["audio"] = lasting(60_000) }, nil, ""},
		"a lecture":          {func(r *events.Request) { r.Inputs["audio"] = lasting(61_000) }, []string{"input_invalid /audio"}, "audio lasts 61.0 s: a recording has half a second to 60 seconds"},
		"a voice": {func(r *events.Request) { r.Options = map[string]any{"voice": "rms", "speed": 1.0} },
			[]string{"input_unused /options/speed", "input_unused /options/voice"}, "leave voice out"},
	} {
		r := recorded(talker())
		c.change(&r)
		_, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r, Engines: aggregates.EnginesOf(append(announced(), recorder)...)})
		var got, details []string
		for _, reason := range reasons {
			got, details = append(got, reason.Code+" "+reason.Field), append(details, reason.Detail)
		}
		if !slices.Equal(got, c.want) || !strings.Contains(strings.Join(details, "\n"), c.says) {
			t.Errorf("%s: %q %q, want %q", name, got, details, c.want)
		}
	}
}

// A recording is played by the engine that takes one, whatever engines and language the job
// asks for; and that engine speaks for nobody who brings none.
func TestOnlyARecorderPlaysARecording(t *testing.T) {
	t.Parallel()
	rest := announced(aggregates.TaskSpeech)
	voices := append(slices.Clone(rest), inLanguages(preview(aggregates.TaskSpeech, "flite"), "en"), full(aggregates.TaskSpeech, "openai-speech"))
	for name, c := range map[string]struct {
		engines  []events.TaskCapability
		recorded bool
		language string
		want     string
	}{
		"recorded":                  {append(slices.Clone(rest), recorder), true, "en", ""},
		"recorded, in Thai":         {append(slices.Clone(rest), recorder), true, "th", ""},
		"recorded, voices alone":    {voices, true, "en", "capability_missing /audio"},
		"spoken, by voices":         {voices, false, "en", ""},
		"spoken, by a recorder":     {append(slices.Clone(rest), recorder), false, "en", "capability_missing /variant"},
		"spoken in a language":      {append(slices.Clone(rest), recorder, inLanguages(preview(aggregates.TaskSpeech, "flite"), "en")), false, "th", "language_unavailable /options/language"},
		"spoken, with both of them": {append(slices.Clone(voices), recorder), false, "en", ""},
	} {
		r := talker()
		r.Inputs = map[string]events.Value{"script": text, "portrait": portrait}
		if c.recorded {
			r = recorded(r)
		}
		r.Options = map[string]any{"language": c.language}
		_, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r, Engines: aggregates.EnginesOf(c.engines...)})
		got := ""
		if len(reasons) > 0 {
			got = reasons[0].Code + " " + reasons[0].Field
		}
		if got != c.want || len(reasons) > 1 {
			t.Errorf("%s: %+v, want %q", name, reasons, c.want)
		}
	}
	for _, choice := range aggregates.EngineChoices {
		r := recorded(talker())
		r.Engines = choice
		all := append(append(realTasks(aggregates.TaskSpeech), rest...), recorder)
		if _, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r, Engines: aggregates.EnginesOf(all...)}); len(reasons) > 0 {
			t.Errorf("engines %s: %+v", choice, reasons)
		}
	}
	// A recorder is no real voice: it is not what a job that needs one is told of.
	r := talker()
	r.Engines = events.EnginesReal
	_, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r, Engines: aggregates.EnginesOf(append(realTasks(aggregates.TaskSpeech), preview(aggregates.TaskSpeech, "flite"), recorder)...)})
	if len(reasons) != 1 || !strings.Contains(reasons[0].Detail, "none is configured") {
		t.Errorf("a job for real voices: %+v", reasons)
	}
	pipe, _ := aggregates.FindPipeline(aggregates.ModeTrainAndGenerate, aggregates.VariantSadTalker)
	if missing := pipe.Missing(aggregates.EnginesOf(append(rest, recorder)...), ""); !slices.Equal(missing, []string{aggregates.TaskSpeech}) {
		t.Errorf("with a recorder alone the pipeline misses %v", missing)
	}
	if missing := pipe.Missing(aggregates.EnginesOf(append(voices, recorder)...), ""); len(missing) > 0 {
		t.Errorf("with voices the pipeline misses %v", missing)
	}
}

// Given a job with a recording, when its speech is scheduled, then the engine that is
// expected is the recorder alone, another recording makes another result, and the same one is reused;
// without one it is the voice alone.
func TestSpeechIsNamedByItsRecording(t *testing.T) {
	t.Parallel()
	run := func(r events.Request) *script {
		s := newScript(t)
		s.env.Engines = aggregates.EnginesOf(append(announced(aggregates.TaskSpeech), preview(aggregates.TaskSpeech, "flite"), recorder)...)
		s.submit(r)
		s.said("script", 1, map[string]string{"narration": "words", "scene": "sea"})
		s.said("safety", 1, map[string]string{"narration": "words", "scene": "sea"})
		return s
	}
	engine := func(s *script) (engine string) {
		for _, f := range s.facts {
			if d, ok := f.Data.(events.StageScheduled); ok && f.Stage == "tts" {
				engine = d.Engine
			}
		}
		return engine
	}
	parent, spoken := run(recorded(talker())), run(talker())
	if engine(parent) != "recording/1/" || engine(spoken) != "flite/1/" {
		t.Errorf("expected are %q with a recording and %q without", engine(parent), engine(spoken))
	}
	parent.succeed("tts", 1, "speech", "timing")
	for digest, anew := range map[string]bool{"one": false, "two": true} {
		_, scheduled, _ := again(t, parent, "", func(r *events.Request) { r.Inputs["audio"] = recordingOf(digest) })
		if got := slices.Contains(scheduled, "tts"); got != anew {
			t.Errorf("recording %s: scheduled %v", digest, scheduled)
		}
	}
}
