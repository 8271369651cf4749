// Which programs train, and how their command lines read.

package gpu

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TrainingConfig says which programs train; without a folder or a command there is none
// of them.
type TrainingConfig struct {
	Work    string        // absolute folder for what is kept between attempts
	Keep    time.Duration // after the last attempt; default 24 h
	Kohya   KohyaConfig
	SoVITS  SoVITSTrainingConfig
	Command CommandTrainerConfig
}

// KohyaConfig is a checkout of kohya's sd-scripts, 0.9 or newer.
type KohyaConfig struct {
	Folder     string   // of the checkout; empty: there is none
	Accelerate string   // program of its environment; default accelerate
	Base       string   // model that the LoRA is for: a file, or a folder in diffusers' form
	Script     string   // default sdxl_train_network.py
	Resolution int      // pixels; default 1024
	Args       []string // more arguments of the script
	Env        []string
	Timeout    time.Duration // default 4 h
	Idle       time.Duration // default 20 min
	Memory     int64
	Note       string
}

// CommandTrainerConfig is any other program.
type CommandTrainerConfig struct {
	Argv     []string // program and arguments; see trainerHoles
	Env      []string
	Model    string
	Progress string // regular expression of one group (percent) or two (done, all); empty: tqdm's bars
	Timeout  time.Duration
	Idle     time.Duration
	Memory   int64
	Note     string
}

// trainerHoles are what a trainer's template may hold.
var trainerHoles = map[string]*regexp.Regexp{
	"folder": anyPath, "base": anyPath, "set": anyPath, "dataset": anyPath, "work": anyPath, "out_dir": anyPath, "out_name": anyPath, "logs": anyPath,
	"steps": anyNumber, "rank": anyNumber, "alpha": anyNumber, "resolution": anyNumber, "save_every": anyNumber, "scheduler": regexp.MustCompile(`^[a-z_]+$`),
}

// TrainingEngines are the configured trainers. They belong before the built-in engines,
// which prepare sets and references where none is.
func TrainingEngines(c TrainingConfig, programs EngineConfig) ([]engine, error) {
	if err := absolute("engines.training", c.Kohya.Folder, c.Kohya.Base, c.SoVITS.Folder); err != nil {
		return nil, err
	}
	kept := &chains{root: filepath.Join(c.Work, "myspinbot-training"), keep: cmp.Or(c.Keep, 24*time.Hour)}
	var engines []engine
	var all []*loraTrainer
	if c.Kohya.Folder != "" {
		all = append(all, kohya(c.Kohya))
	}
	if len(c.Command.Argv) > 0 {
		p, err := trainerCommand(c.Command)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	for _, p := range all {
		if _, err := checkCommand(p.name, p.argv, p.Env, trainerHoles); err != nil {
			return nil, err
		}
		p.chains, p.Timeout, p.Idle = kept, cmp.Or(p.Timeout, 4*time.Hour), cmp.Or(p.Idle, 20*time.Minute)
		engines = append(engines, p)
	}
	if c.SoVITS.Folder != "" {
		s, err := newSoVITSTrainer(c.SoVITS, kept, programs.media())
		if err != nil {
			return nil, err
		}
		engines = append(engines, s)
	}
	if len(engines) > 0 && !filepath.IsAbs(c.Work) {
		return nil, fmt.Errorf("cannot keep trainings in %q: give the absolute path of a folder", c.Work)
	}
	return engines, nil
}

// kohya trains with sd-scripts.
//
// Its facts: bars go to standard error and end with a carriage return; the bar "steps"
// begins at 0 again after --resume; a state is whole when its last file, of random
// numbers, is there; steps in the names of files count from the epoch in which it went
// on, so that each attempt writes into a folder of its own and counts by itself.
func kohya(c KohyaConfig) *loraTrainer {
	script := cmp.Or(c.Script, "sdxl_train_network.py")
	hint := "check out kohya-ss/sd-scripts into engines.training.kohya.folder and install it in an environment of its own"
	return &loraTrainer{
		programConfig: programConfig{Env: append(slices.Clone(pythonEnv), c.Env...), Timeout: c.Timeout, Idle: c.Idle, Memory: c.Memory},
		name:          "kohya", model: "lora-" + strings.TrimSuffix(filepath.Base(c.Base), filepath.Ext(c.Base)), note: c.Note,
		folder: c.Folder, base: c.Base, resolution: cmp.Or(c.Resolution, 1024), hint: hint, mark: "steps:",
		argv: append([]string{cmp.Or(c.Accelerate, "accelerate"), "launch", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "bf16", "--dynamo_backend", "no",
			"--num_cpu_threads_per_process", "1", "{folder}/" + script, "--pretrained_model_name_or_path", "{base}", "--dataset_config", "{dataset}",
			"--output_dir", "{out_dir}", "--output_name", "{out_name}", "--save_model_as", "safetensors", "--no_metadata",
			"--network_module", "networks.lora", "--network_dim", "{rank}", "--network_alpha", "{alpha}", "--learning_rate", "1e-4", "--optimizer_type", "AdamW8bit",
			"--lr_scheduler", "{scheduler}", "--max_train_steps", "{steps}", "--save_every_n_steps", "{save_every}", "--save_state", "--save_last_n_steps_state", "{save_every}",
			"--mixed_precision", "bf16", "--gradient_checkpointing", "--cache_latents", "--sdpa", "--seed", "1", "--max_data_loader_n_workers", "1"}, c.Args...),
		needs: []needed{
			{filepath.Join(c.Folder, script), "the script " + script, hint, false},
			{c.Base, "the model to train for", "set engines.training.kohya.base to a model of the script's family", isFolder(c.Base)},
		},
		resume: func(r *reached) []string {
			return []string{"--resume", r.state, "--initial_step", strconv.Itoa(r.steps), "--skip_until_initial_step"}
		},
	}
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func trainerCommand(c CommandTrainerConfig) (*loraTrainer, error) {
	used, err := checkCommand("the trainer", c.Argv, c.Env, trainerHoles)
	if err != nil {
		return nil, err
	}
	if !used["set"] && !used["dataset"] || !used["out_dir"] {
		return nil, errors.New("cannot use the trainer's command: it needs {set} or {dataset}, and {out_dir}")
	}
	name := filepath.Base(c.Argv[0])
	p := &loraTrainer{
		programConfig: programConfig{Env: c.Env, Timeout: c.Timeout, Idle: c.Idle, Memory: c.Memory}, name: name, model: cmp.Or(c.Model, name), note: c.Note, argv: c.Argv,
		resolution: 1024, hint: "install " + name + ", or set engines.training.command.argv to where it is",
	}
	p.pattern, err = progressPattern(c.Progress)
	return p, err
}
