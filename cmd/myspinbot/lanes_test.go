// Tests of `lanes`.

package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestLanes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args   []string
		status int
		asked  string
		says   string
	}{
		"list":          {nil, 0, "GET /api/lanes", "render  paused  ?       1        2      4\n"},
		"list as JSON":  {[]string{"list", "--json"}, 0, "GET /api/lanes", `"paused":true`},
		"pause":         {[]string{"pause", "render"}, 0, "POST /api/lanes/render/pause {}", "lane render is paused; 1 attempts go on to their end\n"},
		"resume":        {[]string{"resume", "tts"}, 0, "POST /api/lanes/tts/resume {}", "lane tts is open\n"},
		"unknown lane":  {[]string{"pause", "dance"}, 1, "POST /api/lanes/dance/pause {}", "cannot pause the lane: Not found (404 not_found): there is no lane"},
		"no lane":       {[]string{"pause"}, 2, "", "usage: myspinbot lanes [list]"},
		"another verb":  {[]string{"stop", "tts"}, 2, "", "usage: myspinbot lanes [list]"},
		"too many":      {[]string{"pause", "tts", "render"}, 2, "", "usage: myspinbot lanes [list]"},
		"unknown flags": {[]string{"--every"}, 2, "", "not defined"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				asked = strings.TrimSpace(r.Method + " " + r.URL.Path + " " + string(body))
				w.Header().Set("Content-Type", "application/json")
				switch r.URL.Path {
				case "/api/lanes":
					_, _ = io.WriteString(w, `{"items":[{"lane":"tts","paused":false,"bound":2,"slots":1,"running":0,"queued":3},{"lane":"render","paused":true,"bound":4,"slots":2,"running":1,"queued":null}],"next_cursor":null}`)
				case "/api/lanes/render/pause":
					_, _ = io.WriteString(w, `{"lane":"render","paused":true,"bound":4,"slots":2,"running":1,"queued":null}`)
				case "/api/lanes/tts/resume":
					_, _ = io.WriteString(w, `{"lane":"tts","paused":false,"bound":4,"slots":2,"running":1,"queued":null}`)
				default:
					w.Header().Set("Content-Type", "application/problem+json")
					w.WriteHeader(http.StatusNotFound)
					_, _ = io.WriteString(w, `{"type":"about:blank","title":"Not found","status":404,"code":"not_found","detail":"there is no lane"}`)
				}
			}))
			t.Cleanup(s.Close)
			status, stdout, stderr := run(t, lanesCommand, append(tc.args, "--server", s.URL)...)
			if status != tc.status || !strings.Contains(stdout+stderr, tc.says) {
				t.Errorf("status %d, output %q, want %d with %q", status, stdout+stderr, tc.status, tc.says)
			}
			if asked != tc.asked {
				t.Errorf("asked %q, want %q", asked, tc.asked)
			}
		})
	}
}

func lanesCommand(ctx context.Context, args []string, stdout, stderr *bytes.Buffer) int {
	return runLanes(ctx, args, stdout, stderr)
}
