// A door for this package's tests, which stand outside of it because their brokers do.

package eventlog

import (
	"context"
	"fmt"
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
		if committed, err = l.hasCommitted(ctx, t, group, journals); err != nil {
			return false, err
		}
		return committed, l.writeMarker(ctx, p, committed)
	}
	return false, fmt.Errorf("nothing is open in %s: %w", at, err)
}
