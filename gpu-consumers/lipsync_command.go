// lipsync.apply by a program: Wav2Lip, SadTalker, or any other by a template of its
// command line. The rules of command.go hold.

package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// LipsyncConfig says which programs move lips; without a folder or a command there is
// none of them.
type LipsyncConfig struct {
	Wav2Lip, SadTalker LipsyncProgramConfig
	Command            CommandLipsyncConfig
}

// LipsyncProgramConfig is a checkout of a known program.
type LipsyncProgramConfig struct {
	Folder     string // of the checkout; empty: there is none
	Python     string // of the environment that it was installed in; default python3
	Checkpoint string // file of the weights, or for SadTalker their folder
	Args       []string
	Env        []string
	Timeout    time.Duration // of one call; default 30 min
	Idle       time.Duration // longest silence; default 10 min
	Memory     int64         // bytes that each of its processes may fill; 0: any
	Note       string
}

// CommandLipsyncConfig is any other program.
type CommandLipsyncConfig struct {
	Argv     []string // program and arguments; see lipsyncHoles
	Env      []string
	Face     string // portrait, clip or any: what its {face} may be
	Model    string
	Progress string // regular expression of one group (percent) or two (done, all); empty: tqdm's bars
	Preview  bool
	Timeout  time.Duration
	Idle     time.Duration
	Memory   int64
	Note     string
}

// lipsyncHoles are what a command's template may hold. Paths are plain names below the
// folder that the program runs in, so that no program can stumble over them.
var lipsyncHoles = map[string]*regexp.Regexp{
	"face": anyPath, "speech": anyPath, "out": anyPath, "out_dir": anyPath, "folder": anyPath, "checkpoint": anyPath,
	"fps": anyNumber, "width": anyNumber, "height": anyNumber, "batch": anyNumber, "face_batch": anyNumber, "size": anyNumber,
}

const (
	faceOfPortrait = "portrait"
	faceOfClip     = "clip"
	faceOfAny      = "any"
)

// lipsyncProgram is an engine that is a program.
type lipsyncProgram struct {
	programConfig
	name, model, note string
	fidelity          string
	argv              []string
	face              string // what it takes
	folder            string
	checkpoint        string
	hint              string // how to install it
	needs             []needed
	links             []string // entries of its checkout that it looks for where it runs
	phases            []phase
	pattern           *regexp.Regexp
	signs             []refusalRule
	noFace            []string // words of its log by which it tells that it found no face
	circles           string
	named             string // what its last line says before the result's path; empty: the result is {out}
	batches           func(reduce int) (batch, faceBatch, size int)

	media   *mediaTool
	framing *kenBurns
}

// LipsyncEngines are the configured programs in the order of preference. They belong
// before the built-in engine, which takes what none of them does.
func LipsyncEngines(c LipsyncConfig, programs EngineConfig) ([]engine, error) {
	if err := absolute("engines.lipsync", c.Wav2Lip.Folder, c.Wav2Lip.Checkpoint, c.SadTalker.Folder, c.SadTalker.Checkpoint); err != nil {
		return nil, err
	}
	media := programs.media()
	var all []*lipsyncProgram
	if c.SadTalker.Folder != "" {
		all = append(all, sadTalker(c.SadTalker))
	}
	if c.Wav2Lip.Folder != "" {
		all = append(all, wav2Lip(c.Wav2Lip))
	}
	if len(c.Command.Argv) > 0 {
		p, err := lipsyncCommand(c.Command)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	engines := make([]engine, len(all))
	for i, p := range all {
		if _, err := checkCommand(p.name, p.argv, p.Env, lipsyncHoles); err != nil {
			return nil, err
		}
		p.Timeout, p.Idle = cmp.Or(p.Timeout, 30*time.Minute), cmp.Or(p.Idle, 10*time.Minute)
		p.fidelity = cmp.Or(p.fidelity, events.FidelityFull)
		p.media, p.framing = media, &kenBurns{media, &faceNetworks{folder: programs.FaceWeights}}
		engines[i] = p
	}
	return engines, nil
}

func lipsyncCommand(c CommandLipsyncConfig) (*lipsyncProgram, error) {
	used, err := checkCommand("the lip-sync", c.Argv, c.Env, lipsyncHoles)
	if err != nil {
		return nil, err
	}
	if !used["face"] || !used["speech"] || !used["out"] && !used["out_dir"] {
		return nil, errors.New("cannot use the lip-sync command: it needs {face}, {speech}, and {out} or {out_dir}")
	}
	p := &lipsyncProgram{
		programConfig: programConfig{Env: c.Env, Timeout: c.Timeout, Idle: c.Idle, Memory: c.Memory},
		name:          filepath.Base(c.Argv[0]), model: c.Model, note: c.Note, argv: c.Argv, face: cmp.Or(c.Face, faceOfAny),
		hint: "install " + filepath.Base(c.Argv[0]) + ", or set engines.lipsync.command.argv to where it is", phases: []phase{{"", 0, 100, 0}},
	}
	if !slices.Contains([]string{faceOfPortrait, faceOfClip, faceOfAny}, p.face) {
		return nil, fmt.Errorf("cannot use %q as what the lip-sync command takes: choose portrait, clip or any", p.face)
	}
	if c.Preview {
		p.fidelity = events.FidelityPreview
	}
	p.pattern, err = progressPattern(c.Progress)
	return p, err
}

// progressPattern reads a regular expression of one group or two; empty: nil.
func progressPattern(text string) (*regexp.Regexp, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // no pattern is no error
	}
	re, err := regexp.Compile(text)
	if err == nil && (re.NumSubexp() < 1 || re.NumSubexp() > 2) {
		err = errors.New("give it one group for percent, or two for what is done and for all")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read a program's progress by %q: %w", text, err)
	}
	return re, nil
}

