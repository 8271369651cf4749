// The lane consumer: accept a command in a short transaction, then run it outside
// of any.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/myspinbot/myspinbot/events"
)

// Acceptance is what a consumer writes before it runs a command.
type Acceptance struct {
	Record Record // says on the log that the command is this worker's now
	// Attempt is kept with the lane's offset: what runs, or ran last, in this partition.
	// It names the attempt and holds what Settled needs to find out whether it has ended,
	// in a few hundred bytes at most; "" if there is nothing to wait for.
	Attempt string
}

// Accepted is what the newest commit of a lane's partition tells.
type Accepted struct {
	Partition int32  // of the lane
	By        string // the instance that accepted the command
	Attempt   string // as its Acceptance had it
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
	// Settled returns nil when an attempt that this process does not run, and has not
	// run to its end, runs nowhere any more; until then nothing of its partition is
	// accepted here. So the bound holds while a partition moves, and after a kill. It is
	// called once for each, in a goroutine of its own, and again a second after any
	// error; ctx ends when the partition is another's or the lane ends. Nil: a new owner
	// waits for nobody.
	Settled func(ctx context.Context, last Accepted) error
	// Grace is how long running commands may go on after the lane's end; then their
	// contexts are cancelled. Default 5 s.
	Grace time.Duration
	// BatchPatience is how long a command of the batch topic waits at most behind
	// interactive ones of its partition before one is let through. Default 10 min.
	BatchPatience time.Duration
}

// Lane is one member of a lane's group, by the name of Config.Instance. It takes
// commands of the lane's two topics, those of the batch topic while there are no
// others. It runs at most Slots commands, and of each partition number one at a
// time, so that the number of partitions bounds the lane in the whole cluster.
type Lane struct {
	log    *Log
	cfg    LaneConfig
	topics []string // interactive, batch
	group  string
	waker  waker
	member *member

	held      map[int32]*heldCommands // of the partitions assigned
	unknown   []acceptedCommand       // those whose acceptance may have been committed
	lastBatch map[int32]time.Time     // when a batch command of the partition was accepted here

	mu       sync.Mutex
	busy     map[int32]string // what runs here by partition, assigned or not
	ended    map[int32]string // what ran here last
	settling map[int32]*settling

	running    sync.WaitGroup
	settlers   sync.WaitGroup
	ctx        context.Context // of the lane
	runCtx     context.Context // of the commands
	cancelRuns context.CancelFunc
}

type acceptedCommand struct {
	cmd     Record
	attempt string
}

