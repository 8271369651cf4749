// Facts of a job. A fact is past tense and says what happened in the domain.

package events

// JobSubmitted opens every job's stream.
type JobSubmitted struct {
	jobFactV3
	Request Request `json:"request"`
	Parent  *Parent `json:"parent,omitempty"`
}

// EventType implements Payload.
func (JobSubmitted) EventType() string { return "job.submitted" }

// JobPlanned carries the graph, and what the planner was told.
type JobPlanned struct {
	jobFactV2
	Graph      Graph            `json:"graph"`
	DeadlineMS int64            `json:"deadline_ms"`       // Unix milliseconds; the job ends failed when it passes
	Tasks      []string         `json:"tasks,omitempty"`   // tasks that some worker announced, sorted
	Profile    *ProfileSnapshot `json:"profile,omitempty"` // in generate-only mode, as of the decision
}

// EventType implements Payload.
func (JobPlanned) EventType() string { return "job.planned" }

// ProfileSnapshot is the part of a profile that a job depends on.
type ProfileSnapshot struct {
	ID         string    `json:"id"`
	Version    int64     `json:"version"`
	Portrait   *Artifact `json:"portrait,omitempty"`
	Voice      *Artifact `json:"voice,omitempty"`
	Transcript *Sealed   `json:"transcript,omitempty"`
	Lora       *Artifact `json:"lora,omitempty"`
	Consented  bool      `json:"consented"`
	// VoiceWeights were trained on the voice.
	VoiceWeights []Artifact `json:"voice_weights,omitempty"`
}

// JobRejected ends a job that cannot be planned or is not allowed.
type JobRejected struct {
	jobFactV1
	Reasons []Reason `json:"reasons"`
}

// EventType implements Payload.
func (JobRejected) EventType() string { return "job.rejected" }

// Reason is one cause of a refusal: a code for machines, the field it concerns, a sentence for people.
type Reason struct {
	Code   string `json:"code"`
	Field  string `json:"field,omitempty"` // JSON pointer into the request
	Detail string `json:"detail"`          // never holds user text
}

// JobSucceeded ends a job whose every stage ended well.
type JobSucceeded struct {
	jobFactV2
	Outputs map[string]Value `json:"outputs"` // the graph's results by name
}

// EventType implements Payload.
func (JobSucceeded) EventType() string { return "job.succeeded" }

// JobFailed ends a job. The columns name the stage and the class.
type JobFailed struct {
	jobFactV1
	Message string  `json:"message"`
	Hint    string  `json:"hint,omitempty"`
	LogTail *Sealed `json:"log_tail,omitempty"`
}

// EventType implements Payload.
func (JobFailed) EventType() string { return "job.failed" }

// JobCancelRequested says that the job will end cancelled, whatever its workers still report.
type JobCancelRequested struct{ jobFactV1 }

// EventType implements Payload.
func (JobCancelRequested) EventType() string { return "job.cancel_requested" }

// JobCancelled ends a job: no attempt of it runs any more.
type JobCancelled struct{ jobFactV1 }

// EventType implements Payload.
func (JobCancelled) EventType() string { return "job.cancelled" }

// JobCarriedForward repeats the whole state of a job that waits, so that a fold may
// start here. It changes nothing.
type JobCarriedForward struct {
	jobFactV3
	State JobState `json:"state"`
}

// EventType implements Payload.
func (JobCarriedForward) EventType() string { return "job.carried_forward" }

// JobLabelled says that the job has these labels now and no others. It is the one fact that may
// follow a job's last.
type JobLabelled struct {
	jobFactV1
	Labels []string `json:"labels,omitempty"` // sorted
}

// EventType implements Payload.
func (JobLabelled) EventType() string { return "job.labelled" }

// StageScheduled puts an attempt on its lane.
type StageScheduled struct {
	jobFactV2
	Partition int32 `json:"partition"` // of the lane's command topic
	// InputHash names the stage's result: it covers tenant, task, engine, model,
	// parameters and the digests of all inputs.
	InputHash string `json:"input_hash,omitempty"`
	Engine    string `json:"engine,omitempty"` // what the hash took for the engine: version and model of each that is announced
	TimeoutMS int64  `json:"timeout_ms"`       // of the run itself; waiting in the lane does not count
	Batch     bool   `json:"batch,omitempty"`  // on the lane's batch topic
	Reduce    int    `json:"reduce,omitempty"` // how many attempts ran out of memory: ask for less each time
}

// EventType implements Payload.
func (StageScheduled) EventType() string { return "stage.scheduled" }

// StageStarted says that a worker accepted the attempt.
type StageStarted struct {
	jobFactV2
	GPU        string `json:"gpu,omitempty"`
	DeadlineMS int64  `json:"deadline_ms"`        // Unix milliseconds; the attempt times out when it passes
	LeaseMS    int64  `json:"lease_ms,omitempty"` // a worker silent for longer has lost the attempt
}

