// Out of a file into a log.

package logfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// ErrNotEmpty says that the log already holds records of the file's topics.
var ErrNotEmpty = errors.New("the log is not empty")

const (
	runLength = 500 // records written at once
	writers   = 8   // partitions written at the same time
)

// Options of an import. The zero value keeps every offset, in an empty log.
type Options struct {
	Renumber bool                    // do not keep the offsets, which takes a transaction for every gap between them
	Force    bool                    // write behind what the log holds; offsets are not kept then
	Report   func(done, total int64) // is told after every write, from one goroutine at a time; nil: nobody
}

// Imported is what became of a file.
type Imported struct {
	Records int64
	Kept    bool   // every record lies in the partition and at the offset that it had
	Why     string // it does not
	LeftOut int64  // dead letters, whose marks name offsets that are not kept
}

// Import checks the whole file, then writes its records, each into the partition of its
// key, and those of one key in their order. In an empty log with the file's numbers of
// partitions every record gets the offset that it had. Otherwise the records of a topic
// are written in the order in which they were decided, without the headers that name
// an offset of their source. Topics are created if need be. Nobody else may write to
// them meanwhile. Errors: ErrFile before anything is written, ErrNotEmpty,
// eventlog.ErrNotRestorable, an error of the log; what was written then stays.
func Import(ctx context.Context, log *eventlog.Log, file io.ReaderAt, size int64, o Options) (Imported, error) {
	have, err := scanFile(file, size)
	if err != nil {
		return Imported{}, err
	}
	if err := log.EnsureTopics(ctx); err != nil {
		return Imported{}, err
	}
	i := importing{log: log, file: file, contents: have, options: o}
	why, err := i.obstacle(ctx)
	if err != nil {
		return Imported{}, err
	}
	i.outcome = Imported{Kept: why == "", Why: why}
	if i.outcome.Kept {
		err = i.keep(ctx)
	} else {
		err = i.renumber(ctx)
	}
	return i.outcome, err
}

type importing struct {
	contents
	log     *eventlog.Log
	file    io.ReaderAt
	options Options

	mu      sync.Mutex
	outcome Imported
}

// obstacle says why offsets cannot be kept; empty: they can.
func (i *importing) obstacle(ctx context.Context) (string, error) {
	why := ""
	if i.options.Renumber {
		why = "that was asked for"
	}
	for _, topic := range slices.Sorted(maps.Keys(i.partitions)) {
		n := i.log.Partitions(topic)
		switch {
		case n == 0:
			return "", fmt.Errorf("%w: this log has no topic %q", ErrFile, topic)
		case n < i.partitions[topic] && isLane(topic):
			return "", fmt.Errorf("%w: %s has %d partitions in the file and %d here; raise the lane's bound", ErrFile, topic, i.partitions[topic], n)
		case n != i.partitions[topic]:
			why = fmt.Sprintf("%s has %d partitions in the file and %d here", topic, i.partitions[topic], n)
		}
		ranges, err := i.log.Ranges(ctx, topic)
		if err != nil {
			return "", err
		}
		for tp, r := range ranges {
			if r.End == 0 {
				continue
			}
			if !i.options.Force {
				return "", fmt.Errorf("%w: %s ends at offset %d; import into a new cluster or under another kafka.prefix, or write behind what is there with --force", ErrNotEmpty, tp, r.End)
			}
			why = "the log is not empty"
		}
	}
	return why, nil
}

