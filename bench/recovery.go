package main

// This file measures a restart of the handler on a long history: how long until it decides again,
// against only reading the same bytes, and how much memory a live job takes.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

func measureRecovery(ctx context.Context, s setting) (_ []Result, err error) {
	services := &services{}
	defer func() { err = errors.Join(err, services.stop()) }()
	if err := services.start(ctx, s.dir); err != nil {
		return nil, err
	}
	d := services.newDeployment(s.root, "recovery", 2)
	log, err := d.open(ctx)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	h := history{live: size("LIVE_JOBS", 100_000), finished: size("FINISHED_JOBS", 1_000_000)}
	began := time.Now()
	c, err := h.write(ctx, d, log)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(s.progress, "  %d live and %d finished jobs: %d records, %.0f MB of keys and values, written in %.0f s\n",
		h.live, h.finished, c.records, float64(c.bytes)/1e6, time.Since(began).Seconds())
	var recovered, read []float64
	for i := range s.rounds {
		took, err := c.recover(ctx, log)
		if err != nil {
			return nil, err
		}
		bare, records, err := c.count(ctx, log)
		if err != nil {
			return nil, err
		}
		recovered, read = append(recovered, took.Seconds()), append(read, bare.Seconds())
		fmt.Fprintf(s.progress, "  round %d: deciding again after %.2f s, %d records read in %.2f s\n", i+1, took.Seconds(), records, bare.Seconds())
	}
	return []Result{newResult("recovery", "s", recovered).against("counting consumer", read)}, nil
}

const recoveryWithin = 10 * time.Minute

// recover starts a handler and waits until it has decided a command in every partition.
func (c *chronicle) recover(ctx context.Context, log *eventlog.Log) (time.Duration, error) {
	r, took, err := c.restart(ctx, log)
	if err != nil {
		return 0, err
	}
	return took, r.stop()
}

// restart is recover with the handler left running, under further settings of its environment.
func (c *chronicle) restart(ctx context.Context, log *eventlog.Log, env ...string) (_ *role, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, recoveryWithin)
	defer cancel()
	if err := c.reset(ctx, log); err != nil {
		return nil, 0, err
	}
	ends, err := stableEnds(ctx, log, events.TopicJobCommands)
	if err != nil {
		return nil, 0, err
	}
	if err := log.Produce(ctx, oneCommandEach(len(ends))...); err != nil {
		return nil, 0, err
	}
	began := time.Now()
	r, err := c.deployment.start(context.WithoutCancel(ctx), "handler", "handler", env...)
	if err != nil {
		return nil, 0, err
	}
	for {
		offsets, err := committed(ctx, log)
		done := 0
		for at, end := range ends {
			if offsets[at] > end {
				done++
			}
		}
		if err == nil && done == len(ends) {
			return r, time.Since(began), nil
		}
		if err == nil {
			err = wait(ctx, 10*time.Millisecond, r.ended)
		}
		if err != nil {
			return nil, 0, errors.Join(fmt.Errorf("the handler decided in %d of %d partitions: %w", done, len(ends), err), r.stop())
		}
	}
}

// oneCommandEach asks, in every partition, to cancel a job that there never was: the answer to it
// changes nothing.
func oneCommandEach(partitions int) []eventlog.Record {
	var out []eventlog.Record
	have := map[int32]bool{}
	for n := 0; len(out) < partitions; n++ {
		id := events.JobID("bench", "nobody", strconv.Itoa(n))
		p := eventlog.PartitionFor(id, partitions)
		if have[p] {
			continue
		}
		have[p] = true
		command := events.NameID("cancel", id, strconv.FormatInt(time.Now().UnixNano(), 10))
		r, err := record(events.TopicJobCommands, events.Message{ID: command, AggregateType: events.AggregateJob, AggregateID: id, OccurredAt: time.Now().UTC(),
			CommandID: command, CausationID: command, CorrelationID: command, Tenant: "default", Actor: "bench", Columns: events.Columns{JobID: id}, Data: events.JobCancel{}})
		if err == nil { // a command without data always encodes
			out = append(out, r)
		}
	}
	return out
}

// count reads what recovery reads, and only counts it.
func (c *chronicle) count(ctx context.Context, log *eventlog.Log) (took time.Duration, records int, err error) {
	began := time.Now()
	err = scan(ctx, c.deployment, log, func(*kgo.Record) { records++ }, events.TopicJobIndex, events.TopicJobEvents)
	return time.Since(began), records, err
}

func measureState(ctx context.Context, s setting) (_ []Result, err error) {
	services := &services{}
	defer func() { err = errors.Join(err, services.stop()) }()
	if err := services.start(ctx, s.dir); err != nil {
		return nil, err
	}
	live := size("LIVE_JOBS", 100_000)
	var heap, resident []float64
	for i := range s.rounds {
		none, err := stateMemory(ctx, services, s.root, fmt.Sprint("state-none-", i), history{})
		if err != nil {
			return nil, err
		}
		full, err := stateMemory(ctx, services, s.root, fmt.Sprint("state-live-", i), history{live: live})
		if err != nil {
			return nil, err
		}
		heap, resident = append(heap, (full.heap-none.heap)/float64(live)), append(resident, (full.resident-none.resident)/float64(live))
		fmt.Fprintf(s.progress, "  round %d: %.1f MB of heap with %d live jobs, %.1f MB with none; resident %.1f and %.1f MB\n",
			i+1, full.heap/1e6, live, none.heap/1e6, full.resident/1e6, none.resident/1e6)
	}
	return []Result{newResult("state_bytes", "bytes", heap), newResult("state_bytes.resident", "bytes", resident)}, nil
}

// memory is what a handler takes, in bytes.
type memory struct{ heap, resident float64 }

// stateMemory is a handler's memory on a history. It collects its garbage eagerly, so that what the
// heap holds is what is used.
func stateMemory(ctx context.Context, services *services, root, name string, h history) (m memory, err error) {
	d := services.newDeployment(root, name, 2)
	log, err := d.open(ctx)
	if err != nil {
		return m, err
	}
	defer log.Close()
	c, err := h.write(ctx, d, log)
	if err != nil {
		return m, err
	}
	r, _, err := c.restart(ctx, log, "GOGC=5")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, r.stop()) }()
	m = memory{math.Inf(1), math.Inf(1)}
	for range 50 { // the least of five seconds: between two collections the heap holds garbage too
		heap, err := heapBytes(ctx, r.metrics)
		if err != nil {
			return m, err
		}
		resident, err := residentBytes(r.cmd.Process.Pid)
		if err != nil {
			return m, err
		}
		m.heap, m.resident = min(m.heap, heap), min(m.resident, float64(resident))
		if err := wait(ctx, 100*time.Millisecond, r.ended); err != nil {
			return m, err
		}
	}
	return m, nil
}

// heapBytes asks a process of ours how much its heap holds.
func heapBytes(ctx context.Context, addr string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("cannot ask for metrics: %w", err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, fmt.Errorf("cannot ask for metrics: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, fmt.Errorf("cannot read the metrics: %w", err)
	}
	return parseHeap(string(text))
}

var heapLine = regexp.MustCompile(`(?m)^go_memstats_heap_alloc_bytes (\S+)$`)

func parseHeap(metrics string) (float64, error) {
	m := heapLine.FindStringSubmatch(metrics)
	if m == nil {
		return 0, errors.New("the metrics do not tell how much the heap holds")
	}
	return strconv.ParseFloat(m[1], 64)
}
