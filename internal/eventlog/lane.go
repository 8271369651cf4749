// The lane consumer: accept a command in a short transaction, then run it outside
// of any.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/myspinbot/myspinbot/events"
)

// Commands held of one partition, beyond which it is not fetched; half of it to go on.
const laneBacklog = 32

// Acceptance is what a consumer writes before it runs a command.
type Acceptance struct {
	Record  Record // says on the log that the command is this worker's now
	Attempt string // kept with the lane's offset: what runs, or ran last, in this partition
}

// LaneConfig says which commands a lane takes and how.
type LaneConfig struct {
	Lane  string // its group is "lane.<lane>"
	Slots int    // most commands at once in this process
	// Accept makes the acceptance of a command. It is called from one goroutine and
	// has no effect of its own. An error that wraps ErrUndecodable sends the command
	// to the dead letters; any other ends the lane.
	Accept func(cmd Record) (Acceptance, error)
	// Run executes an accepted command and reports what came of it; its error, which
	// is only logged, says that it could not. Only the end of the lane cancels ctx: a
	// rebalance does not.
	Run func(ctx context.Context, cmd Record) error
	// Grace is how long running commands may go on after the lane's end; then their
	// contexts are cancelled. Default 5 s.
	Grace time.Duration
}

// Lane is one member of a lane's group, by the name of Config.Instance. It runs at
// most Slots commands, and of each partition one at a time, so that the number of
// partitions bounds the lane in the whole cluster.
type Lane struct {
	log    *Log
	cfg    LaneConfig
	topic  string
	group  string
	waker  waker
	member *member

	held    map[int32]*heldCommands // of the partitions assigned
	unknown []Record                // commands whose acceptance may have been committed

	mu      sync.Mutex
	busy    map[int32]bool // partitions with a running command, assigned or not
	running sync.WaitGroup

	runCtx     context.Context // of the commands
	cancelRuns context.CancelFunc
}

// heldCommands are the polled, not yet accepted commands of one partition.
type heldCommands struct {
	queue  []Record
	seq    uint64 // of the newest commit
	paused bool
}

// NewLane checks the configuration. Run does the work.
func (l *Log) NewLane(cfg LaneConfig) (*Lane, error) {
	def(&cfg.Grace, 5*time.Second)
	switch {
	case cfg.Accept == nil || cfg.Run == nil:
		return nil, errors.New("cannot make a lane without Accept and Run")
	case cfg.Slots < 1:
		return nil, fmt.Errorf("cannot make lane %q with %d slots; it needs at least 1", cfg.Lane, cfg.Slots)
	case l.cfg.LanePartitions[cfg.Lane] == 0:
		return nil, fmt.Errorf("cannot make lane %q: lanes are %v", cfg.Lane, events.Lanes())
	}
	return &Lane{
		log: l, cfg: cfg, topic: events.LaneTopic(cfg.Lane), group: LaneGroup(cfg.Lane), busy: make(map[int32]bool),
	}, nil
}

// LaneGroup is the group that consumes a lane.
func LaneGroup(lane string) string { return "lane." + lane }

// LastAccepted reads the commands that this instance accepted last: of each of the
// lane's partitions the newest, unless another instance has accepted one since. A
// process learns by it, at its start, what its predecessor may have left undone.
func (l *Log) LastAccepted(ctx context.Context, lane string) ([]Record, error) {
	resps, err := l.admin.FetchOffsets(ctx, l.cfg.Prefix+LaneGroup(lane))
	if err == nil {
		err = resps.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the offsets of lane %q: %w", lane, unavailable(err))
	}
	ranges, err := l.Ranges(ctx, events.LaneTopic(lane))
	if err != nil {
		return nil, err
	}
	found := errors.New("found")
	var out []Record
	for tp, r := range ranges {
		o, ok := resps.Lookup(l.cfg.Prefix+tp.Topic, tp.Partition)
		if _, by, _, known := parseMeta(&o.Metadata); !ok || !known || by != l.cfg.Instance || o.At <= r.Start {
			continue
		}
		_, err := l.Read(ctx, Offsets{tp: o.At - 1}, func(records []Record) error {
			if records[0].Offset == o.At-1 {
				out = append(out, records[0])
			}
			return found
		})
		if err != nil && !errors.Is(err, found) {
			return nil, err
		}
	}
	return out, nil
}

// Run accepts and runs commands until ctx ends; then it accepts no more, leaves
// the group, gives running commands their grace and waits for them. It survives
// broker outages; what runs goes on meanwhile. It returns ErrFenced when another
// process has taken over its name, ErrDataLoss, or the error of Accept.
func (l *Lane) Run(ctx context.Context) error {
	l.runCtx, l.cancelRuns = context.WithCancel(context.WithoutCancel(ctx))
	err := l.log.sessions(ctx, l.group, l.session)
	l.drain()
	return err
}

// drain waits for what runs, with patience for the length of the grace.
func (l *Lane) drain() {
	grace := time.AfterFunc(l.cfg.Grace, l.cancelRuns)
	l.running.Wait()
	grace.Stop()
	l.cancelRuns()
}

func (l *Lane) session(ctx context.Context) (err error) {
	l.held = nil
	if l.member, err = l.log.join(ctx, l.group, []string{l.topic}, &l.waker, nil); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			l.drain() // before leaving: the partitions' next owner may accept at once
		}
		l.member.close(err == nil)
	}()
	for ctx.Err() == nil {
		cmds, free := l.next()
		switch {
		case len(cmds) > 0:
			err = l.accept(ctx, cmds)
		case free == 0:
			l.waitForSlot(ctx)
		default:
			err = l.poll(ctx, free)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		l.member.sess.AllowRebalance()
	}
	return nil
}

