// Which voices speak, and in which order.

package gpu

import "cmp"

// VoicesConfig says which voices there are beside the built-in one.
type VoicesConfig struct {
	SoVITS  SoVITSConfig
	Command CommandVoiceConfig
	OpenAI  OpenAIVoiceConfig
}

// SpeechEngines are the configured voices in the order of preference; the built-in
// voice of BuiltinEngines comes after them. Of the healthy ones the first that takes
// an attempt speaks: voices that imitate take attempts with a reference, others all.
func SpeechEngines(c VoicesConfig, programs EngineConfig) ([]engine, error) {
	media := programs.media()
	aligner := &aligner{cmp.Or(programs.Flite, "flite")}
	var voices []voice
	if c.SoVITS.URL != "" {
		v, err := newSoVITS(c.SoVITS, media)
		if err != nil {
			return nil, err
		}
		voices = append(voices, v)
	}
	if c.Command.Preset != "" || len(c.Command.Argv) > 0 {
		v, err := newCommandVoice(c.Command, media)
		if err != nil {
			return nil, err
		}
		voices = append(voices, v)
	}
	if c.OpenAI.URL != "" {
		v, err := newOpenAIVoice(c.OpenAI, media)
		if err != nil {
			return nil, err
		}
		voices = append(voices, v)
	}
	engines := make([]engine, len(voices))
	for i, v := range voices {
		engines[i] = &speech{voice: v, aligner: aligner, media: media}
	}
	return engines, nil
}
