// Lip-sync over a moving clip: its frames on disk, played forth and back, and
// the speaking face of one frame laid on all of them.

package gpu

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/talkingphoto"
)

// clipSpace bounds the raw frames on disk; what does not fit is replaced by
// playing the clip forth and back earlier.
const clipSpace = 2 << 30

// clipFrames is a clip as raw frames (planar YUV 4:2:0, BT.709) in a file, so
// that they can be read in any order without filling the memory.
type clipFrames struct {
	file              *os.File
	w, h, fps, frames int
}

// openClip decodes at most want frames of a clip into dir. The file is unlinked
// at once and freed when it is closed or the process ends.
func openClip(ctx context.Context, media *mediaTool, dir, path string, want int) (*clipFrames, error) {
	info, err := media.probe(ctx, path)
	if err != nil {
		return nil, err
	}
	v := info.Video
	if v == nil || v.Width < 64 || v.Height < 64 || v.Width*v.Height > maxPixels {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the clip holds no usable picture", Hint: "run the render stage again"}
	}
	c := &clipFrames{w: v.Width &^ 1, h: v.Height &^ 1, fps: int(math.Round(max(10, min(60, v.FPS))))}
	raw := filepath.Join(dir, "frames.yuv")
	want = max(1, min(want, clipSpace/c.size()))
	err = media.run(ctx, transcode{dir: dir, inputs: []mediaInput{{path: path}}, output: raw, timeout: 10 * time.Minute,
		args: []string{"-map", "0:v:0", "-vf", fmt.Sprintf("fps=%d,crop=%d:%d:0:0,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p", c.fps, c.w, c.h),
			"-frames:v", fmt.Sprint(want), "-f", "rawvideo"}})
	if err != nil {
		return nil, asInvalidInput(err, "the clip cannot be decoded", "run the render stage again")
	}
	if c.file, err = os.Open(raw); err != nil {
		return nil, fmt.Errorf("cannot read the clip's frames: %w", err)
	}
	st, err := c.file.Stat()
	if removeErr := os.Remove(raw); err == nil {
		err = removeErr
	}
	if err != nil {
		c.file.Close()
		return nil, fmt.Errorf("cannot read the clip's frames: %w", err)
	}
	if c.frames = int(st.Size()) / c.size(); c.frames == 0 {
		c.file.Close()
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the clip holds no picture", Hint: "run the render stage again"}
	}
	return c, nil
}

func (c *clipFrames) size() int { return c.w * c.h * 3 / 2 }

// index is the clip's frame that is shown at frame i: forth and back.
func (c *clipFrames) index(i int) int {
	if c.frames == 1 {
		return 0
	}
	period := 2 * (c.frames - 1)
	if i %= period; i >= c.frames {
		return period - i
	}
	return i
}

// read fills dst with the picture of frame i of the playback.
func (c *clipFrames) read(i int, dst *talkingphoto.Frame) error {
	if _, err := c.file.ReadAt(dst.Pix, int64(c.index(i))*int64(c.size())); err != nil {
		return fmt.Errorf("cannot read the clip's frames: %w", err)
	}
	return nil
}

// overClip has the face of a moving clip speak.
func (l *talkingPhoto) overClip(ctx context.Context, a *Attempt, t *talk, still bool) (*footage, []string, error) {
	in, err := a.oneFile("clip")
	if err != nil {
		return nil, nil, err
	}
	// The playback's rate is the clip's own; 60 is the most that it can be.
	clip, err := openClip(ctx, l.media, a.Dir, in.Path, t.framesFor(60))
	if err != nil {
		return nil, nil, err
	}
	f := &footage{w: clip.w, h: clip.h, fps: clip.fps, frames: t.framesFor(clip.fps), clip: clip}
	clip.frames = min(clip.frames, f.frames)
	notes, err := l.animate(ctx, a, t, f, still)
	if err != nil {
		clip.file.Close()
	}
	return f, notes, err
}

