// Tests of what holds for every route: the contract, access, errors, metrics, the page.

package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/internal/objects"
)

func (w *world) freshKeyring() *objects.Keyring {
	return objects.NewKeyring(w.server.cfg.Objects, [32]byte{7})
}

func TestRoutesAndContractAreTheSame(t *testing.T) {
	t.Parallel()
	k, err := loadContract()
	ok(t, err)
	var promised, registered []string
	for path, operations := range asSchema(k.checker.doc["paths"]) {
		for method := range asSchema(operations) {
			promised = append(promised, strings.ToUpper(method)+" "+path)
		}
	}
	for _, r := range routesOf(&Server{}) {
		registered = append(registered, r.method+" "+r.path)
	}
	slices.Sort(promised)
	slices.Sort(registered)
	if !slices.Equal(promised, registered) {
		t.Errorf("the contract has\n%v\nand the server\n%v", promised, registered)
	}
}

func TestTheContractNamesWhatTheCatalogueHas(t *testing.T) {
	t.Parallel()
	k, err := loadContract()
	ok(t, err)
	enum := func(name string) (out []string) {
		for _, v := range list(k.checker.resolve("#/components/schemas/" + name)["enum"]) {
			out = append(out, fmt.Sprint(v))
		}
		return out
	}
	if got, want := enum("Mode"), append(aggregates.Modes(), aggregates.ModeDiagnostic); !slices.Equal(got, want) {
		t.Errorf("modes %v, catalogue %v", got, want)
	}
	if got, want := enum("Variant"), append(aggregates.Variants(), aggregates.VariantNoop); !slices.Equal(got, want) {
		t.Errorf("variants %v, catalogue %v", got, want)
	}
	for _, p := range append(aggregates.Pipelines(), aggregates.Diagnostic()) {
		if faults := k.check("JobRequest", map[string]any{"pipeline": p.Workflow}); len(faults) > 0 {
			t.Errorf("pipeline %s: %v", p.Workflow, faults)
		}
		required, optional := p.Inputs()
		for _, input := range append(required, optional...) {
			if !strings.Contains(string(contractYAML), "        "+input+": {") && input != "voice_reference" && input != "voice_weights" && input != "lora" {
				t.Errorf("the contract has no field for input %s", input)
			}
		}
	}
}

func TestEveryReferenceAndExampleOfTheContractHolds(t *testing.T) {
	t.Parallel()
	k, err := loadContract()
	ok(t, err)
	var walk func(v any, at string)
	walk = func(v any, at string) {
		if l, ok := v.([]any); ok {
			for i, x := range l {
				walk(x, fmt.Sprintf("%s/%d", at, i))
			}
		}
		m, isMap := v.(map[string]any)
		if !isMap {
			return
		}
		if ref, ok := m["$ref"].(string); ok && k.checker.resolve(ref) == nil {
			t.Errorf("%s refers to %s, which is nowhere", at, ref)
		}
		if s, ok := m["schema"].(map[string]any); ok && m["example"] != nil {
			if faults := k.checker.check(s, m["example"], ""); len(faults) > 0 {
				t.Errorf("the example at %s is wrong: %v", at, faults)
			}
		}
		for name, x := range m {
			walk(x, at+"/"+name)
		}
	}
	walk(k.checker.doc, "")
	if faults := k.check("Job", asSchema(k.checker.resolve("#/components/examples/Job"))["value"]); len(faults) > 0 {
		t.Errorf("the example of a job is wrong: %v", faults)
	}
}

func TestEveryCodeHasAStatusAndASentence(t *testing.T) {
	t.Parallel()
	for code, k := range kinds {
		if k.status < 400 || k.title == "" || k.detail == "" || (k.status == 503 || k.status == 429) != (k.retryAfter > 0) {
			t.Errorf("%s: %+v", code, k)
		}
	}
}

func TestOnlyLoopbackListensWithoutAccessControl(t *testing.T) {
	t.Parallel()
	for _, addr := range []string{"0.0.0.0:8080", ":8080", "[::]:0", "192.168.1.5:80", "example.org:80", "nonsense"} {
		if err := checkLoopback(addr); err == nil || !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%s: %v", addr, err)
		}
		if _, err := New(Config{Addr: addr}); err == nil || !strings.Contains(err.Error(), "Log is not given") {
			t.Errorf("New with %s: %v", addr, err)
		}
	}
	for _, addr := range []string{"127.0.0.1:0", "localhost:1", "[::1]:8080", "127.8.8.8:1"} {
		ok(t, checkLoopback(addr))
	}
}

func TestWhatEveryRouteRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, config: func(c *Config) { c.Hosts = []string{"spin.example"} }})
	for _, c := range []struct {
		name, method, path string
		header             map[string]string
		status             int
		says               string
	}{
		{"no such path", "GET", "/api/nothing", nil, 404, "/api/openapi.json"},
		{"a slash too many", "GET", "/api/jobs/", nil, 404, ""},
		{"another method", "DELETE", "/api/jobs", nil, 405, "GET, HEAD, POST"},
		{"a method that is none", "BREW", "/api/jobs", nil, 405, "BREW"},
		{"a method that is none, of nothing", "BREW", "/api/nothing", nil, 404, ""},
		{"an empty parameter", "GET", "/api/jobs?profile_id=", nil, 400, "profile_id must be an id"},
		{"an empty choice", "GET", "/api/jobs?variant=", nil, 400, "variant is empty"},
		{"a number with a sign", "GET", "/api/jobs?limit=%2B5", nil, 400, "1 to 200"},
		{"a page behind no event", "GET", "/api/jobs/6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d/events", map[string]string{"Last-Event-ID": "`HKmqWw1<"}, 400, "id of an event"},
		{"a look back with a sign", "GET", "/api/jobs/6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d?at=%2B1", nil, 400, "the first version of a job is 1"},
		{"a version with a sign", "GET", "/api/jobs/6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d/events?after=%2B1", nil, 400, "version"},
		{"a malformed id", "GET", "/api/jobs/42", nil, 422, "UUID"},
		{"a path as id", "GET", "/api/artifacts/..%2f..%2fkeys", nil, 404, ""},
		{"an unknown job", "GET", "/api/jobs/6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d", nil, 404, "no job"},
		{"an unknown parameter", "GET", "/api/jobs?sort=up", nil, 400, "status, variant"},
		{"a parameter twice", "GET", "/api/jobs?limit=1&limit=2", nil, 400, "twice"},
		{"a bad limit", "GET", "/api/jobs?limit=1000", nil, 400, "1 to 200"},
		{"a bad cursor", "GET", "/api/jobs?cursor=AAAA", nil, 400, "cursor"},
		{"a bad cursor of profiles", "GET", "/api/profiles?cursor=!", nil, 400, "cursor"},
		{"a bad status", "GET", "/api/jobs?status=queued,dreaming", nil, 400, "queued"},
		{"a bad variant", "GET", "/api/jobs?variant=x", nil, 400, "sadtalker"},
		{"a bad after", "GET", "/api/jobs/6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d/events?after=-1", nil, 400, "version"},
		{"a name that is not ours", "GET", "/api/jobs", map[string]string{"Host": "evil.example"}, 403, "http.hosts"},
		{"another site's page", "POST", "/api/jobs", map[string]string{"Origin": "https://evil.example"}, 403, "web site"},
		{"a page without origin", "POST", "/api/jobs", map[string]string{"Origin": "null"}, 403, ""},
	} {
		a := w.do(c.method, c.path, c.header, nil)
		if a.status != c.status || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s: %d %s; want %d with %q", c.name, a.status, a.body, c.status, c.says)
		}
	}
	for _, method := range []string{"DELETE", "BREW"} {
		if allow := w.want(405, w.do(method, "/api/jobs", nil, nil)).header.Get("Allow"); allow != "GET, HEAD, POST" {
			t.Errorf("%s: allowed are %q", method, allow)
		}
	}
	w.want(200, w.do("GET", "/api/jobs", map[string]string{"Host": "spin.example"}, nil))
	a := w.want(415, w.do("POST", "/api/uploads", map[string]string{"Origin": "http://localhost:3000"}, strings.NewReader("x")))
	if !strings.Contains(string(a.body), `"errors":[{"parameter":"Content-Type"`) {
		t.Errorf("no form at all: %s", a.body)
	}
}

func TestTraceIDsAreTakenOverAndMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	a := w.do("GET", "/api/nothing", map[string]string{traceParent: "00-" + trace + "-00f067aa0ba902b7-01"}, nil)
	var p problem
	a.decode(t, &p)
	if p.TraceID != trace || a.header.Get("X-Trace-Id") != trace {
		t.Errorf("trace %s, header %s", p.TraceID, a.header.Get("X-Trace-Id"))
	}
	for _, bad := range []string{"nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"} {
		if got := w.do("GET", "/health", map[string]string{traceParent: bad}, nil).header.Get("X-Trace-Id"); len(got) != 32 || strings.Trim(got, "0") == "" {
			t.Errorf("trace of %q is %q", bad, got)
		}
	}
}

func TestAPanicIsAnAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	app := fiber.New(fiber.Config{ErrorHandler: w.server.fail, DisableStartupMessage: true})
	app.Get("/", w.server.observe, func(*fiber.Ctx) error { panic("secret inside") })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	go func() { _ = app.Listener(l) }()
	t.Cleanup(func() { _ = app.Shutdown() })
	other := &world{t: t, server: &Server{listener: l, contract: w.server.contract}}
	if a := other.want(500, other.get("/")); strings.Contains(string(a.body), "secret") || !strings.Contains(string(a.body), codeInternal) {
		t.Errorf("answer %s", a.body)
	}
}

func TestMetricsContractAndPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	w.want(404, w.get("/api/jobs/6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"))
	m := string(w.want(200, w.get("/metrics")).body)
	if !strings.Contains(m, `myspinbot_api_request_seconds_count{method="GET",route="/api/jobs/:id",status="404"} 1`) {
		t.Errorf("metrics: %s", m)
	}
	var doc map[string]any
	ok(t, json.Unmarshal(w.want(200, w.get("/api/openapi.json")).body, &doc))
	if doc["openapi"] != "3.1.0" {
		t.Errorf("contract %v", doc["openapi"])
	}
	page := w.want(200, w.get("/"))
	policy := page.header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "default-src 'none'") || strings.Count(policy, "'sha256-") != 2 || strings.Contains(policy, "unsafe") {
		t.Errorf("policy %q", policy)
	}
	for what, has := range map[string]string{
		"an icon that needs no request": `<link rel="icon" href="data:image/png;base64,`, "the column of created_at": "<th>Created</th>",
		"a button that shows a job": `open = document.createElement("button")`, "a choice of profile": `<select id="profile">`,
		"what can be asked of a job": `const offered = gate ? ["approve", "deny"] : [];`, "an editable script": `<textarea id="words"`,
		"one key for one form as it is": `"Idempotency-Key": sent.key`, "an end of that key": `$("form").addEventListener("input", () => { pending = null; })`,
	} {
		if !strings.Contains(string(page.body), has) {
			t.Errorf("the page lacks %s", what)
		}
	}
	if !strings.Contains(policy, "img-src 'self' data:;") {
		t.Errorf("policy %q does not let the icon be shown", policy)
	}
	w.want(204, w.get("/favicon.ico"))
	docs := w.want(200, w.get("/docs"))
	if p := docs.header.Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'; connect-src 'self';") || strings.Count(p, "'sha256-") != 2 || strings.Contains(p, "unsafe") {
		t.Errorf("policy of the contract's page %q", p)
	}
	if !strings.Contains(string(docs.body), `fetch("/api/openapi.json")`) {
		t.Error("the contract's page does not show the contract")
	}
	for _, foreign := range []string{"http://", "https://", "onclick=", "style=", "innerHTML"} {
		if strings.Contains(string(page.body)+string(docs.body), foreign) {
			t.Errorf("a page holds %q", foreign)
		}
	}
	if a := w.want(200, w.get("/ready")); !strings.Contains(string(a.body), `"ready"`) {
		t.Errorf("ready: %s", a.body)
	}
}

func TestAServerThatNeverRanLetsGoOfItsAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	cfg := w.server.cfg
	cfg.Registerer, cfg.Gatherer = nil, nil
	s, err := New(cfg)
	ok(t, err)
	ok(t, s.Close())
	ok(t, s.Close())
	l, err := net.Listen("tcp", s.Addr())
	if err != nil {
		t.Fatal("the address is still taken:", err)
	}
	ok(t, l.Close())
}

func TestErrorsWithoutACodeAreInternal(t *testing.T) {
	t.Parallel()
	if r := asRefusal(errors.New("boom")); r.code != codeInternal {
		t.Errorf("code %s", r.code)
	}
	for status, code := range map[int]string{404: codeNotFound, 405: codeMethodNotAllowed, 408: codeTimeout, 413: codeTooLarge, 431: codeHeadersTooLarge, 400: codeRequestMalformed} {
		if r := asRefusal(fiber.NewError(status)); r.code != code {
			t.Errorf("%d is %s, want %s", status, r.code, code)
		}
	}
}
