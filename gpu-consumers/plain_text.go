// Text as a person would say it.

package gpu

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	codeFence = regexp.MustCompile("```[a-zA-Z]*")
	markupTag = regexp.MustCompile(`</?[a-zA-Z!][^<>]{0,500}>`)
	link      = regexp.MustCompile(`!?\[([^\[\]]{0,300})\]\([^()\s]{0,500}\)`)
	lineMark  = regexp.MustCompile(`(?m)^[ \t]*(?:#{1,6}|>+|[-*+]|\d{1,2}[.)])[ \t]+`)
	emphasis  = regexp.MustCompile("[*`~]+|\\b_{1,3}|_{1,3}\\b|\\|{2,}")
)

// plainText is text as a person would say it: no control or invisible characters,
// no HTML, SSML or Markdown, single spaces.
func plainText(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError, unicode.Is(unicode.Cf, r), unicode.Is(unicode.Co, r):
			return -1 // zero-width, bidirectional and private characters
		case r == '\n' || r == '\r':
			return '\n'
		case unicode.IsControl(r) || unicode.IsSpace(r):
			return ' '
		}
		return r
	}, s)
	s = codeFence.ReplaceAllString(s, "")
	s = markupTag.ReplaceAllString(s, " ")
	s = link.ReplaceAllString(s, "$1")
	s = lineMark.ReplaceAllString(s, "")
	s = emphasis.ReplaceAllString(s, "")
	return strings.Join(strings.Fields(s), " ")
}
