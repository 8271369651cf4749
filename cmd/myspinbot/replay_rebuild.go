// `myspinbot replay rebuild` and `replay generations`: new tables from the log, and the old ones.

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/migrations"
	"github.com/myspinbot/myspinbot/projections"
)

const (
	rebuildUsage = "replay rebuild [--projection TABLE] [--compare] [--dry-run] [--keep-old] [--fresh]"
	rebuildAbout = "Makes new tables from the log beside the live ones, which serve readers until both are\n" +
		"equally far, and switches in one transaction. Stopped at any moment it has changed\n" +
		"nothing; the next one goes on where it was."
	generationsUsage = "replay generations [--drop N]"
	generationsAbout = "Lists the generations of the tables: the live one, and those that are half built or kept."
)

// rebuildMemory is what the heap of a rebuild is kept below, in bytes, however long the
// history is (make bench ONLY=rebuild_memory). What it needs at once is a part of that, so
// that the garbage collector has little to do before the limit. GOGC and GOMEMLIMIT in
// the environment have the last word.
const rebuildMemory = 300 << 20

func boundMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(busyGC)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(rebuildMemory)
	}
}

// replayRebuild is `myspinbot replay rebuild`.
func replayRebuild(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o projections.RebuildOptions
	flags := flag.NewFlagSet("replay rebuild", flag.ContinueOnError)
	flags.StringVar(&o.Table, "projection", "", "only this `table` from the log, with those its fold reads; the others are copied ("+strings.Join(migrations.Tables(), ", ")+")")
	flags.BoolVar(&o.Compare, "compare", false, "compare every row with the live tables first, and do not switch if any differs")
	flags.BoolVar(&o.KeepOld, "keep-old", false, "keep the old tables in their schema; `myspinbot replay generations --drop N` drops them")
	flags.BoolVar(&o.Fresh, "fresh", false, "drop what an earlier rebuild has left half built instead of going on with it")
	dry := flags.Bool("dry-run", false, "only say what would be done")
	cfg, status, ok := commandConfig(rebuildUsage, rebuildAbout, args, stdout, stderr, flags)
	if !ok {
		return status
	}
	boundMemory()
	err := withTables(ctx, cfg, stderr, func(c projections.Config) error {
		if *dry {
			return planRebuild(ctx, c, o, stdout)
		}
		return rebuildTables(ctx, c, o, stdout)
	})
	if err != nil {
		return failed(stderr, err)
	}
	return 0
}

func planRebuild(ctx context.Context, c projections.Config, o projections.RebuildOptions, stdout io.Writer) error {
	p, err := projections.PlanRebuild(ctx, c, o)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, "nothing is changed; a rebuild would")
	switch {
	case p.Resumes:
		fmt.Fprintf(stdout, "  go on with the half-built generation %d, which has read %d of %d offsets\n", p.Generation, p.Read, p.Total)
	case p.Live == 0:
		fmt.Fprintf(stdout, "  build generation %d; there are no live tables, so reads answer 503 until it is done\n", p.Generation)
	default:
		fmt.Fprintf(stdout, "  build generation %d, while readers see generation %d\n", p.Generation, p.Live)
	}
	if len(p.Copied) > 0 {
		fmt.Fprintf(stdout, "  take over, as they are: %s\n", strings.Join(p.Copied, ", "))
	}
	fmt.Fprintf(stdout, "  read %d offsets in %d partitions, and write about %d rows\n", p.Total-p.Read, p.Partitions, p.Rows)
	fmt.Fprintf(stdout, "  take about %s, at %d offsets a second\n", time.Duration(float64(p.Total-p.Read)/projections.PlannedRate*float64(time.Second)).Round(time.Second), projections.PlannedRate)
	after := "drop it after the switch"
	if o.KeepOld {
		after = "keep it after the switch"
	}
	if p.Live != 0 {
		fmt.Fprintf(stdout, "  need about as much disk as generation %d takes (%s), and %s\n", p.Live, megabytes(p.Bytes), after)
	}
	return nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }

func rebuildTables(ctx context.Context, c projections.Config, o projections.RebuildOptions, stdout io.Writer) error {
	bar := newRebuildBar(stdout)
	o.Report = bar.see
	made, err := projections.Rebuild(ctx, c, o)
	bar.end()
	for _, d := range made.Compared.Differences {
		fmt.Fprintln(stdout, d)
	}
	if len(made.Compared.Differences) > 0 {
		return fmt.Errorf("%w in %d places; readers still see the live ones. `myspinbot replay rebuild` without --compare switches to generation %d, "+
			"`myspinbot replay generations --drop %d` drops it", projections.ErrDifferent, len(made.Compared.Differences), made.Generation, made.Generation)
	}
	if errors.Is(err, context.Canceled) && made.Generation != 0 {
		return fmt.Errorf("stopped; the live tables are as they were. The same command goes on with generation %d, `myspinbot replay generations --drop %d` drops it",
			made.Generation, made.Generation)
	}
	if err != nil {
		return err
	}
	if made.Compared.Rows > 0 {
		fmt.Fprintf(stdout, "%d rows are equal to those of the live tables\n", made.Compared.Rows)
	}
	fmt.Fprintf(stdout, "readers see generation %d: %d events in %.1f s\n", made.Generation, made.Events, bar.now().Sub(bar.began).Seconds())
	return nil
}

