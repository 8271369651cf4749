// tts.synthesize: a narration is cut into sentences, a voice says one after
// another, and they are joined with natural pauses and brought to one loudness.

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/myspinbot/myspinbot/events"
)

const (
	taskSpeech = "tts.synthesize"

	speechRate = 24000 // Hz of the finished speech
	speechLUFS = -16.0 // loudness of the finished speech
	leadIn     = 0.15  // seconds of silence before the first sound
	leadOut    = 0.25  // and after the last
	breath     = 0.05  // seconds of a sentence's own silence that are kept at its ends
)

// speech is the engine around one voice.
type speech struct {
	voice   voice
	aligner *aligner // for voices that do not say when
	media   *mediaTool
}

// Capability implements engine.
func (s *speech) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	c, gap := s.voice.announce(ctx)
	if gap == nil {
		if _, err := s.media.able(ctx); err != nil {
			gap = &events.TaskGap{Engine: c.Engine, Reason: err.Error(), Hint: ffmpegInstall, Builtin: c.Builtin}
		}
	}
	if gap != nil {
		gap.Task = taskSpeech
		return events.TaskCapability{}, gap
	}
	c.Task, c.Lane = taskSpeech, events.LaneTTS
	return c, nil
}

// takes implements chooser.
func (s *speech) takes(a *Attempt) bool { return s.voice.takes(a) }

// Run implements engine: narration (text), voice_reference and recording (both optional)
// in; speech and timing out.
func (s *speech) Run(ctx context.Context, a *Attempt) (out *Output, err error) {
	speed, err := a.span("speed", 0.5, 2, 1)
	if err != nil {
		return nil, err
	}
	format := a.text("format", "wav")
	if format != "wav" && format != "flac" {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the sound format is unknown", Hint: "choose wav or flac"}
	}
	sentences, unsaid, err := readableNarration(a.Texts["narration"], s.voice.writing())
	if err != nil {
		return nil, err
	}
	speaker, err := s.voice.open(ctx, a, speed)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, speaker.close()) }()
	place := func(u utterance, t *take) error { return s.aligner.place(ctx, a.Dir, u, speed, t) }
	sound, times, err := speakAll(ctx, speaker, place, sentences, func(done float64) { a.report(5+70*done, "speaking") })
	if err != nil {
		return nil, err
	}
	files, err := s.finish(ctx, a, sound, times, format)
	if err != nil {
		return nil, err
	}
	who, notes := speaker.about()
	if unsaid > 0 {
		notes = append(notes, fmt.Sprintf("%d words are in letters that the voice does not know and were left out", unsaid))
	}
	return &Output{Files: files, Fidelity: who.Fidelity, Engine: who.Engine, Model: who.Model, Version: who.Version, Notes: notes}, nil
}

// readableNarration cuts the text and refuses one that is empty, far too long,
// or mostly in letters that the voice does not know.
func readableNarration(text string, w writing) ([]utterance, int, error) {
	refuse := func(message, hint string) error {
		return &TaskError{Class: events.ClassInvalidInput, Message: message, Hint: hint}
	}
	if n := utf8.RuneCountInString(text); n > maxSpokenChars {
		return nil, 0, refuse(fmt.Sprintf("the narration has %d characters, more than %d", n, maxSpokenChars), "shorten the script")
	}
	sentences, unsaid := splitNarration(text, w.spell)
	said := 0
	for _, s := range sentences {
		said += len(s.words)
	}
	switch {
	case said == 0 && unsaid == 0:
		return nil, 0, refuse("the narration is empty", "write a script with at least one word")
	case unsaid > said:
		return nil, 0, refuse("the voice cannot read the letters of the narration", "write it in Latin letters, or connect a speech server that knows the language")
	}
	if w.whole {
		return []utterance{allOf(sentences)}, unsaid, nil
	}
	return gather(sentences, w.longest), unsaid, nil
}

// speakAll says the sentences one by one and joins them with their pauses. place
// gives words and phones to what the voice did not place; progress gets 0 to 1.
func speakAll(ctx context.Context, by speaker, place func(utterance, *take) error, sentences []utterance, progress func(float64)) (*wave, *timing, error) {
	times := &timing{Source: timesOfEngine, WordSource: wordsAligned}
	var all *wave
	for i, s := range sentences {
		part, err := by.say(ctx, s)
		if err != nil {
			return nil, nil, err
		}
		if part.phones == nil {
			times.Source = timesAligned
			if err := place(s, part); err != nil {
				return nil, nil, err
			}
		}
		if all == nil {
			all = &wave{rate: part.sound.rate}
			all.pad(leadIn - breath)
		}
		if i == len(sentences)-1 {
			s.pause = leadOut + breath
		}
		times.join(all, part, s.pause)
		progress(float64(i+1) / float64(len(sentences)))
	}
	times.finish(all.seconds())
	if len(times.Words) == 0 {
		return nil, nil, &TaskError{Class: events.ClassInvalidInput, Message: "nothing in the narration can be pronounced", Hint: "write a script with at least one word"}
	}
	return all, times, nil
}

// finish brings the speech to its loudness and to the format asked for, and writes
// the timing beside it.
func (s *speech) finish(ctx context.Context, a *Attempt, sound *wave, times *timing, format string) (map[string][]File, error) {
	path, err := s.encode(ctx, a, sound, format)
	if err != nil {
		return nil, err
	}
	timingPath := filepath.Join(a.Dir, "timing.json")
	content, err := json.Marshal(times)
	if err == nil {
		err = os.WriteFile(timingPath, content, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write the timing: %w", err)
	}
	a.report(100, "speech ready")
	ms := int64(times.Duration * 1000)
	return map[string][]File{
		"speech": {{Path: path, Artifact: events.Artifact{Name: filepath.Base(path), Type: "audio", MediaType: "audio/" + format, DurationMS: ms}}},
		"timing": {{Path: timingPath, Artifact: events.Artifact{Name: "timing.json", Type: "timing", MediaType: "application/json", DurationMS: ms}}},
	}, nil
}

func (s *speech) encode(ctx context.Context, a *Attempt, sound *wave, format string) (string, error) {
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
