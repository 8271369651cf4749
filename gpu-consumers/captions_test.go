// How words become captions, and what the caption files look like.

package gpu

import (
	"context"
	"image"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestCaptionsEndAtSentencesAndSilence(t *testing.T) {
	t.Parallel()
	words := []timedWord{{"Hello", 0.1, 0.4, false}, {"there.", 0.4, 0.7, false}, {"We", 1, 1.2, false}, {"wait", 1.2, 1.5, false}, {"and", 2.5, 2.7, false}, {"go", 2.7, 2.9, false}}
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
	captions := captionsOf([]timedWord{{`<font>{\an8}A&B`, 3599.5, 3601.25, false}, {"-->", 3601.3, 3602, false}}, 3700, captionLine)
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

// Words that look like filters, tags, commands or files are words: they are burnt in as
// they are, and nothing of them reaches a filter.
func TestHostileWordsAreBurntInAsWords(t *testing.T) {
	t.Parallel()
	hostile := `',drawtext=textfile=/etc/passwd,ass=x [in]; {\pos(1,1)\p1}m 0 0 l 9 9 \N -map 0 %{eif} subtitles='/etc/passwd'`
	marks := map[string]*image.RGBA{}
	video := makeMedia(t, "v.mp4", append([]string{"-f", "lavfi", "-i", "color=gray:size=360x640:rate=10", "-t", "3"}, h264Args("18")...)...)
	speech := makeMedia(t, "s.wav", "-f", "lavfi", "-i", "sine", "-t", "2.6")
	for name, text := range map[string]string{"hostile": hostile, "harmless": "Some quiet words."} {
		out, err := (&assembler{testTool(), &faceNetworks{}}).Run(context.Background(), &Attempt{Dir: t.TempDir(), Texts: map[string]string{"narration": text},
			Params: map[string]any{"captions": "burned", "aspect": "9:16", "label": true, "seed": 12.0, "draft": true}, Files: map[string][]File{"video": input(video), "speech": input(speech)}})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		marks[name] = frameAt(t, out.Files["video"][0].Path, "0.5")
		info, err := testTool().probe(context.Background(), out.Files["video"][0].Path)
		if err != nil || info.Comment != provenance+"; draft; seed 12" {
			t.Errorf("comment %q, %v", info.Comment, err)
		}
		if label := spread(marks[name], image.Rect(0, 0, 150, 60)); label < 10 {
			t.Errorf("%s: no label stands in the corner: %.1f", name, label)
		}
		if thumb, err := loadPicture(out.Files["thumbnail"][0].Path); err != nil || spread(thumb, image.Rect(0, 0, 150, 60)) < 10 || spread(thumb, image.Rect(0, 300, 360, 640)) > 2 {
			t.Errorf("%s: the thumbnail lacks the label, or has captions: %v", name, err)
		}
	}
	// Captions stand in the third quarter, above what telephones draw over a video, within the sides.
	for name, img := range marks {
		if low := spread(img, image.Rect(0, 560, 360, 640)); low > 2 {
			t.Errorf("%s: something is drawn at the lower edge: %.1f", name, low)
		}
		if text := spread(img, image.Rect(20, 400, 340, 530)); text < 15 {
			t.Errorf("%s: no captions are drawn: %.1f", name, text)
		}
		if sides := spread(img, image.Rect(0, 100, 8, 640)) + spread(img, image.Rect(352, 100, 360, 640)); sides > 2 {
			t.Errorf("%s: captions reach over the sides: %.1f", name, sides)
		}
	}
}

// spread is the standard deviation of the brightness of a part of a picture.
func spread(img *image.RGBA, part image.Rectangle) float64 {
	var all []float64
	for y := part.Min.Y; y < part.Max.Y; y++ {
		for x := part.Min.X; x < part.Max.X; x++ {
			all = append(all, float64(img.Pix[y*img.Stride+x*4+1]))
		}
	}
	return deviation(all)
}

func TestBurntLinesFitTheShape(t *testing.T) {
	t.Parallel()
	if upright, square, wide := burnedLine(720, 1280), burnedLine(720, 720), burnedLine(1280, 720); upright >= square || square >= wide || wide != captionLine {
		t.Errorf("%d, %d and %d characters", upright, square, wide)
	}
	// On a telephone, letters of an upright video are legible from a twentieth of its width on.
	if got := ass(nil, 720, 1280); !strings.Contains(got, "sans-serif,51,") {
		t.Errorf("letters of an upright picture: %s", got)
	}
}
