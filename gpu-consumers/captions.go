// Captions: when which words are read, and the three file formats that say so.

package gpu

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Limits of a caption, after the usual guides for subtitles.
const (
	captionLine  = 42  // characters, in files and in wide pictures
	captionLines = 2   // lines
	captionLong  = 6.0 // seconds
	captionShort = 0.9 // seconds, where the next caption leaves room
	captionPause = 0.6 // a silence in seconds that ends a caption
)

// caption is one or two lines shown from one second to another.
type caption struct {
	start, end float64
	lines      []string
}

// captionsOf groups timed words into lines of at most so many characters. A caption ends
// at a sentence's end, at a silence, or when it is full.
func captionsOf(words []timedWord, duration float64, line int) []caption {
	var out []caption
	var open []timedWord
	flush := func() {
		if len(open) > 0 {
			out = append(out, caption{open[0].Start, open[len(open)-1].End, wrap(joined(open), line)})
		}
		open = nil
	}
	for _, w := range splitLong(words, line) {
		if n := len(open); n > 0 {
			full := len(wrap(joined(append(open[:n:n], w)), line)) > captionLines
			if full || w.Start-open[n-1].End > captionPause || w.End-open[0].Start > captionLong {
				flush()
			}
		}
		open = append(open, w)
		if strings.HasSuffix(strings.TrimRight(w.Word, `"'”’)»`), ".") || strings.ContainsAny(w.Word, "!?…") {
			flush()
		}
	}
	flush()
	for i := range out {
		next := duration
		if i+1 < len(out) {
			next = out[i+1].start
		}
		out[i].end = max(out[i].start+0.05, min(next, max(out[i].end, out[i].start+captionShort)))
	}
	return out
}

func joined(words []timedWord) string {
	parts := make([]string, len(words))
	for i, w := range words {
		parts[i] = w.Word
	}
	return strings.Join(parts, " ")
}

// splitLong cuts words that are longer than a line, and makes of entries with
// spaces one word each, sharing their time.
func splitLong(words []timedWord, line int) []timedWord {
	var out []timedWord
	for _, w := range words {
		var parts []string
		for _, field := range strings.Fields(cleanCaption(w.Word)) {
			runes := []rune(field)
			for len(runes) > line {
				parts = append(parts, string(runes[:line]))
				runes = runes[line:]
			}
			parts = append(parts, string(runes))
		}
		step := (w.End - w.Start) / float64(max(1, len(parts)))
		for i, p := range parts {
			out = append(out, timedWord{p, w.Start + float64(i)*step, w.Start + float64(i+1)*step})
		}
	}
	return out
}

// wrap breaks a text into lines of at most so many characters; two lines are balanced.
func wrap(text string, line int) []string {
	lines := fill(text, line)
	if len(lines) != 2 {
		return lines
	}
	for width := utf8.RuneCountInString(text) / 2; width < line; width++ {
		if even := fill(text, width); len(even) == 2 {
			return even
		}
	}
	return lines
}

func fill(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// spreadWords gives the words of a text equal shares by length of the time
// between from and to, for speech whose timing nobody told.
func spreadWords(text string, from, to float64) []timedWord {
	fields := strings.Fields(text)
	total := 0
	for _, f := range fields {
		total += utf8.RuneCountInString(f) + 1
	}
	var out []timedWord
	at := from
	for _, f := range fields {
		end := at + (to-from)*float64(utf8.RuneCountInString(f)+1)/float64(total)
		out = append(out, timedWord{f, at, end})
		at = end
	}
	return out
}

// cleanCaption keeps what every caption format shows as it is: control
// characters go, and marks that start a tag in one of the formats are replaced by
// their look-alikes.
func cleanCaption(word string) string {
	word = strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, word)
	return strings.NewReplacer("<", "‹", ">", "›", "{", "(", "}", ")", `\`, "/").Replace(word)
}

// clock writes seconds as 00:00:00 with the given mark and milliseconds.
func clock(seconds float64, mark string) string {
	ms := int64(math.Round(max(0, seconds) * 1000))
	return fmt.Sprintf("%02d:%02d:%02d%s%03d", ms/3_600_000, ms/60_000%60, ms/1000%60, mark, ms%1000)
}

// srt writes SubRip.
func srt(captions []caption) string {
	var b strings.Builder
	for i, c := range captions {
		fmt.Fprintf(&b, "%d\n%s --> %s\n%s\n\n", i+1, clock(c.start, ","), clock(c.end, ","), strings.Join(c.lines, "\n"))
	}
	return b.String()
}

// vtt writes WebVTT.
func vtt(captions []caption) string {
	var b strings.Builder
	b.WriteString("WEBVTT\n\n")
	for _, c := range captions {
		text := strings.ReplaceAll(strings.Join(c.lines, "\n"), "&", "&amp;")
		fmt.Fprintf(&b, "%s --> %s\n%s\n\n", clock(c.start, "."), clock(c.end, "."), text)
	}
	return b.String()
}
