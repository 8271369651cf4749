// train_voice by GPT-SoVITS: the clips cut into sentences, written down by its own
// recogniser, prepared and trained on by its own scripts, one after another.
//
// Its facts: the scripts look for their parts where they run and write there too, so that
// they run in a folder with links to the checkout's; what prepares is told by variables;
// its results are parts (…-0.txt) that whoever starts it joins; weights that cannot be
// written are a line in the log and no failure; and both trainings go on by themselves
// from what they find in their folders.

package gpu

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// SoVITSTrainingConfig is a checkout of GPT-SoVITS.
type SoVITSTrainingConfig struct {
	Folder       string // of the checkout; empty: there is none
	Python       string // of its environment; default python3
	Version      string // v2 (default), v2Pro or v2ProPlus
	Recogniser   string // size of faster-whisper's model; default large-v3
	SoVITSEpochs int    // default 8
	GPTEpochs    int    // default 15
	Batch        int    // default 4
	Full         bool   // 32-bit floats, for cards without 16-bit ones
	LeastSeconds float64
	Env          []string
	Timeout      time.Duration // of one script; default 2 h
	Idle         time.Duration // default 20 min
	Memory       int64
	Note         string
}

// soVITSModel is where a version's pretrained weights lie below GPT_SoVITS/pretrained_models.
type soVITSModel struct{ s2g, s2d, gpt, config string }

var soVITSModels = map[string]soVITSModel{
	"v2": {"gsv-v2final-pretrained/s2G2333k.pth", "gsv-v2final-pretrained/s2D2333k.pth",
		"gsv-v2final-pretrained/s1bert25hz-5kh-longer-epoch=12-step=369668.ckpt", "s2.json"},
	"v2Pro":     {"v2Pro/s2Gv2Pro.pth", "v2Pro/s2Dv2Pro.pth", "s1v3.ckpt", "s2v2Pro.json"},
	"v2ProPlus": {"v2Pro/s2Gv2ProPlus.pth", "v2Pro/s2Dv2ProPlus.pth", "s1v3.ckpt", "s2v2ProPlus.json"},
}

// soVITSTrainer is the engine.
type soVITSTrainer struct {
	SoVITSTrainingConfig
	program   programConfig
	model     soVITSModel
	reference *voiceReference
	chains    *chains
}

const soVITSHint = "check out RVC-Boss/GPT-SoVITS into engines.training.sovits.folder and run its install.sh in an environment of its own"

func newSoVITSTrainer(c SoVITSTrainingConfig, kept *chains, media *mediaTool) (*soVITSTrainer, error) {
	c.Version, c.Python, c.Recogniser = cmp.Or(c.Version, "v2"), cmp.Or(c.Python, "python3"), cmp.Or(c.Recogniser, "large-v3")
	c.SoVITSEpochs, c.GPTEpochs, c.Batch, c.LeastSeconds = cmp.Or(c.SoVITSEpochs, 8), cmp.Or(c.GPTEpochs, 15), cmp.Or(c.Batch, 4), cmp.Or(c.LeastSeconds, 30)
	model, known := soVITSModels[c.Version]
	if !known {
		return nil, fmt.Errorf("cannot train GPT-SoVITS %q: choose v2, v2Pro or v2ProPlus", c.Version)
	}
	if _, err := checkCommand("GPT-SoVITS", []string{c.Python}, c.Env, nil); err != nil {
		return nil, err
	}
	return &soVITSTrainer{SoVITSTrainingConfig: c, model: model, reference: &voiceReference{media}, chains: kept, program: programConfig{
		Env: append(slices.Clone(pythonEnv), c.Env...), Timeout: cmp.Or(c.Timeout, 2*time.Hour), Idle: cmp.Or(c.Idle, 20*time.Minute), Memory: c.Memory}}, nil
}

// below is a path in the checkout's folder of scripts.
func (t *soVITSTrainer) below(parts ...string) string {
	return filepath.Join(append([]string{t.Folder, "GPT_SoVITS"}, parts...)...)
}

func (t *soVITSTrainer) pretrained(name string) string { return t.below("pretrained_models", name) }

