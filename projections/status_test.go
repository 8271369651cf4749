// Tests of what is said about the tables from outside.

package projections

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

func TestStatusTellsLagRateAndWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	job := whole("job")
	tp := job.tp()
	now := job.now.Add(30 * time.Second)
	status := func(watch time.Duration) TablesStatus {
		t.Helper()
		s, err := readStatus(t.Context(), projector(pool, l, 5), watch, func() time.Time { now = now.Add(time.Millisecond); return now })
		ok(t, err)
		return s
	}
	of := func(s TablesStatus) Lag {
		for _, p := range s.Partitions {
			if p.Topic == tp.Topic && p.Partition == tp.Partition {
				return p
			}
		}
		return Lag{}
	}
	p := projector(pool, l, 5)
	stop := launch(t, p)
	l.tell(t, job.messages[:4]...)
	caughtUp(t, l, p)
	if s := status(0); s.Generation != 1 || !s.OwnShape || !s.Counted || s.Events != 0 || s.Seconds != 0 || len(s.Partitions) != 2*testPartitions || s.Generations[0].Status != "live" {
		t.Errorf("caught up: %+v", s)
	}
	stop()
	l.tell(t, job.messages[4:]...)
	s := status(time.Millisecond)
	first := now.Sub(job.messages[4].OccurredAt).Seconds()
	if lag := of(s); s.Events != 15 || lag.Events != 15 || lag.Error != "" || s.Rate != 0 || lag.End-lag.Next < 30 || s.Seconds < first-1 || s.Seconds > first {
		t.Errorf("stopped: %+v, first is %v s old", s, first)
	}
	// While a projector works the checkpoints move.
	p = projector(pool, l, 1)
	stop = launch(t, p)
	for i := range 50 {
		l.tell(t, whole(strings.Repeat("x", i+1)).messages...)
	}
	eventually(t, "the checkpoints are seen to move", func() bool {
		s := status(50 * time.Millisecond)
		return s.Rate > 0 || s.Events == 0
	})
	caughtUp(t, l, p)
	stop()
	// A record that cannot be read, and one that PostgreSQL refuses, are said to be in the way.
	l.add(eventlog.TopicPartition{Topic: events.TopicProfileEvents, Partition: 0}, []byte("hello"))
	broken := jobStory("broken").submitted()
	broken.messages[0].Tenant = "" // a row needs one
	l.tell(t, broken.messages...)
	var said []string
	for _, p := range status(time.Millisecond).Partitions {
		said = append(said, p.Error)
	}
	for _, want := range []string{"cannot read the record at profiles.events/0 offset 0", "PostgreSQL refuses the event at " + broken.tp().String()} {
		if all := strings.Join(said, "\n"); !strings.Contains(all, want) {
			t.Errorf("in the way: %q, want %q", all, want)
		}
	}
	exec(t, pool, "DELETE FROM myspinbot.generations")
	if _, err := readStatus(t.Context(), projector(pool, l, 5), 0, time.Now); !errors.Is(err, migrations.ErrNoGeneration) {
		t.Errorf("without tables: %v", err)
	}
}
