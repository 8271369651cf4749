package main

// This file hands jobs to our system through the log and sees them end there, as any reader does.

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// ourFlow is our system while its roles run. It implements flow.
type ourFlow struct {
	log    *eventlog.Log
	roles  []*role
	reader *kgo.Client
	done   chan ended
	err    chan error
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	from   eventlog.Offsets // of jobs.events, before the first job
	other  map[string]bool  // jobs that ended otherwise; of probes alone
	mu     sync.Mutex
}

// startOurs starts the roles and waits until a job has gone through all of them.
func startOurs(ctx context.Context, d *deployment, log *eventlog.Log, withTables bool) (_ *ourFlow, err error) {
	f := &ourFlow{log: log, done: make(chan ended, 1<<16), err: make(chan error, 4), other: map[string]bool{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.stop())
		}
	}()
	var following context.Context // ends before the roles are stopped
	following, f.cancel = context.WithCancel(ctx)
	if f.from, err = stableEnds(ctx, log, events.TopicJobEvents); err != nil {
		return nil, err
	}
	if f.reader, err = rawReader(d, f.from); err != nil {
		return nil, err
	}
	f.tasks.Go(func() { f.follow(following) })
	processes := map[string]string{"handler": "handler", "gpu": "gpu"}
	if withTables {
		processes["projector"] = "projector"
	}
	for name, roles := range processes {
		r, err := d.start(ctx, name, roles)
		if err != nil {
			return nil, err
		}
		f.roles = append(f.roles, r)
		f.tasks.Go(func() {
			select {
			case <-r.ended:
				f.fail(r.fault())
			case <-following.Done():
			}
		})
	}
	return f, f.awaitServing(ctx)
}

// stableEnds is where the next committed record of each partition of the topic will lie, or before it.
func stableEnds(ctx context.Context, log *eventlog.Log, topics ...string) (eventlog.Offsets, error) {
	ranges, err := rangesOf(ctx, log, topics...)
	if err != nil {
		return nil, err
	}
	ends := eventlog.Offsets{}
	for at, r := range ranges {
		ends[at] = r.Stable
	}
	return ends, nil
}

// typeOf is the value of the record's ce_type header.
func typeOf(r *kgo.Record) string {
	for i := range r.Headers {
		if r.Headers[i].Key == "ce_type" {
			return string(r.Headers[i].Value)
		}
	}
	return ""
}

// follow sees jobs end.
func (f *ourFlow) follow(ctx context.Context) {
	for {
		fetches := f.reader.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		if err := fetches.Err(); err != nil {
			f.fail(fmt.Errorf("cannot read the log: %w", err))
			return
		}
		now := time.Now()
		fetches.EachRecord(func(r *kgo.Record) {
			switch kind := typeOf(r); kind {
			case events.JobSucceeded{}.EventType():
				f.done <- ended{string(r.Key), now}
			case events.JobFailed{}.EventType(), events.JobRejected{}.EventType(), events.JobCancelled{}.EventType():
				f.mu.Lock()
				f.other[string(r.Key)] = true
				f.mu.Unlock()
				f.done <- ended{string(r.Key), now}
			}
		})
	}
}

func (f *ourFlow) fail(err error) {
	select {
	case f.err <- err:
	default: // one is enough
	}
}

func (f *ourFlow) ends() <-chan ended   { return f.done }
func (f *ourFlow) broken() <-chan error { return f.err }

func (f *ourFlow) submit(ctx context.Context, ids []string) error {
	now := time.Now()
	records := make([]eventlog.Record, len(ids))
	for i, id := range ids {
		var err error
		if records[i], err = submission(id, now); err != nil {
			return err
		}
	}
	return f.log.Produce(ctx, records...)
}

const servingWithin = 2 * time.Minute

// awaitServing hands in one job after the other until one succeeds: before the handler knows of
// workers it rejects them.
func (f *ourFlow) awaitServing(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, servingWithin)
	defer cancel()
	for n := 0; ; n++ {
		id := events.JobID("bench", "probe", time.Now().String())
		if err := f.submit(ctx, []string{id}); err != nil {
			return err
		}
		select {
		case <-f.done:
		case err := <-f.err:
			return err
		case <-ctx.Done():
			return fmt.Errorf("no job ended within %v of the start: %w", servingWithin, ctx.Err())
		}
		f.mu.Lock()
		bad := f.other[id]
		f.mu.Unlock()
		if !bad {
			return nil
		}
		if err := wait(ctx, 100*time.Millisecond, nil); err != nil {
			return fmt.Errorf("jobs are rejected, %d so far: %w", n+1, err)
		}
	}
}

// stop ends the roles.
func (f *ourFlow) stop() error {
	if f.cancel == nil {
		return nil
	}
	f.cancel()
	err := stopRoles(f.roles)
	f.tasks.Wait()
	if f.reader != nil {
		f.reader.Close()
	}
	return err
}

// check tells whether the log holds each of the jobs once: its facts continue their chain, it
// succeeded once, after four stages that each succeeded once, in their first attempt.
func (f *ourFlow) check(ctx context.Context, ids []string) error {
	c := newOnceCheck(ids)
	if _, err := f.log.Read(ctx, f.from, c.add); err != nil {
		return fmt.Errorf("cannot check what we did: %w", err)
	}
	return c.verdict()
}
