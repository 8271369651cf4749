package talkingphoto

// This file turns phones, or loudness alone, into the mouth's shape at every
// moment.

import (
	"math"
	"slices"
)

const (
	// lead is how far lips run ahead of the sound; seconds.
	lead = 0.04
	// shortPause is the longest silence that a speaker's face does not relax in.
	shortPause = 0.35
	// minHold is how long lips stay closed for m, b and p: long enough for at
	// least one frame at 25 fps to show it.
	minHold = 0.044
	// relax is how long a face takes to come to rest, and to leave it.
	relax = 0.18
	// inertia spreads the jaw's movement; seconds to either side.
	inertia = 0.03
)

// key is a shape at a time in seconds.
type key struct {
	at float64
	shape
}

// track is a mouth's movement: keys in order of time, and the loudness of the
// speech that scales the opening.
type track struct {
	keys []key
	loud *Loudness
}

var resting = shape{rest: 1}

// newTrack plans the movement for phones; without phones the loudness alone
// opens the mouth.
func newTrack(phones []Phone, loud *Loudness) track {
	t := track{loud: loud}
	if !slices.ContainsFunc(phones, func(p Phone) bool { return len(soundsOf(p.Symbol)) > 0 }) {
		t.keys = loudnessKeys(loud)
		return t
	}
	t.keys = phoneKeys(phones)
	return t
}

// stretch is one sound with its time; silent stretches have no dominance and
// are marked.
type stretch struct {
	sound
	start, end float64
	silent     bool
}

func stretches(phones []Phone) []stretch {
	var out []stretch
	for _, p := range phones {
		sounds := soundsOf(p.Symbol)
		if len(sounds) == 0 {
			if n := len(out); n > 0 && out[n-1].silent {
				out[n-1].end = p.End
				continue
			}
			out = append(out, stretch{start: p.Start, end: p.End, silent: true})
			continue
		}
		d := (p.End - p.Start) / float64(len(sounds))
		for i, s := range sounds {
			out = append(out, stretch{sound: s, start: p.Start + d*float64(i), end: p.Start + d*float64(i+1)})
		}
	}
	return out
}

// phoneKeys lays the keys: one in the middle of most sounds, two around the
// closure of m, b, p, f and v, and a relaxed face in long silences.
func phoneKeys(phones []Phone) []key {
	ss := stretches(phones)
	coarticulate(ss)
	keys := []key{{math.Inf(-1), resting}}
	if len(ss) > 0 && !ss[0].silent {
		keys = append(keys, key{ss[0].start - relax, resting})
	}
	for i, s := range ss {
		mid, d := (s.start+s.end)/2, s.end-s.start
		switch {
		case s.silent:
			keys = append(keys, silenceKeys(s, i == 0, i == len(ss)-1)...)
		case s.press > .5 || s.tuck > .5:
			hold := math.Max(minHold, d*.5) / 2
			keys = append(keys, key{mid - hold, s.shape}, key{mid + hold, s.shape})
		case d > .16: // a long vowel is held, not passed through
			keys = append(keys, key{s.start + .06, s.shape}, key{s.end - .07, s.shape})
		default:
			keys = append(keys, key{mid, s.shape})
		}
	}
	if n := len(ss); n > 0 && !ss[n-1].silent {
		keys = append(keys, key{ss[n-1].end + relax, resting})
	}
	// A held closure reaches into short neighbours; it wins.
	slices.SortStableFunc(keys, func(a, b key) int { return sign(a.at - b.at) })
	return keys
}

func silenceKeys(s stretch, first, last bool) []key {
	d := s.end - s.start
	if d <= shortPause && !first && !last {
		if d < .05 {
			return nil
		}
		closed := shape{}
		return []key{{s.start + math.Min(.07, d/2), closed}, {s.end - math.Min(.05, d/2), closed}}
	}
	// Into rest and out of it the face takes its time, beyond the ends of the
	// recording if need be.
	var keys []key
	if !first {
		closed, rested := s.start+math.Min(.07, d/3), s.start+.07+relax
		if !last {
			rested = math.Min(rested, s.start+d/2)
		}
		keys = append(keys, key{closed, shape{}}, key{rested, resting})
	}
	if !last {
		waking := s.end - relax - .05
		if !first {
			waking = math.Max(waking, s.start+d/2)
		}
		keys = append(keys, key{waking, resting}, key{s.end - math.Min(.03, d/4), shape{open: .04}})
	}
	return keys
}

