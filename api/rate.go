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
)

// maxBuckets bounds the memory. Addresses beyond it share one bucket.
const maxBuckets = 10_000

// rate holds the buckets. A bucket is the time at which it would be full again: one
// request takes a pace of it (the generic cell rate algorithm).
type rate struct {
	pace  time.Duration // between two requests
	depth time.Duration // of a full bucket

	mu     sync.Mutex
	fullAt map[netip.Addr]time.Time
}

// newRate is nil where there is no limit.
func newRate(perSecond float64, burst int) *rate {
	if perSecond <= 0 {
		return nil
	}
	pace := time.Duration(float64(time.Second) / perSecond)
	return &rate{pace: pace, depth: pace * time.Duration(burst), fullAt: map[netip.Addr]time.Time{}}
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
	if full.Before(now) {
		full = now
	}
	full = full.Add(r.pace)
	if wait = full.Sub(now) - r.depth; wait > 0 {
		return wait
	}
	r.fullAt[client] = full
	return 0
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
	if s.rate == nil || unlimited[c.Path()] {
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
