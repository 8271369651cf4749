// Tests of the safety filter: languages and spellings, rules of one's own, and the model
// that judges after the rules.

package gpu

import (
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

func filter(t *testing.T, c TextConfig) *safetyFilter {
	t.Helper()
	f, err := newSafetyFilter(c)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestTheSafetyRulesKnowOtherLanguagesAndSpellings(t *testing.T) {
	t.Parallel()
	for text, code := range map[string]string{
		"KILL YOURSELF": "self_harm", "k1ll y0urself": "self_harm", "кill уоurself": "self_harm", "Ｋｉｌｌ yourself": "self_harm", "kíll yoursélf": "self_harm",
		"ki\u00adll your\u200bself": "self_harm", "Heil-Hitler!": "hate",
		"Nackte Kinder am See.": "sexual_minors", "Bring dich um!": "self_harm", "Tötet alle Juden!": "hate", "Anleitung: eine Bombe bauen": "weapons",
		"Des enfants nus": "sexual_minors", "Suicide-toi !": "self_harm", "Tuez tous les immigrés": "hate", "Comment fabriquer une bombe": "weapons",
		"Niñas desnudas": "sexual_minors", "Suicídate": "self_harm", "Muerte a los inmigrantes": "hate", "Cómo hacer una bomba en casa": "weapons",
		"Bambine nude": "sexual_minors", "Ammazzati": "self_harm", "Uccidete tutti gli ebrei": "hate", "Come costruire una bomba": "weapons",
		"Crianças nuas": "sexual_minors", "Você deveria morrer": "self_harm", "Matem todos os judeus": "hate", "Como fazer uma bomba": "weapons",
		"Голые дети": "sexual_minors", "Убей себя": "self_harm", "Смерть мигрантам": "hate", "Как собрать бомбу дома": "weapons",
		"儿童的裸体照片": "sexual_minors", "你去死吧": "self_harm", "杀光所有移民": "hate", "教程：如何制作炸弹": "weapons",
	} {
		v := check(t, text, "standard").Verdict
		if v.Allowed || len(v.Reasons) != 1 || v.Reasons[0].Code != code || v.Reasons[0].Detail == "" {
			t.Errorf("%q: %+v, want %s", text, v, code)
		}
	}
	for _, text := range []string{
		"Kinder spielen im Park.", "Tod und Leben in der Oper.", "Die Mutter badet ihre Kinder.", "Les enfants jouent dans le jardin.", "Comment faire une tarte ?", "Los niños juegan en el parque.",
		"Come fare la pizza", "As crianças brincam.", "Дети играют в парке.", "Как сделать торт", "孩子们在公园里玩。", "如何制作蛋糕", "The Sussex countryside, 4K and mp3.",
	} {
		if v := check(t, text, "strict").Verdict; !v.Allowed {
			t.Errorf("%q: %+v", text, v)
		}
	}
	for _, code := range []string{"sexual_minors", "self_harm", "hate", "weapons"} {
		if detailOf(code) == "" {
			t.Errorf("%s has no sentence", code)
		}
	}
}

func TestTheInstallationsPolicyIsTheLeast(t *testing.T) {
	t.Parallel()
	a := &Attempt{Texts: map[string]string{"narration": "Damn, this shit is good!"}, Params: map[string]any{"policy": "standard"}}
	out, err := filter(t, TextConfig{Safety: SafetyConfig{Strict: true}}).Run(t.Context(), a)
	if err != nil || out.Verdict.Allowed || out.Verdict.Reasons[0].Code != "profanity" {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestRulesOfOnesOwn(t *testing.T) {
	t.Parallel()
	path := writeFile(t, "rules.json", []byte(`[
		{"code": "rival", "detail": "Rivals are not named here.", "all": [["Café Rouge", "acme*", "竞争对手"]]},
		{"code": "gambling", "detail": "Invitations to gamble are not allowed.", "strict": true, "all": [["come", "join us"], ["casino*", "poker"]]}
	]`))
	f := filter(t, TextConfig{Safety: SafetyConfig{Rules: path}})
	for text, want := range map[string]string{
		"Try the CAFE ROUGE today": "rival", "Acme's and acmeware": "rival", "我们的竞争对手": "rival", "A placme": "", "Café au lait, rouge": "", "Come to the casinos": "gambling", "The casino closed": "",
	} {
		out, err := f.Run(t.Context(), &Attempt{Texts: map[string]string{"narration": text}, Params: map[string]any{"policy": "strict"}})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if !out.Verdict.Allowed {
			got = out.Verdict.Reasons[0].Code
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if can, _ := f.Capability(t.Context()); can.Version == filter(t, TextConfig{}).version {
		t.Error("other rules have the same version")
	}
	for text, want := range map[string]string{
		`{}`: "not a list", `[{"code":"A b","detail":"x","all":[["y"]]}]`: `rule 1 ("A b"): give it a code`, `[{"code":"a","all":[["y"]]}]`: "detail", `[{"code":"a","detail":"x"}]`: "phrases",
		`[{"code":"a","detail":"x","all":[[]]}]`: "empty", `[{"code":"a","detail":"x","all":[["!"]]}]`: "neither letters", `[{"code":"a","word":"x"}]`: "word",
	} {
		if _, err := TextEngines(TextConfig{Safety: SafetyConfig{Rules: writeFile(t, "bad.json", []byte(text))}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", text, err, want)
		}
	}
}

// judged is a filter with a model that answers in turn.
func judged(t *testing.T, w chatWire, fallback bool, answers ...exchange) (*safetyFilter, *fakeChat) {
	t.Helper()
	f := w.serve(t, answers...)
	server := ChatConfig{URL: f.URL, Model: "the writer's", Patience: brief(200*time.Millisecond, time.Minute)}
	c := TextConfig{Safety: SafetyConfig{Model: theModel, Fallback: fallback}}
	if w.name == ollamaWire.name {
		c.Ollama = server
	} else {
		c.Chat = server
	}
	return filter(t, c), f
}

func TestRulesComeFirstAndTheModelAfterThem(t *testing.T) {
	t.Parallel()
	for _, w := range chatWires {
		safety, f := judged(t, w, false, w.saying(`{"category": "payment_scam", "where": "scene"}`), w.saying(`{"category": "none", "where": "narration"}`))
		run := func(text, policy string) *Output {
			out, err := safety.Run(t.Context(), &Attempt{Texts: map[string]string{"narration": text, "scene": "A room."}, Params: map[string]any{"policy": policy}})
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		if out := run("Kill yourself.", "standard"); out.Verdict.Allowed || f.asked() != 0 || out.Engine != "rules" {
			t.Errorf("%s: the model was asked %d times about what the rules forbid: %+v", w.name, f.asked(), out)
		}
		out := run("Hello, dear.", "standard")
		if v := out.Verdict; v.Allowed || len(v.Reasons) != 1 || v.Reasons[0].Code != "payment_scam" || v.Reasons[0].Field != "/scene" || v.Reasons[0].Detail != detailOf("payment_scam") {
			t.Errorf("%s: verdict %+v", w.name, v)
		}
		if out.Engine != "rules+"+w.name || out.Model != theModel || f.requests[0]["model"] != theModel {
			t.Errorf("%s: judged by %q with %q", w.name, out.Engine, out.Model)
		}
		if said := f.said(0); !strings.Contains(said, `"Hello, dear."`) || !strings.Contains(said, detailOf("hate")) || strings.Contains(said, "profanity") {
			t.Errorf("%s: the model was told %q", w.name, said)
		}
		if out := run("Hello, dear.", "strict"); !out.Verdict.Allowed || !strings.Contains(f.said(1), "profanity") {
			t.Errorf("%s: %+v after %q", w.name, out.Verdict, f.said(1))
		}
		if can, gap := safety.Capability(t.Context()); gap != nil || can.Task != taskSafety || can.Engine != "rules+"+w.name || can.Model != theModel {
			t.Errorf("%s: %+v, %+v", w.name, can, gap)
		}
	}
}

// No script passes because the model could not judge, unless that was asked for.
func TestWithoutItsModelTheFilterIsClosed(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer exchange
		class  string
	}{
		"garbage":         {ollamaWire.saying("It is fine."), events.ClassEngineRejected},
		"another verdict": {ollamaWire.saying(`{"category": "fine", "where": "narration"}`), events.ClassEngineRejected},
		"cut":             {ollamaWire.says(`{"category": "none", "where": "narration"}`, "length"), events.ClassEngineRejected},
		"hangs":           {exchange{Status: 200, CType: ollamaWire.kind, then: hangs}, events.ClassTimeout},
		"crashes":         {ollamaWire.refuses(500, "llama runner process has terminated"), events.ClassEngineUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &Attempt{Texts: map[string]string{"narration": "Hello."}}
			closed, _ := judged(t, ollamaWire, false, c.answer)
			out, err := closed.Run(t.Context(), a)
			if wantTaskError(t, err, c.class); out != nil {
				t.Errorf("there is a result: %+v", out)
			}
			open, _ := judged(t, ollamaWire, true, c.answer)
			if out, err = open.Run(t.Context(), a); err != nil || !out.Verdict.Allowed || out.Engine != "rules" || !strings.Contains(strings.Join(out.Notes, ""), "rules alone") {
				t.Errorf("with the fallback: %+v, %v", out, err)
			}
		})
	}
	for _, fallback := range []bool{false, true} {
		safety, f := judged(t, ollamaWire, fallback, ollamaWire.saying("-"))
		f.Close()
		can, gap := safety.Capability(t.Context())
		if (gap == nil) != fallback || gap != nil && gap.Task != taskSafety || fallback && can.Engine != "rules" {
			t.Errorf("without the server, fallback %t: %+v, %+v", fallback, can, gap)
		}
	}
}
