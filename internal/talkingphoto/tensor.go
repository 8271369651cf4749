package talkingphoto

// This file holds the few tensor operations that the two face networks need,
// written for small images on a CPU.

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// tensor is an image of float32 in height, width, channel order.
type tensor struct {
	h, w, c int
	data    []float32
}

func newTensor(h, w, c int) tensor {
	return tensor{h: h, w: w, c: c, data: make([]float32, h*w*c)}
}

func (t tensor) row(y int) []float32 { return t.data[y*t.w*t.c : (y+1)*t.w*t.c] }

// parallelRows calls work for disjoint ranges of [0, n) on all processors and
// returns when the whole range is done.
func parallelRows(n int, work func(from, to int)) {
	workers := min(runtime.GOMAXPROCS(0), n)
	if workers <= 1 {
		if n > 0 {
			work(0, n)
		}
		return
	}
	// Several chunks a worker, so that one slow core does not hold up the rest.
	chunk := max(1, n/(workers*4))
	var next atomic.Int64
	var wg sync.WaitGroup
	run := func() {
		for {
			from := int(next.Add(int64(chunk))) - chunk
			if from >= n {
				return
			}
			work(from, min(from+chunk, n))
		}
	}
	for range workers - 1 {
		wg.Go(run)
	}
	run()
	wg.Wait()
}

// samePadding returns the output length and the leading padding of TensorFlow's
// SAME rule for one axis.
func samePadding(in, kernel, stride int) (out, pad int) {
	out = (in + stride - 1) / stride
	return out, max(0, (out-1)*stride+kernel-in) / 2
}

// conv is a full convolution with SAME padding; the filter has the shape
// [kh, kw, in, out].
func conv(x tensor, f weight, bias []float32, stride int) tensor {
	kh, kw, ci, co := f.shape[0], f.shape[1], f.shape[2], f.shape[3]
	oh, ph := samePadding(x.h, kh, stride)
	ow, pw := samePadding(x.w, kw, stride)
	o := newTensor(oh, ow, co)
	parallelRows(oh, func(from, to int) {
		for y := from; y < to; y++ {
			row := o.row(y)
			for xx := range ow {
				out := row[xx*co : (xx+1)*co]
				copy(out, bias)
				// The part of the kernel's row that lies in the picture is one run of inputs.
				sx := xx*stride - pw
				from, to := max(0, -sx), min(kw, x.w-sx)
				for i := range kh {
					if sy := y*stride + i - ph; sy >= 0 && sy < x.h {
						at := (sy*x.w + sx) * ci
						accumulate(out, x.data[at+from*ci:at+to*ci], f.data[(i*kw+from)*ci*co:])
					}
				}
			}
		}
	})
	return o
}

// accumulate adds in · f to out, where f is a row-major [len(in), len(out)]
// matrix. Four rows at a time read and write out once for all four; the sums are taken
// in the order of the rows. Inputs after a ReLU are often zero, hence the early continue.
func accumulate(out, in, f []float32) {
	n := len(out)
	c := 0
	for ; c+4 <= len(in); c += 4 {
		v0, v1, v2, v3 := in[c], in[c+1], in[c+2], in[c+3]
		if v0 == 0 && v1 == 0 && v2 == 0 && v3 == 0 {
			continue
		}
		f0, f1, f2, f3 := f[c*n:][:n], f[(c+1)*n:][:n], f[(c+2)*n:][:n], f[(c+3)*n:][:n]
		for k := range n {
			out[k] = out[k] + v0*f0[k] + v1*f1[k] + v2*f2[k] + v3*f3[k]
		}
	}
	for ; c < len(in); c++ {
		if v := in[c]; v != 0 {
			for k, w := range f[c*n:][:n] {
				out[k] += v * w
			}
		}
	}
}

// depthwise convolves every channel with its own [kh, kw] filter, SAME padding.
func depthwise(x tensor, f weight, stride int) tensor {
	kh, kw, ci := f.shape[0], f.shape[1], f.shape[2]
	oh, ph := samePadding(x.h, kh, stride)
	ow, pw := samePadding(x.w, kw, stride)
	o := newTensor(oh, ow, ci)
	parallelRows(oh, func(from, to int) {
		for y := from; y < to; y++ {
			row := o.row(y)
			for xx := range ow {
				out := row[xx*ci : (xx+1)*ci]
				for i := range kh {
					sy := y*stride + i - ph
					if sy < 0 || sy >= x.h {
						continue
					}
					for j := range kw {
						sx := xx*stride + j - pw
						if sx < 0 || sx >= x.w {
							continue
						}
						in := x.data[(sy*x.w+sx)*ci:][:len(out)]
						fw := f.data[(i*kw+j)*ci:][:len(out)]
						for c := range out {
							out[c] += in[c] * fw[c]
						}
					}
				}
			}
		}
	})
	return o
}

// maxPool takes the maximum of 2×2 windows with SAME padding.
func maxPool(x tensor, stride int) tensor {
	oh, ow := (x.h+stride-1)/stride, (x.w+stride-1)/stride
	o := newTensor(oh, ow, x.c)
	for y := range oh {
		for xx := range ow {
			out := o.data[(y*ow+xx)*x.c:][:x.c]
			y0, x0 := y*stride, xx*stride
			copy(out, x.data[(y0*x.w+x0)*x.c:])
			for _, d := range [3][2]int{{0, 1}, {1, 0}, {1, 1}} {
				sy, sx := y0+d[0], x0+d[1]
				if sy >= x.h || sx >= x.w {
					continue
				}
				for c, v := range x.data[(sy*x.w+sx)*x.c:][:x.c] {
					out[c] = max(out[c], v)
				}
			}
		}
	}
	return o
}

// mean averages all positions of a tensor into one value a channel.
func mean(x tensor) []float32 {
	out := make([]float32, x.c)
	for at := 0; at < len(x.data); at += x.c {
		for c, v := range x.data[at : at+x.c] {
			out[c] += v
		}
	}
	for c := range out {
		out[c] /= float32(x.h * x.w)
	}
	return out
}

// leaky multiplies negative values by slope, which is below 1, in place; slope 0 is a plain ReLU.
func leaky(x tensor, slope float32) tensor {
	for i, v := range x.data {
		// The sign is chance: a branch would be guessed wrongly half of the time.
		x.data[i] = max(v, v*slope)
	}
	return x
}

// sum adds tensors of one shape into a new one.
func sum(ts ...tensor) tensor {
	o := newTensor(ts[0].h, ts[0].w, ts[0].c)
	for _, t := range ts {
		for i, v := range t.data {
			o.data[i] += v
		}
	}
	return o
}
