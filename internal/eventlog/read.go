// Committed reads: one reader from given offsets, and on top of it reading to
// the end, following for ever, and the replay that recovery needs.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Batch is what one poll brought.
type Batch struct {
	Records []Record // in order within each partition
	// Next is the position after the batch of every partition that moved. It counts
	// the markers that end transactions, so it may move without a record.
	Next Offsets
}

// Reader reads committed records of given partitions from given offsets. Poll is
// for one goroutine.
type Reader struct {
	log  *Log
	cl   *kgo.Client
	bare bool
}

// NewReader starts reading. Offset 0 means from the beginning, also where a
// topic with limited retention has lost its first records; in a topic that is
// kept for ever that loss is ErrDataLoss, as an offset beyond the end always is.
func (l *Log) NewReader(from Offsets) (*Reader, error) {
	parts := make(map[string]map[int32]kgo.Offset)
	for tp, offset := range from {
		at := kgo.NewOffset().At(offset)
		if offset == 0 && !l.specs[tp.Topic].kept() {
			at = kgo.NewOffset().AtStart()
		}
		name := l.cfg.Prefix + tp.Topic
		if parts[name] == nil {
			parts[name] = make(map[int32]kgo.Offset)
		}
		parts[name][tp.Partition] = at
	}
	// Several read side by side, and what a fetch brings takes many times its size in memory.
	cl, err := l.client(kgo.ConsumePartitions(parts), kgo.FetchMaxPartitionBytes(1<<20))
	if err != nil {
		return nil, fmt.Errorf("cannot read the log: %w", err)
	}
	return &Reader{log: l, cl: cl}, nil
}

// Bare makes the records come without their headers, for who needs none: they cost more
// than all else of a record. It returns the reader.
func (r *Reader) Bare() *Reader {
	r.bare = true
	return r
}

// Pause leaves a partition out of what later polls bring, until Resume; then they go on
// behind the last record that one has brought. Both are safe to call beside Poll.
func (r *Reader) Pause(at TopicPartition) { r.cl.PauseFetchPartitions(r.one(at)) }

// Resume takes back Pause.
func (r *Reader) Resume(at TopicPartition) { r.cl.ResumeFetchPartitions(r.one(at)) }

func (r *Reader) one(at TopicPartition) map[string][]int32 {
	return map[string][]int32{r.log.cfg.Prefix + at.Topic: {at.Partition}}
}

// Close ends the reader.
func (r *Reader) Close() { r.cl.Close() }

// Poll waits for up to max records (0: as many as there are). It returns early
// with an empty batch only when markers alone have moved the position.
func (r *Reader) Poll(ctx context.Context, max int) (Batch, error) {
	for {
		fetches := r.cl.PollRecords(ctx, max)
		if err := r.log.fetchError(ctx, fetches); err != nil {
			return Batch{}, err
		}
		b := Batch{Records: make([]Record, 0, fetches.NumRecords()), Next: make(Offsets)}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) == 0 {
				return
			}
			topic := strings.TrimPrefix(p.Topic, r.log.cfg.Prefix)
			b.Next[TopicPartition{topic, p.Partition}] = p.Records[len(p.Records)-1].Offset + 1
			for _, k := range p.Records {
				if !k.Attrs.IsControl() {
					b.Records = append(b.Records, r.incoming(k, topic))
				}
			}
		})
		if len(b.Next) > 0 {
			r.log.metrics.consumedBatch(b.Records)
			return b, nil
		}
	}
}

func (r *Reader) incoming(k *kgo.Record, topic string) Record {
	if !r.bare {
		return incoming(k, topic)
	}
	return Record{Topic: topic, Partition: k.Partition, Offset: k.Offset, Key: string(k.Key), Value: k.Value, Time: k.Timestamp}
}

// fetchError is the first error among fetched records that the client cannot heal
// by itself. A loop that ignored them would skip or repeat parts of a topic.
func (l *Log) fetchError(ctx context.Context, fetches kgo.Fetches) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var first error
	fetches.EachError(func(topic string, partition int32, err error) {
		if errors.Is(err, context.Canceled) {
			return // a poll that was woken
		}
		l.metrics.fetchErrors.Inc()
		var lost *kgo.ErrDataLoss
		at := TopicPartition{strings.TrimPrefix(topic, l.cfg.Prefix), partition}
		switch {
		case first != nil:
		case errors.As(err, &lost), errors.Is(err, kerr.OffsetOutOfRange):
			first = &lossError{at, err}
		default:
			first = fmt.Errorf("cannot read %s: %w", at, unavailable(err))
		}
	})
	return first
}

// lossError is an ErrDataLoss of which the place is known.
type lossError struct {
	at    TopicPartition
	cause error
}

func (e *lossError) Error() string {
	return fmt.Sprintf("cannot read %s: %v: %v", e.at, ErrDataLoss, e.cause)
}

func (e *lossError) Unwrap() []error { return []error{ErrDataLoss, e.cause} }

// Read reads the partitions of from up to what was committed at the call, hands
// fn every batch in order, and returns the position reached. Fn's error ends it.
func (l *Log) Read(ctx context.Context, from Offsets, fn func([]Record) error) (Offsets, error) {
	return l.read(ctx, from, false, fn)
}

// ReadBare is Read without headers, as Reader.Bare has it.
func (l *Log) ReadBare(ctx context.Context, from Offsets, fn func([]Record) error) (Offsets, error) {
	return l.read(ctx, from, true, fn)
}

func (l *Log) read(ctx context.Context, from Offsets, bare bool, fn func([]Record) error) (Offsets, error) {
	ranges, err := l.Ranges(ctx, from.topics()...)
	if err != nil {
		return nil, err
	}
	ends := make(Offsets)
	for tp := range from {
		ends[tp] = ranges[tp].Stable
	}
	return l.readTo(ctx, from, ends, ranges, bare, fn)
}

