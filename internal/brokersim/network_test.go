//go:build synctests

// The network between one process and the brokers: in memory, in order, and with
// the manners of TCP. What a process has sent may arrive after it has given up
// waiting, or after its death.

package brokersim_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
)

// latency is how long a request is on its way. Without it a client that asks again
// at once would stop the fake clock.
const latency = 500 * time.Microsecond

var errCut = errors.New("the network is cut")

// link is a process's way to the brokers, for one of its lives.
type link struct {
	net   *kfake.VirtualNetwork
	count func(fault string) // of what a fault has really met

	mu     sync.Mutex
	cut    bool
	late   bool          // what was sent before a cut still arrives
	delay  time.Duration // of every request and every answer
	thawed chan struct{} // closed when the link is not frozen
	lose   map[int16]int // answers to lose, by API key
	conns  map[*conn]bool
}

func newLink(network *kfake.VirtualNetwork, count func(string)) *link {
	l := &link{net: network, count: count, thawed: make(chan struct{}), lose: make(map[int16]int), conns: make(map[*conn]bool)}
	close(l.thawed)
	return l
}

// dial is for eventlog.Config.
func (l *link) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := l.pass(ctx.Done(), latency); err != nil {
		return nil, err
	}
	inner, err := l.net.DialContext(ctx, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	c := &conn{Conn: inner, link: l, out: make(chan []byte, 1<<10), closed: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut {
		inner.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Err: errCut}
	}
	l.conns[c] = true
	go c.pump()
	return c, nil
}

// pass waits while the link is frozen or slow, at least for a time.
func (l *link) pass(closed <-chan struct{}, least time.Duration) error {
	l.mu.Lock()
	cut, thawed, delay := l.cut, l.thawed, l.delay+least
	l.mu.Unlock()
	if cut {
		return &net.OpError{Op: "dial", Net: "fake", Err: errCut}
	}
	select {
	case <-thawed:
	case <-closed:
		return net.ErrClosed
	}
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-closed:
			return net.ErrClosed
		}
	}
	return nil
}

// sever resets all connections and refuses new ones until mend.
func (l *link) sever(late bool) {
	l.mu.Lock()
	l.cut, l.late = true, late
	l.mu.Unlock()
	l.reset()
}

// reset breaks the connections of now.
func (l *link) reset() {
	l.mu.Lock()
	conns := l.conns
	l.conns = make(map[*conn]bool)
	l.mu.Unlock()
	for c := range conns {
		c.Close()
	}
}

// freeze lets nothing through, in either direction, and breaks nothing.
func (l *link) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.thawed:
		l.thawed = make(chan struct{})
	default:
	}
}

func (l *link) slow(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.delay = d
}

// mend ends every trouble of the link.
func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut, l.delay = false, 0
	clear(l.lose)
	select {
	case <-l.thawed:
	default:
		close(l.thawed)
	}
}

// loseAnswer lets the next n requests of that API key reach the broker, whose
// answers never come back.
func (l *link) loseAnswer(key int16, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lose[key] += n
}

type conn struct {
	net.Conn
	link   *link
	out    chan []byte
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	deaf bool
}

// Write sees whole requests: the client writes each at once (length, API key, …).
// Like a socket with a buffer it does not wait for the other side.
func (c *conn) Write(b []byte) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	default:
	}
	select {
	case c.out <- append([]byte(nil), b...):
		return len(b), nil
	case <-c.closed:
		return 0, net.ErrClosed
	}
}

// pump delivers what was written, in order. After Close it still delivers what had
// been sent, unless the link was cut for good.
func (c *conn) pump() {
	never := make(chan struct{})
	defer c.Conn.Close()
	for {
		select {
		case b := <-c.out:
			if !c.deliver(b, never) {
				return
			}
			continue
		default:
		}
		select {
		case b := <-c.out:
			if !c.deliver(b, never) {
				return
			}
		case <-c.closed:
			if len(c.out) == 0 {
				return
			}
		}
	}
}

func (c *conn) deliver(b []byte, never chan struct{}) bool {
	if err := c.link.pass(never, latency); err != nil && !c.link.isLate() {
		return false
	}
	if len(b) >= 6 && c.link.takeLoss(int16(binary.BigEndian.Uint16(b[4:]))) { //nolint:gosec // an API key
		c.mu.Lock()
		c.deaf = true
		c.mu.Unlock()
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(time.Minute)) // a broker that is gone reads nothing
	_, err := c.Conn.Write(b)
	return err == nil
}

func (l *link) isLate() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.late
}

func (l *link) takeLoss(key int16) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lose[key] == 0 {
		return false
	}
	l.lose[key]--
	return true
}

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if passErr := c.link.pass(c.closed, 0); passErr != nil && err == nil {
		return 0, passErr
	}
	c.mu.Lock()
	deaf := c.deaf
	c.mu.Unlock()
	if deaf {
		c.link.count("lost answer")
		c.Close()
		return 0, errCut
	}
	return n, err
}

// Close lets the pump go on with what is on its way, and throws answers away.
func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		_ = c.Conn.SetReadDeadline(time.Time{})
		go func() { _, _ = io.Copy(io.Discard, c.Conn) }()
		c.link.mu.Lock()
		delete(c.link.conns, c)
		c.link.mu.Unlock()
	})
	return nil
}

// The writes wait in the pump, which has a time limit of its own.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

func (c *conn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }
