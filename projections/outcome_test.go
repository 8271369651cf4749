// Commits whose outcome nobody tells: the connection breaks as they are on their way.

package projections

import (
	"bytes"
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

// breaker breaks connections to PostgreSQL at every third commit, most times.
type breaker struct {
	landed  bool // the commit arrives, and its answer is lost; else it does not arrive
	most    int32
	commits atomic.Int32
	breaks  atomic.Int32
}

// pool leads to the same database as another, with a breaker before it.
func (b *breaker) pool(t *testing.T, other *pgxpool.Pool) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(other.Config().ConnString())
	ok(t, err)
	cfg.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		return &breakable{Conn: c, b: b}, err
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	ok(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func (b *breaker) strikes() bool {
	if b.commits.Add(1)%3 != 0 || b.breaks.Load() >= b.most {
		return false
	}
	b.breaks.Add(1)
	return true
}

type breakable struct {
	net.Conn
	b      *breaker
	broken atomic.Bool
}

// Write implements net.Conn.
func (c *breakable) Write(message []byte) (int, error) {
	if !bytes.Equal(message, []byte("Q\x00\x00\x00\x0bcommit\x00")) || !c.b.strikes() {
		return c.Conn.Write(message)
	}
	c.broken.Store(true)
	if c.b.landed {
		if _, err := c.Conn.Write(message); err != nil {
			return 0, err
		}
		if _, err := c.Conn.Read(make([]byte, 1)); err != nil { // PostgreSQL answers: it is committed
			return 0, err
		}
	}
	return len(message), c.Conn.Close()
}

// Read implements net.Conn.
func (c *breakable) Read(b []byte) (int, error) {
	if c.broken.Load() {
		return 0, net.ErrClosed
	}
	return c.Conn.Read(b)
}

// TestACommitOfUnknownOutcome breaks the live projector's commits, those that have
// landed and those that have not: every event counts once.
func TestACommitOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	for name, landed := range map[string]bool{"it was committed": true, "it was not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, l, b := database(t), newLog(), &breaker{landed: landed, most: 5}
			p := projector(b.pool(t, pool), l, 6)
			n := tellAll(t, l, 12)
			launch(t, p)
			caughtUp(t, l, p)
			wantProven(t, pool, l, n)
			if b.breaks.Load() != b.most {
				t.Errorf("%d of %d commits, want %d to break", b.breaks.Load(), b.commits.Load(), b.most)
			}
			// What was committed without an answer is not counted, and not written again either.
			s := p.Status().Counts
			if s.Duplicates != 0 || s.Rejected != 0 || s.Applied > int64(n) || (landed && s.Applied == int64(n)) {
				t.Errorf("counted %+v of %d events", s, n)
			}
		})
	}
}

// TestARebuildWithCommitsOfUnknownOutcome does the same to rebuilds, which end then and go on.
func TestARebuildWithCommitsOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	for name, landed := range map[string]bool{"they were committed": true, "they were not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, l, b := database(t), newLog(), &breaker{landed: landed, most: 4}
			n := tellAll(t, l, 12)
			rebuilding, ended := b.pool(t, pool), 0
			for {
				_, err := rebuildAll(t.Context(), projector(rebuilding, l, 1), RebuildOptions{})
				if err == nil {
					break
				}
				if ended++; ended > int(b.most) {
					t.Fatal(err)
				}
			}
			wantProven(t, pool, l, n)
			if b.breaks.Load() == 0 || ended == 0 {
				t.Errorf("%d commits broke and ended %d rebuilds", b.breaks.Load(), ended)
			}
		})
	}
}
