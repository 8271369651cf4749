// Column approval of table jobs: what somebody is asked to approve, and what became of it.

package projections

import (
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Outcomes of an approval.
const (
	ApprovalGranted = "granted"
	ApprovalDenied  = "denied"
	ApprovalExpired = "expired"
)

// Approval is a job's gate: what is to be approved, until when, and the decision.
type Approval struct {
	Stage       string         `json:"stage,omitempty"` // the gate's node
	RequestedAt time.Time      `json:"requested_at"`
	ExpiresAt   time.Time      `json:"expires_at"`
	Script      *events.Sealed `json:"script,omitempty"`
	// Outcome is one of the Approval constants. Empty: nobody has decided, and
	// nobody will once the job has ended.
	Outcome   string         `json:"outcome,omitempty"`
	DecidedAt time.Time      `json:"decided_at,omitzero"`
	Actor     string         `json:"actor,omitempty"`  // who decided
	Edit      *events.Value  `json:"edit,omitempty"`   // the narration that was granted, if it is not Script
	Reason    *events.Sealed `json:"reason,omitempty"` // why it was denied
}

// after is the approval after one of its facts.
func (a *Approval) after(m *events.Message) *Approval {
	var next Approval
	if a != nil {
		next = *a
	}
	at := micro(m.OccurredAt)
	switch d := m.Data.(type) {
	case events.ApprovalRequested:
		next = Approval{Stage: m.Stage, RequestedAt: at, ExpiresAt: time.UnixMilli(d.ExpiresMS).UTC(), Script: d.Script}
	case events.ApprovalGranted:
		next.Outcome, next.DecidedAt, next.Actor, next.Edit = ApprovalGranted, at, m.Actor, d.Edit
	case events.ApprovalDenied:
		next.Outcome, next.DecidedAt, next.Actor, next.Reason = ApprovalDenied, at, m.Actor, d.Reason
	case events.ApprovalExpired:
		next.Outcome, next.DecidedAt, next.Actor = ApprovalExpired, at, m.Actor
	default: // facts of the rest of the job
	}
	return &next
}
