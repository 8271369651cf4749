// The sound of the final video: the speech, music under it that steps back while
// somebody speaks, and the whole at one loudness.

package gpu

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

const (
	mixRate    = 48000 // Hz
	mixCeiling = 0.84  // of full scale, -1.5 dB: what the AAC encoder adds stays below full scale
	mixNear    = 0.3   // LU within which the loudness is right
	mixRounds  = 4     // of measuring and correcting, at most: the limiter takes a little away
	mixGain    = 40.0  // dB, at most

	musicFadeIn  = 0.8 // seconds
	musicFadeOut = 2.0 // seconds; both are shorter in short videos
)

// ducking lowers the music by about 10 dB while the speech, which is at speechLUFS,
// goes on. It is back half a second after a word.
const ducking = "sidechaincompress=threshold=0.03:ratio=4:attack=15:release=450:makeup=1:detection=rms"

// mix makes one sound of speech and music, c.seconds long, and brings it to speechLUFS
// by measuring it. It returns the file, or a note where it could not be measured.
func (m *assembler) mix(ctx context.Context, a *Attempt, c *cutting) (path, note string, err error) {
	level, err := a.span("music_level", -40, 0, -12)
	if err != nil {
		return "", "", err
	}
	joined := filepath.Join(a.Dir, "joined.wav")
	inputs, filter := []mediaInput{{path: c.speechPath}}, fmt.Sprintf("[0:a:0]aresample=%d,volume=%.2fdB,apad=whole_dur=%.4f[mix]", mixRate, c.gain, c.seconds)
	if len(a.Files["music"]) > 0 {
		music, err := a.oneFile("music")
		if err != nil {
			return "", "", err
		}
		if filter, err = m.underlay(ctx, a, c, music.Path, level); err != nil {
			return "", "", err
		}
		inputs = append(inputs, mediaInput{path: music.Path, options: []string{"-stream_loop", "-1"}})
	}
	length := strconv.FormatFloat(c.seconds, 'f', 4, 64)
	err = m.media.run(ctx, transcode{dir: a.Dir, inputs: inputs, output: joined, timeout: 10 * time.Minute,
		args: []string{"-filter_complex", filter, "-map", "[mix]", "-t", length, "-c:a", "pcm_f32le", "-f", "wav"}})
	if err != nil {
		return "", "", err
	}
	return m.level(ctx, a, joined)
}

// underlay is the filter that lays music under the speech. The music is repeated by its
// input and cut here.
func (m *assembler) underlay(ctx context.Context, a *Attempt, c *cutting, music string, level float64) (string, error) {
	info, err := m.media.probe(ctx, music)
	if err != nil {
		return "", err
	}
	if info.Audio == nil {
		return "", &TaskError{Class: events.ClassInvalidInput, Message: "the music holds no sound", Hint: "upload another file"}
	}
	lufs, ok, err := m.media.loudness(ctx, a.Dir, music)
	if err != nil {
		return "", asInvalidInput(err, "the music cannot be decoded", "upload it again, or another file")
	}
	if !ok {
		return "", &TaskError{Class: events.ClassInvalidInput, Message: "the music is silent, or shorter than half a second", Hint: "upload another file, or leave the music out"}
	}
	in, out := min(musicFadeIn, c.seconds/4), min(musicFadeOut, c.seconds/3)
	const stereo = "aformat=sample_fmts=fltp:channel_layouts=stereo"
	return fmt.Sprintf("[0:a:0]aresample=%d,%s,volume=%.2fdB,apad=whole_dur=%.4f,asplit=2[say][key];"+
		"[1:a:0]aresample=%d,%s,volume=%.2fdB,atrim=end=%.4f,afade=t=in:d=%.3f,afade=t=out:st=%.3f:d=%.3f[bed];"+
		"[bed][key]%s[under];[say][under]amix=inputs=2:duration=first:normalize=0[mix]",
		mixRate, stereo, c.gain, c.seconds,
		mixRate, stereo, max(-mixGain, min(mixGain, speechLUFS+level-lufs)), c.seconds, in, c.seconds-out, out, ducking), nil
}

// level brings a sound to speechLUFS: it is measured, corrected, limited and measured
// again, for a limiter and a gate have their own effect on the result.
func (m *assembler) level(ctx context.Context, a *Attempt, sound string) (path, note string, err error) {
	lufs, ok, err := m.media.loudness(ctx, a.Dir, sound)
	if err != nil {
		return "", "", err
	}
	if !ok {
		return sound, "the sound is silent or too short for its loudness to be measured: it was left as it is", nil
	}
	gain := 0.0
	for round := range mixRounds {
		gain = max(-mixGain, min(mixGain, gain+speechLUFS-lufs))
		path = filepath.Join(a.Dir, fmt.Sprintf("levelled-%d.wav", round))
		err = m.media.run(ctx, transcode{dir: a.Dir, inputs: []mediaInput{{path: sound}}, output: path, timeout: 10 * time.Minute,
			args: []string{"-af", fmt.Sprintf("volume=%.3fdB,alimiter=limit=%.2f:level=false", gain, mixCeiling), "-c:a", "pcm_f32le", "-f", "wav"}})
		if err != nil {
			return "", "", err
		}
		if lufs, _, err = m.media.loudness(ctx, a.Dir, path); err != nil {
			return "", "", err
		}
		if math.Abs(lufs-speechLUFS) <= mixNear {
			break
		}
	}
	return path, "", nil
}
