package main

// This file measures how fast submissions are accepted over HTTP: from the request to the answer
// that says that the job's command lies on the log.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
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
	if err := awaitAccepting(ctx, server.url("/api/jobs"), server.ended); err != nil {
		return nil, err
	}
	bare, err := d.startBare(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	// A broker that has just started takes a minute to become as fast as it will be: neither side has that.
	for _, url := range []string{server.url("/api/jobs"), bare.url("/")} {
		if _, err := submitAll(ctx, url, briefly, size("ACCEPT_FIRST", 60_000)); err != nil {
			return nil, err
		}
	}
	var rate, late, whole, bareRate, bareLate []float64
	for i := range s.rounds {
		ours, err := submitAll(ctx, server.url("/api/jobs"), briefly, size("ACCEPT_JOBS", 20_000))
		if err != nil {
			return nil, err
		}
		all, err := submitAll(ctx, server.url("/api/jobs"), wholly, size("ACCEPT_JOBS", 20_000))
		if err != nil {
			return nil, err
		}
		theirs, err := submitAll(ctx, bare.url("/"), briefly, size("ACCEPT_JOBS", 20_000))
		if err != nil {
			return nil, err
		}
		rate, late = append(rate, ours.rate), append(late, milliseconds(quantile(ours.took, .99)))
		whole = append(whole, all.rate)
		bareRate, bareLate = append(bareRate, theirs.rate), append(bareLate, milliseconds(quantile(theirs.took, .99)))
		fmt.Fprintf(s.progress, "  round %d: %.0f accepted a second, p99 %.1f ms; %.0f with the whole job in the answer; a bare handler %.0f, p99 %.1f ms\n", i+1, rate[i], late[i], whole[i], bareRate[i], bareLate[i])
	}
	peer := "bare Fiber handler, one record acks=all"
	return []Result{newResult("accept_rate", "jobs/s", rate).against(peer, bareRate), newResult("accept_rate.p99", "ms", late).against(peer, bareLate),
		newResult("accept_rate.whole", "jobs/s", whole).against(peer, bareRate)}, nil
}

// What the client wants to hear: that the job is durable, as the bare handler says it, or the whole
// Job object.
const (
	briefly = "respond-async, return=minimal"
	wholly  = "respond-async"
)

// diagnosticJob is the body of a submission that needs nothing else.
const diagnosticJob = `{"mode":"diagnostic"}`

// awaitAccepting submits a job until one is accepted: the API learns of workers after its start.
func awaitAccepting(ctx context.Context, url string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, readyLimit)
	defer cancel()
	first := ask(&fasthttp.Client{}, fasthttp.MethodPost, url, diagnosticJob, "Prefer", wholly)
	defer first.release()
	for {
		refused := first.do(fasthttp.StatusAccepted)
		if refused == nil {
			return nil
		}
		if err := wait(ctx, 20*time.Millisecond, ended); err != nil {
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
func submitAll(ctx context.Context, url, prefer string, jobs int) (submitted, error) {
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
			a := ask(client, fasthttp.MethodPost, url, diagnosticJob, "Prefer", prefer)
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

// bareCommand is the first argument of a process that is the limit of submissions.
const bareCommand = "bare"

// startBare starts the limit as a process of its own, as what is measured beside it is one.
func (d *deployment) startBare(ctx context.Context) (*api, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find the program that measures: %w", err)
	}
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	r, err := d.spawn(ctx, bareCommand, os.Environ(), program, bareCommand, "-listen", addr, "-broker", d.services.broker, "-prefix", d.prefix)
	if err != nil {
		return nil, err
	}
	a := &api{r, addr}
	if err := awaitAccepting(ctx, a.url("/"), r.ended); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return a, nil
}

// runBare is the process that is the limit: an HTTP handler that does nothing but write the
// record of a submission. It returns the exit status.
func runBare(ctx context.Context, args []string, stderr io.Writer) int {
	flags := flag.NewFlagSet(bareCommand, flag.ContinueOnError)
	flags.SetOutput(stderr)
	addr := flags.String("listen", "127.0.0.1:0", "address")
	broker := flags.String("broker", "", "address of the broker")
	prefix := flags.String("prefix", "", "of the topics, which are there")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	log, err := (&deployment{services: &services{broker: *broker}, prefix: *prefix, lane: 1}).connect()
	if err == nil {
		defer log.Close()
		err = serveBare(ctx, log, *addr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bare:", err)
		return 1
	}
	return 0
}

// serveBare serves until ctx ends.
func serveBare(ctx context.Context, log *eventlog.Log, addr string) error {
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	var n atomic.Int64
	app.Post("/", func(c *fiber.Ctx) error {
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
	context.AfterFunc(ctx, func() { _ = app.Shutdown() }) // Listen tells how it ended
	return app.Listen(addr)
}
