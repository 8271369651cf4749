// Who is erased and not done, as the log says, for those who look whether somebody erases.

package erasure

import (
	"context"
	"fmt"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Pending counts the profiles that are erased and of which something may be left, and
// says when the first of them was asked for. It reads all facts of profiles.
func Pending(ctx context.Context, log *eventlog.Log) (count int, since time.Time, err error) {
	open := map[string]time.Time{}
	_, err = log.Read(ctx, log.Whole(events.TopicProfileEvents), func(records []eventlog.Record) error {
		for _, r := range records {
			switch r.Header(events.HeaderType) {
			case events.ProfileErased{}.EventType():
				m, err := events.Decode(r.Value)
				if err != nil {
					return fmt.Errorf("cannot read the record at %s offset %d: %w", r.At(), r.Offset, err)
				}
				open[r.Key] = m.OccurredAt
			case events.ProfileErasureCompleted{}.EventType():
				delete(open, r.Key)
			}
		}
		return nil
	})
	for _, at := range open {
		if since.IsZero() || at.Before(since) {
			since = at
		}
	}
	return len(open), since, err
}
