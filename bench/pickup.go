package main

// This file measures the lanes alone, without a handler: how soon an idle lane takes a command.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// laneCommand is a task.run as the handler writes it, for a partition of the script lane.
func laneCommand(name string, n, partitions int, params map[string]any) (eventlog.Record, error) {
	id := events.JobID("bench", name, strconv.Itoa(n))
	task := events.TaskRun{Params: params, Plane: events.PlaneGPU, Mode: "diagnostic", Workflow: "diagnostic_v1",
		Subject: "default/-/" + id, TimeoutMS: 600_000}
	r, err := record(events.LaneTopic(events.LaneScript), events.Message{
		ID: events.AttemptID(id, events.LaneScript, 1), AggregateType: events.AggregateJob, AggregateID: id, OccurredAt: time.Now().UTC(),
		CommandID: id, CausationID: id, CorrelationID: id, Tenant: "default", Actor: "bench",
		Columns: events.Columns{JobID: id, Stage: events.LaneScript, Task: "noop.script", Attempt: 1, Lane: events.LaneScript, Variant: "noop"},
		Data:    task,
	})
	r.Partition = int32(n % partitions) //nolint:gosec // a few
	return r, err
}

// laneBench is a worker on lanes to which the driver writes by itself.
type laneBench struct {
	deployment *deployment
	log        *eventlog.Log
	worker     *role
	reader     *kgo.Client // of gpu.events, from before the first command
}

// startLane starts a worker with the slots on the script lane, of as many partitions as given.
func (s *services) startLane(ctx context.Context, root, name string, partitions, slots int) (_ *laneBench, err error) {
	b := &laneBench{deployment: s.newDeployment(root, name, partitions, fmt.Sprintf("MYSPINBOT_LANES_SCRIPT_SLOTS=%d", slots), "MYSPINBOT_GPU_LANES="+events.LaneScript)}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.stop())
		}
	}()
	if b.log, err = b.deployment.open(ctx); err != nil {
		return nil, err
	}
	if b.worker, err = b.deployment.start(ctx, "gpu", "gpu"); err != nil {
		return nil, err
	}
	from, err := stableEnds(ctx, b.log, events.TopicTaskEvents)
	if err != nil {
		return nil, err
	}
	b.reader, err = rawReader(b.deployment, from)
	return b, err
}

func (b *laneBench) stop() error {
	if b.reader != nil {
		b.reader.Close()
	}
	var err error
	if b.worker != nil {
		err = b.worker.stop()
	}
	if b.log != nil {
		b.log.Close()
	}
	return err
}

// answers passes every event of the kind on until the context ends or take says that it is enough.
func (b *laneBench) answers(ctx context.Context, kind string, take func(r *kgo.Record, at time.Time) (enough bool)) error {
	for {
		fetches := b.reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("cannot read what the lane says: %w", err)
		}
		now := time.Now()
		enough := false
		fetches.EachRecord(func(r *kgo.Record) {
			if typeOf(r) == kind && take(r, now) {
				enough = true
			}
		})
		if enough {
			return nil
		}
		select {
		case <-b.worker.ended:
			return b.worker.fault()
		default:
		}
	}
}

// pickup is the flow of one command each, at a fixed rate.
type pickup struct {
	rate, warm, count int
}

func pickupSize() pickup {
	rate := size("PICKUP_RATE", 300)
	return pickup{rate, size("PICKUP_WARM", 20*rate), size("PICKUP_COUNT", 10*rate)}
}

// offer calls send for every command when its time has come, whatever became of those before, and
// returns when that was by the command's number. Who is late is late from then on.
func (p pickup) offer(ctx context.Context, send func(n int)) ([]time.Time, error) {
	every := time.Second / time.Duration(p.rate)
	due := make([]time.Time, p.warm+p.count)
	began := time.Now()
	for n := range due {
		due[n] = began.Add(time.Duration(n) * every)
		if ahead := time.Until(due[n]); ahead > 0 {
			if err := wait(ctx, ahead, nil); err != nil {
				return nil, err
			}
		}
		send(n)
	}
	return due, nil
}

// took are the sorted times from due to seen, without the warm-up.
func (p pickup) took(due []time.Time, seen map[int]time.Time) ([]time.Duration, error) {
	out := make([]time.Duration, 0, p.count)
	for n := p.warm; n < len(due); n++ {
		at, ok := seen[n]
		if !ok {
			return nil, fmt.Errorf("command %d was never picked up", n)
		}
		out = append(out, at.Sub(due[n]))
	}
	slices.Sort(out)
	return out, nil
}

