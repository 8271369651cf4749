// How words become captions, and what the caption files look like.

package gpu

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestCaptionsEndAtSentencesAndSilence(t *testing.T) {
	t.Parallel()
	words := []timedWord{{"Hello", 0.1, 0.4}, {"there.", 0.4, 0.7}, {"We", 1, 1.2}, {"wait", 1.2, 1.5}, {"and", 2.5, 2.7}, {"go", 2.7, 2.9}}
	got := captionsOf(words, 3, captionLine)
	want := "Hello there.@0.1-1.0|We wait@1.0-1.9|and go@2.5-3.0"
	var parts []string
	for _, c := range got {
		parts = append(parts, strings.Join(c.lines, "/")+"@"+trimZero(c.start)+"-"+trimZero(c.end))
	}
	if strings.Join(parts, "|") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(parts, "|"), want)
	}
}

func trimZero(seconds float64) string { // 1.0 for 00:00:01.000
	return strings.TrimSuffix(strings.TrimPrefix(clock(seconds, "."), "00:00:0"), "00")
}

func TestCaptionFiles(t *testing.T) {
	t.Parallel()
	captions := captionsOf([]timedWord{{`<font>{\an8}A&B`, 3599.5, 3601.25}, {"-->", 3601.3, 3602}}, 3700, captionLine)
	text := "‹font›(/an8)A&B --›"
	if got, want := srt(captions), "1\n00:59:59,500 --> 01:00:02,000\n"+text+"\n\n"; got != want {
		t.Errorf("SRT\n got %q\nwant %q", got, want)
	}
	if got, want := vtt(captions), "WEBVTT\n\n00:59:59.500 --> 01:00:02.000\n"+strings.ReplaceAll(text, "&", "&amp;")+"\n\n"; got != want {
		t.Errorf("VTT\n got %q\nwant %q", got, want)
	}
	if got, want := ass(captions, 720, 1280), "Dialogue: 0,0:59:59.50,1:00:02.00,Default,"+text+"\n"; !strings.HasSuffix(got, want) || !strings.Contains(got, "PlayResX: 720\nPlayResY: 1280\n") {
		t.Errorf("ASS %q", got)
	}
}

func TestCaptionsOfAnyTextKeepTheLimits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("ab é.!?,<{\\\n漢"))).Draw(t, "text")
		duration := rapid.Float64Range(1, 60).Draw(t, "seconds")
		captions := captionsOf(spreadWords(text, 0.1, duration-0.2), duration, captionLine)
		at, shown := 0.0, 0
		for _, c := range captions {
			if c.start < at-1e-9 || c.end <= c.start || c.end > duration+0.06 {
				t.Fatalf("a caption from %g to %g after %g of %g s", c.start, c.end, at, duration)
			}
			at = c.start
			if len(c.lines) == 0 || len(c.lines) > captionLines {
				t.Fatalf("%d lines", len(c.lines))
			}
			for _, line := range c.lines {
				shown += utf8.RuneCountInString(strings.ReplaceAll(line, " ", ""))
				if utf8.RuneCountInString(line) > captionLine || strings.ContainsAny(line, "<{\\\n") {
					t.Fatalf("line %q", line)
				}
			}
		}
		if whole := utf8.RuneCountInString(strings.Join(strings.Fields(text), "")); shown != whole {
			t.Fatalf("%d of %d characters are shown", shown, whole)
		}
	})
}
