// The sound of the final video: one loudness with and without music, which steps back
// while somebody speaks and fades at both ends.

package gpu

import (
	"context"
	"math"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// mixOf assembles two seconds of a tone, from 2 s to 4 s of 7 s, over music of 440 Hz.
func mixOf(t *testing.T, params map[string]any, music []File) (*cutting, string) {
	t.Helper()
	m := &assembler{testTool(), testFaces()}
	speech := makeMedia(t, "speech.wav", "-f", "lavfi", "-i", "sine=frequency=1500,volume='if(between(t,2,4),1,0)':eval=frame", "-t", "6.65", "-ar", "24000")
	a := &Attempt{Dir: t.TempDir(), Params: params, Files: map[string][]File{"music": music}}
	lufs, ok, err := m.media.loudness(context.Background(), a.Dir, speech)
	if err != nil || !ok {
		t.Fatalf("the speech has no loudness: %v", err)
	}
	c := &cutting{speechPath: speech, seconds: 7, gain: speechLUFS - lufs}
	path, note, err := m.mix(context.Background(), a, c)
	if err != nil || note != "" {
		t.Fatalf("%q, %v", note, err)
	}
	return c, path
}

// band is the level in dB of what is around a frequency from one second to another.
func band(t *testing.T, path, frequency, from, to string) float64 {
	t.Helper()
	const key = "lavfi.astats.Overall.RMS_level"
	values, err := testTool().measure(context.Background(), t.TempDir(), path, "-map", "0:a:0", "-af",
		"bandpass=frequency="+frequency+":width_type=h:width=60,atrim=start="+from+":end="+to+",astats=metadata=1:measure_perchannel=none:measure_overall=RMS_level,ametadata=mode=print:key="+key+":file=-")
	if err != nil || len(values[key]) == 0 {
		t.Fatalf("%v, %v", values, err)
	}
	return values[key][len(values[key])-1]
}

func TestMusicStepsBackUnderTheSpeech(t *testing.T) {
	t.Parallel()
	// One second of music: it has to be repeated six times.
	music := input(makeMedia(t, "music.flac", "-f", "lavfi", "-i", "sine=frequency=440", "-t", "1", "-ac", "2"))
	for name, level := range map[string]float64{"usual": -12, "as loud as the speech": 0, "hardly there": -18} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, path := mixOf(t, map[string]any{"music_level": level}, music)
			lufs, _, err := testTool().loudness(context.Background(), t.TempDir(), path)
			if err != nil || math.Abs(lufs-speechLUFS) > 0.5 {
				t.Errorf("the whole is at %.1f LUFS, %v", lufs, err)
			}
			before, under, after, speech := band(t, path, "440", "1", "1.8"), band(t, path, "440", "2.4", "3.8"), band(t, path, "440", "4.7", "5"), band(t, path, "1500", "2.4", "3.8")
			if before-under < 6 || after-under < 4 {
				t.Errorf("the music is at %.1f dB before the speech, %.1f under it and %.1f after it", before, under, after)
			}
			if d := speech - before + level; math.Abs(d) > 4 {
				t.Errorf("the music is at %.1f dB and the speech at %.1f: %.1f away from what was asked for", before, speech, d)
			}
			if start, end := band(t, path, "440", "0", "0.1"), band(t, path, "440", "6.9", "7"); before-start < 10 || before-end < 10 {
				t.Errorf("at its ends the music is at %.1f and %.1f dB, %.1f between", start, end, before)
			}
		})
	}
}

func TestSpeechAloneIsAtItsLoudness(t *testing.T) {
	t.Parallel()
	_, path := mixOf(t, nil, nil)
	info, err := testTool().probe(context.Background(), path)
	if err != nil || info.Audio.Rate != mixRate || math.Abs(info.Audio.Seconds-7) > 0.01 {
		t.Errorf("%+v, %v", info, err)
	}
	if lufs, _, err := testTool().loudness(context.Background(), t.TempDir(), path); err != nil || math.Abs(lufs-speechLUFS) > 0.5 {
		t.Errorf("%.1f LUFS, %v", lufs, err)
	}
}

func TestMusicThatCannotBeHeardIsRefused(t *testing.T) {
	t.Parallel()
	m := &assembler{testTool(), testFaces()}
	speech := makeMedia(t, "speech.wav", "-f", "lavfi", "-i", "sine", "-t", "1")
	for name, c := range map[string]struct {
		music  string
		params map[string]any
	}{
		"silent":    {makeMedia(t, "silent.flac", "-f", "lavfi", "-i", "anullsrc", "-t", "1"), nil},
		"a picture": {makeMedia(t, "picture.mp4", "-f", "lavfi", "-i", "testsrc=size=64x64", "-t", "1"), nil},
		"no media":  {writeFile(t, "list.mp3", []byte("#EXTM3U\nfile:///etc/passwd\n")), nil},
		"its level": {makeMedia(t, "music.flac", "-f", "lavfi", "-i", "sine", "-t", "1"), map[string]any{"music_level": 3.0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &Attempt{Dir: t.TempDir(), Params: c.params, Files: map[string][]File{"music": input(c.music)}}
			_, _, err := m.mix(context.Background(), a, &cutting{speechPath: speech, seconds: 1.4})
			if te := wantTaskError(t, err, events.ClassInvalidInput); te.Hint == "" {
				t.Errorf("%v has no hint", te)
			}
		})
	}
}
