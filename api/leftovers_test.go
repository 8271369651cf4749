// Tests of leftovers: what requests put into the store that never reached the log goes when
// that is proved, and nothing else does.

package api

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// files are what lies in the folders of jobs, profiles and uploads under an id.
func (w *world) files(id string) (n int) {
	w.t.Helper()
	for o, err := range w.objects.List(w.t.Context(), "") {
		ok(w.t, err)
		if strings.Contains(o.URI, "/"+id+"/") {
			n++
		}
	}
	return n
}

// ripe is a time at which everything that is there is old enough to be a leftover.
func ripe() time.Time { return time.Now().Add(leftoverAge + time.Hour) }

// interrupted asks for a job and for a profile at a process that dies when their files are
// put and their commands are not written, and gives their ids.
func (w *world) interrupted(key string) (job, profile string) {
	w.t.Helper()
	portrait := w.portrait()
	var put atomic.Bool
	store := w.gated(&gate{after: func(res *http.Response) {
		switch r := res.Request; {
		case r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "g"):
			put.Store(true)
		case r.Method == http.MethodHead && put.CompareAndSwap(true, false): // whether it is there
			res.StatusCode = http.StatusForbidden
		}
	}})
	dying := w.another(func(c *Config) { c.Objects = store })
	dying.want(http.StatusInternalServerError, dying.post("/api/jobs", `{"variant":"sadtalker","script":"hello","portrait":"`+portrait+`"}`, "Idempotency-Key", key))
	dying.want(http.StatusInternalServerError, dying.post("/api/profiles", `{"label":"Ada","portrait":"`+portrait+`"}`, "Idempotency-Key", key))
	job, profile = events.JobID(tenant, "/api/jobs", key), events.JobID(tenant, "/api/profiles", key)
	if w.files(job) != 1 || w.files(profile) < 1 {
		w.t.Fatalf("the job left %d files, the profile %d", w.files(job), w.files(profile))
	}
	return job, profile
}

// dayLater is a second process, for which content keys are a day older than they are.
func (w *world) dayLater() *world {
	w.t.Helper()
	store := w.gated(&gate{after: func(res *http.Response) {
		if made, err := http.ParseTime(res.Header.Get("Last-Modified")); err == nil && strings.Contains(res.Request.URL.Path, "/keys/") {
			res.Header.Set("Last-Modified", made.Add(-repeatAge-time.Hour).Format(http.TimeFormat))
		}
	}})
	return w.another(func(c *Config) { c.Keyring = objects.NewKeyring(store, [32]byte{7}) })
}

func TestLeftoversOfInterruptedRequestsGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	kept := w.submit(jsonBody(t, map[string]any{"variant": "sadtalker", "script": "hello", "portrait": w.portrait()}))
	w.inTables(kept.ID, 2)
	job, profile := w.interrupted("k")
	w.logNet.Cut() // nothing can be proved
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := w.server.sweepLeftovers(ctx, ripe()); err == nil || w.files(job) != 1 {
		t.Errorf("a sweep without a log: %v", err)
	}
	w.logNet.Mend()
	eventually(t, "the log is back", func() bool { return w.server.cfg.Log.Ping(t.Context()) == nil })
	half, done := uuid.NewString(), w.keepTold(pngFile(t, 80, 64))
	_, err := w.objects.Put(t.Context(), tenant+"/-/"+half, "png", "image/png", strings.NewReader("the file of an upload whose process died"))
	ok(t, err)

	ok(t, w.server.sweepLeftovers(t.Context(), time.Now().Add(leftoverAge-time.Hour)))
	if w.files(job) != 1 || w.files(half) != 1 {
		t.Fatal("leftovers went before their time")
	}
	ok(t, w.server.sweepLeftovers(t.Context(), time.Now().Add(leftoverEnd+time.Hour)))
	if w.files(job) != 1 || w.files(half) != 1 {
		t.Fatal("leftovers went that cannot be decided any more")
	}
	ok(t, w.server.sweepLeftovers(t.Context(), ripe()))
	if w.files(job)+w.files(profile)+w.files(half) != 0 {
		t.Errorf("of the job %d files are left, of the profile %d, of the upload %d", w.files(job), w.files(profile), w.files(half))
	}
	w.whole(kept.ID)
	if !w.found(done.ID) {
		t.Error("an upload with its record went")
	}
	if said := string(w.get("/metrics").body); !strings.Contains(said, `myspinbot_api_swept_objects_total{kind="leftover"} `+"3\n") {
		t.Errorf("the metrics say %.200s", said[max(0, strings.Index(said, "swept_objects")):])
	}
	ok(t, w.another().server.sweepLeftovers(t.Context(), ripe()))
}

