// Following a face through a clip: registration of each frame against one
// reference frame by a shift, a turn and a scale.
//
// The method is the inverse compositional form of Lucas and Kanade (Baker and
// Matthews, "Lucas-Kanade 20 Years On", IJCV 2004). Points of the plane are
// complex numbers, so that a similarity is z → turn·z + shift. Registering every
// frame with the same reference keeps errors from adding up, and is steadier
// than landmarks, which tremble by pixels.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

const (
	trackWidth   = 80   // pixels of the face's width that registration works at
	trackGrid    = 40   // samples along each side of the face's upper part
	trackRounds  = 30   // of refinement for a frame
	trackGood    = 0.75 // correlation from which a frame counts as registered
	rigidGood    = 0.99 // correlation of the whole head in a clip of a still
	rigidReach   = 0.9  // of the head's box that is compared for that
	searchFrames = 4    // frames in which a face is looked for
)

// pose is where the reference's pixels are in another frame.
type pose struct {
	turn, shift complex128
	brightness  float64 // luma levels that the face is brighter by
	lost        bool
}

func (p pose) apply(z complex128) complex128  { return p.turn*z + p.shift }
func (p pose) invert(z complex128) complex128 { return (z - p.shift) / p.turn }

// reference is the frame whose face is animated.
type reference struct {
	index int
	frame *talkingphoto.Frame
	marks talkingphoto.Landmarks

	scale    int // source pixels for one pixel that registration works at
	points   []complex128
	values   []float64
	steepest [][4]float64 // derivative of each sample by turn (re, im) and shift (re, im)
	inverse  [4][4]float64
	head     []complex128 // points of the whole head, for rigid
	looks    []float64    // their values
}

// findFace looks for a face in some frames of the clip, from its start.
func findFace(ctx context.Context, model *talkingphoto.FaceModel, clip *clipFrames) (*reference, error) {
	for k := range min(searchFrames, clip.frames) {
		index := k * clip.frames / searchFrames
		frame := talkingphoto.NewFrame(clip.w, clip.h)
		if err := clip.read(index, frame); err != nil {
			return nil, err
		}
		marks, _, err := locate(ctx, model, frame.RGBA())
		if errors.Is(err, talkingphoto.ErrNoFace) {
			continue
		}
		if err != nil {
			return nil, err
		}
		r := &reference{index: index, frame: frame, marks: marks}
		return r, r.prepare()
	}
	return nil, talkingphoto.ErrNoFace
}

// prepare takes samples of the upper face, which speech leaves alone, and all
// that does not change from frame to frame.
func (r *reference) prepare() error {
	p := &r.marks.Points
	width := math.Hypot(p[16].X-p[0].X, p[16].Y-p[0].Y)
	r.scale = max(1, int(width/trackWidth))
	small := shrink(r.frame, r.scale)
	x0, y0, x1, y1 := bounds(p[17:48]) // brows, nose and eyes
	grow := (y1 - y0) * 0.4
	y0 -= grow
	var hessian [4][4]float64
	for j := range trackGrid {
		for i := range trackGrid {
			z := complex(x0+(x1-x0)*float64(i)/(trackGrid-1), y0+(y1-y0)*float64(j)/(trackGrid-1)) / complex(float64(r.scale), 0)
			value, inside := small.at(z)
			left, _ := small.at(z - 1)
			right, _ := small.at(z + 1)
			above, _ := small.at(z - 1i)
			below, _ := small.at(z + 1i)
			if !inside {
				continue
			}
			gx, gy := (right-left)/2, (below-above)/2
			x, y := real(z), imag(z)
			s := [4]float64{gx*x + gy*y, -gx*y + gy*x, gx, gy}
			for a := range s {
				for b := range s {
					hessian[a][b] += s[a] * s[b]
				}
			}
			r.points, r.values, r.steepest = append(r.points, z), append(r.values, value), append(r.steepest, s)
		}
	}
	inverse, ok := invert4(hessian)
	if !ok || len(r.points) < trackGrid*trackGrid/4 {
		return talkingphoto.ErrNoFace // no structure to hold on to
	}
	r.inverse = inverse
	hx0, hy0, hx1, hy1 := bounds(p[:])
	cx, cy, reach := (hx0+hx1)/2, (hy0+hy1)/2, rigidReach*max(hx1-hx0, hy1-hy0)
	for j := range trackGrid {
		for i := range trackGrid {
			z := complex(cx+reach*(float64(2*i)/(trackGrid-1)-1), cy+reach*(float64(2*j)/(trackGrid-1)-1)) / complex(float64(r.scale), 0)
			if v, inside := small.at(z); inside {
				r.head, r.looks = append(r.head, z), append(r.looks, v)
			}
		}
	}
	return nil
}

