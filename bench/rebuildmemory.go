package main

// This file measures how much memory a rebuild takes on a short and on a long history.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

func measureRebuildMemory(ctx context.Context, s setting) (_ []Result, err error) {
	b, err := startTables(ctx, s, "memory")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	short := size("MEMORY_JOBS", 70_000) // 1 million facts, and then 3
	var peaks [2][]float64
	for i, jobs := range []int{short, 2 * short} {
		if err := b.write(ctx, jobs); err != nil {
			return nil, err
		}
		for range s.rounds {
			peak, err := b.rebuildProcess(ctx)
			if err != nil {
				return nil, err
			}
			peaks[i] = append(peaks[i], peak)
			fmt.Fprintf(s.progress, "  a rebuild of %d facts takes %.0f MB at most\n", b.jobs*factsPerJob, peak)
		}
	}
	return []Result{newResult("rebuild_memory", "MB", peaks[1]).against("a third of the history", peaks[0])}, nil
}

// rebuildProcess runs `myspinbot replay rebuild` and returns the most memory it had resident, in MB.
func (b *tablesBench) rebuildProcess(ctx context.Context) (_ float64, err error) {
	c := exec.CommandContext(ctx, b.deployment.program, "replay", "rebuild")
	c.Env, c.Dir = b.deployment.env, b.services.dir
	said, err := os.Create(filepath.Join(b.services.dir, "rebuild.log"))
	if err != nil {
		return 0, fmt.Errorf("cannot keep what the rebuild says: %w", err)
	}
	defer func() { err = errors.Join(err, said.Close()) }()
	c.Stdout, c.Stderr = said, said
	peak, err := peakOf(c)
	if err != nil {
		return 0, fmt.Errorf("the rebuild failed: %w\n%s", err, fileText(said.Name()))
	}
	return float64(peak) / 1e6, nil
}

// peakEvery is how often a program's memory is read. The kernel remembers the most, so that only
// what is taken within the last moment of its life is missed.
const peakEvery = 10 * time.Millisecond

// peakOf runs a program and returns the most memory it had resident, in bytes. It is not the Maxrss
// of getrusage(2): that begins with the memory of the process that has started the program, which
// is this one with all the facts that it wrote.
func peakOf(c *exec.Cmd) (peak int64, err error) {
	if err := c.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	tick := time.NewTicker(peakEvery)
	defer tick.Stop()
	unread := errors.New("it ended before its memory could be read")
	for {
		select {
		case err := <-ended:
			if err == nil && peak == 0 {
				err = unread
			}
			return peak, err
		case <-tick.C:
			now, err := peakBytes(c.Process.Pid)
			if err != nil {
				unread = err
				continue // it has ended, or this system does not tell
			}
			peak = max(peak, now)
		}
	}
}