// keep writes each partition as it was, several at the same time.
func (i *importing) keep(ctx context.Context) error {
	work := make(chan eventlog.TopicPartition)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(work)
		for _, tp := range i.places() {
			select {
			case work <- tp:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for n := range writers {
		group.Go(func() error {
			w, err := i.log.NewRestorer(fmt.Sprintf("import-%d", n), nil)
			if err != nil {
				return err
			}
			defer w.Close()
			for tp := range work {
				if err := i.keepPartition(ctx, w, tp); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// places are all partitions of the file's topics.
func (i *importing) places() []eventlog.TopicPartition {
	var all []eventlog.TopicPartition
	for _, topic := range slices.Sorted(maps.Keys(i.partitions)) {
		for p := range int32(i.partitions[topic]) { //nolint:gosec // partitions are few
			all = append(all, eventlog.TopicPartition{Topic: topic, Partition: p})
		}
	}
	return all
}

func (i *importing) keepPartition(ctx context.Context, w *eventlog.Restorer, tp eventlog.TopicPartition) error {
	in := lines{file: i.file, sections: i.sections[tp]}
	end, known := i.end(tp)
	if known && len(i.sections[tp]) == 0 { // it was emptied by its retention
		return w.Skip(ctx, tp, end)
	}
	var run []eventlog.Record
	for {
		r, err := in.next()
		if err != nil {
			return err
		}
		if k := len(run); k > 0 {
			last, gap := run[k-1].Offset, int64(0)
			if r != nil {
				gap = r.Offset - last - 1
			} else if known {
				gap = end - last - 1
			}
			if r == nil || gap > 0 || k == runLength {
				if err := w.Write(ctx, run, gap); err != nil {
					return err
				}
				i.wrote(k)
				run = run[:0]
			}
		}
		if r == nil {
			return nil
		}
		run = append(run, *r)
	}
}

// wrote counts, and tells.
func (i *importing) wrote(n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.outcome.Records += int64(n)
	if i.options.Report != nil {
		i.options.Report(i.outcome.Records+i.outcome.LeftOut, i.contents.records)
	}
}

// renumber writes topic by topic, merging the partitions of the file by the time of
// their records' decisions, which so never goes back within a partition.
func (i *importing) renumber(ctx context.Context) error {
	w, err := i.log.NewRestorer("import", nil)
	if err != nil {
		return err
	}
	defer w.Close()
	for _, topic := range slices.Sorted(maps.Keys(i.partitions)) {
		m := merge{}
		for _, tp := range i.places() {
			if tp.Topic == topic {
				m.parts = append(m.parts, &part{lines: lines{file: i.file, sections: i.sections[tp]}})
			}
		}
		if err := i.renumberTopic(ctx, w, topic, &m); err != nil {
			return err
		}
	}
	return nil
}

func (i *importing) renumberTopic(ctx context.Context, w *eventlog.Restorer, topic string, m *merge) error {
	for {
		run := make([]eventlog.Record, 0, runLength)
		for len(run) < runLength {
			r, err := m.next()
			if err != nil {
				return err
			}
			if r == nil {
				break
			}
			run = append(run, *r)
		}
		switch {
		case len(run) == 0:
			return nil
		case topic == events.TopicDeadLetters:
			i.outcome.LeftOut += int64(len(run))
			i.wrote(0)
		default:
			if err := w.Append(ctx, run); err != nil {
				return err
			}
			i.wrote(len(run))
		}
	}
}

// merge gives the records of several partitions by time, those of each in their order.
type merge struct{ parts []*part }

type part struct {
	lines
	head *eventlog.Record
	at   time.Time
	over bool
}

func (m *merge) next() (*eventlog.Record, error) {
	var first *part
	for _, p := range m.parts {
		if p.head == nil && !p.over {
			r, err := p.lines.next()
			if err != nil {
				return nil, err
			}
			p.head, p.over = r, r == nil
			if r != nil {
				p.at = decidedAt(*r)
			}
		}
		if p.head != nil && (first == nil || p.at.Before(first.at)) {
			first = p
		}
	}
	if first == nil {
		return nil, nil
	}
	r := first.head
	first.head = nil
	return r, nil
}

// decidedAt is the time of a record's message (events.Headers), else the log's stamp.
func decidedAt(r eventlog.Record) time.Time {
	if t, err := time.Parse(time.RFC3339Nano, r.Header("ce_time")); err == nil {
		return t
	}
	return r.Time
}
