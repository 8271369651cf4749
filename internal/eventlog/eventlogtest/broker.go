// Brokers and networks for tests.

package eventlogtest

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/myspinbot/myspinbot/internal/eventlog"
)

// Fake starts a broker in memory, and returns it with the configuration to reach it.
func Fake(t testing.TB, opts ...kfake.Opt) (*kfake.Cluster, eventlog.Config) {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
		kfake.GroupMinSessionTimeout(100 * time.Millisecond),
	}, opts...)...)
	if err != nil {
		t.Fatalf("cannot start a broker in memory: %v", err)
	}
	t.Cleanup(c.Close)
	return c, eventlog.Config{Brokers: c.ListenAddrs(), Partitions: 3, Logger: slog.New(slog.DiscardHandler)}
}

// Open opens a log for a test and creates its topics.
func Open(t testing.TB, cfg eventlog.Config) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		switch err := l.EnsureTopics(ctx); {
		case err == nil:
			return l
		case ctx.Err() != nil || !errors.Is(err, eventlog.ErrUnavailable): // a busy broker shows its topics late
			t.Fatal(err)
		}
	}
}

// Network is a network that a test can break. The zero value works; give Dial to
// a Config.
type Network struct {
	mu      sync.Mutex
	cut     bool
	hung    chan struct{} // closed by Mend; nil: nothing hangs
	conns   map[net.Conn]bool
	keyOnce int16 // API key of the request whose answer is lost, if armed
	armed   bool
	lost    chan struct{}
}

var errCut = errors.New("the network is cut")

// Dial connects.
func (n *Network) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	n.mu.Lock()
	cut := n.cut
	n.mu.Unlock()
	if cut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errCut}
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conns == nil {
		n.conns = make(map[net.Conn]bool)
	}
	n.conns[c] = true
	return &conn{Conn: c, net: n}, nil
}

// Cut breaks every connection and refuses new ones until Mend: to the others the
// process behind it looks dead.
func (n *Network) Cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = true
	for c := range n.conns {
		c.Close()
	}
	clear(n.conns)
}

// Mend lets new connections through.
func (n *Network) Mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut = false
	if n.hung != nil {
		close(n.hung)
		n.hung = nil
	}
}

// Hang holds back every answer until Mend: so looks a broker that is frozen.
func (n *Network) Hang() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.hung == nil {
		n.hung = make(chan struct{})
	}
}

// LoseAnswer lets the next request of that API key reach the broker, and cuts the
// network before its answer. The channel is closed then.
func (n *Network) LoseAnswer(key int16) <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.keyOnce, n.armed, n.lost = key, true, make(chan struct{})
	return n.lost
}

type conn struct {
	net.Conn
	net  *Network
	deaf bool // guarded by net.mu
}

// Write sees whole requests: the client writes each at once (length, API key, …).
func (c *conn) Write(b []byte) (int, error) {
	c.net.mu.Lock()
	if c.net.armed && len(b) >= 6 && binary.BigEndian.Uint16(b[4:]) == uint16(c.net.keyOnce) { //nolint:gosec // a key, not a number
		c.net.armed = false
		c.deaf = true
	}
	c.net.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *conn) Read(b []byte) (int, error) {
	k, err := c.Conn.Read(b)
	c.net.mu.Lock()
	deaf, hung := c.deaf, c.net.hung
	c.deaf = false
	c.net.mu.Unlock()
	if hung != nil {
		<-hung
	}
	if !deaf {
		return k, err
	}
	c.net.Cut()
	close(c.net.lost)
	return 0, errCut
}

// Eventually waits until ok holds, and fails the test when it does not within d.
func Eventually(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", d, what)
		}
	}
}
