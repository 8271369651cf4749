// Tests of what mends itself: databases and tables that are gone, damaged or old, and
// commits of which nobody knows whether they happened.

package projections

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations"
)

// TestADatabaseThatIsDroppedUnderLoadHealsByItself drops it while jobs are told, a
// projector writes, a rebuild runs and readers read.
func TestADatabaseThatIsDroppedUnderLoadHealsByItself(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	name := pool.Config().ConnConfig.Database
	live := projector(pool, l, 7)
	launch(t, live)
	told := underLoad(t, l)
	r := NewReader(readers(t, pool))
	admin, err := pgx.Connect(t.Context(), server.URL())
	ok(t, err)
	defer func() { ok(t, admin.Close(context.Background())) }()
	for round := range 3 {
		id := fmt.Sprintf("round-%d", round)
		l.tell(t, whole(id).messages...)
		ok(t, r.waitLong(t, "default", id, 19))
		if round == 1 { // in the middle of a rebuild
			_, err := rebuildAll(t.Context(), projector(pool, l, 1), RebuildOptions{Report: func(p Progress) {
				if p.Phase == PhaseIndex {
					_, _ = admin.Exec(context.Background(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
				}
			}})
			if err == nil {
				t.Error("the rebuild did not notice")
			}
		}
		_, err := admin.Exec(t.Context(), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		ok(t, err)
		eventually(t, "readers are served again", func() bool {
			err := r.Ping(t.Context())
			if err != nil && !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
			return err == nil
		})
		ok(t, r.Snapshot(t.Context(), func(q *Queries) error { // the first answer already knows everything that was known
			for before := range round + 1 {
				j, err := q.Job(t.Context(), "default", fmt.Sprintf("round-%d", before))
				if err != nil || j.Version != 19 {
					t.Errorf("after the database came back, job %d is %+v, %v", before, j, err)
				}
			}
			return nil
		}))
	}
	n := told()
	caughtUp(t, l, live)
	eventually(t, "all is well", func() bool { s := live.Status(); return s.Trouble == "" && s.Building == Progress{} })
	caughtUp(t, l, live)
	wantProven(t, pool, l, n+3*19)
	eventually(t, "no accepted job is missing", func() bool {
		var jobs int
		ok(t, pool.QueryRow(t.Context(), "SELECT count(*) FROM myspinbot.jobs").Scan(&jobs))
		return jobs == 3+(n+18)/19
	})
}

// TestAnIdleProjectorNoticesThatItsTablesAreGone has nothing new on the log that would make it look.
func TestAnIdleProjectorNoticesThatItsTablesAreGone(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	n := tellAll(t, l, 2)
	p := projector(pool, l, 50)
	launch(t, p)
	caughtUp(t, l, p)
	before := dump(t, pool)
	exec(t, pool, "DROP SCHEMA gen_1 CASCADE; DROP SCHEMA myspinbot CASCADE")
	eventually(t, "the tables are back", func() bool { return NewReader(pool).Ping(t.Context()) == nil })
	if dump(t, pool) != before {
		t.Error("the tables are not as they were")
	}
	wantProven(t, pool, l, n)
}

// TestOlderTablesAreReplacedWhileTheyServeReaders has tables of another shape, which
// the projector builds anew while readers see the old rows.
func TestOlderTablesAreReplacedWhileTheyServeReaders(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	n := tellAll(t, l, 3)
	first := projector(pool, l, 5)
	stop := launch(t, first)
	caughtUp(t, l, first)
	stop()
	exec(t, pool, "ALTER TABLE gen_1.jobs ADD COLUMN extra text; UPDATE gen_1.jobs SET extra = 'old'; UPDATE myspinbot.generations SET shape = 'older', version = 1")
	ok(t, pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { // as the older program would show them
		_, err := tx.Exec(t.Context(), "DROP VIEW myspinbot.jobs; CREATE VIEW myspinbot.jobs AS SELECT * FROM gen_1.jobs")
		return err
	}))
	if _, err := verify(t.Context(), projector(pool, l, 5)); !errors.Is(err, migrations.ErrOtherShape) {
		t.Errorf("Verify says %v", err)
	}
	gate := &gatedLog{memoryLog: l, open: make(chan struct{}), asked: make(chan struct{}, 1000)}
	p := projector(pool, gate, 5)
	launch(t, p)
	<-gate.asked // the new generation is being filled
	r := NewReader(readers(t, pool))
	ok(t, r.Snapshot(t.Context(), func(q *Queries) error {
		var old int
		if err := q.tx.QueryRow(t.Context(), "SELECT count(*) FROM myspinbot.jobs WHERE extra = 'old'").Scan(&old); err != nil || old != 3 {
			return errors.Join(err, fmt.Errorf("%d old rows", old))
		}
		_, err := q.Job(t.Context(), "default", "job-1")
		return err
	}))
	if s := p.Status(); !strings.Contains(s.Trouble, "the tables are being built from the log") || s.Building.Generation != 2 {
		t.Errorf("status is %+v", s)
	}
	close(gate.open)
	eventually(t, "the projector goes on with the new tables", func() bool { return p.Status().Generation == 2 })
	ok(t, r.waitLong(t, "default", "job-1", 19))
	caughtUp(t, l, p)
	wantProven(t, pool, l, n)
	if p.Status().Trouble != "" {
		t.Error(p.Status().Trouble)
	}
}

// gatedLog hands nothing out before it is opened.
type gatedLog struct {
	*memoryLog
	open, asked chan struct{}
}

type gatedCursor struct {
	cursor
	log *gatedLog
}

func (l *gatedLog) reader(from eventlog.Offsets) (cursor, error) {
	c, err := l.memoryLog.reader(from)
	return gatedCursor{c, l}, err
}

func (c gatedCursor) Poll(ctx context.Context, most int) (eventlog.Batch, error) {
	c.log.asked <- struct{}{}
	select {
	case <-c.log.open:
		return c.cursor.Poll(ctx, most)
	case <-ctx.Done():
		return eventlog.Batch{}, ctx.Err()
	}
}

func TestNewerTablesAreLeftAlone(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	tellAll(t, l, 1)
	exec(t, pool, "UPDATE myspinbot.generations SET shape = 'later', version = 1000")
	p := projector(pool, l, 5)
	launch(t, p)
	eventually(t, "the projector says so", func() bool {
		return strings.Contains(p.Status().Trouble, "by a newer version of this program: update this one")
	})
	if g := generation(t, pool); g != 1 {
		t.Errorf("generation %d is live", g)
	}
}

func TestOnlyOneRebuildAtATime(t *testing.T) {
	t.Parallel()
	pool, l := database(t), newLog()
	tellAll(t, l, 1)
	inner := errors.New("nobody else tried")
	rebuilt(t, projector(pool, l, 5), RebuildOptions{Report: func(p Progress) {
		if p.Phase == PhaseIndex && inner.Error() == "nobody else tried" {
			_, inner = rebuildAll(context.Background(), projector(pool, l, 5), RebuildOptions{})
		}
	}})
	if !errors.Is(inner, migrations.ErrBusy) {
		t.Errorf("a second rebuild says %v", inner)
	}
}

// cutConn breaks the connection at a commit: before PostgreSQL hears of it, or before its answer is read.
type cutConn struct {
	net.Conn
	cuts   *atomic.Int32
	before bool
	broken atomic.Bool
}

func (c *cutConn) Write(b []byte) (int, error) {
	if strings.Contains(string(b), "commit") && c.cuts.Add(-1) >= 0 {
		c.broken.Store(true)
		if c.before {
			_ = c.Close()
		}
	}
	return c.Conn.Write(b)
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.broken.Load() && err == nil {
		_ = c.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

// TestACommitOfUnknownOutcomeCountsOnce cuts connections at commits, with and without their taking place.
func TestACommitOfUnknownOutcomeCountsOnce(t *testing.T) {
	t.Parallel()
	for _, before := range []bool{true, false} {
		t.Run(fmt.Sprint("lost before it arrives ", before), func(t *testing.T) {
			t.Parallel()
			plain, l := database(t), newLog()
			var cuts atomic.Int32
			config := plain.Config().Copy()
			dial := config.ConnConfig.DialFunc
			config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				c, err := dial(ctx, network, addr)
				return &cutConn{Conn: c, cuts: &cuts, before: before}, err
			}
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			ok(t, err)
			t.Cleanup(pool.Close)
			p := projector(pool, l, 3)
			launch(t, p)
			n := 0
			for i := range 4 {
				cuts.Store(1)
				n += tellInTurn(t, l, whole(fmt.Sprintf("job-%d", i)))
				caughtUp(t, l, p)
				if cuts.Load() > 0 {
					t.Error("no commit was cut")
				}
			}
			wantProven(t, plain, l, n)
			if s := p.Status(); s.Rejected != 0 {
				t.Errorf("%d facts rejected", s.Rejected)
			}
		})
	}
}
