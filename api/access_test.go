// Tests of access control: what a key opens, on every route, until it holds no more.

package api

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/access"
)

// showKey adds the world's key to a request that has none of its own.
func (w *world) showKey(h http.Header) {
	if w.key != "" && h.Get("Authorization") == "" && h.Get("Cookie") == "" {
		h.Set("Authorization", "Bearer "+w.key)
	}
}

func bearer(key string) map[string]string { return map[string]string{"Authorization": "Bearer " + key} }

// issued is a key that a test has had issued.
type issued struct{ text, id, name, tenant string }

// issue has a key hold: one of the world's own tenant, unless the order names another.
func (w *world) issue(o access.Order) issued { return w.issueAs("msb_"+uuid.NewString(), o) }

func (w *world) issueAs(text string, o access.Order) issued {
	w.t.Helper()
	if o.Tenant == "" {
		o.Tenant = everybody.tenant
	}
	id, err := newID()
	ok(w.t, err)
	r, err := access.IssuedAs(text, id, o, time.Now())
	ok(w.t, err)
	ok(w.t, w.log.Produce(w.t.Context(), r))
	eventually(w.t, "the key holds", func() bool {
		_, err := w.server.access.Ask(w.t.Context(), []byte(text), time.Now())
		return err == nil
	})
	return issued{text, id, o.Name, o.Tenant}
}

func (w *world) revoke(k issued) {
	w.t.Helper()
	ok(w.t, access.Revoke(w.t.Context(), w.log, access.Key{ID: k.id, Name: k.name, Tenant: k.tenant}, time.Now()))
}

// TestEveryOperationAsksForItsScope goes through the contract: who has no key is not let in,
// nor is a key that has every scope but the right one, and one that has it alone is.
func TestEveryOperationAsksForItsScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, keys: true})
	w.key = ""
	scopes := map[access.Scopes]string{}
	for _, s := range []access.Scopes{access.Read, access.Write, access.Operate, access.All &^ access.Read, access.All &^ access.Write, access.All &^ access.Operate} {
		scopes[s] = w.issue(access.Order{Name: "a", Scopes: s}).text
	}
	open := []string{"DELETE /api/session", "GET /", "GET /api/openapi.json", "GET /docs", "GET /favicon.ico", "GET /health", "GET /ready", "POST /api/session"}
	var guarded int
	for path, operations := range asSchema(w.server.contract.checker.doc["paths"]) {
		for method := range asSchema(operations) {
			operation := strings.ToUpper(method) + " " + path
			at := strings.NewReplacer("{id}", exampleProfile, "{lane}", "tts").Replace(path)
			send := func(header map[string]string) answer {
				if header == nil {
					header = map[string]string{}
				}
				return w.do(strings.ToUpper(method), at, header, nil)
			}
			need, asks := w.server.contract.needs[operation]
			if asks == slices.Contains(open, operation) {
				t.Errorf("%s asks for a key: %v", operation, asks)
				continue
			}
			if !asks {
				if a := send(nil); a.status == 401 && path != "/api/session" || a.status == 403 {
					t.Errorf("%s is for everybody, and says %d", operation, a.status)
				}
				continue
			}
			guarded++
			for name, header := range map[string]map[string]string{"no key": {}, "a foreign scheme": {"Authorization": "Basic YTpi"}, "an empty key": {"Authorization": "Bearer "}, "an empty cookie": {"Cookie": sessionCookie + "="}} {
				a := send(header)
				if a.status != 401 || a.header.Get("WWW-Authenticate") != `Bearer realm="myspinbot"` || !strings.Contains(string(a.body), codeKeyMissing) {
					t.Errorf("%s with %s: %d %v %s", operation, name, a.status, a.header, a.body)
				}
			}
			for _, header := range []map[string]string{bearer("msb_none"), {"Cookie": sessionCookie + "=msb_none"}} {
				a := send(header)
				if a.status != 401 || a.header.Get("WWW-Authenticate") != `Bearer realm="myspinbot", error="invalid_token"` || !strings.Contains(string(a.body), codeKeyUnknown) {
					t.Errorf("%s with a key that is none: %d %v %s", operation, a.status, a.header, a.body)
				}
			}
			for has, key := range scopes {
				a := send(bearer(key))
				switch {
				case has.Has(need):
					if a.status == 401 || a.status == 403 {
						t.Errorf("%s with %s: %d %s", operation, has, a.status, a.body)
					}
				case a.status != 403 || a.header.Get("WWW-Authenticate") != `Bearer realm="myspinbot", error="insufficient_scope", scope="`+need.String()+`"` || !strings.Contains(string(a.body), "needs the scope "+need.String()):
					t.Errorf("%s with %s: %d %v %s", operation, has, a.status, a.header, a.body)
				}
			}
		}
	}
	if guarded < 35 {
		t.Errorf("%d operations ask for a key", guarded)
	}
}

