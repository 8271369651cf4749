// The door: how many connections are open at once, in all and from one address.

package api

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"
)

const (
	turnedAwayAtOnce = 64              // connections that are told why; further ones are closed without a word
	turningAway      = 2 * time.Second // of telling it, and of reading on until the client has the answer
)

// door accepts connections up to a bound. One too many is answered and closed, so that
// those who are inside are served as before. It also makes connections linger.
type door struct {
	net.Listener
	total, each int // each: of one address; 0: as many as in all
	log         *slog.Logger
	metrics     *metrics
	telling     chan struct{}

	mu   sync.Mutex
	open map[netip.Addr]int
	all  int
}

func newDoor(l net.Listener, cfg Config, m *metrics) *door {
	return &door{Listener: l, total: cfg.MaxConnections, each: cfg.MaxConnectionsPerAddress, log: cfg.Logger, metrics: m,
		telling: make(chan struct{}, turnedAwayAtOnce), open: map[netip.Addr]int{}}
}

// Accept implements net.Listener.
func (d *door) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := addressOf(c.RemoteAddr())
		refusal := d.enter(from)
		if refusal == nil {
			return &lingeringConn{Conn: c, leave: func() { d.leave(from) }}, nil
		}
		d.turnAway(c, refusal)
	}
}

func (d *door) enter(from netip.Addr) *refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.all >= d.total:
		return refuse(codeBusy, "%d connections are open, which is this server's limit", d.total)
	case d.each > 0 && d.open[from] >= d.each:
		return refuse(codeConnections, "%d connections from your address are open, which is this server's limit for one", d.each)
	}
	d.all++
	d.open[from]++
	d.metrics.connections.Set(float64(d.all))
	return nil
}

func (d *door) leave(from netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all--
	if d.open[from]--; d.open[from] == 0 {
		delete(d.open, from)
	}
	d.metrics.connections.Set(float64(d.all))
}

// turnAway tells a client why it is not served, beside those who are.
func (d *door) turnAway(c net.Conn, r *refusal) {
	d.metrics.turnedAway.WithLabelValues(r.code).Inc()
	select {
	case d.telling <- struct{}{}:
	default:
		_ = c.Close()
		return
	}
	go func() {
		defer func() { _ = c.Close(); <-d.telling }()
		answer, err := plainAnswer(r)
		if err == nil && c.SetDeadline(time.Now().Add(turningAway)) == nil {
			_, err = c.Write(answer)
		}
		if err != nil {
			d.log.Debug("a connection too many went without a word", "error", err)
			return
		}
		if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			_, _ = io.Copy(io.Discard, onlyReader{c})
		}
	}()
}

// plainAnswer is a refusal as it goes over the wire without a request having been read.
func plainAnswer(r *refusal) ([]byte, error) {
	p := problemOf(r, newTrace())
	body, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %d\r\nRetry-After: %s\r\nX-Trace-Id: %s\r\nConnection: close\r\n\r\n%s",
		p.Status, http.StatusText(p.Status), problemMedia, len(body), r.wait(), p.TraceID, body), nil
}

// addressOf is who a connection comes from. A machine has all of an IPv6 network of 64
// bits to choose from, which is therefore one address.
func addressOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return oneAddress(tcp.AddrPort().Addr())
	}
	return netip.Addr{}
}

func oneAddress(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		if network, err := a.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return a
}

// clientAddress is who sent the request: the connection's other end, or whom the proxy names.
func (s *Server) clientAddress(c *fiber.Ctx) netip.Addr {
	if s.cfg.ClientHeader != "" {
		if a, ok := lastAddress(c.Get(s.cfg.ClientHeader)); ok {
			return a
		}
	}
	return addressOf(c.Context().RemoteAddr())
}
