// Layer C: real processes of every role, a real Kafka, PostgreSQL and S3 server, under
// load, killed, frozen and cut off; afterwards the log and the tables are held against
// the promises. KILLS decides how long: `make chaos KILLS=20`. It kills less often when
// the time for it is up.

package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/internal/rounds"
)

// plan is what is done to the cluster.
type plan struct {
	kills       *rounds.Count // of every role
	brokerKills int           //
	outage      time.Duration // without a broker
	freezes     int           // rounds of frozen processes and zombies
	freeze      time.Duration // longer than session and lease
	pace        int           // jobs a second
}

func chaosPlan(t *testing.T) plan {
	t.Helper()
	p := plan{kills: rounds.New(t, "kills of each role", "KILLS", 5), brokerKills: 3, outage: 15 * time.Second, freezes: 1, freeze: 12 * time.Second, pace: 6}
	if n := int(p.kills.Want()); n >= 20 {
		p.brokerKills, p.outage, p.freezes, p.freeze = n/2, time.Minute, 3, time.Minute
	}
	return p
}

func TestChaos(t *testing.T) {
	p := chaosPlan(t)
	c := startCluster(t)
	s := c.system()
	s.ready()
	load := newLoad(c.apis)
	ctx, stop := context.WithCancel(context.Background())
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		load.run(ctx, p.pace)
	}()
	began := time.Now()
	c.torment(p)
	faults := time.Since(began)
	stop()
	<-loaded
	r := c.settle(load.told())
	r.kills(c, p, faults)
	t.Logf("\n%s", r.table())
	if path := os.Getenv("CHAOS_REPORT"); path != "" {
		if err := os.WriteFile(path, []byte(r.table()), 0o644); err != nil {
			t.Error(err)
		}
	}
	for _, v := range r.violations {
		t.Error(v)
	}
}

// torment does everything to the cluster that the plan says, one thing after another,
// and beside it kills the broker now and then.
func (c *cluster) torment(p plan) {
	roles := map[string][]*member{}
	for _, name := range []string{"handler-1", "handler-2", "projector-1", "api-1", "api-2", "gpu-1", "gpu-2"} {
		m := c.members[name]
		roles[m.role] = append(roles[m.role], m)
	}
	names := []string{roleHandler, roleGPU, roleProjector, roleAPI}
	all := int(p.kills.Want())
	for n := range p.kills.Rounds() {
		round := int(n)
		for i, role := range names {
			ms := roles[role]
			// Every other time it stays away for longer than its leases: nobody but the
			// handler's clock then tells of what it was running.
			ms[round%len(ms)].kill(time.Duration(round/2%2) * 3 * chaosLease)
			<-time.After(time.Duration(700+300*i) * time.Millisecond)
		}
		if round*p.brokerKills/all != (round+1)*p.brokerKills/all {
			c.withoutBroker(0)
			<-time.After(4 * time.Second)
		}
	}
	for range p.freezes {
		for _, role := range []string{roleHandler, roleGPU} {
			roles[role][0].freeze(p.freeze)
			if err := roles[role][1].zombie(8 * time.Second); err != nil {
				c.t.Error(err)
			}
		}
		c.postgres.Kill()
		<-time.After(3 * time.Second)
		c.restart(c.postgres.Start)
	}
	c.withoutBroker(p.outage)
	<-time.After(5 * time.Second)
}

// withoutBroker kills the broker and starts it again after d.
func (c *cluster) withoutBroker(d time.Duration) {
	c.brokerKills++
	c.kafka.Kill()
	<-time.After(d)
	c.restart(c.kafka.Start)
}

func (c *cluster) restart(start func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := start(ctx); err != nil {
		c.t.Fatal(err)
	}
}

// chaosReport is what a run found.
type chaosReport struct {
	lines      [][2]string
	violations []string
}

func (r *chaosReport) line(name string, value any) {
	r.lines = append(r.lines, [2]string{name, fmt.Sprint(value)})
}

// table is the report as Markdown.
func (r *chaosReport) table() string {
	var b strings.Builder
	b.WriteString("| what | count |\n|---|---|\n")
	for _, l := range r.lines {
		fmt.Fprintf(&b, "| %s | %s |\n", l[0], l[1])
	}
	return b.String()
}

func (r *chaosReport) kills(c *cluster, p plan, took time.Duration) {
	byRole, restarts := map[string]int{}, 0
	for _, m := range c.members {
		m.mu.Lock()
		byRole[m.role] += m.kills
		restarts += m.restarts
		m.mu.Unlock()
	}
	for _, role := range slices.Sorted(mapsKeys(byRole)) {
		r.line("kill -9 of role "+role, byRole[role])
	}
	r.line("kill -9 of the broker", c.brokerKills)
	r.line("of these, the longest absence", p.outage)
	r.line("processes frozen for "+p.freeze.String(), 2*p.freezes)
	r.line("zombies beside a successor of their name", 2*p.freezes)
	r.line("kill -9 of PostgreSQL", p.freezes)
	r.line("starts of a process after its end", restarts)
	r.line("minutes of faults", fmt.Sprintf("%.1f", took.Minutes()))
}
