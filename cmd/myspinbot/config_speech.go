// The part of the configuration that is about voices, and how it reaches them.

package main

import (
	_ "embed"
	"time"

	gpu "github.com/myspinbot/myspinbot/gpu-consumers"
)

//go:embed config_speech.go
var speechConfigSource string // the comments below, for the schema

// SpeechConfig is about the voices that speak beside the built-in one.
type SpeechConfig struct {
	// Let the built-in voice speak while no configured one can. Switch it off where a job had better wait and fail than be spoken by another voice.
	Fallback bool                `key:"fallback" default:"true"`
	SoVITS   SoVITSConfig        `key:"sovits"`
	Command  SpeechCommandConfig `key:"command"`
	OpenAI   OpenAISpeechConfig  `key:"openai"`
}

// SoVITSConfig reaches GPT-SoVITS (api_v2.py), which imitates a job's voice reference.
type SoVITSConfig struct {
	// Base URL of the server, such as http://127.0.0.1:9880. Empty: none.
	URL string `key:"url"`
	// Folder, by its absolute path here, that the server sees too: voice references are put there while they are used. Empty: the server runs on this machine as the same user.
	Shared string `key:"shared"`
	// The same folder as the server names it. Empty: by the same path.
	SharedAs string `key:"shared_as"`
	// GPT weights to load before each job, by their path on the server. Empty, with the other: whatever is loaded. With weights, let the processes of one machine alone use the server: they take turns.
	GPTWeights string `key:"gpt_weights"`
	// SoVITS weights to load before each job, by their path on the server. A voice that was trained brings its own.
	SoVITSWeights string `key:"sovits_weights"`
	// MiB of trained voices' weights that are kept for the server: below shared, or in a folder beside the work files. What nobody uses for a day goes. 0: voices are imitated from their references although they were trained. They are used where gpt_weights and sovits_weights are set, which speak for everybody else.
	CacheMiB int `key:"cache_mib" default:"4096" min:"0" max:"1048576"`
	// Language that is spoken in the references, as GPT-SoVITS names it: en, ja, ko, yue, zh, all_zh, auto and others. Empty: told by the letters of a reference's transcript, else that of the job.
	Language string `key:"language"`
	// Languages that its weights speak. Empty: en, ja, ko, yue and zh, those of version 2 and later. Set it for weights of version 1, which lack ko and yue.
	Languages []string `key:"languages"`
	// A sentence for the notes of each result, such as the licence of the weights.
	Note string `key:"note"`
}

// SpeechCommandConfig runs a program that reads a text file and writes a sound file.
type SpeechCommandConfig struct {
	// A program whose command line is known. f5-tts imitates a job's voice reference.
	Preset string `key:"preset" oneof:"f5-tts"`
	// Program and arguments, each a word; no shell reads them. Placeholders: {text_file}, {out}, {out_dir}, {out_name}, {ref_audio}, {ref_text}, {ref_text_file}, {language}, {speed}. Set it for any other program, or to change a preset's.
	Argv []string `key:"argv"`
	// Names of environment variables that the program gets, beside PATH, TZ and CUDA_VISIBLE_DEVICES. Set it where it needs to know the folder of its models, such as HF_HOME.
	Env []string `key:"env"`
	// What results name as the model. Change it with the model, so that old results do not stand in for new ones.
	Model string `key:"model"`
	// Words that one call speaks, at least a sentence. 0 leaves it to the preset. Raise it for programs that are slow to start.
	Words int `key:"words" default:"0" min:"0" max:"200"`
	// Languages that it speaks, such as en or pt-BR. Empty: any where argv has {language}, otherwise those of the preset, or en. Jobs in others are spoken by another voice, or refused.
	Languages []string `key:"languages"`
	// Longest time of one call.
	Timeout time.Duration `key:"timeout" default:"10m" min:"1s" max:"2h"`
	// What results are labelled: preview for a small voice without a GPU.
	Fidelity string `key:"fidelity" default:"full" oneof:"full preview"`
	// A sentence for the notes of each result, such as the licence of the weights.
	Note string `key:"note"`
}

// OpenAISpeechConfig reaches an OpenAI-compatible speech server: Kokoro-FastAPI, Speaches, LocalAI and others.
type OpenAISpeechConfig struct {
	// Base URL of the server, such as http://127.0.0.1:8880. Empty: none.
	URL string `key:"url"`
	// Bearer token, for servers that ask for one.
	Key Secret `key:"key"`
	// Model as the server names it.
	Model string `key:"model" default:"kokoro"`
	// Voice as the server names it, for everybody who has no other.
	Voice string `key:"voice" default:"af_heart"`
	// Other voices, each profile=voice, by the profile's id, or built-in voice=voice, such as rms=am_michael. Set it to give each person a voice.
	Voices []string `key:"voices"`
	// Languages that are spoken, each by the voices above (en) or by one of its own (es=ef_dora). Empty: en. Jobs in others are spoken by another voice, or refused.
	Languages []string `key:"languages"`
	// Ask for word times where the server tells them (Kokoro-FastAPI). Switch it off where that route is broken.
	Captions bool `key:"captions" default:"true"`
	// What results are labelled: preview for a small voice without a GPU.
	Fidelity string `key:"fidelity" default:"full" oneof:"full preview"`
	// A sentence for the notes of each result, such as the licence of the weights.
	Note string `key:"note"`
}

// voices is the configuration as the engines take it; temp is the folder of temporary files.
func (c SpeechConfig) voices(temp string) gpu.VoicesConfig {
	o, s, p := c.OpenAI, c.SoVITS, c.Command
	return gpu.VoicesConfig{
		SoVITS: gpu.SoVITSConfig{URL: s.URL, Shared: s.Shared, SharedAs: s.SharedAs, GPTWeights: s.GPTWeights, SoVITSWeights: s.SoVITSWeights,
			Language: s.Language, Languages: s.Languages, CacheBytes: int64(s.CacheMiB) << 20, Work: temp, Note: s.Note},
		Command: gpu.CommandVoiceConfig{Preset: p.Preset, Argv: p.Argv, Env: p.Env, Model: p.Model, Words: p.Words, Languages: p.Languages, Timeout: p.Timeout,
			Preview: p.Fidelity == "preview", Note: p.Note},
		OpenAI: gpu.OpenAIVoiceConfig{URL: o.URL, Key: o.Key.Reveal(), Model: o.Model, Voice: o.Voice, Voices: o.Voices, Languages: o.Languages,
			Captions: o.Captions, Preview: o.Fidelity == "preview", Note: o.Note},
	}
}
