// train_voice without a trainer: the voice clips cleaned and joined into one
// short reference, which is what voice-cloning speech servers take.

package gpu

import (
	"context"
	"fmt"
	"math"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

const (
	clipLimit     = 600  // seconds that are read of each clip
	vadStep       = 0.02 // seconds of a frame of voice detection
	vadBelow      = 30.0 // dB under the loud frames that still count as voice
	vadQuietest   = -50.0
	keptPause     = 0.35 // seconds that longer silences are shortened to
	cutPause      = 0.12 // seconds of silence that a reference may be cut at
	minSpeech     = 1.0  // seconds of voice in a reference
	maxVoiceClips = 20
)

// voiceReference makes references.
type voiceReference struct{ media *mediaTool }

// Capability implements engine.
func (v *voiceReference) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	return v.media.capability(ctx, "train_voice", events.LaneTrain, "reference", events.FidelityFull)
}

// Run implements engine: voice clips (and their transcript) in, voice_reference
// out: 16-bit mono WAV at sample_rate, at most max_seconds long.
func (v *voiceReference) Run(ctx context.Context, a *Attempt) (*Output, error) {
	rate, err := a.span("sample_rate", 8000, 48000, 24000)
	if err != nil {
		return nil, err
	}
	longest, err := a.span("max_seconds", 3, 60, 15)
	if err != nil {
		return nil, err
	}
	clips := a.Files["voice"]
	if len(clips) == 0 || len(clips) > maxVoiceClips {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: fmt.Sprintf("there are %d voice clips", len(clips)), Hint: fmt.Sprintf("give 1 to %d voice clips", maxVoiceClips)}
	}
	if _, err := exec.LookPath(v.media.ffmpeg); err != nil {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "ffmpeg is not installed here", Hint: ffmpegInstall, Err: err}
	}
	all := &wave{rate: int(rate)}
	voiced := 0.0
	for i, clip := range clips {
		part, err := v.decode(ctx, a.Dir, i, clip.Path, int(rate))
		if err != nil {
			return nil, err
		}
		kept, seconds := keepVoice(part)
		if len(kept) > 0 && len(all.samples) > 0 {
			all.pad(keptPause)
		}
		all.samples = append(all.samples, kept...)
		voiced += seconds
		a.report(80*float64(i+1)/float64(len(clips)), "cleaning voice clips")
	}
	if voiced < minSpeech {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: fmt.Sprintf("the voice clips hold %.1f s of speech, too little", voiced),
			Hint: "record at least 3 seconds, better 10, of one person speaking clearly"}
	}
	full := all.seconds()
	cutAtPause(all, longest)
	path, err := v.store(ctx, a, all)
	if err != nil {
		return nil, err
	}
	version, err := v.media.versionOf(ctx, "reference")
	if err != nil {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "ffmpeg cannot be used", Hint: ffmpegInstall, Err: err}
	}
	return &Output{
		Files:    map[string][]File{"voice_reference": {{Path: path, Artifact: events.Artifact{Name: "voice.wav", Type: "voice", MediaType: "audio/wav", DurationMS: int64(all.seconds() * 1000)}}}},
		Fidelity: events.FidelityFull, Engine: "reference", Version: version, Notes: referenceNotes(a, len(clips), full, all.seconds()),
	}, nil
}

func referenceNotes(a *Attempt, clips int, full, kept float64) []string {
	notes := []string{fmt.Sprintf("a reference of %.1f s from %d voice clips; no voice model was trained", kept, clips)}
	transcript := a.Texts["voice_transcript"] != ""
	switch {
	case transcript && kept < full-0.5:
		notes = append(notes, "the reference is shorter than the clips, so that the transcript may say more than it")
	case !transcript:
		notes = append(notes, "there is no transcript; some speech servers clone better with one")
	}
	return notes
}

// decode reads one clip as mono sound without rumble.
func (v *voiceReference) decode(ctx context.Context, dir string, n int, path string, rate int) (*wave, error) {
	info, err := v.media.probe(ctx, path)
	if err != nil {
		return nil, err
	}
	if info.Audio == nil {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: fmt.Sprintf("voice clip %d holds no sound", n+1), Hint: "upload a recording of the voice"}
	}
	out := filepath.Join(dir, fmt.Sprintf("clip%d.wav", n))
	err = v.media.run(ctx, transcode{dir: dir, inputs: []mediaInput{{path: path}}, output: out, timeout: 5 * time.Minute,
		args: []string{"-map", "0:a:0", "-t", strconv.Itoa(clipLimit), "-af", "highpass=f=70", "-ac", "1", "-ar", strconv.Itoa(rate), "-c:a", "pcm_s16le", "-f", "wav"}})
	if err != nil {
		return nil, asInvalidInput(err, fmt.Sprintf("voice clip %d cannot be decoded", n+1), "upload it again, or in another format")
	}
	return readWave(out)
}

// span is a stretch of sound in samples.
type span struct{ from, to int }

// voicedSpans finds where somebody speaks: frames not far below the loud ones,
// with 60 ms added around so that soft consonants stay.
func voicedSpans(w *wave) []span {
	step := max(1, int(vadStep*float64(w.rate)))
	var levels []float64
	for at := 0; at < len(w.samples); at += step {
		levels = append(levels, level(w.samples[at:min(len(w.samples), at+step)]))
	}
	if len(levels) == 0 {
		return nil
	}
	sorted := slices.Sorted(slices.Values(levels))
	threshold := max(vadQuietest, sorted[len(sorted)*95/100]-vadBelow)
	var out []span
	for i, l := range levels {
		if l <= threshold {
			continue
		}
		from, to := max(0, (i-3)*step), min(len(w.samples), (i+4)*step)
		if n := len(out); n > 0 && from <= out[n-1].to {
			out[n-1].to = to
		} else {
			out = append(out, span{from, to})
		}
	}
	return out
}

// keepVoice drops the silence at both ends and shortens long pauses; seconds is
// the time that somebody speaks.
func keepVoice(w *wave) (kept []float32, seconds float64) {
	last := -1
	for _, s := range voicedSpans(w) {
		if last >= 0 {
			pause := min(s.from-last, int(keptPause*float64(w.rate)))
			kept = append(kept, w.samples[s.from-pause:s.from]...)
		}
		kept = append(kept, w.samples[s.from:s.to]...)
		last = s.to
		seconds += float64(s.to-s.from) / float64(w.rate)
	}
	return kept, seconds
}

// cutAtPause shortens w to at most longest seconds, at the last pause in the
// second half if there is one, and fades its ends.
func cutAtPause(w *wave, longest float64) {
	end := w.seconds()
	if end > longest {
		end = longest
		spans := voicedSpans(w)
		for i := 1; i < len(spans); i++ {
			from, to := float64(spans[i-1].to)/float64(w.rate), float64(spans[i].from)/float64(w.rate)
			if to-from >= cutPause/2 && from >= longest/2 && from <= longest {
				end = min(longest, from+cutPause/2)
			}
		}
	}
	w.samples = w.cut(0, end)
}

// store writes the reference at the usual loudness.
func (v *voiceReference) store(ctx context.Context, a *Attempt, w *wave) (string, error) {
	path := filepath.Join(a.Dir, "voice.wav")
	if err := w.write(path); err != nil {
		return "", err
	}
	lufs, ok, err := v.media.loudness(ctx, a.Dir, path)
	if err != nil {
		return "", err
	}
	if !ok {
		lufs = level(w.samples)
	}
	w.amplify(math.Max(-24, math.Min(30, speechLUFS-lufs)))
	a.report(95, "setting the loudness")
	return path, w.write(path)
}
