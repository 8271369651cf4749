// When a voice says what, for voices that do not tell: the built-in voice says the
// same and tells, and the two sounds are laid over one another (dynamic time
// warping of their cepstra; Sakoe and Chiba, 1978).

package gpu

import (
	"context"
	"errors"
	"math"
	"os/exec"
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// aligner places words and phones by the built-in voice.
type aligner struct{ flite string }

// place gives the take its words and phones where the voice did not. What the
// built-in voice cannot read, or a machine without it, gets words by their length
// and no phones. speed is the voice's, so that both are about as long.
func (al *aligner) place(ctx context.Context, dir string, s utterance, speed float64, t *take) error {
	if !t.heard() {
		return nil
	}
	words, phones, err := al.compare(ctx, dir, s, speed, t)
	if err != nil {
		return err
	}
	source := wordsAligned
	if words == nil {
		words, source = estimateWords(s.words, stretches(t)), wordsEstimated
	}
	if t.words == nil {
		t.words, t.wordSource = words, source
	}
	t.phones = phones
	return nil
}

// stretches are the parts of the take in which something is said, as phones
// without a name.
func stretches(t *take) []phone {
	var out []phone
	for _, v := range voicedSpans(t.sound) {
		p := phone{"?", max(t.from, float64(v.from)/float64(t.sound.rate)), min(t.to, float64(v.to)/float64(t.sound.rate))}
		if p.End > p.Start {
			out = append(out, p)
		}
	}
	return out
}

// compare lays the built-in voice's sound over the take; nil words mean that it
// cannot say the sentence, or not tell its words apart.
func (al *aligner) compare(ctx context.Context, dir string, s utterance, speed float64, t *take) ([]timedWord, []phone, error) {
	plain, shown := inPlainLetters(s)
	if len(plain.words) == 0 {
		return nil, nil, nil
	}
	if _, err := exec.LookPath(al.flite); err != nil {
		return nil, nil, nil
	}
	ref, err := (&fliteRun{path: al.flite, voice: "slt", stretch: 1 / speed, dir: dir}).say(ctx, plain)
	var te *TaskError
	if errors.As(err, &te) && te.Class == events.ClassEngineRejected {
		return nil, nil, nil // its trouble is not the voice's
	}
	if err != nil || !ref.heard() {
		return nil, nil, err
	}
	when, said := warp(ref, t), stretches(t)
	phones := make([]phone, 0, len(ref.phones))
	for _, p := range ref.phones {
		if p.Symbol != silence { // the take's own pauses lie between the phones
			start, end := outOfPauses(when(p.Start), when(p.End), said)
			phones = append(phones, phone{p.Symbol, start, end})
		}
	}
	if ref.wordSource != wordsAligned {
		return nil, phones, nil
	}
	words := make([]timedWord, len(s.words))
	at := t.from
	for i, j := range shown {
		if j < 0 { // unreadable: no time of its own
			words[i] = timedWord{s.words[i].shown, at, at, s.words[i].glued}
			continue
		}
		start, end := outOfPauses(when(ref.words[j].Start), when(ref.words[j].End), said)
		words[i] = timedWord{s.words[i].shown, start, end, s.words[i].glued}
		at = end
	}
	return words, phones, nil
}

// inPlainLetters is the sentence as the built-in voice reads it, and for each word of
// s its place in there, or -1. A sentence that it cannot mostly read has no words.
func inPlainLetters(s utterance) (utterance, []int) {
	var plain utterance
	places := make([]int, len(s.words))
	for i, w := range s.words {
		places[i] = -1
		if spoken := speakable(w.spoken); sayable(spoken) {
			places[i] = len(plain.words)
			plain.words = append(plain.words, spokenWord{w.shown, spoken, false})
		}
	}
	if 2*len(plain.words) < len(s.words) {
		return utterance{}, places
	}
	return plain, places
}

// warp maps times of ref to times of t, both between the first and the last sound.
// Pauses take no part, because voices make them in different places: a time of ref
// may come to lie in a pause of t.
func warp(ref, t *take) func(float64) float64 {
	a, atRef := features(ref.sound, stretches(ref))
	b, atOther := features(t.sound, stretches(t))
	to := alike(a, b)
	return func(at float64) float64 {
		switch {
		case at <= ref.from:
			return t.from
		case at >= ref.to:
			return t.to
		case len(to) == 0: // too short for a frame
			return t.from + (at-ref.from)/(ref.to-ref.from)*(t.to-t.from)
		}
		next, _ := slices.BinarySearch(atRef, at)
		i, j := max(0, next-1), min(next, len(to)-1)
		place := to[i]
		if j > i {
			place += (to[j] - to[i]) * (at - atRef[i]) / (atRef[j] - atRef[i])
		}
		k := int(place)
		l := min(k+1, len(atOther)-1)
		return atOther[k] + (atOther[l]-atOther[k])*(place-float64(k))
	}
}

// pauseEdge is how far, in seconds, a sound placed before or after a pause may
// reach over it by mistake: the width that stretches adds, and a little more.
const pauseEdge = 0.1

// outOfPauses moves a beginning that lies in a pause, or so shortly before it that the
// sound is on the other side, to the pause's end, and likewise an end to its beginning.
func outOfPauses(start, end float64, said []phone) (float64, float64) {
	for i := 1; i < len(said); i++ {
		from, to := said[i-1].End, said[i].Start
		switch {
		case start >= from && start < to, start >= from-pauseEdge && start < from && end > to+pauseEdge:
			start = to
		case end > from && end <= to, end > to && end <= to+pauseEdge && start < from-pauseEdge:
			end = from
		}
	}
	return start, max(start, end)
}

// Steps of the path into a pair of frames.
const (
	stepBoth = iota
	stepRef  // the reference goes on alone
	stepOther
)

// alike gives for each frame of ref the frame of other that sounds like it, rising
// and between two frames where several do; nil when either has none. Going on alone
// costs a little more, so that the path does not wander in steady sounds.
func alike(ref, other []feature) []float64 {
	n, m := len(ref), len(other)
	if n == 0 || m == 0 {
		return nil
	}
	steps := make([]uint8, n*m)
	before, now := make([]float32, m), make([]float32, m)
	for i := range n {
		for j := range m {
			d := distance(&ref[i], &other[j])
			best, step := float32(0), uint8(stepBoth)
			switch {
			case i == 0 && j == 0:
			case i == 0:
				best, step = now[j-1]+d*alone, stepOther
			case j == 0:
				best, step = before[0]+d*alone, stepRef
			default:
				best = before[j-1] + d
				if c := before[j] + d*alone; c < best {
					best, step = c, stepRef
				}
				if c := now[j-1] + d*alone; c < best {
					best, step = c, stepOther
				}
			}
			now[j], steps[i*m+j] = best, step
		}
		before, now = now, before
	}
	return follow(steps, n, m)
}

// alone is how much more a step costs that only one of the two takes.
const alone = 1.3

// follow walks the steps back and averages the frames of other for each of ref.
func follow(steps []uint8, n, m int) []float64 {
	sum, count := make([]float64, n), make([]float64, n)
	for i, j := n-1, m-1; ; {
		sum[i] += float64(j)
		count[i]++
		if i == 0 && j == 0 {
			break
		}
		switch steps[i*m+j] {
		case stepBoth:
			i, j = i-1, j-1
		case stepRef:
			i--
		default:
			j--
		}
	}
	for i := range sum {
		sum[i] /= count[i]
	}
	return sum
}

func distance(a, b *feature) float32 {
	var sum float32
	for c := range a {
		d := a[c] - b[c]
		sum += d * d
	}
	return float32(math.Sqrt(float64(sum)))
}
