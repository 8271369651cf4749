// How well speech is placed in time by comparison, measured where the truth is known.

package gpu

import (
	"context"
	"math"
	"math/cmplx"
	"slices"
	"testing"
)

func TestFourierIsTheTransform(t *testing.T) {
	t.Parallel()
	re, im := make([]float64, 64), make([]float64, 64)
	for i := range re {
		re[i], im[i] = math.Sin(float64(i*i)), math.Cos(float64(3*i))
	}
	want := make([]complex128, len(re))
	for k := range want {
		for i := range re {
			want[k] += complex(re[i], im[i]) * cmplx.Exp(complex(0, -2*math.Pi*float64(k*i)/float64(len(re))))
		}
	}
	fourier(re, im)
	for k := range want {
		if cmplx.Abs(want[k]-complex(re[k], im[k])) > 1e-9 {
			t.Errorf("line %d: %g, want %g", k, complex(re[k], im[k]), want[k])
		}
	}
}

var alignedTexts = []string{
	"Green tea is picked in spring, and it tastes fresh and a little sweet.",
	"Nobody knew why the old lighthouse keeper sang to the passing ships every single night.",
	"Well, if you ask me, the answer is simple: write it down, read it aloud, and throw half of it away.",
	"In the year nineteen sixty nine two people walked on the moon while everybody else watched.",
}

// TestAlignmentAgainstAVoiceThatTells has other voices of flite speak, which say
// themselves when their phones are heard, and places their speech without that.
// The published figures for known text are 24 to 40 ms.
func TestAlignmentAgainstAVoiceThatTells(t *testing.T) {
	t.Parallel()
	const bound = 0.060 // seconds
	for _, voice := range []string{"rms", "awb"} {
		var phones, words []float64
		for _, text := range alignedTexts {
			p, w := alignmentErrors(t, voice, text)
			phones, words = append(phones, p...), append(words, w...)
		}
		if len(phones) < 150 || len(words) < 60 {
			t.Fatalf("%s: only %d phones and %d words can be compared", voice, len(phones), len(words))
		}
		slices.Sort(phones)
		slices.Sort(words)
		t.Logf("%s: ends of %d phones: median %.0f ms, p90 %.0f ms; ends of %d words: median %.0f ms, p90 %.0f ms", voice,
			len(phones), 1000*phones[len(phones)/2], 1000*phones[len(phones)*9/10], len(words), 1000*words[len(words)/2], 1000*words[len(words)*9/10])
		if m := phones[len(phones)/2]; m > bound {
			t.Errorf("%s: the median error of a phone's end is %.0f ms", voice, 1000*m)
		}
		if m := words[len(words)/2]; m > bound {
			t.Errorf("%s: the median error of a word's end is %.0f ms", voice, 1000*m)
		}
	}
}

// alignmentErrors are the absolute errors in seconds of where phones and words end.
func alignmentErrors(t *testing.T, voice, text string) (phones, words []float64) {
	t.Helper()
	sentence, _ := splitNarration(text, speakable)
	truth, err := (&fliteRun{path: "flite", voice: voice, stretch: 1, dir: t.TempDir()}).say(context.Background(), sentence[0])
	if err != nil {
		t.Fatal(err)
	}
	blind := &take{sound: truth.sound}
	if err := (&aligner{flite: "flite"}).place(context.Background(), t.TempDir(), sentence[0], 1, blind); err != nil {
		t.Fatal(err)
	}
	if blind.wordSource != wordsAligned || len(blind.words) != len(truth.words) {
		t.Fatalf("words are %s, %d of %d", blind.wordSource, len(blind.words), len(truth.words))
	}
	for i, w := range truth.words {
		words = append(words, math.Abs(blind.words[i].End-w.End))
	}
	loud := func(all []phone) []phone {
		return slices.DeleteFunc(slices.Clone(all), func(p phone) bool { return p.Symbol == silence })
	}
	got, want := loud(blind.phones), loud(truth.phones)
	if len(got) != len(want) {
		return nil, words // the voices pronounce differently: phones cannot be compared one by one
	}
	for i := range want {
		phones = append(phones, math.Abs(got[i].End-want[i].End))
	}
	return phones, words
}

// TestAPauseThatTheOtherDoesNotMake has a voice pause where the built-in one does not:
// no word may come to lie in the pause.
func TestAPauseThatTheOtherDoesNotMake(t *testing.T) {
	t.Parallel()
	sentence, _ := splitNarration(alignedTexts[1], speakable)
	truth, err := (&fliteRun{path: "flite", voice: "rms", stretch: 1, dir: t.TempDir()}).say(context.Background(), sentence[0])
	if err != nil {
		t.Fatal(err)
	}
	const after, pause = 6, 0.5 // words: lighthouse, then keeper
	at := truth.words[after].Start
	w := &wave{rate: truth.sound.rate, samples: truth.sound.cut(0, at)}
	w.pad(pause)
	w.samples = append(w.samples, truth.sound.cut(at, truth.sound.seconds())...)
	blind := &take{sound: w}
	if err := (&aligner{flite: "flite"}).place(context.Background(), t.TempDir(), sentence[0], 1, blind); err != nil {
		t.Fatal(err)
	}
	for i, word := range blind.words {
		want := truth.words[i]
		if i >= after {
			want.Start, want.End = want.Start+pause, want.End+pause
		}
		if math.Abs(word.Start-want.Start) > 0.15 || math.Abs(word.End-want.End) > 0.15 || level(w.cut(word.Start, word.End)) < -45 {
			t.Errorf("%+v at %.0f dBFS, want %+v", word, level(w.cut(word.Start, word.End)), want)
		}
	}
}
