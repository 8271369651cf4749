// What the built-in voice says, when, and what it refuses.

package gpu

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

func testSpeech() *speech { return EngineConfig{Flite: "flite"}.builtinVoice(testTool()) }

// shownSentences writes a split as "word word|word".
func shownSentences(sentences []utterance) string {
	var parts []string
	for _, s := range sentences {
		var words []string
		for _, w := range s.words {
			words = append(words, w.shown)
		}
		parts = append(parts, strings.Join(words, " "))
	}
	return strings.Join(parts, "|")
}

func TestSplitNarration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Hello there. How are you? Fine!":    "Hello there.|How are you?|Fine!",
		"Dr. Smith met J. Doe. They left.":   "Dr. Smith met J. Doe.|They left.",
		"It costs 3.50 in 2024. so what":     "It costs 3.50 in 2024. so what",
		`"Ready?" she asked. "Yes!" He was.`: `"Ready?" she asked.|"Yes!"|He was.`,
		"So am I. You too.":                  "So am I.|You too.",
		"one\ntwo\n\nthree":                  "one two|three",
		"Wait… What – now?":                  "Wait…|What – now?",
		"!!! ... ??":                         "",
		"":                                   "",
		"Привет мир":                         "",
		strings.Repeat("a ", 45):             strings.TrimSpace(strings.Repeat("a ", 40)) + "|" + strings.TrimSpace(strings.Repeat("a ", 5)),
		strings.Repeat("b ", 24) + "b, c":    strings.Repeat("b ", 24) + "b,|c",
		"Crème brûlée für 5 € “please” — thanks": "Crème brûlée für 5 € “please” — thanks",
	} {
		got, _ := splitNarration(text, speakable)
		if shownSentences(got) != want {
			t.Errorf("%q:\n got %q\nwant %q", text, shownSentences(got), want)
		}
	}
	got, unsaid := splitNarration("Crème brûlée “5€” Ж end", speakable)
	if unsaid != 1 || got[0].words[0].spoken != "Creme" || got[0].words[1].spoken != "brulee" || got[0].words[2].spoken != `"5 euros "` || got[0].words[2].shown != "“5€” Ж" {
		t.Errorf("unsaid %d, words %+v", unsaid, got)
	}
}

