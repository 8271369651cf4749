// Commands to jobs and profiles. A command is imperative; it may be refused.

package events

// Request is a job as it was accepted. Free text is sealed.
type Request struct {
	Workflow    string           `json:"workflow_id"`
	Mode        string           `json:"mode"`
	Variant     string           `json:"variant"`
	Options     map[string]any   `json:"options,omitempty"` // numbers, booleans and enumerated strings only
	Inputs      map[string]Value `json:"inputs,omitempty"`  // prompt, script, portrait, images, voice, voice_transcript
	ProfileID   string           `json:"profile_id,omitempty"`
	ProfileName *Sealed          `json:"profile_name,omitempty"`
	Consent     *Consent         `json:"consent,omitempty"`
	// KeyDigest and BodyDigest are HMACs of the idempotency key and of the request
	// in clear, under the tenant's digest key.
	KeyDigest  string `json:"key_digest,omitempty"`
	BodyDigest string `json:"body_digest,omitempty"`
}

// Consent is who agreed to the use of a face or voice, and the words they agreed to.
type Consent struct {
	By        Sealed `json:"by"`
	Statement Sealed `json:"statement"`
}

// JobSubmit asks for a job. The aggregate id is the job's.
type JobSubmit struct {
	jobInputV1
	Request Request `json:"request"`
}

// EventType implements Payload.
func (JobSubmit) EventType() string { return "job.submit" }

// ClockStageTimeout says that the attempt in the columns ran past its deadline.
type ClockStageTimeout struct {
	jobInputV1
	DeadlineMS int64 `json:"deadline_ms"` // Unix milliseconds; void unless still current
}

// EventType implements Payload.
func (ClockStageTimeout) EventType() string { return "clock.stage_timeout" }

// ClockRetryDue says that the back-off before the next attempt of the stage in the columns is over.
type ClockRetryDue struct {
	jobInputV1
	DeadlineMS int64 `json:"deadline_ms"`
}

// EventType implements Payload.
func (ClockRetryDue) EventType() string { return "clock.retry_due" }

// ClockDeadline says that the whole job's time is over.
type ClockDeadline struct {
	jobInputV1
	DeadlineMS int64 `json:"deadline_ms"`
}

// EventType implements Payload.
func (ClockDeadline) EventType() string { return "clock.deadline" }

// ProfileCreate asks for a profile.
type ProfileCreate struct {
	profileCommandV1
	Name Sealed `json:"name"`
}

// EventType implements Payload.
func (ProfileCreate) EventType() string { return "profile.create" }

// ProfileRecordConsent asks to record a consent.
type ProfileRecordConsent struct {
	profileCommandV1
	Consent Consent `json:"consent"`
}

// EventType implements Payload.
func (ProfileRecordConsent) EventType() string { return "profile.record_consent" }

// ProfileAttachVoice links a voice reference to a profile.
type ProfileAttachVoice struct {
	profileCommandV1
	Attachment
	Transcript *Sealed `json:"transcript,omitempty"`
}

// EventType implements Payload.
func (ProfileAttachVoice) EventType() string { return "profile.attach_voice" }

// ProfileAttachLora links LoRA weights, or a prepared training set, to a profile.
type ProfileAttachLora struct {
	profileCommandV1
	Attachment
}

// EventType implements Payload.
func (ProfileAttachLora) EventType() string { return "profile.attach_lora" }

// ProfileAttachPortrait links the portrait to a profile.
type ProfileAttachPortrait struct {
	profileCommandV1
	Attachment
}

// EventType implements Payload.
func (ProfileAttachPortrait) EventType() string { return "profile.attach_portrait" }

// Attachment is an artifact on its way to a profile, and what made it.
type Attachment struct {
	Artifact Artifact `json:"artifact"`
	Fidelity string   `json:"fidelity,omitempty"`
	Engine   string   `json:"engine,omitempty"`
	FromJob  string   `json:"from_job,omitempty"`
}
