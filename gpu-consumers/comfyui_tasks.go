// What each task gives to a template, and how its result becomes one like the built-in
// engine's: sizes, rate and sound as asked for, and nothing in it of what ComfyUI writes
// into its files (the whole graph, with every name and word).

package gpu

import (
	"context"
	"fmt"
	"hash/fnv"
	"math"
	"path/filepath"
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// comfyTakes are the inputs without which templates of a task do not work.
var comfyTakes = map[string]string{"lipsync.apply": "portrait", "render_video": "portrait", "upscale_video": "video"}

// needs is the input without which the template does not work.
func (e *comfyEngine) needs() string {
	if e.t.Task == "lipsync.apply" && e.t.overClip() {
		return "clip"
	}
	return comfyTakes[e.t.Task]
}

// onlyFactor is the enlargement of an upscaling template, whose model knows no other.
func (t *comfyTemplate) onlyFactor() int {
	if t.Task != "upscale_video" {
		return 0
	}
	return int(t.Factor)
}

// takes says whether the template can do this attempt; otherwise the next engine is asked.
func (e *comfyEngine) takes(a *Attempt) bool {
	fits := func(input string) bool {
		files := a.Files[input]
		if len(files) == 0 {
			return false
		}
		ms := float64(files[0].Artifact.DurationMS)
		return e.t.MaxSeconds == 0 || (ms > 0 && ms/1000+tail <= e.t.MaxSeconds)
	}
	switch e.t.Task {
	case "lipsync.apply": // a talking head does not move the lips of a clip, nor the other way round
		clip := len(a.Files["clip"]) > 0
		return clip == e.t.overClip() && (clip || len(a.Files["portrait"]) > 0) && fits("speech")
	case "upscale_video":
		return a.number("factor", 2) == e.t.Factor && fits("video")
	}
	return len(a.Files["portrait"]) > 0
}

// prepare makes the values of the slots and says how to finish.
func (e *comfyEngine) prepare(ctx context.Context, a *Attempt) (*comfyWork, error) {
	work := &comfyWork{uploads: map[string]string{}, values: map[string]any{}}
	for _, s := range e.t.Slots { // the user's own parameters and words, where a slot asks for them
		if v, given := a.Params[s.Name]; given && v != nil && !s.file() {
			work.values[s.Name] = v
		}
		if text := a.Texts[s.Name]; s.Type == "text" && text != "" {
			work.values[s.Name] = text
		}
	}
	if e.t.Task == "upscale_video" {
		return work, e.prepareUpscale(ctx, a, work)
	}
	if e.t.overClip() {
		return work, e.prepareLips(ctx, a, work)
	}
	s, err := shotOf(a)
	if err != nil {
		return nil, err
	}
	if s.note != "" {
		work.notes = append(work.notes, s.note)
	}
	portrait, err := a.oneFile("portrait")
	if err != nil {
		return nil, err
	}
	photo, err := loadPicture(portrait.Path)
	if err != nil {
		return nil, err
	}
	// Only re-encoded pixels leave for the server: no metadata of the photo's.
	reduce := a.Reduce
	if a.draft() {
		reduce++
	}
	w, h := e.t.pictureSize(s.w, s.h, reduce)
	fit, err := a.fit()
	if err != nil {
		return nil, err
	}
	scene := e.framing.setIn(ctx, photo, s.w, s.h, fit).frame()
	work.uploads["portrait"] = filepath.Join(a.Dir, "comfyui-portrait.png")
	if err := savePicture(work.uploads["portrait"], scaleCrop(scene, scene.Rect, w, h), false); err != nil {
		return nil, err
	}
	e.t.set(work.values, "width", w)
	e.t.set(work.values, "height", h)
	e.t.set(work.values, "seed", int64(a.number("seed", float64(seedOf(a.JobID)))))
	if (s.w != w || s.h != h) && min(s.w, s.h) > min(w, h) {
		work.notes = append(work.notes, fmt.Sprintf("drawn at %d×%d and enlarged to %d×%d", w, h, s.w, s.h))
	}
	if e.t.Task == "lipsync.apply" {
		return work, e.prepareTalk(ctx, a, work, s)
	}
	still := filepath.Join(a.Dir, "scene.jpg")
	if err := savePicture(still, scene, true); err != nil {
		return nil, err
	}
	e.prepareRender(a, work, s, still)
	return work, nil
}

// set gives a slot its value, if the template has it.
func (t *comfyTemplate) set(values map[string]any, slot string, value any) {
	if slices.ContainsFunc(t.Slots, func(s comfySlot) bool { return s.Name == slot }) {
		values[slot] = value
	}
}

// seedOf is a seed that follows from the job, so that a repeated stage makes the same.
func seedOf(job string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(job)) // never fails
	return h.Sum32() >> 1
}

