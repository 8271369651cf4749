// Restoring: records written to the very offsets that they had in another log, so
// that everything which names an offset (headers, positions, rows) stays true.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// ErrNotRestorable says that a partition cannot get the offsets that are asked for.
var ErrNotRestorable = errors.New("the offsets cannot be kept")

// fillersAtOnce bounds the records of one aborted transaction.
const fillersAtOnce = 20_000

// Restorer writes runs of records at given offsets of partitions that nobody else
// writes to. It is for one goroutine; several of different names work beside each other.
type Restorer struct {
	log         *Log
	plain, open *kgo.Client // without a transaction, and with
	next        Offsets
	marking     map[TopicPartition]bool // a transaction has ended there, and its marker may still be on its way
}

// NewRestorer makes a restorer; at is the end of the partitions that it will write to.
// Of two with one name the newer fences the older.
func (l *Log) NewRestorer(name string, at Offsets) (*Restorer, error) {
	r := &Restorer{log: l, next: make(Offsets), marking: make(map[TopicPartition]bool)}
	for tp, o := range at {
		r.next[tp] = o
	}
	options := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RecordDeliveryTimeout(0), // it would count from the records' own time, long ago
	}
	var err error
	if r.plain, err = l.client(options...); err != nil {
		return nil, fmt.Errorf("cannot make a producer: %w", err)
	}
	options = append(options, kgo.TransactionalID(l.cfg.Prefix+"restore/"+name), kgo.TransactionTimeout(max(l.cfg.TransactionTimeout, time.Minute)))
	if r.open, err = l.client(options...); err != nil {
		r.plain.Close()
		return nil, fmt.Errorf("cannot make a transaction: %w", err)
	}
	return r, nil
}

// Close lets go of the connections.
func (r *Restorer) Close() {
	r.plain.Close()
	r.open.Close()
}

// Write writes records of one partition whose offsets follow one another, and leaves
// gap offsets behind them that hold nothing for readers: a gap of one is the marker of
// their transaction, a longer one an aborted transaction. Offsets between the
// partition's end and the first record are left empty too. Errors: ErrNotRestorable,
// ErrUnavailable; what was written then stays.
func (r *Restorer) Write(ctx context.Context, records []Record, gap int64) error {
	if len(records) == 0 {
		return nil
	}
	tp := records[0].At()
	if skip := records[0].Offset - r.next[tp]; skip != 0 {
		if err := r.skip(ctx, tp, skip); err != nil {
			return err
		}
	}
	out := make([]*kgo.Record, len(records))
	for i, rec := range records {
		var err error
		if out[i], err = r.log.outgoing(rec, nil); err != nil {
			return err
		}
		out[i].Partition = rec.Partition
	}
	if gap != 0 && gap != 2 {
		if err := r.transact(ctx, tp, out, kgo.TryCommit); err != nil {
			return err
		}
		return r.skip(ctx, tp, gap-1)
	}
	if err := r.awaitMarker(ctx, tp); err != nil {
		return err
	}
	if err := r.produce(ctx, r.plain, tp, out); err != nil {
		return err
	}
	return r.skip(ctx, tp, gap)
}

// Skip leaves every offset of the partition before end empty that is not taken yet.
func (r *Restorer) Skip(ctx context.Context, tp TopicPartition, end int64) error {
	return r.skip(ctx, tp, end-r.next[tp])
}

// Append writes records behind what there is, each into the partition of its key (of a
// lane topic: into its slot), in their order. Headers that name the offset of a source
// are left out, for it is another one now.
func (r *Restorer) Append(ctx context.Context, records []Record) error {
	out := make([]*kgo.Record, len(records))
	for i, rec := range records {
		rec.Headers = slices.DeleteFunc(slices.Clone(rec.Headers), func(h Header) bool { return namesSource(h.Key) })
		var err error
		if out[i], err = r.log.outgoing(rec, nil); err != nil {
			return err
		}
		if spec := r.log.specs[rec.Topic]; spec.lane == "" {
			out[i].Partition = PartitionFor(rec.Key, spec.partitions)
		}
	}
	if err := r.plain.ProduceSync(ctx, out...).FirstErr(); err != nil {
		return fmt.Errorf("cannot write to %s: %w", records[0].Topic, unavailable(err))
	}
	return nil
}

// awaitMarker waits until the partition's last transaction has its marker, which the
// broker writes behind the answer to its end; the next transaction waits by itself.
func (r *Restorer) awaitMarker(ctx context.Context, tp TopicPartition) error {
	for r.marking[tp] {
		ranges, err := r.log.Ranges(ctx, tp.Topic)
		if err != nil {
			return err
		}
		if ranges[tp].Stable >= r.next[tp] {
			delete(r.marking, tp)
		} else if err := wait(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// skip takes offsets that readers of committed records do not see.
func (r *Restorer) skip(ctx context.Context, tp TopicPartition, n int64) error {
	if n < 0 || n == 1 {
		return fmt.Errorf("%w: %s is at offset %d, the next record lay at %d", ErrNotRestorable, tp, r.next[tp], r.next[tp]+n)
	}
	for n > 0 {
		fillers := min(n-1, fillersAtOnce)
		if n-fillers-1 == 1 { // no transaction takes one offset alone
			fillers--
		}
		out := make([]*kgo.Record, fillers)
		for i := range out {
			out[i] = &kgo.Record{Topic: r.log.cfg.Prefix + tp.Topic, Partition: tp.Partition, Key: []byte("filler")}
		}
		if err := r.transact(ctx, tp, out, kgo.TryAbort); err != nil {
			return err
		}
		n -= fillers + 1
	}
	return nil
}

func (r *Restorer) transact(ctx context.Context, tp TopicPartition, out []*kgo.Record, how kgo.TransactionEndTry) error {
	if err := r.open.BeginTransaction(); err != nil {
		return fmt.Errorf("cannot begin a transaction: %w", unavailable(err))
	}
	if err := r.produce(ctx, r.open, tp, out); err != nil {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.log.cfg.TransactionTimeout)
		defer cancel()
		return errors.Join(err, r.open.EndTransaction(end, kgo.TryAbort))
	}
	if err := r.open.EndTransaction(ctx, how); err != nil {
		return fmt.Errorf("cannot end a transaction on %s: %w", tp, unavailable(err))
	}
	r.next[tp]++ // the marker
	r.marking[tp] = true
	return nil
}

// produce writes and holds the offsets against those that were expected.
func (r *Restorer) produce(ctx context.Context, cl *kgo.Client, tp TopicPartition, out []*kgo.Record) error {
	if err := cl.ProduceSync(ctx, out...).FirstErr(); err != nil {
		return fmt.Errorf("cannot write to %s: %w", tp, unavailable(err))
	}
	for _, rec := range out {
		if rec.Offset != r.next[tp] {
			return fmt.Errorf("%w: a record of %s got offset %d, not %d; somebody else writes there", ErrNotRestorable, tp, rec.Offset, r.next[tp])
		}
		r.next[tp]++
	}
	return nil
}
