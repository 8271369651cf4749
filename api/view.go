// The Job object: one shape in every answer.

package api

import (
	"cmp"
	"math"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/projections"
)

// jobView is a job as clients see it. List rows leave out the fields that are
// pointers or slices marked "whole".
type jobView struct {
	ID            string       `json:"id"`
	Version       int64        `json:"version"` // grows only; drop an object with a smaller one
	Status        string       `json:"status"`
	Cancelling    bool         `json:"cancelling"` // asked to end, and something of it still runs
	Progress      float64      `json:"progress"`   // 0 to 1
	Pipeline      string       `json:"pipeline"`
	Variant       string       `json:"variant"`
	Mode          string       `json:"mode"`
	Priority      string       `json:"priority"`
	Profile       *profileRef  `json:"profile"`
	Tenant        string       `json:"tenant"`
	Labels        []string     `json:"labels"`
	ParentJobID   *string      `json:"parent_job_id"` // of a retry or re-run
	NotBefore     *time.Time   `json:"not_before"`
	CreatedAt     time.Time    `json:"created_at"`
	StartedAt     *time.Time   `json:"started_at"`
	FinishedAt    *time.Time   `json:"finished_at"`
	QueuePosition *int         `json:"queue_position"` // 1: next on its lane
	ETA           *int64       `json:"eta_seconds"`    // until it is done
	Approval      *approval    `json:"approval"`       // null: nobody was asked yet
	Stages        []stageView  `json:"stages"`
	Error         *failureView `json:"error"`
	Content       string       `json:"content"` // whether the texts could be opened

	Request      *requestView        `json:"request,omitempty"`       // whole
	Graph        *graphView          `json:"graph,omitempty"`         // whole
	Outputs      map[string][]string `json:"outputs,omitempty"`       // whole: artifact ids by the output's name
	Artifacts    []artifactView      `json:"artifacts,omitempty"`     // whole
	RecentEvents []*eventView        `json:"recent_events,omitempty"` // whole: the last ones, oldest first
}

type profileRef struct {
	ID    string  `json:"id"`
	Label *string `json:"label"`
}

// approval is a job's gate between its script and everything that costs.
type approval struct {
	State       string     `json:"state"`  // waiting, granted, denied, expired, or closed: the job ended before anybody decided
	Script      *string    `json:"script"` // that is to be approved, or was, with the edits of whoever did
	Edited      bool       `json:"edited"` // whether it was changed on approval
	RequestedAt time.Time  `json:"requested_at"`
	ExpiresAt   time.Time  `json:"expires_at"`
	DecidedAt   *time.Time `json:"decided_at"`
	By          *string    `json:"by"`     // who decided
	Reason      *string    `json:"reason"` // why it was denied
}

type stageView struct {
	ID          string       `json:"id"`
	Task        string       `json:"task"`
	Plane       string       `json:"plane"`
	Lane        *string      `json:"lane"`
	Status      string       `json:"status"`
	Attempt     *int         `json:"attempt"`
	Progress    float64      `json:"progress"` // 0 to 1
	Message     *string      `json:"message"`  // of the running attempt's last beat
	Fidelity    *string      `json:"fidelity"`
	Engine      *string      `json:"engine"`
	Model       *string      `json:"model"`
	Worker      *string      `json:"worker"`
	ScheduledAt *time.Time   `json:"scheduled_at"`
	StartedAt   *time.Time   `json:"started_at"`
	FinishedAt  *time.Time   `json:"finished_at"`
	DurationMS  *int64       `json:"duration_ms"`
	ReusedFrom  *reusedFrom  `json:"reused_from"` // where the result was made, of a stage that did not run
	Notes       []string     `json:"notes"`
	Error       *failureView `json:"error"`
}

type reusedFrom struct {
	JobID string `json:"job_id"`
	Stage string `json:"stage"`
}

type failureView struct {
	Stage   *string         `json:"stage"`
	Class   *string         `json:"class"`
	Message string          `json:"message"`
	Hint    *string         `json:"hint"`
	LogTail *string         `json:"log_tail"`
	Reasons []events.Reason `json:"reasons"`
}

// requestView is what was asked for, texts in clear.
type requestView struct {
	Prompt          *string        `json:"prompt"`
	Script          *string        `json:"script"`
	EditedScript    *string        `json:"edited_script"` // of a re-run: it takes the place of what the script stage made
	VoiceTranscript *string        `json:"voice_transcript"`
	Options         map[string]any `json:"options"`
	Portrait        bool           `json:"portrait"` // whether one was given
	Images          int            `json:"images"`   // how many
	Voice           int            `json:"voice"`
	Consent         bool           `json:"consent"`
	Approval        bool           `json:"approval"` // whether somebody has to approve the script
	Engines         string         `json:"engines"`  // that may work for it: auto, real or preview
	Webhook         *hookView      `json:"webhook"`
}

// hookView is whom the job tells. Its secret is told to nobody any more.
type hookView struct {
	URL    *string  `json:"url"`
	Events []string `json:"events"`
}

