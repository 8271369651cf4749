// After the chaos: waiting until the system is quiet, and holding what it left behind
// against the promises.

package main

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/invariants"
	"github.com/myspinbot/myspinbot/projections"
)

// quietWithin is how long the system has to finish everything once faults have stopped.
const quietWithin = 3 * time.Minute

func mapsKeys[K comparable, V any](m map[K]V) iter.Seq[K] { return maps.Keys(m) }

// settle waits for the end of every job, reads the log whole, and checks it.
func (c *cluster) settle(calls []told) *chaosReport {
	c.t.Helper()
	log, err := openLog(c.cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		c.t.Fatal(err)
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	r := &chaosReport{}
	began := time.Now()
	c.awaitQuiet(ctx, log)
	r.line("seconds until everything had ended", fmt.Sprintf("%.0f", time.Since(began).Seconds()))
	c.awaitTables(ctx, log)
	h := c.history(ctx, log, calls)
	r.count(h, calls)
	found := invariants.Check(h)
	r.sort(found)
	r.compareTables(ctx, c, log)
	return r
}

// awaitQuiet returns when every submitted job has ended, or the time for that is over:
// the checkers then tell which did not.
func (c *cluster) awaitQuiet(ctx context.Context, log *eventlog.Log) {
	deadline := time.Now().Add(quietWithin)
	for time.Now().Before(deadline) {
		open := map[string]bool{}
		_, err := log.Read(ctx, log.Whole(events.TopicJobCommands, events.TopicJobEvents), func(rs []eventlog.Record) error {
			for _, rec := range rs {
				switch kind := rec.Header("ce_type"); {
				case kind == "job.submit":
					if _, ended := open[rec.Key]; !ended {
						open[rec.Key] = true
					}
				case endings[kind]:
					open[rec.Key] = false
				}
			}
			return nil
		})
		n := 0
		for _, o := range open {
			if o {
				n++
			}
		}
		if err == nil && n == 0 {
			return
		}
		<-time.After(time.Second)
	}
	c.tellPositions(ctx, log)
	c.dumpStacks()
}

// tellPositions shows how far each lane has come: a partition that stands still behind
// its end is not read, one whose end readers cannot see holds an open transaction.
func (c *cluster) tellPositions(ctx context.Context, log *eventlog.Log) {
	for _, lane := range []string{events.LaneScript, events.LaneTTS, events.LaneRender, events.LaneLipsync} {
		ranges, err := log.Ranges(ctx, events.LaneTopic(lane), events.LaneBatchTopic(lane))
		if err != nil {
			c.t.Log(err)
			return
		}
		committed, marks, err := log.FetchCommitted(ctx, eventlog.GroupLanes)
		if err != nil {
			c.t.Log(err)
			return
		}
		for tp, r := range ranges {
			c.t.Logf("%s: committed %d (%s), readable to %d, end %d", tp, committed[tp], marks[tp], r.Stable, r.End)
		}
	}
}

var endings = map[string]bool{"job.succeeded": true, "job.failed": true, "job.cancelled": true, "job.rejected": true}

// awaitTables waits until the projector stands at the end of the facts.
func (c *cluster) awaitTables(ctx context.Context, log *eventlog.Log) {
	pool := c.pool()
	defer pool.Close()
	c.system().eventually(quietWithin, "the tables catch up", func() error {
		ranges, err := log.Ranges(ctx, events.TopicJobEvents, events.TopicProfileEvents)
		if err != nil {
			return err
		}
		rows, err := pool.Query(ctx, "SELECT topic, partition, next_offset FROM myspinbot.checkpoints")
		if err != nil {
			return err
		}
		defer rows.Close()
		at := map[eventlog.TopicPartition]int64{}
		for rows.Next() {
			var tp eventlog.TopicPartition
			var next int64
			if err := rows.Scan(&tp.Topic, &tp.Partition, &next); err != nil {
				return err
			}
			at[tp] = next
		}
		for tp, r := range ranges {
			if at[tp] < r.Stable {
				return fmt.Errorf("%s stands at %d of %d", tp, at[tp], r.Stable)
			}
		}
		return rows.Err()
	})
}

func (c *cluster) pool() *pgxpool.Pool {
	pool, err := pgxpool.New(context.Background(), c.cfg.Postgres.URL.Reveal())
	if err != nil {
		c.t.Fatal(err)
	}
	return pool
}

// history reads every topic whole.
func (c *cluster) history(ctx context.Context, log *eventlog.Log, calls []told) invariants.History {
	topics := []string{events.TopicJobCommands, events.TopicJobEvents, events.TopicJobReplies, events.TopicTaskEvents, events.TopicTaskControl,
		events.TopicProfileCommands, events.TopicProfileEvents, events.TopicDeadLetters}
	for _, lane := range events.Lanes() {
		topics = append(topics, events.LaneTopic(lane), events.LaneBatchTopic(lane))
	}
	h := invariants.History{Records: map[string][]eventlog.Record{}, Settled: true, Limits: invariants.Limits{
		MaxAttempts: 20, Partitions: 4, Canaries: []string{c.cfg.Secrets.MasterKey.Reveal()},
	}}
	for _, topic := range topics {
		h.Records[topic] = nil
	}
	_, err := log.Read(ctx, log.Whole(topics...), func(rs []eventlog.Record) error {
		for _, r := range rs {
			h.Records[r.Topic] = append(h.Records[r.Topic], r)
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, t := range calls {
		h.Calls = append(h.Calls, t.call())
	}
	return h
}

// call is the client's note in the checkers' words.
func (t told) call() invariants.Call {
	call := invariants.Call{Kind: t.kind, JobID: t.jobID, Key: t.key, Status: t.status}
	switch {
	case t.status == 0 || t.status >= http.StatusInternalServerError:
		call.Outcome = invariants.Unknown
	case t.status >= http.StatusBadRequest:
		call.Outcome = invariants.Refused
	default:
		call.Outcome = invariants.Accepted
	}
	if t.kind == invariants.Submit && t.key != "" {
		call.JobID = events.JobID("default", "/api/jobs", t.key)
	}
	return call
}

// count tells what there was.
func (r *chaosReport) count(h invariants.History, calls []told) {
	by, jobs := map[string]int{}, map[string]bool{}
	for _, t := range calls {
		if t.kind == invariants.Submit {
			by[t.call().Outcome]++
			if t.call().Outcome == invariants.Accepted {
				jobs[t.call().JobID] = true
			}
		}
		if t.tries > 1 {
			by["retried"]++
		}
	}
	r.line("jobs accepted", len(jobs))
	r.line("submissions of them, repeated ones too", by[invariants.Accepted])
	r.line("submissions refused (same key, another body)", by[invariants.Refused])
	r.line("submissions without a last answer", by[invariants.Unknown])
	r.line("requests that had to be repeated", by["retried"])
	ends, attempts, stale := map[string]int{}, 0, 0
	for _, rec := range h.Records[events.TopicJobEvents] {
		switch kind := rec.Header("ce_type"); {
		case endings[kind]:
			ends[kind]++
		case kind == "stage.scheduled":
			attempts++
		case kind == "stage.attempt_expired":
			stale++
		}
	}
	for _, kind := range []string{"job.succeeded", "job.failed", "job.cancelled", "job.rejected"} {
		r.line("jobs ended by "+kind, ends[kind])
	}
	r.line("attempts scheduled", attempts)
	r.line("attempts whose lease ran out", stale)
	r.line("events", len(h.Records[events.TopicJobEvents]))
	r.line("dead letters", len(h.Records[events.TopicDeadLetters]))
}

// sort puts what the checkers found under the names that people ask for.
func (r *chaosReport) sort(found []invariants.Violation) {
	by := map[string]int{}
	for _, v := range found {
		r.violations = append(r.violations, v.String())
		switch v.Invariant {
		case "L1":
			by["lost"]++
		case "L4":
			by["twice"]++
		case "L8":
			by["stuck"]++
		default:
			by["other"]++
		}
	}
	r.line("**jobs lost**", by["lost"])
	r.line("**results counted twice**", by["twice"])
	r.line("**stuck jobs**", by["stuck"])
	r.line("**other broken promises**", by["other"])
}

// compareTables holds every row against the fold of the log.
func (r *chaosReport) compareTables(ctx context.Context, c *cluster, log *eventlog.Log) {
	pool := c.pool()
	defer pool.Close()
	report, err := projections.Verify(ctx, projections.Config{Log: log, Pool: pool, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		c.t.Fatal(err)
	}
	r.line("rows compared with the fold of the log", report.Rows)
	r.line("**differences**", len(report.Differences))
	for _, d := range report.Differences {
		r.violations = append(r.violations, "P1: "+d.String())
	}
	if report.Rows == 0 {
		r.violations = append(r.violations, "P1: there are no rows at all")
	}
}
