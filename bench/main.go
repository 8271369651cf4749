// Command bench measures MySpinBot beside a peer or a limit in the same run; `make bench` runs it.
//
// What belongs here: measures, their peers, and the driver that prints a table and writes
// results.json. What may not: tests of behaviour, and anything that the program itself needs. It is
// a module of its own so that the peers' dependencies never reach the program's. No measure decides
// whether a change is good: an absolute figure holds for one machine and one hour, and the ratio
// to the peer is what counts.
package main

// This file holds the command line: it chooses the measures, runs them and keeps what they found.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() { <-ctx.Done(); stop() }() // a second signal kills
	if len(os.Args) > 1 && os.Args[1] == bareCommand {
		os.Exit(runBare(ctx, os.Args[2:], os.Stderr))
	}
	os.Exit(run(ctx, os.Args[1:], measures(), os.Stdout, os.Stderr))
}

// measures is everything that can be run, in the order of the table.
func measures() []measure {
	return []measure{
		{"talking_photo", measureTalkingPhoto},
		{"footprint", measureFootprint},
		{"jobs_per_second", measureJobs},
		{"job_latency_idle", measureIdle},
		{"handler_share", measureShare},
		{"accept_rate", measureAccept},
		{"pickup_p95", measurePickup},
		{"slot_busy", measureSlotBusy},
		{"model_swaps", measureSwaps},
		{"recovery", measureRecovery},
		{"state_bytes", measureState},
		{"rebuild_rows", measureRebuild},
		{"fold_rate", measureFold},
		{"projector_rate", measureProjector},
		{"read_lag", measureReadLag},
		{"list_page", measureListPage},
		{"sse_lag", measureStreams},
		{"slow_clients", measureSlowClients},
		{"rebuild_memory", measureRebuildMemory},
	}
}

// run is the whole command; it returns the exit status: 0 fine, 1 a measure failed, 2 wrong usage.
func run(ctx context.Context, args []string, all []measure, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	only := flags.String("only", "", "measures to run, separated by commas; empty: all")
	rounds := flags.Int("rounds", 5, "rounds of each measure; the table shows their median")
	out := flags.String("out", "bench-output", "folder for results.json")
	root := flags.String("root", ".", "the checkout, after `make deps deps-test build`")
	if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	chosen, err := choose(all, *only)
	switch {
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("bench takes flags only, not %q", flags.Arg(0))
	case err == nil && (*rounds < 1 || *rounds > 1000):
		err = fmt.Errorf("%d rounds are not possible: use 1 to 1000", *rounds)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 2
	}
	if err := runMeasures(ctx, chosen, setting{root: *root, rounds: *rounds, progress: stderr}, *out, stdout); err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	return 0
}

// runMeasures runs one measure after the other. One that fails does not keep the others from
// being reported; its error comes back in the end.
func runMeasures(ctx context.Context, chosen []measure, s setting, out string, stdout io.Writer) error {
	var err error
	if s.root, err = filepath.Abs(s.root); err != nil {
		return fmt.Errorf("cannot find the checkout: %w", err)
	}
	fmt.Fprint(stdout, machine(ctx))
	fmt.Fprintf(stdout, "load before: %s\n", loadAverage())
	results := []Result{}
	var faults []error
	for _, m := range chosen {
		found, err := m.within(ctx, s)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s could not be measured: %w", m.id, err))
			continue
		}
		results = append(results, found...)
	}
	fmt.Fprintf(stdout, "load after:  %s\n\n", loadAverage())
	faults = append(faults, printTable(stdout, results), writeResults(out, results))
	return errors.Join(faults...)
}

// within gives the measure a temporary folder for as long as it runs.
func (m measure) within(ctx context.Context, s setting) (found []Result, err error) {
	if s.dir, err = os.MkdirTemp("", "myspinbot-bench-"); err != nil {
		return nil, fmt.Errorf("cannot make a temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	fmt.Fprintf(s.progress, "%s …\n", m.id)
	return m.run(ctx, s)
}