func measurePickup(ctx context.Context, s setting) (_ []Result, err error) {
	services := &services{}
	defer func() { err = errors.Join(err, services.stop()) }()
	if err := services.start(ctx, s.dir); err != nil {
		return nil, err
	}
	p := pickupSize()
	var p95, p50, peer95, peer50 []float64
	for i := range s.rounds {
		ours, err := p.ours(ctx, services, s.root, i)
		if err != nil {
			return nil, err
		}
		theirs, err := p.river(ctx, services.postgres)
		if err != nil {
			return nil, err
		}
		p95, p50 = append(p95, milliseconds(quantile(ours, .95))), append(p50, milliseconds(quantile(ours, .5)))
		peer95, peer50 = append(peer95, milliseconds(quantile(theirs, .95))), append(peer50, milliseconds(quantile(theirs, .5)))
		fmt.Fprintf(s.progress, "  round %d: %d commands/s: p50 %.1f ms, p95 %.1f ms; River p50 %.1f ms, p95 %.1f ms\n", i+1, p.rate, p50[i], p95[i], peer50[i], peer95[i])
	}
	return []Result{newResult("pickup_p95", "ms", p95).against("River, tuned", peer95), newResult("pickup_p95.p50", "ms", p50).against("River, tuned", peer50)}, nil
}

// ours offers commands to an idle lane and sees them accepted.
func (p pickup) ours(ctx context.Context, services *services, root string, round int) (_ []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	name, partitions := fmt.Sprint("pickup-", round), jobLanes()
	b, err := services.startLane(ctx, root, "pickup", partitions, min(partitions, 100))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.awaitAccepting(ctx, name, partitions); err != nil {
		return nil, err
	}
	numbers := map[string]int{}
	records := make([]eventlog.Record, p.warm+p.count)
	for n := range records {
		if records[n], err = laneCommand(name, n, partitions, nil); err != nil {
			return nil, err
		}
		numbers[records[n].Key] = n
	}
	seen := map[int]time.Time{}
	read := make(chan error, 1)
	go func() {
		read <- b.answers(ctx, events.TaskAccepted{}.EventType(), func(r *kgo.Record, at time.Time) bool {
			if n, ok := numbers[string(r.Key)]; ok {
				seen[n] = at
			}
			return len(seen) == len(records)
		})
	}()
	failed := make(chan error, len(records))
	due, err := p.offer(ctx, func(n int) {
		go func() {
			if err := b.log.Produce(ctx, records[n]); err != nil {
				failed <- err
			}
		}()
	})
	if err != nil {
		return nil, err
	}
	select {
	case err = <-read:
	case err = <-failed:
	}
	if err != nil {
		return nil, err
	}
	return p.took(due, seen)
}

// awaitAccepting waits until the worker takes commands on every partition.
func (b *laneBench) awaitAccepting(ctx context.Context, name string, partitions int) error {
	missing := map[string]bool{}
	for n := range partitions {
		r, err := laneCommand(name+"/probe", n, partitions, nil)
		if err != nil {
			return err
		}
		missing[r.Key] = true
		if err := b.log.Produce(ctx, r); err != nil {
			return err
		}
	}
	return b.answers(ctx, events.TaskAccepted{}.EventType(), func(r *kgo.Record, _ time.Time) bool {
		delete(missing, string(r.Key))
		return len(missing) == 0
	})
}

// river offers jobs of one step to River and sees their workers begin.
func (p pickup) river(ctx context.Context, url string) (_ []time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	f, err := startRiver(ctx, url, 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.stop(context.WithoutCancel(ctx))) }()
	seen := map[int]time.Time{}
	failed := make(chan error, p.warm+p.count)
	due, err := p.offer(ctx, func(n int) {
		go func() {
			if err := f.submit(ctx, []string{strconv.Itoa(n)}); err != nil {
				failed <- err
			}
		}()
	})
	if err != nil {
		return nil, err
	}
	for len(seen) < len(due) {
		select {
		case e := <-f.began:
			n, err := strconv.Atoi(e.id)
			if err != nil {
				return nil, err
			}
			seen[n] = e.at
		case err := <-failed:
			return nil, err
		case err := <-f.err:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return p.took(due, seen)
}
