package talkingphoto

// This file moves the lips and the jaw: an inverse warp of the mouth's region,
// from tables made once for the photo and small tables made for each frame.

import (
	"image"
	"math"
)

// Per-column tables run over u in quarters of a pixel, per-distance tables
// over half pixels.
const (
	columnsPerPixel  = 4
	distancePerPixel = 2
)

// lips warps one photo's mouth.
type lips struct {
	*mouth
	regions [2]region // luma and chroma positions
	smile   float64   // 0 closed photo, 1 broad smile with teeth

	reach    float64   // columns cover -reach…reach
	upper0   []float32 // the photo's inner lip edges by column
	lower0   []float32
	centre   []float32 // where the lips meet
	profile  []float32 // of an opening: 1 in the middle, 0 in the corners
	jaw      []float32 // how far a column follows the jaw
	fadeUp   []float32 // by distance above the upper lip: 1 → 0
	fadeDown []float32 // by distance below the lower lip: 0 lip → 1 jaw
}

// region is the part of a plane that speech may change, with what never
// changes about its pixels.
type region struct {
	step   int
	rows   []span
	pixels []lipPixel
}

// span is a run of pixels in one row of a plane; at is its first pixel's index
// in the region.
type span struct{ y, x0, x1, at int }

// lipPixel is a position in mouth coordinates with its share in each movement.
type lipPixel struct {
	u, v   float32
	wide   float32 // in spreading and rounding
	corner float32 // in the lowering of a smile's corners
	neck   float32 // in the jaw's movement, by height alone
}

func newLips(f *Frame, l Landmarks) *lips {
	k := &lips{mouth: measureMouth(f, l)}
	k.smile = clamp(k.gap/(.25*k.half), 0, 1)
	k.reach = 1.3 * math.Max(k.jawL, k.jawR)
	k.makeColumns()
	room := k.lower.at(0) - k.nose
	for d := range int(distancePerPixel * 3 * k.chin) {
		q := float64(d) / distancePerPixel
		k.fadeUp = append(k.fadeUp, float32(1-smooth(0, .95*room, q)))
		k.fadeDown = append(k.fadeDown, float32(smooth(0, .6*(k.chin-k.lower.at(0)), q)))
	}
	for i, step := range []int{1, 2} {
		k.regions[i] = k.makeRegion(f, step)
	}
	return k
}

func (k *lips) makeColumns() {
	n := int(2*k.reach*columnsPerPixel) + 2
	k.upper0, k.lower0, k.centre = make([]float32, n), make([]float32, n), make([]float32, n)
	k.profile, k.jaw = make([]float32, n), make([]float32, n)
	for i := range n {
		u := float64(i)/columnsPerPixel - k.reach
		x := u / k.half
		up, low := k.upper.at(x), k.lower.at(x)
		if up > low || math.Abs(x) >= 1 {
			up = (up + low) / 2
			low = up
		}
		k.upper0[i], k.lower0[i] = float32(up), float32(low)
		k.centre[i] = float32(mix(up, low, .45))
		k.profile[i] = float32(math.Pow(clamp(1-x*x, 0, 1), .9))
		side := k.jawR
		if u < 0 {
			side = k.jawL
		}
		k.jaw[i] = float32(1 - smooth(.45*side, 1.05*side, math.Abs(u)))
	}
}

