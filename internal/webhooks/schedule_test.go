// The schedule, and the queue that keeps it.

package webhooks

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Given so many failures, when the receiver wishes for that much, then the next attempt is at that time.
func TestSchedule(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	s := Standard()
	for _, c := range []struct {
		name   string
		failed int
		wish   time.Duration
		luck   float64
		after  time.Duration // 0: none follows
	}{
		{"first", 1, 0, 0, 5 * time.Second},
		{"first, drawn out", 1, 0, 0.999999999, 6 * time.Second},
		{"second", 2, 0, 0, 5 * time.Minute},
		{"third", 3, 0, 0.5, 33 * time.Minute},
		{"ninth", 9, 0, 0, 24 * time.Hour},
		{"tenth", 10, 0, 0, 0},
		{"tenth with a wish", 10, time.Minute, 0, 0},
		{"a wish that is longer", 1, 90 * time.Second, 0, 90 * time.Second},
		{"a wish that is shorter", 2, 90 * time.Second, 0, 5 * time.Minute},
		{"a wish without end", 1, 1000 * time.Hour, 0, 24 * time.Hour},
		{"none yet", 0, 0, 0, 0},
	} {
		next, again := s.Next(c.failed, now, c.wish, c.luck)
		if again != (c.after > 0) || again && next.Sub(now).Round(time.Millisecond) != c.after {
			t.Errorf("%s: %v later, %v; want %v", c.name, next.Sub(now), again, c.after)
		}
	}
	if w := s.Window(); len(s) != 9 || w < 72*time.Hour || w > 80*time.Hour {
		t.Errorf("%d attempts within %v, want ten within about three days", len(s)+1, w)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{"": 0, "120": 2 * time.Minute, " 7 ": 7 * time.Second, "-5": 0, "soon": 0, "99999999999999999999": 0,
		"Sun, 01 Nov 2026 12:30:00 GMT": 30 * time.Minute, "Sun, 01 Nov 2026 11:00:00 GMT": 0} {
		h := http.Header{}
		h.Set("Retry-After", text)
		if got := retryAfter(h, now); got != want {
			t.Errorf("Retry-After %q is %v, want %v", text, got, want)
		}
	}
}

// bench notes when tasks run, in the fake time of a bubble.
type bench struct {
	queue *queue
	began time.Time

	mu      sync.Mutex
	ran     []string
	running map[string]int
	most    map[string]int
}

func newBench() *bench {
	return &bench{queue: newQueue(time.Now), began: time.Now(), running: map[string]int{}, most: map[string]int{}}
}

func (b *bench) add(ctx context.Context, endpoint string, due, takes time.Duration) {
	b.queue.add(&task{ctx: ctx, endpoint: endpoint, due: b.began.Add(due), run: func(context.Context) {
		b.mu.Lock()
		b.ran = append(b.ran, fmt.Sprintf("%s@%v", endpoint, time.Since(b.began)))
		b.running[endpoint]++
		b.most[endpoint] = max(b.most[endpoint], b.running[endpoint])
		b.mu.Unlock()
		<-time.After(takes)
		b.mu.Lock()
		b.running[endpoint]--
		b.mu.Unlock()
	}})
}

func TestTasksRunAtTheirTimes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		gone, cancel := context.WithCancel(t.Context())
		b.add(t.Context(), "c", 48*time.Hour, 0)
		b.add(t.Context(), "b", 5*time.Minute, 0)
		b.add(gone, "dropped", time.Hour, 0)
		b.add(t.Context(), "a", -time.Minute, 0)
		<-time.After(10 * time.Minute)
		b.add(t.Context(), "d", time.Hour, 0)
		cancel()
		<-time.After(72 * time.Hour)
		if want := []string{"a@0s", "b@5m0s", "d@1h0m0s", "c@48h0m0s"}; !slices.Equal(b.ran, want) {
			t.Errorf("ran %v, want %v", b.ran, want)
		}
	})
}

// One endpoint that takes fifteen seconds for everything, with a thousand messages
// waiting, delays no other.
func TestASlowEndpointHoldsBackNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		for range 1000 {
			b.add(t.Context(), "slow", 0, 15*time.Second)
		}
		for i := range 50 {
			b.add(t.Context(), fmt.Sprintf("quick%d", i), 0, time.Millisecond)
			b.add(t.Context(), "busy", 0, time.Millisecond)
		}
		<-time.After(14 * time.Second)
		b.mu.Lock()
		others := slices.DeleteFunc(slices.Clone(b.ran), func(s string) bool { return strings.HasPrefix(s, "slow") })
		if len(others) != 100 || len(b.ran) != 100+perEndpoint || b.most["busy"] > perEndpoint {
			t.Errorf("%d of 100 others ran and %d of the slow one's; at most %d of one endpoint", len(others), len(b.ran)-len(others), b.most["busy"])
		}
		b.mu.Unlock()
		<-time.After(1000 / perEndpoint * 15 * time.Second)
		if len(b.ran) != 1100 || b.most["slow"] != perEndpoint {
			t.Errorf("%d of 1100 ran in the end, %d of the slow one's at once", len(b.ran), b.most["slow"])
		}
	})
}

func TestAHaltedQueueWaitsForWhatRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBench()
		b.add(t.Context(), "a", 0, 3*time.Second)
		b.add(t.Context(), "a", time.Second, 0)
		synctest.Wait()
		b.queue.halt(5 * time.Second)
		if waited := time.Since(b.began); waited != 3*time.Second {
			t.Errorf("waited %v, want until the task that ran had ended", waited)
		}
		b.add(t.Context(), "late", 0, 0)
		<-time.After(time.Minute)
		if !slices.Equal(b.ran, []string{"a@0s"}) {
			t.Errorf("ran %v after the halt", b.ran)
		}
	})
}
