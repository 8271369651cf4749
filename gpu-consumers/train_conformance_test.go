// Everything that trains, held to what all of it must do, and to going on where an earlier
// attempt ended.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// toTrain is an attempt with three pictures.
func toTrain(t *testing.T) *Attempt {
	t.Helper()
	a := &Attempt{Params: map[string]any{"max_steps": 40.0, "rank": 8.0}, Files: map[string][]File{}}
	for i := range 3 {
		path := writeFile(t, fmt.Sprint(i), picture(640, 640+i, color.RGBA{uint8(60 * i), 90, 90, 255}))
		a.Files["images"] = append(a.Files["images"], File{Path: path, Artifact: events.Artifact{SHA256: strconv.Itoa(i)}})
	}
	return a
}

// longVoice is some 40 seconds of speech, made once.
var longVoice = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "voice")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "v.wav")
	text := strings.Repeat("Green tea is picked in spring. It tastes fresh and a little sweet, and people drink it while it is hot. ", 5)
	_, err = child{name: "flite", path: "flite", args: []string{"-voice", "rms", "-t", text, "-o", path}, dir: dir}.run(context.Background())
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// toSpeakAlike is an attempt with a voice clip that is long enough to train on.
func toSpeakAlike(t *testing.T) *Attempt {
	t.Helper()
	sound, err := longVoice()
	if err != nil {
		t.Fatal(err)
	}
	return &Attempt{Files: map[string][]File{"voice": {{Path: writeFile(t, "v.wav", sound), Artifact: events.Artifact{SHA256: "v", DurationMS: 40_000}}}}}
}

// keptIn lists what trainings keep below a folder.
func keptIn(work string) func() []string {
	return func() []string {
		found, _ := filepath.Glob(filepath.Join(work, "myspinbot-training", "*")) // the pattern is sound
		return found
	}
}

func oneTrainer(t *testing.T, c TrainingConfig) engine {
	t.Helper()
	engines, err := TrainingEngines(c, EngineConfig{})
	if err != nil || len(engines) != 1 {
		t.Fatalf("%d engines, error %v", len(engines), err)
	}
	return engines[0]
}

// loraWell holds the weights against their form.
func loraWell(t *testing.T, _ *Attempt, out *Output) {
	t.Helper()
	for _, f := range slices.Concat(out.Files["lora"], out.Files["checkpoints"]) {
		if err := checkSafetensors(f.Path); err != nil || f.Artifact.Type != "weights" {
			t.Errorf("%s: %v, %+v", f.Path, err, f.Artifact)
		}
	}
	if len(out.Files["lora"]) != 1 {
		t.Errorf("files %v", out.Files)
	}
}

func voiceWell(t *testing.T, _ *Attempt, out *Output) {
	t.Helper()
	if w, err := readWave(out.Files["voice_reference"][0].Path); err != nil || w.seconds() < 3 {
		t.Errorf("the reference: %v", err)
	}
	if out.Engine != "gpt-sovits" {
		return
	}
	var names []string
	for _, f := range slices.Concat(out.Files["voice_weights"], out.Files["checkpoints"]) {
		names = append(names, f.Artifact.Name)
		if !wholeTorch(f.Path) || f.Artifact.Type != "weights" {
			t.Errorf("%s is %+v", f.Path, f.Artifact)
		}
	}
	if want := []string{"voice-gpt.ckpt", "voice-sovits.pth", "voice-gpt-epoch005.ckpt", "voice-gpt-epoch010.ckpt", "voice-sovits-epoch004.pth"}; !slices.Equal(names, want) {
		t.Errorf("weights %q, want %q", names, want)
	}
}

var trainerClasses = map[string]string{
	starves: events.ClassOOM, killed: events.ClassOOM, stalls: events.ClassStalled, garbles: events.ClassEngineRejected, halves: events.ClassEngineRejected,
	mute: events.ClassEngineRejected, lost: events.ClassEngineUnavailable, lacking: events.ClassEngineUnavailable,
}

func kohyaTrial() engineTrial {
	return engineTrial{name: "kohya", task: "train_lora", lane: events.LaneTrain, fidelity: events.FidelityFull, attempt: toTrain, classes: trainerClasses,
		check: func(t *testing.T, a *Attempt, out *Output) {
			loraWell(t, a, out)
			if n := len(out.Files["checkpoints"]); n != 9 { // every tenth part, and the last is the LoRA
				t.Errorf("%d checkpoints", n)
			}
		},
		begin: func(t *testing.T, behaviour string) trialEngine {
			program, work := plantProgram(t, behaviour), t.TempDir()
			folder := checkout(t, "sdxl_train_network.py", "base.safetensors")
			e := oneTrainer(t, TrainingConfig{Work: work, Kohya: KohyaConfig{Folder: folder, Accelerate: program, Base: folder + "/base.safetensors", Idle: impatience(behaviour)}})
			return plantedEngine(t, program, e, keptIn(work))
		}}
}

