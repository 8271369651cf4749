// Words of writings that part none: where sentences are cut, how long they take, and how
// their captions break.

package gpu

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// shownParts writes words with a dot where they are glued, and a space elsewhere.
func shownParts(words []shownWord) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 && w.glued {
			b.WriteString("·")
		} else if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	return b.String()
}

func TestCharactersAreWordsWhereNoneAreParted(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Hello, (big) world!": "Hello, (big) world!",
		"你好，世界。":              "你·好，·世·界。",
		"他说：「好」。走":            "他·说：·「好」。·走",
		"我有iPhone，你呢？":        "我·有·iPhone，·你·呢？",
		"我 有 3 个":             "我 有 3 个",
		"きょうはラーメン、行った。":       "きょ·う·は·ラー·メ·ン、·行っ·た。",
		"人々の":                 "人々·の",
		"แม่ไปเที่ยว วันนี้": "แม่·ไป·เที่·ย·ว วั·น·นี้",
		"한국어는 띄어 씁니다.":       "한국어는 띄어 씁니다.",
		"「…」":                "「…」",
		"":                   "",
	} {
		if got := shownParts(wordsOf(text)); got != want {
			t.Errorf("%q:\n got %q\nwant %q", text, got, want)
		}
	}
}

// Whatever is cut, nothing of a text is lost and none added.
func TestCuttingIntoWordsLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("aß .,「」（）。！？漢字かゃーแม่ไ가क្ក7"))).Draw(t, "text")
		whole := strings.ReplaceAll(shownParts(wordsOf(text)), "·", "")
		if want := strings.Join(strings.Fields(text), " "); whole != want {
			t.Fatalf("%q became %q", want, whole)
		}
		for _, w := range wordsOf(text) {
			if w.text == "" {
				t.Fatalf("%q has an empty word", text)
			}
		}
	})
}

func TestSentencesEndInEveryWriting(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"绿茶在春天采摘。它健康吗？很多人喜欢！好":           "绿茶在春天采摘。|它健康吗？|很多人喜欢！|好",
		"他说：「好。」然后走了。":                   "他说：「好。」|然后走了。",
		"お茶です。飲みますか？Hello world. はい":     "お茶です。|飲みますか？|Hello world.|はい",
		"Привет, мир! Как дела? Хорошо.": "Привет, мир!|Как дела?|Хорошо.",
		"هل أنت بخير؟ نعم، شكرا.":        "هل أنت بخير؟|نعم، شكرا.",
		"यह चाय है। क्या यह अच्छी है?":   "यह चाय है।|क्या यह अच्छी है?",
		"¿Qué tal? Bien.":               "¿Qué tal?|Bien.",
		strings.Repeat("字", 45) + "，字。": strings.Repeat("字", 45) + "，|字。",
		strings.Repeat("字", 85):         strings.Repeat("字", 80) + "|" + strings.Repeat("字", 5),
	} {
		got, unsaid := splitNarration(text, asWritten)
		var sentences []string
		for _, s := range got {
			sentences = append(sentences, s.text())
		}
		if strings.Join(sentences, "|") != want || unsaid != 0 {
			t.Errorf("%q:\n got %q\nwant %q", text, strings.Join(sentences, "|"), want)
		}
	}
}

func TestHowLongAScriptTakesGoesByItsLanguage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, language string
		seconds        float64
	}{
		{strings.Repeat("word ", 24), "en", 10}, {strings.Repeat("word ", 24), "en-GB", 10}, {strings.Repeat("Wort ", 19), "de", 10}, {strings.Repeat("字", 48), "zh", 10},
		{strings.Repeat("かな", 24) + "。", "ja", 10}, {strings.Repeat("sana ", 17), "fi-FI", 10},
	} {
		if got := spokenWords(c.text) / speakingRate(c.language); math.Abs(got-c.seconds) > 0.01 {
			t.Errorf("%s: %q takes %.2f s, want %g", c.language, c.text, got, c.seconds)
		}
	}
	a := &Attempt{Texts: map[string]string{"script": strings.Repeat("绿茶好，", 60)}, Params: map[string]any{"language": "zh", "seconds": 10.0}}
	out, err := userText{}.Run(t.Context(), a)
	if err != nil || len(out.Notes) != 1 || !strings.Contains(out.Notes[0], "about 38 seconds") {
		t.Errorf("notes %v, error %v", out, err)
	}
}

// A full caption of characters is as wide as one of letters, breaks anywhere, and has no
// spaces that its text has not.
func TestCaptionsOfCharactersFitTheirLines(t *testing.T) {
	t.Parallel()
	text := "绿茶在春天采摘，味道清新而且略带甜味，人们趁热喝它，边喝边看着窗外的风景和远处的山。它健康吗？"
	captions := captionsOf(spreadWords(text, 0, 20), 20, captionLine)
	whole := ""
	for _, c := range captions {
		for _, line := range c.lines {
			if columns(line) > captionLine || strings.ContainsRune(line, ' ') || strings.ContainsRune("，。？", []rune(line)[0]) {
				t.Errorf("line %q of %d columns", line, columns(line))
			}
			whole += line
		}
	}
	if whole != text || len(captions) < 3 {
		t.Errorf("%d captions say %q", len(captions), whole)
	}
	if last := captions[len(captions)-1]; last.lines[0] != "它健康吗？" {
		t.Errorf("the last caption is %q", last.lines)
	}
	if got := captionsOf(spreadWords("我用 iPhone 拍照", 0, 2), 2, captionLine); len(got) != 1 || got[0].lines[0] != "我用 iPhone 拍照" {
		t.Errorf("mixed: %+v", got)
	}
	long := captionsOf([]timedWord{{Word: strings.Repeat("가", 30), End: 3}}, 3, captionLine)
	if len(long) != 1 || len(long[0].lines) != 2 || columns(long[0].lines[0]) > captionLine {
		t.Errorf("a long word of full width: %+v", long)
	}
}

// What a server hears as one word are several of ours, and they share its time.
func TestWordsOfAServerAreCutAsOurs(t *testing.T) {
	t.Parallel()
	sentence, _ := splitNarration("你好，world！", asWritten)
	got := gatherWords(sentence[0], []heardWord{{"你好", 0.1, 0.5}, {"，", 0.5, 0.5}, {"world", 0.6, 1}, {"！", 1, 1}}, 1.1)
	if len(got) != 3 || math.Abs(got[0].End-0.3) > 1e-9 || got[1].Word != "好，" || !got[1].Glued || got[1].End != 0.5 || got[2] != (timedWord{"world！", 0.6, 1, true}) {
		t.Errorf("words %v", got)
	}
}

// A reference may be spoken in another language than the job's.
func TestTheLanguageOfAReferenceIsToldByItsTranscript(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ transcript, job, want string }{
		{"Green tea.", "ja", "en"}, {"緑茶は春に", "en", "ja"}, {"绿茶", "en", "zh"}, {"绿茶", "yue", "yue"}, {"新聞", "ja", "ja"}, {"한국어", "zh", "ko"}, {"", "ko", "ko"},
	} {
		if got := writtenIn(c.transcript, c.job); got != c.want {
			t.Errorf("%q in a job in %s: %s, want %s", c.transcript, c.job, got, c.want)
		}
	}
}