// makeRegion lists the pixels of a plane that any movement reaches.
func (k *lips) makeRegion(f *Frame, step int) region {
	top, bottom := -1.6*k.half, k.chin*1.75
	side := math.Max(k.jawL, k.jawR) * 1.06
	b := boxAround(k.global(-side, top), k.global(side, top), k.global(-side, bottom), k.global(side, bottom))
	r := image.Rect(int(b.X), int(b.Y), int(b.X+b.W)+2, int(b.Y+b.H)+2).Intersect(image.Rect(0, 0, f.W, f.H))
	out := region{step: step}
	for y := r.Min.Y / step; y < r.Max.Y/step; y++ {
		s := span{y: y, x0: -1, at: len(out.pixels)}
		for x := r.Min.X / step; x < r.Max.X/step; x++ {
			centre := float64(step-1) / 2
			u, v := k.local(Point{float64(x*step) + centre, float64(y*step) + centre})
			if v < top || v > bottom || math.Abs(u) > side {
				if s.x0 >= 0 {
					break
				}
				continue
			}
			if s.x0 < 0 {
				s.x0 = x
			}
			s.x1 = x + 1
			out.pixels = append(out.pixels, k.pixel(u, v))
		}
		if s.x0 >= 0 {
			out.rows = append(out.rows, s)
		}
	}
	return out
}

func (k *lips) pixel(u, v float64) lipPixel {
	x := math.Abs(u / k.half)
	return lipPixel{
		u: float32(u), v: float32(v),
		wide:   float32(1 - smooth(.7*k.half, 1.9*k.half, math.Hypot(u, 1.2*v))),
		corner: float32(smooth(.3, .95, x) * (1 - smooth(1.05, 1.75, x)) * (1 - smooth(.1*k.half, .9*k.half, math.Abs(v)))),
		neck:   float32(1 - smooth(k.chin*1.02, k.chin*1.7, v)),
	}
}

// pose is everything about one frame that the pixels need.
type pose struct {
	shape
	squeeze    float32 // source u = u·(1 + squeeze·wide)
	drop       float32 // of the corners, pixels
	jawDrop    float32 // pixels
	thin       float32 // lips thinner (>0) or fuller (<0)
	thinLower  float32 // the same for the lower lip alone, on top
	lipReach   float32 // height of the lips that thin applies to
	upper, low []float32
	gap        float64 // pixels between the lips, at the middle
}

// pose lays the lip edges for a shape.
func (k *lips) pose(s shape, upper, low []float32) pose {
	p := pose{shape: s, upper: upper, low: low, lipReach: float32(.34 * k.half)}
	speaking := 1 - s.rest
	width := 1 + .13*math.Max(0, s.wide) + .22*math.Min(0, s.wide) - k.smile*speaking*.06 - .07*s.open
	p.squeeze = float32(1/width - 1)
	p.drop = float32(k.half * k.smile * (speaking*(.05+.10*s.open) + .06*math.Max(0, -s.wide)))
	p.gap = s.open * k.maxGap
	tuck := s.tuck * .10 * k.half
	for i, c := range k.centre {
		open := float32(p.gap) * k.profile[i]
		// Rounded lips come down over a smile's teeth.
		c += float32(.35*k.smile*math.Max(0, -s.wide)) * (k.lower0[i] - k.upper0[i])
		up := c - .22*open
		if k.gap > 0 { // above its smile the photo has no teeth to show
			up = max(up, k.upper0[i])
		}
		down := up + open - float32(tuck)*k.profile[i]*.4
		if down < up {
			down = up
		}
		rest := float32(s.rest)
		upper[i] = up + (k.upper0[i]-up)*rest
		low[i] = down + (k.lower0[i]-down)*rest
	}
	mid := len(low) / 2
	p.jawDrop = .8 * max(0, low[mid]-k.lower0[mid])
	p.thin = float32(.42*s.press - .22*math.Max(0, -s.wide)*speaking)
	p.thinLower = float32(.35 * s.tuck)
	return p
}

// draw warps the photo's mouth into out for a pose; outside the region out is
// left as it is.
func (k *lips) draw(photo, out *Frame, p *pose) {
	src, dst := photo.planes(), out.planes()
	luma, chroma := &k.regions[0], &k.regions[1]
	n := len(luma.rows)
	// The chroma's rows follow the luma's, so that no processor waits between the two.
	parallelRows(n+len(chroma.rows), func(from, to int) {
		for i := from; i < to; i++ {
			if i < n {
				k.drawRow(luma, luma.rows[i], src[:1], dst[:1], 0, p, photo)
			} else {
				k.drawRow(chroma, chroma.rows[i-n], src[1:], dst[1:], 1, p, photo)
			}
		}
	})
}