func (t *soVITSTrainer) needs() []needed {
	const weights = "install.sh of GPT-SoVITS downloads it"
	all := []needed{{t.below("s2_train.py"), "GPT-SoVITS' s2_train.py", soVITSHint, false}, {t.below("configs", t.model.config), "its configuration", soVITSHint, false},
		{t.pretrained("chinese-hubert-base"), "the model chinese-hubert-base", weights, true}, {t.pretrained("chinese-roberta-wwm-ext-large"), "the model chinese-roberta-wwm-ext-large", weights, true}}
	for _, name := range []string{t.model.s2g, t.model.s2d, t.model.gpt} {
		all = append(all, needed{t.pretrained(name), "the file of weights " + filepath.Base(name), weights, false})
	}
	if t.pro() {
		all = append(all, needed{t.pretrained("sv/pretrained_eres2netv2w24s4ep4.ckpt"), "the speaker model", weights, false})
	}
	return all
}

func (t *soVITSTrainer) pro() bool { return strings.Contains(t.Version, "Pro") }

// Capability implements engine.
func (t *soVITSTrainer) Capability(ctx context.Context) (events.TaskCapability, *events.TaskGap) {
	t.chains.sweep(time.Now())
	gap := func(reason, hint string) *events.TaskGap {
		return &events.TaskGap{Task: "train_voice", Engine: "gpt-sovits", Reason: reason, Hint: hint}
	}
	if _, err := t.reference.media.able(ctx); err != nil {
		return events.TaskCapability{}, gap(err.Error(), ffmpegInstall)
	}
	if _, err := exec.LookPath(t.Python); err != nil {
		return events.TaskCapability{}, gap(t.Python+" is not installed here", soVITSHint)
	}
	if reason, hint := lacks(t.needs()); reason != "" {
		return events.TaskCapability{}, gap(reason, hint)
	}
	return events.TaskCapability{Task: "train_voice", Lane: events.LaneTrain, Engine: "gpt-sovits", Model: "gpt-sovits-" + t.Version, Version: t.version(), Fidelity: events.FidelityFull,
		Languages: events.Languages(strings.Join(soVITSLanguages, " "))}, nil
}

func (t *soVITSTrainer) version() string {
	return settingsVersion("1", t.Version, t.Recogniser, t.SoVITSEpochs, t.GPTEpochs, t.Batch, t.Full)
}

// takes implements chooser: little speech is better imitated than trained on.
func (t *soVITSTrainer) takes(a *Attempt) bool {
	var ms int64
	for _, clip := range a.Files["voice"] {
		ms += clip.Artifact.DurationMS
	}
	return float64(ms) >= t.LeastSeconds*1000
}

// Run implements engine: voice clips in; voice_reference, voice_weights (GPT's and
// SoVITS') and checkpoints (those of earlier epochs) out.
func (t *soVITSTrainer) Run(ctx context.Context, a *Attempt) (out *Output, err error) {
	scaled := *a
	scaled.Progress = func(percent float64, message string) { a.report(percent/10, message) }
	made, err := t.reference.Run(ctx, &scaled)
	if err != nil {
		return nil, err
	}
	kept, err := t.chains.open(a, settingsVersion("1", "gpt-sovits", t.version()))
	if err != nil {
		return nil, err
	}
	defer func() { err = kept.close(ctx, err) }()
	job := &soVITSJob{t: t, a: a, dir: kept.dir, cwd: filepath.Join(a.Dir, "program"), batch: max(1, t.Batch>>min(a.Reduce, 3))}
	if err := job.lay(); err != nil {
		return nil, err
	}
	if err := job.listen(ctx); err != nil {
		return nil, err
	}
	if err := job.configure(); err != nil {
		return nil, err
	}
	for _, step := range job.steps() {
		if err := job.run(ctx, step); err != nil {
			return nil, err
		}
	}
	if err := job.collect(made.Files); err != nil {
		return nil, err
	}
	notes := []string{fmt.Sprintf("a voice was trained on %d sentences, %d epochs of SoVITS and %d of GPT", job.sentences, t.SoVITSEpochs, t.GPTEpochs)}
	if job.batch < t.Batch {
		notes = append(notes, fmt.Sprintf("trained with %d sentences at a time in place of %d, because memory ran out before", job.batch, t.Batch))
	}
	if t.Note != "" {
		notes = append(notes, t.Note)
	}
	a.report(100, "voice ready")
	return &Output{Files: made.Files, Fidelity: events.FidelityFull, Engine: "gpt-sovits", Model: "gpt-sovits-" + t.Version, Version: t.version(), Notes: notes}, nil
}

