// Words of writings with spaces and without.

package gpu

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// shownWord is a word as it is shown.
type shownWord struct {
	text  string
	glued bool // it follows the one before without a space
}

// wordsOf are a text's words. Where a writing parts none (Chinese, Japanese, Thai and their
// like) each character is one, with the signs and marks that belong to it: captions may break
// anywhere, and a sentence's length and times follow from what is said.
func wordsOf(text string) []shownWord {
	var out []shownWord
	for field := range strings.FieldsSeq(text) {
		if !strings.ContainsFunc(field, wide) {
			out = append(out, shownWord{text: field})
			continue
		}
		for i, part := range partsOf(field) {
			out = append(out, shownWord{part, i > 0})
		}
	}
	return out
}

// partsOf cuts what lies between two spaces.
func partsOf(field string) []string {
	var parts []string
	start, before, letter := 0, rune(0), rune(0) // letter: the last one of the open part
	for at, r := range field {
		opens := unicode.In(r, unicode.Ps, unicode.Pi)
		says := unicode.IsLetter(r) || unicode.IsDigit(r)
		ends := wide(letter) && (says || opens) || wide(r) && says || opens && r >= 0x3000
		if letter != 0 && ends && !follows(r) && !leads(before) {
			parts = append(parts, field[start:at])
			start, letter = at, 0
		}
		if says {
			letter = r
		}
		before = r
	}
	return append(parts, field[start:])
}

// follows says that a character belongs to the one before it: marks, signs of repetition
// and length, small kana, and vowels that stand behind their consonant.
func follows(r rune) bool {
	return unicode.In(r, unicode.M, unicode.Lm) || strings.ContainsRune("ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶะาำๅฯະາຳ", r)
}

// leads says that the next character belongs to this one: vowels that stand before their
// consonant, and the sign that puts the next one under it.
func leads(r rune) bool {
	return r >= 'เ' && r <= 'ไ' || r >= 'ເ' && r <= 'ໄ' || r == 0x17D2
}

// wide says that a character of its writing takes about as long to say as half a word,
// and that words are not parted by spaces there.
func wide(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer)
}

// speechUnits are a text's words, or its characters where words are not parted.
func speechUnits(text string) []string {
	var units []string
	for _, word := range strings.Fields(text) {
		for _, rest := range strings.FieldsFunc(word, wide) {
			if sayable(rest) {
				units = append(units, rest)
			}
		}
		for _, r := range word {
			if wide(r) {
				units = append(units, string(r))
			}
		}
	}
	return units
}

// spokenWords is how long a text takes to say, in words.
func spokenWords(text string) float64 {
	n := 0.0
	for _, u := range speechUnits(text) {
		if r, _ := utf8.DecodeRuneInString(u); wide(r) {
			n += 0.5
		} else {
			n++
		}
	}
	return n
}

// wordsPerSecond is an unhurried speaking rate in English (about 145 words a minute).
const wordsPerSecond = 2.4

// speakingRates are words per second in languages whose words are longer or shorter: as
// many fewer or more than in English as people read aloud of the same text (IReST,
// Trauzettel-Klosinski and Dietz 2012).
var speakingRates = map[string]float64{
	"ar": 1.45, "de": 1.9, "es": 2.3, "fi": 1.7, "fr": 2.05, "he": 1.95, "it": 2, "nl": 2.1, "pl": 1.75, "pt": 1.9, "ru": 1.95, "sl": 1.9, "sv": 2.1, "tr": 1.75,
}

// speakingRate is how many words an unhurried speaker of the language says in a second; of a
// writing that parts no words, how many pairs of characters.
func speakingRate(language string) float64 {
	if rate, ok := speakingRates[baseLanguage(language)]; ok {
		return rate
	}
	return wordsPerSecond
}

// Signs at which a sentence ends, and those that may follow them.
const (
	fullStops    = ".…。｡।॥۔"
	loudStops    = "!?！？؟"
	quotesBehind = `"')]”’»」』）】》〉`
	commas       = ",，、،"
)

// stopAt is the sign that ends a sentence at this word: a full stop, or whichever else; 0
// where none does.
func stopAt(word string) rune {
	mark, _ := utf8.DecodeLastRuneInString(strings.TrimRight(word, quotesBehind))
	switch {
	case strings.ContainsRune(fullStops, mark):
		return '.'
	case strings.ContainsRune(loudStops, mark):
		return mark
	}
	return 0
}

// fullWidth says that a character is drawn twice as wide as a Latin letter.
func fullWidth(r rune) bool {
	return unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul) || r >= 0x3000 && r <= 0x30FF || r >= 0xFF01 && r <= 0xFF60
}

// columns is how wide a text is drawn, in Latin letters.
func columns(text string) int {
	n := 0
	for _, r := range text {
		switch {
		case unicode.Is(unicode.Mn, r): // over or under the one before
		case fullWidth(r):
			n += 2
		default:
			n++
		}
	}
	return n
}
