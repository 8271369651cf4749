// The lane consumer: the lanes of a process in one group session. Commands are
// accepted in a short transaction, whichever lanes they are of, and run outside of any.

package eventlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// GroupLanes is the group that consumes the commands of all lanes. Each process takes
// part, as one member, for the lanes that it hosts: one transaction accepts commands of
// any of them, and one fetch waits for all.
const GroupLanes = "lanes"

// Lanes is one member of the lanes' group, by the name of Config.Instance.
type Lanes struct {
	log    *Log
	waker  waker
	member *member // of the session

	mu        sync.Mutex
	lanes     []*lane       // only ever longer
	some      chan struct{} // closed when there are any
	client    *kgo.Client   // of the session; nil without one
	accepting bool          // a session takes reports
	reports   []*report     // that go with its next transaction

	settlers sync.WaitGroup
	ctx      context.Context // of the lanes
}

// NewLanes checks the configurations. Run does the work.
func (l *Log) NewLanes(lanes ...LaneConfig) (*Lanes, error) {
	s := &Lanes{log: l, some: make(chan struct{})}
	return s, s.Add(lanes...)
}

// Add takes more lanes in, before Run or while it runs.
func (s *Lanes) Add(lanes ...LaneConfig) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	had := len(s.lanes)
	for _, cfg := range lanes {
		if slices.ContainsFunc(s.lanes, func(n *lane) bool { return n.cfg.Lane == cfg.Lane }) {
			return fmt.Errorf("cannot add lane %q twice", cfg.Lane)
		}
		n, err := s.newLane(cfg)
		if err != nil {
			return err
		}
		s.lanes = append(s.lanes, n)
	}
	switch {
	case len(lanes) == 0:
	case had == 0:
		close(s.some)
	case s.client != nil: // the member joins again with the new topics
		s.client.AddConsumeTopics(s.log.names(laneTopicsOf(s.lanes[had:]))...)
	}
	return nil
}

func (s *Lanes) hosted() []*lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lanes
}

func laneTopicsOf(lanes []*lane) (topics []string) {
	for _, n := range lanes {
		topics = append(topics, n.topics...)
	}
	return topics
}

// laneOf names the lane that a topic is of: the set of inputs that move together.
func (s *Lanes) laneOf(topic string) string { return s.log.specs[topic].lane }

// Run accepts and runs commands, once there is a lane, until ctx ends; then it accepts no more, leaves
// the group, gives running commands their grace and waits for them. It survives
// broker outages; what runs goes on meanwhile. It returns ErrFenced when another
// process has taken over its name, ErrDataLoss, or the error of an Accept.
func (s *Lanes) Run(ctx context.Context) error {
	select {
	case <-s.some:
	case <-ctx.Done():
		return nil
	}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithCancel(ctx)
	err := s.log.sessions(ctx, GroupLanes, s.session)
	cancel()
	s.drain()
	s.settlers.Wait()
	for _, n := range s.hosted() {
		n.withdrawAll()
		for _, a := range n.unknown {
			n.withdraw(a.cmd)
		}
	}
	return err
}

func (s *Lanes) drain() {
	var all sync.WaitGroup
	for _, n := range s.hosted() {
		all.Go(n.drain)
	}
	all.Wait()
}

