// Tests of what a client gets while something does not answer.

package api

import (
	"strings"
	"testing"
	"time"
)

// within answers a request and its time.
func (w *world) within(limit time.Duration, send func() answer) answer {
	w.t.Helper()
	begin := time.Now()
	a := send()
	if took := time.Since(begin); took > limit {
		w.t.Errorf("the answer took %v, want at most %v", took, limit)
	}
	if a.status == 503 && a.header.Get("Retry-After") == "" {
		w.t.Errorf("no Retry-After: %s", a.body)
	}
	return a
}

func TestABrokerThatIsDownIsSaidWithinThreeSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	body := `{"variant":"sadtalker","script":"hello","portrait":"` + w.portrait() + `"}`
	w.logNet.Cut()
	a := w.within(3*time.Second, func() answer { return w.want(503, w.post("/api/jobs", body, "Idempotency-Key", "k")) })
	if !strings.Contains(string(a.body), codeLogUnavailable) || !strings.Contains(string(a.body), "retry with the same Idempotency-Key") {
		t.Errorf("problem %s", a.body)
	}
	w.within(3*time.Second, func() answer { return w.want(503, w.get("/ready")) })
	w.want(200, w.get("/health"))
	w.want(200, w.get("/api/jobs"))

	// The retry that the answer asks for makes one job.
	w.logNet.Mend()
	var job accepted
	eventually(t, "the broker is back", func() bool {
		a := w.post("/api/jobs", body, "Idempotency-Key", "k")
		if a.status == 202 {
			a.decode(t, &job)
		}
		return a.status == 202
	})
	w.planned(job.ID)
	w.inTables(job.ID, 2)
}

func TestReadsWithoutTablesSayWhenToAskAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	portrait := w.portrait()
	w.tableNet.Cut()
	id := "6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"
	for _, path := range []string{"/api/jobs", "/api/jobs/" + id, "/api/jobs/" + id + "/events", "/api/artifacts/" + id, "/api/artifacts/" + id + "/content", "/api/profiles", "/api/profiles/" + id} {
		a := w.within(4*time.Second, func() answer { return w.want(503, w.get(path)) })
		if !strings.Contains(string(a.body), codeTablesDown) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	// Jobs are accepted all the same.
	w.submit(`{"variant":"sadtalker","script":"hello","portrait":"` + portrait + `"}`)
	if a := w.want(200, w.get("/ready")); !strings.Contains(string(a.body), `"degraded"`) {
		t.Errorf("ready: %s", a.body)
	}
	w.tableNet.Mend()
	w.want(200, w.get("/api/jobs"))
}

func TestATokenWaitsForTheTablesAndNotForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, noProjector: true})
	job := w.newJob()
	if a := w.want(200, w.get("/api/jobs/"+job)); !strings.Contains(string(a.body), `"version":0`) {
		t.Errorf("a job just accepted is shown as planned, not %s", a.body)
	}
	a := w.within(5*time.Second, func() answer { return w.want(503, w.get("/api/jobs/"+job+"?position="+job+":1")) })
	if !strings.Contains(string(a.body), codeTablesBehind) {
		t.Errorf("problem %s", a.body)
	}
	w.stopProjector = w.project()
	w.inTables(job, 1)
	w.want(200, w.get("/api/jobs/"+job+"?position="+job+":1"))
	for _, bad := range []string{"1", job, job + ":0", job + ":x", "6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d:1"} {
		w.want(400, w.get("/api/jobs/"+job+"?position="+bad))
	}
}

func TestAnObjectStoreThatIsDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	a := w.videoOf()
	job := a.JobID
	portrait := w.portrait()
	w.objectNet.Cut()
	for name, send := range map[string]func() answer{
		"content": func() answer { return w.get(a.ContentURL) },
		"upload":  func() answer { return w.upload(pngFile(t, 64, 64)) },
		"submission": func() answer {
			return w.post("/api/jobs", `{"variant":"sadtalker","script":"hello","portrait":"`+portrait+`"}`)
		},
	} {
		if got := w.within(10*time.Second, send); got.status != 503 || !strings.Contains(string(got.body), codeObjectsDown) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
	// The keys may still be in memory, and lie in the store otherwise: the job itself is readable.
	w.server.cfg.Keyring = w.freshKeyring()
	got := w.want(200, w.get("/api/jobs/"+job))
	if !strings.Contains(string(got.body), `"content":"unavailable"`) || !strings.Contains(string(got.body), `"succeeded"`) {
		t.Errorf("job: %.300s", got.body)
	}
	w.want(503, w.get("/ready"))
}
