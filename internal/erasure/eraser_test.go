// Tests of erasing profiles, over a broker in memory and the embedded S3 server.

package erasure

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/devstack"
	"github.com/myspinbot/myspinbot/internal/eventlog"
	"github.com/myspinbot/myspinbot/internal/eventlog/eventlogtest"
	"github.com/myspinbot/myspinbot/internal/objects"
)

var (
	s3      *devstack.HelperServer
	buckets atomic.Int32
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "erasure-test-")
	if err == nil {
		s3, err = devstack.StartHelper(context.Background(), devstack.Helper{Dir: dir, NoLog: true})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot start the S3 server of the tests:", err)
		return 1
	}
	defer func() { _ = errors.Join(s3.Stop(context.Background()), os.RemoveAll(dir)) }()
	return m.Run()
}

// world is a log, a store, and what profiles p1 and p2 have there.
type world struct {
	t      *testing.T
	log    *eventlog.Log
	store  *objects.Store
	keys   *objects.Keyring
	config objects.Config
	texts  []events.Sealed // of p1
	files  []events.Artifact
	other  events.Sealed // of p2
	n      int
}

const secret = "the canary sings"

func newWorld(t *testing.T) *world {
	t.Helper()
	_, cfg := eventlogtest.Fake(t)
	cfg.Partitions, cfg.LanePartitions = 2, map[string]int{}
	for _, lane := range events.Lanes() {
		cfg.LanePartitions[lane] = 1
	}
	w := &world{t: t, log: eventlogtest.Open(t, cfg),
		config: objects.Config{Endpoint: s3.S3(), AccessKey: s3.AccessKey, SecretKey: s3.SecretKey, Bucket: fmt.Sprintf("erasure-%d", buckets.Add(1))}}
	w.store = must(objects.Open(t.Context(), w.config))(t)
	w.keys = objects.NewKeyring(w.store, [32]byte{3})
	for _, job := range []string{"j1", "j2", "p1"} { // the profile's own texts lie under its id
		w.texts = append(w.texts, w.seal("p1", job))
		w.files = append(w.files, w.put("default/p1/"+job, "video of "+job))
	}
	w.files = append(w.files, w.put("default/p1/j1", "a face"), w.put("default/-/u1", "a face"))
	w.other = w.seal("p2", "j3")
	w.put("default/p2/j3", "video of j3")
	return w
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) seal(profile, job string) events.Sealed {
	w.t.Helper()
	id, _, err := w.keys.Create(w.t.Context(), "default", profile, job)
	if err != nil {
		w.t.Fatal(err)
	}
	return must(w.keys.Seal(w.t.Context(), id, secret))(w.t)
}

func (w *world) put(folder, text string) events.Artifact {
	w.t.Helper()
	return must(w.store.Put(w.t.Context(), folder, "txt", "text/plain", strings.NewReader(text)))(w.t)
}

