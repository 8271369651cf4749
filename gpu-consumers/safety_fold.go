// Text as the safety rules read it, so that capitals, accents and tricks of spelling
// make no difference.

package gpu

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// foldText is text in small letters without accents, in words parted by single spaces.
// Other signs part words too, as does every character of a writing that parts none.
func foldText(text string) string {
	var b strings.Builder
	for _, r := range norm.NFKD.String(strings.ToLower(text)) {
		switch {
		case unicode.Is(unicode.Mn, r) && r < 0x0900: // accents; marks of the writings after these are letters of theirs
		case unicode.Is(unicode.Cf, r): // invisible
		case wide(r):
			b.WriteString(" " + string(r) + " ")
		case unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.M, r):
			b.WriteString(unaccented(r))
		default:
			b.WriteByte(' ')
		}
	}
	words := strings.Fields(b.String())
	for i, w := range words {
		words[i] = foldWord(w)
	}
	return strings.Join(words, " ")
}

// unaccented spells letters that are no letter with an accent, but are written for one.
func unaccented(r rune) string {
	switch r {
	case 'ß':
		return "ss"
	case 'æ':
		return "ae"
	case 'œ':
		return "oe"
	case 'ø':
		return "o"
	case 'ł':
		return "l"
	case 'đ', 'ð':
		return "d"
	case 'ı':
		return "i"
	}
	return string(r)
}

var (
	// lookalikes are Cyrillic and Greek letters that look like Latin ones.
	lookalikes = strings.NewReplacer("а", "a", "в", "b", "е", "e", "к", "k", "м", "m", "н", "h", "о", "o", "р", "p", "с", "c", "т", "t", "у", "y", "х", "x", "і", "i", "ѕ", "s", "ј", "j",
		"α", "a", "ε", "e", "ι", "i", "κ", "k", "ν", "v", "ο", "o", "ρ", "p", "τ", "t", "υ", "u", "χ", "x")
	// digits that stand for letters.
	leet = strings.NewReplacer("0", "o", "1", "i", "3", "e", "4", "a", "5", "s", "7", "t")
)

// foldWord undoes letters of another alphabet, and digits, within a Latin word.
func foldWord(w string) string {
	var latin, foreign, digits bool
	for _, r := range w {
		latin = latin || unicode.Is(unicode.Latin, r)
		foreign = foreign || unicode.In(r, unicode.Cyrillic, unicode.Greek)
		digits = digits || unicode.IsDigit(r)
	}
	if latin && foreign {
		w = lookalikes.Replace(w)
	}
	if latin && digits {
		w = leet.Replace(w)
	}
	return w
}
