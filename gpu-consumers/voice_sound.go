// What a voice made, from any program or server: read with distrust, and brought
// to one form.

package gpu

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/myspinbot/myspinbot/events"
)

// Bounds of what can be speech. People speak 12 to 18 characters a second.
const (
	slowestChar   = 0.5 // seconds for a character, digits spelt out included
	fastestChar   = 0.012
	longestExtra  = 5.0   // seconds more for any sentence
	quietestSpeak = -60.0 // dBFS of a sentence that is heard at all
)

// hear reads the sound in a file that who made of the utterance: mono, at
// speechRate. Errors are *TaskError of class engine_rejected for what is no sound,
// or cannot be that sentence.
func (m *mediaTool) hear(ctx context.Context, dir, path, who string, u utterance, speed float64) (*wave, error) {
	reject := func(err error, message string) error {
		var te *TaskError
		if errors.As(err, &te) && te.Class != events.ClassInvalidInput && te.Class != events.ClassEngineRejected || errors.Is(err, context.Canceled) {
			return err // ours, or an end that was asked for
		}
		return &TaskError{Class: events.ClassEngineRejected, Message: who + " " + message, Hint: "look at its log, and try its model and voice by hand", Err: err}
	}
	if cut, err := mendWaveFile(path); err != nil {
		return nil, fmt.Errorf("cannot read what %s made: %w", who, err)
	} else if cut {
		return nil, reject(nil, "made a sound that is cut in the middle")
	}
	info, err := m.probe(ctx, path)
	if err != nil {
		return nil, reject(err, "made something that is no sound")
	}
	if info.Audio == nil {
		return nil, reject(nil, "made a file without sound")
	}
	out := filepath.Join(dir, "heard.wav")
	err = m.run(ctx, transcode{dir: dir, inputs: []mediaInput{{path: path}}, output: out, timeout: 2 * time.Minute,
		args: []string{"-map", "0:a:0", "-ac", "1", "-ar", strconv.Itoa(speechRate), "-c:a", "pcm_s16le", "-f", "wav"}})
	if err != nil {
		return nil, reject(err, "made a sound that cannot be decoded")
	}
	sound, err := readWave(out)
	if err != nil {
		return nil, reject(err, "made no usable sound")
	}
	chars, seconds := float64(utf8.RuneCountInString(u.text())), sound.seconds()
	switch {
	case seconds > longestExtra+slowestChar*chars/speed:
		return nil, reject(nil, fmt.Sprintf("spoke %.0f s for %.0f characters: it repeats itself", seconds, chars))
	case seconds < fastestChar*chars/speed:
		return nil, reject(nil, fmt.Sprintf("spoke %.2f s for %.0f characters: most is missing", seconds, chars))
	case level(sound.samples) < quietestSpeak:
		return nil, reject(nil, "made silence")
	}
	return sound, nil
}

// endless is from where on a WAV file's length only stands for one that was not
// known when its head was written.
const endless = 0x7f000000

// mendWaveFile corrects the length in a WAV file that was written as a stream. cut
// says that the file names a length and ends before it. Other files stay.
func mendWaveFile(path string) (cut bool, err error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	cut, mended := mendWave(data)
	if mended {
		err = os.WriteFile(path, data, 0o600)
	}
	return cut, err
}

// mendWave does so in memory.
func mendWave(data []byte) (cut, mended bool) {
	if len(data) < 12 || string(data[:4]) != "RIFF" || string(data[8:12]) != "WAVE" {
		return false, false
	}
	for at := 12; at+8 <= len(data); {
		size, left := int(binary.LittleEndian.Uint32(data[at+4:])), len(data)-at-8
		if string(data[at:at+4]) != "data" {
			at += 8 + size + size%2
			continue
		}
		if size == 0 || size >= endless || left > size && !chunks(data[min(len(data), at+8+size+size%2):]) {
			binary.LittleEndian.PutUint32(data[at+4:], uint32(left))     //nolint:gosec // below soundLimit
			binary.LittleEndian.PutUint32(data[4:], uint32(len(data)-8)) //nolint:gosec // as above
			return false, true
		}
		return left < size-size%2, false
	}
	return true, false // it ends before its samples
}

// chunks says whether data is made of nothing but whole RIFF chunks.
func chunks(data []byte) bool {
	for len(data) >= 8 {
		for _, c := range data[:4] {
			if c < ' ' || c > '~' {
				return false
			}
		}
		size := int(binary.LittleEndian.Uint32(data[4:]))
		if size > len(data)-8 {
			return false
		}
		data = data[min(len(data), 8+size+size%2):]
	}
	return len(data) < 2
}
