// One transaction of a group member: records and the positions of the inputs that they
// were decided from. The client's own session (kgo.GroupTransactSession) adds a heartbeat
// to each; here membership is left to the commit of the positions to prove.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// positions are what a group commits: the inputs' offsets, with their texts.
type positions struct {
	topics []kmsg.TxnOffsetCommitRequestTopic
	// late, if not nil, completes the texts: it runs when the records are written and
	// their offsets known.
	late func()
}

// add adds the position of one input.
func (p *positions) add(name string, partition int32, offset int64, text *string) {
	part := kmsg.NewTxnOffsetCommitRequestTopicPartition()
	part.Partition, part.Offset, part.LeaderEpoch, part.Metadata = partition, offset, -1, text
	for i := range p.topics {
		if p.topics[i].Topic == name {
			p.topics[i].Partitions = append(p.topics[i].Partitions, part)
			return
		}
	}
	t := kmsg.NewTxnOffsetCommitRequestTopic()
	t.Topic, t.Partitions = name, append(t.Partitions, part)
	p.topics = append(p.topics, t)
}

// complete runs late.
func (p *positions) complete() {
	if p.late != nil {
		p.late()
	}
}

// transact writes the records and commits positions in one transaction. After an error
// nothing of it may count: whether it did commit is for the group's offsets to say, which
// the next session reads. Between a poll and AllowRebalance no rebalance begins, and the
// broker takes positions from none but a member of the present generation (KIP-447), so
// that a transaction which has committed was the owner's.
func (m *member) transact(ctx context.Context, out []*kgo.Record, p positions) error {
	// Ending is never cancelled from outside: that would leave the outcome open.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.log.cfg.TransactionTimeout+5*time.Second)
	defer cancel()
	if len(out) == 0 {
		return m.commitAlone(ctx, p)
	}
	if err := m.cl.BeginTransaction(); err != nil {
		return m.trouble(fmt.Errorf("cannot begin a transaction: %w", unavailable(err)))
	}
	if err := m.writeAndCommit(ctx, out, p); err != nil {
		m.count("aborted")
		return m.trouble(errors.Join(err, m.abort(ctx)))
	}
	if err := m.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		m.count("unknown")
		return m.trouble(fmt.Errorf("it is not known whether a transaction has committed: %w", unavailable(err)))
	}
	m.count("committed")
	return nil
}

// abort ends what was begun. The member is given up after it; its successor's first
// request ends what this could not.
func (m *member) abort(ctx context.Context) error {
	if err := m.cl.AbortBufferedRecords(ctx); err != nil {
		return err
	}
	return m.cl.EndTransaction(ctx, kgo.TryAbort)
}

// writeAndCommit does all of a transaction but its end.
func (m *member) writeAndCommit(ctx context.Context, out []*kgo.Record, p positions) error {
	if err := m.write(ctx, out); err != nil {
		return err
	}
	// Not beside the write: while the broker notes one change of a transaction it refuses
	// any other, and the client's pauses then cost more than a request.
	id, epoch, err := m.cl.ProducerID(ctx)
	if err != nil {
		return fmt.Errorf("cannot get a producer id: %w", unavailable(err))
	}
	by := producer{id, epoch}
	if !m.v2 { // there the group comes in with its positions
		if err := m.addGroup(ctx, by); err != nil {
			return err
		}
	}
	p.complete()
	return m.commitPositions(ctx, by, p)
}

// write produces all records and waits for all.
func (m *member) write(ctx context.Context, out []*kgo.Record) error {
	var mu sync.Mutex
	var failed error
	written := func(r *kgo.Record, err error) {
		if err == nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if failed == nil {
			failed = fmt.Errorf("cannot write to %s: %w", r.Topic, unavailable(err))
		}
	}
	for _, r := range out {
		m.cl.Produce(ctx, r, written)
	}
	if err := m.cl.Flush(ctx); err != nil {
		return fmt.Errorf("cannot write a transaction's records: %w", unavailable(err))
	}
	mu.Lock()
	defer mu.Unlock()
	return failed
}

// addGroup makes the group's offsets a part of the transaction, as the first version
// of the protocol asks for.
func (m *member) addGroup(ctx context.Context, by producer) error {
	req := kmsg.NewPtrAddOffsetsToTxnRequest()
	req.TransactionalID, req.Group = m.log.transactionalID(m.group, m.log.cfg.Instance), m.log.cfg.Prefix+m.group
	req.ProducerID, req.ProducerEpoch = by.id, by.epoch
	for {
		resp, err := req.RequestWith(ctx, m.offsets)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err == nil {
			return nil
		}
		// The broker still notes the change before.
		if !errors.Is(err, kerr.ConcurrentTransactions) || wait(ctx, time.Millisecond) != nil {
			return fmt.Errorf("cannot add the group's offsets to a transaction: %w", unavailable(err))
		}
	}
}

