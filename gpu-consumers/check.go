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
	checkStreams   = 0.3   // seconds that picture and sound may differ by
	checkSpeech    = 0.3   // seconds of the speech that may be missing
	checkVolume    = -50.0 // dBFS, mean over the video, at least
	checkBlack     = 24.0  // mean luma of 16 (black) to 235 that some frame must exceed
)

// checker judges final videos.
type checker struct{ media *mediaTool }

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
	reasons := judgeStreams(info, spoken.Seconds)
	if info.Video != nil && info.Audio != nil {
		more, err := k.watch(ctx, a.Dir, video.Path)
		if err != nil {
			return nil, err
		}
		reasons = append(reasons, more...)
	}
	version, err := k.media.versionOf(ctx, "ffmpeg")
	if err != nil {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "ffmpeg cannot be used", Hint: ffmpegInstall, Err: err}
	}
	a.report(100, "checked")
	return &Output{Fidelity: events.FidelityFull, Engine: "ffmpeg", Version: version,
		Verdict: &events.Verdict{Allowed: len(reasons) == 0, Reasons: reasons}}, nil
}

// judgeStreams judges what the file says of itself.
func judgeStreams(info *mediaInfo, speech float64) (reasons []events.Reason) {
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
		if min(v.Width, v.Height) < checkShortSide {
			add("too_small", "the picture has %d×%d pixels; the shorter side must have at least %d", v.Width, v.Height, checkShortSide)
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

// watch looks at two frames a second and listens to the whole sound.
func (k *checker) watch(ctx context.Context, dir, path string) (reasons []events.Reason, err error) {
	const luma, volume = "lavfi.signalstats.YAVG", "lavfi.astats.Overall.RMS_level"
	values, err := k.media.measure(ctx, dir, path,
		"-map", "0:v:0", "-vf", "fps=2,scale=160:-2,signalstats,metadata=mode=print:key="+luma+":file=-",
		"-map", "0:a:0", "-af", "astats=metadata=1:measure_perchannel=none:measure_overall=RMS_level,ametadata=mode=print:key="+volume+":file=-")
	var refused *TaskError
	if errors.As(err, &refused) && refused.Class == events.ClassEngineRejected {
		return []events.Reason{{Code: "unreadable", Detail: "the final video cannot be decoded to its end"}}, nil
	}
	if err != nil {
		return nil, err
	}
	if frames := values[luma]; len(frames) == 0 || slices.Max(frames) < checkBlack {
		reasons = append(reasons, events.Reason{Code: "black", Detail: "the picture is black throughout"})
	}
	// The filter's level is cumulative: the last one is of the whole sound.
	if levels := values[volume]; len(levels) == 0 || !(levels[len(levels)-1] > checkVolume) {
		reasons = append(reasons, events.Reason{Code: "silent", Detail: fmt.Sprintf("the sound is not audible: its mean volume is below %.0f dB", checkVolume)})
	}
	return reasons, nil
}
