package talkingphoto

// This file measures the mouth of the framed photo: where it is, whether it
// shows teeth, the curves along which its lips part, and the colours of its
// inside.

import "math"

// mouth is the mouth of one framed photo. Lengths are luma pixels; local
// coordinates (u, v) have their origin between the mouth's corners, u from the
// left corner to the right one, v downwards.
type mouth struct {
	origin Point
	ax, ay float64 // unit vector of u
	half   float64 // half the distance between the corners
	nose   float64 // v of the nose's base
	chin   float64 // v of the chin's tip
	jawL   float64 // half width of the jaw at the mouth, to the left and the right
	jawR   float64
	gap    float64 // between the inner lips in the photo, at the middle; 0 = closed
	upper  poly    // inner edge of the upper lip: v over u/half
	lower  poly    // inner edge of the lower lip
	maxGap float64 // a gap of the widest open mouth

	dark, tooth, tongue colour
}

func (m *mouth) local(p Point) (u, v float64) {
	dx, dy := p.X-m.origin.X, p.Y-m.origin.Y
	return dx*m.ax + dy*m.ay, -dx*m.ay + dy*m.ax
}

func (m *mouth) global(u, v float64) Point {
	return Point{m.origin.X + u*m.ax - v*m.ay, m.origin.Y + u*m.ay + v*m.ax}
}

// openMouth is the gap over half the mouth's width from which on a photo counts
// as showing teeth; below it the lips touch and the landmarks' gap is noise.
const openMouth = 0.14

func measureMouth(f *Frame, l Landmarks) *mouth {
	p := &l.Points
	left, right := p[48], p[54]
	m := &mouth{origin: centroid(left, right), half: math.Max(distance(left, right)/2, 2)}
	m.ax, m.ay = (right.X-left.X)/(2*m.half), (right.Y-left.Y)/(2*m.half)
	_, m.chin = m.local(p[8])
	_, m.nose = m.local(p[33])
	ul, _ := m.local(centroid(p[3], p[4]))
	ur, _ := m.local(centroid(p[12], p[13]))
	m.jawL, m.jawR = math.Max(-ul, 1.2*m.half), math.Max(ur, 1.2*m.half)
	m.jawL, m.jawR = math.Min(m.jawL, float64(f.W)), math.Min(m.jawR, float64(f.W))
	m.chin = clamp(m.chin, 1.1*m.half, math.Max(1.1*m.half, float64(f.H)))
	m.nose = math.Min(m.nose, -.35*m.half)

	_, above := m.local(centroid(p[61:64]...))
	_, below := m.local(centroid(p[65:68]...))
	if !l.Marked && below-above > openMouth*m.half {
		m.fitOpenLips(f, p)
	} else {
		m.fitLipLine(f, (above+below)/2)
	}
	m.gap = math.Max(0, m.lower.at(0)-m.upper.at(0))
	m.maxGap = math.Min(.62*m.half, .42*(m.chin-m.lower.at(0))) + .35*m.gap
	m.pickColours(f, p)
	return m
}

// fitLipLine finds where closed lips meet: the darkest row near the landmarks
// in each column, as one parabola.
func (m *mouth) fitLipLine(f *Frame, mid float64) {
	var fit leastSquares
	luma := f.luma()
	for u := -.8 * m.half; u <= .8*m.half; u += m.half / 24 {
		x := u / m.half
		base := mid * (1 - x*x)
		best, at := math.Inf(1), base
		for v := base - .16*m.half; v <= base+.2*m.half; v += .5 {
			q := m.global(u, v)
			if light := float64(luma.sample(float32(q.X), float32(q.Y))) + 40*math.Abs(v-base)/m.half; light < best {
				best, at = light, v
			}
		}
		fit.add(x, at, 1)
	}
	fit.add(-1, 0, 3)
	fit.add(1, 0, 3)
	line := fit.solve(2)
	m.upper, m.lower = line, line
}

// fitOpenLips finds the inner edges of lips that show teeth: along each column
// near the landmarks, the strongest step between lip (red) and teeth (not).
// Where a photo has no colour the landmarks decide alone.
func (m *mouth) fitOpenLips(f *Frame, p *[68]Point) {
	m.upper = m.fitInnerEdge(f, []Point{p[60], p[61], p[62], p[63], p[64]}, -1)
	// The strongest step lies inside the scalloped tops of the teeth; the lip
	// begins a little higher, and must not carry teeth along.
	m.upper[0] -= .05 * m.half
	m.upper[2] += .05 * m.half
	m.lower = m.fitInnerEdge(f, []Point{p[60], p[67], p[66], p[65], p[64]}, 1)
}