// movement is where the face is in each frame of a clip.
type movement struct {
	pose  []pose
	lost  int  // frames without it
	rigid bool // the whole head and what is around it moves as one
}

// follow registers all frames, from the reference on in both directions.
func (r *reference) follow(ctx context.Context, model *talkingphoto.FaceModel, clip *clipFrames, progress func(float64)) (*movement, error) {
	m := &movement{pose: make([]pose, clip.frames), rigid: true}
	frame := talkingphoto.NewFrame(clip.w, clip.h)
	done := 0
	walk := func(from, to, step int) error {
		last := pose{turn: 1}
		for i := from; i != to; i += step {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("following the face was stopped: %w", err)
			}
			if err := clip.read(i, frame); err != nil {
				return err
			}
			found, rigid := r.find(ctx, model, frame, last)
			m.pose[i] = found
			if found.lost {
				m.lost++
			} else {
				last = found
				m.rigid = m.rigid && rigid
			}
			done++
			progress(float64(done) / float64(clip.frames))
		}
		return nil
	}
	if err := walk(r.index, clip.frames, 1); err != nil {
		return nil, err
	}
	if err := walk(r.index-1, -1, -1); err != nil {
		return nil, err
	}
	m.steady()
	return m, nil
}

// find registers one frame from a first guess; when that fails, from where the
// networks see the face.
func (r *reference) find(ctx context.Context, model *talkingphoto.FaceModel, frame *talkingphoto.Frame, guess pose) (pose, bool) {
	small := shrink(frame, r.scale)
	found, fit := r.register(small, guess)
	if fit < trackGood {
		marks, _, err := locate(ctx, model, frame.RGBA())
		if err != nil {
			return pose{turn: guess.turn, shift: guess.shift, lost: true}, false
		}
		if found, fit = r.register(small, r.between(marks)); fit < trackGood {
			return pose{turn: guess.turn, shift: guess.shift, lost: true}, false
		}
	}
	return found, r.resembles(small, found) >= rigidGood
}

// between is the similarity that takes the reference's eyes to other ones.
func (r *reference) between(marks talkingphoto.Landmarks) pose {
	eyes := func(m *talkingphoto.Landmarks) (a, b complex128) {
		for i := range 6 {
			a += complex(m.Points[36+i].X, m.Points[36+i].Y) / 6
			b += complex(m.Points[42+i].X, m.Points[42+i].Y) / 6
		}
		return a, b
	}
	a, b := eyes(&r.marks)
	c, d := eyes(&marks)
	turn := (d - c) / (b - a)
	return pose{turn: turn, shift: c - turn*a}
}

// register refines a pose and returns the correlation that it reaches.
func (r *reference) register(small *luma, guess pose) (pose, float64) {
	turn, shift := guess.turn, r.shrunk(guess)
	mean, spread := moments(r.values)
	seen := make([]float64, len(r.points))
	for range trackRounds {
		for i, z := range r.points {
			seen[i], _ = small.at(turn*z + shift)
		}
		m, s := moments(seen)
		gain := spread / max(1, s)
		var b, d [4]float64
		for i, v := range seen {
			e := (v-m)*gain + mean - r.values[i]
			for k, g := range r.steepest[i] {
				b[k] += g * e
			}
		}
		for i := range d {
			for j := range b {
				d[i] += r.inverse[i][j] * b[j]
			}
		}
		dTurn, dShift := complex(1+d[0], d[1]), complex(d[2], d[3])
		turn /= dTurn
		shift -= turn * dShift
		centre := r.points[len(r.points)/2]
		if moved := dTurn*centre + dShift - centre; math.Hypot(real(moved), imag(moved)) < 0.003 {
			break
		}
		if size := real(turn)*real(turn) + imag(turn)*imag(turn); !(size > 0.05 && size < 20) {
			return guess, 0
		}
	}
	for i, z := range r.points {
		seen[i], _ = small.at(turn*z + shift)
	}
	m, _ := moments(seen)
	k, o := complex(float64(r.scale), 0), r.offset()
	return pose{turn: turn, shift: shift*k + o - turn*o, brightness: m - mean}, correlation(r.values, seen)
}

// offset is the middle of the first shrunk pixel in the frame's pixels.
func (r *reference) offset() complex128 {
	o := float64(r.scale-1) / 2
	return complex(o, o)
}

// shrunk is a pose's shift between shrunk frames.
func (r *reference) shrunk(p pose) complex128 {
	return (p.shift + p.turn*r.offset() - r.offset()) / complex(float64(r.scale), 0)
}

