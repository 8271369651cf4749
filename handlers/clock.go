// The clock: a passed deadline becomes a command on the log, so that every input
// to a decision lies there. It is ignored unless that deadline is still current.

package handlers

import (
	"context"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// tick is how often deadlines are looked at; they are seconds to hours long.
const tick = 250 * time.Millisecond

type deadlineKey struct {
	stage   string
	attempt int
	atMS    int64
}

// runClock writes due deadlines until ctx ends.
func (h *Handler) runClock(ctx context.Context) {
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			h.writeDue(ctx, h.cfg.Now())
		}
	}
}

type due struct {
	live *liveJob
	key  deadlineKey
	msg  events.Message
}

func (h *Handler) writeDue(ctx context.Context, now time.Time) {
	for _, d := range h.takeDue(now) {
		record, err := encode(events.TopicJobCommands, d.msg)
		if err == nil {
			err = h.cfg.Log.Produce(ctx, record)
		}
		if err != nil { // the deadline is still there at the next tick
			h.cfg.Logger.Warn("a deadline could not be written", "jobId", d.msg.AggregateID, "error", err)
			h.mu.Lock()
			delete(d.live.clocked, d.key)
			h.mu.Unlock()
		}
	}
}

// takeDue marks and lists the deadlines that have passed.
func (h *Handler) takeDue(now time.Time) []due {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []due
	for _, p := range h.parts {
		for _, live := range p.jobs {
			for _, d := range live.Deadlines() {
				key := deadlineKey{d.Stage, d.Attempt, d.AtMS}
				if d.AtMS > now.UnixMilli() || live.clocked[key] {
					continue
				}
				if live.clocked == nil {
					live.clocked = map[deadlineKey]bool{}
				}
				live.clocked[key] = true
				out = append(out, due{live, key, clockCommand(live.Job, d, now)})
			}
		}
	}
	return out
}

func clockCommand(j aggregates.Job, d aggregates.Deadline, now time.Time) events.Message {
	id := events.NameID("clock", j.ID, d.Command.EventType(), d.Stage, time.UnixMilli(d.AtMS).UTC().Format(time.RFC3339Nano))
	return events.Message{
		ID: id, SchemaVersion: d.Command.SchemaVersion(), AggregateType: events.AggregateJob, AggregateID: j.ID,
		OccurredAt: now.UTC(), CommandID: id, CausationID: j.Chain.LastID, CorrelationID: j.CorrelationID,
		Tenant: j.Tenant, Actor: "clock", Columns: events.Columns{JobID: j.ID, Stage: d.Stage, Attempt: d.Attempt}, Data: d.Command,
	}
}
