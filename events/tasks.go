// What the job handler and the lanes say to each other, and what workers announce.

package events

// Error classes. The class decides between another attempt and failure.
const (
	ClassOOM               = "oom"
	ClassTimeout           = "timeout"
	ClassStalled           = "stalled"
	ClassEngineUnavailable = "engine_unavailable"
	ClassEngineRejected    = "engine_rejected"
	ClassInvalidInput      = "invalid_input"
	ClassArtifactMissing   = "artifact_missing"
	ClassPolicy            = "policy"
	ClassInternal          = "internal"
	// ClassMisplaced is the job handler's own: the attempt came to a worker that cannot do
	// it, and another can.
	ClassMisplaced = "misplaced"
)

// TaskRun asks a lane to run one attempt of one stage. The columns hold job,
// stage, task, attempt, lane and variant; the record's id is the attempt's.
type TaskRun struct {
	v3
	Params    map[string]any   `json:"params,omitempty"`
	Inputs    map[string]Value `json:"inputs,omitempty"` // by input name of the node
	Plane     string           `json:"plane"`
	Mode      string           `json:"mode"`
	Workflow  string           `json:"workflow_id"`
	ProfileID string           `json:"profile_id,omitempty"`
	Subject   string           `json:"subject"`              // object folder of the job: tenant/profile or "-"/job
	TimeoutMS int64            `json:"timeout_ms"`           // of the run itself, from its start; waiting in the lane does not count
	InputHash string           `json:"input_hash,omitempty"` // names the result
	Engine    string           `json:"engine,omitempty"`     // that the name supposes: engine/version/model
	Share     bool             `json:"share,omitempty"`      // a result of that name, whoever made it, may stand in for the work
	Reduce    int              `json:"reduce,omitempty"`     // attempts that ran out of memory before this one
	Engines   string           `json:"engines,omitempty"`    // that may do it, see Request.Engines
	Wants     string           `json:"wants,omitempty"`      // engine that the node wants, see Node.Engine
}

// EventType implements Payload.
func (TaskRun) EventType() string { return "task.run" }

// TaskAccepted says that a worker took the attempt.
type TaskAccepted struct {
	jobInputV1
	LeaseMS int64  `json:"lease_ms"` // a worker silent for longer has lost the attempt
	GPU     string `json:"gpu,omitempty"`
}

// EventType implements Payload.
func (TaskAccepted) EventType() string { return "task.accepted" }

// TaskSucceeded reports an attempt's result; its objects exist and are verified.
type TaskSucceeded struct {
	jobInputV2
	Result
	ReusedFrom *ReusedFrom `json:"reused_from,omitempty"` // the worker found the result instead of making it
}

// EventType implements Payload.
func (TaskSucceeded) EventType() string { return "task.succeeded" }

// TaskFailed reports why an attempt failed; the class is in the columns.
type TaskFailed struct {
	jobInputV2
	Message string  `json:"message"` // our own sentence, without user text
	Hint    string  `json:"hint,omitempty"`
	LogTail *Sealed `json:"log_tail,omitempty"`
	// Misplaced says that nothing ran, since this worker cannot do it: another may.
	Misplaced bool `json:"misplaced,omitempty"`
}

// EventType implements Payload.
func (TaskFailed) EventType() string { return "task.failed" }

// TaskCancelled reports that an attempt was stopped because it was asked to.
type TaskCancelled struct{ jobInputV1 }

// EventType implements Payload.
func (TaskCancelled) EventType() string { return "task.cancelled" }

// TaskStop asks whichever worker runs the attempt in the columns to stop it. The
// record's id is the attempt's.
type TaskStop struct {
	v1
	Reason string `json:"reason"` // fixed wording, without user text
}

// EventType implements Payload.
func (TaskStop) EventType() string { return "task.stop" }

// Outcomes of a command.
const (
	OutcomeAccepted  = "accepted"  // it led to events
	OutcomeRefused   = "refused"   // it led to none; code and detail say why
	OutcomeDuplicate = "duplicate" // what it asks for had happened already
)

// CommandReplied is the handler's answer to a command, kept for an hour and no fact.
// The envelope's command_id names the command.
type CommandReplied struct {
	v1
	Outcome string `json:"outcome"`
	Code    string `json:"code,omitempty"`
	Detail  string `json:"detail,omitempty"`
	Version int64  `json:"version"`          // of the job after the command; 0: there is no such job
	Status  string `json:"status,omitempty"` // of the job after the command
}

