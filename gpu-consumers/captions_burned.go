// Captions and label as they are drawn into the picture, in Advanced SubStation.

package gpu

import (
	"fmt"
	"math"
	"strings"
)

const (
	uprightLine = 22   // characters of a line in an upright picture
	squareLine  = 30   // in a square one
	glyph       = 0.56 // width of a bold letter over its size, on the average
	lineWidth   = 0.88 // of the picture that a full line takes
	labelText   = "AI generated"
)

// burnedLine is how many characters a line may have in a picture of w×h: fewer and
// larger ones the narrower it is, for an upright picture is looked at on a telephone.
func burnedLine(w, h int) int {
	switch shape := float64(w) / float64(h); {
	case shape < 0.9:
		return uprightLine
	case shape < 1.4:
		return squareLine
	}
	return captionLine
}

// ass writes captions for burning into a w×h picture: white bold letters with a dark
// edge and a shadow, a full line never wider than the picture. They stand low; in an
// upright picture higher, where telephones draw nothing over them.
func ass(captions []caption, w, h int) string {
	size := min(h/14, int(float64(w)*lineWidth/(float64(burnedLine(w, h))*glyph)))
	margin := h / 18
	if w < h {
		margin = h / 5
	}
	var b strings.Builder
	b.WriteString(assHead(w, h, fmt.Sprintf("%d,&H00FFFFFF,&H00101010,&H80000000,1,1,%.1f,%.1f,2,%d,%d,%d", size, float64(size)/10, float64(size)/24, w/30, w/30, margin)))
	for _, c := range captions {
		fmt.Fprintf(&b, "Dialogue: 0,%s,%s,Default,%s\n", assClock(c.start), assClock(c.end), strings.Join(c.lines, `\N`))
	}
	return b.String()
}

// assLabel writes the label in the upper left corner, throughout.
func assLabel(w, h int) string {
	size := max(12, min(w, h)/26)
	style := fmt.Sprintf("%d,&H20FFFFFF,&H60101010,&H80000000,1,1,%.1f,0,7,%d,%d,%d", size, float64(size)/10, w/30, w/30, h/40)
	return assHead(w, h, style) + "Dialogue: 0,0:00:00.00,9:59:59.00,Default," + labelText + "\n"
}

// assHead is everything before the lines; style is from its Fontsize on.
func assHead(w, h int, style string) string {
	return fmt.Sprintf("[Script Info]\nScriptType: v4.00+\nPlayResX: %d\nPlayResY: %d\nWrapStyle: 2\n\n[V4+ Styles]\n", w, h) +
		"Format: Name, Fontname, Fontsize, PrimaryColour, OutlineColour, BackColour, Bold, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV\n" +
		"Style: Default,sans-serif," + style + "\n\n[Events]\nFormat: Layer, Start, End, Style, Text\n"
}

// assClock counts in hundredths: 0:00:00.00.
func assClock(seconds float64) string {
	cs := int64(math.Round(max(0, seconds) * 100))
	return fmt.Sprintf("%d:%02d:%02d.%02d", cs/360_000, cs/6000%60, cs/100%60, cs%100)
}
