// Sound as samples: 16-bit mono WAV files, levels, and soft limiting.

package gpu

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
)

// maxSamples bounds a file that is written: four hours at 48 kHz.
const maxSamples = 4 * 3600 * 48000

// wave is mono sound; samples are from -1 to 1.
type wave struct {
	rate    int // Hz
	samples []float32
}

func (w *wave) seconds() float64 { return float64(len(w.samples)) / float64(w.rate) }

// readWave reads a 16-bit PCM mono WAV file (RIFF, format tag 1).
func readWave(path string) (*wave, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read a sound file: %w", err)
	}
	if len(data) < 12 || !bytes.HasPrefix(data, []byte("RIFF")) || !bytes.Equal(data[8:12], []byte("WAVE")) {
		return nil, errors.New("cannot read a sound file: it is no WAV file")
	}
	w := &wave{}
	for at := 12; at+8 <= len(data); {
		size := int(binary.LittleEndian.Uint32(data[at+4:]))
		body := data[at+8:]
		body = body[:min(size, len(body))]
		switch string(data[at : at+4]) {
		case "fmt ":
			if len(body) < 16 || binary.LittleEndian.Uint16(body) != 1 || binary.LittleEndian.Uint16(body[2:]) != 1 || binary.LittleEndian.Uint16(body[14:]) != 16 {
				return nil, errors.New("cannot read a sound file: it is not 16-bit mono PCM")
			}
			w.rate = int(binary.LittleEndian.Uint32(body[4:]))
		case "data":
			if w.rate < 1000 {
				return nil, errors.New("cannot read a sound file: its sample rate is missing")
			}
			w.samples = make([]float32, len(body)/2)
			for i := range w.samples {
				w.samples[i] = float32(int16(body[2*i])|int16(body[2*i+1])<<8) / 32768
			}
			return w, nil
		}
		at += 8 + size + size%2
	}
	return nil, errors.New("cannot read a sound file: it holds no samples")
}

// write stores w as a 16-bit PCM mono WAV file.
func (w *wave) write(path string) error {
	if len(w.samples) > maxSamples {
		return fmt.Errorf("cannot write a sound file: %d samples are more than a WAV file is made for here", len(w.samples))
	}
	rate, size := uint32(w.rate), uint32(len(w.samples)*2) //nolint:gosec // both are bounded
	out := make([]byte, 0, 44+size)
	out = append(out, "RIFF"...)
	out = binary.LittleEndian.AppendUint32(out, 36+size)
	out = append(out, "WAVEfmt "...)
	out = binary.LittleEndian.AppendUint32(out, 16)
	out = binary.LittleEndian.AppendUint16(out, 1)
	out = binary.LittleEndian.AppendUint16(out, 1)
	out = binary.LittleEndian.AppendUint32(out, rate)
	out = binary.LittleEndian.AppendUint32(out, rate*2)
	out = binary.LittleEndian.AppendUint16(out, 2)
	out = binary.LittleEndian.AppendUint16(out, 16)
	out = append(out, "data"...)
	out = binary.LittleEndian.AppendUint32(out, size)
	for _, s := range w.samples {
		v := int16(math.Round(float64(max(-1, min(1, s))) * 32767))
		out = append(out, byte(v&0xff), byte(v>>8&0xff))
	}
	if err := os.WriteFile(path, out, 0o600); err != nil {
		return fmt.Errorf("cannot write a sound file: %w", err)
	}
	return nil
}

// cut is the part between two times, with 4 ms of fade at both ends so that it
// neither starts nor ends with a click.
func (w *wave) cut(from, to float64) []float32 {
	a := max(0, min(len(w.samples), int(from*float64(w.rate))))
	b := max(a, min(len(w.samples), int(to*float64(w.rate))))
	out := append([]float32(nil), w.samples[a:b]...)
	fade := min(w.rate/250, len(out)/2)
	for i := range fade {
		g := float32(i) / float32(fade)
		out[i] *= g
		out[len(out)-1-i] *= g
	}
	return out
}

// pad appends silence.
func (w *wave) pad(seconds float64) {
	w.samples = append(w.samples, make([]float32, max(0, int(math.Round(seconds*float64(w.rate)))))...)
}

// Soft limiting: straight up to the knee, then ever flatter towards the ceiling
// (-1.4 dBFS, which leaves room for what resampling and AAC add).
const (
	limitKnee    = 0.6
	limitCeiling = 0.85
)

// amplify multiplies by decibels and limits softly, sample by sample, so that no
// sound moves in time.
func (w *wave) amplify(decibels float64) {
	gain := math.Pow(10, decibels/20)
	for i, s := range w.samples {
		v := float64(s) * gain
		if a := math.Abs(v); a > limitKnee {
			room := limitCeiling - limitKnee
			v = math.Copysign(limitKnee+room*math.Tanh((a-limitKnee)/room), v)
		}
		w.samples[i] = float32(v)
	}
}

// level is the root mean square of the part between two samples in dBFS; silence
// is -120.
func level(samples []float32) float64 {
	if len(samples) == 0 {
		return -120
	}
	var power float64
	for _, s := range samples {
		power += float64(s) * float64(s)
	}
	return max(-120, 10*math.Log10(power/float64(len(samples))+1e-12))
}
