// Tests of cancel, approve and deny: what becomes of the job, what is refused and
// leaves no event, and what is answered when somebody does not answer.

package api

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// ask sends a command and wants the job as it is afterwards.
func (w *world) ask(job, verb, body string, header ...string) accepted {
	w.t.Helper()
	var got accepted
	w.want(http.StatusOK, w.post("/api/jobs/"+job+"/"+verb, body, header...)).decode(w.t, &got)
	return got
}

// refused sends a request and wants a problem.
func (w *world) refused(status int, code, path, body string, header ...string) problem {
	w.t.Helper()
	var p problem
	w.want(status, w.post(path, body, header...)).decode(w.t, &p)
	if p.Code != code {
		w.t.Errorf("%s %s: code %s, want %s: %s", path, body, p.Code, code, p.Detail)
	}
	return p
}

// waiting is a job whose script waits for approval.
func (w *world) waiting() string {
	w.t.Helper()
	job := w.submit(`{"variant":"sadtalker","script":"hello","approval":true,"portrait":"` + w.portrait() + `"}`).ID
	w.planned(job)
	w.decider.step(job)
	if state := w.decider.state(job).State; state != aggregates.JobWaitingApproval {
		w.t.Fatalf("the job is %s", state)
	}
	w.inTables(job, w.decider.state(job).Chain.Version)
	return job
}

func TestCancelEndsAJobThatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.submit(diagnostic)
	stream := w.openStream(job.ID, "")
	got := w.ask(job.ID, "cancel", "")
	if got.Status != "cancelled" || got.Cancelling || got.FinishedAt == nil || got.Position != job.ID+":5" || got.Version != 5 {
		t.Errorf("job %+v", got)
	}
	if versions, _ := stream.versions(0); len(versions) != 5 {
		t.Errorf("the stream ends behind versions %v", versions)
	}
	w.want(http.StatusNoContent, w.do("GET", "/api/jobs/"+job.ID+"/events", map[string]string{"Accept": "text/event-stream", "Last-Event-ID": got.RecentEvents[4].Position}, nil))
	// Asked again, with or without a body, it is what was asked for.
	for _, body := range []string{"", "{}"} {
		if again := w.ask(job.ID, "cancel", body); again.Version != 5 || again.Status != "cancelled" {
			t.Errorf("again: %+v", again)
		}
	}
	var page listOf[jobView]
	w.want(http.StatusOK, w.get("/api/jobs?status=cancelled&mode=diagnostic&variant=noop")).decode(t, &page)
	if len(page.Items) != 1 || page.Items[0].ID != job.ID {
		t.Errorf("cancelled jobs: %+v", page.Items)
	}
}

func TestCancelWaitsForWhatRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.submit(diagnostic).ID
	w.decider.next(job, func(events.Message) events.Payload { return events.TaskAccepted{LeaseMS: 15_000} })
	for range 2 {
		if got := w.ask(job, "cancel", ""); got.Status != "running" || !got.Cancelling {
			t.Errorf("while it runs: %s, cancelling %v", got.Status, got.Cancelling)
		}
	}
	w.decider.next(job, func(events.Message) events.Payload { return events.TaskCancelled{} })
	w.inTables(job, w.decider.state(job).Chain.Version)
	var got jobView
	w.want(http.StatusOK, w.get("/api/jobs/"+job)).decode(t, &got)
	if got.Status != "cancelled" || got.Cancelling || got.Stages[0].Status != "cancelled" {
		t.Errorf("job %+v", got)
	}
}

