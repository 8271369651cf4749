// Scripts by a language model: what it is asked for, and what of its answers may be
// spoken.

package gpu

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/myspinbot/myspinbot/events"
)

// modelScript has a language model write.
type modelScript struct {
	model       chatModel
	temperature float64
	prompts     *prompts
}

// scriptSchema is what the model's answer follows, and what Go checks again. It names no
// lengths, because servers turn them into grammars that are slow or refused.
var scriptSchema = json.RawMessage(`{"type":"object","properties":{"narration":{"type":"string"},"scene":{"type":"string"}},` +
	`"required":["narration","scene"],"additionalProperties":false}`)

// Capability implements engine.
func (m *modelScript) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	version, gap := m.model.announce(ctx)
	if gap != nil {
		gap.Task = taskScript
		return events.TaskCapability{}, gap
	}
	engine, model := m.model.identity()
	if version != "" {
		version += "-"
	}
	return events.TaskCapability{
		Task: taskScript, Lane: events.LaneScript, Engine: engine, Model: model,
		Version: version + settingsVersion("2", m.temperature, m.prompts.digest()), Fidelity: events.FidelityFull, Takes: "prompt",
	}, nil
}

func (m *modelScript) takes(a *Attempt) bool { return plainText(a.Texts["prompt"]) != "" }

// Run implements engine: prompt in; narration and scene out.
func (m *modelScript) Run(ctx context.Context, a *Attempt) (*Output, error) {
	seconds, err := a.span("seconds", 1, 60, 20)
	if err != nil {
		return nil, err
	}
	topic := plainText(a.Texts["prompt"])
	if topic == "" {
		return nil, noScript()
	}
	tone, language := a.text("tone", "casual"), a.language()
	rate := speakingRate(language)
	words := max(4, int(seconds*rate))
	q := question{
		name: "script", schema: scriptSchema, temperature: m.temperature, seed: scriptSeed(a),
		tokens: words*4 + 300, // JSON and the scene need some
		text: m.prompts.find(tone, language).fill(map[string]string{
			"topic": fmt.Sprintf("%q", topic), "tone": tone, "language": language, "seconds": fmt.Sprintf("%g", seconds),
			"words": fmt.Sprint(words), "most_words": fmt.Sprint(words * 3 / 2), "characters": fmt.Sprint(2 * words), "most_characters": fmt.Sprint(3 * words),
		}),
	}
	var script struct{ Narration, Scene string }
	err = converse(ctx, m.model, a, q, words*6+150, func(answer chatAnswer) string {
		script.Narration, script.Scene = "", ""
		if fault := answer.object(&script, "narration and scene"); fault != "" {
			return fault
		}
		script.Narration, script.Scene = plainText(strings.Map(speakableRune, script.Narration)), plainText(script.Scene)
		return scriptFault(script.Narration, script.Scene, seconds, rate)
	})
	if err != nil {
		return nil, err
	}
	a.report(100, "script written by the language model")
	engine, model := m.model.identity()
	return &Output{
		Texts:    map[string]string{"narration": script.Narration, "scene": script.Scene},
		Fidelity: events.FidelityFull, Engine: engine, Model: model,
	}, nil
}

// scriptSeed follows from the job. A further attempt has another, since the same would
// end the same way.
func scriptSeed(a *Attempt) int { return int(seedOf(a.JobID)%1_000_000) + chatTries*max(0, a.Number-1) }

// scriptFault is why a script cannot be spoken, or empty. rate is in words per second.
func scriptFault(narration, scene string, seconds, rate float64) string {
	n, spoken := utf8.RuneCountInString(narration), spokenWords(narration)
	switch {
	case n < 10 || utf8.RuneCountInString(scene) < 5:
		return "narration or scene is too short"
	case spoken < seconds*rate/6:
		return fmt.Sprintf("the narration is far too short: it takes %.0f seconds to speak, and %.0f are wanted", spoken/rate, seconds)
	case n > maxScriptRunes || spoken > seconds*rate*2+20:
		return fmt.Sprintf("the narration is far too long: it takes %.0f seconds to speak, and %.0f are wanted", spoken/rate, seconds)
	case utf8.RuneCountInString(scene) > maxSceneRunes:
		return "the scene is too long"
	case strings.ContainsAny(narration, "{}<>") || repeats(narration):
		return "the narration is not speech"
	}
	return ""
}

// speakableRune leaves out emoji and other pictures, which models like and nobody can say.
func speakableRune(r rune) rune {
	if r != '°' && unicode.Is(unicode.So, r) || r >= 0x1F3FB && r <= 0x1F3FF || r == unicode.ReplacementChar {
		return -1
	}
	return r
}

// repeats says that text loops: a long run of one character, or few different words.
func repeats(text string) bool {
	run, before := 0, rune(-1)
	for _, r := range text {
		if r != before {
			run, before = 0, r
		}
		if run++; run > 8 {
			return true
		}
	}
	all := speechUnits(strings.ToLower(text))
	different := make(map[string]bool, len(all))
	for _, w := range all {
		different[w] = true
	}
	return len(all) >= 12 && len(different)*4 < len(all)
}
