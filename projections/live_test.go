// Tests of how the partitions of a live projector share transactions, and of what holds one back.

package projections

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// commits is how many transactions a projector has committed, and of how many events.
func commits(t testing.TB, p *Projector) (transactions uint64, facts float64) {
	t.Helper()
	registry := prometheus.NewRegistry()
	ok(t, registry.Register(p.metrics.commits))
	families, err := registry.Gather()
	ok(t, err)
	h := families[0].Metric[0].GetHistogram()
	return h.GetSampleCount(), h.GetSampleSum()
}

// TestSmallPartitionsCommitTogether lets a fact come at a time in each of many partitions.
func TestSmallPartitionsCommitTogether(t *testing.T) {
	t.Parallel()
	const partitions = 24
	pool, l := database(t), newLog()
	stories := make([]*story, partitions)
	for i := range stories {
		stories[i] = whole(fmt.Sprintf("job-%d", i))
		l.add(eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: int32(i)}) //nolint:gosec // few
	}
	p := projector(pool, l, 1000)
	launch(t, p)
	rounds := len(stories[0].messages)
	for i := range rounds {
		l.mu.Lock() // one poll brings all of them
		for n, s := range stories {
			b, err := events.Encode(s.messages[i])
			ok(t, err)
			at := eventlog.TopicPartition{Topic: events.TopicJobEvents, Partition: int32(n)} //nolint:gosec // few
			l.values[at] = append(l.values[at], b, nil)
		}
		l.mu.Unlock()
		l.add(eventlog.TopicPartition{Topic: events.TopicJobEvents})
		caughtUp(t, l, p)
	}
	wantProven(t, pool, l, partitions*rounds)
	if n, facts := commits(t, p); n != uint64(rounds) || facts != float64(partitions*rounds) {
		t.Errorf("%d transactions held %.0f events, want %d with %d", n, facts, rounds, partitions*rounds)
	}
}

// TestTurns says who writes next, for queues in the order in which they wait.
func TestTurns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		queues  []int
		blocked int // the one that a lock was in the way of, from 1
		small   bool
		want    []int
		isSmall bool
	}{
		{"all that is small", []int{1, 2, 3}, 0, false, []int{0, 1, 2}, true},
		{"a full batch by itself", []int{50, 1, 2}, 0, false, []int{0}, false},
		{"a full batch after those that came first", []int{1, 80, 2}, 0, false, []int{0, 2}, true},
		{"one small transaction at a time", []int{1, 2}, 0, true, nil, false},
		{"a full batch beside a small transaction", []int{1, 80, 2}, 0, true, []int{1}, false},
		{"many small ones fill a batch", []int{40, 40, 40, 20}, 0, true, []int{0, 1, 3}, false},
		{"a blocked one by itself", []int{1, 2, 3}, 1, false, []int{0}, false},
		{"the others without it", []int{1, 2, 3}, 2, false, []int{0, 2}, true},
		{"a blocked one beside a small transaction", []int{1, 2, 3}, 3, true, []int{2}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := &live{p: projector(nil, nil, 100), small: c.small}
			for i, n := range c.queues {
				l.waiting = append(l.waiting, &part{queue: make([]eventlog.Record, n), blocked: i+1 == c.blocked})
			}
			before := slices.Clone(l.waiting)
			chosen, small := l.choose()
			var got []int
			for _, p := range chosen {
				got = append(got, slices.Index(before, p))
			}
			equal(t, got, c.want)
			equal(t, small, c.isSmall)
		})
	}
}

// hold keeps locks until the returned function is called.
func hold(t *testing.T, pool *pgxpool.Pool, sql string) (release func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), pool.Config().ConnString())
	ok(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(t.Context(), "BEGIN; "+sql)
	ok(t, err)
	return func() {
		_, err := conn.Exec(t.Context(), "ROLLBACK")
		ok(t, err)
	}
}

// TestABlockedPartitionHoldsNobodyBack locks what a partition, or two, are about to
// write. Those wait, with a bounded part of what they have to read; the others do not.
func TestABlockedPartitionHoldsNobodyBack(t *testing.T) {
	t.Parallel()
	const batch = 4
	for _, c := range []struct {
		name, sql string
		blocked   []int32 // partitions of jobs.events
	}{
		{"a checkpoint", "SELECT 1 FROM myspinbot.checkpoints WHERE topic = 'jobs.events' AND partition = 1 FOR UPDATE", []int32{1}},
		{"two checkpoints", "SELECT 1 FROM myspinbot.checkpoints WHERE topic = 'jobs.events' AND partition IN (0, 2) FOR UPDATE", []int32{0, 2}},
		{"rows", "SELECT 1 FROM gen_1.jobs WHERE partition = 1 FOR UPDATE", []int32{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pool, l := database(t), newLog()
			p := projector(pool, l, batch)
			launch(t, p)
			stories := []*story{person("p1")}
			for i := range 60 {
				stories = append(stories, whole(fmt.Sprintf("job-%d", i)))
			}
			n := 0
			for _, s := range stories {
				l.tell(t, s.messages[0])
				n++
			}
			caughtUp(t, l, p)
			release := hold(t, pool, c.sql)
			at := p.Status()
			for i := 1; ; i++ { // whatever comes, again and again
				told := 0
				for _, s := range stories {
					if i < len(s.messages) {
						l.tell(t, s.messages[i])
						told++
					}
				}
				if n += told; told == 0 {
					break
				}
				eventually(t, "the others are at the end of the log", func() bool { return reached(l, p, c.blocked) })
			}
			for i, ps := range p.Status().Partitions {
				tp := eventlog.TopicPartition{Topic: ps.Topic, Partition: ps.Partition}
				if ps.Topic != events.TopicJobEvents || !slices.Contains(c.blocked, ps.Partition) {
					continue
				}
				if ps.Next != at.Partitions[i].Next {
					t.Errorf("%s went on from %d to %d", tp, at.Partitions[i].Next, ps.Next)
				}
				bound := ps.Next + int64(2*batch*(newLive(&session{p: p}).most+3)) // a marker follows each fact
				if o := l.position(tp); o > bound || bound >= int64(len(l.values[tp])) {
					t.Errorf("%s is read up to %d of %d, want at most %d", tp, o, len(l.values[tp]), bound)
				}
			}
			if s := p.Status(); s.Trouble != "" {
				t.Errorf("the projector says %s", s.Trouble)
			}
			release()
			caughtUp(t, l, p)
			equal(t, p.Status().Counts, Counts{Applied: int64(n)})
			wantProven(t, pool, l, n)
		})
	}
}

// reached says whether all partitions are at the end of the log, beside some of jobs.events.
func reached(l *memoryLog, p *Projector, beside []int32) bool {
	ranges, _ := l.Ranges(context.Background())
	for _, ps := range p.Status().Partitions {
		if ps.Topic == events.TopicJobEvents && slices.Contains(beside, ps.Partition) {
			continue
		}
		if ps.Next < ranges[eventlog.TopicPartition{Topic: ps.Topic, Partition: ps.Partition}].Stable {
			return false
		}
	}
	return true
}
