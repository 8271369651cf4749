// The part of the configuration that is about scripts and their safety, and how it
// reaches the engines.

package main

import (
	_ "embed"
	"time"

	gpu "github.com/myspinbot/myspinbot/gpu-consumers"
)

//go:embed config_text.go
var textConfigSource string // the comments below, for the schema

// OllamaConfig reaches the language model that writes scripts from prompts.
type OllamaConfig struct {
	// Base URL of an Ollama server. Empty: no language model there; without engines.chat.url scripts come from the user's own text or a template.
	URL string `key:"url"`
	// Model that Ollama has pulled. Set it to whatever `ollama list` shows.
	Model string `key:"model" default:"llama3.2"`
	// How freely the model writes, 0 to 2. Lower it when scripts wander.
	Temperature float64 `key:"temperature" default:"0.7" min:"0" max:"2"`
	// How long Ollama keeps the model loaded after an answer, such as 10m; 0 unloads it at once, -1 never. Empty: Ollama's own choice. Set it to 0 where the card is needed for pictures.
	KeepAlive string `key:"keep_alive"`
	// Longest wait for a connection.
	Connect time.Duration `key:"connect" default:"3s" min:"100ms" max:"5m"`
	// Longest wait for the first word, loading the model included. Raise it where large models load from slow disks.
	FirstToken time.Duration `key:"first_token" default:"5m" min:"1s" max:"2h"`
	// Longest pause within an answer.
	Idle time.Duration `key:"idle" default:"30s" min:"1s" max:"30m"`
}

// ChatConfig reaches an OpenAI-compatible server with a language model: llama.cpp, vLLM, LM Studio and others. Where Ollama is configured too, it stands in while Ollama is away.
type ChatConfig struct {
	// Base URL of the server, such as http://127.0.0.1:8080, with or without /v1. Empty: none.
	URL string `key:"url"`
	// Bearer token, for servers that ask for one.
	Key Secret `key:"key"`
	// Model as the server names it; required with a URL.
	Model string `key:"model"`
	// How freely the model writes, 0 to 2. Lower it when scripts wander.
	Temperature float64 `key:"temperature" default:"0.7" min:"0" max:"2"`
	// Longest wait for a connection.
	Connect time.Duration `key:"connect" default:"3s" min:"100ms" max:"5m"`
	// Longest wait for the first word, loading the model included. Raise it where large models load from slow disks.
	FirstToken time.Duration `key:"first_token" default:"5m" min:"1s" max:"2h"`
	// Longest pause within an answer.
	Idle time.Duration `key:"idle" default:"30s" min:"1s" max:"30m"`
}

// ScriptConfig is about what language models are asked for.
type ScriptConfig struct {
	// Folder with prompt templates of your own: script.txt, and script.TONE.txt, script.LANGUAGE.txt or script.TONE.LANGUAGE.txt for one tone or language. Empty: the built-in one.
	Prompts string `key:"prompts"`
}

// SafetyConfig is about the filter that every script passes.
type SafetyConfig struct {
	// Policy that every script is held against at least; a job may ask for the stricter one.
	Policy string `key:"policy" default:"standard" oneof:"standard strict"`
	// File with rules of your own (JSON), beside the built-in ones. Empty: none.
	Rules string `key:"rules"`
	// Model that judges what the rules let pass, at the server of engines.ollama, or else of engines.chat. Empty: the rules alone judge.
	Model string `key:"model"`
	// Let the rules alone judge while the model cannot. Leave it off where no script may pass unseen by the model: jobs then wait, and fail.
	Fallback bool `key:"fallback" default:"false"`
}

// text is the configuration as the engines of the script lane take it.
func (c EnginesConfig) text() gpu.TextConfig {
	o, s := c.Ollama, c.Chat
	return gpu.TextConfig{
		Ollama: gpu.ChatConfig{URL: o.URL, Model: o.Model, Temperature: o.Temperature, KeepAlive: o.KeepAlive,
			Patience: gpu.Patience{Connect: o.Connect, FirstByte: o.FirstToken, Idle: o.Idle}},
		Chat: gpu.ChatConfig{URL: s.URL, Key: s.Key.Reveal(), Model: s.Model, Temperature: s.Temperature,
			Patience: gpu.Patience{Connect: s.Connect, FirstByte: s.FirstToken, Idle: s.Idle}},
		Prompts: c.Script.Prompts,
		Safety:  gpu.SafetyConfig{Model: c.Safety.Model, Fallback: c.Safety.Fallback, Strict: c.Safety.Policy == "strict", Rules: c.Safety.Rules},
	}
}