// tell writes facts of a profile to the log.
func (w *world) tell(profile string, facts ...events.Payload) {
	w.t.Helper()
	for _, f := range facts {
		w.n++
		id := fmt.Sprint(profile, "-", w.n)
		r, err := record(events.TopicProfileEvents, events.Message{ID: id, SchemaVersion: 1, AggregateType: events.AggregateProfile, AggregateID: profile,
			Version: int64(w.n), OccurredAt: time.Now().UTC(), CommandID: id, CausationID: id, CorrelationID: id, Tenant: "default", Actor: "api", Data: f})
		if err == nil {
			err = w.log.Produce(w.t.Context(), r)
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// erase starts an eraser that is stopped by the returned function, at the latest at the end.
func (w *world) erase(change func(*Config)) (registry *prometheus.Registry, stop func()) {
	w.t.Helper()
	registry = prometheus.NewRegistry()
	cfg := Config{Log: w.log, Keys: w.keys, Objects: w.store, Quiet: 100 * time.Millisecond, Again: 50 * time.Millisecond, Registerer: registry, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	e := must(New(cfg))(w.t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error("Run:", err)
		}
	})
	w.t.Cleanup(stop)
	return registry, stop
}

// commands are those on a topic, as "aggregate type actor".
func (w *world) commands(topic string) (out []string) {
	w.t.Helper()
	_, err := w.log.Read(w.t.Context(), w.log.Whole(topic), func(rs []eventlog.Record) error {
		for _, r := range rs {
			m, err := events.Decode(r.Value)
			if err != nil {
				return err
			}
			if line := m.AggregateID + " " + m.Type() + " " + m.Actor; !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func (w *world) completed() bool {
	return slices.Contains(w.commands(events.TopicProfileCommands), "p1 profile.complete_erasure eraser")
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	eventlogtest.Eventually(t, 20*time.Second, what, ok)
}

// nothingOpens fails when a text or a file of p1 can still be had, by whoever asks.
func (w *world) nothingOpens() {
	w.t.Helper()
	fresh := objects.NewKeyring(w.store, [32]byte{3})
	for i, text := range w.texts {
		for name, k := range map[string]*objects.Keyring{"the eraser's process": w.keys, "another process": fresh} {
			if clear, err := k.Open(w.t.Context(), text); !errors.Is(err, objects.ErrErased) {
				w.t.Errorf("text %d opens in %s: %q, %v", i, name, clear, err)
			}
		}
	}
	for _, f := range w.files {
		if _, err := w.store.Open(w.t.Context(), f.URI); !errors.Is(err, objects.ErrMissing) {
			w.t.Errorf("%s opens: %v", f.URI, err)
		}
	}
	if clear, err := fresh.Open(w.t.Context(), w.other); clear != secret || err != nil {
		w.t.Errorf("another profile's text: %q, %v", clear, err)
	}
	for _, job := range []string{"j1", "j2"} {
		if want := job + " job.cancel eraser"; !slices.Contains(w.commands(events.TopicJobCommands), want) {
			w.t.Errorf("nobody asked job %s to end", job)
		}
	}
	if n := len(w.commands(events.TopicJobCommands)); n != 2 {
		w.t.Errorf("%d jobs were asked to end", n)
	}
}

func TestErasureLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	registry, _ := w.erase(nil)
	w.tell("p1", events.ProfileCreated{Name: w.texts[0]}, events.ProfileArchived{}, events.ProfileErased{})
	w.tell("p2", events.ProfileCreated{Name: w.other})
	eventually(t, "the erasure is complete", w.completed)
	w.nothingOpens()
	if n, since, err := Pending(t.Context(), w.log); n != 1 || time.Since(since) > time.Minute || since.IsZero() || err != nil {
		t.Errorf("the log says that %d are pending since %v, %v", n, since, err)
	}
	w.tell("p1", events.ProfileErasureCompleted{})
	if n, since, err := Pending(t.Context(), w.log); n != 0 || !since.IsZero() || err != nil {
		t.Errorf("the log says that %d are pending since %v, %v", n, since, err)
	}
	eventually(t, "nothing is pending", func() bool { return value(t, registry, "myspinbot_erasures_pending") == 0 })
	if value(t, registry, "myspinbot_erasure_failures_total") != 0 || value(t, registry, "myspinbot_erasure_deleted_total") != 8 { // 3 keys, 4 objects, an upload
		t.Errorf("%v failures, %v deleted", value(t, registry, "myspinbot_erasure_failures_total"), value(t, registry, "myspinbot_erasure_deleted_total"))
	}
}

// value is that of a metric without labels.
func value(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	for _, f := range must(registry.Gather())(t) {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue() + f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// breaking is a network that ends the process' life, as it were, at the nth deletion.
type breaking struct {
	mu   sync.Mutex
	left int
	dead chan struct{}
}

func (b *breaking) RoundTrip(r *http.Request) (*http.Response, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r.Method == http.MethodDelete {
		if b.left--; b.left == -1 {
			close(b.dead)
		}
		if b.left < 0 {
			return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{}, Body: io.NopCloser(&bytes.Reader{}), Request: r}, nil
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// TestACrashInTheMiddleIsFinishedByTheNextStart ends the eraser between any two
// deletions: it has not said that it was done, and the next one leaves nothing.
func TestACrashInTheMiddleIsFinishedByTheNextStart(t *testing.T) {
	t.Parallel()
	for deletions := range 9 { // 3 keys, the upload, 4 objects; all of them, and dead before it says so
		t.Run(fmt.Sprint(deletions), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			cut := &breaking{left: deletions, dead: make(chan struct{})}
			cfg := w.config
			cfg.Transport = cut
			store := must(objects.Open(t.Context(), cfg))(t)
			_, stop := w.erase(func(c *Config) {
				c.Keys, c.Objects = objects.NewKeyring(store, [32]byte{3}), store
				c.Quiet = time.Hour // the first look is all that this one gets to
			})
			w.tell("p1", events.ProfileCreated{Name: w.texts[0]}, events.ProfileErased{})
			if deletions < 8 {
				<-cut.dead
			} else {
				eventually(t, "everything is deleted", func() bool {
					cut.mu.Lock()
					defer cut.mu.Unlock()
					return cut.left == 0
				})
			}
			stop()
			if w.completed() {
				t.Fatal("an erasure that broke off says that it is complete")
			}
			w.erase(nil)
			eventually(t, "the next start finishes it", w.completed)
			w.keys = objects.NewKeyring(w.store, [32]byte{3})
			w.nothingOpens()
		})
	}
}

// TestWhatComesLateIsErasedToo writes files while the erasure is under way, and another
// when it is complete, which it is not while a look still finds something.
func TestWhatComesLateIsErasedToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	late := &lateObjects{Store: w.store, world: w}
	w.erase(func(c *Config) { c.Objects = late })
	w.tell("p1", events.ProfileCreated{Name: w.texts[0]}, events.ProfileErased{})
	eventually(t, "the erasure is complete", w.completed)
	w.nothingOpens()
	w.tell("p1", events.ProfileErasureCompleted{})
	w.files = []events.Artifact{w.put("default/p1/j9", "video of a worker that knew of nothing")}
	w.texts = []events.Sealed{w.seal("p1", "j9")}
	eventually(t, "what came afterwards is gone", func() bool {
		_, err := w.store.Stat(t.Context(), w.files[0].URI)
		_, sealed := objects.NewKeyring(w.store, [32]byte{3}).Open(t.Context(), w.texts[0])
		return errors.Is(err, objects.ErrMissing) && errors.Is(sealed, objects.ErrErased)
	})
}

// lateObjects is a store to which a worker uploads something behind the eraser's back,
// after each of its first looks.
type lateObjects struct {
	*objects.Store
	world *world
	looks int
}

func (l *lateObjects) EraseProfile(ctx context.Context, tenant, profile string) (int, error) {
	l.looks++
	if l.looks <= 4 && l.world.completed() {
		l.world.t.Errorf("before look %d it is complete, but the one before has found something", l.looks)
	}
	n, err := l.Store.EraseProfile(ctx, tenant, profile)
	if l.looks <= 2 {
		a, err := l.Put(ctx, "default/p1/j2", "txt", "text/plain", strings.NewReader(fmt.Sprint("late ", l.looks)))
		if err != nil {
			return n, err
		}
		l.world.files = append(l.world.files, a)
	}
	return n, err
}

// down is a store that does not answer.
type down struct{}

func (down) EraseProfile(context.Context, string, string) (int, error) {
	return 0, objects.ErrUnavailable
}

func TestAnErasureThatCannotBeDoneIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	registry, _ := w.erase(func(c *Config) { c.Objects = down{} })
	w.tell("p1", events.ProfileCreated{Name: w.texts[0]}, events.ProfileErased{})
	eventually(t, "failures are counted", func() bool { return value(t, registry, "myspinbot_erasure_failures_total") >= 2 })
	if value(t, registry, "myspinbot_erasures_pending") != 1 || value(t, registry, "myspinbot_erasure_oldest_seconds") <= 0 || w.completed() {
		t.Errorf("%v pending since %v s, completed %v", value(t, registry, "myspinbot_erasures_pending"), value(t, registry, "myspinbot_erasure_oldest_seconds"), w.completed())
	}
}
