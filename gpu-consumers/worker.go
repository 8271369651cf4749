// The worker: one process that hosts lanes, from its start to its end.

package gpu

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// Config is what a worker needs. Log, Objects, Keyring, Worker, Slots and Engines
// have no default.
type Config struct {
	Log     *eventlog.Log
	Objects *objects.Store
	Keyring *objects.Keyring

	// Worker names this process among its peers: letters, digits, dots, dashes and
	// underscores. Two processes of one name throw each other out.
	Worker string
	// Slots is how many commands of each lane run here at once. A lane that is not
	// named, or that no engine serves, is left to other workers.
	Slots map[string]int
	// Engines in the order of preference: of those for a task, the first that can
	// run now and takes the attempt's inputs does. See TextEngines.
	Engines []engine

	// Lease is how long the worker may be silent before its attempts are taken for
	// lost, at least 1 s; default 15 s.
	Lease   time.Duration
	TempDir string // work files lie in a folder of it that is emptied at start; default os.TempDir
	GPU     string // name of the card, for the manifest; default what it says itself
	Memory  MemoryConfig
	// Grace is how long running attempts may go on after the end was asked for.
	// Default 2 s, so that with stopping children (3 s) and reporting to a log that
	// is away (3 s) the whole end stays below 10 s.
	Grace time.Duration

	Registerer prometheus.Registerer // nil: metrics are not shown
	Logger     *slog.Logger          // default slog.Default
}

// pace is every interval of the worker, so that tests need not wait.
type pace struct {
	lease       time.Duration // said in task.accepted
	first       time.Duration // before the first beat of an attempt; one that is over by then has none
	beat        time.Duration // between two beats of a running attempt, at most
	progress    time.Duration // between two progress records, at least
	manifest    time.Duration // between two looks at the engines
	manifestGap time.Duration // between two manifests, at least
	store       time.Duration // how long an object store that is away is waited for
	sealing     time.Duration // for the key of a failure's log tail
}

var usualPace = pace{
	first: 200 * time.Millisecond, progress: 250 * time.Millisecond,
	manifest: 10 * time.Second, manifestGap: time.Second, store: 30 * time.Second, sealing: time.Second,
}

const (
	usualLease    = 15 * time.Second
	shortestLease = time.Second
	longestBeat   = 5 * time.Second
)

// of sets the lease, and the beats by it: two of three may be lost.
func (p pace) of(lease time.Duration) pace {
	p.lease, p.beat = lease, min(lease/3, longestBeat)
	return p
}

// Worker runs lanes until its context ends.
type Worker struct {
	cfg     Config
	pace    pace
	dir     string // of all attempts
	log     *slog.Logger
	roster  *roster
	memory  *memory
	pauses  pauses
	turns   turns
	seats   seats
	metrics *taskMetrics

	accepting accepting
	stops     stops
	settler   settler
}

var workerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// New checks the configuration. Run does the work.
func New(cfg Config) (*Worker, error) {
	var faults []error
	if cfg.Log == nil || cfg.Objects == nil || cfg.Keyring == nil {
		faults = append(faults, errors.New("a worker needs the log, the object store and the keyring"))
	}
	if !workerName.MatchString(cfg.Worker) {
		faults = append(faults, fmt.Errorf("worker name %q: want 1 to 100 letters, digits, dots, dashes or underscores", cfg.Worker))
	}
	if len(cfg.Engines) == 0 {
		faults = append(faults, errors.New("a worker needs at least one engine"))
	}
	if cfg.Lease != 0 && cfg.Lease < shortestLease {
		faults = append(faults, fmt.Errorf("lease %v: want at least %v", cfg.Lease, shortestLease))
	}
	for lane, n := range cfg.Slots {
		if n < 1 {
			faults = append(faults, fmt.Errorf("lane %q: %d slots; give at least 1, or leave the lane out", lane, n))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, fmt.Errorf("cannot make a worker: %w", err)
	}
	if cfg.Grace <= 0 {
		cfg.Grace = 2 * time.Second
	}
	if cfg.TempDir == "" {
		cfg.TempDir = os.TempDir()
	}
	temp, err := filepath.Abs(cfg.TempDir)
	if err != nil {
		return nil, fmt.Errorf("cannot use the work folder %q: %w", cfg.TempDir, err)
	}
	metrics, err := newTaskMetrics(cfg.Registerer)
	if err != nil {
		return nil, err
	}
	w := &Worker{
		cfg: cfg, pace: usualPace.of(cmp.Or(cfg.Lease, usualLease)), dir: filepath.Join(temp, "myspinbot-worker-"+cfg.Worker),
		log: cfg.Logger, roster: newRoster(cfg.Engines, cfg.Slots), metrics: metrics,
	}
	if w.log == nil {
		w.log = slog.Default()
	}
	w.log = w.log.With("worker", cfg.Worker)
	w.roster.memory, err = newMemory(cfg.Memory, cfg.Worker, cfg.Engines, w.log, metrics.memory, w.roster.changed)
	if err != nil {
		return nil, fmt.Errorf("cannot make a worker: %w", err)
	}
	w.memory = w.roster.memory
	w.turns.roster = w.roster
	w.seats.roster = w.roster
	w.pauses.known = make(chan struct{})
	w.settler = settler{log: cfg.Log, lease: w.pace.lease, warn: w.log.Warn}
	return w, nil
}

// Run announces the worker and runs its lanes until ctx ends; then it takes no
// more commands, gives the running ones their grace, reports those that it has to
// stop as failed, and says goodbye. It survives outages of the log and of the
// object store, and returns an error only where the process has to end:
// eventlog.ErrFenced and eventlog.ErrDataLoss among them.
func (w *Worker) Run(ctx context.Context) (err error) {
	// What a killed predecessor of this name left behind goes as well.
	if err := os.RemoveAll(w.dir); err != nil {
		return fmt.Errorf("cannot empty the work folder: %w", err)
	}
	if err := os.MkdirAll(w.dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the work folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(w.dir)) }()

	lanes, ctx := errgroup.WithContext(ctx)
	announcing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	announced := make(chan struct{})
	go func() {
		defer close(announced)
		w.announce(announcing)
	}()
	lanes.Go(func() error { return w.heedStops(ctx) })
	lanes.Go(func() error { return w.runLanes(ctx) })
	lanes.Go(func() error { return w.memory.run(ctx) })
	lanes.Go(func() error { return w.heedPauses(ctx) })
	<-ctx.Done() // asked for, or because a lane cannot go on
	err = lanes.Wait()
	stop()
	<-announced
	return errors.Join(err, w.memory.close())
}

// runLanes takes part in the lanes' group, for each lane once some engine of it can
// run: a worker that can run nothing would only take commands from those who can.
func (w *Worker) runLanes(ctx context.Context) error {
	lanes, err := w.cfg.Log.NewLanes()
	if err != nil {
		return err
	}
	w.memory.serves(lanes)
	w.pauses.serve(lanes)
	w.turns.serve(lanes)
	w.seats.serve(lanes)
	g, running := errgroup.WithContext(ctx)
	g.Go(func() error { return lanes.Run(running) })
	g.Go(func() error { return w.openLanes(running, lanes) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the lanes cannot go on: %w", err)
	}
	return nil
}

// openLanes adds lanes as their engines get ready.
func (w *Worker) openLanes(ctx context.Context, lanes *eventlog.Lanes) error {
	for waiting := w.roster.lanes(); len(waiting) > 0; {
		ready := w.roster.awaitAny(ctx, waiting)
		if len(ready) == 0 {
			return nil
		}
		w.memory.open(ctx)
		if !w.pauses.await(ctx) {
			return nil
		}
		var opened []eventlog.LaneConfig
		for _, lane := range ready {
			w.reportInterrupted(ctx, lane)
			opened = append(opened, eventlog.LaneConfig{
				Lane: lane, Slots: w.cfg.Slots[lane], Admit: w.admit, Withdraw: w.withdraw, Accept: w.accept, Run: w.run, Settled: w.settler.settled,
				Soon: w.turns.soon, Grace: w.cfg.Grace,
				Able:     func() []string { return w.seats.tell(lane) },
				Assigned: func(partitions []int32) { w.roster.assigned(lane, partitions) },
			})
		}
		if err := w.pauses.add(lanes, opened); err != nil {
			return err
		}
		waiting = slices.DeleteFunc(waiting, func(lane string) bool { return slices.Contains(ready, lane) })
	}
	return nil
}
