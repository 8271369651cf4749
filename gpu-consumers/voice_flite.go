// The built-in voice: flite, small, and it says when each of its phones is heard.

package gpu

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

const fliteInstall = "install flite (Debian: apt-get install flite), or set engines.flite to its path"

// flite is the built-in voice by the path or name of its program.
type flite string

func (f flite) announce(context.Context) (events.TaskCapability, *events.TaskGap) {
	if _, err := exec.LookPath(string(f)); err != nil {
		return events.TaskCapability{}, &events.TaskGap{Engine: "flite", Reason: "flite is not installed here", Hint: fliteInstall, Builtin: true}
	}
	return fliteSpeaks("slt"), nil
}

func fliteSpeaks(name string) events.TaskCapability {
	return events.TaskCapability{Engine: "flite", Model: name, Version: "2", Fidelity: events.FidelityPreview, Builtin: true, Languages: "en"}
}

func (f flite) takes(*Attempt) bool { return true }
func (f flite) writing() writing    { return writing{spell: speakable} }

func (f flite) open(_ context.Context, a *Attempt, speed float64) (speaker, error) {
	name, err := fliteName(a.text("voice", "slt"))
	if err != nil {
		return nil, err
	}
	notes := []string{"spoken by the built-in preview voice " + name}
	if len(a.Files["voice_reference"]) > 0 {
		notes = append(notes, cannotImitate("the built-in voice"))
	}
	return &fliteRun{path: string(f), voice: name, stretch: 1 / speed, dir: a.Dir, notes: notes}, nil
}

// cannotImitate is the note of a voice that has no use for a reference.
func cannotImitate(voice string) string {
	return voice + " cannot imitate a voice reference; connect a speech server that clones voices to use it"
}

// fliteName is flite's name of a voice; its "kal" is a telephone's 8 kHz.
func fliteName(name string) (string, error) {
	switch name {
	case "slt", "rms", "awb":
		return name, nil
	case "kal", "kal16":
		return "kal16", nil
	}
	return "", &TaskError{Class: events.ClassInvalidInput, Message: "the voice is unknown", Hint: "choose slt, rms, awb or kal"}
}

// fliteRun speaks with one voice at one speed.
type fliteRun struct {
	path, voice string
	stretch     float64 // duration factor
	dir         string
	notes       []string
}

func (f *fliteRun) about() (events.TaskCapability, []string) { return fliteSpeaks(f.voice), f.notes }
func (f *fliteRun) close() error                             { return nil }

// call runs flite on a text file, so that no text stands on a command line.
func (f *fliteRun) call(ctx context.Context, text, out string, print string) (string, error) {
	in := filepath.Join(f.dir, "text.txt")
	// flite loses the last word of a file that does not end with a blank line.
	if err := os.WriteFile(in, []byte(text+"\n\n"), 0o600); err != nil {
		return "", fmt.Errorf("cannot write the text for flite: %w", err)
	}
	args := []string{"-voice", f.voice, "--setf", "duration_stretch=" + strconv.FormatFloat(f.stretch, 'f', 3, 64), print, "-f", in, "-o", out}
	printed, err := child{name: "flite", path: f.path, args: args, dir: f.dir, install: fliteInstall, timeout: 2 * time.Minute}.run(ctx)
	return string(printed), err
}

// say synthesises one sentence, and asks how its words sound by themselves to tell
// which phones are whose.
func (f *fliteRun) say(ctx context.Context, s utterance) (*take, error) {
	out := filepath.Join(f.dir, "sentence.wav")
	printed, err := f.call(ctx, s.text(), out, "-psdur")
	if err != nil {
		return nil, err
	}
	phones, err := parsePhones(printed)
	if err != nil {
		return nil, &TaskError{Class: events.ClassEngineRejected, Message: "flite did not say when its phones are heard", Hint: fliteInstall, Err: err}
	}
	sound, err := readWave(out)
	if err != nil {
		return nil, &TaskError{Class: events.ClassEngineRejected, Message: "flite made no usable sound", Hint: fliteInstall, Err: err}
	}
	said, err := f.pronounce(ctx, s)
	if err != nil {
		return nil, err
	}
	sp := &take{sound: sound, phones: phones}
	first, last := sounding(phones)
	if first < 0 {
		return sp, nil // a sentence of signs only
	}
	sp.from, sp.to = phones[first].Start, min(sound.seconds(), phones[last].End)
	sp.words, sp.wordSource = estimateWords(s.words, phones), wordsEstimated
	if said != nil {
		sp.words, sp.wordSource = alignWords(s.words, said, phones), wordsAligned
	}
	return sp, nil
}

// pronounce asks how each word sounds by itself, all in one call. It returns nil
// when the answers do not match the words one by one; then times are estimated.
func (f *fliteRun) pronounce(ctx context.Context, s utterance) ([][]string, error) {
	var alone []string
	for _, w := range s.words {
		alone = append(alone, strings.TrimRight(strings.TrimLeft(strings.ReplaceAll(w.spoken, " ", "-"), `"'([{<*-_`), `"')]}>*-_.,;:!?`))
	}
	printed, err := f.call(ctx, strings.Join(alone, "\n\n"), "none", "-ps")
	if err != nil {
		return nil, err
	}
	said := parsePronunciations(printed)
	if len(said) != len(alone) {
		return nil, nil
	}
	return said, nil
}
