// One caller's impatience is nobody else's trouble.

package eventlog_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
)

// A record whose caller has given up does not drag down records of others that
// wait in the same partition.
func TestACancelledCallerFailsNobodyElse(t *testing.T) {
	t.Parallel()
	_, cfg := eventlogtest.Fake(t)
	log := eventlogtest.Open(t, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	record := func(n int) eventlog.Record {
		return eventlog.Record{Topic: events.TopicJobCommands, Key: "one partition", Value: fmt.Append(nil, n)}
	}
	for n := range 200 {
		impatient, giveUp := context.WithCancel(ctx)
		var calls sync.WaitGroup
		calls.Go(func() { _ = log.Produce(impatient, record(n)) }) // whichever way it ends
		calls.Go(giveUp)
		calls.Go(func() {
			if err := log.Produce(ctx, record(n)); err != nil {
				t.Errorf("round %d: %v", n, err)
			}
		})
		calls.Wait()
	}
}
