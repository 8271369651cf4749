// One lane of a process: which of its commands are accepted, and what runs.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

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
	Lane  string
	Slots int // most commands at once in this process
	// Accept makes the acceptance of a command. It is called from one goroutine and
	// has no effect of its own. An error that wraps ErrUndecodable sends the command
	// to the dead letters; any other ends the lane.
	Accept func(cmd Record) (Acceptance, error)
	// Admit says whether the command may be accepted now, if more than a slot is needed; nil:
	// always. After a no the lane asks again when Recheck is called, and accepts others
	// meanwhile, but none of its partition. It is called from the goroutine of Accept.
	Admit func(cmd Record) bool
	// Withdraw takes back what was asked of Admit for a command that does not run here after
	// all: its lane was paused, its partition is another's now, its acceptance has failed.
	Withdraw func(cmd Record)
	// Run executes an accepted command and returns what is to be written about it. The
	// command keeps its slot until that is written, for as long as the log is away. Its
	// error is only logged. Only the end of the lane cancels ctx: a rebalance does not.
	Run func(ctx context.Context, cmd Record) ([]Record, error)
	// Soon says whether a running attempt, by what its Acceptance named, is about to end:
	// then its successor is accepted ahead, so that the slot does not stand idle for the
	// time of a transaction. Who sets it keeps to the slots in Run, and calls Wake. Nil:
	// none is ever about to end.
	Soon func(attempt string) bool
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
	// Paused keeps the lane from accepting until Lanes.Pause says otherwise.
	Paused bool
	// Able names what this process can do of the lane's work. Where the lane has more
	// processes than partitions, those get them who together can do most; nil: nothing is
	// named. It may be called at any time, in any goroutine. See Lanes.Reseat.
	Able func() []string
	// Assigned is told which of the lane's partitions are this process's, after every
	// rebalance. It must not wait.
	Assigned func(partitions []int32)
	// BatchPatience is how long a command of the batch topic waits at most behind
	// interactive ones of its partition before one is let through. Default 10 min.
	BatchPatience time.Duration
}

// lane is one of the lanes of a process. It takes commands of the lane's two topics,
// those of the batch topic while there are no others. It runs at most Slots commands,
// and of each partition number one at a time, so that the number of partitions bounds
// the lane in the whole cluster.
type lane struct {
	all    *Lanes
	cfg    LaneConfig
	topics []string // interactive, batch

	held      map[int32]*heldCommands   // of the partitions assigned
	refused   map[TopicPartition]Record // commands that Admit has said no to, by what they are the first of
	offered   []acceptedCommand         // whose acceptance is in the transaction under way
	unknown   []acceptedCommand         // whose acceptance may have been committed
	lastBatch map[int32]time.Time       // when a batch command of the partition was accepted here

	mu       sync.Mutex
	busy     map[int32]string // what runs here by partition, assigned or not
	ending   map[int32]bool   // of the busy ones those whose report goes with the next transaction
	ended    map[int32]string // what ran here last
	settling map[int32]*settling
	paused   bool
	asked    map[TopicPartition]bool // of the refused ones those to ask about no more until Recheck

	running    sync.WaitGroup
	ctx        context.Context // of the commands
	cancelRuns context.CancelFunc
}

type acceptedCommand struct {
	cmd     Record
	attempt string
}

// newLane checks the configuration.
func (s *Lanes) newLane(cfg LaneConfig) (*lane, error) {
	def(&cfg.Grace, 5*time.Second)
	def(&cfg.BatchPatience, 10*time.Minute)
	switch {
	case cfg.Accept == nil || cfg.Run == nil:
		return nil, errors.New("cannot make a lane without Accept and Run")
	case cfg.Slots < 1:
		return nil, fmt.Errorf("cannot make lane %q with %d slots; it needs at least 1", cfg.Lane, cfg.Slots)
	case s.log.cfg.LanePartitions[cfg.Lane] == 0:
		return nil, fmt.Errorf("cannot make lane %q: lanes are %v", cfg.Lane, events.Lanes())
	}
	n := &lane{
		all: s, cfg: cfg, paused: cfg.Paused, topics: laneTopics(cfg.Lane),
		lastBatch: make(map[int32]time.Time), refused: make(map[TopicPartition]Record), asked: make(map[TopicPartition]bool),
		busy: make(map[int32]string), ending: make(map[int32]bool), ended: make(map[int32]string), settling: make(map[int32]*settling),
	}
	n.ctx, n.cancelRuns = context.WithCancel(context.Background())
	return n, nil
}

