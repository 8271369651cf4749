// tts.synthesize with flite: a small voice that runs anywhere and says when each
// of its phones is heard.

package gpu

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/myspinbot/myspinbot/events"
)

const (
	fliteInstall = "install flite (Debian: apt-get install flite), or set engines.flite to its path"
	speechRate   = 24000 // Hz of the finished speech
	speechLUFS   = -16.0 // loudness of the finished speech
	leadIn       = 0.15  // seconds of silence before the first sound
	leadOut      = 0.25  // and after the last
	breath       = 0.05  // seconds of a sentence's own silence that are kept at its ends
)

// speech is the built-in voice.
type speech struct {
	flite string // path or name
	media *mediaTool
}

// Capability implements engine.
func (s *speech) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	gap := func(reason, hint string) (events.TaskCapability, *events.TaskGap) {
		return events.TaskCapability{}, &events.TaskGap{Task: "tts.synthesize", Engine: "flite", Reason: reason, Hint: hint}
	}
	if _, err := exec.LookPath(s.flite); err != nil {
		return gap("flite is not installed here", fliteInstall)
	}
	if _, err := s.media.able(ctx); err != nil {
		return gap(err.Error(), ffmpegInstall)
	}
	return events.TaskCapability{Task: "tts.synthesize", Lane: events.LaneTTS, Engine: "flite", Model: "slt", Version: "2", Fidelity: events.FidelityPreview}, nil
}

// Run implements engine: narration (text) in; speech and timing out.
func (s *speech) Run(ctx context.Context, a *Attempt) (*Output, error) {
	voice, err := fliteVoice(a.text("voice", "slt"))
	if err != nil {
		return nil, err
	}
	speed, err := a.span("speed", 0.5, 2, 1)
	if err != nil {
		return nil, err
	}
	format := a.text("format", "wav")
	if format != "wav" && format != "flac" {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the sound format is unknown", Hint: "choose wav or flac"}
	}
	sentences, unsaid, err := readableNarration(a.Texts["narration"])
	if err != nil {
		return nil, err
	}
	v := &fliteRun{path: s.flite, voice: voice, stretch: 1 / speed, dir: a.Dir}
	sound, times, err := v.speak(ctx, sentences, func(done float64) { a.report(5+70*done, "speaking") })
	if err != nil {
		return nil, err
	}
	path, err := s.finish(ctx, a, sound, format)
	if err != nil {
		return nil, err
	}
	timingPath := filepath.Join(a.Dir, "timing.json")
	content, err := json.Marshal(times)
	if err != nil {
		return nil, fmt.Errorf("cannot write the timing: %w", err)
	}
	if err := os.WriteFile(timingPath, content, 0o600); err != nil {
		return nil, fmt.Errorf("cannot write the timing: %w", err)
	}
	a.report(100, "speech ready")
	ms := int64(times.Duration * 1000)
	return &Output{
		Files: map[string][]File{
			"speech": {{Path: path, Artifact: events.Artifact{Name: filepath.Base(path), Type: "audio", MediaType: "audio/" + format, DurationMS: ms}}},
			"timing": {{Path: timingPath, Artifact: events.Artifact{Name: "timing.json", Type: "timing", MediaType: "application/json", DurationMS: ms}}},
		},
		Fidelity: events.FidelityPreview, Engine: "flite", Model: voice, Version: "2", Notes: speechNotes(a, voice, unsaid),
	}, nil
}

// speechNotes says what the listener does not get.
func speechNotes(a *Attempt, voice string, unsaid int) []string {
	notes := []string{"spoken by the built-in preview voice " + voice}
	if len(a.Files["voice_reference"]) > 0 {
		notes = append(notes, "the built-in voice cannot imitate a voice reference; connect a speech server that clones voices to use it")
	}
	if language := a.text("language", "en"); !strings.HasPrefix(strings.ToLower(language), "en") {
		notes = append(notes, "the built-in voice knows English only and reads other languages with English sounds")
	}
	if unsaid > 0 {
		notes = append(notes, fmt.Sprintf("%d words are in letters that the built-in voice does not know and were left out", unsaid))
	}
	return notes
}

