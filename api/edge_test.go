// Tests of the edge's bounds: connections, requests of one client, open jobs. Whoever
// is turned away is told so, and everybody else is served.

package api

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/myspinbot/myspinbot/events"
)

// connect opens a connection from an address of this machine.
func (w *world) connect(from string) net.Conn {
	w.t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(w.t.Context(), "tcp", w.server.Addr())
	ok(w.t, err)
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends a request over a connection and reads its answer, which may have come before.
func ask(t *testing.T, c net.Conn, path string) answer {
	t.Helper()
	ok(t, c.SetDeadline(time.Now().Add(20*time.Second)))
	_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", path)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	ok(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ok(t, err)
	return answer{res.StatusCode, res.Header, body}
}

// turnedAway holds a refusal against what every one of them must say.
func (w *world) turnedAway(a answer, status int, code string) {
	w.t.Helper()
	w.want(status, a)
	w.holdAgainstContract(http.MethodGet, "/health", a)
	var p problem
	a.decode(w.t, &p)
	if p.Code != code || p.TraceID != a.header.Get("X-Trace-Id") || a.header.Get("Retry-After") == "" {
		w.t.Errorf("problem %+v, headers %v", p, a.header)
	}
	if m := string(w.get("/metrics").body); !strings.Contains(m, `myspinbot_api_turned_away_total{code="`+code+`"}`) {
		w.t.Errorf("no metric counts %s", code)
	}
}

func TestAConnectionTooManyIsToldSoAndOthersAreServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, config: func(c *Config) { c.MaxConnections, c.IdleTimeout = 4, time.Minute }})
	var inside []net.Conn
	for range 3 {
		c := w.connect("127.0.0.1")
		w.want(200, ask(t, c, "/health"))
		inside = append(inside, c)
	}
	fourth := w.connect("127.0.0.2")
	w.want(200, ask(t, fourth, "/health"))
	a := ask(t, w.connect("127.0.0.1"), "/health")
	ok(t, fourth.Close()) // room for the look at the metrics
	eventually(t, "one may enter again", func() bool { return w.server.listener.(*door).count() < 4 })
	w.turnedAway(a, 503, codeBusy)
	for _, c := range inside {
		w.want(200, ask(t, c, "/health"))
	}
}

func (d *door) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.all
}

func TestOneAddressCannotTakeAllConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, config: func(c *Config) { c.MaxConnectionsPerAddress, c.IdleTimeout = 2, time.Minute }})
	first, second := w.connect("127.0.0.2"), w.connect("127.0.0.2")
	w.want(200, ask(t, first, "/health"))
	w.want(200, ask(t, second, "/health"))
	w.turnedAway(ask(t, w.connect("127.0.0.2"), "/health"), 429, codeConnections)
	w.want(200, ask(t, w.connect("127.0.0.3"), "/health"))
	ok(t, first.Close())
	door := w.server.listener.(*door)
	eventually(t, "one more may enter", func() bool {
		door.mu.Lock()
		defer door.mu.Unlock()
		return door.open[netip.MustParseAddr("127.0.0.2")] < 2
	})
	w.want(200, ask(t, w.connect("127.0.0.2"), "/health"))
}

// TestSlowConnectionsAreCutAndOthersAreServed has clients that begin a request and
// never end it.
func TestSlowConnectionsAreCutAndOthersAreServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, config: func(c *Config) { c.ReadTimeout = time.Second }})
	const slow = 200
	begin := map[string]string{"headers": "GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
		"body": "POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"}
	var cut sync.WaitGroup
	for i := range slow {
		c := w.connect("127.0.0.1")
		what := []string{"headers", "body"}[i%2]
		_, err := io.WriteString(c, begin[what])
		ok(t, err)
		cut.Go(func() {
			// A deadline of the test is an error other than the end of the stream.
			if err := c.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
				t.Error(err)
			}
			if answer, err := io.ReadAll(c); err != nil || what == "body" && !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
				t.Errorf("slow %s: %q, %v", what, answer, err)
			}
		})
	}
	for range 20 {
		w.want(200, w.get("/health"))
	}
	cut.Wait()
	w.want(200, w.get("/health"))
	eventually(t, "their places are free", func() bool { return w.server.listener.(*door).count() < slow/2 })
}

func TestAClientThatAsksTooOftenWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, config: func(c *Config) {
		c.RequestsPerSecond, c.RequestBurst, c.ClientHeader = 0.25, 3, "X-Forwarded-For"
	}})
	at := func(client string) answer {
		return w.do("GET", "/api/jobs", map[string]string{"X-Forwarded-For": "10.0.0.99, " + client}, nil)
	}
	for range 3 {
		w.want(200, at("10.0.0.1"))
	}
	a := at("10.0.0.1")
	w.turnedAway(a, 429, codeRate)
	if wait := a.header.Get("Retry-After"); wait < "1" || wait > "4" {
		t.Errorf("wait %s s for a request that comes back every 4 s", wait)
	}
	w.turnedAway(w.do("BREW", "/api/jobs", map[string]string{"X-Forwarded-For": "10.0.0.1"}, nil), 429, codeRate)
	w.want(200, at("10.0.0.2"))
	w.want(200, w.do("GET", "/health", map[string]string{"X-Forwarded-For": "10.0.0.1"}, nil))
}

func TestBucketsFillAgain(t *testing.T) {
	t.Parallel()
	r, now, client := newRate(10, 5), time.Now(), netip.MustParseAddr("10.0.0.1")
	taken := func() (n int) {
		for r.take(client, now) <= 0 {
			n++
		}
		return n
	}
	if n := taken(); n != 5 {
		t.Errorf("%d at once, want 5", n)
	}
	if wait := r.take(client, now.Add(40*time.Millisecond)); wait != 60*time.Millisecond {
		t.Errorf("wait %v", wait)
	}
	now = now.Add(200 * time.Millisecond)
	if n := taken(); n != 2 {
		t.Errorf("%d after 200 ms, want 2", n)
	}
	now = now.Add(time.Hour)
	if n := taken(); n != 5 {
		t.Errorf("%d after an hour, want 5", n)
	}
	if newRate(0, 5) != nil {
		t.Error("no rate is a limit")
	}
}

func TestBucketsAreBounded(t *testing.T) {
	t.Parallel()
	r, now := newRate(1, 1), time.Now()
	client := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range maxBuckets {
		r.take(client(i), now)
	}
	// The next two share a bucket, in which there is one request.
	if r.take(client(maxBuckets), now) > 0 || r.take(client(maxBuckets+1), now) <= 0 || len(r.fullAt) > maxBuckets+1 {
		t.Errorf("%d buckets", len(r.fullAt))
	}
	if r.take(client(maxBuckets+2), now.Add(2*time.Second)) > 0 || len(r.fullAt) != 1 {
		t.Errorf("%d buckets are left of full ones", len(r.fullAt))
	}
}

func TestAddressesOfClients(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"10.1.2.3": "10.1.2.3", "1.1.1.1, 10.1.2.3": "10.1.2.3", "::ffff:10.1.2.3": "10.1.2.3", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"": "", "10.1.2.3, nobody": "", "10.1.2.3:80": "",
	} {
		if got, known := lastAddress(list); known != (want != "") || known && got != netip.MustParseAddr(want) {
			t.Errorf("%q is %v", list, got)
		}
	}
}

