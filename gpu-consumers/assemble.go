// media.assemble: the finished MP4, its captions and its thumbnail.

package gpu

import (
	"context"
	"fmt"
	"image"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

const (
	tail          = 0.35 // seconds of picture after the speech
	streamsWithin = 0.1  // seconds by which the finished streams may differ
)

// assembler makes the final video.
type assembler struct {
	media *mediaTool
	faces *faceNetworks // may be without weights
}

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
	gain          float64 // dB that bring the speech to speechLUFS

	shape []string // filters that give the picture its shape
	w, h  int      // of the result
	drawn []string // filters that draw captions and label
	label []string // that which draws the label alone
}

// Run implements engine: video, speech, timing (optional), narration and music
// (optional) in; video, thumbnail, captions_srt and captions_vtt out.
func (m *assembler) Run(ctx context.Context, a *Attempt) (*Output, error) {
	c, err := m.prepare(ctx, a)
	if err != nil {
		return nil, err
	}
	notes, err := m.write(a, c)
	if err != nil {
		return nil, err
	}
	a.report(10, "mixing the sound")
	sound, note, err := m.mix(ctx, a, c)
	if err != nil {
		return nil, err
	}
	notes = append(notes, note)
	a.report(20, "assembling")
	out := filepath.Join(a.Dir, "video.mp4")
	if err := m.encode(ctx, a, c, sound, out); err != nil {
		return nil, err
	}
	thumb, err := m.thumbnail(ctx, a, c)
	if err != nil {
		return nil, err
	}
	if a.draft() {
		notes = append(notes, "a draft: small and fast, to see what it will be")
	}
	return m.output(ctx, a, out, thumb, notes)
}

// write makes the caption files and says what is drawn into the picture. What users
// wrote goes into files alone, never into a filter.
func (m *assembler) write(a *Attempt, c *cutting) (notes []string, err error) {
	words, note, err := captionWords(a, c.speech.Seconds)
	if err != nil {
		return nil, err
	}
	captions := captionsOf(words, c.speech.Seconds, captionLine)
	files := map[string]string{"captions.srt": srt(captions), "captions.vtt": vtt(captions)}
	switch a.text("captions", "file") {
	case "file":
	case "burned":
		files["captions.ass"] = ass(captionsOf(words, c.speech.Seconds, burnedLine(c.w, c.h)), c.w, c.h)
		c.drawn = append(c.drawn, "ass=captions.ass") // relative to the working directory: our own name, nothing to escape
	default:
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the kind of captions is unknown", Hint: "choose file or burned"}
	}
	if a.flag("label") {
		files["label.ass"] = assLabel(c.w, c.h)
		c.label = []string{"ass=label.ass"}
		c.drawn = append(c.drawn, c.label...)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(a.Dir, name), []byte(content), 0o600); err != nil {
			return nil, fmt.Errorf("cannot write captions: %w", err)
		}
	}
	return []string{note}, nil
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
	return c, m.shape(ctx, a, c)
}

// shape decides how the picture gets the aspect that was asked for. Engines that draw it
// in that shape leave nothing to do.
func (m *assembler) shape(ctx context.Context, a *Attempt, c *cutting) error {
	fit, err := a.fit()
	if err != nil {
		return err
	}
	v := c.video.Video
	aspect := float64(v.Width) / float64(v.Height)
	if a.text("aspect", "") != "" {
		if aspect, err = a.aspectOf(); err != nil {
			return err
		}
	}
	c.shape, c.w, c.h = fitFilters(v.Width, v.Height, aspect, fit, func(w, h int) image.Rectangle {
		part := frameCrop(v.Width, v.Height, w, h)
		if face, ok := m.faceOf(ctx, a, c); ok {
			part = around(face, image.Rect(0, 0, v.Width, v.Height), part.Size())
		}
		return part
	})
	return nil
}

// captionWords are the words and their times, by the timing or else by the narration.
func captionWords(a *Attempt, seconds float64) ([]timedWord, string, error) {
	if len(a.Files["timing"]) > 0 {
		t, err := readTiming(a.Files["timing"][0].Path)
		if err != nil {
			return nil, "", err
		}
		if len(t.Words) > 0 {
			return t.Words, "", nil
		}
	}
	words := spreadWords(a.Texts["narration"], 0.1, max(0.2, seconds-0.2))
	return words, "caption times are estimated from the length of the words", nil
}

// encode joins picture and sound. A picture of the right format and length is
// taken over as it is.
func (m *assembler) encode(ctx context.Context, a *Attempt, c *cutting, sound, out string) error {
	v := c.video.Video
	filter := slices.Clone(c.shape)
	if short := c.seconds - v.Seconds; short > 0.02 {
		filter = append(filter, fmt.Sprintf("tpad=stop_mode=clone:stop_duration=%.3f", short+0.1))
	}
	filter = append(filter, c.drawn...)
	args := []string{"-map", "0:v:0", "-map", "1:a:0"}
	// Without decoding, a picture that is too long cannot be cut where it should be.
	if long := v.Seconds - c.seconds; len(filter) == 0 && v.Codec == "h264" && long < 0.5/max(1, v.FPS) {
		args = append(args, "-c:v", "copy")
	} else {
		args = append(append(args, "-vf", strings.Join(append(filter, "format=yuv420p"), ",")), h264Args("20")...)
	}
	length := strconv.FormatFloat(c.seconds, 'f', 3, 64)
	rate := "128k"
	if len(a.Files["music"]) > 0 {
		rate = "192k"
	}
	args = append(args, "-c:a", "aac", "-b:a", rate, "-t", length)
	return m.media.run(ctx, transcode{dir: a.Dir, inputs: []mediaInput{{path: c.videoPath}, {path: sound}}, args: args, output: out, comment: madeHow(a),
		seconds: c.seconds, progress: func(f float64) { a.report(20+65*f, "assembling") }, timeout: 30 * time.Minute})
}

// madeHow tells in the file itself what else a finder may want to know.
func madeHow(a *Attempt) string {
	how := ""
	if a.draft() {
		how += "; draft"
	}
	if seed, drawn := a.Params["seed"]; drawn && seed != nil {
		how += fmt.Sprintf("; seed %.0f", a.number("seed", 0))
	}
	return how
}

// output probes the result, so that what is announced is what is there.
func (m *assembler) output(ctx context.Context, a *Attempt, video string, thumb *thumbnail, notes []string) (*Output, error) {
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
			"thumbnail": {{Path: thumb.path, Artifact: events.Artifact{Name: "thumbnail.jpg", Type: "thumbnail", MediaType: "image/jpeg",
				Width: thumb.size.X, Height: thumb.size.Y}}},
		},
		Fidelity: events.FidelityFull, Engine: "ffmpeg", Version: version,
	}
	o.Files["video"][0].Artifact.Width, o.Files["video"][0].Artifact.Height = info.Video.Width, info.Video.Height
	o.Notes = slices.DeleteFunc(notes, func(n string) bool { return n == "" })
	return o, nil
}
