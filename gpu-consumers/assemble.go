// media.assemble: the finished MP4, its captions and its thumbnail.

package gpu

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

const (
	tail          = 0.35 // seconds of picture after the speech
	streamsWithin = 0.1  // seconds by which the finished streams may differ
	thumbnailAt   = 0.3  // of the length
)

// assembler makes the final video.
type assembler struct{ media *mediaTool }

// Capability implements engine.
func (m *assembler) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	return m.media.capability(ctx, "media.assemble", events.LaneMedia, "ffmpeg", events.FidelityFull)
}

// cutting is what the final encode works with.
type cutting struct {
	video, speech *mediaInfo
	videoPath     string
	speechPath    string
	seconds       float64 // of the result
	gain          float64 // dB for the speech
	burn          string  // name of an .ass file in the working directory, or empty
}

// Run implements engine: video, speech, timing (optional) and narration in;
// video, thumbnail, captions_srt and captions_vtt out.
func (m *assembler) Run(ctx context.Context, a *Attempt) (*Output, error) {
	c, err := m.prepare(ctx, a)
	if err != nil {
		return nil, err
	}
	captions, note, err := captionsFor(a, c.speech.Seconds)
	if err != nil {
		return nil, err
	}
	switch a.text("captions", "file") {
	case "file":
	case "burned":
		c.burn = "captions.ass"
	default:
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the kind of captions is unknown", Hint: "choose file or burned"}
	}
	for name, content := range map[string]string{
		"captions.srt": srt(captions), "captions.vtt": vtt(captions), "captions.ass": ass(captions, c.video.Video.Width, c.video.Video.Height),
	} {
		if err := os.WriteFile(filepath.Join(a.Dir, name), []byte(content), 0o600); err != nil {
			return nil, fmt.Errorf("cannot write captions: %w", err)
		}
	}
	a.report(10, "assembling")
	out, thumb := filepath.Join(a.Dir, "video.mp4"), filepath.Join(a.Dir, "thumbnail.jpg")
	if err := m.encode(ctx, a, c, out); err != nil {
		return nil, err
	}
	if err := m.thumbnail(ctx, a.Dir, out, c.seconds*thumbnailAt, thumb); err != nil {
		return nil, err
	}
	return m.output(ctx, a, out, thumb, note)
}

// prepare probes the inputs and decides length and loudness.
func (m *assembler) prepare(ctx context.Context, a *Attempt) (*cutting, error) {
	video, err := a.oneFile("video")
	if err != nil {
		return nil, err
	}
	speech, err := a.oneFile("speech")
	if err != nil {
		return nil, err
	}
	c := &cutting{videoPath: video.Path, speechPath: speech.Path}
	if c.video, err = m.media.probe(ctx, video.Path); err != nil {
		return nil, err
	}
	if c.speech, err = m.media.probe(ctx, speech.Path); err != nil {
		return nil, err
	}
	if c.video.Video == nil || c.speech.Audio == nil || c.speech.Seconds <= 0 {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the video holds no picture, or the speech no sound", Hint: "run the stages before it again"}
	}
	fps := max(1, c.video.Video.FPS)
	c.seconds = math.Ceil((c.speech.Seconds+tail)*fps) / fps
	lufs, ok, err := m.media.loudness(ctx, a.Dir, speech.Path)
	if err != nil {
		return nil, err
	}
	if ok {
		c.gain = max(-24, min(24, speechLUFS-lufs))
	}
	return c, nil
}

// captionsFor makes captions from the timing, or else from the narration.
func captionsFor(a *Attempt, seconds float64) ([]caption, string, error) {
	if len(a.Files["timing"]) > 0 {
		t, err := readTiming(a.Files["timing"][0].Path)
		if err != nil {
			return nil, "", err
		}
		if len(t.Words) > 0 {
			return captionsOf(t.Words, seconds), "", nil
		}
	}
	words := spreadWords(a.Texts["narration"], 0.1, max(0.2, seconds-0.2))
	return captionsOf(words, seconds), "caption times are estimated from the length of the words", nil
}

