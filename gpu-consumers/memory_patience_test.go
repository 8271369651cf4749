// How long random loads are waited for, and what is told of those that do not end.

package gpu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// await waits until ok holds, for as long as anything goes on: it fails when nothing has
// ended for a minute in which this process ran. The time for which the machine stopped it
// is no time of its own.
func (c *crowd) await(what string, ok func() bool) {
	c.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	idle, before, seen, expired := time.Duration(0), time.Now(), len(c.ended()), false
	for !ok() {
		now := <-tick.C
		idle, before = idle+min(now.Sub(before), 100*time.Millisecond), now
		if n := len(c.ended()); n != seen {
			idle, seen, expired = 0, n, false
		}
		c.replace()
		if idle > patience/2 && !expired {
			c.expire()
			expired = true
		}
		if idle > 3*patience {
			c.t.Fatalf("seed %d: nothing has ended for %v, waiting until %s; %d of %d have", c.seed, idle, what, seen, len(c.sent))
		}
	}
}

// replace starts another member in the place of one that the others took for dead, with a
// transaction open, because it was too slow: it ends as if it had been killed.
func (c *crowd) replace() {
	for i, m := range c.members {
		select {
		case err := <-m.ended:
			if !errors.Is(err, eventlog.ErrFenced) {
				c.t.Fatalf("seed %d: %s ended by itself with %v", c.seed, m.name, err)
			}
			c.t.Logf("seed %d: %s was fenced", c.seed, m.name)
			c.killed[m.name] = true
			c.members = slices.Delete(c.members, i, i+1)
			c.start()
			return
		default:
		}
	}
}

// expire takes those who are gone out of the group. A broker does when their sessions are over;
// the one in memory never does with a member that died before it was answered.
func (c *crowd) expire() {
	admin, ctx, done := c.admin()
	defer done()
	var gone []string
	for n := range c.next {
		name := fmt.Sprint("w", n+1)
		if !slices.ContainsFunc(c.members, func(m *crowdMember) bool { return m.name == name }) {
			gone = append(gone, name)
		}
	}
	left, err := admin.LeaveGroup(ctx, kadm.LeaveGroup(c.group()).InstanceIDs(gone...))
	left.Each(func(r kadm.LeaveGroupResponse) {
		if r.Err == nil {
			c.t.Logf("seed %d: %s was still a member", c.seed, r.InstanceID)
		}
	})
	if err != nil {
		c.t.Log(err)
	}
}

func (c *crowd) group() string { return "myspinbot." + eventlog.GroupLanes }

func (c *crowd) admin() (*kadm.Client, context.Context, func()) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.b.broker.Brokers...))
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.t.Context()), patience)
	return kadm.NewClient(cl), ctx, func() { cancel(); cl.Close() }
}

// diagnose tells what has not ended, who accepted it, and who holds or wants the card.
func (c *crowd) diagnose() {
	done := c.ended()
	for stage, at := range c.sent {
		if !done[stage] {
			by := "nobody"
			for _, m := range c.b.of("task.accepted", stage) {
				by = m.Worker
			}
			c.t.Logf("seed %d: %s at %s has not ended; accepted by %s", c.seed, stage, at, by)
		}
	}
	for _, m := range c.members {
		c.t.Logf("seed %d: %s is there, with slots %v", c.seed, m.name, m.slots)
	}
	shares, _ := filepath.Glob(filepath.Join(c.card, "*"))
	for _, path := range shares {
		text, err := os.ReadFile(path)
		c.t.Logf("seed %d: the card's account holds %s (%v)", c.seed, text, err)
	}
	offsets, metas, err := c.b.log.FetchCommitted(context.WithoutCancel(c.t.Context()), eventlog.GroupLanes)
	c.t.Logf("seed %d: committed are %v %v (%v)", c.seed, offsets, metas, err)
	c.describe()
}

// describe tells who the group's members are, as the broker knows them.
func (c *crowd) describe() {
	admin, ctx, done := c.admin()
	defer done()
	groups, err := admin.DescribeGroups(ctx, c.group())
	for _, g := range groups {
		c.t.Logf("seed %d: group %s is %s, by protocol %s (%v)", c.seed, g.Group, g.State, g.Protocol, g.Err)
		for _, m := range g.Members {
			instance := "nobody"
			if m.InstanceID != nil {
				instance = *m.InstanceID
			}
			assigned, _ := m.Assigned.AsConsumer()
			c.t.Logf("seed %d: member %s has %+v", c.seed, instance, assigned)
		}
	}
	c.t.Logf("seed %d: described with %v", c.seed, err)
	var dump strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&dump, 1)
	c.t.Log(dump.String())
}