// animate finds and follows the clip's face and sets how its frames are drawn.
func (l *talkingPhoto) animate(ctx context.Context, a *Attempt, t *talk, f *footage, still bool) ([]string, error) {
	clip := f.clip
	a.report(10, "finding the face")
	face, err := findFace(ctx, t.model, clip)
	if err == nil {
		err = legible(face.marks.Eyes() * min(1, mouthWidth/float64(min(clip.w, clip.h))))
	}
	if why := absence(err); why != "" && still {
		f.draw = clip.read
		return []string{why + ": the clip is shown without mouth movement"}, nil
	}
	if err != nil {
		return nil, faceError(err)
	}
	moves, err := face.follow(ctx, t.model, clip, func(done float64) { a.report(10+20*done, "following the face") })
	if err != nil {
		return nil, faceError(err)
	}
	mouth, err := newOverlay(face, t, moves.rigid, int64(a.number("seed", 0)))
	if err != nil {
		return nil, faceError(err)
	}
	f.draw = func(i int, dst *talkingphoto.Frame) error {
		if err := clip.read(i, dst); err != nil {
			return err
		}
		return mouth.draw(dst, float64(i)/float64(f.fps), moves.pose[clip.index(i)])
	}
	notes := []string{"a preview: the lips of the moving picture are drawn from one of its frames"}
	if moves.lost > 0 {
		notes = append(notes, fmt.Sprintf("the face could not be followed in %d of %d frames, where the mouth rests", moves.lost, clip.frames))
	}
	return notes, nil
}

// overlay draws the speaking face of the reference frame and lays it on others.
type overlay struct {
	animator *talkingphoto.Animator
	framing  talkingphoto.Framing // reference frame to animated crop
	crop     *talkingphoto.Frame  // the animated crop
	mask     []float32            // by pixel of the crop: 0 leaves the clip as it is
	area     [4]complex128        // corners of the crop in the reference frame
}

// newOverlay prepares the animation of the reference face. In a rigid clip,
// which is a still under a moving camera, the whole head may move; otherwise
// only the lower face is taken.
func newOverlay(face *reference, t *talk, rigid bool, seed int64) (*overlay, error) {
	picture := face.frame.RGBA()
	// The crop is as large as in the clip: nothing is gained by more pixels.
	framing, err := talkingphoto.FrameFace(picture.Rect, face.marks, 64, 64)
	if err != nil {
		return nil, err
	}
	side := max(64, framing.Crop.Dx()&^1)
	animator, err := talkingphoto.NewAnimator(talkingphoto.AnimatorOptions{Photo: picture, Landmarks: face.marks, W: side, H: side, Phones: t.phones, Sound: t.sound, Seed: seed})
	if err != nil {
		return nil, err
	}
	o := &overlay{animator: animator, framing: animator.Framing(), crop: talkingphoto.NewFrame(side, side)}
	if rigid {
		o.mask = edgeMask(side)
	} else {
		o.mask = lowerFaceMask(side, o.framing.Landmarks(face.marks))
	}
	r := o.framing.Crop
	x0, y0, x1, y1 := float64(r.Min.X), float64(r.Min.Y), float64(r.Max.X), float64(r.Max.Y)
	o.area = [4]complex128{complex(x0, y0), complex(x1, y0), complex(x0, y1), complex(x1, y1)}
	return o, nil
}

// edgeMask takes the whole crop and fades out at its edge.
func edgeMask(side int) []float32 {
	mask := make([]float32, side*side)
	fade := float64(side) * 0.08
	for y := range side {
		for x := range side {
			d := float64(min(x, y, side-1-x, side-1-y))
			mask[y*side+x] = float32(ramp(d / fade))
		}
	}
	return mask
}

// lowerFaceMask takes an ellipse from the nose to below the chin, soft at its
// edge.
func lowerFaceMask(side int, marks talkingphoto.Landmarks) []float32 {
	p := &marks.Points
	mid := func(i, j int) complex128 { return complex((p[i].X+p[j].X)/2, (p[i].Y+p[j].Y)/2) }
	nose, chin, mouth := complex(p[33].X, p[33].Y), complex(p[8].X, p[8].Y), mid(48, 54)
	down := chin - nose
	height := math.Hypot(real(down), imag(down))
	axis := down / complex(max(1, height), 0)
	bottom := mouth + (chin-mouth)*1.7
	centre := (nose + bottom) / 2
	tall := math.Hypot(real(bottom-nose), imag(bottom-nose)) / 2
	wide := 0.55 * math.Hypot(p[12].X-p[4].X, p[12].Y-p[4].Y)
	mask := make([]float32, side*side)
	for y := range side {
		for x := range side {
			q := (complex(float64(x), float64(y)) - centre) / axis // real: along the face, imaginary: across
			d := math.Hypot(real(q)/max(1, tall), imag(q)/max(1, wide))
			mask[y*side+x] = float32(ramp((1 - d) / 0.3))
		}
	}
	return mask
}