// EventType implements Payload.
func (StageStarted) EventType() string { return "stage.started" }

// Fidelity says honestly what made a result.
const (
	FidelityFull     = "full"     // the configured model
	FidelityPreview  = "preview"  // a built-in engine in its place
	FidelityPrepared = "prepared" // a training set made, no training
	// FidelitySimulated is the mark of engines that make nothing at all.
	FidelitySimulated = "simulated"
)

// StageSucceeded carries what the stage made.
type StageSucceeded struct {
	jobFactV2
	Result
}

// EventType implements Payload.
func (StageSucceeded) EventType() string { return "stage.succeeded" }

// Result is what an attempt made, and with what.
type Result struct {
	Outputs  map[string]Value `json:"outputs,omitempty"` // by output name of the node
	Fidelity string           `json:"fidelity,omitempty"`
	Engine   string           `json:"engine,omitempty"`  // e.g. flite, ffmpeg, talking-photo, comfyui
	Version  string           `json:"version,omitempty"` // of the engine
	Notes    []string         `json:"notes,omitempty"`   // sentences about the result, without user text
	// Verdict is set by stages that judge: the safety filter and the final check.
	Verdict *Verdict `json:"verdict,omitempty"`
}

// Verdict is the outcome of a check.
type Verdict struct {
	Allowed bool     `json:"allowed"`
	Reasons []Reason `json:"reasons,omitempty"`
}

// StageFailed says that an attempt failed; with RetryAtMS another follows.
type StageFailed struct {
	jobFactV1
	Message   string  `json:"message"`
	Hint      string  `json:"hint,omitempty"`
	LogTail   *Sealed `json:"log_tail,omitempty"`
	RetryAtMS int64   `json:"retry_at_ms,omitempty"` // Unix milliseconds; 0: final
}

// EventType implements Payload.
func (StageFailed) EventType() string { return "stage.failed" }

// StageSkipped says that the plan leaves the stage out.
type StageSkipped struct {
	jobFactV1
	Reason string `json:"reason"`
}

// EventType implements Payload.
func (StageSkipped) EventType() string { return "stage.skipped" }

// StageReused says that a result which exists already stands in for the stage's work.
type StageReused struct {
	jobFactV1
	Result
	From ReusedFrom `json:"from"`
}

// EventType implements Payload.
func (StageReused) EventType() string { return "stage.reused" }

// ReusedFrom is where a result was made.
type ReusedFrom struct {
	JobID     string `json:"job_id"`
	Stage     string `json:"stage"`
	InputHash string `json:"input_hash"`
}

// StageAttemptExpired says that the worker of an attempt was silent for longer than
// its lease. With RetryAtMS another attempt follows.
type StageAttemptExpired struct {
	jobFactV1
	Message   string `json:"message"`
	RetryAtMS int64  `json:"retry_at_ms,omitempty"` // Unix milliseconds; 0: final
}

// EventType implements Payload.
func (StageAttemptExpired) EventType() string { return "stage.attempt_expired" }

// StageCancelled says that an attempt ended because its job was cancelled.
type StageCancelled struct{ jobFactV1 }

// EventType implements Payload.
func (StageCancelled) EventType() string { return "stage.cancelled" }

// ApprovalRequested says that the job waits for somebody to approve its script.
type ApprovalRequested struct {
	jobFactV1
	Script    *Sealed `json:"script,omitempty"`
	ExpiresMS int64   `json:"expires_ms"` // Unix milliseconds
}

// EventType implements Payload.
func (ApprovalRequested) EventType() string { return "approval.requested" }

// ApprovalGranted lets the job go on. The actor is who approved.
type ApprovalGranted struct {
	jobFactV1
	Edit *Value `json:"edit,omitempty"` // the edited narration; nil: as it was
}

// EventType implements Payload.
func (ApprovalGranted) EventType() string { return "approval.granted" }

// ApprovalDenied precedes the job's rejection.
type ApprovalDenied struct {
	jobFactV1
	Reason *Sealed `json:"reason,omitempty"`
}

// EventType implements Payload.
func (ApprovalDenied) EventType() string { return "approval.denied" }

// ApprovalExpired precedes the job's failure: nobody approved in time.
type ApprovalExpired struct{ jobFactV1 }

// EventType implements Payload.
func (ApprovalExpired) EventType() string { return "approval.expired" }

// ArtifactRegistered makes a file known, with what made it.
type ArtifactRegistered struct {
	jobFactV1
	Artifact Artifact `json:"artifact"`
	Output   string   `json:"output"` // the node's output it belongs to
	Fidelity string   `json:"fidelity,omitempty"`
	Engine   string   `json:"engine,omitempty"`
}

// EventType implements Payload.
func (ArtifactRegistered) EventType() string { return "artifact.registered" }
