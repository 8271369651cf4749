// The sound of speech as a row of short descriptions, so that two voices that say
// the same can be compared: mel-frequency cepstra (Davis and Mermelstein, 1980).

package gpu

import "math"

const (
	frameStep   = 0.010 // seconds between two frames
	frameLength = 0.025 // seconds that a frame looks at
	cepstra     = 13    // coefficients of a frame; as many changes follow them
	melBands    = 26
	melLow      = 80.0   // Hz
	melHigh     = 6800.0 // Hz, below the half of the lowest rate that voices have here
)

// feature describes one frame: its cepstrum and how that changes.
type feature [2 * cepstra]float32

// features describes the parts of the sound in which something is said, a frame every
// 10 ms, with the time in seconds that each frame looks at. Each coefficient has mean 0
// and variance 1 over the frames, which takes away most of what is the speaker's and
// the microphone's.
func features(w *wave, said []phone) (out []feature, at []float64) {
	a := newAnalysis(w.rate)
	var raw [][cepstra]float64
	for _, p := range said {
		for t := p.Start + frameStep/2; t < p.End; t += frameStep {
			raw, at = append(raw, a.cepstrum(w.samples, int(t*float64(w.rate)))), append(at, t)
		}
	}
	standardize(raw)
	n := len(raw)
	out = make([]feature, n)
	for i := range out {
		near := func(d int) *[cepstra]float64 { return &raw[max(0, min(n-1, i+d))] }
		for c := range cepstra {
			out[i][c] = float32(raw[i][c])
			out[i][cepstra+c] = float32((near(1)[c] - near(-1)[c] + 2*(near(2)[c]-near(-2)[c])) / 4)
		}
	}
	return out, at
}

// standardize gives every coefficient mean 0 and variance 1 over the frames.
func standardize(frames [][cepstra]float64) {
	for c := range cepstra {
		var sum, squares float64
		for i := range frames {
			sum += frames[i][c]
			squares += frames[i][c] * frames[i][c]
		}
		n := float64(max(1, len(frames)))
		mean := sum / n
		scale := 1 / math.Sqrt(max(1e-9, squares/n-mean*mean))
		for i := range frames {
			frames[i][c] = (frames[i][c] - mean) * scale
		}
	}
}

// analysis holds what the frames of one sample rate share.
type analysis struct {
	window []float64
	size   int           // of the transform, a power of two
	bands  [][]bandShare // of the spectrum's lines
	cosine [cepstra][melBands]float64
	re, im []float64
}

// bandShare is how much of a line of the spectrum counts for a band.
type bandShare struct {
	line   int
	weight float64
}

func newAnalysis(rate int) *analysis {
	a := &analysis{window: make([]float64, int(frameLength*float64(rate))), size: 1}
	for i := range a.window {
		a.window[i] = 0.54 - 0.46*math.Cos(2*math.Pi*float64(i)/float64(len(a.window)-1))
	}
	for a.size < len(a.window) {
		a.size *= 2
	}
	a.re, a.im = make([]float64, a.size), make([]float64, a.size)
	mel := func(hz float64) float64 { return 1127 * math.Log(1+hz/700) }
	low, width := mel(melLow), (mel(melHigh)-mel(melLow))/(melBands+1)
	a.bands = make([][]bandShare, melBands)
	for line := 1; line < a.size/2; line++ {
		place := (mel(float64(line)*float64(rate)/float64(a.size)) - low) / width
		for b := range a.bands {
			if share := 1 - math.Abs(place-float64(b+1)); share > 0 {
				a.bands[b] = append(a.bands[b], bandShare{line, share})
			}
		}
	}
	for c := range a.cosine {
		for b := range melBands {
			a.cosine[c][b] = math.Cos(math.Pi * float64(c) * (float64(b) + 0.5) / melBands)
		}
	}
	return a
}

// cepstrum describes the frame around a sample.
func (a *analysis) cepstrum(samples []float32, centre int) [cepstra]float64 {
	clear(a.re)
	clear(a.im)
	start := centre - len(a.window)/2
	for i, w := range a.window {
		if at := start + i; at > 0 && at < len(samples) {
			a.re[i] = w * (float64(samples[at]) - 0.97*float64(samples[at-1])) // high sounds are weak
		}
	}
	fourier(a.re, a.im)
	var loud [melBands]float64
	for b, shares := range a.bands {
		power := 1e-7 // a floor, so that silence is like silence
		for _, s := range shares {
			power += s.weight * (a.re[s.line]*a.re[s.line] + a.im[s.line]*a.im[s.line])
		}
		loud[b] = math.Log(power)
	}
	var out [cepstra]float64
	for c := range out {
		for b, l := range loud {
			out[c] += a.cosine[c][b] * l
		}
	}
	return out
}

// fourier transforms in place (radix 2, decimation in time); the length is a power
// of two.
func fourier(re, im []float64) {
	n := len(re)
	for i, j := 1, 0; i < n; i++ {
		bit := n >> 1
		for ; j&bit != 0; bit >>= 1 {
			j ^= bit
		}
		if j ^= bit; i < j {
			re[i], re[j] = re[j], re[i]
			im[i], im[j] = im[j], im[i]
		}
	}
	for half := 1; half < n; half *= 2 {
		for k := range half {
			sin, cos := math.Sincos(-math.Pi * float64(k) / float64(half))
			for i := k; i < n; i += 2 * half {
				j := i + half
				r, m := re[j]*cos-im[j]*sin, re[j]*sin+im[j]*cos
				re[j], im[j] = re[i]-r, im[i]-m
				re[i], im[i] = re[i]+r, im[i]+m
			}
		}
	}
}