// encode joins picture and speech. A picture of the right format and length is
// taken over as it is.
func (m *assembler) encode(ctx context.Context, a *Attempt, c *cutting, out string) error {
	v := c.video.Video
	var filter []string
	if short := c.seconds - v.Seconds; short > 0.02 {
		filter = append(filter, fmt.Sprintf("tpad=stop_mode=clone:stop_duration=%.3f", short+0.1))
	}
	if c.burn != "" {
		filter = append(filter, "ass="+c.burn) // relative to the working directory: our own name, nothing to escape
	}
	args := []string{"-map", "0:v:0", "-map", "1:a:0"}
	if len(filter) == 0 && v.Codec == "h264" {
		args = append(args, "-c:v", "copy")
	} else {
		args = append(append(args, "-vf", strings.Join(append(filter, "format=yuv420p"), ",")), h264Args("20")...)
	}
	length := strconv.FormatFloat(c.seconds, 'f', 3, 64)
	sound := fmt.Sprintf("aresample=48000,volume=%.2fdB,alimiter=limit=0.89:level=false,apad=whole_dur=%s", c.gain, length)
	args = append(args, "-af", sound, "-c:a", "aac", "-b:a", "128k", "-ac", "1", "-t", length)
	return m.media.run(ctx, transcode{dir: a.Dir, inputs: []mediaInput{{path: c.videoPath}, {path: c.speechPath}}, args: args, output: out,
		seconds: c.seconds, progress: func(f float64) { a.report(10+80*f, "assembling") }, timeout: 30 * time.Minute})
}

// thumbnail stores the picture at a time as JPEG, at most 1280 pixels wide.
func (m *assembler) thumbnail(ctx context.Context, dir, video string, at float64, out string) error {
	return m.media.run(ctx, transcode{dir: dir, inputs: []mediaInput{{path: video, options: []string{"-ss", strconv.FormatFloat(at, 'f', 3, 64)}}},
		args:   []string{"-map", "0:v:0", "-vf", "scale='min(1280,iw)':'trunc(ih*ow/iw/2)*2':out_range=pc,format=yuvj420p", "-frames:v", "1", "-q:v", "3", "-c:v", "mjpeg", "-f", "mjpeg"},
		output: out, timeout: time.Minute})
}

// output probes the result, so that what is announced is what is there.
func (m *assembler) output(ctx context.Context, a *Attempt, video, thumb, note string) (*Output, error) {
	info, err := m.media.probe(ctx, video)
	if err != nil {
		return nil, err
	}
	if info.Video == nil || info.Audio == nil || math.Abs(info.Video.Seconds-info.Audio.Seconds) > streamsWithin {
		return nil, &TaskError{Class: events.ClassEngineRejected, Message: "the assembled picture and sound differ in length", Hint: "try again; report it if it stays so"}
	}
	version, err := m.media.versionOf(ctx, "ffmpeg")
	if err != nil {
		return nil, &TaskError{Class: events.ClassEngineUnavailable, Message: "ffmpeg cannot be used", Hint: ffmpegInstall, Err: err}
	}
	a.report(100, "assembled")
	ms := int64(math.Round(info.Seconds * 1000))
	file := func(path, kind, media string) []File {
		return []File{{Path: path, Artifact: events.Artifact{Name: filepath.Base(path), Type: kind, MediaType: media, DurationMS: ms}}}
	}
	o := &Output{
		Files: map[string][]File{
			"video":        file(video, "video", "video/mp4"),
			"captions_srt": file(filepath.Join(a.Dir, "captions.srt"), "captions", "application/x-subrip"),
			"captions_vtt": file(filepath.Join(a.Dir, "captions.vtt"), "captions", "text/vtt"),
			"thumbnail":    {{Path: thumb, Artifact: events.Artifact{Name: "thumbnail.jpg", Type: "thumbnail", MediaType: "image/jpeg"}}},
		},
		Fidelity: events.FidelityFull, Engine: "ffmpeg", Version: version,
	}
	o.Files["video"][0].Artifact.Width, o.Files["video"][0].Artifact.Height = info.Video.Width, info.Video.Height
	o.Files["thumbnail"][0].Artifact.Width = min(1280, info.Video.Width)
	o.Files["thumbnail"][0].Artifact.Height = info.Video.Height * min(1280, info.Video.Width) / info.Video.Width &^ 1
	if note != "" {
		o.Notes = []string{note}
	}
	return o, nil
}