// next takes the commands to accept now: one of each idle partition, as slots are
// free. It also returns how many slots are free before that.
func (l *Lane) next() (cmds []Record, free int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	free = l.cfg.Slots - len(l.busy)
	for p, h := range l.held {
		if len(cmds) == free {
			break
		}
		if len(h.queue) > 0 && !l.busy[p] {
			cmds = append(cmds, h.queue[0])
			h.queue = h.queue[1:]
			l.throttle(p, h)
		}
	}
	return cmds, free
}

// throttle keeps what is held of a partition within bounds.
func (l *Lane) throttle(p int32, h *heldCommands) {
	tp := map[string][]int32{l.log.cfg.Prefix + l.topic: {p}}
	switch cl := l.member.sess.Client(); {
	case !h.paused && len(h.queue) >= laneBacklog:
		cl.PauseFetchPartitions(tp)
		h.paused = true
	case h.paused && len(h.queue) <= laneBacklog/2:
		cl.ResumeFetchPartitions(tp)
		h.paused = false
	}
}

func (l *Lane) waitForSlot(ctx context.Context) {
	ctx, cancel := l.waker.context(ctx)
	defer cancel()
	<-ctx.Done()
}

func (l *Lane) poll(ctx context.Context, most int) error {
	cmds, assigned, err := l.member.poll(ctx, most)
	if err != nil {
		return err
	}
	if assigned != nil {
		l.reassign(assigned.parts)
		return nil
	}
	for _, c := range cmds {
		if h := l.held[c.Partition]; h != nil {
			h.queue = append(h.queue, c)
			l.throttle(c.Partition, h)
		}
	}
	return nil
}

// reassign forgets what is held (it is polled again from the committed offsets) and
// settles the commands whose acceptance was in doubt: the offsets now tell.
func (l *Lane) reassign(assigned map[int32]*committed) {
	for p, h := range l.held {
		if h.paused {
			l.member.sess.Client().ResumeFetchPartitions(map[string][]int32{l.log.cfg.Prefix + l.topic: {p}})
		}
	}
	l.held = make(map[int32]*heldCommands)
	if assigned == nil {
		return
	}
	for p, c := range assigned {
		l.held[p] = &heldCommands{seq: c.seq}
	}
	for _, cmd := range l.unknown {
		// If the acceptance did not commit, or was another's, the command was or will be
		// delivered again; if it did and the partition has moved, its lease runs out.
		c := assigned[cmd.Partition]
		if c != nil && c.offsets[cmd.At()] == cmd.Offset+1 && c.by == l.log.cfg.Instance {
			l.start(cmd)
		}
	}
	l.unknown = nil
}

// accept writes the acceptances and commits the offsets in one transaction, and
// starts what was accepted.
func (l *Lane) accept(ctx context.Context, cmds []Record) error {
	var out []*kgo.Record
	var accepted []Record
	attempts := make(map[int32]*string)
	for _, cmd := range cmds {
		a, err := l.cfg.Accept(cmd)
		switch {
		case errors.Is(err, ErrUndecodable):
			a.Record = l.log.deadLetter(cmd, err)
		case err != nil:
			return fmt.Errorf("cannot accept the command at %s offset %d: %w", cmd.At(), cmd.Offset, err)
		default:
			accepted = append(accepted, cmd)
		}
		a.Record.Headers = withSource(a.Record.Headers, cmd)
		sent, err := l.log.outgoing(a.Record)
		if err != nil {
			return err
		}
		out = append(out, sent)
		attempts[cmd.Partition] = l.log.formatMeta(l.held[cmd.Partition].seq+1, a.Attempt)
	}
	err := l.member.transact(ctx, out, func(req *kmsg.TxnOffsetCommitRequest) error {
		req.Topics = l.offsets(cmds, attempts)
		return nil
	})
	if err != nil {
		l.unknown = append(l.unknown, accepted...)
		return err
	}
	for _, cmd := range cmds {
		l.held[cmd.Partition].seq++
	}
	for _, cmd := range accepted {
		l.start(cmd)
	}
	return nil
}

// offsets are behind the accepted commands, not, as the client would have it, behind
// the polled ones.
func (l *Lane) offsets(cmds []Record, attempts map[int32]*string) []kmsg.TxnOffsetCommitRequestTopic {
	t := kmsg.NewTxnOffsetCommitRequestTopic()
	t.Topic = l.log.cfg.Prefix + l.topic
	for _, cmd := range cmds {
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = cmd.Partition, cmd.Offset+1, -1, attempts[cmd.Partition]
		t.Partitions = append(t.Partitions, p)
	}
	return []kmsg.TxnOffsetCommitRequestTopic{t}
}

func (l *Lane) start(cmd Record) {
	l.mu.Lock()
	l.busy[cmd.Partition] = true
	l.mu.Unlock()
	l.running.Go(func() {
		defer func() {
			l.mu.Lock()
			delete(l.busy, cmd.Partition)
			l.mu.Unlock()
			l.waker.wake()
		}()
		if err := l.cfg.Run(l.runCtx, cmd); err != nil {
			l.log.cfg.Logger.Error("a command ended without a report", "at", cmd.At().String(), "offset", cmd.Offset, "error", err)
		}
	})
}