// EventType implements Payload.
func (CommandReplied) EventType() string { return "command.replied" }

// TaskProgress is a beat of a running attempt, kept for an hour and no fact.
type TaskProgress struct {
	v1
	Percent float64 `json:"percent"` // 0 to 100, never falling within an attempt
	Step    int     `json:"step,omitempty"`
	Steps   int     `json:"steps,omitempty"`
	Message string  `json:"message,omitempty"` // fixed wording, without user text
	EtaMS   int64   `json:"eta_ms,omitempty"`
}

// EventType implements Payload.
func (TaskProgress) EventType() string { return "task.progress" }

// WorkerManifest says what a worker process can run now. The aggregate id is the worker's.
type WorkerManifest struct {
	v3
	Tasks       []TaskCapability `json:"tasks"`
	Unavailable []TaskGap        `json:"unavailable,omitempty"`
	Slots       map[string]int   `json:"slots"`   // by lane
	Running     map[string]int   `json:"running"` // by lane
	GPU         string           `json:"gpu,omitempty"`
	VRAMBytes   int64            `json:"vram_bytes,omitempty"` // that all workers on the card may take; 0: not counted
	Needs       []TaskNeed       `json:"needs,omitempty"`      // of the tasks above, where the card's memory is counted
	Stopped     bool             `json:"stopped,omitempty"`    // said once, at a clean stop
	// Partitions of the lanes whose commands come to this worker, by lane.
	Partitions map[string][]int32 `json:"partitions,omitempty"`
}

// EventType implements Payload.
func (WorkerManifest) EventType() string { return "worker.manifest" }

// InputRecording is the input of tts.synthesize that holds what a person has said: the
// engine that takes it does that work, and no voice.
const InputRecording = "recording"

// TaskCapability is one engine for one task.
type TaskCapability struct {
	Task     string `json:"task"`
	Lane     string `json:"lane"`
	Engine   string `json:"engine"`
	Model    string `json:"model,omitempty"`
	Version  string `json:"version,omitempty"`
	Fidelity string `json:"fidelity"`
	Builtin  bool   `json:"builtin,omitempty"` // part of this program: no server, no model that somebody chose
	Takes    string `json:"takes,omitempty"`   // input without which it does not work, though its task does; empty: none
	Factor   int    `json:"factor,omitempty"`  // of upscaling, the only one that it does; 0: every one
	// Languages are those that it works in; empty: any, or its work has none.
	Languages Languages `json:"languages,omitempty"`
}

// Speaks says whether the engine works in the language; an empty one is none in particular.
func (c TaskCapability) Speaks(language string) bool {
	return c.Languages == "" || language == "" || c.Languages.Has(language)
}

// Enlarges says whether the engine does upscaling by that factor; 0 is one that nobody named.
func (c TaskCapability) Enlarges(factor int) bool {
	return c.Factor == 0 || factor == 0 || c.Factor == factor
}

// Serves says whether the engine may work where a job allows engines of that choice
// and the node wants the named one.
func (c TaskCapability) Serves(engines, wants string) bool {
	if wants != "" && c.Engine != wants && !c.Builtin {
		return false
	}
	switch engines {
	case EnginesReal:
		return IsReal(c.Fidelity)
	case EnginesPreview:
		return c.Builtin
	}
	return true
}

// TaskNeed is what one engine takes of the card for an attempt.
type TaskNeed struct {
	Task       string `json:"task"`
	Engine     string `json:"engine"`
	Resolution string `json:"resolution,omitempty"` // empty: whatever the resolution
	MiB        int    `json:"mib"`
	Measured   int    `json:"measured_mib,omitempty"` // the most that one was seen to take; 0: none was measured
}

// TaskGap is a task that the worker could run if something were mended.
type TaskGap struct {
	Task   string `json:"task"`
	Engine string `json:"engine"`
	Reason string `json:"reason"`
	Hint   string `json:"hint"`
	// Builtin is as in TaskCapability.
	Builtin bool `json:"builtin,omitempty"`
}

// Engines that a job allows.
const (
	EnginesReal    = "real"    // results of fidelity full alone; nothing stands in
	EnginesPreview = "preview" // this program's own alone
	EnginesAuto    = "auto"    // the configured one when it is healthy, otherwise the built-in one
)

// IsReal says whether a result of that fidelity is one that EnginesReal allows.
func IsReal(fidelity string) bool { return fidelity == FidelityFull }
