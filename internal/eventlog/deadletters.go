// Dead letters: records that could not be handled, and what an operator does with
// them. Topic deadletters is folded: a letter is open until a later record on its
// key, a mark without a value, resolves it.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Errors about dead letters.
var (
	ErrNoDeadLetter = errors.New("there is no such dead letter")
	ErrResolved     = errors.New("the dead letter is resolved already")
)

// How a dead letter is resolved.
const (
	ResolutionReplayed  = "replayed"
	ResolutionDiscarded = "discarded"
)

// A letter's own headers stand beside the record's, whose source they would hide.
const originalPrefix = "original_"

// DeadLetter is a record that was given up.
type DeadLetter struct {
	ID     string // "<partition>:<offset>" in topic deadletters
	Time   time.Time
	Reason string
	// Record is what was given up, as it came: topic, partition (of a lane command the
	// slot) and offset are those it was read from.
	Record     Record
	Resolution string // ResolutionReplayed, ResolutionDiscarded, or "": it is open
	ResolvedAt time.Time
}

// deadLetter is the record as it came, with the reason. Its position is added as the
// source of whatever is decided from an input.
func (l *Log) deadLetter(in Record, reason error) Record {
	l.metrics.deadLetters.WithLabelValues(in.Topic).Inc()
	l.cfg.Logger.Error("a record goes to the dead letters", "at", in.At().String(), "offset", in.Offset, "reason", reason)
	headers := append(make([]Header, 0, len(in.Headers)+1), Header{HeaderReason, reason.Error()})
	for _, h := range in.Headers {
		if namesSource(h.Key) {
			h.Key = originalPrefix + h.Key
		}
		headers = append(headers, h)
	}
	return Record{Topic: topicDeadLetters, Key: in.Key, Value: in.Value, Headers: headers}
}

// readLetter is the inverse of deadLetter.
func readLetter(r Record) DeadLetter {
	d := DeadLetter{ID: letterID(r.Partition, r.Offset), Time: r.Time, Reason: r.Header(HeaderReason)}
	d.Record = Record{Topic: r.Header(HeaderSourceTopic), Key: r.Key, Value: r.Value, Offset: -1}
	if p, err := strconv.ParseInt(r.Header(HeaderSourcePartition), 10, 32); err == nil {
		d.Record.Partition = int32(p)
	}
	if o, err := strconv.ParseInt(r.Header(HeaderSourceOffset), 10, 64); err == nil {
		d.Record.Offset = o
	}
	reasons := 0
	for _, h := range r.Headers {
		switch original, was := strings.CutPrefix(h.Key, originalPrefix); {
		case namesSource(h.Key):
		case h.Key == HeaderReason && reasons == 0: // a second one is the record's own
			reasons++
		case was && namesSource(original):
			d.Record.Headers = append(d.Record.Headers, Header{original, h.Value})
		default:
			d.Record.Headers = append(d.Record.Headers, h)
		}
	}
	return d
}

func letterID(partition int32, offset int64) string { return fmt.Sprintf("%d:%d", partition, offset) }

// letters folds the topic.
type letters struct {
	all   []DeadLetter
	place map[string]int // in all, by id
}

func (f *letters) fold(records []Record) error {
	for _, r := range records {
		id := r.Header(HeaderResolves)
		if id == "" {
			f.place[letterID(r.Partition, r.Offset)] = len(f.all)
			f.all = append(f.all, readLetter(r))
			continue
		}
		if i, known := f.place[id]; known && f.all[i].Resolution == "" {
			f.all[i].Resolution, f.all[i].ResolvedAt = r.Header(HeaderResolution), r.Time
		}
	}
	return nil
}

// DeadLetters reads all dead letters, resolved ones too, oldest first.
func (l *Log) DeadLetters(ctx context.Context) ([]DeadLetter, error) {
	f := letters{place: make(map[string]int)}
	if _, err := l.Read(ctx, l.Whole(topicDeadLetters), f.fold); err != nil {
		return nil, fmt.Errorf("cannot read the dead letters: %w", err)
	}
	slices.SortStableFunc(f.all, func(a, b DeadLetter) int { return a.Time.Compare(b.Time) })
	return f.all, nil
}