func viewHook(o *opener, h *events.Webhook) *hookView {
	if h == nil {
		return nil
	}
	return &hookView{URL: o.text(&h.URL), Events: orEmpty(h.Events)}
}

type graphView struct {
	Nodes []nodeView    `json:"nodes"`
	Edges []events.Edge `json:"edges"`
}

type nodeView struct {
	ID     string         `json:"id"`
	Task   string         `json:"task"`
	Plane  string         `json:"plane"`
	Lane   *string        `json:"lane"`
	Params map[string]any `json:"params"`
	Weight float64        `json:"weight"`
	Skip   *string        `json:"skip"` // why the plan leaves the node out
}

type artifactView struct {
	ID         string    `json:"id"`
	JobID      string    `json:"job_id"`
	Stage      *string   `json:"stage"`
	Attempt    *int      `json:"attempt"`
	Output     *string   `json:"output"`
	Name       string    `json:"name"`
	Type       string    `json:"type"`
	MediaType  string    `json:"media_type"`
	URI        string    `json:"uri"`
	SHA256     string    `json:"sha256"`
	Size       int64     `json:"size"`
	Width      *int      `json:"width"`
	Height     *int      `json:"height"`
	DurationMS *int64    `json:"duration_ms"`
	Engine     *string   `json:"engine"`
	Fidelity   *string   `json:"fidelity"`
	CreatedAt  time.Time `json:"created_at"`
	ContentURL string    `json:"content_url"`
}

// viewJob is a row with its stages, and what runs now according to their last beats, if there are any.
func (w *views) viewJob(o *opener, j *projections.Job, stages []*projections.Stage, beats map[string]progressView) jobView {
	v := jobView{
		ID: j.ID, Version: j.Version, Status: j.Status, Cancelling: j.Cancelling, Progress: j.Progress, Pipeline: j.Pipeline, Variant: j.Variant, Mode: j.Mode,
		Priority: j.Priority, Tenant: j.Tenant, ParentJobID: opt(j.ParentJobID), Labels: orEmpty(j.Labels), NotBefore: optTime(j.NotBefore),
		CreatedAt: j.CreatedAt, StartedAt: optTime(j.StartedAt), FinishedAt: optTime(j.FinishedAt),
		Approval: viewApproval(o, j), Stages: make([]stageView, 0, len(stages)), Error: viewFailure(o, j.Error),
	}
	if j.ProfileID != "" {
		v.Profile = &profileRef{ID: j.ProfileID, Label: o.text(w.known.profileName(j.Tenant, j.ProfileID))}
	}
	for _, st := range stages {
		sv := viewStage(o, st, beats[st.ID])
		if st.Status == projections.StageRunning {
			v.Progress += st.Weight * sv.Progress
		}
		v.Stages = append(v.Stages, sv)
	}
	v.Progress = math.Min(1, math.Round(v.Progress*1e4)/1e4)
	v.Content = o.content
	return v
}

func viewApproval(o *opener, j *projections.Job) *approval {
	a := j.Approval
	if a == nil {
		return nil
	}
	v := &approval{State: a.Outcome, Edited: a.Edit != nil, RequestedAt: a.RequestedAt, ExpiresAt: a.ExpiresAt,
		DecidedAt: optTime(a.DecidedAt), By: opt(a.Actor), Reason: o.text(a.Reason)}
	switch {
	case a.Outcome == "" && (j.Ended() || j.Cancelling):
		v.State = approvalClosed
	case a.Outcome == "":
		v.State = approvalWaiting
	}
	if words := valueOf(a.Edit).Text; words != nil {
		v.Script = o.text(words)
	} else {
		v.Script = o.text(a.Script)
	}
	return v
}

// States of an approval that nobody has decided.
const (
	approvalWaiting = "waiting"
	approvalClosed  = "closed"
)

func viewStage(o *opener, st *projections.Stage, beat progressView) stageView {
	v := stageView{
		ID: st.ID, Task: st.Task, Plane: st.Plane, Lane: opt(st.Lane), Status: st.Status, Attempt: opt(int(st.Attempt)),
		Fidelity: opt(st.Fidelity), Engine: opt(st.Engine), Model: opt(st.Model), Worker: opt(st.Worker),
		ScheduledAt: optTime(st.ScheduledAt), StartedAt: optTime(st.StartedAt), FinishedAt: optTime(st.FinishedAt),
		DurationMS: opt(st.DurationMS), Notes: orEmpty(st.Notes), Error: viewFailure(o, st.Error),
	}
	if from := st.ReusedFrom; from != nil {
		v.ReusedFrom = &reusedFrom{from.JobID, from.Stage}
	}
	switch st.Status {
	case projections.StageSucceeded, projections.StageSkipped, projections.StageReused:
		v.Progress = 1
	case projections.StageRunning:
		if beat.Attempt == int(st.Attempt) {
			v.Progress, v.Message = math.Max(0, math.Min(1, beat.Percent/100)), opt(beat.Message)
		}
	}
	return v
}

