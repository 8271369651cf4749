//go:build synctests

// The clients' side: they submit, repeat themselves, cancel, approve and deny, and
// are told what happened.

package brokersim_test

import (
	"context"
	"fmt"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/invariants"
)

const tenant = "default"

// load does what the plan says of each job, each at its time.
func (w *world) load(ctx context.Context, log *eventlog.Log) {
	for i, j := range w.plan.jobs {
		if !w.until(ctx, j.at) {
			return
		}
		w.requests.Go(func() { w.drive(ctx, log, i, j) })
	}
}

// drive takes one job through its client's wishes.
func (w *world) drive(ctx context.Context, log *eventlog.Log, i int, j plannedJob) {
	key := fmt.Sprint("key-", i)
	id := events.JobID(tenant, "jobs", key)
	for range j.submits {
		w.call(ctx, log, invariants.Submit, id, key, j.request(key))
	}
	if j.cancelAfter > 0 && pauseFor(ctx, j.cancelAfter) {
		w.call(ctx, log, invariants.Cancel, id, "", events.JobCancel{})
	}
	if j.decideAfter > 0 && pauseFor(ctx, j.decideAfter) {
		if j.deny {
			w.call(ctx, log, invariants.Deny, id, "", events.JobDeny{})
		} else {
			w.call(ctx, log, invariants.Approve, id, "", events.JobApprove{})
		}
	}
}

func (j plannedJob) request(key string) events.JobSubmit {
	r := events.Request{
		Mode: aggregates.ModeDiagnostic, Variant: aggregates.VariantNoop, KeyDigest: events.Digest([]byte(tenant), key), BodyDigest: "body of " + key,
		Options: map[string]any{"work_ms": float64(j.work.Milliseconds()), "fail_attempts": float64(j.fails)}, Approval: j.approval,
	}
	if j.batch {
		r.Priority = events.PriorityBatch
	}
	if j.notBefore > 0 {
		r.NotBeforeMS = time.Now().Add(j.notBefore).UnixMilli()
	}
	return events.JobSubmit{Request: r}
}

// call writes a command until it is acknowledged, so that it may lie there twice. As
// the API's client would, it repeats itself under a new command id.
func (w *world) call(ctx context.Context, log *eventlog.Log, kind, job, key string, p events.Payload) {
	for ctx.Err() == nil {
		id := events.NameID("command", fmt.Sprint(w.nextID()))
		now := time.Now().UTC()
		m := events.Message{
			ID: id, SchemaVersion: p.SchemaVersion(), CommandID: id, CausationID: id, CorrelationID: events.NameID("story", job), Tenant: tenant, Actor: "client",
			AggregateType: events.AggregateJob, AggregateID: job, Columns: events.Columns{JobID: job}, OccurredAt: now, Data: p,
		}
		c := invariants.Call{Kind: kind, JobID: job, CommandID: id, Key: key, Outcome: invariants.Unknown, At: now}
		if s, ok := p.(events.JobSubmit); ok {
			c.BodyDigest = s.Request.BodyDigest
		}
		w.mu.Lock()
		w.calls = append(w.calls, c)
		w.mu.Unlock()
		r, err := encode(events.TopicJobCommands, m)
		if err != nil {
			w.fail("a command cannot be encoded: %v", err)
			return
		}
		if err = log.Produce(ctx, r); err == nil {
			return
		}
		w.count("call of unknown outcome")
		pauseFor(ctx, time.Second)
	}
}

func (w *world) nextID() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ids++
	return w.ids
}

func encode(topic string, m events.Message) (eventlog.Record, error) {
	value, err := events.Encode(m)
	return eventlog.Record{Topic: topic, Key: m.AggregateID, Value: value}, err
}