func TestNoMoreJobsAreOpenThanTheLimit(t *testing.T) {
	t.Parallel()
	const most = 5
	limit := func(c *Config) { c.MaxOpenJobs = most }
	w := newWorld(t, options{manual: true, config: limit})
	var mu sync.Mutex
	var wg sync.WaitGroup
	var ids []string
	refused := 0
	for i := range 4 * most {
		wg.Go(func() {
			a := w.post("/api/jobs", diagnostic, "Idempotency-Key", fmt.Sprint("k", i))
			mu.Lock()
			defer mu.Unlock()
			switch a.status {
			case 202:
				var job accepted
				a.decode(t, &job)
				ids = append(ids, job.ID)
			case 429:
				refused++
			default:
				t.Errorf("status %d: %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if len(ids) != most || refused != 3*most || w.submissions() != most {
		t.Fatalf("%d jobs, %d refused, %d on the log", len(ids), refused, w.submissions())
	}
	w.turnedAway(w.post("/api/jobs", diagnostic), 429, codeQueueFull)

	// The same key is the same job, not one more.
	i := slices.IndexFunc(keys(4*most), func(k string) bool { return events.JobID(tenant, "/api/jobs", k) == ids[0] })
	w.want(202, w.post("/api/jobs", diagnostic, "Idempotency-Key", fmt.Sprint("k", i)))
	// Bad requests are refused for what they are, and what comes to nothing takes no place.
	w.want(422, w.post("/api/jobs", `{"mode":"no"}`))

	// A process that comes later counts what the tables hold.
	for _, id := range ids {
		w.inTables(id, 3)
	}
	other := w.another()
	eventually(t, "the second process has counted", func() bool { return other.post("/api/jobs", diagnostic).status == 429 })

	// An end makes room, in each process.
	w.want(200, w.post("/api/jobs/"+ids[0]+"/cancel", ""))
	eventually(t, "the second process saw it", func() bool {
		other.server.open.mu.Lock()
		defer other.server.open.mu.Unlock()
		return other.server.open.open < most
	})
	w.want(202, other.post("/api/jobs", diagnostic))
	eventually(t, "the first process saw the new one", func() bool { return w.post("/api/jobs", diagnostic).status == 429 })
}

func keys(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("k", i))
	}
	return out
}

func TestTheBacklogHoldsTheTablesAgainstWhatWasSeen(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := newBacklog(100, 3, prometheus.NewGauge(prometheus.GaugeOpts{Name: "x"}))
	b.now = func() time.Time { return now }
	event := func(job, kind string) { b.apply(&eventView{JobID: job, Type: kind, tenant: tenant}) }
	expect := func(what string, n int) {
		t.Helper()
		if b.open != n {
			t.Errorf("%s: %d open, want %d", what, b.open, n)
		}
	}
	event("a", "job.submitted")
	event("a", "job.submitted")
	event("b", "job.submitted")
	event("b", "job.planned")
	expect("two were submitted", 2)
	event("b", "job.failed")
	expect("one has ended", 1)
	b.recounted(map[string]string{"b": tenant, "c": tenant}) // behind: they do not know of a, nor of b's end
	expect("the tables are behind", 2)
	undo, full := b.admit(tenant, "d")
	if full != nil {
		t.Fatal(full)
	}
	expect("one more", 3)
	undo()
	expect("it was withdrawn", 2)
	undo, _ = b.admit(tenant, "a")
	undo()
	expect("a was open before", 2)
	now = now.Add(2 * tablesBehind)
	b.recounted(map[string]string{"c": tenant})
	expect("the tables know better by now", 1)
	if len(b.lately) != 0 {
		t.Errorf("%d sightings are kept for ever", len(b.lately))
	}

	// Jobs of others count in all, and not against the tenant's own bound.
	b.apply(&eventView{JobID: "foreign", Type: "job.submitted", tenant: "other"})
	b.recounted(map[string]string{"c": tenant, "d": tenant, "foreign-2": "other"})
	expect("three of the tables, and one that was seen", 4)
	for _, c := range []struct {
		tenant, job string
		full        bool
	}{{tenant, "e", false}, {tenant, "f", true}, {tenant, "c", false}, {"other", "g", false}, {"other", "h", true}, {"third", "i", false}} {
		if _, full := b.admit(c.tenant, c.job); c.full != (full != nil) || c.full && !strings.Contains(full.detail, "3 of your jobs are open") {
			t.Errorf("%s of %s: %v", c.job, c.tenant, full)
		}
	}
	b.most = b.open
	if _, full := b.admit("third", "j"); full == nil || strings.ContainsAny(full.detail, "0123456789") {
		t.Errorf("the refusal is %v: it must tell no number, which would be others'", full)
	}
}

// A name that was this server's is kept as it was, whatever the next requests on the same
// connection hold, and helps no other one.
func TestANameOfOursIsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, noWorker: true})
	conn, err := net.Dial("tcp", w.server.Addr())
	ok(t, err)
	defer conn.Close()
	in := bufio.NewReader(conn)
	send := func(host, origin string) int {
		_, err := fmt.Fprintf(conn, "POST /api/jobs HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n.", host, origin)
		ok(t, err)
		res, err := http.ReadResponse(in, nil)
		ok(t, err)
		_, err = io.Copy(io.Discard, res.Body)
		ok(t, errors.Join(err, res.Body.Close()))
		return res.StatusCode
	}
	for range 20 {
		for _, c := range []struct {
			host, origin string
			want         int
		}{
			{"localhost:1", "http://localhost:2", http.StatusUnsupportedMediaType},
			{"evilhost.:2", "http://evilhost.:2", http.StatusForbidden},
			{"localhost:3", "http://evilhost.:2", http.StatusForbidden},
			{"evilhost.:1", "http://localhost:2", http.StatusForbidden},
		} {
			if got := send(c.host, c.origin); got != c.want {
				t.Fatalf("to %s from %s: %d, want %d", c.host, c.origin, got, c.want)
			}
			if kept := *w.server.ownHost.Load(); !strings.HasPrefix(kept, "localhost:") {
				t.Fatalf("%q is kept as a name of this server", kept)
			}
		}
	}
}
