// T1 for what follows from facts: lane commands and replies.

package invariants

import (
	"github.com/myspinbot/myspinbot/events"
)

// checkLanes matches lane commands with the facts that schedule them, one to one.
func (r *reading) checkLanes() {
	byFact := map[string]entry{} // commands by the fact that caused them
	lanes := map[string]bool{}
	for _, topic := range sortedKeys(r.entries) {
		lane, batch, ok := laneOf(topic)
		if !ok {
			continue
		}
		lanes[topic] = true
		for _, e := range r.entries[topic] {
			r.checkLaneCommand(e, lane, batch)
			if _, twice := byFact[e.m.CausationID]; twice {
				r.violation("T1", e.m.JobID, "attempt %d of %s is on its lane twice", e.m.Attempt, e.m.Stage)
			}
			byFact[e.m.CausationID] = e
		}
	}
	for _, e := range r.entries[events.TopicJobEvents] {
		d, ok := e.m.Data.(events.StageScheduled)
		if !ok {
			continue
		}
		topic := events.LaneTopic(e.m.Lane)
		if d.Batch {
			topic = events.LaneBatchTopic(e.m.Lane)
		}
		c, there := byFact[e.m.ID]
		delete(byFact, e.m.ID)
		switch {
		case !there && lanes[topic]:
			r.violation("T1", e.m.AggregateID, "attempt %d of %s was scheduled and is not on its lane", e.m.Attempt, e.m.Stage)
		case there && (c.rec.Topic != topic || c.rec.Partition != d.Partition || c.src != e.src):
			r.violation("T1", e.m.AggregateID, "attempt %d of %s was scheduled on %s/%d from %s and lies on %s from %s",
				e.m.Attempt, e.m.Stage, topic, d.Partition, e.src, c.rec.At(), c.src)
		}
	}
	if !r.has(events.TopicJobEvents) {
		return
	}
	for _, id := range sortedKeys(byFact) {
		c := byFact[id]
		r.violation("T1", c.m.JobID, "attempt %d of %s is on its lane and was never scheduled", c.m.Attempt, c.m.Stage)
	}
}

func (r *reading) checkLaneCommand(e entry, lane string, batch bool) {
	if _, ok := e.m.Data.(events.TaskRun); !ok || e.m.Lane != lane {
		r.violation("T1", e.m.JobID, "%s for lane %q lies on lane %q (batch: %v)", e.m.Type(), e.m.Lane, lane, batch)
		return
	}
	if want := events.AttemptID(e.m.JobID, e.m.Stage, e.m.Attempt); e.m.ID != want {
		r.violation("T1", e.m.JobID, "attempt %d of %s has the id %s on its lane, want %s", e.m.Attempt, e.m.Stage, e.m.ID, want)
	}
}

// checkReplies holds every reply to the facts of the same input.
func (r *reading) checkReplies() {
	replied := map[source]string{}
	for _, e := range r.entries[events.TopicJobReplies] {
		d, ok := e.m.Data.(events.CommandReplied)
		if !ok {
			r.violation("T1", e.m.AggregateID, "%s lies among the replies", e.m.Type())
			continue
		}
		if e.src.topic == "" {
			r.violation("T1", e.m.AggregateID, "a reply to %s names no input", e.m.CommandID)
			continue
		}
		if _, twice := replied[e.src]; twice {
			r.violation("T1", e.m.AggregateID, "input %s was answered twice", e.src)
		}
		replied[e.src] = d.Outcome
		r.checkReply(e, d)
	}
	if !r.has(events.TopicJobReplies) {
		return
	}
	for _, e := range r.entries[events.TopicJobCommands] {
		at := source{e.rec.Topic, e.rec.Partition, e.rec.Offset}
		if _, ok := replied[at]; !ok && asked(e.m) && len(r.facts[at]) > 0 {
			r.violation("T1", e.m.AggregateID, "%s %s led to facts and was not answered", e.m.Type(), e.m.ID)
		}
	}
}

// asked says whether a client waits for the answer to a command.
func asked(m events.Message) bool {
	switch m.Data.(type) {
	case events.JobSubmit, events.JobCancel, events.JobApprove, events.JobDeny, events.JobLabel:
		return true
	default:
		return false
	}
}

func (r *reading) checkReply(e entry, d events.CommandReplied) {
	if e.src.topic == events.TopicProfileCommands && !r.has(events.TopicProfileEvents) {
		return
	}
	facts := r.facts[e.src]
	if in, ok := r.inputs[e.src]; r.has(e.src.topic) && (!ok || in.m.CommandID != e.m.CommandID) {
		r.violation("T1", e.m.AggregateID, "the reply to input %s names the command %s", e.src, e.m.CommandID)
	}
	switch d.Outcome {
	case events.OutcomeAccepted:
		if len(facts) == 0 {
			r.violation("T1", e.m.AggregateID, "input %s was accepted and led to no fact", e.src)
		} else if last := facts[len(facts)-1].m.Version; d.Version != last {
			r.violation("T1", e.m.AggregateID, "the reply to input %s says version %d, its last fact is version %d", e.src, d.Version, last)
		}
	case events.OutcomeRefused, events.OutcomeDuplicate:
		if len(facts) > 0 {
			r.violation("L2", e.m.AggregateID, "input %s was answered %s and led to %s", e.src, d.Outcome, facts[0].m.Type())
		}
		if d.Outcome == events.OutcomeRefused && d.Code == "" {
			r.violation("T1", e.m.AggregateID, "input %s was refused without a code", e.src)
		}
	default:
		r.violation("T1", e.m.AggregateID, "input %s has the outcome %q", e.src, d.Outcome)
	}
}
