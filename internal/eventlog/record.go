// Records as the rest of the program sees them, and which partition each goes to.

package eventlog

import (
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Headers that this package writes.
const (
	HeaderSourceTopic     = "src_topic"     // the input that a record was decided from
	HeaderSourcePartition = "src_partition" // decimal
	HeaderSourceOffset    = "src_offset"    // decimal
	HeaderReason          = "reason"        // why a dead letter lies there
)

// Record is one entry of the log.
type Record struct {
	Topic     string // without the prefix
	Partition int32  // on writing used for lane topics alone, where it is the slot; elsewhere the key decides
	Offset    int64  // set by the log
	Key       string
	Value     []byte
	Headers   []Header
	Time      time.Time // set by the log when zero
}

// Header is one header of a record.
type Header struct{ Key, Value string }

// Header returns the value of the first header of that name, or "".
func (r Record) Header(key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return h.Value
		}
	}
	return ""
}

// At is where the record lies.
func (r Record) At() TopicPartition { return TopicPartition{r.Topic, r.Partition} }

// TopicPartition names one partition; the topic has no prefix.
type TopicPartition struct {
	Topic     string
	Partition int32
}

func (tp TopicPartition) String() string { return fmt.Sprintf("%s/%d", tp.Topic, tp.Partition) }

// Offsets is a position: for each partition the offset to read next.
type Offsets map[TopicPartition]int64

// PartitionFor is the partition of a key among n, as Java's default partitioner
// has it (murmur2). Every writer uses it: a second hash would break per-job order.
func PartitionFor(key string, n int) int32 {
	return int32(murmur2(key)&0x7fffffff) % int32(n) //nolint:gosec // masked to 31 bits; partitions are few
}

// murmur2 is org.apache.kafka.common.utils.Utils.murmur2.
func murmur2(data string) uint32 {
	const m, seed = 0x5bd1e995, 0x9747b28c
	h := uint32(seed) ^ uint32(len(data)) //nolint:gosec // Java's int length
	for len(data) >= 4 {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> 24
		h = h*m ^ k*m
		data = data[4:]
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h = (h ^ uint32(data[0])) * m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}

// partitioner places a record that outgoing has checked.
func (l *Log) partitioner(topic string) func(*kgo.Record, int) int {
	if l.specs[strings.TrimPrefix(topic, l.cfg.Prefix)].lane != "" {
		return func(r *kgo.Record, _ int) int { return int(r.Partition) }
	}
	return func(r *kgo.Record, n int) int { return int(PartitionFor(string(r.Key), n)) }
}

// outgoing checks a record and translates it for the client.
func (l *Log) outgoing(r Record) (*kgo.Record, error) {
	spec, known := l.specs[r.Topic]
	switch {
	case known && spec.lane != "" && (r.Partition < 0 || int(r.Partition) >= spec.partitions):
		return nil, fmt.Errorf("cannot write to %s: partition %d is not among its %d", r.Topic, r.Partition, spec.partitions)
	case known && r.Key == "" && spec.topic != topicDeadLetters:
		return nil, fmt.Errorf("cannot write to %s: the record has no key", r.Topic)
	}
	out := &kgo.Record{Topic: l.cfg.Prefix + r.Topic, Partition: r.Partition, Key: []byte(r.Key), Value: r.Value, Timestamp: r.Time}
	if len(r.Headers) > 0 {
		out.Headers = make([]kgo.RecordHeader, len(r.Headers))
		for i, h := range r.Headers {
			out.Headers[i] = kgo.RecordHeader{Key: h.Key, Value: []byte(h.Value)}
		}
	}
	return out, nil
}

// incoming translates a record of the client.
func (l *Log) incoming(r *kgo.Record) Record {
	in := Record{
		Topic: strings.TrimPrefix(r.Topic, l.cfg.Prefix), Partition: r.Partition, Offset: r.Offset,
		Key: string(r.Key), Value: r.Value, Time: r.Timestamp,
	}
	if len(r.Headers) > 0 {
		in.Headers = make([]Header, len(r.Headers))
		for i, h := range r.Headers {
			in.Headers[i] = Header{h.Key, string(h.Value)}
		}
	}
	return in
}