// What every scope is about, so that a wrong one in the contract is seen.
func TestScopesOfTheContract(t *testing.T) {
	t.Parallel()
	k, err := loadContract()
	ok(t, err)
	for operation, need := range k.needs {
		method, path, _ := strings.Cut(operation, " ")
		want := access.Write
		switch {
		case path == "/api/session":
			want = 0
		case strings.HasPrefix(path, "/api/lanes") || path == "/api/workers" || path == "/metrics":
			want = access.Operate
		case method == http.MethodGet:
			want = access.Read
		}
		if need != want {
			t.Errorf("%s needs %q, want %q", operation, need, want)
		}
	}
	// What forgets to say who may ask is no contract.
	for _, change := range []func(operation schema){
		func(o schema) { delete(o, "security") },
		func(o schema) { o["security"] = []any{map[string]any{"key": []any{"everything"}}} },
	} {
		k, err := loadContract()
		ok(t, err)
		change(asSchema(asSchema(asSchema(k.checker.doc["paths"])["/api/jobs"])["get"]))
		if _, err := k.needsOf(); err == nil || !strings.Contains(err.Error(), "/api/jobs") {
			t.Errorf("it is taken: %v", err)
		}
	}
}

func TestTheContractOfAnOpenServerAsksForNoKey(t *testing.T) {
	t.Parallel()
	for _, keys := range []bool{false, true} {
		w := newWorld(t, options{noProjector: true, noWorker: true, keys: keys})
		document := string(w.want(200, w.get("/api/openapi.json")).body)
		for _, word := range []string{`"security":`, `"securitySchemes":`} {
			if strings.Contains(document, word) != keys {
				t.Errorf("with keys %v the contract has %s: %v", keys, word, !keys)
			}
		}
	}
}

// TestAKeyMakesAndReadsAJob takes one through: what it makes is the key's tenant's, by its name.
func TestAKeyMakesAndReadsAJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{keys: true})
	job := w.submit(`{"mode":"diagnostic"}`)
	eventually(t, "the job is in the tables", func() bool { return w.get("/api/jobs/"+job.ID).status == 200 })
	w.want(403, w.do("GET", "/api/jobs", bearer(w.issue(access.Order{Name: "hand", Scopes: access.Write}).text), nil))
	w.want(403, w.post("/api/jobs", `{"mode":"diagnostic"}`, "Authorization", "Bearer "+w.issue(access.Order{Name: "eye", Scopes: access.Read}).text))
}