// fliteVoice is flite's name of a voice; its "kal" is a telephone's 8 kHz.
func fliteVoice(name string) (string, error) {
	switch name {
	case "slt", "rms", "awb":
		return name, nil
	case "kal", "kal16":
		return "kal16", nil
	}
	return "", &TaskError{Class: events.ClassInvalidInput, Message: "the voice is unknown", Hint: "choose slt, rms, awb or kal"}
}

// readableNarration cuts the text and refuses one that is empty, far too long,
// or mostly in letters that the voice does not know.
func readableNarration(text string) ([]utterance, int, error) {
	refuse := func(message, hint string) error {
		return &TaskError{Class: events.ClassInvalidInput, Message: message, Hint: hint}
	}
	if n := utf8.RuneCountInString(text); n > maxSpokenChars {
		return nil, 0, refuse(fmt.Sprintf("the narration has %d characters, more than %d", n, maxSpokenChars), "shorten the script")
	}
	sentences, unsaid := splitNarration(text)
	said := 0
	for _, s := range sentences {
		said += len(s.words)
	}
	switch {
	case said == 0 && unsaid == 0:
		return nil, 0, refuse("the narration is empty", "write a script with at least one word")
	case unsaid > said:
		return nil, 0, refuse("the built-in voice cannot read the letters of the narration", "write it in Latin letters, or connect a speech server that knows the language")
	}
	return sentences, unsaid, nil
}

// finish brings the speech to its loudness and to the format asked for.
func (s *speech) finish(ctx context.Context, a *Attempt, sound *wave, format string) (string, error) {
	raw := filepath.Join(a.Dir, "raw.wav")
	if err := sound.write(raw); err != nil {
		return "", err
	}
	lufs, ok, err := s.media.loudness(ctx, a.Dir, raw)
	if err != nil {
		return "", err
	}
	if !ok { // shorter than the meter's window
		lufs = level(sound.samples)
	}
	sound.amplify(max(-24, min(24, speechLUFS-lufs)))
	if err := sound.write(raw); err != nil {
		return "", err
	}
	a.report(85, "setting the loudness")
	path := filepath.Join(a.Dir, "speech."+format)
	err = s.media.run(ctx, transcode{dir: a.Dir, inputs: []mediaInput{{path: raw, format: "wav"}},
		args: []string{"-map", "0:a:0", "-ac", "1", "-ar", strconv.Itoa(speechRate), "-sample_fmt", "s16"}, output: path, timeout: 5 * time.Minute})
	return path, err
}

// fliteRun speaks with one voice at one speed.
type fliteRun struct {
	path, voice string
	stretch     float64 // duration factor
	dir         string
}

// call runs flite on a text file, so that no text stands on a command line.
func (f *fliteRun) call(ctx context.Context, text, out string, print string) (string, error) {
	in := filepath.Join(f.dir, "text.txt")
	// flite loses the last word of a file that does not end with a blank line.
	if err := os.WriteFile(in, []byte(text+"\n\n"), 0o600); err != nil {
		return "", fmt.Errorf("cannot write the text for flite: %w", err)
	}
	args := []string{"-voice", f.voice, "--setf", "duration_stretch=" + strconv.FormatFloat(f.stretch, 'f', 3, 64), print, "-f", in, "-o", out}
	printed, err := child{name: "flite", path: f.path, args: args, dir: f.dir, install: fliteInstall, timeout: 2 * time.Minute}.run(ctx)
	return string(printed), err
}

// speak says the sentences one by one and joins them with their pauses.
// progress gets 0 to 1.
func (f *fliteRun) speak(ctx context.Context, sentences []utterance, progress func(float64)) (*wave, *timing, error) {
	said, err := f.pronounce(ctx, sentences)
	if err != nil {
		return nil, nil, err
	}
	times := &timing{Source: "engine", WordSource: wordsAligned}
	if said == nil {
		times.WordSource = wordsEstimated
	}
	var all *wave
	for i, s := range sentences {
		part, phones, err := f.say(ctx, s)
		if err != nil {
			return nil, nil, err
		}
		if all == nil {
			all = &wave{rate: part.rate}
			all.pad(leadIn - breath)
		}
		var own [][]string
		if i == len(sentences)-1 {
			s.pause = leadOut + breath
		}
		if said != nil {
			own, said = said[:len(s.words)], said[len(s.words):]
		}
		times.join(all, part, phones, s, own)
		progress(float64(i+1) / float64(len(sentences)))
	}
	times.finish(all.seconds())
	if !times.audible() {
		return nil, nil, &TaskError{Class: events.ClassInvalidInput, Message: "nothing in the narration can be pronounced", Hint: "write a script with at least one word"}
	}
	return all, times, nil
}

