// Facts of a job. A fact is past tense and says what happened in the domain.

package events

// JobSubmitted opens every job's stream.
type JobSubmitted struct {
	jobFactV1
	Request Request `json:"request"`
}

// EventType implements Payload.
func (JobSubmitted) EventType() string { return "job.submitted" }

// JobPlanned carries the graph, and what the planner was told.
type JobPlanned struct {
	jobFactV1
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
	jobFactV1
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

// StageScheduled puts an attempt on its lane.
type StageScheduled struct {
	jobFactV1
	Partition int32  `json:"partition"` // of the lane's command topic
	InputHash string `json:"input_hash,omitempty"`
	TimeoutMS int64  `json:"timeout_ms"` // of the run itself; waiting in the lane does not count
}

// EventType implements Payload.
func (StageScheduled) EventType() string { return "stage.scheduled" }

// StageStarted says that a worker accepted the attempt.
type StageStarted struct {
	jobFactV1
	GPU        string `json:"gpu,omitempty"`
	DeadlineMS int64  `json:"deadline_ms"` // Unix milliseconds; the attempt times out when it passes
}

// EventType implements Payload.
func (StageStarted) EventType() string { return "stage.started" }

// Fidelity says honestly what made a result.
const (
	FidelityFull     = "full"     // the configured model
	FidelityPreview  = "preview"  // a built-in engine in its place
	FidelityPrepared = "prepared" // a training set made, no training
)

// StageSucceeded carries what the stage made.
type StageSucceeded struct {
	jobFactV1
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
