// Which voices speak, and in which order.

package gpu

import (
	"cmp"
)

// VoicesConfig says which voices there are beside the built-in one.
type VoicesConfig struct {
	OpenAI OpenAIVoiceConfig
}

// SpeechEngines are the configured voices in the order of preference; the built-in
// voice of BuiltinEngines comes after them. Of a healthy set the first that takes an
// attempt speaks: voices that imitate take those with a reference, others all.
func SpeechEngines(c VoicesConfig, programs EngineConfig) ([]engine, error) {
	media := programs.media()
	aligner := &aligner{cmp.Or(programs.Flite, "flite")}
	var engines []engine
	if c.OpenAI.URL != "" {
		v, err := newOpenAIVoice(c.OpenAI, media)
		if err != nil {
			return nil, err
		}
		engines = append(engines, &speech{voice: v, aligner: aligner, media: media})
	}
	return engines, nil
}
