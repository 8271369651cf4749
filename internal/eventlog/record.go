// Records as the rest of the program sees them, and which partition each goes to.

package eventlog

import (
	"fmt"
	"strconv"
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
	HeaderResolves        = "resolves"      // the dead letter that this mark, which has no value, resolves: "<partition>:<offset>"
	HeaderResolution      = "resolution"    // how: replayed or discarded
	HeaderReplays         = "replays"       // the dead letter that this record is again: "<partition>:<offset>"
)

// Record is one entry of the log.
type Record struct {
	Topic     string // without the prefix
	Partition int32  // on writing used for lane topics alone, where it is the slot; elsewhere the key decides
	Offset    int64  // set by the log
	Key       string
	Value     []byte
	Headers   []Header
	Time      time.Time // set by the log when zero; on writing the wait for the broker counts from here
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
func PartitionFor[T ~string | ~[]byte](key T, n int) int32 {
	return int32(murmur2(key)&0x7fffffff) % int32(n) //nolint:gosec // masked to 31 bits; partitions are few
}

// murmur2 is org.apache.kafka.common.utils.Utils.murmur2.
func murmur2[T ~string | ~[]byte](data T) uint32 {
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
	return func(r *kgo.Record, n int) int { return int(PartitionFor(r.Key, n)) }
}

// outgoing checks a record and translates it for the client. If it was decided from a
// source, its headers name that one, in place of what they named before.
func (l *Log) outgoing(r Record, source *Record) (*kgo.Record, error) {
	spec, known := l.specs[r.Topic]
	switch {
	case known && spec.lane != "" && (r.Partition < 0 || int(r.Partition) >= spec.partitions):
		return nil, fmt.Errorf("cannot write to %s: partition %d is not among its %d", r.Topic, r.Partition, spec.partitions)
	case known && r.Key == "" && spec.topic != topicDeadLetters:
		return nil, fmt.Errorf("cannot write to %s: the record has no key", r.Topic)
	}
	name := spec.name
	if !known {
		name = l.cfg.Prefix + r.Topic
	}
	out := &kgo.Record{Topic: name, Partition: r.Partition, Value: r.Value, Timestamp: r.Time}
	// Key and headers share one allocation: there are a dozen in each of thirty records a job.
	size := len(r.Key)
	for _, h := range r.Headers {
		size += len(h.Value)
	}
	if source != nil {
		size += len(source.Topic) + 2*20
	}
	buf := append(make([]byte, 0, size), r.Key...)
	out.Key = buf
	if len(r.Headers) == 0 && source == nil {
		return out, nil
	}
	out.Headers = make([]kgo.RecordHeader, 0, len(r.Headers)+3)
	add := func(key string, from int) {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: key, Value: buf[from:len(buf):len(buf)]})
	}
	for _, h := range r.Headers {
		if source == nil || !namesSource(h.Key) {
			from := len(buf)
			buf = append(buf, h.Value...)
			add(h.Key, from)
		}
	}
	if source != nil {
		from := len(buf)
		buf = append(buf, source.Topic...)
		add(HeaderSourceTopic, from)
		from = len(buf)
		buf = strconv.AppendInt(buf, int64(source.Partition), 10)
		add(HeaderSourcePartition, from)
		from = len(buf)
		buf = strconv.AppendInt(buf, source.Offset, 10)
		add(HeaderSourceOffset, from)
	}
	return out, nil
}

func namesSource(header string) bool {
	return header == HeaderSourceTopic || header == HeaderSourcePartition || header == HeaderSourceOffset
}

// incoming translates a record of the client; topic has no prefix.
func incoming(r *kgo.Record, topic string) Record {
	in := Record{Topic: topic, Partition: r.Partition, Offset: r.Offset, Value: r.Value, Time: r.Timestamp}
	if len(r.Headers) == 0 {
		in.Key = string(r.Key)
		return in
	}
	size := len(r.Key)
	for _, h := range r.Headers {
		size += len(h.Value)
	}
	var text strings.Builder // one allocation, as in outgoing
	text.Grow(size)
	text.Write(r.Key)
	for _, h := range r.Headers {
		text.Write(h.Value)
	}
	all := text.String()
	in.Key, all = all[:len(r.Key)], all[len(r.Key):]
	in.Headers = make([]Header, len(r.Headers))
	for i, h := range r.Headers {
		in.Headers[i], all = Header{h.Key, all[:len(h.Value)]}, all[len(h.Value):]
	}
	return in
}
