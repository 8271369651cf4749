// Voices behind an OpenAI-compatible POST /v1/audio/speech: Kokoro-FastAPI, Speaches,
// LocalAI, the small voice of deploy/voices, and others.
//
// Rules, each of which answers a trap of some server: stream is false, because
// streaming is the default of some and a streamed WAV file has a wrong length; the
// file is looked at whatever its headers say; a server that knows
// /dev/captioned_speech (Kokoro-FastAPI) is asked there, because it tells when its
// words are heard; one that refuses a field that it does not know is asked without.

package gpu

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"

	"github.com/myspinbot/myspinbot/events"
)

// OpenAIVoiceConfig says where an OpenAI-compatible speech server answers. With an
// empty URL there is none.
type OpenAIVoiceConfig struct {
	URL    string   // such as http://127.0.0.1:8880, with or without /v1
	Key    string   // bearer token; empty: none is sent
	Model  string   // as the server names it
	Voice  string   // for whoever has no other
	Voices []string // profile=voice, or built-in voice=voice
	// Languages are those that are spoken, each with a voice of its own (es=ef_dora) or by
	// the voices above (en). None: English.
	Languages []string
	Captions  bool   // ask for word times where the server tells them
	Preview   bool   // results are previews: a small voice without a GPU
	Note      string // added to the notes of each result
	Patience
}

type openAIVoice struct {
	OpenAIVoiceConfig
	server   *modelServer
	voices   map[string]string
	foreign  map[string]string // voices of languages that have their own
	speaks   events.Languages
	media    *mediaTool
	plain    atomic.Bool // the server has no word times
	unstream atomic.Bool // the server does not know the field stream
}

func newOpenAIVoice(c OpenAIVoiceConfig, media *mediaTool) (*openAIVoice, error) {
	c.URL = strings.TrimSuffix(strings.TrimRight(c.URL, "/"), "/v1")
	server, err := newModelServer("the speech server", c.URL, c.Key, c.Patience)
	if err != nil {
		return nil, err
	}
	if c.Model == "" || c.Voice == "" {
		return nil, errors.New("cannot use a speech server without a model and a voice: name both as the server does")
	}
	voices, err := voiceMap(c.Voices)
	if err != nil {
		return nil, err
	}
	v := &openAIVoice{OpenAIVoiceConfig: c, server: server, voices: voices, foreign: map[string]string{}, media: media}
	return v, v.readLanguages()
}

// readLanguages reads what is spoken, and by which voices.
func (v *openAIVoice) readLanguages() (err error) {
	codes := []string{"en"}
	if len(v.Languages) > 0 {
		codes = nil
	}
	for _, item := range v.Languages {
		code, voice, own := strings.Cut(item, "=")
		if own && voice == "" {
			return fmt.Errorf("cannot use %q: give language=voice, such as es=ef_dora", item)
		}
		codes = append(codes, code)
		if of, known := events.Language(code); own && known {
			v.foreign[of] = voice
		}
	}
	v.speaks, err = languagesOf(codes)
	return err
}

// voiceOf is the voice for an attempt: of its language, of its profile, or of the built-in
// voice that it names. A voice that was made for one language reads another with the wrong
// sounds, so that the language goes first.
func (v *openAIVoice) voiceOf(a *Attempt) string {
	return cmp.Or(v.foreign[a.language()], v.foreign[baseLanguage(a.language())], v.voices[a.Profile], v.voices[a.text("voice", "")], v.Voice)
}

// voiceMap reads pairs of name=voice.
func voiceMap(pairs []string) (map[string]string, error) {
	m := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		name, voice, ok := strings.Cut(pair, "=")
		if !ok || name == "" || voice == "" {
			return nil, fmt.Errorf("cannot use %q: give profile=voice, or built-in voice=voice", pair)
		}
		if _, twice := m[name]; twice {
			return nil, fmt.Errorf("cannot use two voices for %q", name)
		}
		m[name] = voice
	}
	return m, nil
}

// settingsVersion names the settings that decide what comes out, so that results made
// with others are not taken for the same.
func settingsVersion(revision string, settings ...any) string {
	text, _ := json.Marshal(settings) // texts, numbers and lists always encode
	sum := sha256.Sum256(text)
	return revision + "-" + hex.EncodeToString(sum[:4])
}