// pictureSize is what the model draws for a picture of w×h: of the same shape, with as
// many pixels as its short side says for 16:9, and half as many after each time that
// memory ran out.
func (t *comfyTemplate) pictureSize(w, h, reduce int) (int, int) {
	short, m := float64(t.Picture.Short), float64(t.Picture.Multiple)
	area := short * short * 16 / 9 / math.Pow(2, float64(min(reduce, 3)))
	shape := float64(w) / float64(h)
	side := func(v float64) int { return int(max(1, math.Round(v/m)) * m) }
	return side(math.Sqrt(area * shape)), side(math.Sqrt(area / shape))
}

// prepareRender films the portrait.
func (e *comfyEngine) prepareRender(a *Attempt, work *comfyWork, s shot, still string) {
	e.t.set(work.values, "frames", e.t.framesOf(s.seconds))
	if !slices.ContainsFunc(e.t.Slots, func(s comfySlot) bool { return s.Name == "scene" }) {
		work.notes = append(work.notes, "the model moves the portrait and does not draw the scene")
	}
	if len(a.Files["lora"]) > 0 {
		work.notes = append(work.notes, "the LoRA was not used: the template has no place for it")
	}
	work.finish = func(ctx context.Context, a *Attempt) (*Output, error) {
		clip := filepath.Join(a.Dir, "clip.mp4")
		made, err := e.encode(ctx, a, work, recut{out: clip, w: s.w, h: s.h, fps: float64(s.fps), atMost: s.seconds})
		if err != nil {
			return nil, err
		}
		made = min(made, s.seconds)
		if made < s.seconds-0.5 {
			work.notes = append(work.notes, fmt.Sprintf("the model makes %.1f s of film; where more is needed, it is played forth and back", made))
		}
		artifact := s.artifact("clip.mp4")
		artifact.DurationMS = int64(math.Round(made * 1000))
		return &Output{Files: map[string][]File{
			"scene_image": {{Path: still, Artifact: events.Artifact{Name: "scene.jpg", Type: "image", MediaType: "image/jpeg", Width: s.w, Height: s.h}}},
			"clip":        {{Path: clip, Artifact: artifact}},
		}}, nil
	}
}

// framesOf is how many frames show so many seconds, as the model counts them.
func (t *comfyTemplate) framesOf(seconds float64) int {
	n := int(math.Ceil(seconds * t.FPS))
	if t.Frames > 1 {
		n = (n+t.Frames-2)/t.Frames*t.Frames + 1
	}
	return max(1, n)
}

// prepareTalk has the portrait speak.
func (e *comfyEngine) prepareTalk(ctx context.Context, a *Attempt, work *comfyWork, s shot) error {
	speech, spoken, err := e.spoken(ctx, a)
	if err != nil {
		return err
	}
	frames := e.t.framesOf(spoken + tail)
	e.t.set(work.values, "frames", frames)
	if e.t.Chain != nil {
		work.copies = min((frames-1)/e.t.Chain.Frames, comfyChainLimit)
	}
	work.uploads["speech"] = speech
	e.finishTalk(work, speech, spoken, s.w, s.h, float64(s.fps))
	return nil
}

// prepareLips has the clip speak, which is sent as long as the speech is.
func (e *comfyEngine) prepareLips(ctx context.Context, a *Attempt, work *comfyWork) error {
	speech, spoken, err := e.spoken(ctx, a)
	if err != nil {
		return err
	}
	in, err := a.oneFile("clip")
	if err != nil {
		return err
	}
	film, smaller := filepath.Join(a.Dir, "comfyui-clip.mp4"), 1<<min(a.Reduce, 2)
	clip, err := playback{spoken: spoken, fps: e.t.FPS, smaller: smaller, out: film, progress: func(float64) { a.report(1, "preparing the clip") }}.write(ctx, e.media, a.Dir, in.Path)
	if err != nil {
		return err
	}
	if smaller > 1 {
		work.notes = append(work.notes, drawnSmaller(clip, smaller))
	}
	e.t.set(work.values, "seed", int64(a.number("seed", float64(seedOf(a.JobID)))))
	work.uploads["clip"], work.uploads["speech"] = film, speech
	e.finishTalk(work, speech, spoken, clip.w, clip.h, float64(clip.fps))
	return nil
}

