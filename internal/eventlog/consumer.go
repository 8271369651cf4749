// The group consumer for work that is not decided in transactions: at least once,
// in order within a partition, a goroutine for each.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Records held of one partition, beyond which it is not fetched; half of it to go on.
const consumerBacklog = 256

// ConsumerConfig says what a consumer handles.
type ConsumerConfig struct {
	Group  string
	Topics []string
	// Handle handles one record. Calls for one partition follow one another, those of
	// several run at once. Its offset is committed when it returns nil; after an error
	// it is called again with the same record. Ctx ends when the partition is taken
	// away or the consumer ends; what returns later is not committed.
	Handle func(ctx context.Context, r Record) error
	// Retry is the pause before the same record is handled again; default 100 ms.
	Retry time.Duration
}

type consumer struct {
	log *Log
	cfg ConsumerConfig
	cl  *kgo.Client

	mu    sync.Mutex
	parts map[TopicPartition]*partition
}

// partition is the work on one assigned partition.
type partition struct {
	name   map[string][]int32 // as the client wants it
	cancel context.CancelFunc
	done   chan struct{}
	more   chan struct{} // holds one token when the queue has grown
	lost   atomic.Bool   // another member may have it

	mu     sync.Mutex
	queue  []*kgo.Record
	paused bool
}

// Consume handles the group's share of the topics until ctx ends (nil), or until
// records are lost (ErrDataLoss) or cannot be read at all.
func (l *Log) Consume(ctx context.Context, cfg ConsumerConfig) error {
	def(&cfg.Retry, 100*time.Millisecond)
	c := &consumer{log: l, cfg: cfg, parts: make(map[TopicPartition]*partition)}
	cl, err := l.client(
		kgo.ConsumerGroup(l.cfg.Prefix+cfg.Group),
		kgo.ConsumeTopics(l.names(cfg.Topics)...),
		kgo.SessionTimeout(l.cfg.SessionTimeout),
		kgo.HeartbeatInterval(max(l.cfg.SessionTimeout/10, 50*time.Millisecond)),
		kgo.AutoCommitMarks(),
		kgo.AutoCommitInterval(200*time.Millisecond),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { c.assigned(ctx, m) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { c.revoked(ctx, m, true) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, m map[string][]int32) { c.revoked(ctx, m, false) }),
	)
	if err != nil {
		return fmt.Errorf("cannot consume %v: %w", cfg.Topics, err)
	}
	c.cl = cl
	defer cl.CloseAllowingRebalance() // which revokes everything
	for {
		fetches := cl.PollFetches(ctx)
		var group *kgo.ErrGroupSession
		switch err := l.fetchError(ctx, fetches); {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &group):
			l.cfg.Logger.Warn("the group session was lost", "group", cfg.Group, "error", err)
		case err != nil && !errors.Is(err, ErrUnavailable):
			return err
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) { c.enqueue(p) })
		cl.AllowRebalance()
	}
}

func (c *consumer) at(topic string, p int32) TopicPartition {
	return TopicPartition{strings.TrimPrefix(topic, c.log.cfg.Prefix), p}
}

func (c *consumer) assigned(ctx context.Context, m map[string][]int32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for topic, parts := range m {
		for _, n := range parts {
			partCtx, cancel := context.WithCancel(ctx)
			p := &partition{
				name: map[string][]int32{topic: {n}}, cancel: cancel,
				done: make(chan struct{}), more: make(chan struct{}, 1),
			}
			c.parts[c.at(topic, n)] = p
			go c.work(partCtx, p)
		}
	}
}

// revoked stops the work on partitions and, while they are still ours, commits it.
func (c *consumer) revoked(ctx context.Context, m map[string][]int32, commit bool) {
	c.mu.Lock()
	var gone []*partition
	for topic, parts := range m {
		for _, n := range parts {
			if p := c.parts[c.at(topic, n)]; p != nil {
				gone = append(gone, p)
				delete(c.parts, c.at(topic, n))
			}
		}
	}
	c.mu.Unlock()
	for _, p := range gone {
		p.cancel()
	}
	// A handler that does not heed its context would hold up the whole group.
	patience := time.NewTimer(c.log.cfg.SessionTimeout / 2)
	defer patience.Stop()
	for _, p := range gone {
		select {
		case <-p.done:
		case <-patience.C:
			c.log.cfg.Logger.Warn("a handler goes on after its partition was taken away", "group", c.cfg.Group)
		}
		p.lost.Store(true)
		c.cl.ResumeFetchPartitions(p.name)
	}
	if !commit || len(gone) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.log.cfg.SessionTimeout/2)
	defer cancel()
	if err := c.cl.CommitMarkedOffsets(ctx); err != nil {
		c.log.cfg.Logger.Warn("cannot commit before partitions move; some records will be handled again", "group", c.cfg.Group, "error", err)
	}
}

func (c *consumer) enqueue(f kgo.FetchTopicPartition) {
	records := slices.DeleteFunc(f.Records, func(r *kgo.Record) bool { return r.Attrs.IsControl() })
	if len(records) == 0 {
		return // an error of no topic, for example
	}
	c.mu.Lock()
	p := c.parts[c.at(f.Topic, f.Partition)]
	c.mu.Unlock()
	if p == nil {
		return
	}
	p.mu.Lock()
	p.queue = append(p.queue, records...)
	if len(p.queue) >= consumerBacklog && !p.paused {
		p.paused = true
		c.cl.PauseFetchPartitions(p.name)
	}
	p.mu.Unlock()
	select {
	case p.more <- struct{}{}:
	default:
	}
}

func (c *consumer) work(ctx context.Context, p *partition) {
	defer close(p.done)
	for ctx.Err() == nil {
		r := c.dequeue(p)
		if r == nil {
			select {
			case <-p.more:
				continue
			case <-ctx.Done():
				return
			}
		}
		in := incoming(r, strings.TrimPrefix(r.Topic, c.log.cfg.Prefix))
		for c.cfg.Handle(ctx, in) != nil {
			if wait(ctx, c.cfg.Retry) != nil {
				return
			}
		}
		if p.lost.Load() {
			return // too late: the next owner gets it again
		}
		c.cl.MarkCommitRecords(r)
		c.log.metrics.consumed.WithLabelValues(in.Topic).Inc()
	}
}

func (c *consumer) dequeue(p *partition) *kgo.Record {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return nil
	}
	r := p.queue[0]
	p.queue = p.queue[1:]
	if p.paused && len(p.queue) <= consumerBacklog/2 {
		p.paused = false
		c.cl.ResumeFetchPartitions(p.name)
	}
	return r
}