// Capability implements engine.
func (l *lipsyncProgram) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	gap := func(reason, hint string) *events.TaskGap {
		return &events.TaskGap{Task: "lipsync.apply", Engine: l.name, Reason: reason, Hint: hint}
	}
	if _, err := l.media.able(ctx); err != nil {
		return events.TaskCapability{}, gap(err.Error(), ffmpegInstall)
	}
	if _, err := exec.LookPath(l.argv[0]); err != nil {
		return events.TaskCapability{}, gap(l.argv[0]+" is not installed here", l.hint)
	}
	if reason, hint := lacks(l.needs); reason != "" {
		return events.TaskCapability{}, gap(reason, hint)
	}
	can := events.TaskCapability{Task: "lipsync.apply", Lane: events.LaneLipsync, Engine: l.name, Model: cmp.Or(l.model, l.name), Version: l.version(), Fidelity: l.fidelity}
	if l.face != faceOfAny {
		can.Takes = l.face
	}
	return can, nil
}

func (l *lipsyncProgram) version() string {
	return settingsVersion("1", l.argv, l.model, l.checkpoint)
}

// takes implements chooser.
func (l *lipsyncProgram) takes(a *Attempt) bool {
	if len(a.Files["clip"]) > 0 {
		return l.face != faceOfPortrait
	}
	return l.face != faceOfClip && len(a.Files["portrait"]) > 0
}

// lipsyncWork is one attempt on its way.
type lipsyncWork struct {
	dir      string // where the program runs
	face     string // name of the picture or film in it
	w, h     int    // of the result
	fps      float64
	spoken   float64 // seconds
	seconds  float64 // of the result
	speech   string  // the speech as it goes into the result
	notes    []string
	portrait *portraitShot // nil: over a clip
}

// Shares of the percent: preparing, the program, finishing.
const (
	lipsyncReady = 8
	lipsyncMoved = 92
)

