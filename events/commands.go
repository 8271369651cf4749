// Commands to jobs and profiles. A command is imperative; it may be refused.

package events

// Request is a job as it was accepted. Free text is sealed.
type Request struct {
	Workflow    string           `json:"workflow_id"`
	Mode        string           `json:"mode"`
	Variant     string           `json:"variant"`
	Options     map[string]any   `json:"options,omitempty"` // numbers, booleans and enumerated strings only
	Inputs      map[string]Value `json:"inputs,omitempty"`  // prompt, script, portrait, images, voice, voice_transcript, music
	ProfileID   string           `json:"profile_id,omitempty"`
	ProfileName *Sealed          `json:"profile_name,omitempty"`
	Consent     *Consent         `json:"consent,omitempty"`
	// KeyDigest and BodyDigest are HMACs of the idempotency key and of the request
	// in clear, under the tenant's digest key.
	KeyDigest  string `json:"key_digest,omitempty"`
	BodyDigest string `json:"body_digest,omitempty"`
	// Approval asks for a gate after the script: nothing goes on before somebody approves.
	Approval bool `json:"approval,omitempty"`
	// NotBeforeMS is when the first stage may start, in Unix milliseconds; 0: at once.
	NotBeforeMS int64  `json:"not_before_ms,omitempty"`
	Priority    string `json:"priority,omitempty"` // one of the Priority constants; empty: interactive
	// Edit is a narration that takes the place of the one that the script stage made.
	Edit        *Value `json:"edit,omitempty"`
	ParentJobID string `json:"parent_job_id,omitempty"` // of a retry or re-run
	// Engines says which engines may work for the job: one of the Engines constants;
	// empty: EnginesAuto.
	Engines string `json:"engines,omitempty"`
	// Definition is the pipeline as JSON where it is an installation's own. Whoever
	// plans the job plans it by these words, whatever files lie before him.
	Definition string `json:"definition,omitempty"`
	// Webhook is whom to tell of the job.
	Webhook *Webhook `json:"webhook,omitempty"`
	// Labels are words by which jobs are found again, sorted. They stand in clear.
	Labels []string `json:"labels,omitempty"`
}

// Priorities of a job: interactive work goes before batch work on every lane.
const (
	PriorityInteractive = "interactive"
	PriorityBatch       = "batch"
)

// Parent is what a retry or re-run goes on from: results of another job that may
// stand in for work, by the input hash of the stage that made them.
type Parent struct {
	JobID string `json:"job_id"`
	// From is the stage that is asked for anew, with all that come after it: for them no
	// earlier result stands in, whoever made it. Empty: whatever still holds is reused.
	From    string                  `json:"from,omitempty"`
	Results map[string]ParentResult `json:"results,omitempty"`
}

// ParentResult is what a stage of the parent made.
type ParentResult struct {
	Stage string `json:"stage"`
	Model string `json:"model,omitempty"`
	Result
}

// Consent is who agreed to the use of a face or voice, and the words they agreed to.
type Consent struct {
	By        Sealed `json:"by"`
	Statement Sealed `json:"statement"`
}

// JobSubmit asks for a job. The aggregate id is the job's.
type JobSubmit struct {
	jobInputV3
	Request Request `json:"request"`
	Parent  *Parent `json:"parent,omitempty"`
}

// EventType implements Payload.
func (JobSubmit) EventType() string { return "job.submit" }

// JobCancel asks a job to end. What runs is stopped.
type JobCancel struct{ jobInputV1 }

// EventType implements Payload.
func (JobCancel) EventType() string { return "job.cancel" }

// JobApprove lets a job that waits for approval go on, with its script or an edited one.
type JobApprove struct {
	jobInputV1
	Edit *Value `json:"edit,omitempty"` // the edited narration; nil: as it is
}

// EventType implements Payload.
func (JobApprove) EventType() string { return "job.approve" }

// JobDeny ends a job that waits for approval.
type JobDeny struct {
	jobInputV1
	Reason *Sealed `json:"reason,omitempty"`
}

// EventType implements Payload.
func (JobDeny) EventType() string { return "job.deny" }

