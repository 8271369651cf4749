// Languages in the planner: which codes a job may name, which engines its stages get, and
// what a job is told in whose language nobody works.

package aggregates_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

func TestAJobSaysItsLanguageByItsCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"de": "de", "DE": "de", "pt-br": "pt-BR", "EN-gb": "en-GB", "es-419": "es-419", "yue": "yue", "zh": "zh",
		"": "", "xx": "", "deutsch": "", "de_DE": "", "zh-Hant-TW": "", "all_zh": "", "de-": "", "e": "",
	} {
		r := trainRequest()
		r.Options = map[string]any{"language": code}
		g, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r})
		if want == "" {
			if len(reasons) != 1 || reasons[0].Code != "option_invalid" || reasons[0].Field != "/options/language" || !strings.Contains(reasons[0].Detail, "ISO 639-1") {
				t.Errorf("%q: %+v", code, reasons)
			}
			continue
		}
		if len(reasons) > 0 {
			t.Errorf("%q is refused: %+v", code, reasons)
			continue
		}
		for _, n := range g.Nodes {
			_, works := n.Params["language"]
			if of := []string{aggregates.TaskScript, aggregates.TaskSpeech, aggregates.TaskTrainVoice}; works != slices.Contains(of, n.Task) || works && n.Params["language"] != want {
				t.Errorf("%q: node %s has %v", code, n.ID, n.Params)
			}
		}
	}
	if g := plan(t, trainRequest()); g.Nodes[0].Params["language"] != "en" {
		t.Errorf("a job that says nothing is in %v", g.Nodes[0].Params["language"])
	}
}

// inLanguages is an engine that works in these alone.
func inLanguages(c events.TaskCapability, languages events.Languages) events.TaskCapability {
	c.Languages = languages
	return c
}

// Given engines and their languages, when a job in a language is planned, then it is planned
// or refused with the languages there are and what to do.
func TestALanguageThatNobodySpeaksIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	const speech, script = aggregates.TaskSpeech, aggregates.TaskScript
	flite := inLanguages(preview(speech, "flite"), "en")
	german := inLanguages(full(speech, "openai-speech"), "de es")
	brazil := inLanguages(full(speech, "openai-speech"), "pt-BR")
	cloner := inLanguages(full(speech, "gpt-sovits"), "en ja zh")
	cloner.Takes = "voice_reference"
	template := inLanguages(preview(script, "template"), "en")
	writer := full(script, "ollama")
	for name, c := range map[string]struct {
		language, engines string
		voice             bool
		caps              []events.TaskCapability
		want              string   // what the only reason says; empty: planned
		also              []string // what it says as well
	}{
		"English is built in":               {"en", "", false, []events.TaskCapability{flite, template}, "", nil},
		"any English is":                    {"en-GB", "", false, []events.TaskCapability{flite, template}, "", nil},
		"a voice that speaks it":            {"de", "", false, []events.TaskCapability{german, flite, writer}, "", nil},
		"beside others":                     {"de", "", false, []events.TaskCapability{flite, brazil, german, template, writer}, "", nil},
		"German by no voice":                {"de", "", false, []events.TaskCapability{flite, writer}, "no worker has an engine for tts.synthesize in the language de now; there are en", []string{"docs/engines-voices.md"}},
		"no English sounds for a preview":   {"de", events.EnginesPreview, false, []events.TaskCapability{flite, german, preview(script, "any")}, "there are en;", nil},
		"the real one does not speak it":    {"fr", events.EnginesReal, false, []events.TaskCapability{german, flite, writer}, "there are de, es;", nil},
		"another region":                    {"pt-PT", "", false, []events.TaskCapability{flite, brazil, writer}, "there are en, pt-BR;", nil},
		"the language of a region":          {"pt", "", false, []events.TaskCapability{flite, brazil, writer}, "", nil},
		"whoever imitates needs a voice":    {"ja", "", false, []events.TaskCapability{cloner, flite, writer}, "there are en; with voice_reference en, ja, zh;", nil},
		"and has one":                       {"ja", "", true, []events.TaskCapability{cloner, flite, writer}, "", nil},
		"a template is English":             {"de", "", false, []events.TaskCapability{german, template}, "no worker has an engine for script.generate_script in the language de now; there are en", []string{"a script of your own", "a language model"}},
		"an engine of any language has all": {"sw", "", false, []events.TaskCapability{full(speech, "many"), writer}, "", nil},
	} {
		r := trainRequest()
		r.Engines, r.Options = c.engines, map[string]any{"language": c.language}
		if c.voice {
			r.Inputs["voice"] = portrait
		}
		if c.engines == events.EnginesReal {
			r.Inputs["script"] = text
		}
		all := withEngines(c.caps...)
		if c.engines == events.EnginesReal {
			all = aggregates.EnginesOf(append(realTasks(speech, script), c.caps...)...)
		}
		_, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r, Engines: all})
		if c.want == "" {
			if len(reasons) > 0 {
				t.Errorf("%s: refused: %+v", name, reasons)
			}
			continue
		}
		if len(reasons) != 1 || reasons[0].Code != "language_unavailable" || reasons[0].Field != "/options/language" {
			t.Errorf("%s: %+v", name, reasons)
			continue
		}
		for _, part := range append([]string{c.want}, c.also...) {
			if !strings.Contains(reasons[0].Detail, part) {
				t.Errorf("%s: %q is not in %q", name, part, reasons[0].Detail)
			}
		}
	}
}

