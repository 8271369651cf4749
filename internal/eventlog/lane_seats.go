// Who gets the partitions of a lane: range assignment, as in every group, but where a lane
// has more members than partitions, among those who together can do most of its work.

package eventlog

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/myspinbot/myspinbot/internal/placement"
)

// seats is the group's assignment. Each member tells with its topics what it can do, by
// lane, and the group's leader goes by that.
type seats struct {
	kgo.GroupBalancer // range
	lanes             *Lanes
}

// balancers are those of the lanes' group. Plain range is there for members of earlier
// versions: the group takes what all of its members know.
func (s *Lanes) balancers() kgo.Opt {
	return kgo.Balancers(seats{kgo.RangeBalancer(), s}, kgo.RangeBalancer())
}

// laneRebalances bounds how long a rebalance waits for a member that does not join again. It
// is a minute by default, in which no lane of anybody accepts: a member that died in the
// middle of a rebalance can hold up the group that long, by more than its session. A living
// one joins within a transaction's time, and comes back when it was left behind.
func (l *Log) laneRebalances() kgo.Opt {
	return kgo.RebalanceTimeout(max(3*l.cfg.SessionTimeout, 5*time.Second))
}

// ProtocolName implements kgo.GroupBalancer.
func (seats) ProtocolName() string { return "range-by-skill" }

// JoinGroupMetadata implements kgo.GroupBalancer.
func (b seats) JoinGroupMetadata(topics []string, current map[string][]int32, generation int32) []byte {
	told := b.GroupBalancer.JoinGroupMetadata(topics, current, generation)
	var m kmsg.ConsumerMemberMetadata
	if err := m.ReadFrom(told); err != nil { // it was written a line above
		return told
	}
	m.UserData = b.lanes.skills()
	return m.AppendTo(nil)
}

// skills are what this process can do, by lane.
func (s *Lanes) skills() []byte {
	able := map[string][]string{}
	for _, n := range s.hosted() {
		if n.cfg.Able != nil {
			able[n.cfg.Lane] = n.cfg.Able()
		}
	}
	text, err := json.Marshal(able) // in the order of the names
	if err != nil {                 // strings always encode
		return nil
	}
	return text
}

// Reseat has the partitions shared out anew, after what Able says has changed.
func (s *Lanes) Reseat() {
	s.mu.Lock()
	client := s.client
	s.mu.Unlock()
	if client != nil {
		client.ForceRebalance()
	}
}

// MemberBalancer implements kgo.GroupBalancer.
func (b seats) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	_, topics, err := b.GroupBalancer.MemberBalancer(members)
	return seating{b, members}, topics, err
}

// seating is one rebalance.
type seating struct {
	seats
	members []kmsg.JoinGroupResponseMember
}

// Balance implements kgo.GroupMemberBalancer. The client calls BalanceOrError instead.
func (b seating) Balance(map[string]int32) kgo.IntoSyncAssignment { return nil }

// BalanceOrError implements kgo.GroupMemberBalancerOrError.
func (b seating) BalanceOrError(partitions map[string]int32) (kgo.IntoSyncAssignment, error) {
	seated, err := b.seat(partitions)
	if err != nil {
		return nil, err
	}
	inner, _, err := b.GroupBalancer.MemberBalancer(seated)
	if err != nil {
		return nil, err
	}
	return inner.(kgo.GroupMemberBalancerOrError).BalanceOrError(partitions) //nolint:forcetypeassert // the client's own
}

// seat leaves to each member the topics of which it gets partitions.
func (b seating) seat(partitions map[string]int32) ([]kmsg.JoinGroupResponseMember, error) {
	metas := make([]kmsg.ConsumerMemberMetadata, len(b.members))
	able := make([]map[string][]string, len(b.members))
	asking := map[string][]int{} // members, by topic, in their order
	for i, m := range b.members {
		if err := metas[i].ReadFrom(m.ProtocolMetadata); err != nil {
			return nil, fmt.Errorf("cannot read what member %s tells: %w", m.MemberID, err)
		}
		// What cannot be read is no skill: the member is of another version.
		_ = json.Unmarshal(metas[i].UserData, &able[i])
		for _, topic := range metas[i].Topics {
			asking[topic] = append(asking[topic], i)
		}
	}
	for topic, who := range asking {
		lane := b.lanes.laneOf(strings.TrimPrefix(topic, b.lanes.log.cfg.Prefix))
		skills := make([][]string, len(who))
		for n, i := range who {
			skills[n] = able[i][lane]
		}
		seated := placement.Seats(skills, int(partitions[topic]))
		for n, i := range who {
			if !slices.Contains(seated, n) {
				metas[i].Topics = slices.DeleteFunc(metas[i].Topics, func(t string) bool { return t == topic })
			}
		}
	}
	out := slices.Clone(b.members)
	for i := range out {
		out[i].ProtocolMetadata = metas[i].AppendTo(nil)
	}
	return out, nil
}

// assign tells the lane's owner which partitions are this process's.
func (n *lane) assign(assigned map[int32]*committed) {
	if n.cfg.Assigned != nil {
		n.cfg.Assigned(slices.Sorted(maps.Keys(assigned)))
	}
}
