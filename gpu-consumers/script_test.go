// Tests of scripts without a model, and of the safety rules.

package gpu

import (
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

func TestTheUsersScriptIsSpokenAsWritten(t *testing.T) {
	t.Parallel()
	out, err := userText{}.Run(t.Context(), &Attempt{
		Texts:  map[string]string{"script": " Hello,\r\n\tI am *Ada*.  <b>Bye</b>\u200b! ", "prompt": "A sunny office"},
		Params: map[string]any{"seconds": 10.0},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Texts["narration"]; got != "Hello, I am Ada. Bye !" {
		t.Errorf("narration = %q", got)
	}
	if out.Texts["scene"] != "A sunny office" || out.Fidelity != events.FidelityFull || out.Engine != "user-text" || len(out.Notes) != 0 {
		t.Errorf("output = %+v", out)
	}
}

func TestALongScriptIsNotedOrRefused(t *testing.T) {
	t.Parallel()
	run := func(words int) (*Output, error) {
		return userText{}.Run(t.Context(), &Attempt{
			Texts: map[string]string{"script": strings.Repeat("word ", words)}, Params: map[string]any{"seconds": 5.0},
		})
	}
	out, err := run(100)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Notes) != 1 || !strings.Contains(out.Notes[0], "42 seconds") || out.Texts["scene"] != neutralScene {
		t.Errorf("notes %q, scene %q", out.Notes, out.Texts["scene"])
	}
	_, err = run(maxScriptRunes)
	wantTaskError(t, err, events.ClassInvalidInput)
	_, err = userText{}.Run(t.Context(), &Attempt{Texts: map[string]string{"script": "<p> </p>"}})
	wantTaskError(t, err, events.ClassInvalidInput)
}

func TestTemplatesAreHonestAndFitTheTime(t *testing.T) {
	t.Parallel()
	for tone := range templates {
		for _, seconds := range []float64{1, 5, 20, 60} {
			a := &Attempt{
				Texts:  map[string]string{"prompt": "Please make a short video about green tea. Thanks!"},
				Params: map[string]any{"tone": tone, "seconds": seconds},
			}
			out, err := templateScript{}.Run(t.Context(), a)
			if err != nil {
				t.Fatal(err)
			}
			text := out.Texts["narration"]
			if !strings.Contains(text, "green tea") || strings.Contains(text, "Please") || strings.Contains(text, "%") {
				t.Errorf("%s, %v s: %q", tone, seconds, text)
			}
			if n := len(strings.Fields(text)); n < 5 || n > max(12, int(seconds*wordsPerSecond)) {
				t.Errorf("%s, %v s: %d words", tone, seconds, n)
			}
			if seconds >= 20 && !strings.Contains(text, "template") && !strings.Contains(text, "Template") {
				t.Errorf("%s, %v s does not say what it is: %q", tone, seconds, text)
			}
			if out.Fidelity != events.FidelityPreview || out.Engine != "template" || len(out.Notes) != 1 {
				t.Errorf("output = %+v", out)
			}
			again, err := templateScript{}.Run(t.Context(), a)
			if err != nil || again.Texts["narration"] != text {
				t.Errorf("a second run gave %q (%v)", again.Texts["narration"], err)
			}
		}
	}
}

func TestTemplatesRefuseWhatTheyCannotDo(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]*Attempt{
		"no prompt": {Texts: map[string]string{"prompt": " \n"}},
		"tone":      {Texts: map[string]string{"prompt": "tea"}, Params: map[string]any{"tone": "sad"}},
		"seconds":   {Texts: map[string]string{"prompt": "tea"}, Params: map[string]any{"seconds": 61.0}},
	} {
		_, err := templateScript{}.Run(t.Context(), a)
		if e := wantTaskError(t, err, events.ClassInvalidInput); e.Hint == "" {
			t.Errorf("%s: no hint in %v", name, e)
		}
	}
}

func TestTopics(t *testing.T) {
	t.Parallel()
	for prompt, want := range map[string]string{
		"green tea": "green tea",
		"Make a funny little video about my cat!":   "my cat",
		"Tell us something about Berlin in winter.": "Berlin in winter",
		"Hello. I am Ada.":                          "Hello",
		"version 2.5 of our app":                    "version 2.5 of our app",
		"...":                                       "your topic",
		strings.Repeat("long ", 40):                 strings.TrimSpace(strings.Repeat("long ", 16)),
	} {
		if got := topicOf(prompt); got != want {
			t.Errorf("topicOf(%q) = %q, want %q", prompt, got, want)
		}
	}
}

func TestPlainText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"# Title\n\n- one\n- two":                         "Title one two",
		"```json\ncode\n```":                              "code",
		"see [the site](https://x.example/a?b=c) now":     "see the site now",
		"a\u202eb\u200dc\x00d\x1b[31m":                    "abc d [31m",
		"<speak>Hi <break time=\"1s\"/> there</speak>":    "Hi there",
		"2 < 3 and 5 > 4":                                 "2 < 3 and 5 > 4",
		"snake_case and __bold__ and _thin_":              "snake_case and bold and thin",
		"1. first\n2) second\nin 1999. Not a list":        "first second in 1999. Not a list",
		"don't -- stop":                                   "don't -- stop",
		"caf\u00e9 \u4f60\u597d \U0001F600 \u00a0nbsp":    "café 你好 \U0001F600 nbsp",
		"bad \xff byte":                                   "bad byte",
		"<script>alert('x')</script>Hello":                "alert('x') Hello",
		"emphasis *one* **two** ***three*** ~~gone~~ `c`": "emphasis one two three gone c",
	} {
		if got := plainText(in); got != want {
			t.Errorf("plainText(%q) = %q, want %q", in, got, want)
		}
	}
}