// coarticulate lets sounds without a shape of their own take lips and jaw from
// their neighbours.
func coarticulate(ss []stretch) {
	own := slices.Clone(ss)
	for i := range ss {
		if own[i].silent || own[i].dominance >= 1 {
			continue
		}
		var open, wide, weight float64
		for _, n := range [2]int{i - 1, i + 1} {
			if n < 0 || n >= len(own) || own[n].silent {
				continue
			}
			w := own[n].dominance
			if own[n].press > .5 { // closed lips say nothing about the jaw
				w *= .3
			}
			open += w * own[n].open
			wide += w * own[n].wide
			weight += w
		}
		if weight == 0 {
			continue
		}
		d := own[i].dominance
		ss[i].open = mix(open/weight, own[i].open, math.Sqrt(d))
		ss[i].wide = mix(wide/weight, own[i].wide, d)
	}
}

// loudnessKeys makes a mouth movement from loudness and hiss: the mouth opens
// with the syllables, which are the peaks within a quarter of a second, shows
// teeth on hiss, and its width drifts so that it does not look like a hinge.
func loudnessKeys(loud *Loudness) []key {
	const (
		step  = 4 // hundredths of a second between keys
		reach = 14
		quiet = .15
	)
	keys := []key{{math.Inf(-1), resting}}
	silence := relax
	for i := 0; i < loud.frames(); i += step {
		at := float64(i) / loudRate
		around := loud.level[max(0, i-reach):min(loud.frames(), i+reach+1)]
		lo, hi := slices.Min(around), slices.Max(around)
		l := average(loud.level[max(0, i-step/2):min(loud.frames(), i+step/2+1)])
		if l < quiet {
			s := shape{}
			if silence += step / loudRate; silence > shortPause {
				s = resting
			}
			keys = append(keys, key{at, s})
			continue
		}
		silence = 0
		peak := smooth(lo, math.Max(hi, lo+.12), l)
		hiss := loud.hiss[i]
		keys = append(keys, key{at, shape{
			open:  mix(l*l*(.22+.62*peak), .18, hiss),
			wide:  mix(.45*math.Sin(at*5.1)+.3*math.Sin(at*8.3+1), .25, hiss),
			teeth: mix(.5, 1, hiss),
		}})
	}
	end := float64(loud.frames()) / loudRate
	return append(keys, key{end, shape{}}, key{end + relax, resting})
}

// at is the shape that belongs on the screen at time t, the lead included.
// Jaw and cheeks are slower than lips: opening and width are averaged over the
// moments around t, but closed lips stay closed.
func (k track) at(t float64) shape {
	s := k.shapeAt(t + lead)
	before, after := k.shapeAt(t+lead-inertia), k.shapeAt(t+lead+inertia)
	s.open = (before.open + 2*s.open + after.open) / 4 * (1 - math.Max(s.press, s.rest))
	s.wide = (before.wide + 2*s.wide + after.wide) / 4
	if k.loud != nil && k.loud.frames() > 0 {
		s.open *= .72 + .36*k.loud.at(t+lead/2)
	}
	return s
}

// shapeAt blends the two keys around t along a cosine.
func (k track) shapeAt(t float64) shape {
	i, _ := slices.BinarySearchFunc(k.keys, t, func(q key, t float64) int {
		if q.at <= t {
			return -1
		}
		return 1
	})
	switch {
	case len(k.keys) == 0:
		return resting
	case i == 0:
		return k.keys[0].shape
	case i == len(k.keys):
		return k.keys[i-1].shape
	}
	a, b := k.keys[i-1], k.keys[i]
	d := b.at - a.at
	if d <= 0 || math.IsInf(d, 1) {
		return a.shape
	}
	return blend(a.shape, b.shape, (1-math.Cos((t-a.at)/d*math.Pi))/2)
}

func blend(a, b shape, x float64) shape {
	return shape{
		open: mix(a.open, b.open, x), wide: mix(a.wide, b.wide, x), press: mix(a.press, b.press, x), teeth: mix(a.teeth, b.teeth, x),
		tongue: mix(a.tongue, b.tongue, x), tuck: mix(a.tuck, b.tuck, x), rest: mix(a.rest, b.rest, x),
	}
}
