// Facts of a profile: a person's name, consent, voice, portrait and LoRA.

package events

// ProfileCreated opens every profile's stream.
type ProfileCreated struct {
	profileFactV1
	Name Sealed `json:"name"`
}

// EventType implements Payload.
func (ProfileCreated) EventType() string { return "profile.created" }

// ProfileConsentRecorded says who agreed to what.
type ProfileConsentRecorded struct {
	profileFactV1
	Consent Consent `json:"consent"`
}

// EventType implements Payload.
func (ProfileConsentRecorded) EventType() string { return "profile.consent_recorded" }

// ProfileVoiceAttached links a voice reference, and what was trained on the same voice.
type ProfileVoiceAttached struct {
	profileFactV1
	Attachment
	Transcript *Sealed    `json:"transcript,omitempty"`
	Weights    []Artifact `json:"weights,omitempty"`
}

// EventType implements Payload.
func (ProfileVoiceAttached) EventType() string { return "profile.voice_attached" }

// ProfileLoraAttached links LoRA weights or a prepared training set (see Fidelity).
type ProfileLoraAttached struct {
	profileFactV1
	Attachment
}

// EventType implements Payload.
func (ProfileLoraAttached) EventType() string { return "profile.lora_attached" }

// ProfilePortraitAttached links the portrait.
type ProfilePortraitAttached struct {
	profileFactV1
	Attachment
}

// EventType implements Payload.
func (ProfilePortraitAttached) EventType() string { return "profile.portrait_attached" }
