// What the tests run against: one PostgreSQL and one S3 server for the package, and
// for each test a database, a bucket, a broker in memory, a projector, and a
// decider in place of the job handler and the workers.

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/access"
	"github.com/myspinbot/myspinbot/internal/devstack"
	"github.com/myspinbot/myspinbot/internal/devstack/devstacktest"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/internal/objects"
	"github.com/myspinbot/myspinbot/migrations/migrationstest"
	"github.com/myspinbot/myspinbot/projections"
)

// tenant and actor are those of requests where a test says nothing of callers.
var tenant, actor = everybody.tenant, everybody.actor

var (
	postgres *devstacktest.Postgres
	s3       *devstack.HelperServer
	s3Dir    string
	worlds   atomic.Int32
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx := context.Background()
	if err := startServers(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cannot start the servers of the tests:", err)
		return 1
	}
	defer func() { _ = errors.Join(s3.Stop(ctx), os.RemoveAll(s3Dir), postgres.Close()) }()
	return m.Run()
}

func startServers(ctx context.Context) (err error) {
	if postgres, err = devstacktest.StartPostgres(ctx, map[string]string{"max_connections": "200"}, migrationstest.EmptyTables); err != nil {
		return err
	}
	if s3Dir, err = os.MkdirTemp("", "api-test-"); err == nil {
		s3, err = devstack.StartHelper(ctx, devstack.Helper{Dir: s3Dir, NoLog: true})
	}
	if err != nil {
		return errors.Join(err, os.RemoveAll(s3Dir), postgres.Close())
	}
	return nil
}

// world is a running server with everything around it.
type world struct {
	t       *testing.T
	tenant  string // who asks; empty: everybody
	server  *Server
	log     *eventlog.Log // of the decider and the test; never cut
	objects *objects.Store
	keyring *objects.Keyring
	pool    *pgxpool.Pool // of the projector and the test; never cut
	decider *decider
	// Networks of the API alone.
	logNet, tableNet eventlogtest.Network
	objectNet        *proxy
	logIce, tableIce ice
	key              string // that its requests show; empty: none
	stop             context.CancelFunc
	stopped          chan error
	stopProjector    func()
}

type options struct {
	config      func(*Config)
	noWorker    bool
	noProjector bool
	manual      bool // stages are answered by the test
	keys        bool // access control is on, and the world has a key with every scope
	notified    bool // the example's job has a webhook, and a notifier tells it
}

func newWorld(t *testing.T, o options) *world {
	t.Helper()
	w := &world{t: t, objectNet: newProxy(t, strings.TrimPrefix(s3.S3(), "http://"))}
	_, cfg := eventlogtest.Fake(t)
	cfg.Partitions, cfg.LanePartitions = 2, map[string]int{}
	for _, lane := range events.Lanes() {
		cfg.LanePartitions[lane] = 1
	}
	w.log = eventlogtest.Open(t, cfg)
	cfg.Dial = w.logIce.over(w.logNet.Dial)
	edge, err := eventlog.Open(cfg)
	ok(t, err)
	t.Cleanup(edge.Close)

	store := objects.Config{Endpoint: w.objectNet.addr(), AccessKey: s3.AccessKey, SecretKey: s3.SecretKey, Bucket: fmt.Sprintf("api-%d", worlds.Add(1))}
	edgeStore, err := objects.Open(t.Context(), store)
	ok(t, err)
	store.Endpoint = s3.S3()
	w.objects, err = objects.Open(t.Context(), store)
	ok(t, err)
	w.keyring = objects.NewKeyring(w.objects, [32]byte{7})

	w.pool = database(t, nil)
	w.decider = &decider{world: w, manual: o.manual, jobs: map[string]aggregates.Job{}, profiles: map[string]aggregates.Profile{}}
	if !o.noWorker {
		w.announce(allTasks())
	}
	w.start(o, edge, edgeStore)
	return w
}

func (w *world) start(o options, edge *eventlog.Log, store *objects.Store) {
	t := w.t
	t.Helper()
	cfg := Config{
		Addr: "127.0.0.1:0", Log: edge, Tables: projections.NewReader(database(t, w)), Objects: store,
		Keyring: objects.NewKeyring(store, [32]byte{7}), Logger: slog.New(slog.DiscardHandler), TempDir: t.TempDir(),
		// The decider answers at once, but the machine may be busy.
		ReplyTimeout: 10 * time.Second,
		ReadTimeout:  5 * time.Second, WriteTimeout: 5 * time.Second, StopTimeout: 3 * time.Second, IdleTimeout: 2 * time.Second,
	}
	if o.config != nil {
		o.config(&cfg)
	}
	if o.keys {
		cfg.Access.Keys = true
	}
	var err error
	w.server, err = New(cfg)
	ok(t, err)
	w.server.identifying = identifyByTest(w.server)
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.stopped = cancel, make(chan error, 1)
	var parts sync.WaitGroup
	go func() { w.stopped <- w.server.Run(ctx) }()
	parts.Go(func() { w.decider.run(ctx) })
	if !o.noProjector {
		w.stopProjector = w.project()
	}
	t.Cleanup(func() {
		cancel()
		if err := <-w.stopped; err != nil {
			t.Error("Run:", err)
		}
		parts.Wait()
		if w.stopProjector != nil {
			w.stopProjector()
		}
	})
	if !o.noWorker {
		eventually(t, "the worker is known", func() bool { return w.server.known.capabilities().alive > 0 })
	}
	eventually(t, "the feed has begun, and replies come in", w.hears)
	if o.keys {
		w.key = w.issue(access.Order{Name: "world", Scopes: access.All}).text
	}
}

