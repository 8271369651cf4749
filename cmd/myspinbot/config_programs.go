// The part of the configuration that is about programs of others, and how it reaches them.

package main

import (
	_ "embed"
	"path/filepath"
	"time"

	gpu "github.com/myspinbot/myspinbot/gpu-consumers"
)

//go:embed config_programs.go
var programsConfigSource string // the comments below, for the schema

// LipsyncConfig is about the programs that move lips beside the built-in engine.
type LipsyncConfig struct {
	Wav2Lip   LipsyncProgramConfig `key:"wav2lip"`
	SadTalker LipsyncProgramConfig `key:"sadtalker"`
	Command   LipsyncCommandConfig `key:"command"`
}

// LipsyncProgramConfig is a checkout of Wav2Lip or SadTalker.
type LipsyncProgramConfig struct {
	// Folder of its checkout, by its absolute path. Empty: it is not used.
	Folder string `key:"folder"`
	// Python of the environment that it was installed in. Empty: python3 on PATH.
	Python string `key:"python"`
	// Its weights: of Wav2Lip a file, of SadTalker a folder. Empty: where its own instructions put them.
	Checkpoint string `key:"checkpoint"`
	// More arguments of its inference.py, each a word, such as --enhancer and gfpgan.
	Args []string `key:"args"`
	// Names of environment variables that it gets beside PATH, TZ, CUDA_VISIBLE_DEVICES and those of Hugging Face. Set it where its installation needs others.
	Env []string `key:"env"`
	// Longest time of one call.
	Timeout time.Duration `key:"timeout" default:"30m" min:"1s" max:"12h"`
	// Longest silence of it before it is taken for hung. Raise it where models load from a slow disk for longer than that.
	Idle time.Duration `key:"idle" default:"10m" min:"1s" max:"4h"`
	// GiB of main memory that each of its processes may fill; 0 is no bound. Set it where a machine does other work too.
	MemoryGiB int `key:"memory_gib" default:"0" min:"0" max:"4096"`
	// A sentence for the notes of each result.
	Note string `key:"note"`
}

// LipsyncCommandConfig runs any other program that moves lips.
type LipsyncCommandConfig struct {
	// Program and arguments, each a word; no shell reads them. Placeholders: {face}, {speech}, {out}, {out_dir}, {fps}, {width}, {height}, {batch}, {face_batch}, {size}. Paths are plain names in the folder that it runs in. Empty: none.
	Argv []string `key:"argv"`
	// What its {face} may be: portrait (a PNG), clip (an MP4 as long as the speech), or any of the two.
	Face string `key:"face" default:"any" oneof:"portrait clip any"`
	// Regular expression that finds its progress in a line of its output: one group for percent, or two for what is done and for all. Empty: the bars of Python's tqdm.
	Progress string `key:"progress"`
	// Names of environment variables that it gets beside PATH, TZ and CUDA_VISIBLE_DEVICES.
	Env []string `key:"env"`
	// What results name as the model. Change it with the model, so that old results do not stand in for new ones.
	Model string `key:"model"`
	// What results are labelled: preview for a program without a real model.
	Fidelity string `key:"fidelity" default:"full" oneof:"full preview"`
	// Longest time of one call.
	Timeout time.Duration `key:"timeout" default:"30m" min:"1s" max:"12h"`
	// Longest silence of it before it is taken for hung.
	Idle time.Duration `key:"idle" default:"10m" min:"1s" max:"4h"`
	// GiB of main memory that each of its processes may fill; 0 is no bound.
	MemoryGiB int `key:"memory_gib" default:"0" min:"0" max:"4096"`
	// A sentence for the notes of each result.
	Note string `key:"note"`
}