func trainerCommandTrial() engineTrial {
	return engineTrial{name: "command", task: "train_lora", lane: events.LaneTrain, fidelity: events.FidelityFull, attempt: toTrain, check: loraWell,
		classes: map[string]string{starves: events.ClassOOM, mute: events.ClassEngineRejected, halves: events.ClassEngineRejected, lost: events.ClassEngineUnavailable},
		begin: func(t *testing.T, behaviour string) trialEngine {
			program, work := plantProgram(t, behaviour), t.TempDir()
			e := oneTrainer(t, TrainingConfig{Work: work, Command: CommandTrainerConfig{Progress: `steps: +(\d+)%`,
				Argv: []string{program, "train.py", "--dataset_config", "{dataset}", "--max_train_steps", "{steps}", "--save_every_n_steps", "{save_every}", "--output_dir", "{out_dir}", "--output_name", "{out_name}"}}})
			return plantedEngine(t, program, e, keptIn(work))
		}}
}

// soVITSCheckout has what the engine looks for.
func soVITSCheckout(t *testing.T) string {
	t.Helper()
	folder := checkout(t, "tools/asr/fasterwhisper_asr.py", "config.py", "GPT_SoVITS_weights/old.ckpt", "GPT_SoVITS/s2_train.py",
		"GPT_SoVITS/pretrained_models/chinese-hubert-base/config.json", "GPT_SoVITS/pretrained_models/chinese-roberta-wwm-ext-large/config.json",
		"GPT_SoVITS/pretrained_models/"+soVITSModels["v2"].s2g, "GPT_SoVITS/pretrained_models/"+soVITSModels["v2"].s2d, "GPT_SoVITS/pretrained_models/"+soVITSModels["v2"].gpt)
	for name, text := range map[string]string{
		"s2.json":          `{"train":{"epochs":100,"batch_size":32},"data":{"sampling_rate":32000},"model":{"semantic_frame_rate":"25hz"},"content_module":"cnhubert"}`,
		"s1longer-v2.yaml": "train:\n  epochs: 20\n  precision: 16-mixed\n  gradient_clip: 1.0\noptimizer:\n  lr: 0.01\n  lr_init: 0.00001\n",
	} {
		path := filepath.Join(folder, "GPT_SoVITS", "configs", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func soVITSTrainerTrial() engineTrial {
	return engineTrial{name: "gpt-sovits", task: "train_voice", lane: events.LaneTrain, fidelity: events.FidelityFull, attempt: toSpeakAlike, check: voiceWell, classes: trainerClasses,
		begin: func(t *testing.T, behaviour string) trialEngine {
			program, work := plantProgram(t, behaviour), t.TempDir()
			e := oneTrainer(t, TrainingConfig{Work: work, SoVITS: SoVITSTrainingConfig{Folder: soVITSCheckout(t), Python: program, Idle: impatience(behaviour)}})
			return plantedEngine(t, program, e, keptIn(work))
		}}
}

func TestTrainersConform(t *testing.T) {
	t.Parallel()
	reference := engineTrial{name: "reference", task: "train_voice", lane: events.LaneTrain, fidelity: events.FidelityFull, attempt: toSpeakAlike, check: voiceWell,
		classes: map[string]string{starves: events.ClassOOM, garbles: events.ClassInvalidInput, mute: events.ClassInvalidInput, lost: events.ClassEngineUnavailable},
		begin: func(t *testing.T, behaviour string) trialEngine {
			program := plantFFmpeg(t, behaviour)
			return plantedEngine(t, program, &voiceReference{&mediaTool{ffmpeg: program, ffprobe: "ffprobe"}}, nothing)
		}}
	for _, tr := range []engineTrial{kohyaTrial(), trainerCommandTrial(), soVITSTrainerTrial(), reference} {
		t.Run(tr.name, func(t *testing.T) {
			t.Parallel()
			tr.conforms(t)
		})
	}
}

// TestTrainingsGoOn has two attempts end in the middle; the next one does the rest alone.
func TestTrainingsGoOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		config  func(program, work string, t *testing.T) TrainingConfig
		attempt func(t *testing.T) *Attempt
		check   func(t *testing.T, a *Attempt, out *Output)
		script  string
		// wantArgs is what the last attempt's script is told, and wantNote what its result tells.
		wantArgs, wantNote string
	}{
		"kohya": {func(program, work string, t *testing.T) TrainingConfig {
			folder := checkout(t, "sdxl_train_network.py", "base.safetensors")
			return TrainingConfig{Work: work, Kohya: KohyaConfig{Folder: folder, Accelerate: program, Base: folder + "/base.safetensors"}}
		}, toTrain, loraWell, "sdxl_train_network.py", "--initial_step\n22\n--skip_until_initial_step", "had done 22 of 40 steps"},
		"gpt-sovits": {func(program, work string, t *testing.T) TrainingConfig {
			return TrainingConfig{Work: work, SoVITS: SoVITSTrainingConfig{Folder: soVITSCheckout(t), Python: program}}
		}, toSpeakAlike, voiceWell, "s2_train.py", "s2.json", "a voice was trained"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			work := t.TempDir()
			tr := engineTrial{attempt: c.attempt}
			failing := plantProgram(t, starves)
			cfg := c.config(failing, work, t)
			first, _ := tr.watched(t)
			next := func(n int) (*Attempt, func() []float64) {
				a, percents := tr.watched(t)
				a.ID, a.Number, a.Reduce, a.Files = events.AttemptID(comfyJob, "stage", n), n, n-1, first.Files
				return a, percents
			}
			for n := 1; n <= 2; n++ { // the second one goes on as well, and does not come far
				a, _ := next(n)
				_, err := oneTrainer(t, cfg).Run(inTime(t), a)
				wantTaskError(t, err, events.ClassOOM)
				if kept := keptIn(work)(); len(kept) != 1 {
					t.Fatalf("kept %q", kept)
				}
			}
			mend(t, failing)
			last, percents := next(3)
			out, err := oneTrainer(t, cfg).Run(inTime(t), last)
			if err != nil {
				t.Fatal(err)
			}
			c.check(t, last, out)
			if p := percents(); !rises(p) {
				t.Errorf("progress %v", p)
			}
			text, err := os.ReadFile(filepath.Join(filepath.Dir(failing), "args-"+c.script))
			if err != nil || !strings.Contains(string(text), c.wantArgs) || !strings.Contains(strings.Join(out.Notes, "; "), c.wantNote) || !strings.Contains(strings.Join(out.Notes, "; "), "memory ran out") {
				t.Errorf("told %q; notes %q", text, out.Notes)
			}
			if kept := keptIn(work)(); len(kept) > 0 {
				t.Errorf("kept %q", kept)
			}
		})
	}
}

