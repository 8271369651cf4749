// The words of the WebSocket: the specification's, in camelCase, with the Job object's
// own beside them.

package api

import (
	"cmp"
	"slices"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	actionSubscribe   = "subscribe"
	actionUnsubscribe = "unsubscribe"
)

// socketRequest is a client's message.
type socketRequest struct {
	Action string   `json:"action"`
	JobID  string   `json:"jobId"`
	JobIDs []string `json:"jobIds"`
}

func (m *socketRequest) valid() bool {
	return (m.Action == actionSubscribe || m.Action == actionUnsubscribe) && (m.JobID != "" || len(m.JobIDs) > 0)
}

// ids are the jobs, each once.
func (m *socketRequest) ids() (ids []string) {
	for _, id := range append([]string{m.JobID}, m.JobIDs...) {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// socketUpdate is how a job stands.
type socketUpdate struct {
	Type       string         `json:"type"` // update
	JobID      string         `json:"jobId"`
	Version    int64          `json:"version"` // grows only; 0: the job's events are still to come
	Status     string         `json:"status"`  // one of the specification's words
	State      string         `json:"state"`   // the Job object's status
	Cancelling bool           `json:"cancelling"`
	Progress   float64        `json:"progress"` // 0 to 1
	Stages     []socketStage  `json:"stages"`
	Error      *socketFailure `json:"error"`
	Ended      bool           `json:"ended"` // this is the job's last update
}

type socketStage struct {
	ID       string         `json:"id"`
	Task     string         `json:"task"`
	Status   string         `json:"status"` // as the job's
	State    string         `json:"state"`
	Attempt  *int           `json:"attempt"`
	Progress float64        `json:"progress"` // 0 to 1
	Message  *string        `json:"message"`
	Error    *socketFailure `json:"error"`
}

type socketFailure struct {
	Stage   *string `json:"stage"`
	Class   *string `json:"class"`
	Message string  `json:"message"`
	Hint    *string `json:"hint"`
}

// socketFault says that a job cannot be followed, or that a message is none.
type socketFault struct {
	Type    string `json:"type"`            // error
	JobID   string `json:"jobId,omitempty"` // left out: a message could not be read
	Code    string `json:"code"`            // as of problem documents
	Message string `json:"message"`
}

func newFault(job string, r *refusal) *socketFault {
	f := &socketFault{Type: "error", JobID: job, Code: r.code, Message: r.detail}
	if f.Message == "" {
		f.Message = kinds[r.code].title + ": " + kinds[r.code].detail
	}
	return f
}

// socketLeft says that a job is not followed any more, because the client asked for it.
type socketLeft struct {
	Type  string `json:"type"` // unsubscribed
	JobID string `json:"jobId"`
}

// The specification's words for what a job and its stages can be.
const (
	wordAdvertised = "advertised"
	wordQueued     = "queued"
	wordRunning    = "running"
	wordCompleted  = "completed"
	wordFailed     = "failed"
)

// jobWords and stageWords are the specification's words for a status.
var (
	jobWords = map[string]string{
		projections.JobScheduled: wordAdvertised, projections.JobQueued: wordQueued, projections.JobRunning: wordRunning,
		projections.JobWaitingApproval: wordRunning, projections.JobSucceeded: wordCompleted,
		projections.JobFailed: wordFailed, projections.JobCancelled: wordFailed, projections.JobRejected: wordFailed,
	}
	stageWords = map[string]string{
		projections.StagePending: wordAdvertised, projections.StageQueued: wordQueued, projections.StageRunning: wordRunning,
		projections.StageWaitingApproval: wordRunning, projections.StageSucceeded: wordCompleted, projections.StageSkipped: wordCompleted,
		projections.StageReused: wordCompleted, projections.StageFailed: wordFailed, projections.StageCancelled: wordFailed,
	}
)

// socketUpdate is how the job stands. Sealed texts stay out, so that no update waits for keys.
func (s *Server) socketUpdate(tenant, id string, job *projections.Followed) socketUpdate {
	var v jobView
	row, stages := job.Rows()
	if row != nil {
		v = s.viewJob(&opener{answering: &answering{down: true}}, row, stages, s.feed.stages(id))
	} else if known, ok := s.accepted.find(tenant, id); ok {
		v, _ = s.asPlanned(id, known)
	}
	v.ID, v.Status = id, cmp.Or(v.Status, aggregates.JobQueued)
	u := socketUpdate{Type: "update", JobID: id, Version: v.Version, Status: jobWords[v.Status], State: v.Status, Cancelling: v.Cancelling, Progress: v.Progress,
		Stages: make([]socketStage, len(v.Stages)), Error: socketFailureOf(v.Error), Ended: endStates[v.Status]}
	if row == nil {
		u.Status, u.Version = wordAdvertised, 0 // accepted, and no event is known yet
	}
	for i, st := range v.Stages {
		u.Stages[i] = socketStage{ID: st.ID, Task: st.Task, Status: stageWords[st.Status], State: st.Status, Attempt: st.Attempt,
			Progress: st.Progress, Message: st.Message, Error: socketFailureOf(st.Error)}
	}
	return u
}

func socketFailureOf(f *failureView) *socketFailure {
	if f == nil {
		return nil
	}
	return &socketFailure{Stage: f.Stage, Class: f.Class, Message: f.Message, Hint: f.Hint}
}