// resembles compares the head and what is around it with a frame.
func (r *reference) resembles(small *luma, p pose) float64 {
	var a, b []float64
	shift := r.shrunk(p)
	for i, z := range r.head {
		if v, inside := small.at(p.turn*z + shift); inside {
			a, b = append(a, r.looks[i]), append(b, v)
		}
	}
	return correlation(a, b)
}

// steady averages poses lightly over three frames, against the last tremble.
func (m *movement) steady() {
	old := append([]pose(nil), m.pose...)
	for i := 1; i+1 < len(old); i++ {
		a, b, c := old[i-1], old[i], old[i+1]
		if a.lost || b.lost || c.lost {
			continue
		}
		m.pose[i].turn = (a.turn + 2*b.turn + c.turn) / 4
		m.pose[i].shift = (a.shift + 2*b.shift + c.shift) / 4
		m.pose[i].brightness = (a.brightness + 2*b.brightness + c.brightness) / 4
	}
}

// luma is a small grey picture.
type luma struct {
	w, h int
	pix  []float32
}

// shrink averages the frame's luma over blocks of scale×scale pixels.
func shrink(f *talkingphoto.Frame, scale int) *luma {
	out := &luma{w: f.W / scale, h: f.H / scale}
	out.pix = make([]float32, out.w*out.h)
	inParallel(0, out.h, func(y int) {
		for x := range out.w {
			total := 0
			for j := range scale {
				for _, v := range f.Pix[(y*scale+j)*f.W+x*scale:][:scale] {
					total += int(v)
				}
			}
			out.pix[y*out.w+x] = float32(total) / float32(scale*scale)
		}
	})
	return out
}

// at samples between pixels; outside it takes the border and says so.
func (l *luma) at(z complex128) (float64, bool) {
	x, y := real(z), imag(z)
	inside := x >= 0 && y >= 0 && x <= float64(l.w-1) && y <= float64(l.h-1)
	x, y = max(0, min(float64(l.w)-1.001, x)), max(0, min(float64(l.h)-1.001, y))
	if !(x >= 0 && y >= 0) { // not a number
		return 0, false
	}
	xi, yi := int(x), int(y)
	fx, fy := float32(x-float64(xi)), float32(y-float64(yi))
	i := yi*l.w + xi
	top := l.pix[i] + (l.pix[i+1]-l.pix[i])*fx
	bottom := l.pix[i+l.w] + (l.pix[i+l.w+1]-l.pix[i+l.w])*fx
	return float64(top + (bottom-top)*fy), inside
}

func bounds(points []talkingphoto.Point) (x0, y0, x1, y1 float64) {
	x0, y0, x1, y1 = points[0].X, points[0].Y, points[0].X, points[0].Y
	for _, p := range points {
		x0, y0, x1, y1 = min(x0, p.X), min(y0, p.Y), max(x1, p.X), max(y1, p.Y)
	}
	return x0, y0, x1, y1
}

func moments(v []float64) (mean, spread float64) {
	for _, x := range v {
		mean += x / float64(max(1, len(v)))
	}
	for _, x := range v {
		spread += (x - mean) * (x - mean) / float64(max(1, len(v)))
	}
	return mean, math.Sqrt(spread)
}

// correlation is Pearson's, 0 where one side is constant.
func correlation(a, b []float64) float64 {
	ma, sa := moments(a)
	mb, sb := moments(b)
	if sa < 1e-9 || sb < 1e-9 {
		return 0
	}
	total := 0.0
	for i := range a {
		total += (a[i] - ma) * (b[i] - mb)
	}
	return total / float64(len(a)) / sa / sb
}

// invert4 inverts a symmetric positive 4×4 matrix by elimination.
func invert4(m [4][4]float64) (out [4][4]float64, ok bool) {
	for i := range 4 {
		out[i][i] = 1
	}
	for c := range 4 {
		best := c
		for r := c + 1; r < 4; r++ {
			if math.Abs(m[r][c]) > math.Abs(m[best][c]) {
				best = r
			}
		}
		if math.Abs(m[best][c]) < 1e-6 {
			return out, false
		}
		m[c], m[best] = m[best], m[c]
		out[c], out[best] = out[best], out[c]
		pivot := m[c][c]
		for k := range 4 {
			m[c][k] /= pivot
			out[c][k] /= pivot
		}
		for r := range 4 {
			if factor := m[r][c]; r != c {
				for k := range 4 {
					m[r][k] -= factor * m[c][k]
					out[r][k] -= factor * out[c][k]
				}
			}
		}
	}
	return out, true
}