func (v *openAIVoice) about(voice string) events.TaskCapability {
	c := events.TaskCapability{Engine: "openai-speech", Model: v.Model + "/" + voice, Version: settingsVersion("1", v.Model, v.Voice, v.Voices, v.Languages), Fidelity: events.FidelityFull, Languages: v.speaks}
	if v.Preview {
		c.Fidelity = events.FidelityPreview
	}
	return c
}

// announce asks for the lists of models and voices, which not every server has.
func (v *openAIVoice) announce(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	gap := func(reason, hint string) (events.TaskCapability, *events.TaskGap) {
		return events.TaskCapability{}, &events.TaskGap{Engine: "openai-speech", Reason: reason, Hint: hint}
	}
	models, err := v.server.get(ctx, "/v1/models")
	if err != nil {
		return gap(fmt.Sprintf("the speech server at %s does not answer", v.URL), "start it, or set its address right")
	}
	if models.status == http.StatusUnauthorized || models.status == http.StatusForbidden {
		return gap("the speech server does not accept our key", "set engines.speech.openai.key to the key that it expects")
	}
	if models.status >= http.StatusInternalServerError {
		return gap(fmt.Sprintf("the speech server at %s is in trouble (%d)", v.URL, models.status), "look at its log")
	}
	if names := models.names("data"); len(names) > 0 && !names[v.Model] {
		return gap(fmt.Sprintf("the speech server has no model %q", v.Model), "set engines.speech.openai.model to one of its models")
	}
	if voices, err := v.server.get(ctx, "/v1/audio/voices"); err == nil {
		names := voices.names("voices")
		for _, voice := range append([]string{v.Voice}, slices.Sorted(maps.Values(v.foreign))...) {
			if len(names) > 0 && !mixed(voice, names) {
				return gap(fmt.Sprintf("the speech server has no voice %q", voice), "set engines.speech.openai.voice, and languages, to voices that it has")
			}
		}
	}
	return v.about(v.Voice), nil
}

// names are those of a list of texts, or of objects with an id or a name; none when
// the answer holds no such list.
func (r *reply) names(list string) map[string]bool {
	names := map[string]bool{}
	var lists map[string]json.RawMessage
	if r.status != http.StatusOK || json.Unmarshal(r.body, &lists) != nil {
		return names
	}
	var all []any
	_ = json.Unmarshal(lists[list], &all) // another shape is no list
	for _, one := range all {
		switch one := one.(type) {
		case string:
			names[one] = true
		case map[string]any:
			for _, key := range []string{"id", "name"} {
				if name, ok := one[key].(string); ok {
					names[name] = true
				}
			}
		}
	}
	return names
}

// mixed says whether all voices of a mix such as "a(2)+b" are known.
func mixed(voice string, names map[string]bool) bool {
	if names[voice] {
		return true
	}
	for part := range strings.FieldsFuncSeq(voice, func(r rune) bool { return r == '+' || r == '-' }) {
		part, _, _ = strings.Cut(part, "(")
		if !names[strings.TrimSpace(part)] {
			return false
		}
	}
	return true
}

func (v *openAIVoice) takes(*Attempt) bool { return true }
func (v *openAIVoice) writing() writing    { return writing{spell: asWritten} }

func (v *openAIVoice) open(_ context.Context, a *Attempt, speed float64) (speaker, error) {
	voice := v.voiceOf(a)
	var notes []string
	if len(a.Files["voice_reference"]) > 0 {
		notes = append(notes, cannotImitate("the speech server's voice "+voice))
	}
	if v.Note != "" {
		notes = append(notes, v.Note)
	}
	return &openAISpeaker{v: v, voice: voice, speed: speed, dir: a.Dir, notes: notes}, nil
}

// openAISpeaker speaks one attempt.
type openAISpeaker struct {
	v     *openAIVoice
	voice string
	speed float64
	dir   string
	notes []string
}

func (s *openAISpeaker) about() (events.TaskCapability, []string) { return s.v.about(s.voice), s.notes }
func (s *openAISpeaker) close() error                             { return nil }

func (s *openAISpeaker) say(ctx context.Context, u utterance) (*take, error) {
	sound, words, err := s.ask(ctx, u.text())
	if err != nil {
		return nil, err
	}
	path := filepath.Join(s.dir, "answer.sound")
	if err := os.WriteFile(path, sound, 0o600); err != nil {
		return nil, fmt.Errorf("cannot keep what the speech server made: %w", err)
	}
	heard, err := s.v.media.hear(ctx, s.dir, path, s.v.server.name, u, s.speed)
	if err != nil {
		return nil, err
	}
	t := &take{sound: heard}
	if t.words = gatherWords(u, words, heard.seconds()); t.words != nil {
		t.wordSource = wordsOfEngine
	}
	return t, nil
}

