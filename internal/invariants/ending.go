// L3, L5 and L7 at the turns of a job: the approval and the end.

package invariants

import "github.com/myspinbot/myspinbot/events"

func (s *story) approval(m events.Message) {
	st := s.stages[m.Stage]
	if st == nil {
		s.bad("L3", "%s names stage %q, which the plan does not have", m.Type(), m.Stage)
		return
	}
	if _, asks := m.Data.(events.ApprovalRequested); asks {
		s.begin(m)
		s.needs(st, m)
		if st.state != pending {
			s.bad("L3", "an approval is requested for %s while it is %s", m.Stage, st.state)
		}
		st.state, s.asks = gated, true
		return
	}
	if !s.asks || st.state != gated {
		s.bad("L3", "%s, and no approval was asked for", m.Type())
	}
	if s.cancelled {
		s.bad("L5", "%s after the cancellation was requested", m.Type())
	}
	s.asks, st.state = false, finished
	switch m.Data.(type) {
	case events.ApprovalDenied, events.ApprovalExpired:
		st.state, s.verdict = lost, m.Type()
	default: // granted
	}
}

func (s *story) end(m events.Message) {
	s.ended = m.Type()
	if s.cancelled {
		s.endCancelled(m)
		return
	}
	switch m.Data.(type) {
	case events.JobCancelled:
		s.bad("L5", "cancelled, and nobody asked for it")
	case events.JobSucceeded:
		s.endWell(m)
	case events.JobRejected:
		if m.Version != 2 && s.verdict == "" {
			s.bad("L3", "rejected at version %d without a verdict", m.Version)
		}
	case events.JobFailed:
		if s.planned && s.verdict == "" && m.OccurredAt.UnixMilli() < s.due {
			s.bad("L7", "failed before its deadline, and no stage of it failed for good")
		}
	default: // end is called for no other
	}
}

func (s *story) endWell(m events.Message) {
	if s.verdict != "" {
		s.bad("L3", "succeeded in spite of %s", s.verdict)
	}
	if !s.planned {
		s.bad("L3", "%s before the plan", m.Type())
	}
	for _, id := range sortedKeys(s.stages) {
		if st := s.stages[id]; st.state != finished {
			s.bad("L3", "succeeded while %s is %s", id, st.state)
		}
	}
}

// endCancelled is the end of a job whose cancellation was requested.
func (s *story) endCancelled(m events.Message) {
	if _, ok := m.Data.(events.JobCancelled); !ok {
		s.bad("L5", "%s although the cancellation was requested", m.Type())
		return
	}
	if m.OccurredAt.UnixMilli() >= s.due {
		return // the deadline ends a job whatever runs
	}
	for _, id := range sortedKeys(s.stages) {
		if s.stages[id].state == running {
			s.bad("L5", "cancelled while %s runs", id)
		}
	}
}
