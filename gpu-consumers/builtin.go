// The engines that need no GPU and no model server, and what they share.

package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// EngineConfig says where the built-in engines find their programs and weights.
type EngineConfig struct {
	FFmpeg      string // path of ffmpeg; empty: found on PATH
	FFprobe     string // path of ffprobe; empty: found on PATH
	Flite       string // path of flite; empty: found on PATH
	FaceWeights string // folder of the face networks; empty: lip-sync announces a gap, and rendering frames without them
	NoVoice     bool   // leave the built-in voice out: where another is configured, no job is to be spoken by this one
}

// BuiltinEngines are the engines of this package that need no GPU and no model
// server. Each announces itself what it lacks on this machine.
func BuiltinEngines(cfg EngineConfig) []engine {
	media := cfg.media()
	faces := &faceNetworks{folder: cfg.FaceWeights}
	engines := []engine{
		trainingSet{}, &voiceReference{media},
		&kenBurns{media, faces}, &talkingPhoto{media, faces}, &lanczos{media}, &assembler{media, faces}, &checker{media, faces}, cfg.recorder(media),
	}
	if !cfg.NoVoice {
		engines = append(engines, cfg.builtinVoice(media))
	}
	return engines
}

func (cfg EngineConfig) media() *mediaTool {
	return &mediaTool{ffmpeg: cmp.Or(cfg.FFmpeg, "ffmpeg"), ffprobe: cmp.Or(cfg.FFprobe, "ffprobe")}
}

// recorder is the speech engine that plays what a person has said.
func (cfg EngineConfig) recorder(media *mediaTool) *speech {
	return &speech{voice: recording{media}, aligner: &aligner{cmp.Or(cfg.Flite, "flite")}, media: media}
}

// builtinVoice is the speech engine with flite.
func (cfg EngineConfig) builtinVoice(media *mediaTool) *speech {
	program := cmp.Or(cfg.Flite, "flite")
	return &speech{voice: flite(program), aligner: &aligner{program}, media: media}
}

// asInvalidInput turns a child's refusal of a user's file into invalid_input;
// other errors pass.
func asInvalidInput(err error, message, hint string) error {
	var te *TaskError
	if errors.As(err, &te) && te.Class == events.ClassEngineRejected {
		return &TaskError{Class: events.ClassInvalidInput, Message: message, Hint: hint, LogTail: te.LogTail, Err: te.Err}
	}
	return err
}

// oneFile is the file of an input that must be there once.
func (a *Attempt) oneFile(input string) (File, error) {
	files := a.Files[input]
	if len(files) == 0 {
		return File{}, &TaskError{Class: events.ClassInvalidInput, Message: fmt.Sprintf("the input %q is missing", input),
			Hint: "the stage before it made no such file"}
	}
	if !filepath.IsAbs(files[0].Path) {
		return File{}, fmt.Errorf("the path of input %q is not absolute", input)
	}
	return files[0], nil
}

// report is Progress, for callers that have none.
func (a *Attempt) report(percent float64, message string) {
	if a.Progress != nil {
		a.Progress(percent, message)
	}
}

// text is a parameter that is a word; a missing one is def.
func (a *Attempt) text(name, def string) string {
	if s, ok := a.Params[name].(string); ok && s != "" {
		return s
	}
	return def
}

// language is what the attempt is spoken or written in, English unless it says otherwise.
func (a *Attempt) language() string { return a.text("language", "en") }

// number is a parameter that is a number; a missing one is def. JSON gives
// float64, tests and defaults give int.
func (a *Attempt) number(name string, def float64) float64 {
	switch v := a.Params[name].(type) {
	case float64:
		return v
	case int:
		return float64(v)
	case int64:
		return float64(v)
	}
	return def
}

// span is a number within limits; one outside is invalid_input.
func (a *Attempt) span(name string, lo, hi, def float64) (float64, error) {
	v := a.number(name, def)
	if !(v >= lo && v <= hi) {
		return 0, &TaskError{Class: events.ClassInvalidInput, Message: fmt.Sprintf("the parameter %s is %g, outside %g to %g", name, v, lo, hi),
			Hint: fmt.Sprintf("choose %s from %g to %g", name, lo, hi)}
	}
	return v, nil
}

// flag is a parameter that is true or false; a missing one is false.
func (a *Attempt) flag(name string) bool {
	set, _ := a.Params[name].(bool)
	return set
}

// A draft is small and fast.
const (
	draftShort = 360 // pixels of the short side
	draftFPS   = 15  // frames per second, at most
)

func (a *Attempt) draft() bool { return a.flag("draft") }

// resolutions are the short sides in pixels by their names, the smallest first.
var resolutions = []resolution{{"576p", 576}, {"720p", 720}, {"1080p", 1080}}

type resolution struct {
	name  string
	short int
}

// resolution names what the attempt draws, after what memory running out has taken off.
func (a *Attempt) resolution() string {
	name := a.text("resolution", "720p")
	if asked := slices.IndexFunc(resolutions, func(r resolution) bool { return r.name == name }); asked >= 0 {
		return resolutions[max(0, asked-a.Reduce)].name
	}
	return name
}

// frameSize is the picture's size in pixels for the parameters resolution and
// aspect, one resolution smaller for every attempt that ran out of memory; both sides
// are even. The note says so where that made a difference.
func (a *Attempt) frameSize() (w, h int, note string, err error) {
	name, aspect := a.text("resolution", "720p"), a.text("aspect", "1:1")
	asked := slices.IndexFunc(resolutions, func(r resolution) bool { return r.name == name })
	if asked < 0 {
		return 0, 0, "", &TaskError{Class: events.ClassInvalidInput, Message: "the resolution is unknown", Hint: "choose 576p, 720p or 1080p"}
	}
	given := resolutions[max(0, asked-a.Reduce)]
	switch {
	case a.draft():
		given.short = draftShort
	case given.name != name:
		note = fmt.Sprintf("rendered at %s in place of %s, because memory ran out before", given.name, name)
	}
	long := given.short * 16 / 9 &^ 1
	switch aspect {
	case "1:1":
		return given.short, given.short, note, nil
	case "16:9":
		return long, given.short, note, nil
	case "9:16":
		return given.short, long, note, nil
	}
	return 0, 0, "", &TaskError{Class: events.ClassInvalidInput, Message: "the aspect is unknown", Hint: "choose 16:9, 9:16 or 1:1"}
}

// revisions are our own part of the version of each engine that runs ffmpeg: raised
// when it makes something else of the same inputs.
var revisions = map[string]string{"talking-photo": "3", "ken-burns": "1", "reference": "1", "lanczos": "1", "ffmpeg": "2", "recording": "1"}

// versionOf is the engine's revision and ffmpeg's version, which both decide what
// comes out.
func (m *mediaTool) versionOf(ctx context.Context, engine string) (string, error) {
	version, err := m.able(ctx)
	return revisions[engine] + " (ffmpeg " + version + ")", err
}

// capability is the announcement of a built-in engine that runs ffmpeg.
func (m *mediaTool) capability(ctx context.Context, task, lane, engine, fidelity string) (events.TaskCapability, *events.TaskGap) {
	version, err := m.versionOf(ctx, engine)
	if err != nil {
		return events.TaskCapability{}, &events.TaskGap{Task: task, Engine: engine, Reason: err.Error(), Hint: ffmpegInstall, Builtin: true}
	}
	return events.TaskCapability{Task: task, Lane: lane, Engine: engine, Version: version, Fidelity: fidelity, Builtin: true}, nil
}