// DeadLetter reads one; ErrNoDeadLetter if there is none of that id.
func (l *Log) DeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	at := TopicPartition{Topic: topicDeadLetters}
	partition, offset, _ := strings.Cut(id, ":")
	p, err := strconv.ParseInt(partition, 10, 32)
	if _, wrong := strconv.ParseInt(offset, 10, 64); err != nil || wrong != nil {
		return DeadLetter{}, fmt.Errorf("%w: %q is no id; one looks like 3:17", ErrNoDeadLetter, id)
	}
	at.Partition = int32(p)
	if p < 0 || int(p) >= l.Partitions(topicDeadLetters) {
		return DeadLetter{}, fmt.Errorf("%w: %s", ErrNoDeadLetter, id)
	}
	f := letters{place: make(map[string]int)}
	if _, err := l.Replay(ctx, at, 0, f.fold); err != nil {
		return DeadLetter{}, fmt.Errorf("cannot read the dead letters: %w", err)
	}
	i, known := f.place[id]
	if !known {
		return DeadLetter{}, fmt.Errorf("%w: %s", ErrNoDeadLetter, id)
	}
	return f.all[i], nil
}

// ReplayDeadLetter writes the record back to where it was read from and marks the
// letter, in one transaction. A record that cannot be handled again becomes a new
// letter. ErrResolved when that, or a discard, has happened before.
func (l *Log) ReplayDeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	return l.resolve(ctx, id, ResolutionReplayed)
}

// DiscardDeadLetter marks the letter; its record stays where it is and does nothing.
func (l *Log) DiscardDeadLetter(ctx context.Context, id string) (DeadLetter, error) {
	return l.resolve(ctx, id, ResolutionDiscarded)
}

func (l *Log) resolve(ctx context.Context, id, resolution string) (DeadLetter, error) {
	cl, err := l.client(kgo.TransactionalID(l.cfg.Prefix+topicDeadLetters+"/operator"), kgo.TransactionTimeout(l.cfg.TransactionTimeout))
	if err != nil {
		return DeadLetter{}, fmt.Errorf("cannot make a transaction: %w", err)
	}
	defer cl.Close()
	// Before reading: from here on nobody else's resolution commits, so that what is
	// open now is open until ours does.
	if _, _, err := cl.ProducerID(ctx); err != nil {
		return DeadLetter{}, fmt.Errorf("cannot get a producer id: %w", unavailable(err))
	}
	d, err := l.DeadLetter(ctx, id)
	switch {
	case err != nil:
		return d, err
	case d.Resolution != "":
		return d, fmt.Errorf("%w: %s was %s at %s", ErrResolved, id, d.Resolution, d.ResolvedAt.UTC().Format(time.RFC3339))
	}
	mark := Record{Topic: topicDeadLetters, Key: d.Record.Key, Headers: []Header{{HeaderResolves, id}, {HeaderResolution, resolution}}}
	records := []Record{mark}
	if resolution == ResolutionReplayed {
		again, err := l.again(d)
		if err != nil {
			return d, err
		}
		records = []Record{again, mark}
	}
	d.Resolution = resolution
	return d, l.writeTogether(ctx, cl, records)
}

// again is the record to write back.
func (l *Log) again(d DeadLetter) (Record, error) {
	r := d.Record
	if _, known := l.specs[r.Topic]; !known {
		return r, fmt.Errorf("cannot replay dead letter %s: its topic %q is none of this program's", d.ID, r.Topic)
	}
	r.Headers = slices.DeleteFunc(slices.Clone(r.Headers), func(h Header) bool { return h.Key == HeaderReplays })
	r.Headers = append(r.Headers, Header{HeaderReplays, d.ID})
	return r, nil
}

// writeTogether writes the records in one transaction of the client's.
func (l *Log) writeTogether(ctx context.Context, cl *kgo.Client, records []Record) error {
	out := make([]*kgo.Record, len(records))
	for i, r := range records {
		var err error
		if out[i], err = l.outgoing(r, nil); err != nil {
			return err
		}
	}
	if err := cl.BeginTransaction(); err != nil {
		return fmt.Errorf("cannot begin a transaction: %w", unavailable(err))
	}
	err := cl.ProduceSync(ctx, out...).FirstErr()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.TransactionTimeout)
	defer cancel()
	if err != nil {
		return errors.Join(fmt.Errorf("nothing was written: %w", unavailable(err)), cl.EndTransaction(ctx, kgo.TryAbort))
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		if fenced(err) {
			return fmt.Errorf("nothing was written, because somebody else resolves a dead letter at this moment: %w", err)
		}
		return fmt.Errorf("it is not known whether it was written; look at the letter again: %w", unavailable(err))
	}
	return nil
}
