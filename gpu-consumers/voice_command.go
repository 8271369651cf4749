// Voices that are a program: any that reads a text file and writes a sound file, by
// a template of its command line.
//
// Rules: no shell ever reads the line; each argument is a word of the template with
// its placeholders filled in, and can become neither two nor none; the text lies in a
// file, not on the line; the program gets the environment that is named and a folder
// of its own; it is ended with all that it started; one that ends well without a
// sound has failed.

package gpu

import (
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
	"strconv"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// CommandVoiceConfig describes a program that speaks. With neither preset nor argv
// there is none.
type CommandVoiceConfig struct {
	Preset  string        // f5-tts, or empty
	Argv    []string      // program and arguments; replaces the preset's
	Env     []string      // names of variables that the program gets, beside PATH, TZ and CUDA_VISIBLE_DEVICES
	Model   string        // what the result names as the model
	Words   int           // words that are spoken by one call, at least a sentence
	Timeout time.Duration // of one call; default 10 min
	Preview bool          // results are previews: a small voice without a GPU
	Note    string        // added to the notes of each result
	// Languages are those that it speaks. None: any where the template has {language}, else
	// English alone.
	Languages []string
}

// commandPresets are programs whose command line is known.
var commandPresets = map[string]CommandVoiceConfig{
	// Its CLI loads the model for each call, so that many words go into one; an empty
	// transcript makes it listen to the reference by itself.
	"f5-tts": {
		Argv: []string{"f5-tts_infer-cli", "--model", "F5TTS_v1_Base", "--ref_audio", "{ref_audio}", "--ref_text={ref_text}", "--gen_file", "{text_file}",
			"--output_dir", "{out_dir}", "--output_file", "{out_name}", "--speed", "{speed}"},
		Env:   []string{"HF_HOME", "HF_HUB_OFFLINE", "XDG_CACHE_HOME", "LD_LIBRARY_PATH"},
		Model: "F5TTS_v1_Base", Words: 100, Note: "spoken with the weights of F5-TTS, which are licensed for non-commercial use alone",
		Languages: []string{"en", "zh"}, // of that model
	},
}

// placeholders are what a template may hold, each with what must be true of its value.
var placeholders = map[string]*regexp.Regexp{
	"text_file": anyPath, "out": anyPath, "out_dir": anyPath, "out_name": anyPath, "ref_audio": anyPath, "ref_text_file": anyPath,
	"ref_text": regexp.MustCompile(`^([^-\x00][^\x00]*)?$`), // may begin an argument, and must not be an option there
	"language": regexp.MustCompile(`^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8})*$`),
	"speed":    anyNumber,
}

type commandVoice struct {
	CommandVoiceConfig
	name   string // of the program
	speaks events.Languages
	media  *mediaTool
}

func newCommandVoice(c CommandVoiceConfig, media *mediaTool) (*commandVoice, error) {
	if c.Preset != "" {
		preset, ok := commandPresets[c.Preset]
		if !ok {
			return nil, fmt.Errorf("cannot use the preset %q: there is f5-tts", c.Preset)
		}
		if len(c.Argv) == 0 {
			c.Argv = preset.Argv
		}
		if len(c.Languages) == 0 {
			c.Languages = preset.Languages
		}
		c.Env = slices.Concat(preset.Env, c.Env)
		c.Model, c.Words, c.Note = cmp.Or(c.Model, preset.Model), cmp.Or(c.Words, preset.Words), strings.TrimSpace(preset.Note+" "+c.Note)
	}
	used, err := checkCommand("the voice", c.Argv, c.Env, placeholders)
	if err != nil {
		return nil, err
	}
	if !used["text_file"] || !used["out"] && (!used["out_dir"] || !used["out_name"]) {
		return nil, errors.New("cannot use the voice's command: it needs {text_file}, and {out} or both of {out_dir} and {out_name}")
	}
	if len(c.Languages) == 0 && !used["language"] {
		c.Languages = []string{"en"}
	}
	speaks, err := languagesOf(c.Languages)
	if err != nil {
		return nil, err
	}
	c.Timeout = cmp.Or(c.Timeout, 10*time.Minute)
	return &commandVoice{CommandVoiceConfig: c, name: filepath.Base(c.Argv[0]), speaks: speaks, media: media}, nil
}

// fills says whether the template has a placeholder.
func (v *commandVoice) fills(name string) bool {
	return slices.ContainsFunc(v.Argv, func(word string) bool { return strings.Contains(word, "{"+name+"}") })
}

func (v *commandVoice) about() events.TaskCapability {
	c := events.TaskCapability{Engine: v.name, Model: cmp.Or(v.Model, v.name), Version: settingsVersion("1", v.Argv, v.Model, v.Words), Fidelity: events.FidelityFull, Languages: v.speaks}
	if v.Preview {
		c.Fidelity = events.FidelityPreview
	}
	if v.fills("ref_audio") {
		c.Takes = "voice_reference"
	}
	return c
}

func (v *commandVoice) hint() string {
	return "install " + v.name + ", or set engines.speech.command.argv to where it is"
}

func (v *commandVoice) announce(context.Context) (events.TaskCapability, *events.TaskGap) {
	if _, err := exec.LookPath(v.Argv[0]); err != nil {
		return events.TaskCapability{}, &events.TaskGap{Engine: v.name, Reason: v.name + " is not installed here", Hint: v.hint()}
	}
	return v.about(), nil
}

// takes implements voice: a program that imitates needs somebody to imitate.
func (v *commandVoice) takes(a *Attempt) bool {
	return !v.fills("ref_audio") || len(a.Files["voice_reference"]) > 0
}

func (v *commandVoice) writing() writing { return writing{spell: asWritten, longest: v.Words} }

func (v *commandVoice) open(ctx context.Context, a *Attempt, speed float64) (speaker, error) {
	s := &commandSpeaker{v: v, speed: speed, dir: filepath.Join(a.Dir, "voice")}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the voice's folder: %w", err)
	}
	s.values = map[string]string{
		"text_file": filepath.Join(s.dir, "text.txt"), "out": filepath.Join(s.dir, "out.wav"), "out_dir": s.dir, "out_name": "out.wav",
		"ref_audio": filepath.Join(s.dir, "reference.wav"), "ref_text_file": filepath.Join(s.dir, "reference.txt"),
		"language": a.language(), "speed": strconv.FormatFloat(speed, 'f', -1, 64),
		// One line that no program takes for an option.
		"ref_text": strings.TrimLeft(plainText(a.Texts["voice_transcript"]), "-– "),
	}
	for name, value := range s.values {
		if v.fills(name) && !placeholders[name].MatchString(value) {
			return nil, &TaskError{Class: events.ClassInvalidInput, Message: "the job's " + name + " cannot be handed to " + v.name, Hint: "give a plain one"}
		}
	}
	reference := len(a.Files["voice_reference"]) > 0
	switch {
	case v.fills("ref_audio"):
		ref, err := a.oneFile("voice_reference")
		if err != nil {
			return nil, err
		}
		if _, err := referenceWave(ctx, v.media, s.dir, ref.Path); err != nil { // makes reference.wav
			return nil, err
		}
	case reference:
		s.notes = append(s.notes, cannotImitate("the program "+v.name))
	}
	if err := os.WriteFile(s.values["ref_text_file"], []byte(s.values["ref_text"]), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write the reference's text: %w", err)
	}
	if v.Note != "" {
		s.notes = append(s.notes, v.Note)
	}
	return s, nil
}

