// L1, L2 and L8: what clients were told against what the log holds.

package invariants

import (
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// checkSubmits holds every key to one job and one body.
func (r *reading) checkSubmits() {
	byKey := map[[2]string]string{}
	for _, id := range r.order {
		for _, e := range r.jobs[id] {
			d, ok := e.m.Data.(events.JobSubmitted)
			if !ok || d.Request.KeyDigest == "" {
				continue
			}
			key := [2]string{e.m.Tenant, d.Request.KeyDigest}
			if before, twice := byKey[key]; twice && before != id {
				r.violation("L2", id, "its idempotency key has made job %s already", before)
			}
			byKey[key] = id
		}
	}
}

// checkCalls compares each call with the log.
func (r *reading) checkCalls() {
	accepted := map[string]Call{} // submits by key
	told := map[string][]string{} // outcomes by command
	for _, e := range r.entries[events.TopicJobReplies] {
		if d, ok := e.m.Data.(events.CommandReplied); ok {
			told[e.m.CommandID] = append(told[e.m.CommandID], d.Outcome)
		}
	}
	written := map[string]bool{}
	for _, e := range r.entries[events.TopicJobCommands] {
		written[e.m.CommandID] = true
	}
	for _, c := range r.h.Calls {
		if r.has(events.TopicJobCommands) && c.CommandID != "" && !written[c.CommandID] && (c.Outcome == Accepted || c.Outcome == Duplicate) {
			r.violation("L1", c.JobID, "the %s %s was %s and is not on the log", c.Kind, c.CommandID, c.Outcome)
		}
		if c.Kind == Submit {
			r.checkSubmit(c, accepted)
		}
		r.checkCommand(c, told[c.CommandID])
	}
}

func (r *reading) checkSubmit(c Call, accepted map[string]Call) {
	if c.Outcome != Accepted && c.Outcome != Duplicate {
		return
	}
	if before, ok := accepted[c.Key]; ok && c.Key != "" {
		if before.JobID != c.JobID {
			r.violation("L1", c.JobID, "the same key was job %s before", before.JobID)
		}
		if before.BodyDigest != c.BodyDigest {
			r.violation("L2", c.JobID, "two bodies were accepted under one key")
		}
	}
	accepted[c.Key] = c
	begun := slices.IndexFunc(r.jobs[c.JobID], func(e entry) bool { _, ok := e.m.Data.(events.JobSubmitted); return ok })
	if begun < 0 {
		if r.h.Settled {
			r.violation("L1", c.JobID, "its submission was %s and it does not exist", c.Outcome)
		}
		return
	}
	if d := r.jobs[c.JobID][begun].m.Data.(events.JobSubmitted); c.BodyDigest != "" && d.Request.BodyDigest != c.BodyDigest {
		r.violation("L1", c.JobID, "its submission was %s with another body than the job has", c.Outcome)
	}
}

// checkCommand holds the outcome that a client was told to the facts and replies
// of its command.
func (r *reading) checkCommand(c Call, told []string) {
	if c.CommandID == "" {
		return
	}
	facts := r.command[c.CommandID]
	switch {
	case c.Outcome == Refused && len(facts) > 0:
		r.violation("L2", c.JobID, "the %s %s was refused and led to %s", c.Kind, c.CommandID, facts[0].m.Type())
	case c.Outcome == Refused && slices.Contains(told, Accepted):
		r.violation("L2", c.JobID, "the client was told that the %s %s was refused, the handler accepted it", c.Kind, c.CommandID)
	case c.Outcome == Accepted && c.Kind != Submit && len(facts) == 0 && r.h.Settled:
		r.violation("L1", c.JobID, "the %s %s was accepted and led to nothing", c.Kind, c.CommandID)
	case c.Outcome == Accepted && len(told) > 0 && !slices.Contains(told, Accepted) && !slices.Contains(told, Duplicate):
		r.violation("L1", c.JobID, "the client was told that the %s %s was accepted, the handler refused it", c.Kind, c.CommandID)
	}
}

// checkSettled holds a system that had time to finish to having finished.
func (r *reading) checkSettled() {
	if !r.h.Settled {
		return
	}
	for _, id := range r.order {
		if !slices.ContainsFunc(r.jobs[id], func(e entry) bool { return terminal(e.m.Data) }) {
			last := r.jobs[id][len(r.jobs[id])-1]
			r.violation("L8", id, "never ended; its last fact is %s %s attempt %d", last.m.Type(), last.m.Stage, last.m.Attempt)
		}
	}
	if !r.has(events.TopicJobReplies) {
		return
	}
	replied := map[source]bool{}
	for _, e := range r.entries[events.TopicJobReplies] {
		replied[e.src] = true
	}
	for _, e := range r.entries[events.TopicJobCommands] {
		if at := (source{e.rec.Topic, e.rec.Partition, e.rec.Offset}); asked(e.m) && !replied[at] {
			r.violation("L8", e.m.AggregateID, "%s at %s was never answered", e.m.Type(), at)
		}
	}
}

func terminal(p events.Payload) bool {
	switch p.(type) {
	case events.JobSucceeded, events.JobFailed, events.JobRejected, events.JobCancelled:
		return true
	default:
		return false
	}
}
