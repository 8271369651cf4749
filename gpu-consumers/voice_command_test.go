// Programs as voices: the test's own binary under another name plays them.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// fakeProgram is how the binary is named when it plays a voice; its behaviour follows.
const fakeProgram = "fake-voice-"

// A process that is started as a fake voice never gets to its tests.
var _ = playVoice()

func playVoice() bool {
	behaviour, ok := strings.CutPrefix(filepath.Base(os.Args[0]), fakeProgram)
	if !ok {
		return false
	}
	if err := fakeVoice(behaviour, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
	return true
}

// fakeVoice takes what flite takes, or --text FILE and --out FILE. It writes its pids
// down beside itself, and its arguments into the folder that it was started in.
func fakeVoice(behaviour string, args []string) error {
	if len(args) < 4 || args[0] != "-voice" && (args[0] != "--text" || args[2] != "--out") {
		return fmt.Errorf("called with %q", args)
	}
	if err := os.WriteFile("args", []byte(strings.Join(append(args, os.Environ()...), "\n")), 0o600); err != nil {
		return err
	}
	calls, err := os.OpenFile(filepath.Join(filepath.Dir(os.Args[0]), "calls"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	switch behaviour {
	case hangs:
		// A grandchild in the same group, and no ear for SIGTERM.
		sleeper := exec.Command("sleep", "60")
		if err := sleeper.Start(); err != nil {
			return err
		}
		fmt.Fprintf(calls, "%d %d\n", os.Getpid(), sleeper.Process.Pid)
		return sleeper.Wait()
	case starves:
		return errors.New("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB")
	}
	fmt.Fprintln(calls, os.Getpid())
	if args[0] == "-voice" {
		return fakeFlite(behaviour, args)
	}
	fmt.Println("loading the model")
	if behaviour == mute {
		fmt.Fprintln(os.Stderr, "no sentence found")
		return nil
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	if behaviour == garbles {
		return os.WriteFile(args[3], text, 0o600)
	}
	if err := os.WriteFile("flite.txt", []byte(inLatin(string(text))+"\n\n"), 0o600); err != nil {
		return err
	}
	if out, err := exec.Command("flite", "-voice", "rms", "-f", "flite.txt", "-o", args[3]).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if behaviour == cuts {
		return os.Truncate(args[3], 10_000)
	}
	return nil
}

// fakeFlite is flite itself, or what misses the form of its answers.
func fakeFlite(behaviour string, args []string) error {
	switch behaviour {
	case garbles:
		fmt.Println("<!DOCTYPE html>")
	case speaks:
		cmd := exec.Command("flite", args...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		return cmd.Run()
	}
	return nil
}

// plantVoice gives the binary its other name in a folder of its own.
func plantVoice(t *testing.T, behaviour string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), fakeProgram+behaviour)
	if behaviour != lost {
		if err := os.Symlink(self, path); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

// callsOf are the pids of each call of a planted voice.
func callsOf(t *testing.T, program string) [][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(program), "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var calls [][]string
	for line := range strings.Lines(string(text)) {
		calls = append(calls, strings.Fields(line))
	}
	return calls
}

func commandSpeech(t *testing.T, c CommandVoiceConfig) *speech {
	t.Helper()
	engines, err := SpeechEngines(VoicesConfig{Command: c}, EngineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	return engines[0].(*speech)
}

// planted is a trial voice whose program is a planted one.
func planted(t *testing.T, program string, s *speech) trialVoice {
	return trialVoice{speech: s, asked: func() int { return len(callsOf(t, program)) }, files: func() []string { return nil }, gone: func() bool {
		for _, call := range callsOf(t, program) {
			for _, field := range call {
				if pid, err := strconv.Atoi(field); err != nil || !gone(pid) {
					return false
				}
			}
		}
		return true
	}}
}

func commandTrial() trial {
	return trial{name: "command",
		begin: func(t *testing.T, behaviour string) trialVoice {
			program := plantVoice(t, behaviour)
			return planted(t, program, commandSpeech(t, CommandVoiceConfig{Argv: []string{program, "--text", "{text_file}", "--out", "{out}", "--in={language}"}, Languages: []string{"en", "de", "zh", "pt-BR"}}))
		},
		told: func(t *testing.T, _ trialVoice, a *Attempt) string {
			args, err := os.ReadFile(filepath.Join(a.Dir, "voice", "args"))
			if err != nil {
				t.Fatal(err)
			}
			_, rest, _ := strings.Cut(string(args), "--in=")
			told, _, _ := strings.Cut(rest, "\n")
			return told
		},
		abroad: map[string]string{"en-GB": "en-GB", "de": "de", "zh-CN": "zh-CN", "pt-BR": "pt-BR"}, unspoken: []string{"fr", "pt-PT", "ja"},
		classes: map[string]string{
			garbles: events.ClassEngineRejected, cuts: events.ClassEngineRejected, lost: events.ClassEngineUnavailable,
			starves: events.ClassOOM, mute: events.ClassEngineRejected,
		},
	}
}

func fliteTrial() trial {
	return trial{name: "flite",
		begin: func(t *testing.T, behaviour string) trialVoice {
			program := plantVoice(t, behaviour)
			return planted(t, program, EngineConfig{Flite: program}.builtinVoice(testTool()))
		},
		classes:  map[string]string{garbles: events.ClassEngineRejected, lost: events.ClassEngineUnavailable, mute: events.ClassEngineRejected},
		unspoken: []string{"de", "zh", "ja", "pt-BR"},
	}
}

func TestACommandGetsWordsAndNothingElse(t *testing.T) {
	t.Setenv("MYSPINBOT_S3_SECRET_KEY", "canary")
	t.Setenv("VOICE_CACHE", "/models")
	t.Setenv("VOICE_OTHER", "canary")
	program := plantVoice(t, speaks)
	s := commandSpeech(t, CommandVoiceConfig{Env: []string{"VOICE_CACHE"}, Words: 100, Model: "m", Argv: []string{program, "--text", "{text_file}", "--out", "{out}",
		"--words={ref_text}", "{ref_text}", "{language} {speed}", "$(touch /tmp/x); rm *", "{ref_audio}"}})
	a := narrated("canary sang. It sang again.\n\nAnd it slept.")
	a.Files = voiceReferenceFile(t, 4)
	a.Params = map[string]any{"speed": 1.25, "language": "en-GB"}
	a.Texts["voice_transcript"] = "--config {out} $HOME; $(id)"
	out, _, err := runSpeech(t, s, a)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(callsOf(t, program)); n != 2 || out.Model != "m" || out.Engine != fakeProgram+speaks {
		t.Errorf("%d calls for two paragraphs, result %+v", n, out)
	}
	dir := filepath.Join(a.Dir, "voice")
	got, err := os.ReadFile(filepath.Join(dir, "args"))
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Split(string(got), "\n")
	want := []string{"--text", dir + "/text.txt", "--out", dir + "/out.wav", "--words=config {out} $HOME; $(id)", "config {out} $HOME; $(id)", "en-GB 1.25", "$(touch /tmp/x); rm *", dir + "/reference.wav"}
	for i, w := range want {
		if words[i] != w {
			t.Errorf("argument %d is %q, want %q", i, words[i], w)
		}
	}
	env := strings.Join(words[len(want):], "\n")
	if strings.Contains(env, "canary") || !strings.Contains(env, "VOICE_CACHE=/models") || !strings.Contains(env, "HOME="+dir) {
		t.Errorf("environment %q", env)
	}
}

func TestACommandThatFailsShowsItsLog(t *testing.T) {
	t.Parallel()
	s := commandSpeech(t, CommandVoiceConfig{Argv: []string{plantVoice(t, mute), "--text", "{text_file}", "--out", "{out}"}})
	_, _, err := runSpeech(t, s, narrated("Green tea."))
	te := wantTaskError(t, err, events.ClassEngineRejected)
	if !strings.Contains(te.LogTail, "no sentence found") || !strings.Contains(te.LogTail, "loading the model") {
		t.Errorf("log %q", te.LogTail)
	}
	slow := commandSpeech(t, CommandVoiceConfig{Timeout: 300 * time.Millisecond, Argv: []string{plantVoice(t, hangs), "--text", "{text_file}", "--out", "{out}"}})
	_, _, err = runSpeech(t, slow, narrated("Green tea."))
	wantTaskError(t, err, events.ClassTimeout)
}

func TestCommandTemplatesAreChecked(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]CommandVoiceConfig{
		"preset": {Preset: "no-such"}, "no text": {Argv: []string{"say", "{out}"}}, "no sound": {Argv: []string{"say", "{text_file}", "{out_dir}"}},
		"unknown": {Argv: []string{"say", "{text_file}", "{out}", "{text}"}}, "program": {Argv: []string{"{out}", "{text_file}"}},
		"secret": {Argv: []string{"say", "{text_file}", "{out}"}, Env: []string{"MYSPINBOT_S3_SECRET_KEY"}},
	} {
		if _, err := SpeechEngines(VoicesConfig{Command: bad}, EngineConfig{}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	f5 := commandSpeech(t, CommandVoiceConfig{Preset: "f5-tts", Note: "ours"})
	v := f5.voice.(*commandVoice)
	if f5.takes(narrated("x")) || v.Words != 100 || !strings.Contains(v.Note, "non-commercial") || !strings.HasSuffix(v.Note, "ours") {
		t.Errorf("the preset is %+v", v.CommandVoiceConfig)
	}
	absent := commandSpeech(t, CommandVoiceConfig{Argv: []string{"myspinbot-no-voice", "{text_file}", "{out}"}})
	if _, gap := absent.Capability(context.Background()); gap == nil || !strings.Contains(gap.Hint, "myspinbot-no-voice") {
		t.Errorf("gap %+v", gap)
	}
	odd := narrated("Green tea.")
	odd.Params = map[string]any{"language": "en; rm"}
	s := commandSpeech(t, CommandVoiceConfig{Argv: []string{plantVoice(t, speaks), "--text", "{text_file}", "--out", "{out}", "{language}"}})
	_, _, err := runSpeech(t, s, odd)
	wantTaskError(t, err, events.ClassInvalidInput)
}

// TestALinkIsNoSound has a program answer with a link to another file.
func TestALinkIsNoSound(t *testing.T) {
	t.Parallel()
	other := writeFile(t, "other.wav", silentWave(t))
	s := commandSpeech(t, CommandVoiceConfig{Argv: []string{"ln", "-s", "-f", other, "{out}", "--suffix={text_file}"}})
	_, _, err := runSpeech(t, s, narrated("Green tea."))
	if te := wantTaskError(t, err, events.ClassEngineRejected); !strings.Contains(te.Message, "no usable sound file") {
		t.Errorf("message %q", te.Message)
	}
}
