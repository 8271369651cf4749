// media.check: whether the final video is one that a person can watch.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// What a finished video must keep to.
const (
	checkShortSide = 512   // pixels, at least
	checkDraftSide = 320   // in a draft
	checkStreams   = 0.3   // seconds that picture and sound may differ by
	checkSpeech    = 0.3   // seconds of the speech that may be missing
	checkVolume    = -50.0 // dBFS, mean over the video, at least
	checkLoudness  = 1.5   // LU that the whole may differ from speechLUFS by
	checkStill     = 2.0   // seconds without any movement, at most; or half of a shorter video
	checkBlack     = 24.0  // mean luma of 16 (black) to 235 that some frame must exceed
)

// checker judges final videos.
type checker struct {
	media *mediaTool
	faces *faceNetworks // may be without weights: then nobody looks at the mouth
}

// Capability implements engine.
func (k *checker) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	return k.media.capability(ctx, "media.check", events.LaneMedia, "ffmpeg", events.FidelityFull)
}

// Run implements engine: video and speech in, a verdict out. A poor video is no
// error: its verdict says Allowed false, with every reason.
func (k *checker) Run(ctx context.Context, a *Attempt) (*Output, error) {
	video, err := a.oneFile("video")
	if err != nil {
		return nil, err
	}
	speech, err := a.oneFile("speech")
	if err != nil {
		return nil, err
	}
	info, err := k.media.probe(ctx, video.Path)
	if err != nil {
		return nil, err
	}
	spoken, err := k.media.probe(ctx, speech.Path)
	if err != nil {
		return nil, err
	}
	a.report(20, "checking")
	smallest := checkShortSide
	if a.draft() {
		smallest = checkDraftSide
	}
	reasons := judgeStreams(info, spoken.Seconds, smallest)
	var notes []string
	if info.Video != nil && info.Audio != nil {
		more, err := k.watch(ctx, a, video.Path, info)
		if err != nil {
			return nil, err
		}
		a.report(50, "looking at the mouth")
		mouth, note, err := k.mouth(ctx, a, video.Path, info, spoken.Seconds)
		if err != nil {
			return nil, err
		}
		if note != "" {
			notes = append(notes, note)
		}
		reasons = append(append(reasons, more...), mouth...)
	}
	version, err := k.media.versionOf(ctx, "ffmpeg")
	if err != nil {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "ffmpeg cannot be used", Hint: ffmpegInstall, Err: err}
	}
	a.report(100, "checked")
	return &Output{Fidelity: events.FidelityFull, Engine: "ffmpeg", Version: version, Notes: notes,
		Verdict: &events.Verdict{Allowed: len(reasons) == 0, Reasons: reasons}}, nil
}

// judgeStreams judges what the file says of itself.
func judgeStreams(info *mediaInfo, speech float64, smallest int) (reasons []events.Reason) {
	add := func(code, format string, args ...any) {
		reasons = append(reasons, events.Reason{Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	v, s := info.Video, info.Audio
	if v == nil {
		add("no_picture", "the final video has no picture")
	} else {
		if v.Codec != "h264" {
			add("video_codec", "the picture is not H.264")
		}
		if min(v.Width, v.Height) < smallest {
			add("too_small", "the picture has %d×%d pixels; the shorter side must have at least %d", v.Width, v.Height, smallest)
		}
		if v.Seconds < speech-checkSpeech {
			add("cut_off", "the picture lasts %.1f s, the speech %.1f s", v.Seconds, speech)
		}
	}
	if s == nil {
		add("no_sound", "the final video has no sound")
	} else if s.Codec != "aac" {
		add("audio_codec", "the sound is not AAC")
	}
	if v != nil && s != nil && math.Abs(v.Seconds-s.Seconds) > checkStreams {
		add("lengths_differ", "the picture lasts %.1f s and the sound %.1f s", v.Seconds, s.Seconds)
	}
	return reasons
}

// stillAllowed says whether a video of the picture itself was allowed: it need not move.
func stillAllowed(a *Attempt) bool { return a.text("no_face", "fail") == "still" }

// watch looks at the whole picture, small, and listens to the whole sound.
func (k *checker) watch(ctx context.Context, a *Attempt, path string, info *mediaInfo) (reasons []events.Reason, err error) {
	const (
		luma, volume, loud = "lavfi.signalstats.YAVG", "lavfi.astats.Overall.RMS_level", "lavfi.r128.I"
		stands, moves      = "lavfi.freezedetect.freeze_start", "lavfi.freezedetect.freeze_end"
	)
	still := min(checkStill, info.Video.Seconds/2)
	values, err := k.media.measure(ctx, a.Dir, path,
		"-map", "0:v:0", "-vf", fmt.Sprintf("scale=320:-2,freezedetect=noise=-60dB:duration=%.3f,metadata=mode=print:file=-,fps=2,signalstats,metadata=mode=print:key=%s:file=-", still, luma),
		"-map", "0:a:0", "-af", "astats=metadata=1:measure_perchannel=none:measure_overall=RMS_level,ametadata=mode=print:key="+volume+":file=-,"+
			"ebur128=metadata=1,ametadata=mode=print:key="+loud+":file=-")
	var refused *TaskError
	if errors.As(err, &refused) && refused.Class == events.ClassEngineRejected {
		return []events.Reason{{Code: "unreadable", Detail: "the final video cannot be decoded to its end"}}, nil
	}
	if err != nil {
		return nil, err
	}
	add := func(code, format string, args ...any) {
		reasons = append(reasons, events.Reason{Code: code, Detail: fmt.Sprintf(format, args...)})
	}
	if frames := values[luma]; len(frames) == 0 || slices.Max(frames) < checkBlack {
		add("black", "the picture is black throughout")
	}
	if starts, ends := values[stands], values[moves]; len(starts) > 0 && !stillAllowed(a) {
		end := info.Video.Seconds
		if len(ends) > 0 {
			end = ends[0]
		}
		add("frozen", "the picture stands still from %.1f s to %.1f s", starts[0], end)
	}
	// The filters' levels are cumulative: the last one is of the whole sound.
	levels, all := values[volume], values[loud]
	switch {
	case len(levels) == 0 || !(levels[len(levels)-1] > checkVolume):
		add("silent", "the sound is not audible: its mean volume is below %.0f dB", checkVolume)
	case len(all) > 0 && all[len(all)-1] > unmeasured && math.Abs(all[len(all)-1]-speechLUFS) > checkLoudness:
		add("loudness", "the loudness is %.1f LUFS; it should be %.0f, and may differ by %.1f", all[len(all)-1], speechLUFS, checkLoudness)
	}
	return reasons, nil
}