// fitInnerEdge fits a polynomial of degree 6 to an edge; side is -1 where the lip lies above
// the teeth and 1 where it lies below. The second round looks around the first
// one's answer, because landmarks are coarse near the corners.
func (m *mouth) fitInnerEdge(f *Frame, marks []Point, side float64) poly {
	var rough leastSquares
	for _, q := range marks {
		u, v := m.local(q)
		rough.add(u/m.half, v, 1)
	}
	line := rough.solve(2)
	for range 2 {
		var fit leastSquares
		for x := -.88; x <= .88; x += .03 {
			v, step := m.strongestStep(f, x*m.half, line.at(x), side)
			fit.add(x, v, math.Min(step/10, 1.5))
			fit.add(x, line.at(x), .12)
		}
		// Both edges end in the corners, where the origin lies by definition.
		fit.add(-1, -.03*m.half, 3)
		fit.add(1, -.03*m.half, 3)
		line = fit.solve(6)
	}
	return line
}

// strongestStep searches one column around base for the strongest step from
// lip to teeth or to the dark corner of the mouth; a weaker step nearby wins
// over a stronger one far away.
func (m *mouth) strongestStep(f *Frame, u, base, side float64) (at, strength float64) {
	luma, red := f.luma(), f.planes()[2]
	read := func(p plane, v float64) float64 {
		q := m.global(u, v)
		return float64(p.sampleLuma(float32(q.X), float32(q.Y)))
	}
	// Teeth are lighter than lips, the corners of the mouth darker.
	lighter := mix(.12, -.25, smooth(.55, .75, math.Abs(u/m.half)))
	reach := .16 * m.half
	at = base
	for v := base - reach; v <= base+reach; v += .5 {
		step := 0.0
		for _, d := range [2]float64{1.5 * side, 3.75 * side} {
			step += read(red, v+d) - read(red, v-d)
			step += lighter * (read(luma, v-d) - read(luma, v+d))
		}
		far := (v - base) / reach
		if step *= 1 - .6*far*far; step > strength {
			at, strength = v, step
		}
	}
	return at, strength
}

// pickColours takes the mouth's inside from the photo's own light.
func (m *mouth) pickColours(f *Frame, p *[68]Point) {
	cheek := f.at(centroid(p[30], p[4])).mix(f.at(centroid(p[30], p[12])), .5)
	lip := f.at(m.global(0, m.lower.at(0)+.14*m.half))
	seam := f.at(m.global(0, m.upper.at(0)))
	if m.gap > 0 {
		seam = lip.darker(.6)
	}
	m.dark = seam.mix(lip, .5).darker(.2).vivid(2.2)
	m.tooth = colour{min(235, 16+(cheek[0]-16)*1.12), 128 + (cheek[1]-128)*.6, 128 + (cheek[2]-128)*.4}
	m.tongue = lip.mix(cheek, .2).darker(.66).vivid(1.7)
}

// poly is a polynomial, lowest power first, held constant beyond ±1.
type poly []float64

func (p poly) at(x float64) float64 {
	x = clamp(x, -1, 1)
	y := 0.0
	for i := len(p) - 1; i >= 0; i-- {
		y = y*x + p[i]
	}
	return y
}

// leastSquares collects weighted points for a polynomial fit.
type leastSquares struct{ x, y, w []float64 }

func (l *leastSquares) add(x, y, w float64) {
	l.x, l.y, l.w = append(l.x, x), append(l.y, y), append(l.w, w)
}

// solve fits a polynomial of the degree by the normal equations, with a trace
// of ridge so that few or equal points still have an answer.
func (l *leastSquares) solve(degree int) poly {
	n := degree + 1
	a := make([][]float64, n)
	for i := range a {
		a[i] = make([]float64, n+1)
		a[i][i] = 1e-6
	}
	for k, x := range l.x {
		for i := range n {
			xi := math.Pow(x, float64(i)) * l.w[k]
			for j := range n {
				a[i][j] += xi * math.Pow(x, float64(j))
			}
			a[i][n] += xi * l.y[k]
		}
	}
	// The matrix is symmetric and positive definite: no pivoting is needed.
	for i := range n {
		for j := range n {
			if i == j {
				continue
			}
			factor := a[j][i] / a[i][i]
			for k := i; k <= n; k++ {
				a[j][k] -= factor * a[i][k]
			}
		}
	}
	out := make(poly, n)
	for i := range n {
		out[i] = a[i][n] / a[i][i]
	}
	return out
}
