// The gate between the script and everything that costs: somebody reads the script,
// edits it perhaps, and lets the job go on. It stands before the safety filter, so
// that an edit passes the filter too.

package aggregates

import (
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// narrationOutput is the name under which scripts leave a stage.
const narrationOutput = "narration"

func (d *decision) askForApproval(n events.Node) {
	script := d.job.Inputs(n)[narrationOutput].Text
	if e := d.job.Request.Edit; e != nil {
		script = e.Text
	}
	d.emit(events.ApprovalRequested{Script: script, ExpiresMS: d.s.At.Add(d.s.Policy.ApprovalExpiry).UnixMilli()},
		events.Columns{Stage: n.ID, Task: n.Task, State: StageWaitingApproval})
}

// gate finds the stage that waits for approval.
func (d *decision) gate() (string, *events.Reason) {
	i := slices.IndexFunc(d.job.Stages, func(s events.StageState) bool { return s.State == StageWaitingApproval })
	if i < 0 || d.job.Cancelling {
		return "", &events.Reason{Code: CodeNotWaiting, Detail: "the job does not wait for approval now; its status is " + d.job.State}
	}
	return d.job.Graph.Nodes[i].ID, nil
}

func (d *decision) approve(c events.JobApprove) *events.Reason {
	stage, refusal := d.gate()
	if refusal != nil {
		return refusal
	}
	edit := c.Edit
	if edit == nil {
		edit = d.job.Request.Edit
	}
	d.emit(events.ApprovalGranted{Edit: edit}, d.nodeColumns(stage, StageSucceeded))
	d.advance()
	return nil
}

func (d *decision) deny(c events.JobDeny) *events.Reason {
	stage, refusal := d.gate()
	if refusal != nil {
		return refusal
	}
	columns := d.nodeColumns(stage, StageFailed)
	columns.ErrorClass = events.ClassPolicy
	d.emit(events.ApprovalDenied{Reason: c.Reason}, columns)
	columns.State = JobRejected
	d.emit(events.JobRejected{Reasons: []events.Reason{{Code: "approval_denied", Detail: "the script was not approved"}}}, columns)
	return nil
}

func (d *decision) approvalExpired(c events.ClockApprovalExpired) {
	st := d.job.stage(d.cause.Stage)
	if st.State != StageWaitingApproval || st.DeadlineMS != c.DeadlineMS || d.job.Cancelling {
		return
	}
	columns := d.nodeColumns(d.cause.Stage, StageFailed)
	columns.ErrorClass = events.ClassTimeout
	d.emit(events.ApprovalExpired{}, columns)
	d.end(d.cause.Stage, failure{class: events.ClassTimeout, message: "nobody approved the script in time", hint: "retry the job, and approve or deny it"})
}
