// Facts of a profile: a person's name, consent, voice, portrait and LoRA, and its end.

package events

// What a profile is. An erased one is erasing until no key and no object of it is left.
const (
	ProfileStatusActive   = "active"
	ProfileStatusArchived = "archived"
	ProfileStatusErasing  = "erasing"
	ProfileStatusErased   = "erased"
)

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

// ProfileRenamed gives the profile another name.
type ProfileRenamed struct {
	profileFactV1
	Name Sealed `json:"name"`
}

// EventType implements Payload.
func (ProfileRenamed) EventType() string { return "profile.renamed" }

// ProfileConsentWithdrawn says that no consent is in force any more.
type ProfileConsentWithdrawn struct{ profileFactV1 }

// EventType implements Payload.
func (ProfileConsentWithdrawn) EventType() string { return "profile.consent_withdrawn" }

// ProfileArchived puts the profile aside: no new job uses it.
type ProfileArchived struct{ profileFactV1 }

// EventType implements Payload.
func (ProfileArchived) EventType() string { return "profile.archived" }

// ProfileRestored takes an archived profile back into use.
type ProfileRestored struct{ profileFactV1 }

// EventType implements Payload.
func (ProfileRestored) EventType() string { return "profile.restored" }

// ProfileErased says that the profile's content goes, for good: nothing uses it from
// here on, and its keys and objects are being deleted.
type ProfileErased struct{ profileFactV1 }

// EventType implements Payload.
func (ProfileErased) EventType() string { return "profile.erased" }

// ProfileErasureCompleted says that no key and no object of the profile is left.
type ProfileErasureCompleted struct{ profileFactV1 }

// EventType implements Payload.
func (ProfileErasureCompleted) EventType() string { return "profile.erasure_completed" }
