// Tests of what `jobs` does to many jobs, of labels, and of what it foresees.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// bulk takes 3 jobs in two pages, the second of which has one that refuses.
func (f *fakeAPI) bulk(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Action, Confirm, Cursor string
		Filter                  json.RawMessage
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	f.asked = append(f.asked, strings.TrimSpace(strings.Join([]string{request.Action, string(request.Filter), request.Confirm, request.Cursor}, " ")))
	f.mu.Unlock()
	out := map[string]any{"action": request.Action, "dry_run": request.Confirm == "", "filter": map[string]any{"closed": true}, "total": 3, "more": false,
		"confirm": "digest", "done": 0, "refused": []any{}, "next_cursor": nil}
	switch {
	case request.Confirm != "" && request.Cursor == "":
		out["done"], out["next_cursor"] = 2, "page-2"
	case request.Confirm != "":
		out["refused"] = []any{map[string]any{"job_id": fakeJob, "code": "job_not_ended", "detail": "the job runs"}}
	}
	f.answer(w, 200, out)
}

func (f *fakeAPI) patch(w http.ResponseWriter, r *http.Request) {
	var body struct{ Labels []string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Labels == nil {
		f.t.Errorf("labels %q, %v", body.Labels, err)
	}
	job := f.jobObject("succeeded")
	job["labels"] = body.Labels
	f.answer(w, 200, job)
}

func TestManyJobsAreAskedAfterADryRunAndAYes(t *testing.T) {
	t.Parallel()
	const dry, first, second = `retry {"label":"spring","status":["failed","cancelled"]}`, `retry {"closed":true} digest`, `retry {"closed":true} digest page-2`
	for name, tc := range map[string]struct {
		args  []string
		stdin string
		asked []string
		says  string
		fails string
	}{
		"a dry run":    {[]string{"--dry-run"}, "", []string{dry}, "retry 3 jobs", ""},
		"no answer":    {nil, "", []string{dry}, "retry 3 jobs? [y/N]", "nothing was done; answer y, or give --yes"},
		"another word": {nil, "maybe\n", []string{dry}, "[y/N]", "nothing was done"},
		"a yes":        {nil, "y\n", []string{dry, first, second}, "2 of 3\n" + fakeJob + " refused (job_not_ended): the job runs\nretry is asked of 2 jobs", "1 jobs refused it"},
		"--yes":        {[]string{"--yes"}, "", []string{dry, first, second}, "retry is asked of 2 jobs", "1 jobs refused it"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFakeAPI(t)
			j := jobsFlags{verb: "retry", status: "failed,cancelled", label: "spring", stdin: strings.NewReader(tc.stdin)}
			for _, flag := range tc.args {
				j.dryRun, j.yes = j.dryRun || flag == "--dry-run", j.yes || flag == "--yes"
			}
			var stdout bytes.Buffer
			err := j.run(context.Background(), f.client(), nil, &stdout)
			if (err == nil) != (tc.fails == "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
				t.Errorf("error %v, want %q", err, tc.fails)
			}
			if got := strings.Join(f.asked, "\n"); got != strings.Join(tc.asked, "\n") || !strings.Contains(stdout.String(), tc.says) {
				t.Errorf("asked\n%s\nand said %q, want %q with %q", got, stdout.String(), tc.asked, tc.says)
			}
		})
	}
}

func TestAFilterTakesThePlaceOfAnID(t *testing.T) {
	t.Parallel()
	f := newFakeAPI(t)
	if status, stdout, stderr := run(t, jobsCommand, "cancel", "--label", "spring", "--dry-run", "--server", f.url); status != 0 || !strings.Contains(stdout, "cancel 3 jobs") {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
	if status, stdout, stderr := run(t, jobsCommand, "label", fakeJob, "spring", "greeting", "--server", f.url); status != 0 || stdout != "job "+fakeJob+" has the labels spring, greeting\n" {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
	for _, wrong := range [][]string{{"cancel", "--yes"}, {"cancel", fakeJob, "--label", "spring"}, {"retry", fakeJob, "--dry-run"}, {"retry", "--label", "spring", "--out", "x"}, {"label"}, {"show", fakeJob, fakeJob}} {
		if status, _, stderr := run(t, jobsCommand, append(wrong, "--server", f.url)...); status != 2 || !strings.Contains(stderr, "usage: myspinbot jobs") {
			t.Errorf("jobs %q: status %d, %s", wrong, status, stderr)
		}
	}
}

func TestJobsSayTheirPlaceAndWhenTheyAreDone(t *testing.T) {
	t.Parallel()
	for says, foreseen := range map[string]map[string]any{
		"place    next on its lane; done in about 1m35s (eight of ten such jobs: 1m20s to 2m20s)\n": {"queue_position": 1, "eta_seconds": 95, "eta_range": map[string]any{"low": 80, "high": 140}},
		"place    17 on its lane\n":       {"queue_position": 17, "eta_seconds": nil, "eta_range": nil},
		"place    done in about 2h0m0s\n": {"queue_position": nil, "eta_seconds": 7200, "eta_range": nil},
	} {
		f := newFakeAPI(t)
		job := f.jobObject("queued")
		for name, v := range foreseen {
			job[name] = v
		}
		f.job = job
		if status, stdout, stderr := run(t, jobsCommand, "show", fakeJob, "--server", f.url); status != 0 || !strings.Contains(stdout, says) {
			t.Errorf("status %d: %s%s; want %q", status, stdout, stderr, says)
		}
	}
	f := newFakeAPI(t)
	if _, stdout, _ := run(t, jobsCommand, "show", fakeJob, "--server", f.url); strings.Contains(stdout, "place") {
		t.Errorf("a job that has ended has a place:\n%s", stdout)
	}
}