// Replay reads one partition from an offset to its end as of the call, which takes
// until no transaction that was open then is undecided. Called after a stable
// offset fetch it misses nothing that a previous owner has committed. It returns
// the offset it reached.
func (l *Log) Replay(ctx context.Context, at TopicPartition, from int64, fn func([]Record) error) (int64, error) {
	return l.replay(ctx, at, from, false, fn)
}

// ReplayBare is Replay without headers, as Reader.Bare has it.
func (l *Log) ReplayBare(ctx context.Context, at TopicPartition, from int64, fn func([]Record) error) (int64, error) {
	return l.replay(ctx, at, from, true, fn)
}

func (l *Log) replay(ctx context.Context, at TopicPartition, from int64, bare bool, fn func([]Record) error) (int64, error) {
	ranges, err := l.Ranges(ctx, at.Topic)
	if err != nil {
		return 0, err
	}
	next, err := l.readTo(ctx, Offsets{at: from}, Offsets{at: ranges[at].End}, ranges, bare, fn)
	return next[at], err
}

func (l *Log) readTo(ctx context.Context, from, ends Offsets, have map[TopicPartition]Range, bare bool, fn func([]Record) error) (Offsets, error) {
	next, open := make(Offsets), make(Offsets)
	for tp, o := range from {
		next[tp] = o
		if max(o, have[tp].Start) < ends[tp] {
			open[tp] = o
		}
	}
	if len(open) == 0 {
		return next, nil
	}
	r, err := l.NewReader(open)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	r.bare = bare
	for len(open) > 0 {
		b, err := r.Poll(ctx, 0)
		if err != nil {
			return nil, err
		}
		b.trim(ends)
		if len(b.Records) > 0 {
			if err := fn(b.Records); err != nil {
				return nil, err
			}
		}
		for tp, o := range b.Next {
			next[tp] = o
			if o >= ends[tp] {
				delete(open, tp)
			}
		}
	}
	return next, nil
}

// trim drops what lies at or behind the end of each partition.
func (b *Batch) trim(ends Offsets) {
	beyond := false
	for tp, o := range b.Next {
		beyond = beyond || o > ends[tp]
		b.Next[tp] = min(o, ends[tp])
	}
	if beyond { // in the last batch of a partition alone, if at all
		b.Records = slices.DeleteFunc(b.Records, func(r Record) bool { return r.Offset >= ends[r.At()] })
	}
}

// Tail reads everything from the given position and then follows for ever. Fn
// gets each batch; caughtUp, if given, is called once, when everything that was
// committed at the start has been handed on. Tail outlives broker outages, and goes on
// with what is left where records of a topic that is not kept for ever went while it
// could not read them. It returns fn's error, ErrDataLoss, or nil when ctx ends.
func (l *Log) Tail(ctx context.Context, from Offsets, fn func(Batch) error, caughtUp func()) error {
	t := tail{log: l, next: make(Offsets), fn: fn, caughtUp: caughtUp}
	for tp, o := range from {
		t.next[tp] = o
	}
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, 2*time.Second) {
		progress, err := t.follow(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case t.failed != nil:
			return t.failed
		case errors.Is(err, ErrDataLoss) && !t.passes(ctx, err):
			return err
		case progress:
			delay = 50 * time.Millisecond
		}
		l.cfg.Logger.Warn("reading the log was interrupted; trying again", "error", err, "in", delay)
		if wait(ctx, delay) != nil {
			return nil
		}
	}
}

type tail struct {
	log      *Log
	next     Offsets
	fn       func(Batch) error
	caughtUp func()
	failed   error // fn's error
}

// passes says whether to go on after a loss: the records went with time, or by
// compaction, and its position is now behind them.
func (t *tail) passes(ctx context.Context, err error) bool {
	var lost *lossError
	if !errors.As(err, &lost) || t.log.specs[lost.at.Topic].kept() {
		return false
	}
	ranges, err := t.log.Ranges(ctx, lost.at.Topic)
	if err != nil {
		return true // the next try finds the same loss
	}
	r := ranges[lost.at]
	t.next[lost.at] = max(t.next[lost.at], r.Start)
	return t.next[lost.at] <= r.End
}

// follow reads until something breaks, and tells whether it got anywhere.
func (t *tail) follow(ctx context.Context) (progress bool, err error) {
	var ends map[TopicPartition]Range
	if t.caughtUp != nil {
		if ends, err = t.log.Ranges(ctx, t.next.topics()...); err != nil {
			return false, err
		}
	}
	r, err := t.log.NewReader(t.next)
	if err != nil {
		return false, err
	}
	defer r.Close()
	for {
		t.tellCaughtUp(ends)
		b, err := r.Poll(ctx, 0)
		if err != nil {
			return progress, err
		}
		progress = true
		if t.failed = t.fn(b); t.failed != nil {
			return true, t.failed
		}
		for tp, o := range b.Next {
			t.next[tp] = o
		}
	}
}

func (t *tail) tellCaughtUp(ends map[TopicPartition]Range) {
	if t.caughtUp == nil {
		return
	}
	for tp, o := range t.next {
		if o < ends[tp].Stable && ends[tp].Start < ends[tp].Stable {
			return
		}
	}
	t.caughtUp()
	t.caughtUp = nil
}

func (o Offsets) topics() []string {
	seen := make(map[string]bool)
	var out []string
	for tp := range o {
		if !seen[tp.Topic] {
			seen[tp.Topic] = true
			out = append(out, tp.Topic)
		}
	}
	return out
}
