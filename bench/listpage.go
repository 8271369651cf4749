package main

// This file measures a page of the list of jobs, over HTTP, with and without filters, when there are
// very many jobs.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	listClients  = 4    // that ask at once
	listProfiles = 2000 // whose jobs are listed
)

// listing is one way of asking for a page, and the bare query of its rows.
type listing struct {
	query string // of the URL
	where string // of the statement
}

func measureListPage(ctx context.Context, s setting) (_ []Result, err error) {
	b, err := startTables(ctx, s, "listpage")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	b.jobs = size("LIST_JOBS", 1_000_000)
	if err := writeFacts(ctx, b.deployment, b.log, 0, b.jobs, listedJob); err != nil {
		return nil, err
	}
	if _, err := projections.Rebuild(ctx, b.config(), projections.RebuildOptions{}); err != nil {
		return nil, err
	}
	listings, err := b.listings(ctx)
	if err != nil {
		return nil, err
	}
	server, err := b.deployment.startAPI(ctx, "api")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	var late, half, bareLate, bareHalf []float64
	for i := range s.rounds {
		ours, err := server.list(ctx, listings, size("LIST_PAGES", 2000))
		if err != nil {
			return nil, err
		}
		theirs, err := b.bareList(ctx, listings, size("LIST_PAGES", 2000))
		if err != nil {
			return nil, err
		}
		late, half = append(late, milliseconds(quantile(ours, .99))), append(half, milliseconds(quantile(ours, .5)))
		bareLate, bareHalf = append(bareLate, milliseconds(quantile(theirs, .99))), append(bareHalf, milliseconds(quantile(theirs, .5)))
		fmt.Fprintf(s.progress, "  round %d: a page of %d jobs p50 %.1f ms, p99 %.1f ms; the bare queries %.1f and %.1f ms\n",
			i+1, b.jobs, half[i], late[i], bareHalf[i], bareLate[i])
	}
	return []Result{newResult("list_page", "ms", late).against("the bare queries", bareLate), newResult("list_page.p50", "ms", half).against("the bare queries", bareHalf)}, nil
}

// listedJob are the facts of the n-th job: mostly done, some failed, few cancelled or waiting.
func listedJob(n int) []events.Message {
	t := teller{id: events.JobID("bench", "list", strconv.Itoa(n)), variant: aggregates.Variants()[n%2], now: time.Now().UTC()}
	graph := events.Graph{Workflow: "train_and_generate_v1", Mode: aggregates.ModeTrainAndGenerate, Variant: t.variant,
		ProfileID: events.NameID("profile", strconv.Itoa(n%listProfiles))}
	for i, lane := range noopLanes[:2] {
		graph.Nodes = append(graph.Nodes, events.Node{ID: lane, Task: aggregates.NoopTask(lane), Plane: events.PlaneGPU, Lane: lane, Weight: 0.5, TimeoutMS: 60_000})
		if i > 0 {
			graph.Edges = append(graph.Edges, events.Edge{From: noopLanes[i-1], To: lane})
		}
	}
	request := events.Request{Workflow: graph.Workflow, Mode: graph.Mode, Variant: graph.Variant, ProfileID: graph.ProfileID}
	if n%50 == 49 {
		request.ParentJobID = events.JobID("bench", "list", strconv.Itoa(n-n%50))
	}
	t.add(events.JobSubmitted{Request: request}, events.Columns{State: "queued"})
	t.add(events.JobPlanned{Graph: graph, DeadlineMS: t.now.Add(time.Hour).UnixMilli()}, events.Columns{State: "queued"})
	switch {
	case n%20 == 0:
		t.add(events.JobFailed{Message: "took too long"}, events.Columns{State: "failed", Stage: noopLanes[0], ErrorClass: events.ClassTimeout})
	case n%997 == 1:
		t.add(events.JobCancelRequested{}, events.Columns{State: "queued"})
	default:
		t.add(events.JobSucceeded{}, events.Columns{State: "succeeded"})
	}
	return t.told
}

// listings are the pages that people ask for: the newest, far back, and by every filter.
func (b *tablesBench) listings(ctx context.Context) ([]listing, error) {
	var at time.Time
	var id string
	if err := b.pool.QueryRow(ctx, "SELECT created_at, id FROM myspinbot.jobs ORDER BY created_at DESC, id DESC OFFSET $1 LIMIT 1", b.jobs/2).Scan(&at, &id); err != nil {
		return nil, fmt.Errorf("cannot find the middle of the list: %w", err)
	}
	middle := projections.Cursor{CreatedAt: at, ID: id}
	profile, parent := events.NameID("profile", "7"), events.JobID("bench", "list", "50")
	return []listing{
		{"", "true"},
		{"cursor=" + middle.String(), fmt.Sprintf("(created_at, id) < ('%s', '%s')", at.Format(time.RFC3339Nano), id)},
		{"status=failed", "status = 'failed'"},
		{"status=queued,running", "status IN ('queued', 'running')"},
		{"status=succeeded&variant=" + aggregates.Variants()[1], "status = 'succeeded' AND variant = '" + aggregates.Variants()[1] + "'"},
		{"mode=" + aggregates.ModeGenerateFromProfile, "mode = '" + aggregates.ModeGenerateFromProfile + "'"},
		{"profile_id=" + profile, "profile_id = '" + profile + "'"},
		{"profile_id=" + profile + "&status=failed", "profile_id = '" + profile + "' AND status = 'failed'"},
		{"parent_job_id=" + parent, "parent_job_id = '" + parent + "'"},
	}, nil
}

// list asks for every listing in turn, by listClients at once.
func (a *api) list(ctx context.Context, listings []listing, pages int) ([]time.Duration, error) {
	client := &fasthttp.Client{MaxConnsPerHost: listClients}
	defer client.CloseIdleConnections()
	return inTurn(ctx, pages, func(n int) error {
		q := ask(client, fasthttp.MethodGet, a.url("/api/jobs?"+listings[n%len(listings)].query), "")
		defer q.release()
		return q.do(fasthttp.StatusOK)
	})
}

// bareList reads the same rows of the table, as many as a page holds.
func (b *tablesBench) bareList(ctx context.Context, listings []listing, pages int) ([]time.Duration, error) {
	return inTurn(ctx, pages, func(n int) error {
		rows, err := b.pool.Query(ctx, "SELECT * FROM myspinbot.jobs WHERE tenant = 'default' AND "+listings[n%len(listings)].where+" ORDER BY created_at DESC, id DESC LIMIT 51")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			rows.RawValues()
		}
		return rows.Err()
	})
}

// inTurn does n things, listClients at once, and gives back how long each took, sorted.
func inTurn(ctx context.Context, n int, do func(n int) error) ([]time.Duration, error) {
	took := make([]time.Duration, n)
	work, ctx := errgroup.WithContext(ctx)
	for c := range listClients {
		work.Go(func() error {
			for i := c; i < n && ctx.Err() == nil; i += listClients {
				began := time.Now()
				if err := do(i); err != nil {
					return err
				}
				took[i] = time.Since(began)
			}
			return ctx.Err()
		})
	}
	if err := work.Wait(); err != nil {
		return nil, fmt.Errorf("a page cannot be read: %w", err)
	}
	slices.Sort(took)
	return took, nil
}