// commitPositions makes the positions a part of the transaction, as a member of the group.
func (m *member) commitPositions(ctx context.Context, by producer, p positions) error {
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group = m.log.transactionalID(m.group, m.log.cfg.Instance), m.log.cfg.Prefix+m.group
	req.ProducerID, req.ProducerEpoch = by.id, by.epoch
	req.MemberID, req.Generation = m.cl.GroupMetadata()
	req.InstanceID = kmsg.StringPtr(m.log.cfg.Instance)
	req.Topics = p.topics
	resp, err := req.RequestWith(ctx, m.offsets)
	if err == nil {
		for _, t := range resp.Topics {
			err = errors.Join(err, refusals(t.Partitions, func(p kmsg.TxnOffsetCommitResponseTopicPartition) int16 { return p.ErrorCode }))
		}
	}
	return uncommitted(err)
}

// commitAlone commits positions behind inputs from which nothing was decided: there is
// nothing that they would have to be one with.
func (m *member) commitAlone(ctx context.Context, p positions) error {
	p.complete()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = m.log.cfg.Prefix + m.group
	req.MemberID, req.Generation = m.cl.GroupMetadata()
	req.InstanceID = kmsg.StringPtr(m.log.cfg.Instance)
	for _, t := range p.topics {
		topic := kmsg.NewOffsetCommitRequestTopic()
		topic.Topic = t.Topic
		for _, in := range t.Partitions {
			part := kmsg.NewOffsetCommitRequestTopicPartition()
			part.Partition, part.Offset, part.LeaderEpoch, part.Metadata = in.Partition, in.Offset, in.LeaderEpoch, in.Metadata
			topic.Partitions = append(topic.Partitions, part)
		}
		req.Topics = append(req.Topics, topic)
	}
	resp, err := req.RequestWith(ctx, m.offsets)
	if err == nil {
		for _, t := range resp.Topics {
			err = errors.Join(err, refusals(t.Partitions, func(p kmsg.OffsetCommitResponseTopicPartition) int16 { return p.ErrorCode }))
		}
	}
	if err != nil {
		m.count("unknown")
		return m.trouble(uncommitted(err))
	}
	m.count("committed")
	return nil
}

// refusals are what the broker says against the partitions of an answer.
func refusals[P any](parts []P, code func(P) int16) (err error) {
	for _, p := range parts {
		err = errors.Join(err, kerr.ErrorForCode(code(p)))
	}
	return err
}

func uncommitted(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot commit the group's offsets: %w", unavailable(err))
}

func (m *member) count(outcome string) {
	m.log.metrics.transactions.WithLabelValues(m.group, outcome).Inc()
}

// transactionsV2 says whether the client has transactions as KIP-890 changed them, which
// it has where the cluster has them and no older protocol is asked for.
func (l *Log) transactionsV2(ctx context.Context) (bool, error) {
	if v := l.cfg.BrokerVersion; v != "" {
		versions := kversion.FromString(v)
		for key, least := range map[kmsg.Key]int16{kmsg.Produce: 12, kmsg.EndTxn: 5, kmsg.TxnOffsetCommit: 5} {
			if most, ok := versions.LookupMaxKeyVersion(key.Int16()); !ok || most < least {
				return false, nil
			}
		}
	}
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, l.cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return false, fmt.Errorf("cannot read what the broker can: %w", unavailable(err))
	}
	return slices.ContainsFunc(resp.FinalizedFeatures, func(f kmsg.ApiVersionsResponseFinalizedFeature) bool {
		return f.Name == "transaction.version" && f.MaxVersionLevel >= 2
	}), nil
}

// offsetsClient is for requests that commit positions: the newest versions name
// topics by ids, and those of transactions go with what the member's client speaks.
func (l *Log) offsetsClient(v2 bool) (*kgo.Client, error) {
	versions := kversion.Stable()
	if v := l.cfg.BrokerVersion; v != "" {
		versions = kversion.FromString(v)
	}
	most := map[kmsg.Key]int16{kmsg.OffsetCommit: 9, kmsg.TxnOffsetCommit: 4}
	if v2 {
		most[kmsg.TxnOffsetCommit] = 5
	}
	for k, v := range most {
		if now, ok := versions.LookupMaxKeyVersion(k.Int16()); ok && now > v {
			versions.SetMaxKeyVersion(k.Int16(), v)
		}
	}
	return l.client(kgo.MaxVersions(versions))
}