func TestApprovalWithAnEdit(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.waiting()
	var before jobView
	w.want(http.StatusOK, w.get("/api/jobs/"+job)).decode(t, &before)
	if a := before.Approval; before.Status != "waiting_approval" || a == nil || a.State != "waiting" || *a.Script != canaryNarration || a.By != nil || !before.Request.Approval {
		t.Fatalf("job %s, approval %+v", before.Status, a)
	}
	const edit = "canary of an edit"
	got := w.ask(job, "approve", `{"script":"  `+edit+` "}`, "Idempotency-Key", "ok")
	if a := got.Approval; got.Status != "running" && got.Status != "queued" || a.State != "granted" || !a.Edited || *a.Script != edit || *a.By != actor || a.DecidedAt == nil {
		t.Errorf("job %s, approval %+v", got.Status, a)
	}
	words := w.decider.state(job).Values["approved_narration"]
	if text, err := w.keyring.Open(t.Context(), *words.Text); err != nil || text != edit || words.Digest != w.keyring.Digest(tenant, edit) {
		t.Errorf("the narration is %q with digest %s, %v", text, words.Digest, err)
	}
	// The same key and body are the same command; anything else comes too late.
	if again := w.ask(job, "approve", `{"script":"  `+edit+` "}`, "Idempotency-Key", "ok"); again.Version < got.Version {
		t.Errorf("again: %+v", again)
	}
	for _, header := range [][]string{nil, {"Idempotency-Key", "ok"}} {
		if p := w.refused(http.StatusConflict, codeNotWaiting, "/api/jobs/"+job+"/approve", "", header...); !strings.Contains(p.Detail, "does not wait for approval") || p.JobID != job {
			t.Errorf("problem %+v", p)
		}
	}
	w.refused(http.StatusConflict, codeNotWaiting, "/api/jobs/"+job+"/deny", "")
	// A process that has seen nothing of it finds the command among the job's events.
	other := w.another()
	other.ask(job, "approve", `{"script":"  `+edit+` "}`, "Idempotency-Key", "ok")
	w.noCanary()
}

func TestApprovalWithoutTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.waiting()
	eventually(t, "the job came in over the log", func() bool { return len(w.server.feed.lately(tenant, job)) > 0 })
	w.tableNet.Cut()
	w.server.accepted.clear() // what is left is what came in over the log
	var got asked
	w.want(http.StatusAccepted, w.post("/api/jobs/"+job+"/approve", `{"script":"hello again"}`)).decode(t, &got)
	if got.ID != job || got.Command != "approve" || got.Outcome != "accepted" || *got.Position == "" || *got.Version < 5 || got.Status == nil {
		t.Errorf("answer %+v", got)
	}
	if w.decider.state(job).State == aggregates.JobWaitingApproval {
		t.Error("the job still waits")
	}
	w.tableNet.Mend()
	w.want(http.StatusOK, w.get("/api/jobs/"+job+"?position="+*got.Position))
}

func TestDenialWithAReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.waiting()
	got := w.ask(job, "deny", `{"reason":"canary reason"}`)
	if a := got.Approval; got.Status != "rejected" || a.State != "denied" || *a.Reason != "canary reason" || got.Error.Reasons[0].Code != "approval_denied" {
		t.Errorf("job %s, approval %+v, error %+v", got.Status, a, got.Error)
	}
	w.refused(http.StatusConflict, codeJobEnded, "/api/jobs/"+job+"/approve", "")
	w.noCanary()
}

func TestACancelledApprovalIsClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	if got := w.ask(w.waiting(), "cancel", ""); got.Status != "cancelled" || got.Approval.State != "closed" {
		t.Errorf("job %s, approval %+v", got.Status, got.Approval)
	}
}

func TestRefusedCommandsLeaveNoEvent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	ended := w.submit(diagnostic).ID
	w.finish(ended)
	w.inTables(ended, w.decider.state(ended).Chain.Version)
	queued := w.submit(diagnostic).ID
	w.planned(queued)
	before := len(w.records(events.TopicJobEvents))
	absent := uuid.NewString()
	for _, c := range []struct {
		id, verb, body string
		status         int
		code           string
	}{
		{absent, "cancel", "", 404, codeNotFound},
		{absent, "approve", "", 404, codeNotFound},
		{absent, "approve", `{"script":"hello"}`, 404, codeNotFound},
		{absent, "deny", `{"reason":"no"}`, 404, codeNotFound},
		{absent, "retry", "", 404, codeNotFound},
		{absent, "rerun", "", 404, codeNotFound},
		{ended, "cancel", "", 409, codeJobEnded},
		{ended, "approve", "", 409, codeJobEnded},
		{ended, "deny", "", 409, codeJobEnded},
		{queued, "approve", "", 409, codeNotWaiting},
		{queued, "approve", `{"script":"hello"}`, 409, codeNotWaiting},
		{queued, "deny", `{"reason":"no"}`, 409, codeNotWaiting},
		{queued, "retry", "", 409, codeJobNotEnded},
		{queued, "rerun", `{"from":"script"}`, 409, codeJobNotEnded},
	} {
		p := w.refused(c.status, c.code, "/api/jobs/"+c.id+"/"+c.verb, c.body)
		if p.Detail == "" || c.status == 409 && p.JobID != c.id {
			t.Errorf("%s of %s: %+v", c.verb, c.id, p)
		}
	}
	if n := len(w.records(events.TopicJobEvents)); n != before {
		t.Errorf("%d events, %d before", n, before)
	}
}

