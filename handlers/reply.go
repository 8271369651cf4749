// Replies: what came of a client's command, in the command's own transaction.

package handlers

import (
	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// answered says whether somebody waits for what comes of the input.
func answered(input events.JobInput) bool {
	switch input.(type) { //nolint:gochecksumtype // clocks and workers wait for nothing
	case events.JobSubmit, events.JobCancel, events.JobApprove, events.JobDeny, events.JobLabel:
		return true
	}
	return false
}

// outcome words the reply to a command that led to some facts, or was refused.
func outcome(facts int, refusal *events.Reason) events.CommandReplied {
	switch {
	case refusal != nil:
		return events.CommandReplied{Outcome: events.OutcomeRefused, Code: refusal.Code, Detail: refusal.Detail}
	case facts > 0:
		return events.CommandReplied{Outcome: events.OutcomeAccepted}
	}
	return events.CommandReplied{Outcome: events.OutcomeDuplicate}
}

func replyRecord(p *partition, m events.Message, r events.CommandReplied) (eventlog.Record, error) {
	reply := events.Message{
		ID: events.EventID(m.OccurredAt, m.ID, replyIndex), SchemaVersion: r.SchemaVersion(),
		AggregateType: events.AggregateJob, AggregateID: m.AggregateID, OccurredAt: p.at(m),
		CommandID: m.CommandID, CausationID: m.ID, CorrelationID: m.CorrelationID, Tenant: m.Tenant, Actor: m.Actor,
		Columns: events.Columns{JobID: m.AggregateID, State: r.Status}, Data: r,
	}
	if m.AggregateType == events.AggregateProfile {
		reply.AggregateType, reply.JobID = events.AggregateProfile, ""
	}
	return encode(events.TopicJobReplies, reply)
}

// replyIndex makes a reply's id another than those of the facts of the same command.
const replyIndex = -1

// pastReply answers a command on a job that has ended.
func pastReply(e ended, archived bool, input events.JobInput) events.CommandReplied {
	if archived {
		return events.CommandReplied{Outcome: events.OutcomeRefused, Code: aggregates.CodeJobArchived, Status: statusArchived,
			Detail: "the job ended so long ago that only its events are left; send a new job"}
	}
	digest := ""
	if s, ok := input.(events.JobSubmit); ok {
		digest = s.Request.BodyDigest
		if d, _ := bodyDigest(digest); d != e.digest {
			digest += "!" // any other
		}
	}
	r := outcome(0, aggregates.Refuse(true, digest, input))
	r.Version, r.Status = int64(e.version), e.status.String()
	return r
}
