// The rebuild: a new generation of the tables from the log, beside the live one, and
// the switch to it in one transaction.

package projections

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// RebuildOptions choose what a rebuild does; the zero value rebuilds everything.
type RebuildOptions struct {
	// Table is the only one to be made anew, with those that its fold builds on; the
	// others are taken over as they are. Empty: all.
	Table string
	// Compare holds every row of the new tables against the live ones, at the same
	// offsets, and does not switch if any differs.
	Compare bool
	// KeepOld leaves the tables that were live in their schema.
	KeepOld bool
	// Fresh drops what an earlier rebuild has left half built; otherwise it goes on with that.
	Fresh bool
	// Report, if given, is told after every step how far the rebuild is, by one goroutine at a time.
	Report func(Progress)
}

// Phases of a rebuild.
const (
	PhaseCopy    = "copy"    // rows from the log
	PhaseIndex   = "index"   // their indexes
	PhaseCatchUp = "catchup" // what was written meanwhile
	PhaseCompare = "compare"
	PhaseSwitch  = "switch"
)

// Progress is how far a rebuild has come, in offsets of the log (markers count).
type Progress struct {
	Generation  int
	Phase       string // one of the Phase constants
	Done, Total int64
	Events      int64 // facts folded in this run
}

// Rebuilt is what a rebuild has done.
type Rebuilt struct {
	Generation int    // readers see it now, unless Differences is not empty
	Old        int    // the one before; 0: none
	Resumed    bool   // an earlier rebuild's half-built generation was finished
	Events     int64  // facts folded in this run
	Compared   Report // if asked for
}

// ErrDifferent says that the new tables are not as the live ones, which stay.
var ErrDifferent = errors.New("the rebuilt tables differ from the live ones")

const (
	// claimPatience is how long a rebuild waits for the one who builds already: after a
	// kill -9 the server takes a moment to notice.
	claimPatience = 5 * time.Second
	// nearby is how many offsets may be missing when the live projector is held for the switch.
	nearby = 2000
	// switchWithin bounds the time for which the live projector is held.
	switchWithin = 15 * time.Second
	// switchAttempts is how often a switch is tried while readers keep the views or the log outruns it.
	switchAttempts = 60
)

// Rebuild makes a new generation of the tables from the log while the live one serves
// readers, and switches to it in one transaction, in which it is as far as the live
// one. A running projector goes on with the new one by itself. A rebuild that was
// stopped at any moment has changed nothing for readers, and the next one goes on with
// its generation. A partition that cannot be read is an error after the switch;
// before it if the live tables know more of it. Errors also: migrations.ErrBusy, ErrDifferent.
func Rebuild(ctx context.Context, cfg Config, o RebuildOptions) (Rebuilt, error) {
	return rebuildAll(ctx, newProjector(cfg, wholeLog{cfg.Log}), o)
}

func rebuildAll(ctx context.Context, p *Projector, o RebuildOptions) (Rebuilt, error) {
	b, err := rebuild(ctx, p, o)
	if b == nil {
		return Rebuilt{}, err
	}
	if err != nil {
		return b.made, err
	}
	var stopped []error
	for _, why := range b.stopped {
		stopped = append(stopped, errors.New(why))
	}
	if err := errors.Join(stopped...); err != nil {
		return b.made, fmt.Errorf("cannot rebuild all of the tables: %w", err)
	}
	return b.made, nil
}

// builder builds one generation.
type builder struct {
	p     *Projector
	o     RebuildOptions
	claim *pgx.Conn // holds the right to build while it is open
	g     migrations.Generation
	taken taken
	made  Rebuilt

	mu       sync.Mutex
	at       eventlog.Offsets // where the generation stands
	seen     eventlog.Offsets // how far sessions are that have not committed it
	stopped  map[eventlog.TopicPartition]string
	progress Progress
}

// rebuild builds a generation and switches to it. The builder tells what came of it, unless nothing was begun.
func rebuild(ctx context.Context, p *Projector, o RebuildOptions) (*builder, error) {
	if err := migrations.Apply(ctx, p.cfg.Pool); err != nil {
		return nil, err
	}
	b := &builder{p: p, o: o, stopped: make(map[eventlog.TopicPartition]string)}
	if err := b.own(ctx); err != nil {
		return nil, err
	}
	defer func() { _ = b.claim.Close(context.WithoutCancel(ctx)) }()
	if err := b.begin(ctx); err != nil {
		return nil, fmt.Errorf("cannot begin the rebuild: %w", err)
	}
	if err := b.build(ctx); err != nil {
		if ctx.Err() != nil { // what broke then is only what it broke
			err = ctx.Err()
		}
		return b, fmt.Errorf("cannot finish the rebuild of generation %d: %w", b.g.Number, err)
	}
	return b, nil
}