// TrainingConfig is about the programs that train.
type TrainingConfig struct {
	// Folder, by its absolute path, for what a training has reached, so that its next attempt goes on from there; it must outlive the process. Empty: the folder of temporary files.
	Work string `key:"work"`
	// How long that is kept after the last attempt, for the next one. Then it is removed.
	Keep    time.Duration         `key:"keep" default:"24h" min:"1m" max:"720h"`
	Kohya   KohyaConfig           `key:"kohya"`
	SoVITS  SoVITSTrainingConfig  `key:"sovits"`
	Command TrainingCommandConfig `key:"command"`
}

// KohyaConfig is a checkout of kohya's sd-scripts, which trains LoRAs.
type KohyaConfig struct {
	// Folder of its checkout, 0.9 or newer, by its absolute path. Empty: it is not used.
	Folder string `key:"folder"`
	// The program accelerate of its environment. Empty: the one on PATH.
	Accelerate string `key:"accelerate"`
	// Model that the LoRA is for, of the script's family: a file, or a folder in the form of diffusers.
	Base string `key:"base"`
	// Its script for that family. Change it with the model: train_network.py for Stable Diffusion 1.5.
	Script string `key:"script" default:"sdxl_train_network.py"`
	// Side in pixels of the pictures that are trained on. Lower it where the card is small.
	Resolution int `key:"resolution" default:"1024" min:"256" max:"2048"`
	// More arguments of the script, each a word; a later one replaces an earlier one.
	Args []string `key:"args"`
	// Names of environment variables that it gets beside PATH, TZ, CUDA_VISIBLE_DEVICES and those of Hugging Face.
	Env []string `key:"env"`
	// Longest time of one attempt.
	Timeout time.Duration `key:"timeout" default:"4h" min:"1s" max:"48h"`
	// Longest silence of it before it is taken for hung.
	Idle time.Duration `key:"idle" default:"20m" min:"1s" max:"4h"`
	// GiB of main memory that each of its processes may fill; 0 is no bound.
	MemoryGiB int `key:"memory_gib" default:"0" min:"0" max:"4096"`
	// A sentence for the notes of each result, such as the licence of the model.
	Note string `key:"note"`
}

// SoVITSTrainingConfig is a checkout of GPT-SoVITS, which trains voices.
type SoVITSTrainingConfig struct {
	// Folder of its checkout, by its absolute path. Empty: it is not used, and voices are imitated from their reference.
	Folder string `key:"folder"`
	// Python of the environment that it was installed in. Empty: python3 on PATH.
	Python string `key:"python"`
	// Version of the models that are trained from.
	Version string `key:"version" default:"v2" oneof:"v2 v2Pro v2ProPlus"`
	// Size of the faster-whisper model that writes down what is said.
	Recogniser string `key:"recogniser" default:"large-v3"`
	// Epochs of SoVITS, which learns the sound of the voice.
	SoVITSEpochs int `key:"sovits_epochs" default:"8" min:"1" max:"200"`
	// Epochs of GPT, which learns the way of speaking.
	GPTEpochs int `key:"gpt_epochs" default:"15" min:"1" max:"200"`
	// Sentences that are trained on at a time. Lower it where the card is small.
	Batch int `key:"batch" default:"4" min:"1" max:"64"`
	// Train with 32-bit numbers. Switch it on for cards without 16-bit ones.
	Full bool `key:"full" default:"false"`
	// Seconds of clips from which a voice is trained; with fewer it is imitated.
	LeastSeconds float64 `key:"least_seconds" default:"30" min:"5" max:"3600"`
	// Names of environment variables that it gets beside PATH, TZ, CUDA_VISIBLE_DEVICES and those of Hugging Face.
	Env []string `key:"env"`
	// Longest time of one of its scripts.
	Timeout time.Duration `key:"timeout" default:"2h" min:"1s" max:"48h"`
	// Longest silence of it before it is taken for hung.
	Idle time.Duration `key:"idle" default:"20m" min:"1s" max:"4h"`
	// GiB of main memory that each of its processes may fill; 0 is no bound.
	MemoryGiB int `key:"memory_gib" default:"0" min:"0" max:"4096"`
	// A sentence for the notes of each result.
	Note string `key:"note"`
}