// JobLabel gives a job other labels in place of those that it has, also when it has ended.
type JobLabel struct {
	jobInputV1
	Labels []string `json:"labels,omitempty"` // sorted, each once; none: it has no label any more
}

// EventType implements Payload.
func (JobLabel) EventType() string { return "job.label" }

// ClockLeaseExpired says that the attempt in the columns was silent for longer than its lease.
type ClockLeaseExpired struct {
	jobInputV1
	LeaseMS int64 `json:"lease_ms"`
}

// EventType implements Payload.
func (ClockLeaseExpired) EventType() string { return "clock.lease_expired" }

// ClockApprovalExpired says that nobody approved in time.
type ClockApprovalExpired struct {
	jobInputV1
	DeadlineMS int64 `json:"deadline_ms"`
}

// EventType implements Payload.
func (ClockApprovalExpired) EventType() string { return "clock.approval_expired" }

// ClockScheduleDue says that the job's not-before has come.
type ClockScheduleDue struct {
	jobInputV1
	DeadlineMS int64 `json:"deadline_ms"`
}

// EventType implements Payload.
func (ClockScheduleDue) EventType() string { return "clock.schedule_due" }

// ClockCarryDue says that the job has waited so long that recovery would have to read
// far back for it. Version is the job's at that time; void unless still current.
type ClockCarryDue struct {
	jobInputV1
	Version int64 `json:"version"`
}

// EventType implements Payload.
func (ClockCarryDue) EventType() string { return "clock.carry_due" }

// ClockArchiveDue says that the job ended so long ago that its entry leaves the index.
type ClockArchiveDue struct{ jobInputV1 }

// EventType implements Payload.
func (ClockArchiveDue) EventType() string { return "clock.archive_due" }

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

// ProfileCreate asks for a profile, with what belongs to it from the start.
type ProfileCreate struct {
	profileCommandV2
	Name       Sealed      `json:"name"`
	Consent    *Consent    `json:"consent,omitempty"`
	Portrait   *Attachment `json:"portrait,omitempty"`
	Voice      *Attachment `json:"voice,omitempty"`
	Transcript *Sealed     `json:"transcript,omitempty"` // of the voice
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

// ProfileAttachVoice links a voice reference to a profile, and the weights that were
// trained on the same voice, which take the place of earlier ones: none where none were.
type ProfileAttachVoice struct {
	profileCommandV1
	Attachment
	Transcript *Sealed    `json:"transcript,omitempty"`
	Weights    []Artifact `json:"weights,omitempty"`
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

// ProfileRename asks for another name.
type ProfileRename struct {
	profileCommandV1
	Name Sealed `json:"name"`
}

// EventType implements Payload.
func (ProfileRename) EventType() string { return "profile.rename" }

// ProfileWithdrawConsent takes the consent back that is in force.
type ProfileWithdrawConsent struct{ profileCommandV1 }

// EventType implements Payload.
func (ProfileWithdrawConsent) EventType() string { return "profile.withdraw_consent" }

// ProfileArchive puts a profile aside.
type ProfileArchive struct{ profileCommandV1 }

// EventType implements Payload.
func (ProfileArchive) EventType() string { return "profile.archive" }

// ProfileRestore takes an archived profile back into use.
type ProfileRestore struct{ profileCommandV1 }

// EventType implements Payload.
func (ProfileRestore) EventType() string { return "profile.restore" }

// ProfileErase asks for the end of a profile's content. Nothing brings it back.
type ProfileErase struct{ profileCommandV1 }

// EventType implements Payload.
func (ProfileErase) EventType() string { return "profile.erase" }

// ProfileCompleteErasure says that an erased profile has no key and no object left.
type ProfileCompleteErasure struct{ profileCommandV1 }

// EventType implements Payload.
func (ProfileCompleteErasure) EventType() string { return "profile.complete_erasure" }

// Attachment is an artifact on its way to a profile, and what made it.
type Attachment struct {
	Artifact Artifact `json:"artifact"`
	Fidelity string   `json:"fidelity,omitempty"`
	Engine   string   `json:"engine,omitempty"`
	FromJob  string   `json:"from_job,omitempty"`
}