// drain waits for what runs, with patience for the length of the grace.
func (n *lane) drain() {
	grace := time.AfterFunc(n.cfg.Grace, n.cancelRuns)
	n.running.Wait()
	grace.Stop()
	n.cancelRuns()
}

// reassign forgets what is held (it is polled again from the committed offsets) and
// settles the commands whose acceptance was in doubt: the offsets now tell. Assigned is
// nil between two assignments.
func (n *lane) reassign(assigned map[int32]*committed, ranges map[TopicPartition]Range) {
	for p, h := range n.held {
		for i := range h.topics {
			h.topics[i].queue = nil
		}
		n.throttle(p, h)
	}
	n.held = make(map[int32]*heldCommands)
	n.withdrawAll()
	if assigned == nil {
		return
	}
	for p, c := range assigned {
		first := TopicPartition{n.topics[laneInteractive], p}
		n.held[p] = &heldCommands{seq: c.seq, from: max(c.offsets[first], ranges[first].Start), until: ranges[first].Stable}
	}
	for _, a := range n.unknown {
		// If the acceptance did not commit, or was another's, the command was or will be
		// delivered again; if it did and the partition has moved, its lease runs out.
		c := assigned[a.cmd.Partition]
		if c != nil && c.offsets[a.cmd.At()] == a.cmd.Offset+1 && c.by == n.all.log.cfg.Instance && c.meta == a.attempt {
			n.start(a, nil)
		} else {
			n.withdraw(a.cmd)
		}
	}
	n.unknown = nil
	n.settle(assigned)
	n.assign(assigned)
}

// offer takes what can be accepted now and adds to the transaction what accepts it.
func (n *lane) offer(b *acceptances) error {
	for _, cmd := range n.take() {
		a, err := n.cfg.Accept(cmd)
		switch {
		case errors.Is(err, ErrUndecodable):
			a = Acceptance{Record: n.all.log.deadLetter(cmd, err)}
			n.withdraw(cmd)
		case err != nil:
			return fmt.Errorf("cannot accept the command at %s offset %d: %w", cmd.At(), cmd.Offset, err)
		default:
			n.offered = append(n.offered, acceptedCommand{cmd, a.Attempt})
		}
		sent, err := n.all.log.outgoing(a.Record, &cmd)
		if err != nil {
			return err
		}
		b.records = append(b.records, sent)
		h := n.held[cmd.Partition]
		h.seq++
		b.move(cmd, n.all.log.formatMeta(h.seq, a.Attempt))
	}
	return nil
}

// settleOffer starts what the transaction has accepted. After an error nothing is, as
// far as is known; the next assignment tells.
func (n *lane) settleOffer(b *burst, err error) {
	if err != nil {
		n.unknown = append(n.unknown, n.offered...)
	} else {
		for _, a := range n.offered {
			n.start(a, b)
		}
	}
	n.offered = nil
}

// acceptances is what one transaction accepts, of all lanes.
type acceptances struct {
	log       *Log
	records   []*kgo.Record
	positions positions
}

// move commits the offset behind an accepted command, and no further.
func (b *acceptances) move(cmd Record, meta *string) {
	b.positions.add(b.log.cfg.Prefix+cmd.Topic, cmd.Partition, cmd.Offset+1, meta)
}

// start runs an accepted command, as one of a burst, if there is one.
func (n *lane) start(a acceptedCommand, b *burst) {
	p := a.cmd.Partition
	n.mu.Lock()
	n.busy[p] = a.attempt
	n.mu.Unlock()
	n.running.Go(func() {
		records, err := n.cfg.Run(n.ctx, a.cmd)
		if err != nil {
			n.all.log.cfg.Logger.Error("a command ended without a report", "at", a.cmd.At().String(), "offset", a.cmd.Offset, "error", err)
		}
		n.all.publish(&report{lane: n, cmd: a.cmd, attempt: a.attempt, records: records, written: make(chan struct{})}, b.ended)
		n.over(p, a.attempt)
		n.all.waker.wake()
	})
}
