// Recordings as speech: what is heard of them, when, and which cannot be used.

package gpu

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// recordingTrial has flite's voice rms play the person.
func recordingTrial() trial {
	return trial{name: "recording",
		begin: func(t *testing.T, behaviour string) trialVoice {
			media, program := testTool(), filepath.Join(t.TempDir(), "ffprobe")
			if behaviour != speaks {
				media.ffprobe = program
			}
			if behaviour == hangs {
				script := fmt.Sprintf("#!/bin/sh\necho $$ >> '%s/calls'\nexec sleep 60\n", filepath.Dir(program))
				if err := os.WriteFile(program, []byte(script), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			return planted(t, program, EngineConfig{}.recorder(media))
		},
		classes:  map[string]string{lost: events.ClassEngineUnavailable},
		recorded: func(t *testing.T, text string) []File { return input(recordingFile(t, text, 0.7)) },
		abroad:   map[string]string{"de": "", "zh": "", "pt-BR": ""},
		told:     func(*testing.T, trialVoice, *Attempt) string { return "" },
	}
}

// recordingFile is a text as flite's voice rms says it, with silence of so many seconds
// before and after it.
func recordingFile(t *testing.T, text string, silence float64) string {
	t.Helper()
	text = strings.Join(strings.Fields(text), " ")
	if !strings.ContainsFunc(text, func(r rune) bool { return sayable(string(r)) }) {
		text = "Nothing."
	}
	sound, _, err := fliteSound(t, text, 1)
	if err != nil {
		t.Fatal(err)
	}
	said, err := readWave(writeFile(t, "said.wav", sound))
	if err != nil {
		t.Fatal(err)
	}
	return padded(t, said, silence)
}

func padded(t *testing.T, said *wave, silence float64) string {
	t.Helper()
	w := &wave{rate: said.rate}
	w.pad(silence)
	w.samples = append(w.samples, said.samples...)
	w.pad(silence)
	path := filepath.Join(t.TempDir(), "recording.wav")
	if err := w.write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestARecordingIsCutToWhatIsSaid plays a recording in which the truth is known, with long
// silence around it and a pause within: the silence is gone, the pause is not, and the
// words and sounds lie where they are heard.
func TestARecordingIsCutToWhatIsSaid(t *testing.T) {
	t.Parallel()
	const pause, around = 0.9, 2.0
	said := &wave{}
	var truth []timedWord
	for i, text := range alignedTexts[:2] {
		sentence, _ := splitNarration(text, speakable)
		part, err := (&fliteRun{path: "flite", voice: "rms", stretch: 1.15, dir: t.TempDir()}).say(context.Background(), sentence[0])
		if err != nil {
			t.Fatal(err)
		}
		if said.rate = part.sound.rate; i > 0 {
			said.pad(pause)
		}
		for _, w := range part.words {
			truth = append(truth, timedWord{w.Word, w.Start + said.seconds(), w.End + said.seconds(), false})
		}
		said.samples = append(said.samples, part.sound.samples...)
	}
	a := narrated(strings.Join(alignedTexts[:2], "\n\n"))
	a.Files = map[string][]File{events.InputRecording: input(padded(t, said, around))}
	out, times, err := runSpeech(t, EngineConfig{}.recorder(testTool()), a)
	if err != nil {
		t.Fatal(err)
	}
	if out.Engine != "recording" || out.Fidelity != events.FidelityFull || times.Source != timesAligned || times.WordSource != wordsAligned || len(times.Words) != len(truth) {
		t.Fatalf("made by %s, %s; phones %s, %d words %s", out.Engine, out.Fidelity, times.Source, len(times.Words), times.WordSource)
	}
	spoken := truth[len(truth)-1].End - truth[0].Start
	if extra := times.Duration - spoken; extra < leadIn+leadOut-0.15 || extra > leadIn+leadOut+0.35 {
		t.Errorf("%.2f s of speech became %.2f s", spoken, times.Duration)
	}
	shift := times.Words[0].Start - truth[0].Start
	var apart []float64
	for i, w := range times.Words {
		apart = append(apart, math.Abs(w.End-shift-truth[i].End))
	}
	slices.Sort(apart)
	t.Logf("ends of %d words: median %.0f ms, p90 %.0f ms", len(apart), 1000*apart[len(apart)/2], 1000*apart[len(apart)*9/10])
	if median := apart[len(apart)/2]; median > 0.06 {
		t.Errorf("the median error of a word's end is %.0f ms", 1000*median)
	}
	first := len(strings.Fields(alignedTexts[0]))
	if gap := times.Words[first].Start - times.Words[first-1].End; gap < pause-0.2 {
		t.Errorf("the pause of %.1f s became one of %.2f s", pause, gap)
	}
	lufs, _, err := testTool().loudness(context.Background(), t.TempDir(), out.Files["speech"][0].Path)
	if err != nil || math.Abs(lufs-speechLUFS) > 1.5 {
		t.Errorf("loudness %g LUFS, error %v", lufs, err)
	}
}

func TestRecordingsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	tone := func(seconds string) string {
		return makeMedia(t, "tone.flac", "-f", "lavfi", "-i", "sine=frequency=300:sample_rate=24000", "-t", seconds)
	}
	for name, c := range map[string]struct {
		path, words, says string
	}{
		"too long":            {tone("61"), strings.Repeat("many words ", 60), "lasts 61 s from its first sound to its last, more than 60"},
		"too short":           {tone("0.3"), "No", "holds 0.3 s of sound, too little"},
		"silent":              {writeFile(t, "silent.wav", silentWave(t)), "Hello.", "the recording is silent"},
		"no sound":            {makeMedia(t, "mute.mp4", "-f", "lavfi", "-i", "color=s=64x64", "-t", "1"), "Hello.", "holds no sound"},
		"no recording":        {writeFile(t, "page.wav", []byte("<!DOCTYPE html><title>It works!</title>")), "Hello.", "not audio or video"},
		"damaged":             {writeFile(t, "noise.flac", append([]byte("fLaC"), make([]byte, 5000)...)), "Hello.", "cannot be"},
		"words left out":      {tone("30"), "Hello.", "lasts 30 s, and its script has 6 characters alone"},
		"words that are none": {tone("1"), strings.Repeat("many words ", 60), "its script has"},
	} {
		a := narrated(c.words)
		a.Files = map[string][]File{events.InputRecording: input(c.path)}
		_, _, err := runSpeech(t, EngineConfig{}.recorder(testTool()), a)
		if te := wantTaskError(t, err, events.ClassInvalidInput); !strings.Contains(te.Message, c.says) || te.Hint == "" {
			t.Errorf("%s: %q, hint %q", name, te.Message, te.Hint)
		}
	}
}

// A recording is played by the recorder, however many voices are healthy, and whatever
// engines and language the job asks for; without one the recorder is never picked.
func TestWhoPlaysARecording(t *testing.T) {
	t.Parallel()
	server := serveOpenAI(t, speaks, false)
	voices, err := SpeechEngines(VoicesConfig{OpenAI: OpenAIVoiceConfig{URL: server.URL, Model: "kokoro", Voice: "af_heart"}}, EngineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	r := newRoster(append(voices, BuiltinEngines(EngineConfig{})...), map[string]int{events.LaneTTS: 1})
	r.refresh(context.Background())
	with := map[string][]File{events.InputRecording: {{}}}
	for _, engines := range []string{events.EnginesAuto, events.EnginesReal, events.EnginesPreview} {
		for _, language := range []string{"en", "th"} {
			a := &Attempt{Task: taskSpeech, Engines: engines, Params: map[string]any{"language": language}, Files: with}
			if _, can, err := r.pick(context.Background(), a); err != nil || can.Engine != "recording" {
				t.Errorf("engines %s, language %s: picked %+v, error %v", engines, language, can, err)
			}
			if _, can := r.expect(a); can.Engine != "recording" {
				t.Errorf("engines %s, language %s: expected %+v", engines, language, can)
			}
		}
		a := &Attempt{Task: taskSpeech, Engines: engines, Files: voiceReferenceFile(t, 4)}
		if _, can, err := r.pick(context.Background(), a); err != nil || can.Engine == "recording" {
			t.Errorf("engines %s, no recording: picked %+v, error %v", engines, can, err)
		}
	}
	without := newRoster(voices, map[string]int{events.LaneTTS: 1})
	without.refresh(context.Background())
	_, _, err = without.pick(context.Background(), &Attempt{Task: taskSpeech, Files: with})
	if te := wantTaskError(t, err, events.ClassEngineUnavailable); !te.Misplaced {
		t.Errorf("a worker without a recorder says %q", te.Message)
	}
	builtin := newRoster(BuiltinEngines(EngineConfig{}), map[string]int{events.LaneTTS: 1})
	builtin.refresh(context.Background())
	for says, a := range map[string]*Attempt{"that the job allows": {Engines: events.EnginesReal}, "in the language th": {Params: map[string]any{"language": "th"}}} {
		a.Task = taskSpeech
		_, _, err = builtin.pick(context.Background(), a)
		if te := wantTaskError(t, err, events.ClassEngineUnavailable); !strings.Contains(te.Message, says) {
			t.Errorf("a recorder and flite say %q, want %q", te.Message, says)
		}
	}
}
