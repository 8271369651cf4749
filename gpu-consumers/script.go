// Scripts without a language model: the user's own text, and honest templates.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/myspinbot/myspinbot/events"
)

const (
	taskScript = "script.generate_script"

	// maxScriptRunes is the longest narration in characters: a minute at twice the usual rate.
	maxScriptRunes = 2000
	maxSceneRunes  = 600
	neutralScene   = "A person looks into the camera and speaks. Plain background, soft daylight."
)

// TextConfig says who writes scripts, and who judges them.
type TextConfig struct {
	Ollama  ChatConfig
	Chat    ChatConfig // an OpenAI-compatible server
	Prompts string     // folder of prompt templates; empty: the built-in one alone
	Safety  SafetyConfig
}

// TextEngines are the engines of the script lane in the order of preference: the
// user's own words, the language models that are configured, templates, and the
// safety filter.
func TextEngines(c TextConfig) ([]engine, error) {
	asked, err := loadPrompts(c.Prompts)
	if err != nil {
		return nil, err
	}
	engines := []engine{userText{}}
	models, err := c.models("")
	if err != nil {
		return nil, err
	}
	for _, m := range models {
		engines = append(engines, counted(&modelScript{model: m.chatModel, temperature: m.temperature, prompts: asked}))
	}
	filter, err := newSafetyFilter(c)
	if err != nil {
		return nil, err
	}
	return append(engines, templateScript{}, counted(filter)), nil
}

// configuredModel is a language model and how freely it writes.
type configuredModel struct {
	chatModel
	temperature float64
}

// models are the language models behind the configured servers: the servers' own, or
// the one that is named.
func (c TextConfig) models(named string) ([]configuredModel, error) {
	var models []configuredModel
	add := func(s ChatConfig, open func(ChatConfig) (chatModel, error)) error {
		if s.URL == "" {
			return nil
		}
		if named != "" {
			s.Model = named
		}
		m, err := open(s)
		models = append(models, configuredModel{m, s.Temperature})
		return err
	}
	return models, errors.Join(
		add(c.Ollama, func(s ChatConfig) (chatModel, error) { return newOllama(s) }),
		add(c.Chat, func(s ChatConfig) (chatModel, error) { return newOpenAIChat(s) }))
}

// userText hands on what the user wrote, which no engine may overrule.
type userText struct{}

func (userText) Capability(context.Context) (events.TaskCapability, *events.TaskGap) {
	return events.TaskCapability{
		Task: taskScript, Lane: events.LaneScript, Engine: "user-text", Version: "1", Fidelity: events.FidelityFull, Builtin: true, Takes: "script",
	}, nil
}

// takes says that an attempt has a script of the user's.
func (userText) takes(a *Attempt) bool { return plainText(a.Texts["script"]) != "" }

func (userText) Run(_ context.Context, a *Attempt) (*Output, error) {
	narration := plainText(a.Texts["script"])
	if narration == "" {
		return nil, noScript()
	}
	if n := utf8.RuneCountInString(narration); n > maxScriptRunes {
		return nil, &TaskError{
			Class: events.ClassInvalidInput, Message: fmt.Sprintf("the script has %d characters, more than %d", n, maxScriptRunes),
			Hint: "shorten the script to about one minute of speech",
		}
	}
	seconds, err := a.span("seconds", 1, 60, 20)
	if err != nil {
		return nil, err
	}
	out := &Output{
		Texts:    map[string]string{"narration": narration, "scene": sceneOf(a.Texts["prompt"])},
		Fidelity: events.FidelityFull, Engine: "user-text", Version: "1",
	}
	if spoken := spokenWords(narration) / speakingRate(a.language()); spoken > seconds*1.2+1 {
		out.Notes = []string{fmt.Sprintf("The script takes about %.0f seconds to speak, the job asked for %.0f.", math.Ceil(spoken), seconds)}
	}
	a.report(100, "script taken as written")
	return out, nil
}

// templateScript makes a short narration from the topic alone. It says what it
// is: nothing in it is invented about the topic.
type templateScript struct{}

func (templateScript) Capability(context.Context) (events.TaskCapability, *events.TaskGap) {
	return events.TaskCapability{
		Task: taskScript, Lane: events.LaneScript, Engine: "template", Version: "1", Fidelity: events.FidelityPreview, Builtin: true, Takes: "prompt", Languages: "en",
	}, nil
}

func (templateScript) takes(a *Attempt) bool { return plainText(a.Texts["prompt"]) != "" }

func (templateScript) Run(_ context.Context, a *Attempt) (*Output, error) {
	prompt := plainText(a.Texts["prompt"])
	if prompt == "" {
		return nil, noScript()
	}
	seconds, err := a.span("seconds", 1, 60, 20)
	if err != nil {
		return nil, err
	}
	tone := a.text("tone", "casual")
	words, known := templates[tone]
	if !known {
		return nil, &TaskError{
			Class: events.ClassInvalidInput, Message: "the tone is unknown", Hint: "choose casual, formal, playful or dramatic",
		}
	}
	narration := words.fill(topicOf(prompt), int(seconds*wordsPerSecond))
	a.report(100, "script made from a template")
	return &Output{
		Texts:    map[string]string{"narration": narration, "scene": sceneOf(prompt)},
		Fidelity: events.FidelityPreview, Engine: "template", Version: "1",
		Notes: []string{"The narration comes from a template around the topic, no language model wrote it."},
	}, nil
}

