// The HTTP client of the tests, which holds every answer against the contract.

package api

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// answer is a response, read whole.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) decode(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
}

// do sends a request and holds the answer against the contract.
func (w *world) do(method, path string, header map[string]string, body io.Reader) answer {
	w.t.Helper()
	req, err := http.NewRequest(method, "http://"+w.server.Addr()+path, body)
	ok(w.t, err)
	if w.tenant != "" {
		req.Header.Set(testTenant, w.tenant)
	}
	for k, v := range header {
		if k == "Host" {
			req.Host = v
		}
		req.Header.Set(k, v)
	}
	w.showKey(req.Header)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 30 * time.Second}
	res, err := client.Do(req)
	ok(w.t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	ok(w.t, err)
	a := answer{res.StatusCode, res.Header, b}
	w.holdAgainstContract(method, strings.Split(path, "?")[0], a)
	return a
}

var pathLanes = regexp.MustCompile(`/lanes/[^/]+`)

var pathIDs = regexp.MustCompile(`/(jobs|artifacts|profiles|tickets)/[^/]+`)

func (w *world) holdAgainstContract(method, path string, a answer) {
	w.t.Helper()
	media := strings.Split(a.header.Get("Content-Type"), ";")[0]
	if a.status >= 400 && media != "application/problem+json" && path != "/ready" {
		w.t.Errorf("%s %s: %d as %q: %s", method, path, a.status, media, a.body)
	}
	if method == http.MethodHead || (media != "application/json" && media != "application/problem+json") {
		return
	}
	var v any
	a.decode(w.t, &v)
	if media == "application/problem+json" {
		if faults := w.server.contract.check("Problem", v); len(faults) > 0 {
			w.t.Errorf("%s %s: the problem is not as the contract says: %v\n%s", method, path, faults, a.body)
		}
		if !w.declared(method, path, a.status) {
			w.t.Errorf("%s %s: the contract knows no answer %d: %s", method, path, a.status, a.body)
		}
		return
	}
	if path != "/api/jobs/bulk" {
		path = pathLanes.ReplaceAllString(pathIDs.ReplaceAllString(path, "/$1/{id}"), "/lanes/{lane}")
	}
	s := w.responseSchema(method, path, a.status, media)
	if s == nil {
		w.t.Errorf("%s %s: the contract knows no answer %d", method, path, a.status)
		return
	}
	if faults := w.server.contract.checker.check(s, v, ""); len(faults) > 0 {
		w.t.Errorf("%s %s: the answer is not as the contract says: %v\n%s", method, path, faults, a.body)
	}
}

// declared says whether the contract names the status for the operation. A path or a
// method that is none has no operation, and a fault of the program is in no contract.
func (w *world) declared(method, path string, status int) bool {
	k := w.server.contract.checker
	operation := asSchema(asSchema(asSchema(k.doc["paths"])[pathIDs.ReplaceAllString(path, "/$1/{id}")])[strings.ToLower(method)])
	_, named := asSchema(operation["responses"])[fmt.Sprint(status)]
	return named || operation == nil || status == http.StatusInternalServerError
}

func (w *world) responseSchema(method, path string, status int, media string) schema {
	k := w.server.contract.checker
	at := func(v any, name string) schema {
		s := asSchema(asSchema(v)[name])
		if ref, isRef := s["$ref"].(string); isRef {
			return k.resolve(ref)
		}
		return s
	}
	operation := at(at(at(k.doc, "paths"), path), strings.ToLower(method))
	return at(at(at(at(at(operation, "responses"), fmt.Sprint(status)), "content"), media), "schema")
}

func (w *world) get(path string) answer {
	w.t.Helper()
	return w.do(http.MethodGet, path, nil, nil)
}

func (w *world) post(path, body string, header ...string) answer {
	w.t.Helper()
	h := map[string]string{"Content-Type": "application/json"}
	for i := 0; i+1 < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	return w.do(http.MethodPost, path, h, strings.NewReader(body))
}

// want fails the test unless the answer has the status.
func (w *world) want(status int, a answer) answer {
	w.t.Helper()
	if a.status != status {
		w.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}
