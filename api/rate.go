// How often one client may ask: a bucket of requests for each address, which fills
// again at an even pace.

package api

import (
	"math"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/internal/access"
)

// maxBuckets bounds the memory. Addresses beyond it share one bucket.
const maxBuckets = 10_000

// rate holds the buckets.
type rate struct {
	pace access.Pace

	mu     sync.Mutex
	fullAt map[netip.Addr]time.Time
}

// newRate is nil where there is no limit.
func newRate(perSecond float64, burst int) *rate {
	if perSecond <= 0 {
		return nil
	}
	return &rate{pace: access.NewPace(perSecond, burst), fullAt: map[netip.Addr]time.Time{}}
}

// take takes a request from the client's bucket, or says how long it must wait for one.
func (r *rate) take(client netip.Addr, now time.Time) (wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	full, known := r.fullAt[client]
	if !known && len(r.fullAt) >= maxBuckets {
		r.forgetFull(now)
		if len(r.fullAt) >= maxBuckets {
			client = netip.Addr{}
			full = r.fullAt[client]
		}
	}
	then, wait := r.pace.Take(full, now)
	if wait <= 0 {
		r.fullAt[client] = then
	}
	return wait
}

func (r *rate) forgetFull(now time.Time) {
	for client, full := range r.fullAt {
		if !full.After(now) {
			delete(r.fullAt, client)
		}
	}
}

// unlimited are the routes of those who watch the server.
var unlimited = map[string]bool{"/health": true, "/ready": true, "/metrics": true}

// inTurn refuses a client that asks too often.
func (s *Server) inTurn(c *fiber.Ctx) error {
	if unlimited[c.Path()] {
		return nil
	}
	return s.takeTurn(c)
}

func (s *Server) takeTurn(c *fiber.Ctx) error {
	if s.rate == nil {
		return nil
	}
	wait := s.rate.take(s.clientAddress(c), s.now())
	if wait <= 0 {
		return nil
	}
	s.metrics.turnedAway.WithLabelValues(codeRate).Inc()
	r := refuse(codeRate, "this server answers %v requests a second from one address", s.cfg.RequestsPerSecond)
	r.retryAfter = int(math.Ceil(wait.Seconds()))
	return r
}

// lastAddress is the address that the nearest proxy added to a list with commas.
func lastAddress(list string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.TrimSpace(list[strings.LastIndex(list, ",")+1:]))
	return oneAddress(a), err == nil
}
