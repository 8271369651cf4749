// Tests of what a client gets while something does not answer.

package api

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
)

// ice is over a network whose other side may freeze, as a process does that was
// stopped: connections are accepted, and nothing is answered.
type ice struct {
	frozen atomic.Bool
	mu     sync.Mutex
	stuck  []net.Conn
}

type dial = func(ctx context.Context, network, address string) (net.Conn, error)

func (i *ice) over(next dial) dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := next(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &icy{c, i}, nil
	}
}

type icy struct {
	net.Conn
	ice *ice
}

// Write implements net.Conn. What is written to a frozen process is never read.
func (c *icy) Write(p []byte) (int, error) {
	if c.ice.frozen.Load() {
		c.ice.mu.Lock()
		defer c.ice.mu.Unlock()
		c.ice.stuck = append(c.ice.stuck, c.Conn)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

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
	for _, path := range []string{"/api/jobs", "/api/jobs/" + id, "/api/jobs/" + id + "/events", "/api/artifacts/" + id, "/api/artifacts/" + id + "/content", "/api/profiles", "/api/profiles/" + id,
		"/api/jobs?position=" + id + ":1", "/api/jobs/" + id + "?position=" + id + ":1", "/api/jobs/" + id + "/events?position=" + id + ":1"} {
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

// A restart of PostgreSQL leaves every connection of the pool dead, which shows when one is
// used. Its backends are ended here as a restart ends them.
func TestNoReadIsRefusedOnceTheTablesAreBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.newJob()
	w.inTables(job, 1)
	const clients = 8
	read := func() {
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				path := []string{"/api/jobs", "/api/jobs/" + job, "/api/jobs/" + job + "?position=" + job + ":1", "/api/profiles"}[i%4]
				if a := w.get(path); a.status != 200 {
					t.Errorf("%s: %d %s", path, a.status, a.body)
				}
			})
		}
		all.Wait()
	}
	ended := 0
	for range 10 {
		read() // fills the pool
		var n int
		ok(t, w.pool.QueryRow(t.Context(), "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").Scan(&n))
		ended += n
		read()
	}
	if ended < 10*2 {
		t.Errorf("%d connections were ended in ten rounds", ended)
	}
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
	w.server.keyring = w.freshKeyring()
	got := w.want(200, w.get("/api/jobs/"+job))
	if !strings.Contains(string(got.body), `"content":"unavailable"`) || !strings.Contains(string(got.body), `"succeeded"`) {
		t.Errorf("job: %.300s", got.body)
	}
	w.want(503, w.get("/ready"))
}

// thaw ends the frost, and the connections on which something was lost.
func (i *ice) thaw() {
	i.frozen.Store(false)
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range i.stuck {
		_ = c.Close()
	}
}

// freeze stops everything at once that the names say, until the test's end.
func (w *world) freeze(what string) {
	for name, i := range map[string]*ice{"log": &w.logIce, "objects": &w.objectNet.ice, "tables": &w.tableIce} {
		i.frozen.Store(strings.Contains(what, name))
		w.t.Cleanup(i.thaw)
	}
}

func TestSubmissionsToFrozenDependenciesAreAnsweredWithinThreeSeconds(t *testing.T) {
	t.Parallel()
	for frozen, code := range map[string]string{"log": codeLogUnavailable, "objects": codeObjectsDown, "log, objects": codeObjectsDown, "log, objects, tables": codeObjectsDown} {
		t.Run(frozen, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, options{manual: true})
			profile := uuid.NewString()
			w.makeProfile(profile, tenant, "Grace")
			train := `{"variant":"sadtalker","script":"hello","portrait":"` + w.portrait() + `"}`
			w.freeze(frozen)
			for _, c := range [][2]string{{"/api/train", train}, {"/api/generate", `{"script":"hello","profileId":"` + profile + `"}`}} {
				a := w.within(3*time.Second, func() answer { return w.want(503, w.post(c[0], c[1], "Idempotency-Key", "k")) })
				if !strings.Contains(string(a.body), code) {
					t.Errorf("%s: %s, want %s", c[0], a.body, code)
				}
			}
			w.within(3*time.Second, func() answer { return w.want(503, w.get("/ready")) })
		})
	}
}

func TestFrozenTablesKeepNoSubmissionBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	body := `{"variant":"sadtalker","script":"hello","portrait":"` + w.portrait() + `"}`
	w.freeze("tables")
	var job accepted
	w.within(3*time.Second, func() answer { return w.want(202, w.post("/api/jobs", body, "Idempotency-Key", "k")) }).decode(t, &job)
	w.within(4*time.Second, func() answer { return w.want(503, w.get("/api/jobs")) })
	// What the log alone tells is told all the same.
	id := job.ID
	w.planned(id)
	for _, path := range []string{"?at=1", "?at=2999-01-01T00:00:00Z"} {
		w.within(3*time.Second, func() answer { return w.want(200, w.get("/api/jobs/"+id+path)) })
	}
	w.within(4*time.Second, func() answer { return w.want(503, w.get("/api/jobs/"+id+"?position="+id+":1")) })
}

func TestAFrozenObjectStoreDelaysAnAnswerOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	video := w.videoOf()
	profile := uuid.NewString()
	w.makeProfile(profile, tenant, "Grace")
	for range 3 {
		var job accepted
		w.want(202, w.post("/api/generate", `{"script":"hello","profileId":"`+profile+`"}`)).decode(t, &job)
		w.inTables(job.ID, 2)
	}
	eventually(t, "the profile is listed", func() bool { return strings.Contains(string(w.get("/api/profiles").body), "Grace") })
	w.freeze("objects")
	for _, path := range []string{"/api/jobs", "/api/jobs/" + video.JobID, "/api/profiles"} {
		w.server.keyring = w.freshKeyring()
		a := w.within(2500*time.Millisecond, func() answer { return w.want(200, w.get(path)) })
		if !strings.Contains(string(a.body), `"content":"unavailable"`) || strings.Contains(string(a.body), "Grace") {
			t.Errorf("%s: %.400s", path, a.body)
		}
	}
	w.within(3*time.Second, func() answer { return w.want(503, w.get(video.ContentURL)) })
	w.within(4*time.Second, func() answer { return w.want(503, w.upload(pngFile(t, 64, 64))) })
}
