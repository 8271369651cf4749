// What the tests run against: one PostgreSQL for the whole package with a database
// for each test, and a log in memory.

package projections

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/devstack/devstacktest"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/migrations/migrationstest"
)

var server *devstacktest.Postgres

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(rebuilderDatabase) != "" { // a process of TestRebuildKilledAtAnyMoment, which has a server
		return m.Run()
	}
	var err error
	if server, err = devstacktest.StartPostgres(context.Background(), nil, migrationstest.EmptyTables); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = server.Close() }()
	return m.Run()
}

// database is a database of this test alone, with empty tables.
func database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return server.Database(t)
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// memoryLog is a log in memory with the partitions of the tests. A nil value is a marker.
type memoryLog struct {
	mu       sync.Mutex
	values   map[eventlog.TopicPartition][][]byte
	grown    chan struct{} // closed and replaced at each append
	failures int           // polls that fail before the next one that does not
	last     *memoryCursor // the newest one
}

var errLogAway = errors.New("the log is away")

func newLog() *memoryLog {
	l := &memoryLog{values: make(map[eventlog.TopicPartition][][]byte), grown: make(chan struct{})}
	for _, topic := range topics() {
		for p := range int32(testPartitions) {
			l.values[eventlog.TopicPartition{Topic: topic, Partition: p}] = nil
		}
	}
	return l
}

func (l *memoryLog) add(tp eventlog.TopicPartition, values ...[]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values[tp] = append(l.values[tp], values...)
	close(l.grown)
	l.grown = make(chan struct{})
}

// tell writes messages, each as a transaction of its own with its marker.
func (l *memoryLog) tell(t testing.TB, messages ...events.Message) {
	t.Helper()
	for _, m := range messages {
		b, err := events.Encode(m)
		ok(t, err)
		l.add(place(m), b, nil)
	}
}

func (l *memoryLog) fail(polls int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = polls
}

// Ranges implements source.
func (l *memoryLog) Ranges(_ context.Context, topics ...string) (map[eventlog.TopicPartition]eventlog.Range, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[eventlog.TopicPartition]eventlog.Range)
	for tp, v := range l.values {
		out[tp] = eventlog.Range{Stable: int64(len(v)), End: int64(len(v))}
	}
	return out, nil
}

func (l *memoryLog) reader(from eventlog.Offsets) (cursor, error) {
	at := make(eventlog.Offsets)
	for tp, o := range from {
		at[tp] = o
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = &memoryCursor{log: l, at: at, paused: make(map[eventlog.TopicPartition]bool)}
	return l.last, nil
}

// position is up to where the newest cursor has read.
func (l *memoryLog) position(tp eventlog.TopicPartition) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last.at[tp]
}

type memoryCursor struct {
	log    *memoryLog
	at     eventlog.Offsets
	paused map[eventlog.TopicPartition]bool // under the log's mutex
}

func (c *memoryCursor) Close() {}

func (c *memoryCursor) Pause(at eventlog.TopicPartition) {
	c.log.mu.Lock()
	defer c.log.mu.Unlock()
	c.paused[at] = true
}

func (c *memoryCursor) Resume(at eventlog.TopicPartition) {
	c.log.mu.Lock()
	delete(c.paused, at)
	c.log.mu.Unlock()
	c.log.add(at) // wakes polls
}

// Poll implements cursor; it takes from the partitions in turn, so that batches mix them.
func (c *memoryCursor) Poll(ctx context.Context, most int) (eventlog.Batch, error) {
	for {
		c.log.mu.Lock()
		if c.log.failures > 0 {
			c.log.failures--
			c.log.mu.Unlock()
			return eventlog.Batch{}, errLogAway
		}
		b, grown := c.next(most), c.log.grown
		c.log.mu.Unlock()
		if len(b.Next) > 0 {
			return b, nil
		}
		select {
		case <-ctx.Done():
			return eventlog.Batch{}, ctx.Err()
		case <-grown:
		}
	}
}

func (c *memoryCursor) next(most int) eventlog.Batch {
	b := eventlog.Batch{Next: make(eventlog.Offsets)}
	for moved := true; moved; {
		moved = false
		for _, tp := range sorted(c.at) {
			o := c.at[tp]
			values := c.log.values[tp]
			if c.paused[tp] || o >= int64(len(values)) || (values[o] != nil && len(b.Records) >= most) {
				continue
			}
			if values[o] != nil {
				b.Records = append(b.Records, eventlog.Record{Topic: tp.Topic, Partition: tp.Partition, Offset: o, Value: values[o]})
			}
			c.at[tp], b.Next[tp], moved = o+1, o+1, true
		}
	}
	return b
}

// projector is one that is not running yet.
func projector(pool *pgxpool.Pool, log source, batch int) *Projector {
	return newProjector(Config{Pool: pool, BatchSize: batch, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}, log)
}

// launch runs a projector until the test ends or the returned function is called.
func launch(t testing.TB, p *Projector) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := p.Run(ctx); err != nil {
			t.Errorf("Run ended with %v", err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

// eventually waits until done says so.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); !done(); {
		select {
		case <-deadline:
			t.Fatalf("it never came to this: %s", what)
		case <-tick.C:
		}
	}
}

// caughtUp waits until a projector has read the whole log.
func caughtUp(t testing.TB, l *memoryLog, p *Projector) {
	t.Helper()
	eventually(t, "the projector is at the end of the log", func() bool {
		ranges, err := l.Ranges(context.Background())
		ok(t, err)
		s := p.Status()
		for _, ps := range s.Partitions {
			if ps.Stopped == "" && ps.Next < ranges[eventlog.TopicPartition{Topic: ps.Topic, Partition: ps.Partition}].Stable {
				return false
			}
		}
		return len(s.Partitions) == len(ranges)
	})
}

func dump(t testing.TB, pool *pgxpool.Pool) string {
	t.Helper()
	var b bytes.Buffer
	ok(t, Dump(context.Background(), pool, &b))
	return b.String()
}

// proven says what Verify finds, which is nothing if all is well.
func proven(t testing.TB, pool *pgxpool.Pool, l source) Report {
	t.Helper()
	r, err := verify(context.Background(), projector(pool, l, 7))
	ok(t, err)
	return r
}

func wantProven(t testing.TB, pool *pgxpool.Pool, l source, factsOnLog int) {
	t.Helper()
	r := proven(t, pool, l)
	if len(r.Differences) > 0 || r.Events != int64(factsOnLog) || r.Rows == 0 {
		t.Errorf("%d events, %d rows, differences %v; want %d events and none", r.Events, r.Rows, r.Differences, factsOnLog)
	}
}

func exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	_, err := pool.Exec(context.Background(), sql, args...)
	ok(t, err)
}
