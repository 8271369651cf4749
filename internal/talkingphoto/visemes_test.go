package talkingphoto

// Tests of phones, visemes, the mouth's track and the sound's loudness.

import (
	"encoding/binary"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// word makes phones of equal length from symbols.
func word(each float64, symbols ...string) []Phone {
	var out []Phone
	for i, s := range symbols {
		out = append(out, Phone{s, float64(i) * each, float64(i+1) * each})
	}
	return out
}

// middle is the shape that belongs to the middle of a phone, lead undone.
func middle(tr track, p Phone) shape { return tr.at((p.Start+p.End)/2 - lead) }

func TestTrackClosesForLipsAndOpensForVowels(t *testing.T) {
	t.Parallel()
	for _, closed := range []string{"m", "b", "p"} {
		phones := word(.1, "pau", "aa", closed, "aa", "pau")
		tr := newTrack(phones, nil)
		if s := middle(tr, phones[2]); s.press < .95 || s.open > .05 {
			t.Errorf("%s: lips are not pressed: %+v", closed, s)
		}
		if s := middle(tr, phones[1]); s.open*1.39 < .85 { // the loudness of nothing scales by .72
			t.Errorf("aa before %s: not open: %+v", closed, s)
		}
	}
}

func TestTrackShowsEvenShortClosures(t *testing.T) {
	t.Parallel()
	phones := []Phone{{"aa", 0, .2}, {"p", .2, .225}, {"aa", .225, .4}}
	tr := newTrack(phones, nil)
	for offset := 0.0; offset < .04; offset += .005 { // wherever the frames fall
		lowest := 1.0
		for at := offset; at < .4; at += .04 {
			lowest = math.Min(lowest, tr.at(at).open)
		}
		if lowest > .1 {
			t.Errorf("frames from %.3f s on never show p: lowest opening %.2f", offset, lowest)
		}
	}
}

func TestTrackRestsInSilence(t *testing.T) {
	t.Parallel()
	phones := []Phone{{"pau", 0, 1}, {"aa", 1, 1.3}, {"pau", 1.3, 2.5}, {"aa", 2.5, 2.8}, {"pau", 2.8, 2.9}, {"iy", 2.9, 3.1}, {"pau", 3.1, 3.3}}
	tr := newTrack(phones, nil)
	for _, at := range []float64{-1, 0, .5, 1.9, 9} {
		if s := tr.at(at); s.rest < .99 || s.open > .01 {
			t.Errorf("at %g s: %+v, want rest", at, s)
		}
	}
	// A short pause closes the mouth without relaxing the face.
	if s := tr.at(2.87 - lead); s.rest > .01 || s.open > .1 {
		t.Errorf("short pause: %+v", s)
	}
	if s := tr.at(1.15 - lead); s.rest > .01 {
		t.Errorf("speaking: %+v", s)
	}
}

func TestTrackMovesWithoutJumps(t *testing.T) {
	t.Parallel()
	_, phones := speak(t, sentence)
	tr := newTrack(phones, nil)
	before := tr.at(0)
	for at := .001; at < phones[len(phones)-1].End+1; at += .001 {
		s := tr.at(at)
		for _, d := range []float64{s.open - before.open, s.wide - before.wide, s.press - before.press, s.rest - before.rest} {
			if math.Abs(d) > .12 {
				t.Fatalf("at %.3f s the mouth jumps from %+v to %+v", at, before, s)
			}
		}
		if s.open < 0 || s.open > 1 || math.Abs(s.wide) > 1 {
			t.Fatalf("at %.3f s the shape is out of range: %+v", at, s)
		}
		before = s
	}
}

func TestCoarticulation(t *testing.T) {
	t.Parallel()
	round, spread := word(.1, "uw", "k", "uw"), word(.1, "iy", "k", "iy")
	a, b := middle(newTrack(round, nil), round[1]), middle(newTrack(spread, nil), spread[1])
	if a.wide > -.3 || b.wide < .2 {
		t.Errorf("k between uw is %.2f wide, between iy %.2f: it should follow", a.wide, b.wide)
	}
}

func TestLoudnessScalesTheOpening(t *testing.T) {
	t.Parallel()
	phones := []Phone{{"aa", 0, .5}, {"aa", .5, 1}}
	loud := &Loudness{level: slices.Concat(slices.Repeat([]float64{1}, 50), slices.Repeat([]float64{.3}, 51)), hiss: make([]float64, 101)}
	tr := newTrack(phones, loud)
	if a, b := tr.at(.25), tr.at(.75); a.open < 1.2*b.open {
		t.Errorf("loud %.2f, soft %.2f", a.open, b.open)
	}
}

func TestTrackFromLoudnessAlone(t *testing.T) {
	t.Parallel()
	pcm := tone(3, 150, func(at float64) float64 {
		if at < 1 || at > 2 {
			return 0
		}
		return math.Abs(math.Sin(at * 4 * math.Pi)) // four syllables
	})
	for _, phones := range [][]Phone{nil, {{"pau", 0, 3}}} {
		tr := newTrack(phones, NewLoudness(pcm))
		if s := tr.at(.4); s.open > .01 || s.rest < .99 {
			t.Errorf("before the sound: %+v", s)
		}
		if s := tr.at(2.7); s.open > .01 || s.rest < .99 {
			t.Errorf("after the sound: %+v", s)
		}
		var peaks int
		for at := 1.0; at < 2; at += .01 {
			if s := tr.at(at).open; s > tr.at(at-.01).open && s >= tr.at(at+.01).open && s > .4 {
				peaks++
			}
		}
		if peaks != 4 {
			t.Errorf("%d openings, want one for each of 4 syllables", peaks)
		}
	}
}

func TestEverySymbolHasAShape(t *testing.T) {
	t.Parallel()
	for _, s := range strings.Fields("aa ae ah ao aw ax ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh AH0 IY1") {
		if got := soundsOf(s); len(got) == 0 || got[0] == soundMumble {
			t.Errorf("%s has no shape", s)
		}
	}
	for _, s := range strings.Fields("aɪ eɪ oʊ aʊ ɔɪ tʃ dʒ ˈɑː iː ɹ ŋ θ ð ʃ ʒ ɚ ɾ ɐ ɜː x") {
		if got := soundsOf(s); len(got) == 0 || got[0] == soundMumble {
			t.Errorf("IPA %s has no shape", s)
		}
	}
	for _, s := range []string{"", "pau", "sil", "ˈ", "ː", "_", " "} {
		if got := soundsOf(s); len(got) != 0 {
			t.Errorf("%q is not silent: %v", s, got)
		}
	}
	if got := soundsOf("ほ"); len(got) != 1 || got[0] != soundMumble {
		t.Errorf("an unknown letter: %v", got)
	}
	if got := soundsOf("tʃ"); len(got) != 2 || got[1] != soundSH {
		t.Errorf("tʃ: %v", got)
	}
}

func TestCheckPhones(t *testing.T) {
	t.Parallel()
	for _, bad := range [][]Phone{{{"a", -1, 1}}, {{"a", 1, .5}}, {{"a", 1, 2}, {"b", .5, 3}}, {{"a", math.NaN(), 1}}, {{"a", 0, math.Inf(1)}}} {
		if err := checkPhones(bad); err == nil || !strings.Contains(err.Error(), "phone ") {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// tone is a sine with an envelope, 16 kHz.
func tone(seconds, hertz float64, envelope func(float64) float64) PCM {
	p := PCM{Rate: 16000, Samples: make([]float32, int(seconds*16000))}
	for i := range p.Samples {
		at := float64(i) / 16000
		p.Samples[i] = float32(.5 * envelope(at) * math.Sin(2*math.Pi*hertz*at))
	}
	return p
}

func TestLoudnessTellsHissFromVoice(t *testing.T) {
	t.Parallel()
	full := func(float64) float64 { return 1 }
	voice, hiss := NewLoudness(tone(1, 200, full)), NewLoudness(tone(1, 4000, full))
	if voice.hiss[50] > .05 || hiss.hiss[50] < .95 {
		t.Errorf("voice hisses %.2f, hiss %.2f", voice.hiss[50], hiss.hiss[50])
	}
	if voice.level[50] < .95 || voice.frames() != 100 {
		t.Errorf("a steady tone has level %.2f over %d values", voice.level[50], voice.frames())
	}
	silent := NewLoudness(tone(1, 200, func(float64) float64 { return 0 }))
	if slices.Max(silent.level) != 0 {
		t.Error("silence is loud")
	}
}

// wavBytes builds a WAV file with the given format fields.
func wavBytes(tag, channels, bits int, data []byte, claim uint32) []byte {
	le := binary.LittleEndian
	b := []byte("RIFF\xff\xff\xff\xffWAVEJUNK\x03\x00\x00\x00abc\x00fmt \x10\x00\x00\x00")
	b = le.AppendUint16(le.AppendUint16(b, uint16(tag)), uint16(channels))
	b = le.AppendUint32(le.AppendUint32(b, 8000), uint32(8000*channels*bits/8))
	b = le.AppendUint16(le.AppendUint16(b, uint16(channels*bits/8)), uint16(bits))
	return append(le.AppendUint32(append(b, "data"...), claim), data...)
}

func TestParseWAVReadsEveryEncoding(t *testing.T) {
	t.Parallel()
	half := math.Float32bits(.5)
	for name, raw := range map[string][]byte{
		"8 bits":              wavBytes(1, 1, 8, []byte{192, 192}, 2),
		"16 bits":             wavBytes(1, 1, 16, []byte{0, 64, 0, 64}, 4),
		"24 bits":             wavBytes(1, 1, 24, []byte{0, 0, 64, 0, 0, 64}, 6),
		"32 bits":             wavBytes(1, 1, 32, []byte{0, 0, 0, 64, 0, 0, 0, 64}, 8),
		"float":               wavBytes(3, 1, 32, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, half), half), 8),
		"stereo":              wavBytes(1, 2, 16, []byte{0, 32, 0, 96, 0, 96, 0, 32}, 8),
		"a streamed header":   wavBytes(1, 1, 16, []byte{0, 64, 0, 64}, 0xffffffff),
		"half a sample extra": wavBytes(1, 1, 16, []byte{0, 64, 0, 64, 9}, 5),
	} {
		p, err := parseWAV(raw)
		if err != nil || p.Rate != 8000 || !slices.Equal(p.Samples, []float32{.5, .5}) {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
	for name, raw := range map[string][]byte{
		"not a WAV file":  []byte("ID3 and then an MP3 file"),
		"it has no sound": wavBytes(1, 1, 16, nil, 0),
		"is not known":    wavBytes(85, 1, 16, []byte{1, 2}, 2),
		"0 channels":      wavBytes(1, 0, 16, []byte{1, 2}, 2),
		"no sound data":   wavBytes(1, 1, 16, nil, 0)[:48],
	} {
		if _, err := parseWAV(raw); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("want %q, got %v", name, err)
		}
	}
	if _, err := ReadWAV(filepath.Join(t.TempDir(), "absent.wav")); err == nil || !strings.Contains(err.Error(), "cannot read the speech") {
		t.Errorf("without a file: %v", err)
	}
}

func FuzzParseWAV(f *testing.F) {
	f.Add(wavBytes(1, 2, 24, []byte{0, 0, 64, 0, 0, 64}, 6))
	f.Add(wavBytes(0xFFFE, 1, 16, []byte{1}, 0xffffffff))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parseWAV(raw)
		if err == nil && (p.Rate < 1000 || len(p.Samples) == 0) {
			t.Errorf("accepted %d samples at %d Hz", len(p.Samples), p.Rate)
		}
	})
}
