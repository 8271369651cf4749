// Tests of prompt templates.

package gpu

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// folderOf is a folder with the given files.
func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTheTemplateThatSaysMostIsUsed(t *testing.T) {
	t.Parallel()
	p, err := loadPrompts(folderOf(t, map[string]string{
		"script.txt": "plain {topic}", "script.formal.txt": "formal {topic}", "script.de.txt": "deutsch {topic} {words}", "script.formal.de.txt": "förmlich {topic}", "script.pt-BR.txt": "brasileiro {topic}", "script.pt.txt": "português {topic}", "README.md": "{no}",
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ tone, language, want string }{
		{"formal", "de", "förmlich {}"}, {"formal", "en", "formal {}"}, {"casual", "de", "deutsch {} 7"}, {"casual", "en", "plain {}"},
		{"casual", "pt-BR", "brasileiro {}"}, {"casual", "pt-PT", "português {}"}, {"casual", "de-AT", "deutsch {} 7"}, {"formal", "de-CH", "förmlich {}"},
	} {
		got := p.find(c.tone, c.language).fill(map[string]string{"topic": "{}", "words": "7"})
		if !strings.HasPrefix(got, c.want+"\n") || !strings.Contains(got, "JSON object") {
			t.Errorf("%s, %s: %q", c.tone, c.language, got)
		}
	}
	none, err := loadPrompts("")
	if err != nil || none.digest() == p.digest() || !strings.Contains(string(none.find("casual", "en")), "{topic}") {
		t.Errorf("without a folder: %v", err)
	}
	for language, want := range map[string]string{"de": "{words} words, at most {most_words},", "ko": "{words} words,", "zh-TW": "{characters} characters, at most {most_characters},", "ja": "{characters} characters,"} {
		if err := none.find("casual", language).check(); err != nil || !strings.Contains(string(none.find("casual", language)), want) {
			t.Errorf("the built-in template of %s: %v", language, err)
		}
	}
}

func TestATemplateOfOnesOwnReachesTheModel(t *testing.T) {
	t.Parallel()
	f := ollamaWire.serve(t, ollamaWire.saying(goodScript))
	engines, err := TextEngines(TextConfig{
		Ollama: ChatConfig{URL: f.URL, Model: theModel}, Prompts: folderOf(t, map[string]string{"script.formal.txt": "Say {most_words} words like a {tone} pirate about {topic} for {seconds} s."}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engines[1].Run(t.Context(), about("tea")); err != nil {
		t.Fatal(err)
	}
	if said := f.said(0); !strings.HasPrefix(said, `Say 36 words like a formal pirate about "tea" for 10 s.`) {
		t.Errorf("the model was told %q", said)
	}
}

func TestAllFaultsOfTemplatesAreNamedAtOnce(t *testing.T) {
	t.Parallel()
	_, err := loadPrompts(folderOf(t, map[string]string{
		"script.txt": "about nothing", "script.sad.txt": "{topic}", "script.de.txt": "{topic} {prompt}", "script.en.txt": "{topic}" + strings.Repeat("x", promptLimit), "other.txt": "{topic}",
	}))
	for _, want := range []string{"script.txt: it lacks {topic}", "script.sad.txt: name it", "placeholder {prompt}", "script.en.txt: it is not text", "other.txt: name it"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	if _, err := TextEngines(TextConfig{Prompts: filepath.Join(t.TempDir(), "absent")}); err == nil {
		t.Error("an absent folder was accepted")
	}
}