func viewFailure(o *opener, f *projections.Failure) *failureView {
	if f == nil {
		return nil
	}
	return &failureView{Stage: opt(f.Stage), Class: opt(f.Class), Message: f.Message, Hint: opt(f.Hint),
		LogTail: o.text(f.LogTail), Reasons: orEmpty(f.Reasons)}
}

func viewRequest(o *opener, r *events.Request) *requestView {
	if r == nil {
		return nil
	}
	v := &requestView{
		Prompt: o.text(r.Inputs["prompt"].Text), Script: o.text(r.Inputs["script"].Text), VoiceTranscript: o.text(r.Inputs["voice_transcript"].Text),
		Options: r.Options, Portrait: r.Inputs["portrait"].Present(), Images: len(r.Inputs["images"].Artifacts),
		Voice: len(r.Inputs["voice"].Artifacts), Consent: r.Consent != nil, Approval: r.Approval, EditedScript: o.text(valueOf(r.Edit).Text),
		Engines: cmp.Or(r.Engines, events.EnginesAuto),
		Webhook: viewHook(o, r.Webhook),
	}
	if v.Options == nil {
		v.Options = map[string]any{}
	}
	return v
}

func viewGraph(g *events.Graph) *graphView {
	if g == nil {
		return nil
	}
	v := &graphView{Nodes: make([]nodeView, len(g.Nodes)), Edges: orEmpty(g.Edges)}
	for i, n := range g.Nodes {
		v.Nodes[i] = nodeView{ID: n.ID, Task: n.Task, Plane: n.Plane, Lane: opt(n.Lane), Params: n.Params, Weight: n.Weight, Skip: opt(n.Skip)}
		if n.Params == nil {
			v.Nodes[i].Params = map[string]any{}
		}
	}
	return v
}

// viewPlan is a job whose command was written a moment ago and is in no table yet.
// Texts are left out.
func viewPlan(id string, at time.Time, g events.Graph, r *events.Request) jobView {
	v := jobView{
		ID: id, Status: aggregates.JobQueued, Pipeline: g.Workflow, Variant: g.Variant, Mode: g.Mode, Tenant: tenant, ParentJobID: opt(r.ParentJobID), Labels: orEmpty(r.Labels),
		Priority: cmp.Or(r.Priority, events.PriorityInteractive), CreatedAt: at, Stages: make([]stageView, len(g.Nodes)), Content: contentAvailable, Graph: viewGraph(&g),
	}
	if r.NotBeforeMS != 0 {
		v.Status, v.NotBefore = aggregates.JobScheduled, optTime(time.UnixMilli(r.NotBeforeMS).UTC())
	}
	if r.ProfileID != "" {
		v.Profile = &profileRef{ID: r.ProfileID}
	}
	for i, n := range g.Nodes {
		v.Stages[i] = stageView{ID: n.ID, Task: n.Task, Plane: n.Plane, Lane: opt(n.Lane), Status: aggregates.StagePending, Notes: []string{}}
	}
	return v
}

func viewOutputs(outputs map[string]events.Value) map[string][]string {
	v := map[string][]string{}
	for name, value := range outputs {
		for _, a := range value.Artifacts {
			v[name] = append(v[name], a.ID)
		}
	}
	return v
}

func viewArtifact(a *projections.Artifact) artifactView {
	return artifactView{
		ID: a.ID, JobID: a.JobID, Stage: opt(a.Stage), Attempt: opt(int(a.Attempt)), Output: opt(a.Output), Name: a.Name, Type: a.Type,
		MediaType: a.MediaType, URI: a.URI, SHA256: a.SHA256, Size: a.Size, Width: opt(int(a.Width)), Height: opt(int(a.Height)),
		DurationMS: opt(a.DurationMS), Engine: opt(a.Engine), Fidelity: opt(a.Fidelity), CreatedAt: a.CreatedAt,
		ContentURL: "/api/artifacts/" + a.ID + "/content",
	}
}

func viewEvent(e *projections.JobEvent) *eventView {
	at := position{e.Partition, e.Offset}
	return &eventView{
		Position: at.String(), EventID: e.EventID, Type: e.Type, SchemaVersion: int(e.SchemaVersion), JobID: e.JobID, Version: e.Version,
		OccurredAt: e.OccurredAt.Add(time.Duration(e.OccurredNS)), CommandID: e.CommandID, CausationID: e.CausationID,
		CorrelationID: e.CorrelationID, Actor: e.Actor, Stage: opt(e.Stage), Task: opt(e.Task), Attempt: opt(int(e.Attempt)),
		State: opt(e.State), Variant: opt(e.Variant), Lane: opt(e.Lane), Worker: opt(e.Worker), Model: opt(e.Model),
		DurationMS: opt(e.DurationMS), ErrorClass: opt(e.ErrorClass), ArtifactURI: opt(e.ArtifactURI),
		ArtifactSHA256: opt(e.ArtifactSHA256), Data: e.Data, tenant: e.Tenant, at: at,
	}
}

// opt is null for what is not there.
func opt[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

func optTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func orEmpty[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