// TestWhatAKeyDoesIsItsTenants: the log says whose job it is and who asked, and a key of
// another tenant finds nothing of it.
func TestWhatAKeyDoesIsItsTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, keys: true})
	ada, bob := w.issue(access.Order{Name: "ada", Tenant: "acme", Scopes: access.All}), w.issue(access.Order{Name: "bob", Tenant: "umbrella", Scopes: access.All})
	send := func(k issued, method, path, body string) answer {
		header := bearer(k.text)
		header["Content-Type"], header["Idempotency-Key"] = "application/json", "one"
		return w.do(method, path, header, strings.NewReader(body))
	}
	var job, other accepted
	w.want(http.StatusAccepted, send(ada, http.MethodPost, "/api/jobs", diagnostic)).decode(t, &job)
	w.want(http.StatusAccepted, send(bob, http.MethodPost, "/api/jobs", diagnostic)).decode(t, &other)
	if job.Tenant != "acme" || other.Tenant != "umbrella" || job.ID == other.ID {
		t.Errorf("one key is job %s of %s and job %s of %s", job.ID, job.Tenant, other.ID, other.Tenant)
	}
	for _, r := range w.records(events.TopicJobCommands) {
		m, err := events.Decode(r.Value)
		ok(t, err)
		if want := map[string]string{job.ID: "acme key:ada", other.ID: "umbrella key:bob"}[r.Key]; m.Tenant+" "+m.Actor != want {
			t.Errorf("job %s is of %s, asked for by %s; want %s", r.Key, m.Tenant, m.Actor, want)
		}
	}
	for _, path := range []string{"/api/jobs/" + job.ID, "/api/jobs/" + job.ID + "/cancel"} {
		method := map[bool]string{true: http.MethodPost, false: http.MethodGet}[strings.HasSuffix(path, "cancel")]
		if got := send(bob, method, path, "{}"); got.status == http.StatusOK || got.status == http.StatusAccepted {
			t.Errorf("%s by another tenant is answered %d", path, got.status)
		}
	}
}

// TestBeforeTheKeysAreReadNobodyIsRefusedForGood starts a process that cannot reach the log.
func TestBeforeTheKeysAreReadNobodyIsRefusedForGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{keys: true})
	w.logNet.Cut()
	cfg := w.server.cfg
	cfg.Registerer, cfg.Gatherer = nil, nil
	server, err := New(cfg)
	ok(t, err)
	late := &world{t: t, server: server, key: w.key}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- server.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	for _, key := range []string{w.key, "msb_none"} {
		a := late.do("GET", "/api/pipelines", bearer(key), nil)
		if a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), codeKeysUnread) {
			t.Errorf("%d %v %s", a.status, a.header, a.body)
		}
	}
	w.want(200, w.get("/api/pipelines")) // who has read them goes on
	w.logNet.Mend()
	eventually(t, "the keys are read", func() bool { return late.get("/api/pipelines").status == 200 })
	late.want(401, late.do("GET", "/api/pipelines", bearer("msb_none"), nil))
}

func TestKeysHoldWithoutTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{keys: true})
	w.tableNet.Cut()
	key := w.issue(access.Order{Name: "new", Scopes: access.Write})
	w.want(202, w.post("/api/jobs", `{"mode":"diagnostic"}`, "Authorization", "Bearer "+key.text))
	w.revoke(key)
	eventually(t, "the key ends", func() bool {
		return w.post("/api/jobs", `{"mode":"diagnostic"}`, "Authorization", "Bearer "+key.text).status == 401
	})
}

// TestWhatDoesNotHoldIsOneAnswer: who tries keys learns nothing of those that there were.
func TestWhatDoesNotHoldIsOneAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, noWorker: true, keys: true})
	gone, short := w.issue(access.Order{Name: "gone", Scopes: access.All}), w.issue(access.Order{Name: "short", Scopes: access.All, For: 2 * time.Second})
	w.revoke(gone)
	answers := map[string]int{}
	for _, key := range []string{gone.text, short.text, "msb_" + uuid.NewString(), "a.b.c", strings.ToUpper(w.key), w.key + "=", w.key[:len(w.key)-1]} {
		eventually(t, "it does not hold", func() bool { return w.do("GET", "/api/session", bearer(key), nil).status == 401 })
		a := w.do("GET", "/api/session", bearer(key), nil)
		var p problem
		a.decode(t, &p)
		answers[fmt.Sprint(p.Title, p.Detail, p.Code, a.header.Get("WWW-Authenticate"))]++
	}
	if len(answers) != 1 {
		t.Errorf("answers are %v", answers)
	}
}

func TestAKeyHasAPaceOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, noWorker: true, keys: true})
	slow := w.issue(access.Order{Name: "slow", Scopes: access.Read | access.Operate, PerSecond: .25, Burst: 2})
	for range 2 {
		w.want(200, w.do("GET", "/api/pipelines", bearer(slow.text), nil))
	}
	a := w.do("GET", "/api/pipelines", bearer(slow.text), nil)
	w.turnedAway(a, 429, codeRate)
	if wait := a.header.Get("Retry-After"); wait < "1" || wait > "4" {
		t.Errorf("wait %s s for a request that comes back every 4 s", wait)
	}
	w.want(200, w.get("/api/pipelines"))                         // another key
	w.want(200, w.do("GET", "/metrics", bearer(slow.text), nil)) // who watches is not counted
}

// TestTryingKeysIsBounded: what an address sends in vain is counted against it, everywhere.
func TestTryingKeysIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, noWorker: true, keys: true, config: func(c *Config) {
		c.RequestsPerSecond, c.RequestBurst, c.ClientHeader = .1, 5, "X-Forwarded-For"
	}})
	for i, path := range []string{"/api/pipelines", "/metrics"} {
		h := bearer("msb_none")
		h["X-Forwarded-For"] = fmt.Sprintf("10.0.0.%d", i)
		for range 5 {
			w.want(401, w.do("GET", path, h, nil))
		}
		w.turnedAway(w.do("GET", path, h, nil), 429, codeRate)
	}
	h := bearer(w.key)
	h["X-Forwarded-For"] = "10.0.0.9"
	for range 8 {
		w.want(200, w.do("GET", "/metrics", h, nil))
	}
}

// TestWithKeysAnyAddressListens: and is reached by its own address, but by no foreign name.
func TestWithKeysAnyAddressListens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, noWorker: true, keys: true, config: func(c *Config) { c.Addr = "0.0.0.0:0" }})
	_, port, err := net.SplitHostPort(w.server.Addr())
	ok(t, err)
	own, err := net.InterfaceAddrs()
	ok(t, err)
	for _, a := range own {
		if network, isNetwork := a.(*net.IPNet); isNetwork && network.IP.To4() != nil {
			res, err := http.Get("http://" + net.JoinHostPort(network.IP.String(), port) + "/health")
			ok(t, err)
			_ = res.Body.Close()
			if res.StatusCode != 200 {
				t.Errorf("%s is not its own: %d", network.IP, res.StatusCode)
			}
		}
	}
	w.want(200, w.do("GET", "/api/pipelines", map[string]string{"Host": "127.0.0.1:" + port}, nil))
	w.want(403, w.do("GET", "/api/pipelines", map[string]string{"Host": "evil.example"}, nil))
	w.want(403, w.do("GET", "/api/pipelines", map[string]string{"Host": "192.0.2.1:80"}, nil))
	if _, err := New(Config{Addr: "0.0.0.0:0"}); err == nil || !strings.Contains(err.Error(), "access.keys") || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("without access control: %v", err)
	}
}

// Lanes and keys both read settings, and pass over what is not theirs.
func TestSettingsOfLanesAndKeysStandSideBySide(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{keys: true})
	w.want(200, w.post("/api/lanes/tts/pause", ""))
	k := w.issue(access.Order{Name: "later", Scopes: access.Operate})
	eventually(t, "the lane is paused", func() bool { return w.lanes()["tts"].Paused })
	w.want(200, w.do("POST", "/api/lanes/tts/resume", bearer(k.text), nil))
	eventually(t, "the lane is open", func() bool { return !w.lanes()["tts"].Paused })
	w.want(200, w.do("GET", "/api/lanes", bearer(k.text), nil))
}