// spoken is the speech's file, and its seconds.
func (e *comfyEngine) spoken(ctx context.Context, a *Attempt) (string, float64, error) {
	speech, err := a.oneFile("speech")
	if err != nil {
		return "", 0, err
	}
	info, err := e.media.probe(ctx, speech.Path)
	if err != nil {
		return "", 0, err
	}
	if info.Audio == nil || info.Audio.Seconds <= 0 {
		return "", 0, &TaskError{Class: events.ClassInvalidInput, Message: "the speech is empty", Hint: "run the speech stage again"}
	}
	return speech.Path, info.Audio.Seconds, nil
}

// finishTalk says how the result becomes a talking picture of this size.
func (e *comfyEngine) finishTalk(work *comfyWork, speech string, spoken float64, w, h int, fps float64) {
	work.finish = func(ctx context.Context, a *Attempt) (*Output, error) {
		out := filepath.Join(a.Dir, "talking.mp4")
		seconds := math.Ceil((spoken+tail)*fps) / fps
		made, err := e.encode(ctx, a, work, recut{out: out, w: w, h: h, fps: fps, exactly: seconds, speech: speech})
		if err != nil {
			return nil, err
		}
		if made < spoken-0.5 {
			return nil, &TaskError{Class: events.ClassEngineRejected, Message: fmt.Sprintf("ComfyUI made %.1f s of picture for %.1f s of speech", made, spoken),
				Hint: "look at the template's frames and chain"}
		}
		return &Output{Files: map[string][]File{"talking": {{Path: out, Artifact: events.Artifact{Name: "talking.mp4", Type: "video", MediaType: "video/mp4",
			Width: w, Height: h, DurationMS: int64(math.Round(seconds * 1000))}}}}}, nil
	}
}

// prepareUpscale enlarges a video.
func (e *comfyEngine) prepareUpscale(ctx context.Context, a *Attempt, work *comfyWork) error {
	video, err := a.oneFile("video")
	if err != nil {
		return err
	}
	info, err := e.media.probe(ctx, video.Path)
	if err != nil {
		return err
	}
	if info.Video == nil {
		return &TaskError{Class: events.ClassInvalidInput, Message: "the file to upscale holds no picture", Hint: "the stage before it made no video"}
	}
	work.uploads["video"] = video.Path
	w, h := upscaledSize(info.Video.Width, info.Video.Height, e.t.Factor)
	if float64(w) < e.t.Factor*float64(info.Video.Width)-2 {
		work.notes = append(work.notes, "the size was limited to 4K")
	}
	work.finish = func(ctx context.Context, a *Attempt) (*Output, error) {
		out := filepath.Join(a.Dir, "upscaled.mp4")
		cut := recut{out: out, w: w, h: h, fps: info.Video.FPS, exactly: info.Video.Seconds}
		if info.Audio != nil {
			cut.sound = video.Path
		}
		if _, err := e.encode(ctx, a, work, cut); err != nil {
			return nil, err
		}
		return &Output{Files: map[string][]File{"video": {{Path: out, Artifact: events.Artifact{Name: "upscaled.mp4", Type: "video", MediaType: "video/mp4",
			Width: w, Height: h, DurationMS: int64(math.Round(info.Seconds * 1000))}}}}}, nil
	}
	return nil
}

// encode makes the result anew, takes the server's file away, and gives the seconds of
// picture that the server made.
func (e *comfyEngine) encode(ctx context.Context, a *Attempt, work *comfyWork, c recut) (float64, error) {
	c.raw, c.whose, c.hint = work.raw, "ComfyUI", "look at the template's output node"
	return e.media.recut(ctx, a.Dir, c, func(f float64) { a.report(comfyFetched+(99-comfyFetched)*f, "finishing") })
}
