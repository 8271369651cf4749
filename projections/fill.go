// Filling a generation up to a goal, by sessions that share the partitions, and how far it is.

package projections

import (
	"cmp"
	"context"
	"maps"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// fill writes rows until the generation is where ends says.
func (b *builder) fill(ctx context.Context, phase string, ends func(context.Context) (eventlog.Offsets, error)) error {
	goal, err := ends(ctx)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.progress.Phase, b.progress.Generation, b.progress.Total = phase, b.g.Number, 0
	b.seen = maps.Clone(b.at)
	for _, o := range goal {
		b.progress.Total += o
	}
	b.mu.Unlock()
	b.tell(goal, nil, Counts{})
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(b.sessions())
	for _, share := range b.shares(goal) {
		s := &session{p: b.p, generation: b.g.Number, status: migrations.Building, goal: goal, bulk: &bulk{taken: b.taken}}
		s.report = func(at eventlog.Offsets, c Counts) { b.tell(goal, at, c) }
		s.begin(share)
		work.Go(func() error {
			err := s.fill(ctx)
			if refused(err) { // once more from the last commit, to find what PostgreSQL refuses
				s.bulk.single = true
				s.begin(s.stored)
				err = s.fill(ctx)
			}
			b.mu.Lock()
			defer b.mu.Unlock()
			maps.Copy(b.at, s.stored)
			maps.Copy(b.stopped, s.stopped)
			return err
		})
	}
	return work.Wait()
}

// sessions is how many fill at once: one more than processors, for each waits for
// PostgreSQL now and then, and one less than connections, for they keep theirs.
func (b *builder) sessions() int {
	return min(runtime.GOMAXPROCS(0)+1, max(1, int(b.p.cfg.Pool.Config().MaxConns)-1))
}

// shareOffsets bounds what a session reads of several partitions: a client of the log
// fetches ahead of each of them, so that memory would grow with their number.
const shareOffsets = 20_000

// shares deals the partitions that are not at the goal out, those that lack most first:
// large ones alone, others together, so that sessions have about as much to read.
func (b *builder) shares(goal eventlog.Offsets) (shares []eventlog.Offsets) {
	b.mu.Lock()
	defer b.mu.Unlock()
	left, all := make(eventlog.Offsets), int64(0)
	for tp, o := range goal {
		if n := o - b.at[tp]; n > 0 && b.stopped[tp] == "" {
			left[tp] = n
			all += n
		}
	}
	most := max(1, min(shareOffsets, all/int64(b.sessions())))
	open := sorted(left)
	slices.SortStableFunc(open, func(x, y eventlog.TopicPartition) int { return cmp.Compare(left[y], left[x]) })
	var load []int64
	for _, tp := range open {
		i := slices.IndexFunc(load, func(n int64) bool { return n+left[tp] <= most })
		if i < 0 {
			i, load, shares = len(load), append(load, 0), append(shares, make(eventlog.Offsets))
		}
		shares[i][tp] = b.at[tp]
		load[i] += left[tp]
	}
	return shares
}

// tell notes where sessions stand and reports it.
func (b *builder) tell(goal, at eventlog.Offsets, c Counts) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.Copy(b.seen, at)
	b.progress.Events += c.Applied + c.Duplicates + c.Rejected
	b.made.Events = b.progress.Events
	b.progress.Done = 0
	for tp, end := range goal {
		b.progress.Done += min(b.seen[tp], end)
	}
	if b.o.Report != nil {
		b.o.Report(b.progress)
	}
}

// phase reports that something begins that has no offsets.
func (b *builder) phase(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.progress.Phase = name
	if b.o.Report != nil {
		b.o.Report(b.progress)
	}
}
