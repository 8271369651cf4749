// A trained voice on the lane: a worker with a real object store brings the weights of
// another job's training to the server that speaks, and to nobody else.

package gpu

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// keep puts a file into another job's folder.
func (b *bench) keep(name, ext, kind string, content []byte) events.Artifact {
	b.t.Helper()
	a, err := b.store.Put(b.t.Context(), "default/prof/the-training", ext, "application/octet-stream", strings.NewReader(string(content)))
	if err != nil {
		b.t.Fatal(err)
	}
	a.ID, a.Name, a.Type = name, name, kind
	return a
}

func TestAWorkerSpeaksWithTheWeightsOfAProfile(t *testing.T) {
	t.Parallel()
	f := serveSoVITS(t, speaks)
	c := f.config()
	c.GPTWeights, c.SoVITSWeights, c.CacheBytes = "base.ckpt", "base.pth", 1<<20
	b := newBench(t, soVITSSpeech(t, c), EngineConfig{}.builtinVoice(testTool()))
	b.worker.cfg.Slots[events.LaneTTS], b.worker.roster.slots[events.LaneTTS] = 1, 1
	b.start()
	sound, err := os.ReadFile(voiceReferenceFile(t, 4)["voice_reference"][0].Path)
	if err != nil {
		t.Fatal(err)
	}
	reference := events.Value{Artifacts: []events.Artifact{b.keep("voice.wav", "wav", "voice", sound)}}
	weights := events.Value{Artifacts: []events.Artifact{b.keep("voice-gpt.ckpt", "ckpt", "weights", []byte("gpt of anna")), b.keep("voice-sovits.pth", "pth", "weights", []byte("sovits of anna"))}}
	speak := func(stage, engines string, inputs map[string]events.Value) events.Message {
		t.Helper()
		inputs["narration"] = b.seal("Green tea is picked in spring.")
		m := b.message(stage, events.TaskRun{Params: map[string]any{"language": "en"}, Inputs: inputs, Engines: engines, TimeoutMS: 60_000})
		m.Task, m.Lane = taskSpeech, events.LaneTTS
		value, err := events.Encode(m)
		if err == nil {
			err = b.log.Produce(t.Context(), eventlog.Record{Topic: events.LaneTopic(events.LaneTTS), Key: benchJob, Value: value})
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.await("task.succeeded", stage)
	}
	trained := speak("trained", "", map[string]events.Value{"voice_reference": reference, "voice_weights": weights})
	imitated := speak("imitated", "", map[string]events.Value{"voice_reference": reference})
	if want := []string{"gpt of anna+sovits of anna", "base.ckpt+base.pth"}; !slices.Equal(f.spokenWith(), want) {
		t.Errorf("spoken with %q, want %q", f.spokenWith(), want)
	}
	if !strings.HasPrefix(trained.Model, "trained ") || imitated.Model != "base.ckpt+base.pth" {
		t.Errorf("made by %q and %q", trained.Model, imitated.Model)
	}
	cached, err := filepath.Glob(filepath.Join(f.real, "myspinbot-voice-weights", "*"))
	if err != nil || len(cached) != 2 {
		t.Errorf("kept are %q, %v", cached, err)
	}
	// What nobody can fetch is no trouble for a voice that has no use for it.
	gone := events.Value{Artifacts: []events.Artifact{{Name: "voice-gpt.ckpt", URI: "s3://bench/default/prof/the-training/gone.ckpt", SHA256: strings.Repeat("0", 64), Size: 1}}}
	if r := speak("preview", events.EnginesPreview, map[string]events.Value{"voice_reference": reference, "voice_weights": gone}).Data.(events.TaskSucceeded); r.Engine != "flite" {
		t.Errorf("the preview was made by %s", r.Engine)
	}
}
