package main

// This file measures how much of a slot's time is work while commands wait, and how long it
// stands idle between two tasks.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
)

// measureSlotBusy fills one slot with tasks of a second each.
func measureSlotBusy(ctx context.Context, s setting) (_ []Result, err error) {
	services := &services{}
	defer func() { err = errors.Join(err, services.stop()) }()
	if err := services.start(ctx, s.dir); err != nil {
		return nil, err
	}
	var shares, gaps, gapsP99 []float64
	for i := range s.rounds {
		share, runs, err := slotBusy(ctx, services, s.root, i)
		if err != nil {
			return nil, err
		}
		between, err := gapsOf(runs)
		if err != nil {
			return nil, err
		}
		shares = append(shares, 100*share)
		gaps, gapsP99 = append(gaps, milliseconds(quantile(between, .5))), append(gapsP99, milliseconds(quantile(between, .99)))
		fmt.Fprintf(s.progress, "  round %d: the slot worked %.2f %% of the time; between two tasks p50 %.2f ms, p99 %.2f ms\n", i+1, shares[i], gaps[i], gapsP99[i])
	}
	limit := make([]float64, len(shares))
	for i := range limit {
		limit[i] = 100
	}
	return []Result{newResult("slot_busy", "%", shares).against("the whole time", limit), newResult("slot_busy.gap", "ms", gaps), newResult("slot_busy.gap_p99", "ms", gapsP99)}, nil
}

// slotBusy is the share of the time between the first task's end and the last one's that was work,
// and when the engine ran.
func slotBusy(ctx context.Context, services *services, root string, round int) (_ float64, runs []engineRun, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	const partitions = 4
	workMS, count := size("SLOT_WORK_MS", 1000), size("SLOT_TASKS", 30)
	b, err := services.startLane(ctx, root, "slot", partitions, 1)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	ours := map[string]bool{}
	for n := range count {
		r, err := laneCommand(fmt.Sprint("slot-", round), n, partitions, map[string]any{"work_ms": workMS, "clock": 1})
		if err != nil {
			return 0, nil, err
		}
		ours[r.Key] = true
		if err := b.log.Produce(ctx, r); err != nil {
			return 0, nil, err
		}
	}
	var first, last time.Time
	var fault error
	err = b.answers(ctx, events.TaskSucceeded{}.EventType(), func(r *kgo.Record, at time.Time) bool {
		if !ours[string(r.Key)] {
			return false
		}
		delete(ours, string(r.Key))
		if first.IsZero() {
			first = at
		}
		last = at
		run, err := runOf(r.Value)
		runs, fault = append(runs, run), errors.Join(fault, err)
		return len(ours) == 0
	})
	return float64((count-1)*workMS) / milliseconds(last.Sub(first)), runs, errors.Join(err, fault)
}

// engineRun is when the engine ran one task, by its own clock.
type engineRun struct{ began, ended time.Time }

// runOf reads it from the result of a no-op task that was asked for its clock.
func runOf(value []byte) (r engineRun, err error) {
	m, err := events.Decode(value)
	if err != nil {
		return r, fmt.Errorf("cannot read a task's result: %w", err)
	}
	done, _ := m.Data.(events.TaskSucceeded)
	if len(done.Notes) != 2 {
		return r, fmt.Errorf("the result of job %s does not tell when its engine ran", m.AggregateID)
	}
	for i, at := range []*time.Time{&r.began, &r.ended} {
		if *at, err = time.Parse(time.RFC3339Nano, done.Notes[i]); err != nil {
			return r, fmt.Errorf("cannot read when an engine ran: %w", err)
		}
	}
	return r, nil
}

// gapsOf are the sorted times between the end of a run and the begin of the next one, of runs of one
// slot. It is an error when two of them overlap: that is no slot.
func gapsOf(runs []engineRun) ([]time.Duration, error) {
	if len(runs) < 2 {
		return nil, fmt.Errorf("%d tasks have no gap between them: give at least 2", len(runs))
	}
	runs = slices.SortedFunc(slices.Values(runs), func(a, b engineRun) int { return a.began.Compare(b.began) })
	gaps := make([]time.Duration, len(runs)-1)
	for i := range gaps {
		if gaps[i] = runs[i+1].began.Sub(runs[i].ended); gaps[i] < 0 {
			return nil, fmt.Errorf("two tasks ran at once in one slot, for %v", -gaps[i])
		}
	}
	slices.Sort(gaps)
	return gaps, nil
}
