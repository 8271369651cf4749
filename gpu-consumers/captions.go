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
	captionLine  = 42  // columns, in files and in wide pictures; a character of full width takes two
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

// captionsOf groups timed words into lines of at most so many columns. A caption ends
// at a sentence's end, at a silence, or when it is full.
func captionsOf(words []timedWord, duration float64, line int) []caption {
	var out []caption
	var open []timedWord
	flush := func() {
		if len(open) > 0 {
			out = append(out, caption{open[0].Start, open[len(open)-1].End, wrap(open, line)})
		}
		open = nil
	}
	for _, w := range splitLong(words, line) {
		if n := len(open); n > 0 {
			full := len(wrap(append(open[:n:n], w), line)) > captionLines
			if full || w.Start-open[n-1].End > captionPause || w.End-open[0].Start > captionLong {
				flush()
			}
		}
		open = append(open, w)
		if stopAt(w.Word) != 0 || strings.ContainsAny(w.Word, loudStops+"…") {
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

// splitLong cuts words that are longer than a line, and makes of entries with
// spaces one word each, sharing their time.
func splitLong(words []timedWord, line int) []timedWord {
	var out []timedWord
	for _, w := range words {
		var parts []shownWord
		for _, p := range wordsOf(cleanCaption(w.Word)) {
			parts = append(parts, cutLong(p, line)...)
		}
		step := (w.End - w.Start) / float64(max(1, len(parts)))
		for i, p := range parts {
			out = append(out, timedWord{p.text, w.Start + float64(i)*step, w.Start + float64(i+1)*step, p.glued || i == 0 && w.Glued})
		}
	}
	return out
}

// cutLong cuts a word at so many columns.
func cutLong(w shownWord, line int) []shownWord {
	var parts []shownWord
	start, width := 0, 0
	for at, r := range w.text {
		of := columns(string(r))
		if width += of; width > line {
			parts = append(parts, shownWord{w.text[start:at], w.glued || start > 0})
			start, width = at, of
		}
	}
	return append(parts, shownWord{w.text[start:], w.glued || start > 0})
}

// wrap breaks words into lines of at most so many columns; two lines are balanced.
func wrap(words []timedWord, line int) []string {
	lines := fill(words, line)
	if len(lines) != 2 {
		return lines
	}
	for width := (columns(lines[0]) + columns(lines[1])) / 2; width < line; width++ {
		if even := fill(words, width); len(even) == 2 {
			return even
		}
	}
	return lines
}

func fill(words []timedWord, width int) []string {
	var lines []string
	line := ""
	for _, w := range words {
		gap := " "
		if w.Glued {
			gap = ""
		}
		switch {
		case line == "":
			line = w.Word
		case columns(line)+len(gap)+columns(w.Word) <= width:
			line += gap + w.Word
		default:
			lines = append(lines, line)
			line = w.Word
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
	words := wordsOf(text)
	length := func(w shownWord) float64 { return spokenWord{spoken: w.text, glued: w.glued}.letters() }
	total := 0.0
	for _, w := range words {
		total += length(w)
	}
	var out []timedWord
	at := from
	for _, w := range words {
		end := at + (to-from)*length(w)/total
		out = append(out, timedWord{w.text, at, end, w.glued})
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
