// The timing of a whole speech, put together sentence by sentence.

package gpu

// join appends what was said to all: its sound without the silence around it, its
// phones and words at their new times, and the pause after it.
func (t *timing) join(all *wave, part *take, pause float64) {
	if !part.heard() {
		return
	}
	from := max(0, part.from-breath)
	to := min(part.sound.seconds(), part.to+breath)
	shift := all.seconds() - from
	all.samples = append(all.samples, part.sound.cut(from, to)...)
	all.pad(pause - 2*breath)
	if part.wordSource != wordsAligned && t.WordSource != wordsEstimated {
		t.WordSource = part.wordSource
	}
	for _, w := range part.words {
		t.Words = append(t.Words, timedWord{w.Word, w.Start + shift, w.End + shift, w.Glued})
	}
	first, last := sounding(part.phones)
	if first < 0 {
		t.unphoned = true
		return
	}
	for _, p := range part.phones[first : last+1] {
		t.silenceUntil(p.Start + shift)
		t.Phones = append(t.Phones, phone{p.Symbol, p.Start + shift, p.End + shift})
	}
}

// sounding are the indices of the first and the last phone that is heard, or -1.
func sounding(phones []phone) (first, last int) {
	first, last = -1, -1
	for i, p := range phones {
		if p.Symbol != silence {
			if first < 0 {
				first = i
			}
			last = i
		}
	}
	return first, last
}

// silenceUntil fills the time since the last phone with a pause.
func (t *timing) silenceUntil(at float64) {
	end := 0.0
	if n := len(t.Phones); n > 0 {
		end = t.Phones[n-1].End
	}
	if at > end+1e-4 {
		t.Phones = append(t.Phones, phone{silence, end, at})
	}
}

// finish closes the timing at the sound's end and rounds to whole milliseconds. Phones
// that are known for a part alone are left out: a mouth that follows the loudness is
// better than one that is shut while somebody speaks.
func (t *timing) finish(seconds float64) {
	t.silenceUntil(seconds)
	if t.unphoned {
		t.Phones = nil
	}
	round := func(v float64) float64 { return float64(int64(min(v, seconds)*1000+0.5)) / 1000 }
	t.Duration = round(seconds)
	for i, w := range t.Words {
		t.Words[i].Start, t.Words[i].End = round(w.Start), round(w.End)
	}
	for i, p := range t.Phones {
		t.Phones[i].Start, t.Phones[i].End = round(p.Start), round(p.End)
	}
}
