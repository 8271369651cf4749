// The whole way on the real log client: a broker in memory, transactions and their markers.

package projections

import (
	"log/slog"
	"testing"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

func TestProjectorOnTheRealLog(t *testing.T) {
	t.Parallel()
	_, cfg := eventlogtest.Fake(t)
	log := eventlogtest.Open(t, cfg)
	pool := database(t)
	c := Config{Log: log, Pool: pool, Logger: slog.New(slog.DiscardHandler)}
	p := NewProjector(c)
	launch(t, p)

	write := func(s *story) {
		t.Helper()
		topic := events.TopicJobEvents
		if s.kind == events.AggregateProfile {
			topic = events.TopicProfileEvents
		}
		records := make([]eventlog.Record, len(s.messages))
		for i, m := range s.messages {
			records[i] = eventlog.Record{Topic: topic, Key: s.id, Value: []byte(encoded(t, m))}
		}
		ok(t, log.Produce(t.Context(), records...))
	}
	write(whole("job-1"))
	write(whole("job-2"))
	write(person("p1"))
	ok(t, NewReader(pool).waitLong(t, "default", "job-1", 19))
	ok(t, NewReader(pool).waitLong(t, "default", "job-2", 19))
	eventually(t, "all is applied", func() bool { return p.Status().Applied == 19+19+5 })

	before := dump(t, pool)
	_, err := Rebuild(t.Context(), c, RebuildOptions{})
	ok(t, err)
	if dump(t, pool) != before {
		t.Error("the rebuilt tables differ")
	}
	r, err := Verify(t.Context(), c)
	ok(t, err)
	if len(r.Differences) > 0 || r.Events != 19+19+5 {
		t.Errorf("%d events, differences %v", r.Events, r.Differences)
	}
}