// drawRow draws one run of pixels in planes that share their positions;
// channel is the first plane's component.
func (k *lips) drawRow(r *region, s span, src, dst []plane, channel int, p *pose, photo *Frame) {
	ax, ay := float32(k.ax), float32(k.ay)
	ox, oy := float32(k.origin.X), float32(k.origin.Y)
	inv := 1 / float32(r.step)
	shift := float32(r.step-1) / 2
	soft := .6 * float32(r.step)
	row := s.y * dst[0].w
	for x := s.x0; x < s.x1; x++ {
		px := &r.pixels[s.at+x-s.x0]
		us, sv, cover := k.source(px, p, soft)
		fx, fy := (ox+us*ax-sv*ay-shift)*inv, (oy+us*ay+sv*ax-shift)*inv
		if cover <= 0 {
			for i := range src {
				dst[i].pix[row+x] = byte(src[i].sample(fx, fy) + .5)
			}
			continue
		}
		paint := k.inside(px, us, p, photo)
		for i := range src {
			lip := src[i].sample(fx, fy)
			dst[i].pix[row+x] = byte(lip + (paint[channel+i]-lip)*cover + .5)
		}
	}
}

// source tells where in the photo, in mouth coordinates, a pixel's skin comes
// from, and how much of the pixel shows the inside of the mouth instead. The
// movements fade with the distance in the finished frame, which makes the
// inverse exact and free of iteration.
func (k *lips) source(px *lipPixel, p *pose, soft float32) (u, v, inside float32) {
	us := px.u * (1 + p.squeeze*px.wide)
	vs := px.v - p.drop*px.corner
	col := k.column(us)
	up, low := p.upper[col], p.low[col]
	prof := k.profile[col]
	above, below := up-vs, vs-low // both negative inside the mouth
	if above > below {
		d := max(0, above)
		sv := vs - (up-k.upper0[col])*at(k.fadeUp, d) - thinner(d, p.thin*prof, p.lipReach)
		if above < 0 {
			sv = k.upper0[col]
		}
		return us, sv, coverage(-above, low-up, soft)
	}
	d := max(0, below)
	t := at(k.fadeDown, d)
	moved := (low-k.lower0[col])*(1-t) + p.jawDrop*k.jaw[col]*t*px.neck
	if down := low - k.lower0[col]; down < 0 {
		// A lip that rises takes the chin's skin along, but not the neck's.
		moved = down*(1-t) + p.jawDrop*k.jaw[col]*t*px.neck
	}
	sv := vs - moved + thinner(d, (p.thin+p.thinLower)*prof, p.lipReach)
	if below < 0 {
		sv = k.lower0[col]
	}
	return us, sv, coverage(-below, low-up, soft)
}

// thinner is how much farther from the lips' edge a pixel reads when the lips
// are thinned by t.
func thinner(d, t, reach float32) float32 {
	if d >= reach {
		return 0
	}
	return d * t * (1 - d/reach)
}

// coverage is the share of a pixel that lies inside a gap, a depth from its
// edge.
func coverage(depth, gap, soft float32) float32 {
	if gap <= 0 {
		return 0
	}
	c := depth/(2*soft) + .5
	// A gap narrower than a pixel covers only that much of it.
	return max(0, min(1, c)) * min(1, gap/(1.5*soft))
}

func (k *lips) column(u float32) int {
	i := int((u + float32(k.reach)) * columnsPerPixel)
	return max(0, min(i, len(k.centre)-1))
}

func at(table []float32, d float32) float32 {
	return table[min(int(d*distancePerPixel), len(table)-1)]
}