// TrainingCommandConfig runs any other program that trains a LoRA.
type TrainingCommandConfig struct {
	// Program and arguments, each a word; no shell reads them. Placeholders: {set} (folder with NNNN.jpg and NNNN.txt), {dataset} (the same as a file of sd-scripts), {out_dir}, {out_name}, {work} (kept between attempts), {logs}, {steps}, {rank}, {alpha}, {scheduler}, {resolution}, {save_every}. Empty: none.
	Argv []string `key:"argv"`
	// Regular expression that finds its progress in a line of its output: one group for percent, or two for what is done and for all. Empty: the bars of Python's tqdm.
	Progress string `key:"progress"`
	// Names of environment variables that it gets beside PATH, TZ and CUDA_VISIBLE_DEVICES.
	Env []string `key:"env"`
	// What results name as the model.
	Model string `key:"model"`
	// Longest time of one attempt.
	Timeout time.Duration `key:"timeout" default:"4h" min:"1s" max:"48h"`
	// Longest silence of it before it is taken for hung.
	Idle time.Duration `key:"idle" default:"20m" min:"1s" max:"4h"`
	// GiB of main memory that each of its processes may fill; 0 is no bound.
	MemoryGiB int `key:"memory_gib" default:"0" min:"0" max:"4096"`
	// A sentence for the notes of each result.
	Note string `key:"note"`
}

func gib(n int) int64 { return int64(n) << 30 }

func (c LipsyncProgramConfig) program() gpu.LipsyncProgramConfig {
	return gpu.LipsyncProgramConfig{Folder: c.Folder, Python: c.Python, Checkpoint: c.Checkpoint, Args: c.Args, Env: c.Env, Timeout: c.Timeout, Idle: c.Idle,
		Memory: gib(c.MemoryGiB), Note: c.Note}
}

// programs is the configuration as the engines take it.
func (c LipsyncConfig) programs() gpu.LipsyncConfig {
	p := c.Command
	return gpu.LipsyncConfig{Wav2Lip: c.Wav2Lip.program(), SadTalker: c.SadTalker.program(), Command: gpu.CommandLipsyncConfig{
		Argv: p.Argv, Env: p.Env, Face: p.Face, Model: p.Model, Progress: p.Progress, Preview: p.Fidelity == "preview", Timeout: p.Timeout, Idle: p.Idle, Memory: gib(p.MemoryGiB), Note: p.Note}}
}

// programs is the configuration as the engines take it; temp is the folder of temporary
// files.
func (c TrainingConfig) programs(temp string) gpu.TrainingConfig {
	k, s, p := c.Kohya, c.SoVITS, c.Command
	work := c.Work
	if work == "" {
		work, _ = filepath.Abs(temp) // without a working directory nothing else works either
	}
	return gpu.TrainingConfig{
		Work: work, Keep: c.Keep,
		Kohya: gpu.KohyaConfig{Folder: k.Folder, Accelerate: k.Accelerate, Base: k.Base, Script: k.Script, Resolution: k.Resolution, Args: k.Args, Env: k.Env,
			Timeout: k.Timeout, Idle: k.Idle, Memory: gib(k.MemoryGiB), Note: k.Note},
		SoVITS: gpu.SoVITSTrainingConfig{Folder: s.Folder, Python: s.Python, Version: s.Version, Recogniser: s.Recogniser, SoVITSEpochs: s.SoVITSEpochs, GPTEpochs: s.GPTEpochs,
			Batch: s.Batch, Full: s.Full, LeastSeconds: s.LeastSeconds, Env: s.Env, Timeout: s.Timeout, Idle: s.Idle, Memory: gib(s.MemoryGiB), Note: s.Note},
		Command: gpu.CommandTrainerConfig{Argv: p.Argv, Env: p.Env, Model: p.Model, Progress: p.Progress, Timeout: p.Timeout, Idle: p.Idle, Memory: gib(p.MemoryGiB), Note: p.Note},
	}
}
