package talkingphoto

// This file reads WAV files and measures how loud and how hissing speech is.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
)

// PCM is mono sound; samples lie within -1 and 1.
type PCM struct {
	Rate    int // samples a second
	Samples []float32
}

// Seconds is the length of the sound.
func (p PCM) Seconds() float64 { return float64(len(p.Samples)) / float64(max(p.Rate, 1)) }

const (
	maxWAV     = 512 << 20 // bytes; some 45 minutes of 48 kHz stereo at 16 bits
	wavInteger = 1
	wavFloat   = 3
	wavExtra   = 0xFFFE // WAVE_FORMAT_EXTENSIBLE: the real tag stands in the sub-format
)

// ReadWAV reads a WAV file of 8, 16, 24 or 32-bit integers or 32-bit floats
// and mixes its channels down to one. A header whose data length is too long,
// as streaming synthesisers write it, is read to the end of the file.
func ReadWAV(path string) (PCM, error) {
	f, err := os.Open(path)
	if err != nil {
		return PCM{}, fmt.Errorf("cannot read the speech: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxWAV+1))
	if err != nil {
		return PCM{}, fmt.Errorf("cannot read the speech %s: %w", path, err)
	}
	if len(raw) > maxWAV {
		return PCM{}, fmt.Errorf("cannot read the speech %s: it is larger than %d MiB; split it into shorter parts", path, maxWAV>>20)
	}
	pcm, err := parseWAV(raw)
	if err != nil {
		return PCM{}, fmt.Errorf("cannot read the speech %s: %w; convert it to WAV with 16-bit PCM", path, err)
	}
	return pcm, nil
}

func parseWAV(raw []byte) (PCM, error) {
	if len(raw) < 12 || string(raw[:4]) != "RIFF" || string(raw[8:12]) != "WAVE" {
		return PCM{}, errors.New("it is not a WAV file")
	}
	var tag, channels, rate, bits int
	for rest := raw[12:]; len(rest) >= 8; {
		id, size := string(rest[:4]), int(binary.LittleEndian.Uint32(rest[4:8]))
		body := rest[8:]
		if size > len(body) {
			size = len(body)
		}
		switch id {
		case "fmt ":
			if size < 16 {
				return PCM{}, errors.New("its format chunk is too short")
			}
			tag, channels = int(binary.LittleEndian.Uint16(body)), int(binary.LittleEndian.Uint16(body[2:]))
			rate, bits = int(binary.LittleEndian.Uint32(body[4:])), int(binary.LittleEndian.Uint16(body[14:]))
			if tag == wavExtra && size >= 26 {
				tag = int(binary.LittleEndian.Uint16(body[24:]))
			}
		case "data":
			if channels < 1 || channels > 64 || rate < 1000 || rate > 768000 {
				return PCM{}, fmt.Errorf("its header tells %d channels at %d Hz", channels, rate)
			}
			return mixDown(body[:size], tag, channels, rate, bits)
		}
		rest = body[min(len(body), size+size%2):]
	}
	return PCM{}, errors.New("it has no sound data")
}

func mixDown(data []byte, tag, channels, rate, bits int) (PCM, error) {
	var sample func(b []byte) float32
	switch {
	case tag == wavInteger && bits == 8:
		sample = func(b []byte) float32 { return (float32(b[0]) - 128) / 128 }
	case tag == wavInteger && bits == 16:
		sample = func(b []byte) float32 { return signed(uint32(binary.LittleEndian.Uint16(b)), 16) }
	case tag == wavInteger && bits == 24:
		sample = func(b []byte) float32 { return signed(uint32(b[0])|uint32(b[1])<<8|uint32(b[2])<<16, 24) }
	case tag == wavInteger && bits == 32:
		sample = func(b []byte) float32 { return signed(binary.LittleEndian.Uint32(b), 32) }
	case tag == wavFloat && bits == 32:
		sample = func(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }
	default:
		return PCM{}, fmt.Errorf("its encoding (tag %d, %d bits) is not known here", tag, bits)
	}
	width := bits / 8
	n := len(data) / (width * channels)
	if n == 0 {
		return PCM{}, errors.New("it has no sound in it")
	}
	out := PCM{Rate: rate, Samples: make([]float32, n)}
	for i := range n {
		var total float32
		for c := range channels {
			total += sample(data[(i*channels+c)*width:])
		}
		v := total / float32(channels)
		if !(v >= -4 && v <= 4) { // NaN and wild floats
			v = 0
		}
		out.Samples[i] = v
	}
	return out, nil
}

// signed reads the lower bits of v as a two's complement number and scales it
// to -1…1.
func signed(v uint32, bits int) float32 {
	x, half := int64(v), int64(1)<<(bits-1)
	if x >= half {
		x -= 2 * half
	}
	return float32(x) / float32(half)
}

// loudRate is the number of loudness values a second.
const loudRate = 100.0

// Loudness is the course of a speech's loudness, 100 values a second; 1 is the
// loudness of its loud vowels.
type Loudness struct {
	level []float64
	hiss  []float64 // 0 voiced, 1 hissing like s
}

// NewLoudness measures pcm in windows of 30 ms around each hundredth of a
// second: root mean square over its own 95th percentile, square-rooted as
// hearing compresses it, at most 1.
func NewLoudness(pcm PCM) *Loudness {
	n := int(math.Ceil(pcm.Seconds() * loudRate))
	l := &Loudness{level: make([]float64, n), hiss: make([]float64, n)}
	half := int(.015 * float64(pcm.Rate))
	for i := range n {
		mid := int(float64(i) / loudRate * float64(pcm.Rate))
		from, to := max(0, mid-half), min(len(pcm.Samples), mid+half)
		var power, edge, before float64
		for k, v := range pcm.Samples[min(from, to):to] {
			power += float64(v) * float64(v)
			if k > 0 {
				edge += (float64(v) - before) * (float64(v) - before)
			}
			before = float64(v)
		}
		l.level[i] = math.Sqrt(power / float64(max(1, to-from)))
		// The power of the differences over the power is 2-2cos(2πf/rate) for a
		// tone of f hertz; put f on a scale from 1.2 kHz (voice) to 3.5 kHz (s).
		if power > 0 {
			f := math.Acos(clamp(1-edge/power/2, -1, 1)) / (2 * math.Pi) * float64(pcm.Rate)
			l.hiss[i] = smooth(1200, 3500, f)
		}
	}
	sorted := slices.Sorted(slices.Values(l.level))
	if n == 0 || sorted[n-1] < 1e-4 {
		clear(l.level)
		return l
	}
	// A long silence must not make the speech seem loud.
	loud := math.Max(sorted[n*95/100], sorted[n-1]*.3)
	for i, v := range l.level {
		l.level[i] = math.Min(1, math.Sqrt(v/loud))
	}
	return l
}

func (l *Loudness) frames() int {
	if l == nil {
		return 0
	}
	return len(l.level)
}

// at is the loudness at a time in seconds, 0 outside the speech.
func (l *Loudness) at(t float64) float64 {
	x := t * loudRate
	i := int(math.Floor(x))
	if l == nil || i < 0 || i+1 >= len(l.level) {
		return 0
	}
	return mix(l.level[i], l.level[i+1], x-float64(i))
}
