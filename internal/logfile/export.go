// Out of a log into a file.

package logfile

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Topics are what a history is made of unless somebody asks for others: the facts, for
// ever; the commands and reports that they were decided from, as long as they are
// kept; and what could not be handled. The rest of the log follows from these (replies,
// the index), belongs to running processes (workers, beats, task.stop), or would have
// work done again that is done (the lanes' commands).
func Topics() []string {
	return []string{events.TopicJobEvents, events.TopicProfileEvents, events.TopicJobCommands, events.TopicProfileCommands, events.TopicTaskEvents, events.TopicDeadLetters}
}

// Selection says which records are exported. The zero value is a whole history.
type Selection struct {
	Topics       []string  // without the prefix; nil: Topics()
	Key          string    // only records with this key, such as a job's id
	Since, Until time.Time // only records that the log stamped in between, both included; zero: no bound
}

// Export writes the committed records of the log as of the call, topic by topic and
// partition by partition, and returns how many. The same records give the same bytes.
// No fact is in the file without the input that it was decided from, if that is kept.
func Export(ctx context.Context, log *eventlog.Log, w io.Writer, s Selection) (records int64, err error) {
	if s.Topics == nil {
		s.Topics = Topics()
	}
	h := header{Version: version, Partitions: make(map[string]int)}
	for _, topic := range s.Topics {
		if h.Partitions[topic] = log.Partitions(topic); h.Partitions[topic] == 0 {
			return 0, fmt.Errorf("there is no topic %q; give its name without the prefix, such as %s", topic, events.TopicJobEvents)
		}
	}
	ends := make(map[eventlog.TopicPartition]eventlog.Range)
	for _, topic := range factsFirst(s.Topics) { // so that an input which a fact names is never behind the end
		ranges, err := log.Ranges(ctx, topic)
		if err != nil {
			return 0, err
		}
		for tp, r := range ranges {
			ends[tp] = r
		}
	}
	if s.Key == "" && s.Since.IsZero() && s.Until.IsZero() {
		h.Ends = make(map[string][]int64)
		for _, topic := range s.Topics {
			for p := range int32(h.Partitions[topic]) { //nolint:gosec // partitions are few
				h.Ends[topic] = append(h.Ends[topic], ends[eventlog.TopicPartition{Topic: topic, Partition: p}].Stable)
			}
		}
	}
	out := bufio.NewWriterSize(w, 1<<20)
	first, err := json.Marshal(h)
	if err != nil {
		return 0, err
	}
	if _, err := out.Write(append(first, '\n')); err != nil {
		return 0, fmt.Errorf("cannot write the file: %w", err)
	}
	e := export{log: log, out: out, selection: s}
	for _, topic := range s.Topics {
		for p := range int32(h.Partitions[topic]) { //nolint:gosec // partitions are few
			tp := eventlog.TopicPartition{Topic: topic, Partition: p}
			if err := e.partition(ctx, tp, ends[tp]); err != nil {
				return e.records, err
			}
		}
	}
	last, err := json.Marshal(footer{End: true, Records: e.records})
	if err != nil {
		return e.records, err
	}
	_, err = out.Write(append(last, '\n'))
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return e.records, fmt.Errorf("cannot write the file: %w", err)
	}
	return e.records, nil
}

// factsFirst puts the topics of facts before those of inputs.
func factsFirst(topics []string) []string {
	out := slices.Clone(topics)
	slices.SortStableFunc(out, func(a, b string) int { return rank(a) - rank(b) })
	return out
}

func rank(topic string) int {
	if topic == events.TopicJobEvents || topic == events.TopicProfileEvents {
		return 0
	}
	return 1
}

type export struct {
	log       *eventlog.Log
	out       *bufio.Writer
	selection Selection
	records   int64
	buf       []byte
}

func (e *export) partition(ctx context.Context, tp eventlog.TopicPartition, have eventlog.Range) error {
	from, s := have.Start, e.selection
	if s.Key != "" && !isLane(tp.Topic) && eventlog.PartitionFor(s.Key, e.log.Partitions(tp.Topic)) != tp.Partition {
		return nil
	}
	if !s.Since.IsZero() {
		since, err := e.log.Since(ctx, tp.Topic, s.Since)
		if err != nil {
			return err
		}
		from = max(from, since[tp])
	}
	if from >= have.Stable {
		return nil
	}
	r, err := e.log.NewReader(eventlog.Offsets{tp: from})
	if err != nil {
		return err
	}
	defer r.Close()
	for from < have.Stable {
		b, err := r.Poll(ctx, 1000)
		if err != nil {
			return err
		}
		for _, rec := range b.Records {
			if rec.Offset >= have.Stable || s.Key != "" && rec.Key != s.Key ||
				!s.Since.IsZero() && rec.Time.Before(s.Since) || !s.Until.IsZero() && rec.Time.After(s.Until) {
				continue
			}
			if err := e.write(rec); err != nil {
				return err
			}
		}
		from = max(from, b.Next[tp])
	}
	return nil
}

func (e *export) write(r eventlog.Record) (err error) {
	if e.buf, err = writeRecord(e.buf[:0], r); err != nil {
		return err
	}
	if _, err := e.out.Write(e.buf); err != nil {
		return fmt.Errorf("cannot write the file: %w", err)
	}
	e.records++
	return nil
}

// isLane says whether a topic's partitions are slots, which no key decides.
func isLane(topic string) bool {
	for _, lane := range events.Lanes() {
		if topic == events.LaneTopic(lane) || topic == events.LaneBatchTopic(lane) {
			return true
		}
	}
	return false
}