// mend has the planted program behave, under the name that it has.
func mend(t *testing.T, program string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(program), "mended"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWhatNobodyComesBackForGoes(t *testing.T) {
	t.Parallel()
	c := &chains{root: filepath.Join(t.TempDir(), "x"), keep: time.Hour}
	a := &Attempt{JobID: comfyJob, Stage: "s"}
	open := func(a *Attempt, settings string) *chain {
		t.Helper()
		ch, err := c.open(a, settings)
		if err != nil {
			t.Fatal(err)
		}
		return ch
	}
	first := open(a, "1")
	if _, err := c.open(a, "1"); wantTaskError(t, err, events.ClassEngineUnavailable).Hint == "" {
		t.Error("no hint")
	}
	other := open(a, "2")
	if other.dir == first.dir {
		t.Error("other settings have the same folder")
	}
	oom := &TaskError{Class: events.ClassOOM}
	if err := first.close(t.Context(), oom); !errors.Is(err, oom) {
		t.Error(err)
	}
	old := time.Now().Add(-2 * time.Hour)
	if err := errors.Join(os.Chtimes(first.dir, old, old), os.Chtimes(other.dir, old, old)); err != nil {
		t.Fatal(err)
	}
	c.swept = time.Time{}
	c.sweep(time.Now())
	if _, err := os.Stat(first.dir); !os.IsNotExist(err) {
		t.Error("an old folder is still there")
	}
	if _, err := os.Stat(other.dir); err != nil {
		t.Error("a folder in use has gone")
	}
	if err := other.close(t.Context(), nil); err != nil {
		t.Error(err)
	}
	again := open(a, "2")
	stopped, stop := context.WithCancelCause(t.Context())
	stop(errStopped)
	if err := again.close(stopped, context.Canceled); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if left, err := os.ReadDir(c.root); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestProgramsThatTrainAreChecked(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]TrainingConfig{
		"relative":   {Work: "x", Kohya: KohyaConfig{Folder: "/k"}},
		"checkout":   {Work: "/x", Kohya: KohyaConfig{Folder: "k"}},
		"no output":  {Work: "/x", Command: CommandTrainerConfig{Argv: []string{"train", "{set}"}}},
		"no set":     {Work: "/x", Command: CommandTrainerConfig{Argv: []string{"train", "{out_dir}"}}},
		"unknown":    {Work: "/x", Command: CommandTrainerConfig{Argv: []string{"train", "{set}", "{out_dir}", "{prompt}"}}},
		"secret":     {Work: "/x", Kohya: KohyaConfig{Folder: "/k", Env: []string{"MYSPINBOT_S3_SECRET_KEY"}}},
		"progress":   {Work: "/x", Command: CommandTrainerConfig{Argv: []string{"train", "{set}", "{out_dir}"}, Progress: "no group"}},
		"no version": {Work: "/x", SoVITS: SoVITSTrainingConfig{Folder: "/s", Version: "v9"}},
	} {
		if _, err := TrainingEngines(bad, EngineConfig{}); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	absent := oneTrainer(t, TrainingConfig{Work: "/x", Kohya: KohyaConfig{Folder: "/no/such", Accelerate: "sh", Base: "/no/base.safetensors"}})
	if _, gap := absent.Capability(t.Context()); gap == nil || !strings.Contains(gap.Reason, `"/no/such/sdxl_train_network.py"`) || !strings.Contains(gap.Hint, "engines.training.kohya.base") {
		t.Errorf("gap %+v", gap)
	}
}