func noScript() *TaskError {
	return &TaskError{
		Class: events.ClassInvalidInput, Message: "there is neither a script nor a prompt", Hint: "give one of the two",
	}
}

// sceneOf is the stage description for the picture: the prompt, or a neutral one.
func sceneOf(prompt string) string {
	if scene := plainText(prompt); scene != "" {
		return cutAtWord(scene, maxSceneRunes)
	}
	return neutralScene
}

// phrases are one tone's sentences; %s is the topic. Those of the middle are true
// of every video that the template makes.
type phrases struct {
	opening []string
	middle  []string
	closing []string
}

var templates = map[string]phrases{
	"casual": {
		opening: []string{"Hi there! Let's talk about %s.", "Hello! Today it's all about %s."},
		middle: []string{
			"This is a quick first look, so I'll keep it short.", "You are watching a preview made from a single picture.",
			"The words come from a simple template, and the voice is built in.", "Write your own script, and I will say exactly that.",
			"You can change the tone, the length and the picture at any time.", "If you like the timing, the rest is up to you.",
		},
		closing: []string{"That's it for now. See you soon!", "Thanks for watching!"},
	},
	"formal": {
		opening: []string{"Good day. The subject of this message is %s.", "Welcome. This short message concerns %s."},
		middle: []string{
			"It serves as a preview and is kept brief.", "What you see was made from a single picture.",
			"The wording follows a fixed template and makes no claims of its own.", "A script that you provide will be spoken word for word.",
			"Tone, length and picture can be adjusted as required.", "The final version may differ in voice and appearance.",
		},
		closing: []string{"Thank you for your attention.", "Thank you, and good day."},
	},
	"playful": {
		opening: []string{"Guess what? It's time for %s!", "Ready, steady, here comes %s!"},
		middle: []string{
			"I am only a picture, and yet here I am, talking.", "No big speech today, just a little hello.",
			"My lines come from a template, so don't blame me for the jokes.", "Hand me a script, and I'll read every last word.",
			"Make it longer, make it shorter, make it yours.", "Blink, and you might miss the best part.",
		},
		closing: []string{"And that's a wrap. Bye for now!", "Catch you next time!"},
	},
	"dramatic": {
		opening: []string{"Listen closely. This is about %s.", "One picture. One voice. One subject: %s."},
		middle: []string{
			"What you see began as a single still image.", "Now it speaks.",
			"These words are a template, a placeholder for your own.", "Write the script, and every word of it will be heard.",
			"The tone, the length, the picture: all of it is in your hands.", "This is only the preview.",
		},
		closing: []string{"The rest is yours to tell.", "Remember this moment."},
	},
}

// fill makes a narration of about the given number of words, at least the opening.
// The same topic and length give the same text.
func (p phrases) fill(topic string, words int) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(topic)) // never fails
	pick := int(h.Sum32() >> 1)
	text := []string{fmt.Sprintf(p.opening[pick%len(p.opening)], topic)}
	closing := p.closing[pick%len(p.closing)]
	left := words - len(strings.Fields(text[0])) - len(strings.Fields(closing))
	for _, s := range p.middle {
		if n := len(strings.Fields(s)); n <= left {
			text = append(text, s)
			left -= n
		}
	}
	if left >= 0 {
		text = append(text, closing)
	}
	return strings.Join(text, " ")
}

var (
	askedFor = regexp.MustCompile(`(?i)^(please\s+)?(can you\s+)?((make|create|generate|record|write|give|show|tell)\s+(me\s+|us\s+)?)?((a|an|the|some)\s+)?((short|quick|little|small|nice|funny)\s+)*((video|clip|script|message|something|words|text)\s+)?(about|on|of)\s+`)
	topicEnd = regexp.MustCompile(`[.!?]+(\s|$)`)
)

// topicOf is what a prompt is about, as words that fit into a sentence.
func topicOf(prompt string) string {
	topic := askedFor.ReplaceAllString(prompt, "")
	if end := topicEnd.FindStringIndex(topic); end != nil && end[0] > 0 {
		topic = topic[:end[0]]
	}
	topic = strings.TrimRight(cutAtWord(topic, 80), " .,;:!?-")
	if topic == "" {
		return "your topic"
	}
	return topic
}

// cutAtWord shortens to at most n characters without breaking a word, if it can.
func cutAtWord(s string, n int) string {
	runes := []rune(s)
	if len(runes) <= n {
		return s
	}
	cut := string(runes[:n])
	if i := strings.LastIndexByte(cut, ' '); i > 0 {
		cut = cut[:i]
	}
	return cut
}
