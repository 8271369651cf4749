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
						at := (sy*x.w + sx) * ci
						accumulate(out, x.data[at:at+ci], f.data[(i*kw+j)*ci*co:])
					}
				}
			}
		}
	})
	return o
}

// accumulate adds in · f to out, where f is a row-major [len(in), len(out)]
// matrix. Inputs after a ReLU are often zero, hence the early continue.
func accumulate(out, in, f []float32) {
	n := len(out)
	for c, v := range in {
		if v == 0 {
			continue
		}
		fr := f[c*n : c*n+n]
		k := 0
		for ; k+4 <= n; k += 4 {
			a, b := out[k:k+4:k+4], fr[k:k+4:k+4]
			a[0] += v * b[0]
			a[1] += v * b[1]
			a[2] += v * b[2]
			a[3] += v * b[3]
		}
		for ; k < n; k++ {
			out[k] += v * fr[k]
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

// leaky multiplies negative values by slope, in place; slope 0 is a plain ReLU.
func leaky(x tensor, slope float32) tensor {
	for i, v := range x.data {
		if v < 0 {
			x.data[i] = v * slope
		}
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
