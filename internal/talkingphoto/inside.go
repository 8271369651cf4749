package talkingphoto

// This file paints what lips uncover: the photo's own teeth where it shows
// any, otherwise drawn ones, the tongue, and the dark behind them.

import "math"

// toothGaps are the places between teeth, over half the mouth's width.
var toothGaps = [...]float32{0, .31, .54, .74}

// inside is the colour of a pixel in the open mouth. us is the photo's column
// that the lips at this place come from; teeth do not follow the lips, so they
// are read from the pixel's own column.
func (k *lips) inside(px *lipPixel, us float32, p *pose, photo *Frame) colour {
	col := k.column(us)
	up, low := p.upper[col], p.low[col]
	gap := low - up
	v := px.v - p.drop*px.corner
	half := float32(k.half)
	x := us / half
	c := k.dark
	c = k.paintTongue(c, x, v, low, gap, p)
	c = k.paintLowerTeeth(c, x, low-v, gap, p)
	if k.gap > 0 {
		c = k.photoTeeth(c, px, us, photo)
	} else {
		c = k.drawnTeeth(c, x, v, col, p)
	}
	// The upper lip and the cheeks throw a shadow into the mouth; a photo's
	// teeth carry their own.
	var shade float32
	if k.gap == 0 {
		shade = .72 + .28*fsmooth(0, .12*half, v-up)
		shade *= 1 - .35*fsmooth(.45, 1, absf(x))
	} else {
		hidden := float32(.45*(1-p.teeth) + .2*math.Max(0, -p.wide))
		shade = 1 - (.2*(1-fsmooth(0, .07*half, v-up))+.38*hidden)*float32(1-p.rest)
	}
	return c.darker(shade)
}

// photoTeeth reads the photo between its own lips; below its teeth the drawn
// mouth shows.
func (k *lips) photoTeeth(c colour, px *lipPixel, us float32, photo *Frame) colour {
	// Where the mouth narrows, teeth stay put; where it widens, the photo has
	// none farther out, so they stretch.
	u := us
	if absf(px.u) < absf(us) {
		u = px.u
	}
	col := k.column(u)
	top, bottom := k.upper0[col]+.6, k.lower0[col]-.4
	if bottom <= top {
		return c
	}
	edge := max(0, min(1, (bottom-px.v)/1.6+.5))
	if edge == 0 {
		return c
	}
	q := k.global(float64(u), float64(max(top, min(px.v, bottom))))
	return c.mix(photo.at(q), edge)
}

// drawnTeeth is an upper row that hangs still in the head while lips move.
func (k *lips) drawnTeeth(c colour, x, v float32, col int, p *pose) colour {
	if p.teeth <= 0 {
		return c
	}
	half := float32(k.half)
	edge := k.centre[col] + half*(.10+.07*float32(p.teeth))*(1-.35*x*x)
	shown := fsmooth(0, .45, float32(p.teeth)) * max(0, min(1, (edge-v)/1.6+.5)) * (1 - fsmooth(.62, .95, absf(x)))
	if shown <= 0 {
		return c
	}
	tooth := k.tooth.darker(1 - .34*x*x)
	for _, g := range toothGaps {
		tooth = tooth.darker(1 - .16*(1-fsmooth(0, .035, absf(absf(x)-g))))
	}
	return c.mix(tooth, shown)
}

// paintLowerTeeth shows the tips of the lower row in a wide open mouth.
func (k *lips) paintLowerTeeth(c colour, x, fromLip, gap float32, p *pose) colour {
	half := float32(k.half)
	open := fsmooth(.38*half, .62*half, gap)
	if open == 0 {
		return c
	}
	height := .09 * half * open * (1 - .5*x*x)
	shown := open * .7 * max(0, min(1, (height-fromLip)/1.6+.5)) * (1 - fsmooth(.4, .65, absf(x)))
	return c.mix(k.tooth.darker(.62), shown*max(.4, float32(p.teeth)))
}

// paintTongue lays a mound on the floor of the mouth; for th and l it rises to
// the teeth.
func (k *lips) paintTongue(c colour, x, v, low, gap float32, p *pose) colour {
	raise := float32(p.tongue)
	if gap < 2 || gap < .2*float32(k.half) && raise < .2 {
		return c
	}
	height := gap * (.40 + .36*raise)
	width := .70 - .14*raise
	top := 1 - (x/width)*(x/width)
	if top <= 0 {
		return c
	}
	d := (low - v) / (height * float32(math.Sqrt(float64(top)))) // 0 at the lip, 1 at the mound's edge
	shown := (1 - fsmooth(.45, 1.05, d)) * (.8 + .2*raise) * fsmooth(0, .4, top)
	light := .50 + .35*raise + .38*fsmooth(0, .6, d)
	return c.mix(k.tongue.darker(light), shown)
}

func absf(x float32) float32 { return max(x, -x) }

// fsmooth is smooth for single precision.
func fsmooth(a, b, x float32) float32 {
	x = max(0, min(1, (x-a)/(b-a)))
	return x * x * (3 - 2*x)
}
