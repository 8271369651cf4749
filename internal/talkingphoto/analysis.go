package talkingphoto

// This file measures finished clips: whether the mouth moves with the sound,
// and whether the face is still the photo's.

import (
	"image"
	"math"
	"slices"
)

// scaled maps a rectangle of a w-pixel-wide video to the clip's pixels.
func (c *Clip) scaled(r image.Rectangle, w int) image.Rectangle {
	f := float64(c.W) / float64(w)
	return image.Rect(int(float64(r.Min.X)*f), int(float64(r.Min.Y)*f), int(math.Ceil(float64(r.Max.X)*f)), int(math.Ceil(float64(r.Max.Y)*f))).
		Intersect(image.Rect(0, 0, c.W, c.H))
}

// MouthMotion is the mean absolute change of grey within region from each
// frame to the next, 0 to 255; the first value is 0. region counts in pixels of
// a video that is width pixels wide, before the clip was scaled.
func (c *Clip) MouthMotion(region image.Rectangle, width int) []float64 {
	r := c.scaled(region, width)
	out := make([]float64, len(c.Frames))
	if r.Empty() {
		return out
	}
	for i := 1; i < len(c.Frames); i++ {
		a, b := c.Frames[i-1], c.Frames[i]
		total := 0
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for x := r.Min.X; x < r.Max.X; x++ {
				d := int(a[y*c.W+x]) - int(b[y*c.W+x])
				total += max(d, -d)
			}
		}
		out[i] = float64(total) / float64(r.Dx()*r.Dy())
	}
	return out
}

// MouthOpening is how far the mouth stands open in each frame, by the dark that
// shows in it: the mean of what pixels of region fall below 55 % of the
// region's median grey, square-rooted. Only its course means something. region
// and width are those of MouthMotion.
func (c *Clip) MouthOpening(region image.Rectangle, width int) []float64 {
	r := c.scaled(region, width)
	out := make([]float64, len(c.Frames))
	if r.Empty() {
		return out
	}
	for i, f := range c.Frames {
		var counts [256]int
		for y := r.Min.Y; y < r.Max.Y; y++ {
			for _, v := range f[y*c.W+r.Min.X : y*c.W+r.Max.X] {
				counts[v]++
			}
		}
		n, median, seen := r.Dx()*r.Dy(), 0, 0
		for seen += counts[0]; seen <= n/2; seen += counts[median] {
			median++
		}
		limit, dark := median*55/100, 0
		for v := range limit {
			dark += counts[v] * (limit - v)
		}
		out[i] = math.Sqrt(float64(dark) / float64(n))
	}
	return out
}

// jawReach is how far JawDrop looks for chin and nose, up and down, as a share of the clip's width.
const jawReach = 8.0 / 360

// JawDrop is how far the chin stands below its place in the clip's first frame, against
// the nose, in pixels of the clip: a mouth that opens takes the chin along. It follows
// what chin and nose look like, so that neither a swaying head nor the mouth's own
// colours (a beard's, a moustache's, of a photo without colour) disturb it. region and
// width are those of MouthMotion.
func (c *Clip) JawDrop(region image.Rectangle, width int) []float64 {
	r := c.scaled(region, width)
	side, whole := r.Dx()/4, image.Rect(0, 0, c.W, c.H)
	chin := image.Rect(r.Min.X+side, r.Min.Y+r.Dy()*3/4, r.Max.X-side, r.Max.Y+r.Dy()/4).Intersect(whole)
	nose := image.Rect(r.Min.X+side, r.Min.Y-r.Dy()/2, r.Max.X-side, r.Min.Y).Intersect(whole)
	out := make([]float64, len(c.Frames))
	if chin.Empty() || nose.Empty() {
		return out
	}
	for i, f := range c.Frames {
		out[i] = c.sunk(f, chin) - c.sunk(f, nose)
	}
	return out
}

// sunk is how many rows lower than in the first frame the part r of it is found in f.
func (c *Clip) sunk(f []byte, r image.Rectangle) float64 {
	reach := max(1, int(jawReach*float64(c.W)))
	fits, best := make([]float64, 2*reach+1), reach
	for i := range fits {
		if o := r.Add(image.Pt(0, i-reach)); o.In(image.Rect(0, 0, c.W, c.H)) {
			fits[i] = patchCorrelation(c.Frames[0], f, c.W, r, o)
		}
		if fits[i] > fits[best] {
			best = i
		}
	}
	return peakAt(fits, best) - float64(reach)
}

// peakAt is where a row of values peaks near its largest one: the vertex of the parabola
// through it and its neighbours.
func peakAt(v []float64, best int) float64 {
	at := float64(best)
	if best > 0 && best < len(v)-1 {
		before, peak, after := v[best-1], v[best], v[best+1]
		if curve := before - 2*peak + after; curve < 0 {
			at += .5 * (before - after) / curve
		}
	}
	return at
}

const (
	// maxLag is how far apart picture and sound are looked for; seconds.
	maxLag = 0.4
	// syncDetail and syncTrend are the windows, in seconds, between which sync
	// is judged: faster changes are noise, slower ones fit at any lag.
	syncDetail = 0.12
	syncTrend  = 0.6
)

