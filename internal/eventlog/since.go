// Positions by time.

package eventlog

import (
	"context"
	"fmt"
	"time"
)

// Since finds, for every partition of the topic, the first record that was stamped at
// the time or later, or the end. Writers stamp with their own clocks: of one writer's
// records, none that it wrote at or after the time lies before that position.
func (l *Log) Since(ctx context.Context, topic string, at time.Time) (Offsets, error) {
	listed, err := l.admin.ListOffsetsAfterMilli(ctx, at.UnixMilli(), l.names([]string{topic})...)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find the records of %s since %v: %w", topic, at, unavailable(err))
	}
	out := make(Offsets)
	for p, o := range listed[l.cfg.Prefix+topic] {
		out[TopicPartition{topic, p}] = o.Offset
	}
	return out, nil
}
