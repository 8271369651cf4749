package main

// This file keeps a fixed number of jobs in flight on a system, ours or a peer's, and tells how
// many it finished a second and how long each took. Both are driven by this very code.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// flow is a system that runs jobs of four steps.
type flow interface {
	// submit hands jobs in. They are durable when it returns. Several calls may run at once.
	submit(ctx context.Context, ids []string) error
	// ends tells of every job that has ended well, when its end is durable.
	ends() <-chan ended
	// broken tells why no more jobs will end.
	broken() <-chan error
}

// ended is a finished job and when that was seen.
type ended struct {
	id string
	at time.Time
}

const (
	submitters  = 4                // so that no free place waits for another's acknowledgement
	submitBatch = 500              // jobs handed in at once at most, by us and by the peer alike
	stalled     = 90 * time.Second // without any end, nothing is expected to move again
)

// load says what to drive.
type load struct {
	prefix   string        // of the jobs' names, unique for each run
	inFlight int           // jobs handed in and not ended
	warm     int           // jobs that end before the measured time begins
	jobs     int           // that must end in the measured time
	time     time.Duration // how long that is at the least
}

// loaded is what was measured.
type loaded struct {
	inFlight int             // as the load says
	rate     float64         // jobs ended per second
	took     []time.Duration // of each job that ended in the measured time, in order of length
	ids      []string        // of all jobs handed in, warm-up included
	spent    time.Duration   // the measured time
}

// quantile of the jobs' durations, in milliseconds.
func (l loaded) quantile(q float64) float64 { return milliseconds(quantile(l.took, q)) }

// quantile is the smallest of at least one sorted value that no more than the share q lies below.
func quantile(sorted []time.Duration, q float64) time.Duration {
	n := int(q * float64(len(sorted)))
	return sorted[min(n, len(sorted)-1)]
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// driver is the state of one run.
type driver struct {
	load
	flow   flow
	places chan struct{} // one token for each job that may be handed in
	sent   chan sent     // from the submitters
	failed chan error
	began  map[string]time.Time // of the jobs in flight
	done   map[string]bool
	out    loaded
}

// sent is a batch that was handed in, and when that began.
type sent struct {
	ids []string
	at  time.Time
}

// drive runs a load to its end: when enough jobs have ended it stops handing in and waits until all
// have ended. A job that ends twice, or that nobody handed in, is an error.
func drive(ctx context.Context, f flow, l load) (loaded, error) {
	ctx, cancel := context.WithCancel(ctx)
	d := &driver{load: l, flow: f, places: make(chan struct{}, l.inFlight), sent: make(chan sent, l.inFlight), failed: make(chan error, submitters),
		began: map[string]time.Time{}, done: map[string]bool{}, out: loaded{inFlight: l.inFlight}}
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	stop, idle := make(chan struct{}), make(chan struct{})
	for n := range submitters {
		running.Go(func() { d.submit(ctx, n, stop) })
	}
	go func() { running.Wait(); close(idle) }()
	for range l.inFlight {
		d.places <- struct{}{}
	}
	err := d.follow(ctx, stop, idle)
	return d.out, err
}

// submit hands jobs in as places come free, until stop. Its number is part of their names.
func (d *driver) submit(ctx context.Context, number int, stop <-chan struct{}) {
	for n := 0; ; {
		select {
		case <-stop:
			return
		case <-ctx.Done():
			return
		case <-d.places:
		}
		ids := []string{d.name(number, &n)}
		for len(ids) < submitBatch && take(d.places) {
			ids = append(ids, d.name(number, &n))
		}
		began := time.Now()
		d.sent <- sent{ids, began} // there is room for all that can be in flight
		if err := d.flow.submit(ctx, ids); err != nil {
			d.failed <- fmt.Errorf("cannot hand jobs in: %w", err)
			return
		}
	}
}

// name is the next job's: a UUID, as both systems use them.
func (d *driver) name(number int, n *int) string {
	*n++
	return events.JobID("bench", d.prefix, strconv.Itoa(number)+"/"+strconv.Itoa(*n))
}

func take(places <-chan struct{}) bool {
	select {
	case <-places:
		return true
	default:
		return false
	}
}

// follow counts ends until there are enough, and then waits for the rest.
func (d *driver) follow(ctx context.Context, stop chan<- struct{}, idle <-chan struct{}) error {
	var from time.Time // of the measured time
	if d.warm == 0 {
		from = time.Now()
	}
	patience := time.NewTimer(stalled)
	defer patience.Stop()
	for stopping := false; idle != nil || len(d.began) > 0; {
		select {
		case s := <-d.sent:
			d.noteSent(s)
		case <-idle: // nothing more is handed in
			idle = nil
			d.noteAllSent()
		case err := <-d.failed:
			return err
		case err := <-d.flow.broken():
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return fmt.Errorf("no job ended for %v; %d are in flight, %d have ended", stalled, len(d.began), len(d.done))
		case e := <-d.flow.ends():
			patience.Reset(stalled)
			began, err := d.noteEnd(e)
			if err != nil {
				return err
			}
			switch {
			case stopping:
				continue
			case !from.IsZero():
				d.out.took = append(d.out.took, e.at.Sub(began))
			case len(d.done) >= d.warm:
				from = e.at
			}
			if !from.IsZero() && len(d.out.took) >= max(1, d.jobs) && e.at.Sub(from) >= d.time {
				d.out.spent, stopping = e.at.Sub(from), true
				close(stop)
				continue
			}
			d.places <- struct{}{}
		}
	}
	d.out.rate = float64(len(d.out.took)) / d.out.spent.Seconds()
	slices.Sort(d.out.took)
	return nil
}

// noteSent takes down jobs that are being handed in.
func (d *driver) noteSent(s sent) {
	for _, id := range s.ids {
		d.out.ids = append(d.out.ids, id)
		d.began[id] = s.at
	}
}

func (d *driver) noteAllSent() {
	for len(d.sent) > 0 { // this goroutine alone receives
		d.noteSent(<-d.sent)
	}
}

// noteEnd takes down an end and tells when the job was handed in.
func (d *driver) noteEnd(e ended) (time.Time, error) {
	d.noteAllSent() // its own submission may not have been looked at yet
	began, ok := d.began[e.id]
	switch {
	case d.done[e.id]:
		return began, fmt.Errorf("job %s ended twice", e.id)
	case !ok:
		return began, errors.New("a job ended that nobody handed in: " + e.id)
	}
	delete(d.began, e.id)
	d.done[e.id] = true
	return began, nil
}