// ramp rises smoothly from 0 at 0 to 1 at 1.
func ramp(x float64) float64 {
	x = max(0, min(1, x))
	return x * x * (3 - 2*x)
}

// draw animates the face at t seconds and lays it on dst by the pose of dst's
// face.
func (o *overlay) draw(dst *talkingphoto.Frame, t float64, p pose) error {
	if p.lost {
		return nil
	}
	if err := o.animator.Frame(t, o.crop); err != nil {
		return err
	}
	lo, hi := complex(math.Inf(1), math.Inf(1)), complex(math.Inf(-1), math.Inf(-1))
	for _, corner := range o.area {
		at := p.apply(corner)
		lo = complex(min(real(lo), real(at)), min(imag(lo), imag(at)))
		hi = complex(max(real(hi), real(at)), max(imag(hi), imag(at)))
	}
	n, w, side := dst.W*dst.H, dst.W, o.crop.W
	m := side * side
	o.layer(dst.Pix[:n], w, dst.H, 1, o.crop.Pix[:m], p, lo, hi, p.brightness)
	for plane := range 2 {
		o.layer(dst.Pix[n+plane*n/4:][:n/4], w/2, dst.H/2, 2, o.crop.Pix[m+plane*m/4:][:m/4], p, lo, hi, 0)
	}
	return nil
}

// layer blends one plane of the crop into one plane of the frame. step is the
// plane's sampling distance in luma pixels.
func (o *overlay) layer(dst []byte, w, h, step int, src []byte, p pose, lo, hi complex128, brightness float64) {
	x0, x1 := max(0, int(real(lo))/step), min(w, int(real(hi))/step+2)
	y0, y1 := max(0, int(imag(lo))/step), min(h, int(imag(hi))/step+2)
	side := o.crop.W / step
	offset := (float64(step) - 1) / 2 // centre of a chroma sample in luma pixels
	inParallel(y0, y1, func(y int) {
		at := func(x int) talkingphoto.Point {
			q := p.invert(complex(float64(x*step)+offset, float64(y*step)+offset))
			return o.framing.Point(talkingphoto.Point{X: real(q), Y: imag(q)})
		}
		first, second := at(0), at(1)
		dx, dy := second.X-first.X, second.Y-first.Y
		for x := x0; x < x1; x++ {
			u, v := first.X+dx*float64(x), first.Y+dy*float64(x)
			mx, my := int(u+0.5), int(v+0.5)
			if mx < 0 || my < 0 || mx >= o.crop.W || my >= o.crop.W {
				continue
			}
			weight := o.mask[my*o.crop.W+mx]
			if weight == 0 {
				continue
			}
			value := bilinear(src, side, (u-offset)/float64(step), (v-offset)/float64(step)) + float32(brightness)
			i := y*w + x
			dst[i] = byte(max(0, min(255, float32(dst[i])+weight*(value-float32(dst[i]))+0.5)))
		}
	})
}

// bilinear samples a square plane between its pixels.
func bilinear(src []byte, side int, x, y float64) float32 {
	x, y = max(0, min(float64(side)-1.001, x)), max(0, min(float64(side)-1.001, y))
	xi, yi := int(x), int(y)
	fx, fy := float32(x-float64(xi)), float32(y-float64(yi))
	i := yi*side + xi
	top := float32(src[i]) + (float32(src[i+1])-float32(src[i]))*fx
	bottom := float32(src[i+side]) + (float32(src[i+side+1])-float32(src[i+side]))*fx
	return top + (bottom-top)*fy
}

// inParallel calls row for every y from y0 up to y1 on all processors.
func inParallel(y0, y1 int, row func(y int)) {
	var wg sync.WaitGroup
	workers := min(runtime.GOMAXPROCS(0), max(1, y1-y0))
	for k := range workers {
		wg.Go(func() {
			for y := y0 + k; y < y1; y += workers {
				row(y)
			}
		})
	}
	wg.Wait()
}
