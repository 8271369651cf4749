// What the transactional members of a group (runner and lanes) share: fencing
// dead peers, leaving, waking a poll, and what the group has committed.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// fenceDead ends the open transactions of peers that are no longer members of
// the group. A dead peer's open transaction keeps the group's offsets unstable,
// and with them everybody's assignment, until the broker's transaction time-out.
func (l *Log) fenceDead(ctx context.Context, group, self string) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := l.tryFenceDead(ctx, group, self); err != nil {
		// Not fatal: the broker aborts those transactions by itself, only later.
		l.cfg.Logger.Warn("cannot look for open transactions of dead peers", "group", group, "error", err)
	}
}

func (l *Log) tryFenceDead(ctx context.Context, group, self string) error {
	prefix := l.transactionalPrefix(group)
	open, err := l.admin.ListTransactions(ctx, nil, []string{"Ongoing"})
	if err != nil {
		return err
	}
	var suspects []string
	for id := range open {
		if strings.HasPrefix(id, prefix) && id != prefix+self {
			suspects = append(suspects, id)
		}
	}
	if len(suspects) == 0 {
		return nil
	}
	// Members are listed after the transactions: who began one and is missing now has left.
	described, err := l.admin.DescribeGroups(ctx, l.cfg.Prefix+group)
	if err == nil {
		err = described.Error()
	}
	if err != nil {
		return err
	}
	alive := make(map[string]bool)
	for _, m := range described[l.cfg.Prefix+group].Members {
		if m.InstanceID != nil {
			alive[prefix+*m.InstanceID] = true
		}
	}
	for _, id := range suspects {
		if alive[id] {
			continue
		}
		if err := l.fence(ctx, id); err != nil {
			return fmt.Errorf("cannot end the transaction of %q: %w", id, err)
		}
		l.cfg.Logger.Info("ended the open transaction of a dead peer", "transactional_id", id)
	}
	return nil
}

// fence asks for the transactional id's producer id, which aborts what is open under it.
func (l *Log) fence(ctx context.Context, id string) error {
	for {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionalID = &id
		req.TransactionTimeoutMillis = int32(l.cfg.TransactionTimeout.Milliseconds()) //nolint:gosec // seconds
		resp, err := req.RequestWith(ctx, l.cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) {
			return err
		}
		if err := wait(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// leave takes a static member out of its group, which closing a client does not.
// The member id goes along, so that a successor of the same name stays in.
func (l *Log) leave(group, instance string, cl *kgo.Client) {
	member, _ := cl.GroupMetadata()
	if member == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = l.cfg.Prefix + group
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID, m.InstanceID = member, kmsg.StringPtr(instance)
	req.Members = append(req.Members, m)
	resp, err := req.RequestWith(ctx, l.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	for i := 0; err == nil && i < len(resp.Members); i++ {
		err = kerr.ErrorForCode(resp.Members[i].ErrorCode)
	}
	if err != nil {
		l.cfg.Logger.Warn("cannot leave the group; its partitions move when the session times out", "group", group, "error", err)
	}
}

// committed is what a group has committed for one partition number of its inputs.
type committed struct {
	offsets Offsets // by input; -1: none
	seq     uint64  // counts the commits for this partition number
	by      string  // the instance that made the newest commit
	meta    string  // its text
}

// committedOffsets reads an offset fetch, by set of inputs and partition number. The
// inputs of a set are co-partitioned, and the newest metadata among them wins.
func (l *Log) committedOffsets(resp *kmsg.OffsetFetchResponse, set setFunc) owned {
	out := make(owned)
	add := func(topic string, partition int32, offset int64, meta *string) {
		topic = strings.TrimPrefix(topic, l.cfg.Prefix)
		parts := out[set(topic)]
		if parts == nil {
			parts = make(map[int32]*committed)
			out[set(topic)] = parts
		}
		c := parts[partition]
		if c == nil {
			c = &committed{offsets: make(Offsets)}
			parts[partition] = c
		}
		c.offsets[TopicPartition{topic, partition}] = offset
		if seq, by, text, ok := parseMeta(meta); ok && seq >= c.seq {
			c.seq, c.by, c.meta = seq, by, text
		}
	}
	for _, t := range resp.Topics { // before version 8 of the request
		for _, p := range t.Partitions {
			add(t.Topic, p.Partition, p.Offset, p.Metadata)
		}
	}
	for _, g := range resp.Groups {
		for _, t := range g.Topics {
			for _, p := range t.Partitions {
				add(t.Topic, p.Partition, p.Offset, p.Metadata)
			}
		}
	}
	return out
}

// Commit metadata is "<count of commits> <instance> <text of the caller>".
func (l *Log) formatMeta(seq uint64, text string) *string {
	s := strconv.FormatUint(seq, 10) + " " + l.cfg.Instance + " " + text
	return &s
}

func parseMeta(meta *string) (seq uint64, by, text string, ok bool) {
	if meta == nil {
		return 0, "", "", false
	}
	parts := strings.SplitN(*meta, " ", 3)
	if len(parts) < 3 {
		return 0, "", "", false
	}
	seq, err := strconv.ParseUint(parts[0], 10, 64)
	return seq, parts[1], parts[2], err == nil
}

// FetchCommitted reads what a group has committed: the position of each of its
// partitions and the text that its owner kept with it.
func (l *Log) FetchCommitted(ctx context.Context, group string) (Offsets, map[TopicPartition]string, error) {
	resps, err := l.admin.FetchOffsets(ctx, l.cfg.Prefix+group)
	if err == nil {
		err = resps.Error()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read the offsets of group %q: %w", group, unavailable(err))
	}
	offsets, texts := make(Offsets), make(map[TopicPartition]string)
	resps.Each(func(o kadm.OffsetResponse) {
		tp := TopicPartition{strings.TrimPrefix(o.Topic, l.cfg.Prefix), o.Partition}
		offsets[tp] = o.At
		_, _, texts[tp], _ = parseMeta(&o.Metadata)
	})
	return offsets, texts, nil
}

// waker interrupts a poll from another goroutine.
type waker struct {
	mu     sync.Mutex
	due    bool
	cancel context.CancelFunc
}

// context is for one poll; a wake that came before it ends it at once.
func (w *waker) context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cancel = cancel
	if w.due {
		w.due = false
		cancel()
	}
	return ctx, cancel
}

func (w *waker) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.due = true
	if w.cancel != nil {
		w.cancel()
	}
}
