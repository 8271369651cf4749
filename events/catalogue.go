// The closed set of record kinds, and the table from wire name to Go type.

package events

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Payload is the data part of a record. The set is closed: every type below
// stands in the catalogue, and no other package can add one.
//
//sumtype:decl
type Payload interface {
	// EventType is the wire name, written out and never derived from a Go name.
	EventType() string
	// SchemaVersion is the version of the data part that this program writes.
	SchemaVersion() int
	payload()
}

// ErrUnknownType says that a record's type is not in the catalogue.
var ErrUnknownType = errors.New("unknown record type")

// ErrNewerVersion says that a record was written by a newer program.
var ErrNewerVersion = errors.New("record has a newer schema version than this program reads")

// The parts of the set that one reader folds or decides on. A switch over one of
// them names every case, or the linter names those that it forgot.
type (
	// JobFact is an event of a job's stream, on jobs.events.
	//
	//sumtype:decl
	JobFact interface {
		Payload
		jobFact()
	}
	// JobInput is what a job decides on: commands, deadlines, workers' answers.
	//
	//sumtype:decl
	JobInput interface {
		Payload
		jobInput()
	}
	// ProfileFact is an event of a profile's stream, on profiles.events.
	//
	//sumtype:decl
	ProfileFact interface {
		Payload
		profileFact()
	}
	// ProfileCommand is what a profile decides on.
	//
	//sumtype:decl
	ProfileCommand interface {
		Payload
		profileCommand()
	}
)

// v1 is embedded by every payload whose shape never changed.
type v1 struct{}

func (v1) SchemaVersion() int { return 1 }
func (v1) payload()           {}

// v2 is embedded by payloads that gained fields once. All of them are optional, and
// their zero values say what a record of version 1 meant: it is read as it stands.
type v2 struct{}

func (v2) SchemaVersion() int { return 2 }
func (v2) payload()           {}

// v3 is embedded by payloads that gained such fields twice.
type v3 struct{}

func (v3) SchemaVersion() int { return 3 }
func (v3) payload()           {}

// Embedded in place of v1, v2 and v3 by the payloads of each part.
type (
	jobFactV1        struct{ v1 }
	jobFactV2        struct{ v2 }
	jobFactV3        struct{ v3 }
	jobInputV1       struct{ v1 }
	jobInputV2       struct{ v2 }
	jobInputV3       struct{ v3 }
	profileFactV1    struct{ v1 }
	profileCommandV1 struct{ v1 }
	profileCommandV2 struct{ v2 }
)

func (jobFactV1) jobFact()               {}
func (jobFactV2) jobFact()               {}
func (jobFactV3) jobFact()               {}
func (jobInputV1) jobInput()             {}
func (jobInputV2) jobInput()             {}
func (jobInputV3) jobInput()             {}
func (profileFactV1) profileFact()       {}
func (profileCommandV1) profileCommand() {}
func (profileCommandV2) profileCommand() {}

// catalogue maps a wire name to an empty payload of its type.
var catalogue = table(
	JobSubmit{}, JobCancel{}, JobApprove{}, JobDeny{}, JobLabel{},
	ClockStageTimeout{}, ClockRetryDue{}, ClockDeadline{}, ClockLeaseExpired{}, ClockApprovalExpired{}, ClockScheduleDue{},
	ClockCarryDue{}, ClockArchiveDue{},
	ProfileCreate{}, ProfileRecordConsent{}, ProfileAttachVoice{}, ProfileAttachLora{}, ProfileAttachPortrait{},
	ProfileRename{}, ProfileWithdrawConsent{}, ProfileArchive{}, ProfileRestore{}, ProfileErase{}, ProfileCompleteErasure{},
	JobSubmitted{}, JobPlanned{}, JobRejected{}, JobSucceeded{}, JobFailed{}, JobCancelRequested{}, JobCancelled{}, JobCarriedForward{}, JobLabelled{},
	StageScheduled{}, StageStarted{}, StageSucceeded{}, StageFailed{}, StageSkipped{}, StageReused{}, StageAttemptExpired{}, StageCancelled{},
	ApprovalRequested{}, ApprovalGranted{}, ApprovalDenied{}, ApprovalExpired{}, ArtifactRegistered{},
	ProfileCreated{}, ProfileConsentRecorded{}, ProfileVoiceAttached{}, ProfileLoraAttached{}, ProfilePortraitAttached{},
	ProfileRenamed{}, ProfileConsentWithdrawn{}, ProfileArchived{}, ProfileRestored{}, ProfileErased{}, ProfileErasureCompleted{},
	TaskRun{}, TaskAccepted{}, TaskSucceeded{}, TaskFailed{}, TaskCancelled{}, TaskProgress{}, TaskStop{},
	CommandReplied{}, WorkerManifest{}, LanePaused{}, LaneResumed{}, APIKeyIssued{}, APIKeyRevoked{},
	WebhookRegistered{}, WebhookQueued{}, WebhookAttempted{}, WebhookClosed{}, WebhookRedeliver{},
)

func table(ps ...Payload) map[string]Payload {
	t := make(map[string]Payload, len(ps))
	for _, p := range ps {
		t[p.EventType()] = p
	}
	return t
}

// Types lists every wire name, sorted.
func Types() []string {
	names := make([]string, 0, len(catalogue))
	for n := range catalogue {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Zero is an empty payload of the named type, or ErrUnknownType.
func Zero(eventType string) (Payload, error) {
	p, ok := catalogue[eventType]
	if !ok {
		return nil, fmt.Errorf("%w %q", ErrUnknownType, eventType)
	}
	return p, nil
}

// newOf is a pointer to an empty payload, for the decoder to fill.
func newOf(p Payload) reflect.Value { return reflect.New(reflect.TypeOf(p)) }
