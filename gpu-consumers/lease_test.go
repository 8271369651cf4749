// The lease, the beats that keep it, and a worker that was away for longer.

package gpu

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func TestBeatsFollowTheLease(t *testing.T) {
	t.Parallel()
	for lease, beat := range map[time.Duration]time.Duration{
		time.Second: time.Second / 3, 3 * time.Second: time.Second, usualLease: 5 * time.Second, time.Minute: 5 * time.Second,
	} {
		if p := usualPace.of(lease); p.lease != lease || p.beat != beat || p.first >= p.beat || p.progress >= p.beat {
			t.Errorf("a lease of %v: beats every %v, the first after %v", p.lease, p.beat, p.first)
		}
	}
}

// An attempt is heard of soon after its acceptance, and then at the pace of its lease.
func TestBeatsComeSoonAndAtTheirPace(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	b := newBench(t, engineOf(func(context.Context, *Attempt) (*Output, error) {
		<-hold
		return &Output{Engine: "test"}, nil
	}))
	const beat = 100 * time.Millisecond
	b.worker.pace.first, b.worker.pace.beat, b.worker.pace.progress = time.Millisecond, beat, time.Millisecond
	b.start()
	b.send("s1", events.TaskRun{})
	eventlogtest.Eventually(t, patience, "four beats", func() bool { return len(b.of("task.progress", "s1")) >= 4 })
	close(hold)
	b.await("task.succeeded", "s1")
	beats := b.of("task.progress", "s1")
	for i, m := range beats[1:] { // an engine that says nothing gives no news: never sooner
		if gap := m.OccurredAt.Sub(beats[i].OccurredAt); gap < beat {
			t.Errorf("beat %d came %v after the one before", i+1, gap)
		}
	}
}

// A worker that was frozen or cut off for longer than its lease and its session goes
// on: it reports what it has, which the job may ignore, and takes the next command.
func TestAWorkerComesBackAfterItsLease(t *testing.T) {
	t.Parallel()
	started, hold := make(chan struct{}, 1), make(chan struct{})
	b := newBench(t, engineOf(func(_ context.Context, a *Attempt) (*Output, error) {
		started <- struct{}{}
		<-hold
		return &Output{Engine: "test"}, os.WriteFile(a.Dir+"/left", []byte("x"), 0o600)
	}))
	b.start()
	b.send("s1", events.TaskRun{})
	<-started
	b.net.Cut()
	away, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // the session lasts a second
	defer cancel()
	<-away.Done()
	b.net.Mend()
	close(hold)
	b.await("task.succeeded", "s1")
	b.send("s2", events.TaskRun{})
	b.await("task.succeeded", "s2")
	eventlogtest.Eventually(t, patience, "no folder is left", func() bool {
		left, err := os.ReadDir(b.worker.dir)
		return err == nil && len(left) == 0
	})
	if n := len(b.of("task.accepted", "")); n != 2 {
		t.Errorf("%d commands were accepted, want 2", n)
	}
}
