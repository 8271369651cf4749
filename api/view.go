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

// The types of answers are generated from the contract. These are their names here,
// where the log, the tables and the contract all have a job, a stage, an artifact.
type (
	jobView        = Job
	profileRef     = ProfileRef
	approval       = Approval
	stageView      = Stage
	reusedFrom     = ReusedFrom
	failureView    = Failure
	requestView    = RequestView
	graphView      = Graph
	nodeView       = Node
	artifactView   = Artifact
	uploadView     = Upload
	profileView    = Profile
	profileAsked   = ProfileAsked
	consentView    = Consent
	attachmentView = Attachment
	pipelineView   = Pipeline
	pipelineNode   = PipelineNode
	taskView       = Task
	engineView     = Engine
	gapView        = Gap
	workerView     = Worker
	laneView       = Lane
	asked          = Asked
	readiness      = Readiness
	problem        = Problem
)

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
		v.ReusedFrom = &reusedFrom{JobID: from.JobID, Stage: from.Stage}
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
		Voice: len(r.Inputs["voice"].Artifacts), Music: r.Inputs["music"].Present(), Audio: r.Inputs["audio"].Present(), Consent: r.Consent != nil, Approval: r.Approval, EditedScript: o.text(valueOf(r.Edit).Text),
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
func viewPlan(tenant, id string, at time.Time, g events.Graph, r *events.Request) jobView {
	v := jobView{
		ID: id, Status: firstStatus(r), Pipeline: g.Workflow, Variant: g.Variant, Mode: g.Mode, Tenant: tenant, ParentJobID: opt(r.ParentJobID), Labels: orEmpty(r.Labels),
		Priority: cmp.Or(r.Priority, events.PriorityInteractive), CreatedAt: at, Stages: make([]stageView, len(g.Nodes)), Content: contentAvailable, Graph: viewGraph(&g),
		Draft: aggregates.IsDraft(&g),
	}
	if r.NotBeforeMS != 0 {
		v.NotBefore = optTime(time.UnixMilli(r.NotBeforeMS).UTC())
	}
	if r.ProfileID != "" {
		v.Profile = &profileRef{ID: r.ProfileID}
	}
	for i, n := range g.Nodes {
		v.Stages[i] = stageView{ID: n.ID, Task: n.Task, Plane: n.Plane, Lane: opt(n.Lane), Status: aggregates.StagePending, Notes: []string{}}
	}
	return v
}

// firstStatus is that of a job which has just been accepted.
func firstStatus(r *events.Request) string {
	if r.NotBeforeMS != 0 {
		return aggregates.JobScheduled
	}
	return aggregates.JobQueued
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