func (s *Lanes) session(ctx context.Context) (err error) {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer func() {
		s.mu.Lock()
		s.client, s.accepting = nil, false
		s.mu.Unlock()
		s.writeAside(s.takeReports())
		if err == nil {
			s.drain() // before leaving: the partitions' next owner may accept at once
		}
		s.member.close(err == nil)
	}()
	for ctx.Err() == nil {
		if s.due() {
			s.waker.wake() // only a look at what else has come, to be accepted with it
		}
		// What is accepted belongs to the assignment that the poll has seen: none begins
		// before AllowRebalance.
		lanes, err := s.poll(ctx)
		var started *burst
		if err == nil {
			started, err = s.accept(lanes)
		}
		if err == nil && started != nil {
			err = s.member.prefetch(ctx)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		s.member.cl.AllowRebalance()
		if started != nil {
			started.await()
		}
	}
	return nil
}

// due says whether there is something to do without another fetch.
func (s *Lanes) due() bool {
	s.mu.Lock()
	reported := len(s.reports) > 0
	s.mu.Unlock()
	return reported || slices.ContainsFunc(s.hosted(), (*lane).able)
}

// begin joins the group for all lanes there are.
func (s *Lanes) begin(ctx context.Context) error {
	lanes := s.hosted()
	for _, n := range lanes {
		n.held = nil
	}
	topics := laneTopicsOf(lanes)
	if err := s.log.resubscribe(ctx, GroupLanes, topics, s.skills()); err != nil {
		return err
	}
	var err error
	if s.member, err = s.log.join(ctx, GroupLanes, topics, s.laneOf, &s.waker, nil,
		kgo.FetchMaxPartitionBytes(64<<10), s.balancers(), s.log.laneRebalances()); err != nil { // a fetch brings about what is held
		return err
	}
	s.member.seen = make(Offsets)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client, s.accepting = s.member.cl, true
	if added := s.lanes[len(lanes):]; len(added) > 0 {
		s.client.AddConsumeTopics(s.log.names(laneTopicsOf(added))...)
	}
	return nil
}

// poll returns the lanes that have been given what it brought: an assignment may be of
// lanes that were added while it waited.
func (s *Lanes) poll(ctx context.Context) ([]*lane, error) {
	cmds, assigned, err := s.member.poll(ctx, lanePoll)
	if err != nil {
		return nil, err
	}
	lanes := s.hosted()
	if assigned != nil {
		return lanes, s.reassign(ctx, lanes, assigned.owned)
	}
	for _, n := range lanes {
		n.hold(cmds)
	}
	return lanes, nil
}

func (s *Lanes) reassign(ctx context.Context, lanes []*lane, all owned) error {
	var ranges map[TopicPartition]Range
	if all != nil {
		var err error
		if ranges, err = s.log.Ranges(ctx, laneTopicsOf(lanes)...); err != nil {
			return errSession{err}
		}
	}
	for _, n := range lanes {
		assigned := all[n.cfg.Lane]
		if all != nil && assigned == nil { // all of its partitions are others'
			assigned = make(map[int32]*committed)
		}
		n.reassign(assigned, ranges)
	}
	return nil
}

// accept writes the acceptances, with what came of commands before, and commits the
// offsets in one transaction; then it starts what was accepted. Reports do not wait for
// a transaction that has nothing to accept.
func (s *Lanes) accept(lanes []*lane) (started *burst, err error) {
	b := &acceptances{log: s.log}
	for _, n := range lanes {
		if err := n.offer(b); err != nil {
			return nil, err
		}
	}
	reports := s.takeReports() // after the offers, which count on them
	if len(b.records) == 0 {
		s.writeAside(reports)
		return nil, nil
	}
	err = s.member.transact(s.ctx, append(riders(reports), b.records...), b.positions)
	if err != nil {
		s.writeAside(reports) // once more perhaps: results are counted once
	} else {
		for _, r := range reports {
			r.lane.over(r.cmd.Partition, r.attempt)
			close(r.written)
		}
	}
	started = &burst{over: make(chan struct{})}
	for _, n := range lanes {
		started.running.Add(int64(len(n.offered)))
	}
	for _, n := range lanes {
		n.settleOffer(started, err)
	}
	return started, err
}

// resubscribe takes this instance out of the group where it is known with other topics or skills.
// A static member that comes back is given what it had, whatever it asks for now
// (KIP-345): no partition of a lane that is new to it would ever be its own.
func (l *Log) resubscribe(ctx context.Context, group string, topics []string, skills []byte) error {
	group = l.cfg.Prefix + group
	described, err := l.admin.DescribeGroups(ctx, group)
	if err == nil {
		err = described.Error()
	}
	switch {
	case errors.Is(err, kerr.GroupIDNotFound): // nobody was ever in it
		return nil
	case err != nil:
		return errSession{fmt.Errorf("cannot read the members of %s: %w", group, unavailable(err))}
	}
	want := slices.Sorted(slices.Values(l.names(topics)))
	for _, m := range described[group].Members {
		if m.InstanceID == nil || *m.InstanceID != l.cfg.Instance {
			continue
		}
		if had, ok := m.Join.AsConsumer(); ok && slices.Equal(slices.Sorted(slices.Values(had.Topics)), want) && string(had.UserData) == string(skills) {
			return nil
		}
		left, err := l.admin.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs(l.cfg.Instance))
		if err == nil {
			err = left.Error()
		}
		if err != nil && !errors.Is(err, kerr.UnknownMemberID) {
			return errSession{fmt.Errorf("cannot leave %s to join it with other lanes: %w", group, unavailable(err))}
		}
	}
	return nil
}

// LastAccepted reads the commands that this instance accepted last: of each of the
// lane's partitions the newest, unless another instance has accepted one since. A
// process learns by it, at its start, what its predecessor may have left undone.
func (l *Log) LastAccepted(ctx context.Context, lane string) ([]Record, error) {
	resps, err := l.admin.FetchOffsets(ctx, l.cfg.Prefix+GroupLanes)
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
