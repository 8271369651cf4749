// A door for this package's tests, which stand outside of it because their brokers do.

package eventlog

import (
	"context"
	"fmt"
	"time"
)

// LookAfterOpen does with the transaction that is open in a partition what EndHanging
// does once its patience is over.
func (l *Log) LookAfterOpen(ctx context.Context, at TopicPartition, journals ...string) error {
	open, err := l.openTransactions(ctx)
	for t, p := range open {
		if t.at == at {
			return l.endHanging(ctx, t, p, journals)
		}
	}
	return fmt.Errorf("nothing is open in %s: %w", at, err)
}

// EndOpen takes the transaction that is open in a partition for one that hangs.
func (l *Log) EndOpen(ctx context.Context, at TopicPartition, group string, journals ...string) (committed bool, err error) {
	open, err := l.openTransactions(ctx)
	for t, p := range open {
		if t.at != at {
			continue
		}
		if at.Topic == topicOffsets {
			committed, err = l.offsetsHaveCommitted(ctx, t, group, journals)
		} else {
			committed, err = l.hasCommitted(ctx, t, group, journals)
		}
		if err != nil {
			return false, err
		}
		return committed, l.writeMarker(ctx, p, committed)
	}
	return false, fmt.Errorf("nothing is open in %s: %w", at, err)
}

// Mark ends what is open in a partition one way or the other.
func (l *Log) Mark(ctx context.Context, at TopicPartition, commit bool) error {
	open, err := l.openTransactions(ctx)
	for t, p := range open {
		if t.at == at {
			return l.writeMarker(ctx, p, commit)
		}
	}
	return fmt.Errorf("nothing is open in %s: %w", at, err)
}

// FetchWoken joins a group, waits until its client holds records, and returns how many
// of them a fetch brings that was woken before it began.
func (l *Log) FetchWoken(ctx context.Context, group, topic string) (int, error) {
	var w waker
	m, err := l.join(ctx, group, []string{topic}, oneSet, &w, nil)
	if err != nil {
		return 0, err
	}
	defer m.close(true)
	for m.cl.BufferedFetchRecords() == 0 {
		if err := wait(ctx, time.Millisecond); err != nil {
			return 0, err
		}
	}
	w.wake()
	return m.fetch(ctx, 1000).NumRecords(), nil
}