func check(t *testing.T, narration, policy string) *Output {
	t.Helper()
	out, err := filter(t, TextConfig{}).Run(t.Context(), &Attempt{
		Texts: map[string]string{"narration": narration, "scene": "A room."}, Params: map[string]any{"policy": policy},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTheSafetyRulesRefuse(t *testing.T) {
	t.Parallel()
	for text, code := range map[string]string{
		"A sexy picture of a child.":                  "sexual_minors",
		"Nude 15-year-old girls.":                     "sexual_minors",
		"Just kill yourself.":                         "self_harm",
		"Here is how to hang yourself without pain.":  "self_harm",
		"Kill all the immigrants now!":                "hate",
		"Women are vermin.":                           "hate",
		"You n1ggers.":                                "hate",
		"A guide: how to build a pipe bomb at home.":  "weapons",
		"This is your bank. Please tell me your PIN.": "payment_scam",
		"Hi grandma, I'm your grandson, please buy gift cards and send the code": "payment_scam",
		" ":                          "narration_empty",
		strings.Repeat("word ", 500): "narration_too_long",
	} {
		out := check(t, text, "standard")
		v := out.Verdict
		if v == nil || v.Allowed || len(v.Reasons) != 1 || v.Reasons[0].Code != code || v.Reasons[0].Field != "/narration" {
			t.Errorf("%q: verdict = %+v, want %s", text, v, code)
			continue
		}
		for _, w := range strings.Fields(foldText(text)) {
			if len(w) > 7 && strings.Contains(foldText(v.Reasons[0].Detail), w) {
				t.Errorf("the reason repeats the user's word %q", w)
			}
		}
	}
}

func TestTheSafetyRulesLetOrdinaryTextPass(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"Hello and welcome. This video was made from one photo.",
		"Our children love the new playground in the park.",
		"The bank of the river is a lovely place. Your password is safe with us.",
		"If you think about suicide, call a help line. You are not alone.",
		"How to build a bird house in one afternoon.",
		"Women and men are equal before the law.",
		"This battle was a massacre, and history must remember it.",
		"Damn, this shit is good!",
	} {
		if v := check(t, text, "standard").Verdict; !v.Allowed || len(v.Reasons) != 0 {
			t.Errorf("%q: %+v", text, v)
		}
	}
}

func TestTheStrictPolicyIsStricter(t *testing.T) {
	t.Parallel()
	for text, code := range map[string]string{
		"Damn, this shit is good!": "profanity", "An erotic dance.": "sexual", "They were beheaded and dismembered.": "violence",
	} {
		v := check(t, text, "strict").Verdict
		if v.Allowed || len(v.Reasons) != 1 || v.Reasons[0].Code != code {
			t.Errorf("%q: %+v, want %s", text, v, code)
		}
	}
	_, err := filter(t, TextConfig{}).Run(t.Context(), &Attempt{Params: map[string]any{"policy": "none"}})
	wantTaskError(t, err, events.ClassInvalidInput)
}

func TestTheSafetyFilterCleansBothTexts(t *testing.T) {
	t.Parallel()
	out, err := filter(t, TextConfig{}).Run(t.Context(), &Attempt{Texts: map[string]string{"narration": "**Hi** <b>you</b>", "scene": "# A _room_"}})
	if err != nil {
		t.Fatal(err)
	}
	if out.Texts["narration"] != "Hi you" || out.Texts["scene"] != "A room" || !out.Verdict.Allowed {
		t.Errorf("output = %+v", out)
	}
	if out.Engine != "rules" || out.Fidelity != events.FidelityFull {
		t.Errorf("engine %q, fidelity %q", out.Engine, out.Fidelity)
	}
	out, err = filter(t, TextConfig{}).Run(t.Context(), &Attempt{Texts: map[string]string{"narration": "Hello.", "scene": "Naked children"}})
	if err != nil || out.Verdict.Allowed || out.Verdict.Reasons[0].Field != "/scene" {
		t.Errorf("a bad scene: %+v, %v", out.Verdict, err)
	}
}
