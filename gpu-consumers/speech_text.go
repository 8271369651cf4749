// From a narration to what the voice can say: words as they are shown and as
// they are spoken, grouped into sentences.

package gpu

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

const (
	maxSpokenChars   = 5000 // characters; about five minutes
	maxSentenceWords = 40   // longer ones are cut at a comma, or there
)

// spokenWord is one word of the narration.
type spokenWord struct {
	shown  string // as the user wrote it, for captions
	spoken string // in the letters that the voice knows; empty: it cannot be said
	glued  bool   // it follows the one before without a space
}

// utterance is a run of words that is spoken in one breath.
type utterance struct {
	words []spokenWord
	pause float64 // seconds of silence after it
	ends  bool    // a paragraph ends with it
}

// text is the utterance as it is spoken.
func (u utterance) text() string {
	var b strings.Builder
	for i, w := range u.words {
		if i > 0 && !w.glued {
			b.WriteByte(' ')
		}
		b.WriteString(w.spoken)
	}
	return b.String()
}

// length is how long the utterance takes to say, in words.
func (u utterance) length() float64 {
	n := 0.0
	for _, w := range u.words {
		n += w.length()
	}
	return n
}

func (w spokenWord) length() float64 {
	if strings.ContainsFunc(w.spoken, wide) {
		return spokenWords(w.spoken)
	}
	return 1
}

// Pauses after a sentence in seconds.
const (
	pauseShort     = 0.25 // inside a long sentence that was cut
	pauseSentence  = 0.30
	pauseQuestion  = 0.34
	pauseParagraph = 0.45
)

// spelling replaces what no accent rule resolves.
var spelling = strings.NewReplacer("ß", "ss", "æ", "ae", "Æ", "Ae", "œ", "oe", "Œ", "Oe", "ø", "o", "Ø", "O", "đ", "d", "Đ", "D", "ł", "l", "Ł", "L",
	"’", "'", "‘", "'", "“", `"`, "”", `"`, "„", `"`, "«", `"`, "»", `"`, "–", " - ", "—", " - ", "…", "...", "€", " euros ", "£", " pounds ", "°", " degrees ", "\u00a0", " ")

// speakable writes a word in ASCII: accents are dropped, signs spelt out, and
// what remains unknown is left out.
func speakable(word string) string {
	var b strings.Builder
	for _, r := range norm.NFD.String(spelling.Replace(norm.NFC.String(word))) {
		if r < unicode.MaxASCII && unicode.IsPrint(r) {
			b.WriteRune(r)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// asWritten is a word for voices that know all letters.
func asWritten(word string) string { return norm.NFC.String(word) }

// sayable says whether there is anything in a spoken form to pronounce.
func sayable(spoken string) bool {
	return strings.ContainsFunc(spoken, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
}

// gather puts sentences of one paragraph together, up to longest words in one go.
func gather(sentences []utterance, longest int) []utterance {
	var out []utterance
	for _, s := range sentences {
		if n := len(out); n > 0 && !out[n-1].ends && out[n-1].length()+s.length() <= float64(longest) {
			s.words = append(slices.Clip(out[n-1].words), s.words...)
			out[n-1] = s
			continue
		}
		out = append(out, s)
	}
	return out
}

// allOf is what sentences say, of which there is one at least, in one go.
func allOf(sentences []utterance) utterance {
	all := sentences[len(sentences)-1]
	all.words = nil
	for _, s := range sentences {
		all.words = append(all.words, s.words...)
	}
	return all
}

// splitNarration cuts a text into sentences of words as spell writes them. unsaid
// counts the words that hold letters, none of which the voice knows. Words that
// cannot be said are shown together with the word before them.
func splitNarration(text string, spell func(string) string) (sentences []utterance, unsaid int) {
	for _, paragraph := range paragraphs(text) {
		var current utterance
		flush := func(pause float64) {
			if len(current.words) > 0 {
				current.pause = pause
				sentences = append(sentences, current)
			}
			current = utterance{}
		}
		words, length, left := append(wordsOf(paragraph), shownWord{}), 0.0, false
		for i, w := range words[:len(words)-1] {
			spoken := spell(w.text)
			if !sayable(spoken) {
				if strings.ContainsFunc(w.text, unicode.IsLetter) {
					unsaid++
				}
				if n := len(current.words); n > 0 {
					current.words[n-1].show(w)
				}
				left = true
				continue
			}
			next := spokenWord{shown: w.text, spoken: spoken, glued: w.glued && !left}
			current.words, length, left = append(current.words, next), length+next.length(), false
			switch mark := sentenceEnd(spoken, words[i+1].text); {
			case mark != 0 && mark != '.':
				flush(pauseQuestion)
			case mark == '.':
				flush(pauseSentence)
			case length >= maxSentenceWords, length >= maxSentenceWords/2 && strings.ContainsRune(commas, lastRune(spoken)):
				flush(pauseShort)
			}
			if len(current.words) == 0 {
				length = 0
			}
		}
		flush(pauseSentence)
		if n := len(sentences); n > 0 {
			sentences[n-1].pause, sentences[n-1].ends = pauseParagraph, true
		}
	}
	return sentences, unsaid
}

// show adds to a word what follows it and is not said.
func (w *spokenWord) show(more shownWord) {
	if !more.glued {
		w.shown += " "
	}
	w.shown += more.text
}

func lastRune(s string) rune {
	r, _ := utf8.DecodeLastRuneInString(s)
	return r
}

// paragraphs are the parts between blank lines.
func paragraphs(text string) []string {
	text = strings.ReplaceAll(strings.ReplaceAll(text, "\r\n", "\n"), "\r", "\n")
	var out []string
	var lines []string
	for line := range strings.SplitSeq(text+"\n\n", "\n") {
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
			continue
		}
		if len(lines) > 0 {
			out = append(out, strings.Join(lines, " "))
			lines = nil
		}
	}
	return out
}

// abbreviations end with a full stop that ends no sentence.
var abbreviations = map[string]bool{"dr": true, "mr": true, "mrs": true, "ms": true, "prof": true, "st": true, "vs": true,
	"e.g": true, "i.e": true, "jr": true, "sr": true, "inc": true, "approx": true, "fig": true, "vol": true}

// sentenceEnd is the mark that ends a sentence at this word, or 0. What follows
// decides about full stops: an abbreviation or an initial goes on, and so does
// a word in lower case.
func sentenceEnd(spoken, next string) rune {
	mark := stopAt(spoken)
	if mark == 0 || next == "" {
		return mark
	}
	if unicode.IsLower(firstLetter(next)) || mark == '.' && abbreviated(strings.Trim(spoken, `.([“‘«`+quotesBehind)) {
		return 0
	}
	return mark
}

// abbreviated says whether a word without its full stop is an abbreviation or
// an initial. "I" is a word.
func abbreviated(stem string) bool {
	return abbreviations[strings.ToLower(stem)] || len(stem) == 1 && stem != "I" && unicode.IsUpper(rune(stem[0]))
}

// firstLetter is the first letter or digit of a word, or 0.
func firstLetter(word string) rune {
	for _, r := range word {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
	}
	return 0
}
