// Tests of what `jobs` asks of a job that is there, and of what `submit` says about when and how.

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestJobsAsks(t *testing.T) {
	t.Parallel()
	script := writeFile(t, "script.txt", "Good evening.")
	for name, tc := range map[string]struct {
		args   []string
		status int
		asked  string // verb and body
		says   string
	}{
		"cancel":         {[]string{"cancel", fakeJob}, 0, `cancel {}`, "job " + fakeJob + " is running, cancelling\n"},
		"cancel as JSON": {[]string{"cancel", "--json", fakeJob}, 0, `cancel {}`, `"cancelling":true`},
		"approve":        {[]string{"approve", fakeJob, "--text", "Good morning."}, 1, `approve {"script":"Good morning."}`, "cannot approve the job: The job does not wait for approval (409 not_waiting_for_approval): job is running·[2J"},
		"deny":           {[]string{"deny", fakeJob, "--reason", "too long"}, 0, `deny {"reason":"too long"}`, "job " + fakeJob + ": deny is asked for\n"},
		"retry":          {[]string{"retry", fakeJob, "--no-wait"}, 0, `retry {}`, "job " + fakeJob + "\n"},
		"rerun": {[]string{"rerun", fakeJob, "--from", "tts", "--text-file", script, "--option", "speed=1.5", "--no-wait"}, 0,
			`rerun {"from":"tts","options":{"speed":1.5},"script":"Good evening."}`, "job " + fakeJob + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeAPI(t)
			status, stdout, stderr := run(t, jobsCommand, append(tc.args, "--server", f.url)...)
			if status != tc.status || !strings.Contains(stdout+stderr, tc.says) {
				t.Errorf("status %d, output %q, want %d with %q", status, stdout+stderr, tc.status, tc.says)
			}
			verb, rest, _ := strings.Cut(strings.Join(f.asked, ""), " ")
			key, body, _ := strings.Cut(rest, " ")
			if verb+" "+body != tc.asked || len(key) < 16 {
				t.Errorf("asked %q, want %q", f.asked, tc.asked)
			}
		})
	}
}

func TestARetryIsWatchedToItsVideo(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	out := t.TempDir()
	f.outages["POST /api/jobs/"+fakeJob+"/retry"] = 2
	f.events = append([]map[string]any{
		{"type": "stage.reused", "stage": "tts", "attempt": 0, "data": map[string]any{"from": map[string]any{"job_id": "parent"}}},
		{"type": "approval.requested", "stage": "approval", "data": map[string]any{"expires_ms": 1_800_000_000_000}},
		{"type": "approval.granted", "stage": "approval", "actor": "somebody", "data": map[string]any{}},
		{"type": "stage.attempt_expired", "stage": "lipsync", "error_class": "stalled", "data": map[string]any{"message": "silent", "retry_at_ms": 1}},
	}, f.events[5:]...)
	j := jobsFlags{verb: "retry", out: out, key: "mine"}
	var stdout bytes.Buffer
	if err := j.goOn(context.Background(), f.client(), fakeJob, &stdout); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(out, "video.mp4")); err != nil || string(got) != "an mp4" {
		t.Errorf("the video holds %q, error %v", got, err)
	}
	if len(f.asked) != 1 || f.keys[0] != "mine" || f.keys[1] != "mine" || f.asked[0] != "retry mine {}" {
		t.Errorf("asked %q after keys %q", f.asked, f.keys)
	}
	for _, line := range []string{"tts          reused   from job parent", "approval     asks     until 20", "approval     done     approved by somebody", "lipsync      again    stalled: silent"} {
		if !strings.Contains(stdout.String(), line) {
			t.Errorf("the output lacks %q:\n%s", line, stdout.String())
		}
	}
}

func TestWrongUsageOfJobsNeedsNoServer(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		"usage: myspinbot jobs [list]": {"cancel"},
		"jobs rerun ID":                {"rerun", "--from", "tts"},
		"not defined":                  {"cancel", fakeJob, "--from", "tts"},
		"two scripts":                  {"approve", fakeJob, "--text", "a", "--text-file", "b"},
		"want NAME=VALUE":              {"rerun", fakeJob, "--option", "speed"},
	} {
		if status, _, stderr := run(t, jobsCommand, args...); status != 2 || !strings.Contains(stderr, want) {
			t.Errorf("jobs %q: status %d, message %q, want %q", args, status, stderr, want)
		}
	}
	if status, _, stderr := run(t, jobsCommand, "retry", "--help"); status != 0 || !strings.Contains(stderr, "-no-wait") || strings.Contains(stderr, "-from value") {
		t.Errorf("help: status %d, %s", status, stderr)
	}
}

func TestJobsShowsWhatAJobWaitsFor(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	f.job["status"], f.job["parent_job_id"], f.job["not_before"] = "waiting_approval", "11111111-3a51-5c5e-9b0e-0d4f6a1b2c3d", "2026-12-24T17:00:00Z"
	f.job["approval"] = map[string]any{"state": "waiting", "script": "Good morning.", "expires_at": "2026-12-25T17:00:00Z", "by": nil, "reason": nil}
	status, stdout, stderr := run(t, jobsCommand, "show", fakeJob, "--server", f.url)
	for _, want := range []string{"waiting_approval", "goes on from 11111111", "not before 2026-12-2", "approval waiting until 2026-12-2", "myspinbot jobs approve " + fakeJob, "script   Good morning."} {
		if status != 0 || !strings.Contains(stdout, want) {
			t.Errorf("status %d, output lacks %q: %s%s", status, want, stdout, stderr)
		}
	}
}

func TestSubmitSaysWhenAndHow(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	f.job = f.jobObject("succeeded")
	f.job["mode"] = "diagnostic"
	status, stdout, stderr := run(t, submitCommand, "--server", f.url, "--mode", "diagnostic", "--option", "work_ms=5", "--approval", "--priority", "batch", "--not-before", "90m", "--out", t.TempDir())
	if status != 0 || !strings.Contains(stdout, "nothing to download") {
		t.Fatalf("status %d: %s%s", status, stdout, stderr)
	}
	r := f.requests[0]
	text, _ := r["not_before"].(string)
	at, err := time.Parse(time.RFC3339, text)
	if wait := time.Until(at); r["approval"] != true || r["priority"] != "batch" || err != nil || wait < 80*time.Minute || wait > 90*time.Minute {
		t.Errorf("request %v", r)
	}
	s := submission{notBefore: "2026-12-24T18:00:00+01:00"}
	if err := s.when(); err != nil || s.notBefore != "2026-12-24T18:00:00+01:00" {
		t.Errorf("%q, %v", s.notBefore, err)
	}
}