// another is the same world seen through a second process, which knows nothing of the first.
func (w *world) another(changes ...func(*Config)) *world {
	w.t.Helper()
	cfg := w.server.cfg
	cfg.Registerer, cfg.Gatherer = nil, nil
	for _, change := range changes {
		change(&cfg)
	}
	server, err := New(cfg)
	ok(w.t, err)
	server.identifying = identifyByTest(server)
	ctx, cancel := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- server.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			w.t.Error("Run:", err)
		}
	})
	other := &world{t: w.t, server: server, log: w.log, objects: w.objects, keyring: w.keyring, pool: w.pool, decider: w.decider}
	eventually(w.t, "the second process listens to everything", func() bool {
		return server.known.capabilities().alive > 0 && other.hears()
	})
	return other
}

// of is the same world as a tenant asks it.
func (w *world) of(tenant string) *world {
	return &world{t: w.t, tenant: tenant, server: w.server, log: w.log, objects: w.objects, keyring: w.keyring, pool: w.pool, decider: w.decider}
}

// testTenant is the header by which tests say who asks.
const testTenant = "Test-Tenant"

// identifyByTest takes the test's word, where it gives one.
func identifyByTest(s *Server) func(*fiber.Ctx, access.Scopes) error {
	return func(c *fiber.Ctx, need access.Scopes) error {
		tenant := strings.Clone(c.Get(testTenant))
		if tenant == "" {
			return s.identify(c, need)
		}
		c.Locals(localCaller, &caller{tenant: tenant, actor: "of " + tenant, scopes: access.All})
		return nil
	}
}

// hears says whether the server's replies and events come in.
func (w *world) hears() bool {
	w.server.replies.mu.Lock()
	defer w.server.replies.mu.Unlock()
	w.server.feed.mu.Lock()
	defer w.server.feed.mu.Unlock()
	return w.server.replies.current && w.server.feed.begin != nil
}

// project runs a projector until the returned function is called.
func (w *world) project() func() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	p := projections.NewProjector(projections.Config{Log: w.log, Pool: w.pool, Logger: slog.New(slog.DiscardHandler)})
	go func() { defer close(done); _ = p.Run(ctx) }()
	return func() { cancel(); <-done }
}

// database is a pool to the world's database; the first call makes it. With w the
// connections go through the network that the test can cut.
func database(t *testing.T, w *world) *pgxpool.Pool {
	t.Helper()
	var name string
	if w == nil {
		name = postgres.Create(t)
	} else {
		name = w.pool.Config().ConnConfig.Database
	}
	cfg, err := pgxpool.ParseConfig(postgres.DatabaseURL(name))
	ok(t, err)
	if w != nil {
		cfg.ConnConfig.DialFunc = w.tableIce.over(w.tableNet.Dial)
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	ok(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// proxy is a network in front of the S3 server.
type proxy struct {
	eventlogtest.Network
	ice
	listener net.Listener
}

func newProxy(t *testing.T, target string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	p := &proxy{listener: l}
	t.Cleanup(func() { _ = l.Close(); p.Cut() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := p.over(p.Dial)(context.Background(), "tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
			go func() { _, _ = io.Copy(in, out); _ = in.Close() }()
		}
	}()
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	eventlogtest.Eventually(t, 20*time.Second, what, done)
}

// records are all records of a topic.
func (w *world) records(topic string) []eventlog.Record {
	w.t.Helper()
	var out []eventlog.Record
	_, err := w.log.Read(w.t.Context(), w.log.Whole(topic), func(r []eventlog.Record) error {
		out = append(out, r...)
		return nil
	})
	ok(w.t, err)
	return out
}

// stored counts the objects of the bucket.
func (w *world) stored() int {
	w.t.Helper()
	n := 0
	for _, err := range w.objects.List(w.t.Context(), "") {
		ok(w.t, err)
		n++
	}
	return n
}

func (w *world) produce(topic string, messages ...events.Message) {
	w.t.Helper()
	var out []eventlog.Record
	for _, m := range messages {
		out = append(out, w.record(topic, m))
	}
	ok(w.t, w.log.Produce(context.Background(), out...))
}

func (w *world) record(topic string, m events.Message) eventlog.Record {
	w.t.Helper()
	value, err := events.Encode(m)
	ok(w.t, err)
	return eventlog.Record{Topic: topic, Key: m.AggregateID, Value: value}
}

// announce makes a worker known that runs the tasks.
func (w *world) announce(tasks []string, gaps ...events.TaskGap) {
	w.t.Helper()
	m := events.WorkerManifest{Unavailable: gaps, Slots: map[string]int{"tts": 1}, Running: map[string]int{}}
	for _, name := range tasks {
		spec, _ := aggregates.Task(name)
		m.Tasks = append(m.Tasks, events.TaskCapability{Task: name, Lane: spec.Lane, Engine: "test", Fidelity: events.FidelityPreview, Builtin: true})
		if name == aggregates.TaskSpeech {
			m.Tasks = append(m.Tasks, recorder)
		}
	}
	w.produce(events.TopicWorkers, events.Message{ID: "m", SchemaVersion: 1, AggregateType: events.AggregateWorker, AggregateID: "worker-1",
		OccurredAt: time.Now().UTC(), CommandID: "m", CausationID: "m", CorrelationID: "m", Tenant: tenant, Actor: "worker-1", Data: m})
}

// recorder plays recordings.
var recorder = events.TaskCapability{Task: aggregates.TaskSpeech, Lane: events.LaneTTS, Engine: "recording", Fidelity: events.FidelityFull, Builtin: true, Takes: events.InputRecording}

func allTasks() []string {
	var names []string
	for _, spec := range aggregates.Tasks() {
		if spec.Lane != "" {
			names = append(names, spec.Name)
		}
	}
	return names
}

// jsonBody writes a body.
func jsonBody(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	ok(t, err)
	return string(bytes.TrimSpace(b))
}