// BestLag shifts the course of a mouth's opening (MouthOpening, or JawDrop) against the loudness of its
// sound and returns the shift, in milliseconds, with the highest correlation.
// Positive lags mean that the picture is late. A clip in sync has a lag within
// ±80 ms and a correlation above 0.3. When the mouth or the sound never
// changes, or in less than a second, the correlation is 0.
func BestLag(opening []float64, loud *Loudness, fps float64) (lagMS, corr float64) {
	if fps <= 0 || len(opening) < int(fps) || loud.frames() == 0 {
		return 0, 0
	}
	a := syllables(opening, fps)
	reach := int(math.Round(maxLag * fps))
	// The loudness reaches over both ends of the clip, where there is silence.
	level := make([]float64, len(opening)+2*reach)
	for i := range level {
		level[i] = loud.mean(float64(i-reach)/fps, 1/fps)
	}
	level = syllables(level, fps)
	fits := make([]float64, 2*reach+1)
	best := reach
	for i := range fits {
		fits[i] = math.Max(0, correlation(a, level[2*reach-i:][:len(a)]))
		if fits[i] > fits[best] {
			best = i
		}
	}
	at := peakAt(fits, best) - float64(reach) // the peak lies between frames
	return at * 1000 / fps, fits[best]
}

// syllables keeps what changes from syllable to syllable.
func syllables(v []float64, fps float64) []float64 {
	odd := func(seconds float64) int { return int(seconds*fps/2)*2 + 1 }
	out := runningMean(v, odd(syncDetail))
	for i, t := range runningMean(out, odd(syncTrend)) {
		out[i] -= t
	}
	return out
}

// runningMean averages over an odd window that shrinks at the ends.
func runningMean(v []float64, window int) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = average(v[max(0, i-window/2):min(len(v), i+window/2+1)])
	}
	return out
}

// mean is the loudness averaged over a window around t.
func (l *Loudness) mean(t, window float64) float64 {
	total, n := 0.0, 0
	for d := -window / 2; d <= window/2; d += 1 / loudRate {
		total += l.at(t + d)
		n++
	}
	return total / float64(n)
}

// correlation is Pearson's, 0 when either side does not vary.
func correlation(a, b []float64) float64 {
	ma, mb := average(a), average(b)
	var ab, aa, bb float64
	for i := range a {
		x, y := a[i]-ma, b[i]-mb
		ab += x * y
		aa += x * x
		bb += y * y
	}
	if aa < 1e-12 || bb < 1e-12 {
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}

func average(v []float64) float64 {
	total := 0.0
	for _, x := range v {
		total += x
	}
	return total / math.Max(1, float64(len(v)))
}

// FaceSimilarity tells how much the faces of a clip are the still's: the
// normalised cross-correlation of the region (brows, eyes, nose), at the best
// of the small shifts that a swaying head makes, median over up to 25 frames.
// The photo's own clip reaches 0.98 to 0.99; the same photo mirrored 0.6, other
// pictures less. 0.85 parts them well. The still has the video's size before
// the clip was scaled.
func (c *Clip) FaceSimilarity(still *Frame, region image.Rectangle) float64 {
	small := still.greyTo(c.W, c.H)
	r := c.scaled(region, still.W)
	if r.Dx() < 8 || r.Dy() < 8 {
		return 0
	}
	reach := max(2, r.Dx()/12)
	var scores []float64
	for i := 0; i < len(c.Frames); i += max(1, len(c.Frames)/25) {
		best := 0.0
		for dy := -reach; dy <= reach; dy++ {
			for dx := -reach; dx <= reach; dx++ {
				if o := r.Add(image.Pt(dx, dy)); o.In(image.Rect(0, 0, c.W, c.H)) {
					best = math.Max(best, patchCorrelation(small, c.Frames[i], c.W, r, o))
				}
			}
		}
		scores = append(scores, best)
	}
	slices.Sort(scores)
	return scores[len(scores)/2]
}

// patchCorrelation compares rectangle r of a with o, of equal size, of b.
func patchCorrelation(a, b []byte, w int, r, o image.Rectangle) float64 {
	var n, sa, sb, saa, sbb, sab int
	for y := range r.Dy() {
		ra := a[(r.Min.Y+y)*w+r.Min.X:][:r.Dx()]
		rb := b[(o.Min.Y+y)*w+o.Min.X:][:r.Dx()]
		for x, pa := range ra {
			va, vb := int(pa), int(rb[x])
			sa, sb = sa+va, sb+vb
			saa, sbb, sab = saa+va*va, sbb+vb*vb, sab+va*vb
		}
		n += r.Dx()
	}
	va, vb := float64(n*saa-sa*sa), float64(n*sbb-sb*sb)
	if va <= 0 || vb <= 0 {
		return 0
	}
	return float64(n*sab-sa*sb) / math.Sqrt(va*vb)
}

// greyTo averages the luma down to w×h pixels.
func (f *Frame) greyTo(w, h int) []byte {
	out := make([]byte, w*h)
	for y := range h {
		y0, y1 := y*f.H/h, max(y*f.H/h+1, (y+1)*f.H/h)
		for x := range w {
			x0, x1 := x*f.W/w, max(x*f.W/w+1, (x+1)*f.W/w)
			total := 0
			for yy := y0; yy < y1; yy++ {
				for xx := x0; xx < x1; xx++ {
					total += int(f.Pix[yy*f.W+xx])
				}
			}
			out[y*w+x] = byte(total / ((y1 - y0) * (x1 - x0)) & 0xff)
		}
	}
	return out
}
