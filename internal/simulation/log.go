// The log: partitions with offsets, transactions whose markers take offsets, reads
// of what is committed, and groups with their offsets.

package simulation

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// What the log refuses.
var (
	errFenced     = errors.New("another producer has taken over the transactional id")
	errGeneration = errors.New("the member is not of the group's generation")
)

type place = eventlog.TopicPartition

// transaction states.
const (
	txnOpen = iota
	txnCommitted
	txnAborted
)

type slot struct {
	rec    eventlog.Record
	txn    *transaction // nil: written without one
	marker bool
}

type transaction struct {
	id      string
	epoch   int
	state   int
	first   map[place]int64 // offset of its first record, by partition written to
	touched []place
	group   *group // whose offsets it commits
	pending map[place]commit
}

// commit is a group's position, with its text.
type commit struct {
	offset int64
	seq    int
	meta   string
}

type memLog struct {
	now        func() time.Time
	partitions func(topic string) int
	parts      map[place][]slot
	open       []*transaction
	epochs     map[string]int // by transactional id
	groups     map[string]*group
}

func newMemLog(now func() time.Time, partitions func(string) int) *memLog {
	return &memLog{now: now, partitions: partitions, parts: map[place][]slot{}, epochs: map[string]int{}, groups: map[string]*group{}}
}

// partitioned says whether a topic's writer chooses the partition.
func partitioned(topic string) bool {
	return len(topic) > len("gpu.") && topic[:4] == "gpu." && topic[len(topic)-9:] == ".commands"
}

// write appends a record and gives it back as it lies there.
func (l *memLog) write(r eventlog.Record, t *transaction) eventlog.Record {
	if !partitioned(r.Topic) {
		r.Partition = eventlog.PartitionFor(r.Key, l.partitions(r.Topic))
	}
	at := r.At()
	r.Offset, r.Time = int64(len(l.parts[at])), l.now()
	if t != nil {
		if _, known := t.first[at]; !known {
			t.first[at] = r.Offset
			t.touched = append(t.touched, at)
		}
	}
	l.parts[at] = append(l.parts[at], slot{rec: r, txn: t})
	return r
}

// producer takes over a transactional id: what is open under it is aborted.
func (l *memLog) producer(id string) (epoch int) {
	l.epochs[id]++
	for _, t := range slices.Clone(l.open) {
		if t.id == id {
			l.end(t, txnAborted)
		}
	}
	return l.epochs[id]
}

func (l *memLog) begin(id string, epoch int) *transaction {
	t := &transaction{id: id, epoch: epoch, first: map[place]int64{}}
	l.open = append(l.open, t)
	return t
}

// addOffsets puts a group's positions into the transaction. Only a member of the
// current generation may.
func (l *memLog) addOffsets(t *transaction, g *group, generation int, offsets map[place]commit) error {
	switch {
	case l.epochs[t.id] != t.epoch:
		return errFenced
	case g.generation != generation:
		return errGeneration
	}
	t.group, t.pending = g, offsets
	return nil
}

// commit ends the transaction well, unless its producer was taken over.
func (l *memLog) commit(t *transaction) error {
	if l.epochs[t.id] != t.epoch || t.state != txnOpen {
		return errFenced
	}
	l.end(t, txnCommitted)
	return nil
}

func (l *memLog) end(t *transaction, state int) {
	t.state = state
	l.open = slices.DeleteFunc(l.open, func(o *transaction) bool { return o == t })
	if state == txnCommitted && t.group != nil {
		maps.Copy(t.group.commits, t.pending)
	}
	for _, at := range t.touched {
		l.parts[at] = append(l.parts[at], slot{marker: true})
	}
}

// stable is the offset before which everything is decided.
func (l *memLog) stable(at place) int64 {
	end := int64(len(l.parts[at]))
	for _, t := range l.open {
		if first, ok := t.first[at]; ok && first < end {
			end = first
		}
	}
	return end
}

// read gives at most n committed records from an offset on, and where to go on.
func (l *memLog) read(at place, from int64, n int) ([]eventlog.Record, int64) {
	var out []eventlog.Record
	stable := l.stable(at)
	for ; from < stable && len(out) < n; from++ {
		s := l.parts[at][from]
		if !s.marker && (s.txn == nil || s.txn.state == txnCommitted) {
			out = append(out, s.rec)
		}
	}
	return out, from
}

// all gives every committed record of a topic, by partition and offset.
func (l *memLog) all(topic string) []eventlog.Record {
	var out []eventlog.Record
	for p := range int32(l.partitions(topic)) { //nolint:gosec // a handful
		at := place{Topic: topic, Partition: p}
		records, _ := l.read(at, 0, len(l.parts[at]))
		out = append(out, records...)
	}
	return out
}

// topics are all of the system's.
func topics() []string {
	out := []string{events.TopicJobCommands, events.TopicJobEvents, events.TopicJobIndex, events.TopicJobReplies, events.TopicProfileCommands,
		events.TopicProfileEvents, events.TopicTaskEvents, events.TopicTaskProgress, events.TopicTaskControl, events.TopicWorkers, events.TopicDeadLetters, events.TopicWebhookCommands, events.TopicWebhooks}
	for _, lane := range events.Lanes() {
		out = append(out, events.LaneTopic(lane), events.LaneBatchTopic(lane))
	}
	return out
}

// group is a consumer group: who owns which partition number, and how far it is.
type group struct {
	generation int
	members    []string
	owner      map[int32]string
	commits    map[place]commit
}

func (l *memLog) group(name string) *group {
	if l.groups[name] == nil {
		l.groups[name] = &group{owner: map[int32]string{}, commits: map[place]commit{}}
	}
	return l.groups[name]
}

func (g *group) join(member string) {
	if !slices.Contains(g.members, member) {
		g.members = append(g.members, member)
		slices.Sort(g.members)
	}
}

func (g *group) leave(member string) {
	g.members = slices.DeleteFunc(g.members, func(m string) bool { return m == member })
}

// assign spreads partitions over the members in a new generation.
func (g *group) assign(partitions int, pick func(n int) int) {
	g.generation++
	g.owner = map[int32]string{}
	if len(g.members) == 0 {
		return
	}
	first := pick(len(g.members))
	for p := range int32(partitions) { //nolint:gosec // a handful
		g.owner[p] = g.members[(first+int(p))%len(g.members)]
	}
}

// unstable says whether an open transaction is about to move the group's position
// on a partition number: its offsets cannot be read until that has ended.
func (l *memLog) unstable(g *group, p int32) bool {
	for _, t := range l.open {
		for at := range t.pending {
			if t.group == g && at.Partition == p {
				return true
			}
		}
	}
	return false
}