// soVITSJob is one attempt on its way.
type soVITSJob struct {
	t         *soVITSTrainer
	a         *Attempt
	dir       string // kept between attempts
	cwd       string // where the scripts run
	batch     int
	sentences int
	log       *logTail // of the last script
}

// exp is a path in the folder that the scripts know as the experiment's.
func (j *soVITSJob) exp(parts ...string) string {
	return filepath.Join(append([]string{j.dir, "exp"}, parts...)...)
}

// lay makes the folders, and the one that the scripts run in.
func (j *soVITSJob) lay() error {
	for _, dir := range []string{j.cwd, j.exp("logs_s2_" + j.t.Version), j.exp("logs_s1_" + j.t.Version), filepath.Join(j.dir, "weights")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("cannot make the training's folder: %w", err)
		}
	}
	entries, err := os.ReadDir(j.t.Folder)
	if err != nil {
		return &TaskError{Class: events.ClassEngineUnavailable, Message: "GPT-SoVITS' folder cannot be read", Hint: soVITSHint, Err: err}
	}
	for _, e := range entries {
		// What it writes beside its parts is this attempt's own.
		if strings.HasPrefix(e.Name(), ".") || e.Name() == "logs" || e.Name() == "TEMP" || e.Name() == "output" || strings.Contains(e.Name(), "weights") {
			continue
		}
		if err := linkInto(j.cwd, j.t.Folder, e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// Sentences that are trained on, in seconds.
const (
	shortestSentence = 1.0
	longestSentence  = 10.0
	sentenceRate     = 32000 // Hz, what GPT-SoVITS trains at
)

// listen cuts the clips into sentences and has them written down, unless an earlier
// attempt has done so.
func (j *soVITSJob) listen(ctx context.Context) error {
	list := filepath.Join(j.dir, "voice.list")
	if !plainFile(list) {
		wavs := filepath.Join(j.dir, "wavs")
		if err := errors.Join(os.RemoveAll(wavs), os.MkdirAll(wavs, 0o700)); err != nil {
			return fmt.Errorf("cannot make the training's folder: %w", err)
		}
		if err := j.cut(ctx, wavs); err != nil {
			return err
		}
		precision := "float16"
		if j.t.Full {
			precision = "float32"
		}
		heard := filepath.Join(j.cwd, "heard")
		err := j.run(ctx, soVITSStep{name: "the recogniser", script: filepath.Join(j.t.Folder, "tools", "asr", "fasterwhisper_asr.py"),
			args: []string{"-i", wavs, "-o", heard, "-s", j.t.Recogniser, "-l", baseLanguage(j.a.language()), "-p", precision}, makes: filepath.Join(heard, "wavs.list"), from: 12, to: 20})
		if err != nil {
			return err
		}
		if err := j.keepList(filepath.Join(heard, "wavs.list"), list); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(list)
	if err != nil {
		return fmt.Errorf("cannot read what was written down: %w", err)
	}
	j.sentences = bytes.Count(text, []byte("\n"))
	return nil
}

// cut writes the sentences of all clips.
func (j *soVITSJob) cut(ctx context.Context, dir string) error {
	n := 0
	for i, clip := range j.a.Files["voice"] {
		w, err := j.t.reference.decode(ctx, j.a.Dir, 100+i, clip.Path, sentenceRate)
		if err != nil {
			return err
		}
		for _, s := range sentenceSpans(w) {
			part := &wave{rate: w.rate, samples: w.samples[s.from:s.to]}
			if err := part.write(filepath.Join(dir, fmt.Sprintf("%04d.wav", n))); err != nil {
				return err
			}
			n++
		}
		j.a.report(10+2*float64(i+1)/float64(len(j.a.Files["voice"])), "cutting the clips")
	}
	if n == 0 {
		return &TaskError{Class: events.ClassInvalidInput, Message: "nobody speaks in the voice clips for a second", Hint: "record at least 30 seconds, better 3 minutes, of one person speaking clearly"}
	}
	return nil
}

// sentenceSpans are stretches of speech between pauses, joined up to 10 s.
func sentenceSpans(w *wave) []span {
	var out []span
	most := int(longestSentence * float64(w.rate))
	for _, s := range voicedSpans(w) {
		for s.to-s.from > most { // somebody who does not pause
			out = append(out, span{s.from, s.from + most})
			s.from += most
		}
		if n := len(out); n > 0 && s.to-out[n-1].from <= most {
			out[n-1].to = s.to
			continue
		}
		out = append(out, s)
	}
	return slices.DeleteFunc(out, func(s span) bool { return float64(s.to-s.from) < shortestSentence*float64(w.rate) })
}

// keepList takes over what was written down, without sentences in which nothing was heard.
func (j *soVITSJob) keepList(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("cannot read what was written down: %w", err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimRight(line, "\r\n"), "|", 4) // file|speaker|language|text
		if len(fields) == 4 && strings.TrimSpace(fields[3]) != "" {
			said := strings.ReplaceAll(strings.TrimSpace(fields[3]), "|", " ")
			fmt.Fprintf(&kept, "%s|voice|%s|%s\n", filepath.Base(fields[0]), fields[2], said)
		}
	}
	if kept.Len() == 0 {
		return &TaskError{Class: events.ClassInvalidInput, Message: "no words were understood in the voice clips", Hint: "record one person speaking clearly, in the job's language", LogTail: j.log.String()}
	}
	return writeWhole(to, []byte(kept.String()))
}

// writeWhole writes a file that is there whole or not at all.
func writeWhole(path string, content []byte) error {
	err := os.WriteFile(path+".part", content, 0o600)
	if err == nil {
		err = os.Rename(path+".part", path)
	}
	if err != nil {
		return fmt.Errorf("cannot write the training's files: %w", err)
	}
	return nil
}

// soVITSStep is one script.
type soVITSStep struct {
	name     string
	script   string
	args     []string
	makes    string         // file without which it has failed
	done     func() bool    // an earlier attempt did it; nil: never
	finish   func() error   // joins its parts
	from, to float64        // percent
	pattern  *regexp.Regexp // of its progress; nil: tqdm's bars
	of       float64        // what pattern counts up to
	env      []string       // NAME=value
}

// run runs a script where it is not done.
func (j *soVITSJob) run(ctx context.Context, s soVITSStep) error {
	if s.done != nil && s.done() {
		j.a.report(s.to, s.name+" was done before")
		return nil
	}
	if s.makes != "" { // a part of a file would be taken for the whole
		if err := os.Remove(s.makes); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot make room for what GPT-SoVITS prepares: %w", err)
		}
	}
	run := programRun{programConfig: j.t.program, name: s.name + " of GPT-SoVITS", argv: append([]string{j.t.Python, "-s", s.script}, s.args...), dir: j.cwd, install: soVITSHint,
		env:  append([]string{"PYTHONPATH=" + j.t.Folder + ":" + filepath.Join(j.t.Folder, "GPT_SoVITS"), "version=" + j.t.Version}, s.env...),
		bars: &bars{phases: []phase{{"", s.from, s.to, s.of}}, pattern: s.pattern, report: func(percent float64) { j.a.report(percent, s.name) }}}
	_, log, err := run.run(ctx)
	j.log = log
	if err != nil {
		return err
	}
	if s.makes != "" && !plainFile(s.makes) {
		return &TaskError{Class: events.ClassEngineRejected, Message: run.name + " ended well but left nothing", Hint: "the end of its log says why", LogTail: log.String()}
	}
	if s.finish != nil {
		if err := s.finish(); err != nil {
			return err
		}
	}
	j.a.report(s.to, s.name)
	return nil
}