func TestParsePhones(t *testing.T) {
	t.Parallel()
	got, err := parsePhones("pau:0.100 hh:0.250 \npau:0.050 ay:0.200 \n")
	want := []phone{{"pau", 0, 0.1}, {"hh", 0.1, 0.25}, {"pau", 0.25, 0.3}, {"ay", 0.3, 0.45}}
	if err != nil || len(got) != len(want) {
		t.Fatalf("got %v, %v", got, err)
	}
	for i := range want {
		if got[i].Symbol != want[i].Symbol || math.Abs(got[i].Start-want[i].Start) > 1e-9 || math.Abs(got[i].End-want[i].End) > 1e-9 {
			t.Errorf("phone %d: %v, want %v", i, got[i], want[i])
		}
	}
	for _, bad := range []string{"hh", "hh:x", "hh:0.5 ay:0.2"} {
		if _, err := parsePhones(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestAlignWordsFollowsReducedSounds(t *testing.T) {
	t.Parallel()
	// "and him": alone "ae n d" and "hh ih m", in the sentence "ax n ih m".
	words := []spokenWord{{"and", "and", false}, {"him", "him", false}, {"now", "now", false}}
	said := [][]string{{"ae", "n", "d"}, {"hh", "ih", "m"}, {"n", "aw"}}
	phones := []phone{{"pau", 0, 1}, {"ax", 1, 2}, {"n", 2, 3}, {"ih", 3, 4}, {"m", 4, 5}, {"pau", 5, 6}, {"n", 6, 7}, {"aw", 7, 8}, {"pau", 8, 9}}
	want := []timedWord{{"and", 1, 3, false}, {"him", 3, 5, false}, {"now", 6, 8, false}}
	if got := alignWords(words, said, phones); !slices.Equal(got, want) {
		t.Errorf("aligned %v, want %v", got, want)
	}
	guess := estimateWords(words, phones)
	if guess[0].Start < 1 || guess[2].End > 8.001 || guess[1].Start < guess[0].End-1e-3 {
		t.Errorf("estimated %v", guess)
	}
}

func TestWaveRoundTripAndLimit(t *testing.T) {
	t.Parallel()
	w := &wave{rate: 8000, samples: make([]float32, 800)}
	for i := range w.samples {
		w.samples[i] = float32(0.3 * math.Sin(float64(i)/5))
	}
	path := writeFile(t, "w.wav", nil)
	if err := w.write(path); err != nil {
		t.Fatal(err)
	}
	back, err := readWave(path)
	if err != nil || back.rate != 8000 || len(back.samples) != 800 || math.Abs(float64(back.samples[7]-w.samples[7])) > 1e-4 {
		t.Fatalf("read back %v, %v", back, err)
	}
	before := level(back.samples)
	back.amplify(-6)
	if d := level(back.samples) - before; math.Abs(d+6) > 0.01 {
		t.Errorf("-6 dB moved the level by %g", d)
	}
	back.amplify(30)
	if peak := slices.Max(back.samples); peak > limitCeiling || peak < limitKnee {
		t.Errorf("peak %g after a loud gain", peak)
	}
	for _, bad := range []string{"", "RIFF....WAVE", "RIFF....WAVEfmt \x10\x00\x00\x00\x01\x00\x02\x00................", "RIFF....WAVEdata\x04\x00\x00\x00abcd"} {
		if _, err := readWave(writeFile(t, "bad.wav", []byte(bad))); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestSpeechSaysItAll(t *testing.T) {
	t.Parallel()
	s := testSpeech()
	text := "Hello, Dr. Smith! It costs $12.50 in 2024. \"Ready?\" she asked… on Main St. today, naïve – café."
	a := &Attempt{Dir: t.TempDir(), Texts: map[string]string{"narration": text}, Files: map[string][]File{"voice_reference": {{}}}}
	out, err := s.Run(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	speech, timingFile := out.Files["speech"][0], out.Files["timing"][0]
	info, err := s.media.probe(context.Background(), speech.Path)
	if err != nil {
		t.Fatal(err)
	}
	times, err := readTiming(timingFile.Path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Audio.Rate != 24000 || info.Audio.Channels != 1 || math.Abs(info.Audio.Seconds-times.Duration) > 0.002 || speech.Artifact.DurationMS != int64(times.Duration*1000) {
		t.Errorf("audio %+v, timing %g s", info.Audio, times.Duration)
	}
	var shown []string
	at := 0.0
	for _, w := range times.Words {
		shown = append(shown, w.Word)
		if w.Start < at-1e-9 || w.End <= w.Start {
			t.Errorf("word %v after %g s", w, at)
		}
		at = w.End
	}
	if strings.Join(shown, " ") != text {
		t.Errorf("words %q, want %q", strings.Join(shown, " "), text)
	}
	if times.WordSource != wordsAligned || at > times.Duration {
		t.Errorf("words are %s, the last ends at %g of %g s", times.WordSource, at, times.Duration)
	}
	at = 0
	for _, p := range times.Phones {
		if math.Abs(p.Start-at) > 0.0015 {
			t.Errorf("phone %v does not follow %g s", p, at)
		}
		at = p.End
	}
	lufs, _, err := s.media.loudness(context.Background(), a.Dir, speech.Path)
	if err != nil || math.Abs(lufs-speechLUFS) > 1.5 {
		t.Errorf("loudness %g LUFS, error %v", lufs, err)
	}
	if out.Fidelity != events.FidelityPreview || !strings.Contains(strings.Join(out.Notes, " "), "cannot imitate") {
		t.Errorf("fidelity %q, notes %q", out.Fidelity, out.Notes)
	}
	quietWhereSilent(t, speech.Path, times)
}

// quietWhereSilent requires that the sound agrees with the timing: pauses are
// quiet and words are not.
func quietWhereSilent(t *testing.T, path string, times *timing) {
	t.Helper()
	w, err := readWave(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range times.Phones {
		if p.Symbol == silence && p.End-p.Start > 0.15 {
			if l := level(w.cut(p.Start+0.06, p.End-0.06)); l > -35 {
				t.Errorf("%g dBFS in the pause from %g to %g s", l, p.Start, p.End)
			}
		}
	}
	for _, word := range times.Words {
		if l := level(w.cut(word.Start, word.End)); l < -35 {
			t.Errorf("%g dBFS in the word %q from %g to %g s", l, word.Word, word.Start, word.End)
		}
	}
}

func TestSpeechVoicesSpeedAndFormat(t *testing.T) {
	t.Parallel()
	length := func(params map[string]any) float64 {
		t.Helper()
		out, err := testSpeech().Run(context.Background(), &Attempt{Dir: t.TempDir(), Params: params, Texts: map[string]string{"narration": "Good morning, everybody."}})
		if err != nil {
			t.Fatal(err)
		}
		info, err := testTool().probe(context.Background(), out.Files["speech"][0].Path)
		if err != nil {
			t.Fatal(err)
		}
		if format := fmt.Sprint(params["format"]); format == "flac" && info.Audio.Codec != "flac" {
			t.Errorf("codec %s for flac", info.Audio.Codec)
		}
		return info.Seconds
	}
	normal := length(map[string]any{"voice": "slt"})
	if fast := length(map[string]any{"voice": "slt", "speed": 2.0, "format": "flac"}); fast > 0.7*normal {
		t.Errorf("at speed 2 it takes %g s, at speed 1 %g s", fast, normal)
	}
	length(map[string]any{"voice": "kal", "speed": 0.5})
}

func TestSpeechRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text   string
		params map[string]any
	}{
		"empty":          {" \n", nil},
		"signs":          {"!!! ...", nil},
		"unknown script": {"こんにちは 世界 hello", nil},
		"far too long":   {strings.Repeat("word ", 1100), nil},
		"voice":          {"Hello.", map[string]any{"voice": "../../etc/passwd"}},
		"speed":          {"Hello.", map[string]any{"speed": 9.0}},
		"format":         {"Hello.", map[string]any{"format": "exe"}},
	} {
		_, err := testSpeech().Run(context.Background(), &Attempt{Dir: t.TempDir(), Params: c.params, Texts: map[string]string{"narration": c.text}})
		te := wantTaskError(t, err, events.ClassInvalidInput)
		if te.Hint == "" || strings.Contains(te.Error(), "Hello") {
			t.Errorf("%s: %v, hint %q", name, te, te.Hint)
		}
	}
}

func TestSpeechCapability(t *testing.T) {
	t.Parallel()
	c, gap := testSpeech().Capability(context.Background())
	if gap != nil || c.Lane != events.LaneTTS || c.Fidelity != events.FidelityPreview {
		t.Errorf("capability %+v, gap %+v", c, gap)
	}
	absent := EngineConfig{Flite: "myspinbot-no-flite"}.builtinVoice(testTool())
	if _, gap = absent.Capability(context.Background()); gap == nil || !strings.Contains(gap.Hint, "apt-get install flite") {
		t.Errorf("gap %+v", gap)
	}
	_, err := absent.Run(context.Background(), &Attempt{Dir: t.TempDir(), Texts: map[string]string{"narration": "Hello."}})
	wantTaskError(t, err, events.ClassEngineUnavailable)
}

// TestTextIsNeverAnArgument plants a program in flite's place that prints its
// command line.
func TestTextIsNeverAnArgument(t *testing.T) {
	t.Parallel()
	spy := writeFile(t, "flite", []byte("#!/bin/sh\necho \"$@\" > args; exit 1\n"))
	if err := os.Chmod(spy, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, err := EngineConfig{Flite: spy}.builtinVoice(testTool()).Run(context.Background(), &Attempt{Dir: dir, Texts: map[string]string{"narration": "canary"}})
	wantTaskError(t, err, events.ClassEngineRejected)
	args, err := os.ReadFile(dir + "/args")
	if err != nil || strings.Contains(string(args), "canary") || !strings.Contains(string(args), "text.txt") {
		t.Errorf("arguments %q, error %v", args, err)
	}
}