// commandSpeaker speaks one attempt.
type commandSpeaker struct {
	v      *commandVoice
	dir    string
	speed  float64
	values map[string]string // by placeholder
	notes  []string
}

func (s *commandSpeaker) about() (events.TaskCapability, []string) { return s.v.about(), s.notes }
func (s *commandSpeaker) close() error                             { return nil }

func (s *commandSpeaker) say(ctx context.Context, u utterance) (*take, error) {
	out := filepath.Join(s.dir, "out.wav")
	if err := os.Remove(out); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot make room for the sound: %w", err)
	}
	if err := os.WriteFile(s.values["text_file"], []byte(u.text()+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("cannot write the text for %s: %w", s.v.name, err)
	}
	log := new(logTail)
	_, err := child{name: s.v.name, path: s.v.Argv[0], args: fillCommand(s.v.Argv[1:], s.values), dir: s.dir, install: s.v.hint(), timeout: s.v.Timeout, inherit: s.v.Env,
		memory: -1, log: log, lines: log.line}.run(ctx)
	if err != nil {
		return nil, byLastWords(err, s.v.name, programSigns)
	}
	info, err := os.Lstat(out)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > soundLimit {
		return nil, &TaskError{Class: events.ClassEngineRejected, Message: s.v.name + " ended well but made no usable sound file", Hint: "the end of its log says why", LogTail: log.String(), Err: err}
	}
	heard, err := s.v.media.hear(ctx, s.dir, out, s.v.name, u, s.speed)
	var te *TaskError
	if errors.As(err, &te) && te.LogTail == "" {
		te.LogTail = log.String()
	}
	if err != nil {
		return nil, err
	}
	return &take{sound: heard}, nil
}