func TestHostileCommands(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, noProjector: true})
	job := w.submit(diagnostic).ID
	w.planned(job)
	commands := len(w.records(events.TopicJobCommands))
	long := strings.Repeat("ä", 5001)
	for _, c := range []struct {
		verb, body string
		status     int
		says       string
	}{
		{"cancel", `{"force":true}`, 422, "force"},
		{"cancel", `[]`, 400, "JSON object"},
		{"cancel", `{`, 400, "byte"},
		{"approve", `{"script":7}`, 422, "string"},
		{"approve", `{"script":"` + long + `"}`, 422, "5000"},
		{"approve", `{"script":"a\u0000b"}`, 422, "control"},
		{"approve", `{"script":"…!"}`, 422, "letter or digit"},
		{"approve", `{"edit":"a"}`, 422, "edit"},
		{"approve", `{"script":"a","script":"b"}`, 422, "twice"},
		{"approve", "{\"script\":\"\xff\"}", 400, "UTF-8"},
		{"approve", `{"script":"` + strings.Repeat("a", 300_000) + `"}`, 413, "256 KiB"},
		{"deny", `{"reason":"` + long + `"}`, 422, "5000"},
		{"deny", `{"reason":["a"]}`, 422, "string"},
	} {
		if a := w.post("/api/jobs/"+job+"/"+c.verb, c.body); a.status != c.status || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s %.60s: %d %s; want %d with %q", c.verb, c.body, a.status, a.body, c.status, c.says)
		}
	}
	for _, verb := range []string{"cancel", "approve", "deny", "retry", "rerun"} {
		for _, id := range []string{"42", "%2e%2e", "6F1C0A52", strings.Repeat("a", 36), "6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d%00", "'%20OR%201=1"} {
			if a := w.post("/api/jobs/"+id+"/"+verb, ""); a.status != 422 && a.status != 404 && a.status != 400 {
				t.Errorf("%s of %s: %d %s", verb, id, a.status, a.body)
			}
		}
		w.refused(400, codeQueryInvalid, "/api/jobs/"+job+"/"+verb+"?force=1", "")
		w.refused(400, codeKeyInvalid, "/api/jobs/"+job+"/"+verb, "", "Idempotency-Key", strings.Repeat("k", 256))
		if a := w.want(405, w.get("/api/jobs/"+job+"/"+verb)); a.header.Get("Allow") != "POST" {
			t.Errorf("%s allows %q", verb, a.header.Get("Allow"))
		}
		if a := w.do("POST", "/api/jobs/"+job+"/"+verb, map[string]string{"Origin": "https://evil.example"}, nil); a.status != 403 {
			t.Errorf("%s from another site: %d", verb, a.status)
		}
	}
	if n := len(w.records(events.TopicJobCommands)); n != commands {
		t.Errorf("%d commands lie on the log, %d before", n, commands)
	}
	// An id may be written large.
	if a := w.post("/api/jobs/"+strings.ToUpper(job)+"/cancel", ""); a.status != http.StatusAccepted && a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestCommandsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, noProjector: true, config: func(c *Config) { c.ReplyTimeout = 100 * time.Millisecond }})
	job := w.submit(diagnostic).ID
	w.planned(job)
	w.decider.mute.Store(true)
	var got asked
	w.want(http.StatusAccepted, w.post("/api/jobs/"+job+"/cancel", "")).decode(t, &got)
	if got.Outcome != "pending" || got.ID != job || got.Status != nil || got.Position != nil || !strings.Contains(got.Detail, "asked for") {
		t.Errorf("answer %+v", got)
	}
	eventually(t, "the command is handled all the same", func() bool { return w.decider.state(job).State == aggregates.JobCancelled })

	w.logNet.Cut()
	a := w.within(3*time.Second, func() answer { return w.want(503, w.post("/api/jobs/"+job+"/cancel", "", "Idempotency-Key", "k")) })
	if !strings.Contains(string(a.body), codeLogUnavailable) || !strings.Contains(string(a.body), `"job_id":"`+job+`"`) || !strings.Contains(string(a.body), "same Idempotency-Key") {
		t.Errorf("problem %s", a.body)
	}
}