// own takes the right to build.
func (b *builder) own(ctx context.Context) error {
	conn, err := b.p.cfg.Pool.Acquire(ctx)
	if err != nil {
		return readError(ctx, err)
	}
	b.claim = conn.Hijack()
	patience, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	for {
		if err = migrations.Claim(ctx, b.claim); !errors.Is(err, migrations.ErrBusy) {
			break
		}
		if pause(patience, 100*time.Millisecond) != nil {
			break
		}
	}
	if err != nil {
		_ = b.claim.Close(context.WithoutCancel(ctx))
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// begin finds a half-built generation or makes a new one, and where it stands.
func (b *builder) begin(ctx context.Context) error {
	_ = b.dropLeaving(ctx) // what an earlier switch could not drop; it is tried again after this one
	copied, err := takenOver(b.o.Table)
	if err != nil {
		return err
	}
	ranges, err := b.p.log.Ranges(ctx, topics()...)
	if err != nil {
		return err
	}
	b.g, err = migrations.Unfinished(ctx, b.claim, copied)
	b.made.Resumed = err == nil && !b.o.Fresh
	if err == nil && b.o.Fresh {
		err = migrations.Drop(ctx, b.claim, b.g.Number)
	}
	if err != nil && !errors.Is(err, migrations.ErrNoGeneration) {
		return err
	}
	if !b.made.Resumed {
		if err := b.create(ctx, copied, ranges); err != nil {
			return err
		}
	} else if err := firstCheckpoints(ctx, b.claim, b.g.Number, ranges, nil, nil); err != nil {
		return err
	}
	b.made.Generation = b.g.Number
	return b.position(ctx, copied)
}

// takenOver are the tables that a rebuild of one table leaves to a copy: all but it
// and those whose rows its fold reads.
func takenOver(table string) ([]string, error) {
	anew := map[string][]string{
		"": migrations.Tables(), jobs.name: {jobs.name, stages.name}, stages.name: {jobs.name, stages.name}, profiles.name: {profiles.name},
		artifacts.name: {artifacts.name, jobs.name, stages.name}, jobEvents.name: {jobEvents.name, jobs.name, stages.name},
	}
	made, ok := anew[table]
	if !ok {
		return nil, fmt.Errorf("there is no table %q; choose from %v", table, migrations.Tables())
	}
	return slices.DeleteFunc(migrations.Tables(), func(t string) bool { return slices.Contains(made, t) }), nil
}

// create makes the generation. Tables that are taken over are copied as of one
// snapshot of the live ones; the checkpoints say up to where they go.
func (b *builder) create(ctx context.Context, copied []string, ranges map[eventlog.TopicPartition]eventlog.Range) error {
	return pgx.BeginTxFunc(ctx, b.claim, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) (err error) {
		if b.g, err = migrations.Begin(ctx, tx, copied); err != nil {
			return err
		}
		if len(copied) == 0 {
			return firstCheckpoints(ctx, tx, b.g.Number, ranges, nil, nil)
		}
		live, err := migrations.Live(ctx, tx)
		if err == nil && live.Shape != migrations.Shape() {
			err = migrations.ErrOtherShape
		}
		if err != nil {
			return fmt.Errorf("the other tables cannot be taken over; rebuild all: %w", err)
		}
		for _, t := range copied {
			if _, err := tx.Exec(ctx, "INSERT INTO "+migrations.Schema(b.g.Number)+"."+t+" SELECT * FROM "+migrations.Schema(live.Number)+"."+t); err != nil {
				return fmt.Errorf("cannot take over the table %s: %w", t, err)
			}
		}
		until, err := offsetsOf(ctx, tx, live.Number)
		if err != nil {
			return err
		}
		next := maps.Clone(until) // a topic whose tables are all taken over need not be read again
		maps.DeleteFunc(next, func(tp eventlog.TopicPartition, _ int64) bool {
			return (tp.Topic == events.TopicProfileEvents) == (b.o.Table == profiles.name)
		})
		return firstCheckpoints(ctx, tx, b.g.Number, ranges, next, until)
	})
}

func offsetsOf(ctx context.Context, db migrations.DB, generation int) (eventlog.Offsets, error) {
	rows, err := db.Query(ctx, "SELECT topic, partition, next_offset FROM myspinbot.checkpoints WHERE generation = $1", generation)
	return collectOffsets(rows, err)
}

// position reads where the generation stands.
func (b *builder) position(ctx context.Context, copied []string) (err error) {
	if b.at, err = offsetsOf(ctx, b.claim, b.g.Number); err != nil {
		return err
	}
	rows, err := b.claim.Query(ctx, "SELECT topic, partition, copied_until FROM myspinbot.checkpoints WHERE generation = $1", b.g.Number)
	b.taken.until, err = collectOffsets(rows, err)
	b.taken.artifacts, b.taken.events = slices.Contains(copied, artifacts.name), slices.Contains(copied, jobEvents.name)
	return err
}

// build fills, completes and shows the generation.
func (b *builder) build(ctx context.Context) error {
	if err := b.fill(ctx, PhaseCopy, b.ends); err != nil {
		return err
	}
	if err := b.complete(ctx); err != nil {
		return err
	}
	if err := b.catchUp(ctx); err != nil {
		return err
	}
	if b.o.Compare {
		if err := b.compare(ctx); err != nil {
			return err
		}
	}
	return b.switchOver(ctx)
}

// ends is how far the generation is filled: to the end of the log, or, so that it can
// be compared, as far as the live one.
func (b *builder) ends(ctx context.Context) (eventlog.Offsets, error) {
	ranges, err := b.p.log.Ranges(ctx, topics()...)
	if err != nil {
		return nil, err
	}
	goal := make(eventlog.Offsets, len(ranges))
	for tp, r := range ranges {
		goal[tp] = r.Stable
	}
	if !b.o.Compare {
		return goal, nil
	}
	live, err := migrations.Live(ctx, b.p.cfg.Pool)
	if err == nil && live.Shape != migrations.Shape() {
		err = migrations.ErrOtherShape
	}
	if err != nil {
		return nil, fmt.Errorf("there is nothing to compare with: %w", err)
	}
	reached, err := offsetsOf(ctx, b.p.cfg.Pool, live.Number)
	for tp := range goal {
		goal[tp] = min(goal[tp], reached[tp])
	}
	return goal, err
}
