package talkingphoto

// This file tells which shape the mouth takes for which sound: ARPAbet symbols
// as flite prints them, and IPA as espeak-ng and piper do.

import (
	"fmt"
	"strings"
	"unicode"
)

// Phone is one sound with its time in the speech, in seconds.
type Phone struct {
	Symbol     string
	Start, End float64
}

// shape is a mouth shape. open, press, teeth, tongue and tuck run from 0 to 1;
// wide runs from -1 (rounded lips) to 1 (spread); rest is 1 where the face
// shows the photo's own expression, 0 where it speaks.
type shape struct{ open, wide, press, teeth, tongue, tuck, rest float64 }

// sound is a shape and how much of it a speaker insists on: lips must meet for
// m, while k takes its lips from the vowels around it.
type sound struct {
	shape
	dominance float64
}

// viseme groups, named after a typical sound.
var (
	soundAA     = sound{shape{open: .90, wide: .05, teeth: .35}, 1}
	soundAE     = sound{shape{open: .80, wide: .40, teeth: .60}, 1}
	soundEH     = sound{shape{open: .58, wide: .40, teeth: .70}, .95}
	soundIY     = sound{shape{open: .30, wide: .65, teeth: .90}, .95}
	soundIH     = sound{shape{open: .38, wide: .40, teeth: .80}, .85}
	soundAH     = sound{shape{open: .55, wide: .05, teeth: .45}, .85}
	soundSchwa  = sound{shape{open: .40, wide: .05, teeth: .45}, .6}
	soundAO     = sound{shape{open: .75, wide: -.50, teeth: .1}, 1}
	soundOH     = sound{shape{open: .55, wide: -.70}, 1}
	soundUW     = sound{shape{open: .26, wide: -.95}, 1}
	soundUH     = sound{shape{open: .34, wide: -.60, teeth: .2}, .9}
	soundER     = sound{shape{open: .36, wide: -.40, teeth: .5}, .85}
	soundM      = sound{shape{press: 1}, 1}
	soundF      = sound{shape{open: .10, wide: .15, teeth: .9, tuck: 1}, 1}
	soundTH     = sound{shape{open: .28, wide: .10, teeth: .9, tongue: 1}, .9}
	soundS      = sound{shape{open: .17, wide: .30, teeth: 1}, .85}
	soundT      = sound{shape{open: .22, wide: .15, teeth: .9, tongue: .3}, .6}
	soundL      = sound{shape{open: .34, wide: .10, teeth: .6, tongue: .8}, .65}
	soundSH     = sound{shape{open: .22, wide: -.55, teeth: .9}, .95}
	soundK      = sound{shape{open: .28, teeth: .4}, .4}
	soundHH     = sound{shape{open: .35, teeth: .3}, .2}
	soundR      = sound{shape{open: .28, wide: -.50, teeth: .4}, .8}
	soundY      = sound{shape{open: .25, wide: .45, teeth: .7}, .7}
	soundW      = sound{shape{open: .18, wide: -1}, 1}
	soundMumble = sound{shape{open: .25, teeth: .4}, .3} // a symbol that nobody knows
)

// arpabet maps flite's symbols; diphthongs are two shapes.
var arpabet = map[string][]sound{
	"aa": {soundAA}, "ae": {soundAE}, "ah": {soundAH}, "ao": {soundAO}, "aw": {soundAA, soundUH}, "ax": {soundSchwa}, "axr": {soundER},
	"ay": {soundAA, soundIH}, "b": {soundM}, "ch": {soundT, soundSH}, "d": {soundT}, "dh": {soundTH}, "dx": {soundT}, "eh": {soundEH},
	"el": {soundSchwa, soundL}, "em": {soundSchwa, soundM}, "en": {soundSchwa, soundT}, "er": {soundER}, "ey": {soundEH, soundIY},
	"f": {soundF}, "g": {soundK}, "hh": {soundHH}, "hv": {soundHH}, "h": {soundHH}, "ih": {soundIH}, "ix": {soundIH}, "iy": {soundIY},
	"jh": {soundT, soundSH}, "k": {soundK}, "l": {soundL}, "m": {soundM}, "n": {soundT}, "ng": {soundK}, "nx": {soundT},
	"ow": {soundOH, soundUW}, "oy": {soundAO, soundIH}, "p": {soundM}, "q": {soundK}, "r": {soundR}, "s": {soundS}, "sh": {soundSH},
	"t": {soundT}, "th": {soundTH}, "uh": {soundUH}, "uw": {soundUW}, "ux": {soundUW}, "v": {soundF}, "w": {soundW}, "wh": {soundW},
	"y": {soundY}, "z": {soundS}, "zh": {soundSH},
}

// silences are the symbols during which nobody speaks.
var silences = map[string]bool{"": true, "pau": true, "sil": true, "ssil": true, "h#": true, "brth": true, "sp": true, "spn": true, "_": true, "#": true, "|": true, "^": true, "$": true}

// ipaGroups list the IPA letters of each shape.
var ipaGroups = []struct {
	letters string
	sound   sound
}{
	{"ɑaɐäɶ", soundAA}, {"æ", soundAE}, {"ɛeœ", soundEH}, {"iɨ", soundIY}, {"ɪᵻ", soundIH}, {"ʌɜɞ", soundAH}, {"əɘ", soundSchwa},
	{"ɚɝ", soundER}, {"ɔɒ", soundAO}, {"oøɵɤ", soundOH}, {"uyʉɯʏ", soundUW}, {"ʊ", soundUH}, {"mbpɓ", soundM}, {"fvɱ", soundF},
	{"θð", soundTH}, {"szɕʑ", soundS}, {"tdnɾʈɖɳɗɲc", soundT}, {"lɫɭʎɬ", soundL}, {"ʃʒʂʐ", soundSH}, {"kɡgŋxɣqɟχʁʀ", soundK}, {"hɦʔħ", soundHH},
	{"ɹrɻɽ", soundR}, {"j", soundY}, {"wʍɥβɸʋ", soundW},
}

// ipaLetters is ipaGroups by letter.
var ipaLetters = func() map[rune]sound {
	m := map[rune]sound{}
	for _, g := range ipaGroups {
		for _, r := range g.letters {
			m[r] = g.sound
		}
	}
	return m
}()

// soundsOf returns the shapes of one symbol in order, none for silence.
func soundsOf(symbol string) []sound {
	symbol = strings.ToLower(strings.TrimSpace(symbol))
	if silences[symbol] {
		return nil
	}
	// ARPAbet vowels may carry a stress digit: AH0.
	if s, ok := arpabet[strings.TrimRightFunc(symbol, unicode.IsDigit)]; ok {
		return s
	}
	var out []sound
	letters := false
	for _, r := range symbol {
		if s, ok := ipaLetters[r]; ok {
			out = append(out, s)
		}
		letters = letters || unicode.IsLetter(r) && !unicode.Is(unicode.Lm, r)
	}
	if len(out) == 0 && letters {
		return []sound{soundMumble}
	}
	return out
}

// checkPhones refuses times that cannot be played.
func checkPhones(phones []Phone) error {
	last := 0.0
	for i, p := range phones {
		if !(p.Start >= 0 && p.End >= p.Start && p.Start >= last-1e-6 && p.End < 24*3600) {
			return fmt.Errorf("phone %d (%q) runs from %g s to %g s: times must not be negative, and no phone may begin before the one ahead of it", i+1, p.Symbol, p.Start, p.End)
		}
		last = p.Start
	}
	return nil
}
