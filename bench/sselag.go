package main

// This file measures how late events reach clients of live streams, while some of the clients have
// stopped reading.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	streamRate   = 500 // events a second, of all jobs together
	frozenShare  = 20  // one client in so many never reads
	factsBefore  = 2   // of each job, on the log before its client comes
	streamPeriod = time.Second / streamRate
)

// watched is one job and its client.
type watched struct {
	id        string
	facts     []events.Message
	client    follower
	frozen    bool
	committed []time.Time // of the facts behind factsBefore
	seen      []time.Time
}

func measureStreams(ctx context.Context, s setting) (_ []Result, err error) {
	b, err := startTables(ctx, s, "sselag")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	clients := size("STREAMS", 1000)
	server, err := b.deployment.startAPI(ctx, "api,projector", fmt.Sprintf("MYSPINBOT_HTTP_MAX_STREAMS=%d", 2*clients+100)) // those of the round before may linger
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	rested, err := residentBytes(server.cmd.Process.Pid)
	if err != nil {
		return nil, err
	}
	var half, late, memory []float64
	for i := range s.rounds {
		lags, err := b.streams(ctx, server, i*clients, clients, followJob)
		if err != nil {
			return nil, err
		}
		peak, err := peakBytes(server.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		half, late = append(half, milliseconds(quantile(lags, .5))), append(late, milliseconds(quantile(lags, .99)))
		memory = append(memory, float64(peak-rested)/float64(clients)/1e3)
		fmt.Fprintf(s.progress, "  round %d: %d clients saw %d events p50 %.1f ms, p99 %.1f ms after their commit; the API took up to %.0f kB more a client\n",
			i+1, clients-clients/frozenShare, len(lags), half[i], late[i], memory[i])
	}
	results := []Result{newResult("sse_lag", "ms", late), newResult("sse_lag.p50", "ms", half), newResult("sse_lag.memory", "kB/client", memory)}
	// The others come behind, for the most memory that a process has had only grows.
	for n, way := range []struct {
		id     string
		follow follow
	}{{"sse_lag.ws", followSocket}, {"sse_lag.all", followAll}} {
		var late []float64
		for i := range s.rounds {
			lags, err := b.streams(ctx, server, ((n+1)*s.rounds+i)*clients, clients, way.follow)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", way.id, err)
			}
			late = append(late, milliseconds(quantile(lags, .99)))
			fmt.Fprintf(s.progress, "  %s, round %d: p50 %.1f ms, p99 %.1f ms\n", way.id, i+1, milliseconds(quantile(lags, .5)), late[i])
		}
		results = append(results, newResult(way.id, "ms", late))
	}
	return results, nil
}

// streams has a client follow each of so many jobs, and takes the time of each event from its being
// committed to its arrival, sorted. Frozen clients' do not count.
func (b *tablesBench) streams(ctx context.Context, server *api, from, clients int, by follow) (_ []time.Duration, err error) {
	jobs := make([]*watched, clients)
	reader := projections.NewReader(b.pool)
	for i := range jobs {
		facts := factsOf(from + i)
		jobs[i] = &watched{id: facts[0].AggregateID, facts: facts, frozen: i%frozenShare == 0}
		if _, err := b.tell(ctx, facts[:factsBefore]); err != nil {
			return nil, err
		}
	}
	defer func() {
		for _, w := range jobs {
			if w.client != nil {
				w.client.close()
			}
		}
	}()
	var reading sync.WaitGroup
	for _, w := range jobs {
		if err := reader.WaitFor(ctx, "default", w.id, factsBefore); err != nil {
			return nil, err
		}
		if w.client, err = by(ctx, server.addr, w.id); err != nil {
			return nil, fmt.Errorf("a client cannot connect: %w", err)
		}
		if !w.frozen {
			reading.Go(w.read)
		}
	}
	if err := b.tellAll(ctx, jobs); err != nil {
		return nil, err
	}
	reading.Wait() // every client ends with its job, or by its deadline
	var lags []time.Duration
	for _, w := range jobs {
		if w.frozen {
			continue
		}
		if want := len(w.facts) - factsBefore; len(w.seen) != want {
			return nil, fmt.Errorf("a client saw %d events of its job, not %d", len(w.seen), want)
		}
		for i, at := range w.seen {
			lags = append(lags, at.Sub(w.committed[i]))
		}
	}
	slices.Sort(lags)
	return lags, nil
}

// tell commits facts and says when that was.
func (b *tablesBench) tell(ctx context.Context, facts []events.Message) (time.Time, error) {
	records := make([]eventlog.Record, len(facts))
	for i, m := range facts {
		var err error
		if records[i], err = record(events.TopicJobEvents, m); err != nil {
			return time.Time{}, err
		}
	}
	err := b.log.Produce(ctx, records...)
	return time.Now(), err
}

// tellAll commits the other facts of all jobs in turn, at streamRate.
func (b *tablesBench) tellAll(ctx context.Context, jobs []*watched) error {
	pace := time.NewTicker(streamPeriod)
	defer pace.Stop()
	for n := factsBefore; n < len(jobs[0].facts); n++ {
		for _, w := range jobs {
			select {
			case <-pace.C:
			case <-ctx.Done():
				return ctx.Err()
			}
			at, err := b.tell(ctx, w.facts[n:n+1])
			if err != nil {
				return err
			}
			w.committed = append(w.committed, at)
		}
	}
	return nil
}

// read notes when each event behind factsBefore arrives, until the job's last or an error.
func (w *watched) read() {
	for len(w.seen) < len(w.facts)-factsBefore {
		version, err := w.client.next()
		if err != nil {
			return
		}
		for now := time.Now(); int64(factsBefore+len(w.seen)) < version; {
			w.seen = append(w.seen, now)
		}
	}
}
