// Tests that the metrics stay readable whatever is asked.

package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exchange sends requests over one connection, one behind the other.
func (w *world) exchange(requests ...string) (statuses []int) {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.server.Addr())
	ok(w.t, err)
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, r := range requests {
		method, path, _ := strings.Cut(r, " ")
		_, err := fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", method, path)
		ok(w.t, err)
		res, err := http.ReadResponse(in, &http.Request{Method: method})
		ok(w.t, err)
		_, err = io.Copy(io.Discard, res.Body)
		ok(w.t, err)
		statuses = append(statuses, res.StatusCode)
	}
	return statuses
}

// The buffers of a connection are used again by the next request on it: nothing
// that is kept may point into them.
func TestMetricsSurviveMixedRequestsOverOneConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	for range 5 {
		w.exchange("GET /health", "POST /api/jobs", "HEAD /health", "OPTIONS /api/jobs", "GET /ready", "DELETE /api/jobs", "POST /api/train", "PATCH /health", "GET /health",
			"BREW /health", "GET /api/jobs/6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d", "PUT /nowhere")
	}
	body := string(w.want(200, w.get("/metrics")).body)
	methods := map[string]bool{}
	for _, m := range regexp.MustCompile(`myspinbot_api_request_seconds_count\{method="([^"]*)",route="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		methods[m[1]] = true
		if m[1] != "OTHER" && !slices.Contains(methodNames, m[1]) {
			t.Errorf("there is a method %q", m[1])
		}
		if m[2] != "/" && m[2] != "none" && !strings.Contains(string(contractYAML), "\n  "+strings.ReplaceAll(m[2], ":id", "{id}")+":\n") {
			t.Errorf("there is a route %q", m[2])
		}
	}
	for _, want := range []string{"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PATCH", "PUT", "OTHER"} {
		if !methods[want] {
			t.Errorf("no request with method %s was counted", want)
		}
	}
	if !strings.Contains(body, `myspinbot_api_request_seconds_count{method="GET",route="/health",status="200"} 10`) {
		t.Error("the requests for /health were not counted under one name")
	}
}
