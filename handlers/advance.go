// A fact in, the commands that follow from it out. Pure: the fact and the state
// after it say everything.

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

// follow lists what a job's fact sets in motion.
func follow(j aggregates.Job, f events.Message) []command {
	switch d := f.Data.(type) {
	case events.StageScheduled:
		topic := events.LaneTopic(f.Lane)
		if d.Batch {
			topic = events.LaneBatchTopic(f.Lane)
		}
		return []command{{topic, d.Partition, runTask(j, f, d)}}
	case events.StageSucceeded:
		return profileCommands(j, f, d)
	default:
		return nil
	}
}

// runTask is the lane's command for a scheduled attempt.
func runTask(j aggregates.Job, f events.Message, d events.StageScheduled) events.Message {
	i, _ := j.Node(f.Stage)
	n := j.Graph.Nodes[i]
	task, _ := aggregates.Task(n.Task)
	m := f
	m.ID = events.AttemptID(j.ID, f.Stage, f.Attempt)
	m.Version, m.PrevID, m.CausationID = 0, "", f.ID
	m.Data = events.TaskRun{
		Params: n.Params, Inputs: j.Inputs(n), Plane: n.Plane, Mode: j.Graph.Mode, Workflow: j.Graph.Workflow,
		ProfileID: j.Request.ProfileID, Subject: j.Folder(), TimeoutMS: d.TimeoutMS,
		InputHash: d.InputHash, Share: task.Share && d.InputHash != "", Reduce: d.Reduce,
	}
	m.SchemaVersion = m.Data.SchemaVersion()
	return m
}

// profileCommands keep the job's profile up to date with what its stages made.
func profileCommands(j aggregates.Job, f events.Message, d events.StageSucceeded) []command {
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
			add(events.ProfileAttachVoice{Attachment: a, Transcript: j.Values["voice_transcript"].Text})
		}
	case aggregates.TaskTrainLora:
		if a, ok := attachment("lora"); ok {
			add(events.ProfileAttachLora{Attachment: a})
		}
	}
	return cs
}

func profileCommand(j aggregates.Job, f events.Message, p events.Payload) command {
	id := events.NameID("command", f.ID, p.EventType())
	return command{topic: events.TopicProfileCommands, message: events.Message{
		ID: id, SchemaVersion: p.SchemaVersion(), AggregateType: events.AggregateProfile, AggregateID: profileID(j),
		OccurredAt: f.OccurredAt, CommandID: id, CausationID: f.ID, CorrelationID: j.CorrelationID,
		Tenant: j.Tenant, Actor: "job:" + j.ID, Columns: events.Columns{JobID: j.ID}, Data: p,
	}}
}

func profileID(j aggregates.Job) string {
	if j.Request.ProfileID != "" {
		return j.Request.ProfileID
	}
	return events.ProfileIDOfJob(j.ID)
}
