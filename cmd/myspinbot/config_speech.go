// The part of the configuration that is about voices, and how it reaches them.

package main

import (
	_ "embed"

	gpu "github.com/myspinbot/myspinbot/gpu-consumers"
)

//go:embed config_speech.go
var speechConfigSource string // the comments below, for the schema

// SpeechConfig is about the voices that speak beside the built-in one.
type SpeechConfig struct {
	// Let the built-in voice speak while no configured one can. Switch it off where a job had better wait and fail than be spoken by another voice.
	Fallback bool               `key:"fallback" default:"true"`
	OpenAI   OpenAISpeechConfig `key:"openai"`
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
	// Ask for word times where the server tells them (Kokoro-FastAPI). Switch it off where that route is broken.
	Captions bool `key:"captions" default:"true"`
	// What results are labelled: preview for a small voice without a GPU.
	Fidelity string `key:"fidelity" default:"full" oneof:"full preview"`
	// A sentence for the notes of each result, such as the licence of the weights.
	Note string `key:"note"`
}

// voices is the configuration as the engines take it.
func (c SpeechConfig) voices() gpu.VoicesConfig {
	o := c.OpenAI
	return gpu.VoicesConfig{
		OpenAI: gpu.OpenAIVoiceConfig{URL: o.URL, Key: o.Key.Reveal(), Model: o.Model, Voice: o.Voice, Voices: o.Voices,
			Captions: o.Captions, Preview: o.Fidelity == "preview", Note: o.Note},
	}
}