// A configured voice that is away is named: it might speak the language.
func TestTheRefusalOfALanguageNamesAVoiceThatIsAway(t *testing.T) {
	t.Parallel()
	r := trainRequest()
	r.Options = map[string]any{"language": "de"}
	_, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r, Engines: withEngines(inLanguages(preview(aggregates.TaskSpeech, "flite"), "en")),
		Gaps: map[string][]events.TaskGap{aggregates.TaskSpeech: {{Engine: "openai-speech", Reason: "the speech server does not answer", Hint: "start it"}}}})
	if len(reasons) != 1 || !strings.Contains(reasons[0].Detail, "openai-speech might, but the speech server does not answer: start it") {
		t.Errorf("%+v", reasons)
	}
}

// The engines of another language make no part of a result's name.
func TestAResultIsNamedByTheEnginesOfItsLanguage(t *testing.T) {
	t.Parallel()
	e := aggregates.EnginesOf(inLanguages(full("t", "german"), "de"), inLanguages(preview("t", "flite"), "en"), full("t", "any"))
	for language, want := range map[string]string{"de": "any/1/ german/1/", "en": "any/1/ flite/1/", "fr": "any/1/", "": "any/1/ flite/1/ german/1/"} {
		if got := e.Name(events.Node{Task: "t", Params: map[string]any{"language": language}}, "", false); got != want {
			t.Errorf("%q: %q, want %q", language, got, want)
		}
	}
}

// An installation's own pipeline may offer some languages, or any, or be in one.
func TestOwnPipelinesHaveLanguages(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		param  map[string]any
		fixed  any
		faults []string
	}{
		"some":            {map[string]any{"type": "string", "enum": []any{"de", "pt-BR"}, "default": "de", "description": "of the words"}, nil, nil},
		"any":             {map[string]any{"type": "string", "format": "language", "default": "de", "description": "of the words"}, nil, nil},
		"one":             {nil, "de", nil},
		"none such":       {map[string]any{"type": "string", "enum": []any{"de", "German"}, "default": "de", "description": "of the words"}, nil, []string{"param_invalid /parameters/language/enum"}},
		"another form":    {map[string]any{"type": "string", "format": "date", "enum": []any{"de"}, "description": "of the words"}, nil, []string{"value_wrong /parameters/language/format"}},
		"a wrong default": {map[string]any{"type": "string", "format": "language", "default": "xx", "description": "of the words"}, nil, []string{"param_invalid /parameters/language/default"}},
		"fixed wrongly":   {nil, "deutsch", []string{"param_invalid /nodes/5/params/language"}},
	} {
		_, faults := aggregates.ReadPipeline(changed(t, func(d document) {
			if c.param != nil {
				d["parameters"].(map[string]any)["language"] = c.param
			}
			if c.fixed != nil {
				d.part("tts", "params")["language"] = c.fixed
			}
		}))
		var got []string
		for _, f := range faults {
			if at := f.Code + " " + f.Field; !slices.Contains(got, at) {
				got = append(got, at)
			}
		}
		if !slices.Equal(got, c.faults) {
			t.Errorf("%s: %v, want %v", name, faults, c.faults)
		}
	}
}
