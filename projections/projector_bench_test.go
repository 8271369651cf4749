// How many events a second the projector takes, beside the fold alone.

package projections

import (
	"fmt"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// benchLog has 1,000 whole jobs, interleaved by hundreds.
func benchLog(b *testing.B) (*memoryLog, []fact) {
	b.Helper()
	l := newLog()
	var all []fact
	for group := range 10 {
		stories := make([]*story, 100)
		for i := range stories {
			stories[i] = whole(fmt.Sprintf("job-%d-%d", group, i))
		}
		for i := range stories[0].messages {
			for _, s := range stories {
				l.tell(b, s.messages[i])
				all = append(all, fact{at: place(s.messages[i]), message: s.messages[i]})
			}
		}
	}
	return l, all
}

func BenchmarkProjector(b *testing.B) {
	l, all := benchLog(b)
	for b.Loop() {
		b.StopTimer()
		p, pool := projector(nil, l, 1000), database(b)
		p.cfg.Pool = pool
		b.StartTimer()
		stop := launch(b, p)
		caughtUp(b, l, p)
		b.StopTimer()
		stop()
		pool.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(len(all)*b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkRebuild makes generations of the same history, with their indexes.
func BenchmarkRebuild(b *testing.B) {
	l, all := benchLog(b)
	pool := database(b)
	for b.Loop() {
		rebuilt(b, projector(pool, l, 1000), RebuildOptions{})
	}
	b.ReportMetric(float64(len(all)*b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkFold(b *testing.B) {
	_, all := benchLog(b)
	for b.Loop() {
		f := newFold()
		f.applyAll(all)
	}
	b.ReportMetric(float64(len(all)*b.N)/b.Elapsed().Seconds(), "events/s")
}

func BenchmarkDecode(b *testing.B) {
	value, err := events.Encode(whole("j").messages[5])
	ok(b, err)
	for b.Loop() {
		if _, err := events.Decode(value); err != nil {
			b.Fatal(err)
		}
	}
}
