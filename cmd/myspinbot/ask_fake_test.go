// One run of a command that asks the server one thing, for the tests of such commands.

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

type (
	// asking is a run: how it is called, how it ends, what it asks ("METHOD URI BODY", ""
	// for nothing), and something that it prints.
	asking struct {
		args   []string
		status int
		asked  string
		says   string
	}
	// saying is an answer of the server.
	saying struct {
		status int
		body   string
	}
)

// askings runs the command against a server that answers by "METHOD PATH", and with
// otherwise whatever else it is asked. keyed says that every change must have a key.
func askings(t *testing.T, command func(context.Context, []string, *bytes.Buffer, *bytes.Buffer) int, keyed bool, runs map[string]asking, answers map[string]saying, otherwise saying) {
	t.Helper()
	for name, tc := range runs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked string
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					t.Error(err)
				}
				asked = strings.TrimSpace(r.Method + " " + r.URL.RequestURI() + " " + string(body))
				if keyed && r.Method != http.MethodGet && r.Header.Get("Idempotency-Key") == "" {
					t.Error("a change has no key")
				}
				answer, known := answers[r.Method+" "+r.URL.Path]
				if !known {
					answer = otherwise
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(answer.status)
				_, _ = io.WriteString(w, answer.body)
			}))
			t.Cleanup(s.Close)
			status, stdout, stderr := run(t, command, append(tc.args, "--server", s.URL)...)
			if status != tc.status || !strings.Contains(stdout+stderr, tc.says) {
				t.Errorf("status %d, output %q, want %d with %q", status, stdout+stderr, tc.status, tc.says)
			}
			if asked != tc.asked {
				t.Errorf("asked %q, want %q", asked, tc.asked)
			}
		})
	}
}