// A request is repeated under its key for a day; later it is refused, whether its files are
// still there or not, since they may go at any time.
func TestARequestOfLongAgoIsNotGoneOnWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	job, profile := w.interrupted("k")
	body := `{"variant":"sadtalker","script":"hello","portrait":"` + w.portrait() + `"}`
	old := w.dayLater()
	for range 2 {
		for path, id := range map[string]string{"/api/jobs": job, "/api/profiles": profile} {
			asked := map[string]string{"/api/jobs": body, "/api/profiles": `{"label":"Ada"}`}[path]
			p := old.problemOf(http.StatusUnprocessableEntity, old.post(path, asked, "Idempotency-Key", "k"))
			if p.Code != codeKeyConflict || !strings.Contains(p.Detail, id) || !strings.Contains(p.Detail, "use a new key") {
				t.Errorf("%s: %+v", path, p)
			}
		}
		ok(t, w.server.sweepLeftovers(t.Context(), ripe()))
	}
	if n := len(w.records(events.TopicJobCommands)) + len(w.records(events.TopicProfileCommands)); n != 0 || w.files(job) != 0 {
		t.Errorf("%d commands were written, %d files are left", n, w.files(job))
	}
	// Of a day ago it is gone on with, and what went is put again.
	var made accepted
	w.want(http.StatusAccepted, w.post("/api/jobs", body, "Idempotency-Key", "k")).decode(t, &made)
	if made.ID != job {
		t.Errorf("job %s, want %s", made.ID, job)
	}
	w.whole(job)
	w.inTables(job, 2)
	// Then it is a job, however old, also where the tables cannot say so.
	if a := old.want(http.StatusAccepted, old.post("/api/jobs", body, "Idempotency-Key", "k")); !strings.Contains(string(a.body), job) {
		t.Errorf("%s", a.body)
	}
	ok(t, w.server.sweepLeftovers(t.Context(), ripe()))
	w.whole(job)
}

func TestARepeatThatTheTablesCannotSeeIsAskedForLater(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	body := `{"variant":"sadtalker","script":"hello","portrait":"` + w.portrait() + `"}`
	var job accepted
	w.want(http.StatusAccepted, w.post("/api/jobs", body, "Idempotency-Key", "k")).decode(t, &job)
	old := w.dayLater()
	w.tableNet.Cut()
	if p := old.problemOf(http.StatusServiceUnavailable, old.post("/api/jobs", body, "Idempotency-Key", "k")); p.Code != codeTablesDown {
		t.Errorf("%+v", p)
	}
}

// What is anywhere on the log is no leftover: in the tables, in facts that the tables do not
// have, or in commands that nobody has handled. Each of these here is in one of them alone.
func TestWhatIsOnTheLogIsNoLeftover(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	placed := func(id, owner string) {
		_, _, err := w.keyring.Create(t.Context(), tenant, owner, id)
		ok(t, err)
		_, err = w.objects.Put(t.Context(), tenant+"/"+owner+"/"+id, "png", "image/png", strings.NewReader("a face of "+id))
		ok(t, err)
	}
	ids := map[string]string{}
	job := func(where string) string {
		ids[where] = uuid.NewString()
		placed(ids[where], uuid.NewString())
		return ids[where]
	}
	profile := func(where string) string {
		ids[where] = uuid.NewString()
		w.makeProfile(ids[where], tenant, "Ada")
		placed(ids[where], ids[where])
		return ids[where]
	}
	version := int64(0)
	w.happen(job("a job in the tables"), &version, 1, false)
	shown := profile("a profile in the tables")
	w.inTables(ids["a job in the tables"], version)
	ok(t, w.server.cfg.Tables.WaitForProfile(t.Context(), tenant, shown, 1))
	w.stopProjector()
	w.stopProjector = nil
	version = 0
	w.happen(job("a job behind the tables"), &version, 1, false)
	profile("a profile behind the tables")
	waiting := job("a command to a job")
	w.produce(events.TopicJobCommands, commandMessage(&everybody, waiting, uuid.NewString(), time.Now(), events.JobCancel{}))
	wished := job("a command to a profile")
	w.produce(events.TopicProfileCommands, commandMessage(&everybody, wished, uuid.NewString(), time.Now(), events.ProfileErase{}))
	nobodys := uuid.NewString()
	placed(nobodys, uuid.NewString())
	before := map[string]int{}
	for _, id := range ids {
		before[id] = w.files(id)
	}
	ok(t, w.server.sweepLeftovers(t.Context(), ripe()))
	for where, id := range ids {
		if n := w.files(id); n != before[id] || n == 0 {
			t.Errorf("%s: %d files are left of %d", where, n, before[id])
		}
	}
	if w.files(nobodys) != 0 {
		t.Error("a leftover is still there")
	}
	w.tableNet.Cut()
	placed(nobodys, uuid.NewString())
	if err := w.server.sweepLeftovers(t.Context(), ripe()); err == nil || w.files(nobodys) != 1 {
		t.Errorf("a sweep without tables: %v", err)
	}
}

// A request that was broken off is gone on with when it is sent again, and is no leftover then.
func TestARequestIsRepeatedBeforeItsLeftoversGo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	job, _ := w.interrupted("k")
	ok(t, w.server.sweepLeftovers(t.Context(), time.Now().Add(repeatAge+time.Hour)))
	w.submit(`{"variant":"sadtalker","script":"hello","portrait":"`+w.portrait()+`"}`, "Idempotency-Key", "k")
	ok(t, w.server.sweepLeftovers(t.Context(), ripe()))
	w.whole(job)
}
