// The first pass over a file: every line is checked before anything is written, and
// noted where each partition's lines lie.

package logfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// ErrFile says that a file is no whole history; the text names the line.
var ErrFile = errors.New("the file cannot be imported")

// section is a stretch of lines of one partition.
type section struct{ at, size int64 }

// contents is what a file holds.
type contents struct {
	partitions map[string]int // by topic
	ends       map[string][]int64
	records    int64
	sections   map[eventlog.TopicPartition][]section
}

type scan struct {
	contents
	last map[eventlog.TopicPartition]int64 // offsets
	done bool                              // the last line was read
}

// scanFile reads all of it.
func scanFile(file io.ReaderAt, size int64) (contents, error) {
	s := scan{contents: contents{sections: make(map[eventlog.TopicPartition][]section)}, last: make(map[eventlog.TopicPartition]int64)}
	in := bufio.NewReaderSize(io.NewSectionReader(file, 0, size), 1<<20)
	at := int64(0)
	for n := 1; ; n++ {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			break
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return s.contents, fmt.Errorf("cannot read the file: %w", err)
		}
		if err := s.take(n, at, text); err != nil {
			return s.contents, fmt.Errorf("%w: line %d: %w", ErrFile, n, err)
		}
		at += int64(len(text))
	}
	if !s.done {
		return s.contents, fmt.Errorf("%w: it ends after %d records without its last line, so part of it is missing; export it again", ErrFile, s.records)
	}
	return s.contents, nil
}

func (s *scan) take(n int, at int64, text []byte) error {
	if s.done {
		return errors.New("something follows the last line of the history")
	}
	h, f, r, err := readLine(bytes.TrimRight(text, "\r\n"))
	switch {
	case n == 1 && (err != nil || h.Version == 0):
		return errors.New(`a history starts with {"myspinbot_history":1, …}, as myspinbot log export writes it`)
	case err != nil:
		return err
	case n == 1 && h.Version != version:
		return fmt.Errorf("the file has format %d, this program reads %d; update this program", h.Version, version)
	case n == 1:
		s.partitions, s.ends = h.Partitions, h.Ends
		for topic, ends := range h.Ends {
			if len(ends) != h.Partitions[topic] {
				return fmt.Errorf("%s has %d partitions and %d ends", topic, h.Partitions[topic], len(ends))
			}
		}
		return nil
	case f.End:
		s.done = true
		if f.Records != s.records {
			return fmt.Errorf("the file held %d records and now has %d; export it again", f.Records, s.records)
		}
		return s.checkEnds()
	case r == nil:
		return errors.New("a second first line; import the files one after another")
	}
	return s.record(*r, at, int64(len(text)))
}

func (s *scan) checkEnds() error {
	for tp, last := range s.last {
		if end, known := s.end(tp); known && last >= end {
			return fmt.Errorf("%s ends at offset %d by the first line and has a record at %d", tp, end, last)
		}
	}
	return nil
}

// end is where a partition ended, if the file says so.
func (c contents) end(tp eventlog.TopicPartition) (int64, bool) {
	ends := c.ends[tp.Topic]
	if int(tp.Partition) >= len(ends) {
		return 0, false
	}
	return ends[tp.Partition], true
}

func (s *scan) record(r eventlog.Record, at, size int64) error {
	tp := r.At()
	last, seen := s.last[tp]
	switch n := s.partitions[r.Topic]; {
	case n == 0:
		return fmt.Errorf("topic %q is not among those of the first line", r.Topic)
	case r.Partition < 0 || int(r.Partition) >= n:
		return fmt.Errorf("partition %d is not among the %d of %s", r.Partition, n, r.Topic)
	case r.Offset < 0 || seen && r.Offset <= last:
		return fmt.Errorf("offset %d of %s follows offset %d; they must grow", r.Offset, tp, last)
	case r.Time.IsZero():
		return errors.New("it has no time")
	case !isLane(r.Topic) && eventlog.PartitionFor(r.Key, n) != r.Partition:
		return fmt.Errorf("key %q belongs in partition %d of %s, not in %d", r.Key, eventlog.PartitionFor(r.Key, n), r.Topic, r.Partition)
	}
	s.last[tp] = r.Offset
	s.records++
	list := s.sections[tp]
	if k := len(list) - 1; k >= 0 && list[k].at+list[k].size == at {
		list[k].size += size
	} else {
		list = append(list, section{at, size})
	}
	s.sections[tp] = list
	return nil
}

// lines reads the records of one partition.
type lines struct {
	file     io.ReaderAt
	sections []section
	in       *bufio.Reader
}

// next is the partition's next record, or nil after the last one.
func (l *lines) next() (*eventlog.Record, error) {
	for {
		if l.in == nil {
			if len(l.sections) == 0 {
				return nil, nil
			}
			l.in = bufio.NewReaderSize(io.NewSectionReader(l.file, l.sections[0].at, l.sections[0].size), 64<<10)
			l.sections = l.sections[1:]
		}
		text, err := l.in.ReadBytes('\n')
		switch {
		case len(text) > 0:
			_, _, r, err := readLine(bytes.TrimRight(text, "\r\n"))
			if err == nil && r == nil {
				err = errors.New("the file has changed since it was checked")
			}
			return r, err
		case errors.Is(err, io.EOF):
			l.in = nil
		default:
			return nil, fmt.Errorf("cannot read the file: %w", err)
		}
	}
}
