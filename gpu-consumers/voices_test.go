// Which voice speaks when, and whether people can understand it.

package gpu

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/devstack/devstacktest"
)

// TestTheConfiguredVoiceSpeaksWhileItIsHealthy takes the voices away one by one.
func TestTheConfiguredVoiceSpeaksWhileItIsHealthy(t *testing.T) {
	t.Parallel()
	imitator, server := serveSoVITS(t, speaks), serveOpenAI(t, speaks, false)
	configured := VoicesConfig{SoVITS: imitator.config(), OpenAI: OpenAIVoiceConfig{URL: server.URL, Model: "kokoro", Voice: "af_heart"}}
	engines, err := SpeechEngines(configured, EngineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	r := newRoster(append(engines, EngineConfig{}.builtinVoice(testTool())), map[string]int{events.LaneTTS: 1})
	strict := newRoster(engines, map[string]int{events.LaneTTS: 1})
	with := &Attempt{Task: taskSpeech, Files: voiceReferenceFile(t, 4)}
	without := &Attempt{Task: taskSpeech}
	expect := func(a *Attempt, engine, fidelity string) {
		t.Helper()
		r.refresh(context.Background())
		if _, can, err := r.pick(context.Background(), a); err != nil || can.Engine != engine || can.Fidelity != fidelity {
			t.Errorf("picked %+v, error %v; want %s", can, err, engine)
		}
	}
	expect(with, "gpt-sovits", events.FidelityFull)
	expect(without, "openai-speech", events.FidelityFull)
	imitator.Close()
	expect(with, "openai-speech", events.FidelityFull)
	server.Close()
	expect(with, "flite", events.FidelityPreview)
	expect(without, "flite", events.FidelityPreview)
	strict.refresh(context.Background())
	_, _, err = strict.pick(context.Background(), without)
	if te := wantTaskError(t, err, events.ClassEngineUnavailable); !strings.Contains(te.Message, "does not answer") {
		t.Errorf("message %q", te.Message)
	}
	for _, e := range BuiltinEngines(EngineConfig{NoVoice: true}) {
		if s, ok := e.(*speech); ok && s.voice != (recording{s.media}) {
			t.Error("the built-in voice is there although it was left out")
		}
	}
}

// TestLongSpeechIsUnderstood listens to what the engine joined of a long text, with
// the offline recogniser, and to each half by itself: the times of the words tell
// where it is cut.
func TestLongSpeechIsUnderstood(t *testing.T) {
	t.Parallel()
	f := serveOpenAI(t, speaks, false)
	out, times, err := runSpeech(t, openAISpeech(t, OpenAIVoiceConfig{URL: f.URL}), narrated(longNarration))
	if err != nil {
		t.Fatal(err)
	}
	path := out.Files["speech"][0].Path
	middle := len(times.Words) / 2
	cut := (times.Words[middle-1].End + times.Words[middle].Start) / 2
	for _, part := range []struct {
		from, to float64
		words    []timedWord
	}{{0, times.Duration, times.Words}, {0, cut, times.Words[:middle]}, {cut, times.Duration, times.Words[middle:]}} {
		wanted := make([]string, len(part.words))
		for i, w := range part.words {
			wanted[i] = bare(w.Word)
		}
		heard := devstacktest.Heard(t, cutOut(t, path, part.from, part.to))
		if share := devstacktest.Understood(wanted, heard); share < 0.5 {
			t.Errorf("from %.1f to %.1f s only %.0f %% of the words are understood: %q", part.from, part.to, 100*share, heard)
		}
	}
}

// cutOut is a file with a part of a sound, in seconds.
func cutOut(t *testing.T, path string, from, to float64) string {
	t.Helper()
	w, err := readWave(path)
	if err != nil {
		t.Fatal(err)
	}
	w.samples = w.cut(from, to)
	part := filepath.Join(t.TempDir(), "part.wav")
	if err := w.write(part); err != nil {
		t.Fatal(err)
	}
	return part
}