// NewLane checks the configuration. Run does the work.
func (l *Log) NewLane(cfg LaneConfig) (*Lane, error) {
	def(&cfg.Grace, 5*time.Second)
	def(&cfg.BatchPatience, 10*time.Minute)
	switch {
	case cfg.Accept == nil || cfg.Run == nil:
		return nil, errors.New("cannot make a lane without Accept and Run")
	case cfg.Slots < 1:
		return nil, fmt.Errorf("cannot make lane %q with %d slots; it needs at least 1", cfg.Lane, cfg.Slots)
	case l.cfg.LanePartitions[cfg.Lane] == 0:
		return nil, fmt.Errorf("cannot make lane %q: lanes are %v", cfg.Lane, events.Lanes())
	}
	return &Lane{
		log: l, cfg: cfg, topics: laneTopics(cfg.Lane), group: LaneGroup(cfg.Lane),
		lastBatch: make(map[int32]time.Time), busy: make(map[int32]string), ended: make(map[int32]string), settling: make(map[int32]*settling),
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
	switch {
	case errors.Is(err, kerr.GroupIDNotFound): // nobody has accepted anything yet
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("cannot read the offsets of lane %q: %w", lane, unavailable(err))
	}
	ranges, err := l.Ranges(ctx, laneTopics(lane)...)
	if err != nil {
		return nil, err
	}
	type commit struct {
		seq uint64
		by  string
		at  TopicPartition
		end int64
	}
	newest := make(map[int32]commit)
	for tp := range ranges {
		o, ok := resps.Lookup(l.cfg.Prefix+tp.Topic, tp.Partition)
		if seq, by, _, known := parseMeta(&o.Metadata); ok && known && seq >= newest[tp.Partition].seq {
			newest[tp.Partition] = commit{seq, by, tp, o.At}
		}
	}
	found := errors.New("found")
	var out []Record
	for _, c := range newest {
		if c.by != l.cfg.Instance || c.end <= ranges[c.at].Start {
			continue
		}
		_, err := l.Read(ctx, Offsets{c.at: c.end - 1}, func(records []Record) error {
			if records[0].Offset == c.end-1 {
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
	var cancel context.CancelFunc
	l.ctx, cancel = context.WithCancel(ctx)
	l.runCtx, l.cancelRuns = context.WithCancel(context.WithoutCancel(ctx))
	err := l.log.sessions(ctx, l.group, l.session)
	cancel()
	l.drain()
	l.settlers.Wait()
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
	if l.member, err = l.log.join(ctx, l.group, l.topics, &l.waker, nil,
		// A fetch brings about what is held; and markers, to see where the topics end.
		kgo.FetchMaxPartitionBytes(64<<10), kgo.KeepControlRecords()); err != nil {
		return err
	}
	l.member.seen = make(Offsets)
	defer func() {
		if err == nil {
			l.drain() // before leaving: the partitions' next owner may accept at once
		}
		l.member.close(err == nil)
	}()
	for ctx.Err() == nil {
		if len(l.choose()) > 0 {
			l.waker.wake() // only a look at what else has come, to be accepted with it
		}
		// What is accepted belongs to the assignment that the poll has seen: none begins
		// before AllowRebalance.
		err := l.poll(ctx)
		if err == nil {
			err = l.accept(l.take())
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		l.member.sess.AllowRebalance()
	}
	return nil
}

func (l *Lane) poll(ctx context.Context) error {
	cmds, assigned, err := l.member.poll(ctx, lanePoll)
	if err != nil {
		return err
	}
	if assigned != nil {
		return l.reassign(ctx, assigned.parts)
	}
	l.hold(cmds)
	return nil
}

// reassign forgets what is held (it is polled again from the committed offsets) and
// settles the commands whose acceptance was in doubt: the offsets now tell.
func (l *Lane) reassign(ctx context.Context, assigned map[int32]*committed) error {
	for p, h := range l.held {
		for i := range h.topics {
			h.topics[i].queue = nil
		}
		l.throttle(p, h)
	}
	l.held = make(map[int32]*heldCommands)
	if assigned == nil {
		return nil
	}
	ranges, err := l.log.Ranges(ctx, l.topics[laneInteractive])
	if err != nil {
		return errSession{err}
	}
	for p, c := range assigned {
		first := TopicPartition{l.topics[laneInteractive], p}
		l.held[p] = &heldCommands{seq: c.seq, from: max(c.offsets[first], ranges[first].Start), until: ranges[first].Stable}
	}
	for _, a := range l.unknown {
		// If the acceptance did not commit, or was another's, the command was or will be
		// delivered again; if it did and the partition has moved, its lease runs out.
		c := assigned[a.cmd.Partition]
		if c != nil && c.offsets[a.cmd.At()] == a.cmd.Offset+1 && c.by == l.log.cfg.Instance && c.meta == a.attempt {
			l.start(a)
		}
	}
	l.unknown = nil
	l.settle(assigned)
	return nil
}

// accept writes the acceptances and commits the offsets in one transaction, and
// starts what was accepted.
func (l *Lane) accept(cmds []Record) error {
	if len(cmds) == 0 {
		return nil
	}
	var out []*kgo.Record
	var accepted []acceptedCommand
	attempts := make(map[int32]*string)
	for _, cmd := range cmds {
		a, err := l.cfg.Accept(cmd)
		switch {
		case errors.Is(err, ErrUndecodable):
			a = Acceptance{Record: l.log.deadLetter(cmd, err)}
		case err != nil:
			return fmt.Errorf("cannot accept the command at %s offset %d: %w", cmd.At(), cmd.Offset, err)
		default:
			accepted = append(accepted, acceptedCommand{cmd, a.Attempt})
		}
		sent, err := l.log.outgoing(a.Record, &cmd)
		if err != nil {
			return err
		}
		out = append(out, sent)
		attempts[cmd.Partition] = l.log.formatMeta(l.held[cmd.Partition].seq+1, a.Attempt)
	}
	err := l.member.transact(l.ctx, out, func(req *kmsg.TxnOffsetCommitRequest) error {
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
	for _, a := range accepted {
		l.start(a)
	}
	return nil
}

// offsets are behind the accepted commands, not, as the client would have it, behind
// the polled ones.
func (l *Lane) offsets(cmds []Record, attempts map[int32]*string) []kmsg.TxnOffsetCommitRequestTopic {
	var out []kmsg.TxnOffsetCommitRequestTopic
	for _, topic := range l.topics {
		t := kmsg.NewTxnOffsetCommitRequestTopic()
		t.Topic = l.log.cfg.Prefix + topic
		for _, cmd := range cmds {
			if cmd.Topic != topic {
				continue
			}
			p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
			p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = cmd.Partition, cmd.Offset+1, -1, attempts[cmd.Partition]
			t.Partitions = append(t.Partitions, p)
		}
		if len(t.Partitions) > 0 {
			out = append(out, t)
		}
	}
	return out
}

func (l *Lane) start(a acceptedCommand) {
	p := a.cmd.Partition
	l.mu.Lock()
	l.busy[p] = a.attempt
	l.mu.Unlock()
	l.running.Go(func() {
		defer func() {
			l.mu.Lock()
			delete(l.busy, p)
			l.ended[p] = a.attempt
			l.mu.Unlock()
			l.waker.wake()
		}()
		if err := l.cfg.Run(l.runCtx, a.cmd); err != nil {
			l.log.cfg.Logger.Error("a command ended without a report", "at", a.cmd.At().String(), "offset", a.cmd.Offset, "error", err)
		}
	})
}
