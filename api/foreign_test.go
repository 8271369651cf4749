// A foreign client that knows the contract and nothing else (schemathesis) tries the
// running server: every request that the contract allows, and many that it does not.

package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/internal/rounds"
)

const (
	foreignCases   = 1500
	foreignJobs    = 50 // the most open jobs
	foreignProgram = "../.deps/schemathesis/bin/schemathesis"
)

// foreignReport is what a run of the client found.
type foreignReport struct {
	Complete bool `json:"complete"`
	Cases    struct {
		Generated uint64 `json:"generated"`
		Failed    int    `json:"with_failures"`
		Errored   int    `json:"errored"`
	} `json:"test_cases"`
	Failures []struct {
		Type  string `json:"type"`
		Title string `json:"title"`
	} `json:"failures"`
	Rates map[string]map[string]struct {
		Accepted int `json:"accepted"`
	} `json:"valid_rates"`
}

// foreignClient runs the client against a server. It gives its report, its words, and
// the error of its exit.
func foreignClient(t *testing.T, server, phases string, seed int, more ...string) (r foreignReport, said string, failed error) {
	t.Helper()
	program, err := filepath.Abs(foreignProgram)
	ok(t, err)
	config, err := filepath.Abs("testdata/schemathesis.toml")
	ok(t, err)
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("the foreign client is missing; run `make deps-test`: %v", err)
	}
	dir := t.TempDir()
	report := filepath.Join(dir, "report.json")
	args := append([]string{"--config-file", config, "run", server + "/api/openapi.json", "--no-color", "--phases", phases, "--seed", strconv.Itoa(seed),
		"--report", "json", "--report-json-path", report, "--warnings", "off"}, more...)
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = dir
	out, failed := cmd.CombinedOutput()
	data, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("the foreign client left no report: %v, %v\n%s", failed, err, out)
	}
	ok(t, json.Unmarshal(data, &r))
	return r, string(out), failed
}

func TestAForeignClientFindsNoFault(t *testing.T) {
	t.Parallel()
	cases := rounds.New(t, "cases of the foreign client", "CASES", foreignCases)
	open, guarded := foreignWorld(t, false), foreignWorld(t, true)
	accepted, share := map[string]int{}, map[bool]uint64{}
	atOnce := strconv.FormatUint(min(25, max(5, cases.Want()/200)), 10) // of an operation and a random phase, in one run
	// The examples go to the open server, and then the two take turns: with a key, and without in between, which must be refused.
	for seed, phases := 1, "examples,coverage"; cases.More() || seed <= 3; seed, phases = seed+1, "fuzzing,stateful" {
		w, more := open, []string{"--max-examples", atOnce}
		if seed%2 == 0 {
			w, more = guarded, append(more, "--header", "Authorization: Bearer "+guarded.key)
		}
		r, said, failed := foreignClient(t, "http://"+w.server.Addr(), phases, seed, more...)
		cases.Done(r.Cases.Generated)
		share[w == guarded] += r.Cases.Generated
		cases.Note(fmt.Sprintf("%d of them with access control", share[true]))
		if failed != nil || !r.Complete || r.Cases.Failed+r.Cases.Errored+len(r.Failures) > 0 || r.Cases.Generated == 0 {
			t.Fatalf("seed %d, %s: %v\n%s", seed, phases, failed, said)
		}
		t.Logf("seed %d, %s: %d cases, no fault", seed, phases, r.Cases.Generated)
		for operation, rates := range r.Rates {
			for _, rate := range rates {
				accepted[operation] += rate.Accepted
			}
		}
	}
	if share[false] == 0 || share[true] == 0 {
		t.Errorf("%d cases without access control, %d with it", share[false], share[true])
	}
	// A client that is always refused finds no fault either.
	for _, operation := range []string{"POST /api/jobs", "POST /api/train", "POST /api/generate", "GET /api/jobs", "GET /api/jobs/{id}", "GET /api/jobs/{id}/events",
		"POST /api/jobs/{id}/cancel", "POST /api/jobs/{id}/approve", "POST /api/jobs/{id}/retry", "GET /api/artifacts/{id}", "GET /api/artifacts/{id}/content", "GET /api/profiles/{id}"} {
		if accepted[operation] == 0 {
			t.Errorf("%s has never succeeded: %v", operation, accepted)
		}
	}
}

// foreignWorld is one for the foreign client, with access control or without.
func foreignWorld(t *testing.T, keys bool) *world {
	t.Helper()
	w := exampleWorld(t, options{keys: keys, config: func(c *Config) { c.MaxOpenJobs = foreignJobs }})
	w.server.positions, w.server.longestWait = 100*time.Millisecond, time.Second
	w.makeRoom()
	return w
}

// makeRoom cancels what is open whenever the limit is reached, until the test ends.
func (w *world) makeRoom() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	w.t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if !w.full() {
				continue
			}
			var page struct{ Items []jobView }
			w.get("/api/jobs?limit=200&status=queued,running,scheduled,waiting_approval").decode(w.t, &page)
			for _, j := range page.Items {
				w.post("/api/jobs/"+j.ID+"/cancel", "")
			}
		}
	}()
}

func (w *world) full() bool {
	w.server.open.mu.Lock()
	defer w.server.open.mu.Unlock()
	return w.server.open.open >= foreignJobs
}

// TestTheForeignClientCanFail puts a proxy between it and the server that breaks the
// contract in one way on each of some routes.
func TestTheForeignClientCanFail(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	target, err := url.Parse("http://" + w.server.Addr())
	ok(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		switch r.Request.URL.Path {
		case "/health":
			r.StatusCode = http.StatusTeapot
		case "/api/workers":
			body := `{"items":[],"next_cursor":7}`
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		case "/api/capabilities":
			r.StatusCode = http.StatusInternalServerError
		case "/api/pipelines":
			r.Header.Set("Content-Type", "text/plain")
		}
		return nil
	}
	broken := httptest.NewServer(proxy)
	t.Cleanup(broken.Close)
	r, said, failed := foreignClient(t, broken.URL, "coverage,fuzzing", 1, "--max-examples", "10", "--include-path-regex", "^/(health|api/(workers|capabilities|pipelines))$")
	var exit *exec.ExitError
	if !errors.As(failed, &exit) || exit.ExitCode() != 1 {
		t.Errorf("exit %v", failed)
	}
	found := map[string]bool{}
	for _, f := range r.Failures {
		found[f.Type] = true
	}
	for _, kind := range []string{"UndefinedStatusCode", "JsonSchemaError", "ServerError", "UndefinedContentType"} {
		if !found[kind] {
			t.Errorf("it did not find a %s: %v\n%s", kind, found, said)
		}
	}
}