// heardWord is a word or sign with its time, as Kokoro-FastAPI tells it.
type heardWord struct {
	Word  string  `json:"word"`
	Start float64 `json:"start_time"`
	End   float64 `json:"end_time"`
}

// ask gets the sound of a text, and its words where the server tells them.
func (s *openAISpeaker) ask(ctx context.Context, text string) ([]byte, []heardWord, error) {
	body := map[string]any{"model": s.v.Model, "input": text, "voice": s.voice, "response_format": "wav", "speed": s.speed}
	if !s.v.unstream.Load() {
		body["stream"] = false
	}
	if s.v.Captions && !s.v.plain.Load() {
		r, err := s.v.server.post(ctx, "/dev/captioned_speech", body, soundLimit)
		if err != nil {
			return nil, nil, err
		}
		if r.status == http.StatusOK {
			return captioned(r)
		}
		if r.status != http.StatusNotFound && r.status != http.StatusMethodNotAllowed {
			return nil, nil, s.refused(r)
		}
		s.v.plain.Store(true)
	}
	r, err := s.v.server.post(ctx, "/v1/audio/speech", body, soundLimit)
	if err != nil {
		return nil, nil, err
	}
	if picky := r.status == http.StatusBadRequest || r.status == http.StatusUnprocessableEntity; picky && body["stream"] != nil && strings.Contains(r.reason(), "stream") {
		s.v.unstream.Store(true)
		return s.ask(ctx, text)
	}
	if r.status != http.StatusOK {
		return nil, nil, s.refused(r)
	}
	return r.body, nil, nil
}

func (s *openAISpeaker) refused(r *reply) error {
	return s.v.server.refusal(r, refusalRule{words: []string{"voice '", "invalid voice", "unknown voice", "voice not found"}, class: events.ClassEngineRejected,
		message: "does not know the voice", hint: "set engines.speech.openai.voice and voices to voices that it lists"})
}

// captioned reads the sound and its words from one JSON object.
func captioned(r *reply) ([]byte, []heardWord, error) {
	var said struct {
		Audio      string
		Timestamps []heardWord
	}
	err := json.Unmarshal(r.body, &said)
	var sound []byte
	if err == nil {
		sound, err = base64.StdEncoding.DecodeString(said.Audio)
	}
	if err != nil {
		return nil, nil, &TaskError{Class: events.ClassEngineRejected, Message: "the speech server's answer is not in the form of captioned speech",
			Hint: "switch engines.speech.openai.captions off", Err: err}
	}
	return sound, said.Timestamps, nil
}

// gatherWords gives each word of the utterance its time from the words and signs that
// the server heard, which it may have cut otherwise; nil when the two do not agree
// letter by letter, as where it spelt out a number, or when the times are none.
func gatherWords(u utterance, heard []heardWord, seconds float64) []timedWord {
	var out []timedWord
	heard = heardParts(heard)
	at := 0.0
	for _, w := range u.words {
		want, have, start := bare(w.spoken), "", -1.0
		for have != want {
			if len(heard) == 0 {
				return nil
			}
			h := heard[0]
			heard = heard[1:]
			if bare(h.Word) == "" {
				continue
			}
			if have += bare(h.Word); !strings.HasPrefix(want, have) || h.Start < at-0.05 || h.End < h.Start || h.End > seconds+0.1 {
				return nil
			}
			if start < 0 {
				start = h.Start
			}
			at = h.End
		}
		out = append(out, timedWord{w.shown, max(0, start), min(at, seconds), w.glued})
	}
	for _, h := range heard {
		if bare(h.Word) != "" {
			return nil
		}
	}
	return out
}

// heardParts cuts words of several characters, in a writing that parts none, as wordsOf
// does; the parts share the time.
func heardParts(heard []heardWord) []heardWord {
	var out []heardWord
	for _, h := range heard {
		parts := wordsOf(h.Word)
		step := (h.End - h.Start) / float64(max(1, len(parts)))
		for i, p := range parts {
			out = append(out, heardWord{p.text, h.Start + float64(i)*step, h.Start + float64(i+1)*step})
		}
	}
	return out
}

// bare is a word's letters and digits, all small.
func bare(word string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, word)
}