// Run implements engine. Inputs and outputs are those of the built-in engine.
func (l *lipsyncProgram) Run(ctx context.Context, a *Attempt) (*Output, error) {
	noFace := a.text("no_face", "fail")
	if noFace != "fail" && noFace != "still" {
		return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the parameter no_face is unknown", Hint: "choose fail or still"}
	}
	work, err := l.prepare(ctx, a)
	if err != nil {
		return nil, err
	}
	a.report(lipsyncReady, "starting "+l.name)
	raw, log, err := l.move(ctx, a, work)
	if err != nil && noFace == "still" && errors.Is(err, errNoFace) {
		raw, err = l.withoutMouth(ctx, a, work)
	}
	if err != nil {
		return nil, err
	}
	out := filepath.Join(a.Dir, "talking.mp4")
	made, err := l.media.recut(ctx, a.Dir, recut{raw: raw, whose: l.name, hint: "the end of its log says why", out: out, w: work.w, h: work.h, fps: work.fps,
		exactly: work.seconds, speech: work.speech}, func(f float64) { a.report(lipsyncMoved+(99-lipsyncMoved)*f, "finishing") })
	if err == nil && made < work.spoken-cutShort {
		err = &TaskError{Class: events.ClassEngineRejected, Message: fmt.Sprintf("%s made %.1f s of picture for %.1f s of speech", l.name, made, work.spoken), Hint: "the end of its log says why"}
	}
	var te *TaskError
	if errors.As(err, &te) && te.LogTail == "" {
		te.LogTail = log.String()
	}
	if err != nil {
		return nil, err
	}
	if l.note != "" {
		work.notes = append(work.notes, l.note)
	}
	return &Output{
		Files: map[string][]File{"talking": {{Path: out, Artifact: events.Artifact{Name: "talking.mp4", Type: "video", MediaType: "video/mp4",
			Width: work.w, Height: work.h, DurationMS: int64(math.Round(work.seconds * 1000))}}}},
		Fidelity: l.fidelity, Engine: l.name, Model: cmp.Or(l.model, l.name), Version: l.version(), Notes: work.notes,
	}, nil
}

// errNoFace is a program's failure to find a face.
var errNoFace = errors.New("no face was found")

// move runs the program and finds its result.
func (l *lipsyncProgram) move(ctx context.Context, a *Attempt, work *lipsyncWork) (string, *logTail, error) {
	batch, faceBatch, size := 1, 1, 512
	if l.batches != nil {
		batch, faceBatch, size = l.batches(a.Reduce)
	}
	values := map[string]string{
		"face": work.face, "speech": "speech.wav", "out": "result/out.mp4", "out_dir": "result", "folder": l.folder, "checkpoint": l.checkpoint,
		"fps": strconv.FormatFloat(work.fps, 'f', -1, 64), "width": strconv.Itoa(work.w), "height": strconv.Itoa(work.h),
		"batch": strconv.Itoa(batch), "face_batch": strconv.Itoa(faceBatch), "size": strconv.Itoa(size),
	}
	run := programRun{programConfig: l.programConfig, name: l.name, argv: append([]string{l.argv[0]}, fillCommand(l.argv[1:], values)...), dir: work.dir, install: l.hint,
		signs: l.signs, circles: l.circles, bars: &bars{phases: l.phases, pattern: l.pattern, report: func(percent float64) {
			a.report(lipsyncReady+(lipsyncMoved-lipsyncReady)*percent/100, "moving the lips")
		}}}
	said, log, err := run.run(ctx)
	if ctx.Err() != nil && err != nil {
		return "", log, err
	}
	path := ""
	if err == nil {
		path = l.result(work.dir, said)
	}
	if path != "" {
		return path, log, nil
	}
	if err == nil {
		err = &TaskError{Class: events.ClassEngineRejected, Message: l.name + " ended well but made no video", Hint: "the end of its log says why; it runs ffmpeg itself, which must be on PATH", LogTail: log.String()}
	}
	var te *TaskError
	if errors.As(err, &te) && te.Class == events.ClassEngineRejected && saysAny(te.LogTail, l.noFace) {
		return "", log, &TaskError{Class: events.ClassInvalidInput, Message: "no face was found in the picture", Hint: noFaceHint, LogTail: te.LogTail, Err: errNoFace}
	}
	return "", log, err
}

func saysAny(text string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}

// result is the video where the program put it: where it was told to, else where its last
// line says, else the newest in the folder for it. Empty: there is none.
func (l *lipsyncProgram) result(dir string, said []string) string {
	if path := filepath.Join(dir, "result", "out.mp4"); plainFile(path) {
		return path
	}
	for _, line := range slices.Backward(said) {
		_, named, found := strings.Cut(line, l.named)
		if l.named == "" || !found {
			continue
		}
		path := strings.TrimSpace(named)
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if inside, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(inside) && plainFile(path) {
			return path
		}
		break
	}
	found, _ := filepath.Glob(filepath.Join(dir, "result", "*.mp4")) // the pattern is sound
	newest, at := "", time.Time{}
	for _, path := range found {
		if info, err := os.Lstat(path); err == nil && plainFile(path) && !info.ModTime().Before(at) {
			newest, at = path, info.ModTime()
		}
	}
	return newest
}
