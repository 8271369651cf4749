// The commands a lane holds: polled, not yet accepted. Which of them are next, and
// which partitions wait for an attempt that runs elsewhere.

package eventlog

import (
	"cmp"
	"context"
	"slices"
	"time"
)

const (
	// laneBacklog commands are held of one partition of a topic, beyond which it is not
	// fetched; half of it to go on.
	laneBacklog = 32
	// lanePoll is the most that one poll brings. A lane looks at everything that the
	// client has before it accepts, so that no batch command overtakes another.
	lanePoll = 10_000
	// settlePause lies between two questions whether an attempt has ended, after an error.
	settlePause = time.Second
)

// The topics of a lane, as indices.
const laneInteractive, laneBatch = 0, 1

// heldCommands are those of one partition number.
type heldCommands struct {
	topics [2]heldTopic
	seq    uint64 // of the newest commit
	from   int64  // up to here the interactive topic is polled …
	until  int64  // … and it ended here when the partition was assigned
}

type heldTopic struct {
	queue  []Record
	seen   time.Time // since when the queue is not empty
	paused bool
}

func (q *heldTopic) add(cmd Record) {
	if len(q.queue) == 0 {
		q.seen = time.Now()
	}
	q.queue = append(q.queue, cmd)
}

// choice is a command that may be accepted now.
type choice struct {
	partition   int32
	topic, rank int
}

// choose ranks the commands that may be accepted now, one of each idle partition, and
// says how many slots are free for them; none where there is no slot. A batch command
// is due when no interactive one of its partition waits, held or not polled yet; one
// that has lost its patience goes before all others.
func (n *lane) choose() (out []choice, free int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	free = n.cfg.Slots - len(n.busy) + len(n.ending) + n.soon()
	if free <= 0 || n.paused {
		return nil, 0
	}
	now := time.Now()
	for p, h := range n.held { // in random order, so that no partition is preferred
		if _, busy := n.busy[p]; busy && !n.ending[p] || !n.settling[p].over() {
			continue
		}
		switch {
		case len(h.topics[laneBatch].queue) > 0 && now.Sub(n.batchSince(p, h)) >= n.cfg.BatchPatience:
			out = append(out, choice{p, laneBatch, 0})
		case len(h.topics[laneInteractive].queue) > 0:
			out = append(out, choice{p, laneInteractive, 1})
		case len(h.topics[laneBatch].queue) > 0 && h.from >= h.until:
			out = append(out, choice{p, laneBatch, 2})
		}
	}
	out = slices.DeleteFunc(out, func(c choice) bool { return n.asked[TopicPartition{n.topics[c.topic], c.partition}] })
	slices.SortStableFunc(out, func(a, b choice) int { return cmp.Compare(a.rank, b.rank) })
	return out, free
}

// soon counts the attempts that are about to end. The caller holds mu.
func (n *lane) soon() (count int) {
	if n.cfg.Soon == nil {
		return 0
	}
	for p, attempt := range n.busy {
		if !n.ending[p] && n.cfg.Soon(attempt) {
			count++
		}
	}
	return count
}

// Wake has the lanes look again whether something can be accepted.
func (s *Lanes) Wake() { s.waker.wake() }

// able says whether there is something to accept.
func (n *lane) able() bool {
	out, _ := n.choose()
	return len(out) > 0
}

// batchSince is when the patience of the partition's next batch command began: when
// it was written, so that a rebalance does not renew it, but not before it was its turn.
func (n *lane) batchSince(p int32, h *heldCommands) time.Time {
	since, q := h.topics[laneBatch].queue[0].Time, &h.topics[laneBatch]
	if since.After(q.seen) { // another machine's clock
		since = q.seen
	}
	if last := n.lastBatch[p]; last.After(since) {
		since = last
	}
	return since
}

// take removes the chosen commands from what is held.
func (n *lane) take() []Record {
	chosen, free := n.choose()
	cmds := make([]Record, 0, len(chosen))
	for _, c := range chosen {
		h := n.held[c.partition]
		q := &h.topics[c.topic]
		if len(cmds) == free || !n.admit(q.queue[0]) {
			continue
		}
		cmds, q.queue = append(cmds, q.queue[0]), q.queue[1:]
		if c.topic == laneBatch {
			n.lastBatch[c.partition] = time.Now()
		}
		n.throttle(c.partition, h)
	}
	return cmds
}

// hold keeps what a poll has brought of the lane.
func (n *lane) hold(cmds []Record) {
	for _, c := range cmds {
		h := n.held[c.Partition]
		switch {
		case h == nil: // not ours any more
		case c.Topic == n.topics[laneInteractive]:
			h.topics[laneInteractive].add(c)
		case c.Topic == n.topics[laneBatch]:
			h.topics[laneBatch].add(c)
		}
	}
	for p, h := range n.held {
		h.from = max(h.from, n.all.member.seen[TopicPartition{n.topics[laneInteractive], p}])
		n.throttle(p, h)
	}
}

// throttle keeps what is held of a partition within bounds.
func (n *lane) throttle(p int32, h *heldCommands) {
	for i, topic := range n.topics {
		q := &h.topics[i]
		switch {
		case !q.paused && len(q.queue) >= laneBacklog:
			n.all.member.cl.PauseFetchPartitions(map[string][]int32{n.all.log.cfg.Prefix + topic: {p}})
			q.paused = true
		case q.paused && len(q.queue) <= laneBacklog/2:
			n.all.member.cl.ResumeFetchPartitions(map[string][]int32{n.all.log.cfg.Prefix + topic: {p}})
			q.paused = false
		}
	}
}

// settling is the wait for the end of an attempt that runs elsewhere, or ran in a
// predecessor of this process. It outlasts sessions and rebalances.
type settling struct {
	last   Accepted
	seq    uint64
	cancel context.CancelFunc
	done   bool
}

func (s *settling) over() bool { return s == nil || s.done }

// settle begins to wait where the newest commit of an assigned partition names an
// attempt that neither runs here nor ended here.
func (n *lane) settle(assigned map[int32]*committed) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for p, s := range n.settling {
		if c := assigned[p]; c == nil || c.seq != s.seq || c.meta != s.last.Attempt {
			s.cancel()
			delete(n.settling, p)
		}
	}
	for p, c := range assigned {
		ours := c.by == n.all.log.cfg.Instance && (n.busy[p] == c.meta || n.ended[p] == c.meta)
		if n.cfg.Settled == nil || c.meta == "" || n.settling[p] != nil || ours {
			continue
		}
		s := &settling{last: Accepted{Partition: p, By: c.by, Attempt: c.meta}, seq: c.seq}
		var ctx context.Context
		ctx, s.cancel = context.WithCancel(n.all.ctx)
		n.settling[p] = s
		n.all.settlers.Go(func() { n.awaitSettled(ctx, s) })
	}
}

func (n *lane) awaitSettled(ctx context.Context, s *settling) {
	defer s.cancel()
	for {
		err := n.cfg.Settled(ctx, s.last)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			n.mu.Lock()
			s.done = true
			n.mu.Unlock()
			n.all.waker.wake()
			return
		}
		n.all.log.cfg.Logger.Warn("it is not known whether an attempt still runs; its partition stays closed here",
			"lane", n.cfg.Lane, "partition", s.last.Partition, "attempt", s.last.Attempt, "error", err)
		if wait(ctx, settlePause) != nil {
			return
		}
	}
}
