// A fact in, the commands that follow from it out. Pure: the fact, its cause and the
// state after it say everything.

package handlers

import (
	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// command is a message on its way to a topic.
type command struct {
	topic     string
	partition int32 // of lane topics; elsewhere the key decides
	message   events.Message
}

// follow lists what a job's fact sets in motion. j is the state after it, cause the
// input that it was decided from.
func follow(j *aggregates.Job, f, cause events.Message) []command {
	switch d := f.Data.(type) {
	case events.StageScheduled:
		topic := events.LaneTopic(f.Lane)
		if d.Batch {
			topic = events.LaneBatchTopic(f.Lane)
		}
		return []command{{topic, d.Partition, runTask(j, f, d)}}
	case events.StageSucceeded:
		return profileCommands(j, f, d.Result)
	case events.StageReused:
		return profileCommands(j, f, d.Result)
	case events.StageAttemptExpired:
		return []command{stop(f, f.Columns, "its lease ran out")}
	case events.StageFailed:
		if _, timeout := cause.Data.(events.ClockStageTimeout); timeout {
			return []command{stop(f, f.Columns, "it ran longer than it may")}
		}
		return nil
	case events.JobCancelRequested:
		return stopAll(j, f, "the job is being cancelled")
	case events.JobFailed, events.JobRejected, events.JobCancelled:
		return stopAll(j, f, "the job has ended")
	default:
		return nil
	}
}

// stopAll stops every attempt of the job that lies on a lane or runs.
func stopAll(j *aggregates.Job, f events.Message, reason string) []command {
	var cs []command
	for _, i := range j.Active() {
		n := j.Graph.Nodes[i]
		cs = append(cs, stop(f, events.Columns{JobID: j.ID, Stage: n.ID, Task: n.Task, Lane: n.Lane, Attempt: j.Stages[i].Attempt, Variant: f.Variant}, reason))
	}
	return cs
}

func stop(f events.Message, attempt events.Columns, reason string) command {
	return command{topic: events.TopicTaskControl, message: stopTask(f, attempt, reason)}
}

// stopTask asks for the end of the attempt that the columns name.
func stopTask(because events.Message, attempt events.Columns, reason string) events.Message {
	m := because
	m.ID = events.AttemptID(because.AggregateID, attempt.Stage, attempt.Attempt)
	m.Version, m.PrevID, m.CausationID = 0, "", because.ID
	m.Columns = events.Columns{JobID: because.AggregateID, Stage: attempt.Stage, Task: attempt.Task, Lane: attempt.Lane,
		Attempt: attempt.Attempt, Variant: attempt.Variant}
	m.Data = events.TaskStop{Reason: reason}
	m.SchemaVersion = m.Data.SchemaVersion()
	return m
}

// runTask is the lane's command for a scheduled attempt.
func runTask(j *aggregates.Job, f events.Message, d events.StageScheduled) events.Message {
	i, _ := j.Node(f.Stage)
	n := j.Graph.Nodes[i]
	task, _ := aggregates.Task(n.Task)
	m := f
	m.ID = events.AttemptID(j.ID, f.Stage, f.Attempt)
	m.Version, m.PrevID, m.CausationID = 0, "", f.ID
	m.Data = events.TaskRun{
		Params: n.Params, Inputs: j.Inputs(n), Plane: n.Plane, Mode: j.Graph.Mode, Workflow: j.Graph.Workflow,
		ProfileID: j.Request.ProfileID, Subject: j.Folder(), TimeoutMS: d.TimeoutMS,
		InputHash: d.InputHash, Engine: d.Engine, Share: task.Share && d.InputHash != "" && !j.Anew(n.ID), Reduce: d.Reduce,
		Engines: j.Request.Engines, Wants: n.Engine,
	}
	m.SchemaVersion = m.Data.SchemaVersion()
	return m
}

// profileCommands keep the job's profile up to date with what its stages made.
func profileCommands(j *aggregates.Job, f events.Message, d events.Result) []command {
	var cs []command
	add := func(p events.Payload) { cs = append(cs, profileCommand(j, f, p)) }
	attachment := func(name string) (events.Attachment, bool) {
		as := d.Outputs[name].Artifacts
		if len(as) == 0 {
			return events.Attachment{}, false
		}
		return events.Attachment{Artifact: as[0], Fidelity: d.Fidelity, Engine: d.Engine, FromJob: j.ID}, true
	}
	switch f.Task {
	case aggregates.TaskProfileResolve:
		if j.Request.ProfileName == nil {
			return nil // a profile without a name cannot be found again
		}
		add(events.ProfileCreate{Name: *j.Request.ProfileName})
		if c := j.Request.Consent; c != nil {
			add(events.ProfileRecordConsent{Consent: *c})
		}
		if as := j.Values["portrait"].Artifacts; len(as) > 0 {
			add(events.ProfileAttachPortrait{Attachment: events.Attachment{Artifact: as[0], FromJob: j.ID}})
		}
	case aggregates.TaskTrainVoice:
		if a, ok := attachment("voice_reference"); ok {
			add(events.ProfileAttachVoice{Attachment: a, Transcript: j.Values["voice_transcript"].Text, Weights: d.Outputs["voice_weights"].Artifacts})
		}
	case aggregates.TaskTrainLora:
		if a, ok := attachment("lora"); ok {
			add(events.ProfileAttachLora{Attachment: a})
		}
	}
	return cs
}

func profileCommand(j *aggregates.Job, f events.Message, p events.Payload) command {
	id := events.NameID("command", f.ID, p.EventType())
	return command{topic: events.TopicProfileCommands, message: events.Message{
		ID: id, SchemaVersion: p.SchemaVersion(), AggregateType: events.AggregateProfile, AggregateID: profileID(j),
		OccurredAt: f.OccurredAt, CommandID: id, CausationID: f.ID, CorrelationID: j.CorrelationID,
		Tenant: j.Tenant, Actor: "job:" + j.ID, Columns: events.Columns{JobID: j.ID}, Data: p,
	}}
}

func profileID(j *aggregates.Job) string {
	if j.Request.ProfileID != "" {
		return j.Request.ProfileID
	}
	return events.ProfileIDOfJob(j.ID)
}
