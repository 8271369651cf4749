// The whole life of a job through the real roles: approved, cancelled, retried, and a
// key that is one request, with jobs that make nothing.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// jobs runs `myspinbot jobs` and returns its status and what it printed.
func (s *system) jobs(args ...string) (int, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	status := runJobs(ctx, append(args, "--server", s.url), &out, &out)
	return status, out.String()
}

// begun submits a diagnostic job and returns its id.
func (s *system) begun(args ...string) string {
	s.t.Helper()
	status, out := s.submit(append([]string{"--mode", "diagnostic", "--no-wait"}, args...)...)
	if status != 0 {
		s.t.Fatalf("status %d: %s", status, out)
	}
	return strings.TrimSpace(strings.TrimPrefix(out, "job "))
}

// is waits until the job has the status.
func (s *system) is(id, status string) {
	s.t.Helper()
	s.eventually(time.Minute, "job "+id+" is "+status, func() error {
		var job struct{ Status string }
		if code, body := s.get("/api/jobs/" + id); json.Unmarshal(body, &job) != nil || job.Status != status {
			return fmt.Errorf("%d %.200s", code, body)
		}
		return nil
	})
}

func TestTheWholeLifeOfAJob(t *testing.T) {
	t.Parallel()
	s := startSystem(t, "embedded", "--engines-noop", "true")
	wants := func(status int, says string, args ...string) {
		t.Helper()
		if got, out := s.jobs(args...); got != status || !strings.Contains(out, says) {
			t.Fatalf("jobs %q: status %d, %s; want %d with %q", args, got, out, status, says)
		}
	}
	s.eventually(time.Minute, "the diagnostic pipeline is shown", func() error {
		if _, body := s.get("/api/pipelines"); !strings.Contains(string(body), "diagnostic_v1") {
			return fmt.Errorf("%s", body)
		}
		return nil
	})

	gated := s.begun("--approval", "--priority", "batch", "--key", "gated")
	s.is(gated, "waiting_approval")
	if again := s.begun("--approval", "--priority", "batch", "--key", "gated"); again != gated {
		t.Errorf("the same key made job %s, and %s before", again, gated)
	}
	if status, out := s.submit("--mode", "diagnostic", "--no-wait", "--key", "gated"); status != 1 || !strings.Contains(out, "idempotency_conflict") {
		t.Errorf("another request under the key: status %d, %s", status, out)
	}
	wants(1, "job_not_ended", "retry", gated)
	wants(0, "job "+gated+" is ", "approve", gated)
	s.is(gated, "succeeded")
	wants(1, "job_ended", "cancel", gated)
	wants(1, "job_ended", "approve", gated)

	running := s.begun("--option", "work_ms=60000")
	s.is(running, "running")
	wants(0, "job "+running+" is ", "cancel", running)
	s.is(running, "cancelled")
	wants(0, "job "+running+" is cancelled", "cancel", running)

	later := s.begun("--not-before", "24h")
	s.is(later, "scheduled")
	wants(0, "job "+later+" is cancelled", "cancel", later)

	wants(1, "which has script, tts, render, lipsync", "rerun", running, "--from", "assemble")
	wants(0, "there is nothing to download", "rerun", running, "--option", "work_ms=1")
	wants(0, "there is nothing to download", "retry", gated)
	s.caughtUp("succeeded")
	s.explained()
}