// replayGenerations is `myspinbot replay generations`.
func replayGenerations(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("replay generations", flag.ContinueOnError)
	drop := flags.Int("drop", 0, "drop generation `N`, which must not be the live one")
	cfg, status, ok := commandConfig(generationsUsage, generationsAbout, args, stdout, stderr, flags)
	if !ok {
		return status
	}
	err := withTables(ctx, cfg, stderr, func(c projections.Config) error {
		if err := migrations.Apply(ctx, c.Pool); err != nil {
			return err
		}
		if *drop != 0 {
			if err := migrations.Drop(ctx, c.Pool, *drop); err != nil {
				return err
			}
			fmt.Fprintf(stdout, "generation %d is dropped\n", *drop)
			return nil
		}
		return listGenerations(ctx, c, stdout)
	})
	if err != nil {
		return failed(stderr, err)
	}
	return 0
}

func listGenerations(ctx context.Context, c projections.Config, stdout io.Writer) error {
	list, err := migrations.List(ctx, c.Pool)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintln(stdout, "there are no tables yet")
	}
	for _, g := range list {
		shape := "this program's tables"
		if g.Shape != migrations.Shape() {
			shape = fmt.Sprintf("tables of version %d", g.Version)
		}
		fmt.Fprintf(stdout, "%-4d %-9s %d offsets, %s, %s, since %s\n", g.Number, g.Status, g.Offsets, megabytes(g.Bytes), shape, g.CreatedAt.Format(time.DateTime))
	}
	return nil
}

// rebuildBar shows how far a rebuild is: one line that is drawn anew on a terminal,
// a line every two seconds elsewhere.
type rebuildBar struct {
	w        io.Writer
	terminal bool
	now      func() time.Time
	began    time.Time
	shown    time.Time
	phase    string
	first    int64 // offsets that were done when the phase began
	start    time.Time
}

func newRebuildBar(w io.Writer) *rebuildBar {
	return &rebuildBar{w: w, terminal: isTerminal(w), now: time.Now, began: time.Now()}
}

var phaseWords = map[string]string{
	projections.PhaseCopy: "reading the log", projections.PhaseIndex: "making indexes", projections.PhaseCatchUp: "catching up",
	projections.PhaseCompare: "comparing", projections.PhaseSwitch: "switching",
}

// see takes progress in and shows it.
func (b *rebuildBar) see(p projections.Progress) {
	now, every := b.now(), 2*time.Second
	if b.terminal {
		every = 100 * time.Millisecond
	}
	changed := p.Phase != b.phase
	if changed {
		b.phase, b.first, b.start = p.Phase, p.Done, now
	} else if now.Sub(b.shown) < every {
		return
	}
	b.shown = now
	line := fmt.Sprintf("generation %d: %s", p.Generation, phaseWords[p.Phase])
	if p.Phase == projections.PhaseCopy || p.Phase == projections.PhaseCatchUp {
		line += b.far(p, now)
	}
	if b.terminal {
		fmt.Fprintf(b.w, "\r\x1b[2K%s", clipped(line, 100))
		return
	}
	fmt.Fprintln(b.w, line)
}

// far is the bar itself, the rate and the remaining time at the rate so far.
func (b *rebuildBar) far(p projections.Progress, now time.Time) string {
	share := 1.0
	if p.Total > 0 {
		share = float64(p.Done) / float64(p.Total)
	}
	full := int(share * barWidth)
	text := fmt.Sprintf(" [%s%s] %3.0f %%", strings.Repeat("#", full), strings.Repeat(".", barWidth-full), 100*share)
	took := now.Sub(b.start).Seconds()
	if took <= 0 || p.Done == b.first {
		return text
	}
	rate := float64(p.Done-b.first) / took
	text += fmt.Sprintf(", %d events in all, %.0f offsets/s", p.Events, rate)
	return text + ", " + time.Duration(float64(p.Total-p.Done)/rate*float64(time.Second)).Round(time.Second).String() + " left"
}

func (b *rebuildBar) end() {
	if b.terminal && b.phase != "" {
		fmt.Fprintln(b.w)
	}
}