// say synthesises one sentence.
func (f *fliteRun) say(ctx context.Context, s utterance) (*wave, []phone, error) {
	words := make([]string, len(s.words))
	for i, w := range s.words {
		words[i] = w.spoken
	}
	out := filepath.Join(f.dir, "sentence.wav")
	printed, err := f.call(ctx, strings.Join(words, " "), out, "-psdur")
	if err != nil {
		return nil, nil, err
	}
	phones, err := parsePhones(printed)
	if err != nil {
		return nil, nil, &TaskError{Class: events.ClassEngineRejected, Message: "flite did not say when its phones are heard", Hint: fliteInstall, Err: err}
	}
	part, err := readWave(out)
	if err != nil {
		return nil, nil, &TaskError{Class: events.ClassEngineRejected, Message: "flite made no usable sound", Hint: fliteInstall, Err: err}
	}
	return part, phones, nil
}

// pronounce asks how each word sounds by itself, all in one call. It returns nil
// when the answers do not match the words one by one; then times are estimated.
func (f *fliteRun) pronounce(ctx context.Context, sentences []utterance) ([][]string, error) {
	var alone []string
	for _, s := range sentences {
		for _, w := range s.words {
			alone = append(alone, strings.TrimRight(strings.TrimLeft(strings.ReplaceAll(w.spoken, " ", "-"), `"'([{<*-_`), `"')]}>*-_.,;:!?`))
		}
	}
	printed, err := f.call(ctx, strings.Join(alone, "\n\n"), "none", "-ps")
	if err != nil {
		return nil, err
	}
	said := parsePronunciations(printed)
	if len(said) != len(alone) {
		return nil, nil
	}
	return said, nil
}

// join appends a sentence to all: its sound without the silence around it, its
// phones and words at their new times, and the pause after it.
func (t *timing) join(all, part *wave, phones []phone, s utterance, said [][]string) {
	first, last := sounding(phones)
	if first < 0 {
		return // a sentence of signs only
	}
	from := max(0, phones[first].Start-breath)
	to := min(part.seconds(), phones[last].End+breath)
	shift := all.seconds() - from
	all.samples = append(all.samples, part.cut(from, to)...)
	all.pad(s.pause - 2*breath)
	words := estimateWords(s.words, phones)
	if said != nil {
		words = alignWords(s.words, said, phones)
	}
	for _, w := range words {
		t.Words = append(t.Words, timedWord{w.Word, w.Start + shift, w.End + shift})
	}
	for _, p := range phones[first : last+1] {
		t.silenceUntil(p.Start + shift)
		t.Phones = append(t.Phones, phone{p.Symbol, p.Start + shift, p.End + shift})
	}
}

// sounding are the indices of the first and the last phone that is heard, or -1.
func sounding(phones []phone) (first, last int) {
	first, last = -1, -1
	for i, p := range phones {
		if p.Symbol != silence {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	return first, last
}

// silenceUntil fills the time since the last phone with a pause.
func (t *timing) silenceUntil(at float64) {
	end := 0.0
	if n := len(t.Phones); n > 0 {
		end = t.Phones[n-1].End
	}
	if at > end+1e-4 {
		t.Phones = append(t.Phones, phone{silence, end, at})
	}
}

// finish closes the timing at the sound's end and rounds to whole milliseconds.
func (t *timing) finish(seconds float64) {
	t.silenceUntil(seconds)
	round := func(v float64) float64 { return float64(int64(min(v, seconds)*1000+0.5)) / 1000 }
	t.Duration = round(seconds)
	for i, w := range t.Words {
		t.Words[i].Start, t.Words[i].End = round(w.Start), round(w.End)
	}
	for i, p := range t.Phones {
		t.Phones[i].Start, t.Phones[i].End = round(p.Start), round(p.End)
	}
}

func (t *timing) audible() bool {
	first, _ := sounding(t.Phones)
	return first >= 0
}
