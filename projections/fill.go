// Filling a generation up to a goal, by sessions that share the partitions, and how far it is.

package projections

import (
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
	for _, share := range b.shares(goal) {
		s := &session{p: b.p, generation: b.g.Number, status: migrations.Building, goal: goal, bulk: &bulk{taken: b.taken}}
		s.report = func(at eventlog.Offsets, c Counts) { b.tell(goal, at, c) }
		s.begin(share)
		work.Go(func() error {
			err := s.follow(ctx)
			if refused(err) { // once more from the last commit, to find what PostgreSQL refuses
				s.bulk.single = true
				s.begin(s.stored)
				err = s.follow(ctx)
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

// shares deals the partitions that are not at the goal out to sessions, so that each has
// about as much to read. There is one more than processors, for each waits for PostgreSQL
// now and then, and one less than connections, for they keep theirs.
func (b *builder) shares(goal eventlog.Offsets) []eventlog.Offsets {
	b.mu.Lock()
	defer b.mu.Unlock()
	open := slices.DeleteFunc(sorted(b.at), func(tp eventlog.TopicPartition) bool { return b.at[tp] >= goal[tp] || b.stopped[tp] != "" })
	slices.SortStableFunc(open, func(x, y eventlog.TopicPartition) int {
		return int(min(1, max(-1, (goal[y]-b.at[y])-(goal[x]-b.at[x]))))
	})
	n := min(len(open), runtime.GOMAXPROCS(0)+1, max(1, int(b.p.cfg.Pool.Config().MaxConns)-1))
	shares, load := make([]eventlog.Offsets, n), make([]int64, n)
	for _, tp := range open {
		i := slices.Index(load, slices.Min(load))
		if shares[i] == nil {
			shares[i] = make(eventlog.Offsets)
		}
		shares[i][tp] = b.at[tp]
		load[i] += goal[tp] - b.at[tp]
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
