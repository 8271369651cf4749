package main

// This file measures how fast submissions are accepted over HTTP: from the request to the answer
// that says that the job's command lies on the log.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// acceptClients is how many submissions are under way at once.
const acceptClients = 64

// acceptWarm goes before the measured submissions.
const acceptWarm = 2 * time.Second

func measureAccept(ctx context.Context, s setting) (_ []Result, err error) {
	services := &services{}
	defer func() { err = errors.Join(err, services.stop()) }()
	if err := services.start(ctx, s.dir); err != nil {
		return nil, err
	}
	d := services.newDeployment(s.root, "accept", 2)
	log, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := announceWorker(ctx, log); err != nil {
		return nil, err
	}
	// No handler: nobody takes what is accepted, as nobody takes the peer's. So all stay open.
	server, err := d.startAPI(ctx, "api,projector", "MYSPINBOT_LIMITS_MAX_OPEN_JOBS=0")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	if err := server.awaitAccepting(ctx); err != nil {
		return nil, err
	}
	bare, err := startBare(log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	var rate, late, bareRate, bareLate []float64
	for i := range s.rounds {
		ours, err := submitAll(ctx, server.url("/api/jobs"), size("ACCEPT_JOBS", 20_000))
		if err != nil {
			return nil, err
		}
		theirs, err := submitAll(ctx, bare.url, size("ACCEPT_JOBS", 20_000))
		if err != nil {
			return nil, err
		}
		rate, late = append(rate, ours.rate), append(late, milliseconds(quantile(ours.took, .99)))
		bareRate, bareLate = append(bareRate, theirs.rate), append(bareLate, milliseconds(quantile(theirs.took, .99)))
		fmt.Fprintf(s.progress, "  round %d: %.0f accepted a second, p99 %.1f ms; a bare handler %.0f, p99 %.1f ms\n", i+1, rate[i], late[i], bareRate[i], bareLate[i])
	}
	peer := "bare Fiber handler, one record acks=all"
	return []Result{newResult("accept_rate", "jobs/s", rate).against(peer, bareRate), newResult("accept_rate.p99", "ms", late).against(peer, bareLate)}, nil
}

// diagnosticJob is the body of a submission that needs nothing else.
const diagnosticJob = `{"mode":"diagnostic"}`

// awaitAccepting submits a job until one is accepted: the API learns of workers after its start.
func (a *api) awaitAccepting(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	first := ask(&fasthttp.Client{}, fasthttp.MethodPost, a.url("/api/jobs"), diagnosticJob, "Prefer", "respond-async")
	defer first.release()
	for {
		refused := first.do(fasthttp.StatusAccepted)
		if refused == nil {
			return nil
		}
		if err := wait(ctx, 20*time.Millisecond, a.ended); err != nil {
			return errors.Join(err, refused)
		}
	}
}

// submitted is what a load of submissions showed.
type submitted struct {
	rate float64 // accepted per second
	took []time.Duration
}

// submitAll posts jobs, acceptClients at once, after a warm-up. Every one must be accepted.
func submitAll(ctx context.Context, url string, jobs int) (submitted, error) {
	client := &fasthttp.Client{MaxConnsPerHost: acceptClients}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var took []time.Duration
	var left atomic.Int64
	left.Store(int64(jobs))
	work, ctx := errgroup.WithContext(ctx)
	warm := time.Now().Add(acceptWarm)
	for range acceptClients {
		work.Go(func() error {
			a := ask(client, fasthttp.MethodPost, url, diagnosticJob, "Prefer", "respond-async")
			defer a.release()
			var own []time.Duration
			for ctx.Err() == nil {
				began := time.Now()
				measured := began.After(warm)
				if measured && left.Add(-1) < 0 {
					break
				}
				if err := a.do(fasthttp.StatusAccepted); err != nil {
					return err
				}
				if measured {
					own = append(own, time.Since(began))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, own...)
			return ctx.Err()
		})
	}
	if err := work.Wait(); err != nil {
		return submitted{}, fmt.Errorf("a submission was not accepted: %w", err)
	}
	spent := time.Since(warm)
	slices.Sort(took)
	return submitted{perSecond(len(took), spent), took}, nil
}

// bare is the limit: an HTTP handler that does nothing but write the record of a submission.
type bare struct {
	app *fiber.App
	url string
}

func startBare(log *eventlog.Log) (*bare, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the bare handler: %w", err)
	}
	b := &bare{app: fiber.New(fiber.Config{DisableStartupMessage: true}), url: "http://" + l.Addr().String() + "/"}
	var n atomic.Int64
	b.app.Post("/", func(c *fiber.Ctx) error {
		r, err := submission(events.JobID("bench", "bare", fmt.Sprint(n.Add(1))), time.Now())
		if err != nil {
			return err
		}
		r.Topic = events.TopicDeadLetters // which nobody follows here
		if err := log.Produce(context.Background(), r); err != nil {
			return err
		}
		return c.SendStatus(fiber.StatusAccepted)
	})
	go func() { _ = b.app.Listener(l) }() // a fault shows as a submission that is not accepted
	return b, nil
}

func (b *bare) stop() error { return b.app.Shutdown() }
