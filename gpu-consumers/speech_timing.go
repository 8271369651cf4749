// When each phone and each word of the speech is heard.

package gpu

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
)

// silence is the symbol that flite gives to a pause.
const silence = "pau"

// timing is the content of a timing artifact; times are in seconds.
type timing struct {
	Duration float64 `json:"duration"`
	// Source tells who placed the phones: "engine", the synthesiser itself, or
	// "aligned", by comparing its sound with that of one who says so.
	Source string `json:"source"`
	// WordSource tells how the words were placed: by the "engine", "aligned" by their
	// own phones, or "estimated" by their length.
	WordSource string      `json:"word_source,omitempty"`
	Words      []timedWord `json:"words"`
	Phones     []phone     `json:"phones"` // of the whole speech, or none

	unphoned bool // a sentence's phones are unknown
}

type timedWord struct {
	Word  string  `json:"word"`
	Start float64 `json:"start"`
	End   float64 `json:"end"`
	Glued bool    `json:"glued,omitempty"` // no space stands before it
}

// phone is one sound; symbols are those of the CMU dictionary in lower case,
// and "pau" for silence.
type phone struct {
	Symbol string  `json:"symbol"`
	Start  float64 `json:"start"`
	End    float64 `json:"end"`
}

// Sources of times.
const (
	timesOfEngine  = "engine"
	timesAligned   = "aligned"
	wordsOfEngine  = "engine"
	wordsAligned   = "aligned"
	wordsEstimated = "estimated"
)

// readTiming reads a timing artifact and refuses one whose times run backwards.
func readTiming(path string) (*timing, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the timing: %w", err)
	}
	var t timing
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("cannot read the timing: %w", err)
	}
	for _, w := range t.Words {
		if !(w.Start >= 0 && w.End >= w.Start) {
			return nil, fmt.Errorf("cannot use the timing: the word at %g s ends before it starts", w.Start)
		}
	}
	for _, p := range t.Phones {
		if !(p.Start >= 0 && p.End >= p.Start) {
			return nil, fmt.Errorf("cannot use the timing: the phone at %g s ends before it starts", p.Start)
		}
	}
	return &t, nil
}

// parsePhones reads what `flite -psdur` prints: a line for each utterance of
// the text, "symbol:end" fields with times from the utterance's own start.
// Utterances follow each other without a gap.
func parsePhones(out string) ([]phone, error) {
	var phones []phone
	offset := 0.0
	for line := range strings.Lines(out) {
		at := offset
		for _, field := range strings.Fields(line) {
			symbol, end, ok := strings.Cut(field, ":")
			seconds, err := strconv.ParseFloat(end, 64)
			if !ok || err != nil || offset+seconds < at-1e-3 {
				return nil, fmt.Errorf("flite printed %q where a phone and its end were expected", field)
			}
			phones = append(phones, phone{symbol, at, offset + seconds})
			at = offset + seconds
		}
		offset = at
	}
	return phones, nil
}

// parsePronunciations reads what `flite -ps` prints: a line of symbols for each
// utterance.
func parsePronunciations(out string) [][]string {
	var all [][]string
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 0 {
			var symbols []string
			for _, s := range fields {
				if s != silence {
					symbols = append(symbols, s)
				}
			}
			all = append(all, symbols)
		}
	}
	return all
}

// alignWords places words in a sentence's phones. said holds each word's own
// pronunciation. A word in a sentence sounds almost as it does alone, so the
// cheapest edit of the one sequence into the other tells which phones are its.
func alignWords(words []spokenWord, said [][]string, phones []phone) []timedWord {
	type sound struct {
		symbol string
		word   int
	}
	var alone []sound
	for i := range words {
		for _, s := range said[i] {
			alone = append(alone, sound{s, i})
		}
	}
	var heard []phone
	for _, p := range phones {
		if p.Symbol != silence {
			heard = append(heard, p)
		}
	}
	n, m := len(alone), len(heard)
	cost := make([][]float64, n+1)
	for i := range cost {
		cost[i] = make([]float64, m+1)
		for j := range cost[i] {
			switch {
			case i == 0:
				cost[i][j] = float64(j)
			case j == 0:
				cost[i][j] = float64(i)
			default:
				cost[i][j] = min(cost[i-1][j]+1, cost[i][j-1]+1, cost[i-1][j-1]+unlike(alone[i-1].symbol, heard[j-1].Symbol))
			}
		}
	}
	owner := make([]int, m) // the word of each phone heard, -1: not clear
	for i, j := n, m; j > 0; {
		switch {
		case i > 0 && cost[i][j] == cost[i-1][j-1]+unlike(alone[i-1].symbol, heard[j-1].Symbol):
			i, j = i-1, j-1
			owner[j] = alone[i].word
		case i > 0 && cost[i][j] == cost[i-1][j]+1:
			i--
		default:
			j--
			owner[j] = -1
		}
	}
	return wordTimes(words, heard, owner)
}

// unlike is the price of taking one phone for another: nothing for the same,
// half for two vowels, whose colour depends on the neighbours.
func unlike(a, b string) float64 {
	switch {
	case a == b:
		return 0
	case strings.ContainsRune("aeiou", rune(a[0])) && strings.ContainsRune("aeiou", rune(b[0])):
		return 0.5
	}
	return 1.2 // a little more than leaving out would keep words together
}

// wordTimes turns the owners of phones into times. A word without a phone of
// its own lasts no time, at the end of the word before.
func wordTimes(words []spokenWord, heard []phone, owner []int) []timedWord {
	out := make([]timedWord, len(words))
	for i, w := range words {
		out[i] = timedWord{Word: w.shown, Start: math.Inf(1), Glued: w.glued}
	}
	last := 0
	for j, p := range heard {
		w := owner[j]
		if w < 0 {
			w = last // an added sound belongs to the word before it
		}
		last = w
		out[w].Start, out[w].End = min(out[w].Start, p.Start), max(out[w].End, p.End)
	}
	at := 0.0
	if len(heard) > 0 {
		at = heard[0].Start
	}
	for i := range out {
		if math.IsInf(out[i].Start, 1) {
			out[i].Start, out[i].End = at, at
		}
		at = out[i].End
	}
	return out
}

// lettersOfHalfAWord is how many Latin letters take as long to say as one character of a
// writing that parts no words.
const lettersOfHalfAWord = 3

// letters is how long a word takes to say, in Latin letters.
func (w spokenWord) letters() float64 {
	n := 0
	for _, r := range w.spoken {
		if wide(r) {
			n += lettersOfHalfAWord
		} else {
			n++
		}
	}
	if !w.glued {
		n++
	}
	return float64(n)
}

// estimateWords spreads words over the sounding part of a sentence by their
// length in letters.
func estimateWords(words []spokenWord, phones []phone) []timedWord {
	var sounding, letters float64
	for _, p := range phones {
		if p.Symbol != silence {
			sounding += p.End - p.Start
		}
	}
	for _, w := range words {
		letters += w.letters()
	}
	// place maps seconds of sound to seconds of the sentence, across its pauses.
	place := func(sound float64) float64 {
		end := 0.0
		for _, p := range phones {
			if p.Symbol == silence {
				continue
			}
			if d := p.End - p.Start; sound > d+1e-9 {
				sound -= d
			} else {
				return p.Start + sound
			}
			end = p.End
		}
		return end
	}
	out := make([]timedWord, len(words))
	at := 0.0
	for i, w := range words {
		start := at
		at += sounding * w.letters() / letters
		out[i] = timedWord{w.shown, place(start + 1e-6), place(at), w.glued}
	}
	return out
}
