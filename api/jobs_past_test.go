// Tests of looking back, and of reading one's own writes in every read.

package api

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// shown is an answer with the object of a job, without what follows today's knowledge instead of the log.
func shown(t testing.TB, a answer) (view jobView, all map[string]any) {
	t.Helper()
	a.decode(t, &view)
	a.decode(t, &all)
	delete(all, "profile") // its label is today's
	delete(all, "queue_position")
	delete(all, "eta_seconds")
	return view, all
}

func TestEveryVersionOfAJobIsShownAsItWas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	other := w.submit(`{"variant":"sadtalker","script":"another job","portrait":"` + w.portrait() + `"}`)
	job := w.submit(jsonBody(t, map[string]any{"variant": "sadtalker", "script": canaryScript, "portrait": w.portrait()}))
	live := map[int64]map[string]any{} // as the tables showed it at that time
	var last jobView
	for {
		version := w.decider.state(job.ID).Chain.Version
		view, all := shown(t, w.want(http.StatusOK, w.get(fmt.Sprintf("/api/jobs/%s?position=%s:%d", job.ID, job.ID, version))))
		live[view.Version], last = all, view
		w.decider.step(other.ID)
		if w.decider.step(job.ID) == "" {
			break
		}
	}
	if len(live) < 6 || last.Status != "succeeded" {
		t.Fatalf("%d versions seen, the last is %s", len(live), last.Status)
	}
	places := map[int64]*eventView{}
	for _, e := range last.RecentEvents {
		places[e.Version] = e
	}
	w.tableNet.Cut() // the log alone answers
	for version := int64(1); version <= last.Version; version++ {
		e := places[version]
		_, byVersion := shown(t, w.want(http.StatusOK, w.get(fmt.Sprintf("/api/jobs/%s?at=%d", job.ID, version))))
		_, byPlace := shown(t, w.want(http.StatusOK, w.get("/api/jobs/"+job.ID+"?at="+e.Position)))
		_, byTime := shown(t, w.want(http.StatusOK, w.get("/api/jobs/"+job.ID+"?at="+url.QueryEscape(e.OccurredAt.Format(time.RFC3339Nano)))))
		if byVersion["version"] != float64(version) || !reflect.DeepEqual(byVersion, byPlace) {
			t.Errorf("version %d: %v\nat %s: %v", version, byVersion, e.Position, byPlace)
		}
		if at := byTime["version"].(float64); at < float64(version) || places[int64(at)].OccurredAt.Truncate(time.Microsecond).After(e.OccurredAt) {
			t.Errorf("at the time of version %d it is version %v", version, at)
		}
		if then := live[version]; then != nil && !reflect.DeepEqual(byVersion, then) {
			t.Errorf("version %d was\n%v\nand is told as\n%v", version, then, byVersion)
		}
	}
	// After erasure the past has no content either.
	ok(t, w.server.cfg.Keyring.Erase(t.Context(), objectKey(w.decider.state(job.ID))))
	if view, _ := shown(t, w.want(http.StatusOK, w.get("/api/jobs/"+job.ID+"?at=1"))); view.Content != contentErased || view.Request.Script != nil {
		t.Errorf("after erasure: %s, %v", view.Content, view.Request.Script)
	}
}

func TestMomentsThatAJobDoesNotHave(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.submit(`{"variant":"sadtalker","script":"hello","portrait":"` + w.portrait() + `"}`)
	view, _ := shown(t, w.want(200, w.get("/api/jobs/"+job.ID+"?position="+job.ID+":3")))
	first := view.RecentEvents[0]
	place, _ := parsePosition(first.Position)
	for at, c := range map[string]struct {
		status int
		says   string
	}{
		"yesterday":                          {400, "RFC 3339"},
		"0":                                  {400, "first version of a job is 1"},
		"-1":                                 {400, "RFC 3339"},
		"1:x":                                {400, "RFC 3339"},
		"99999999999999999999":               {400, "RFC 3339"},
		"2026-13-01T00:00:00Z":               {400, "RFC 3339"},
		fmt.Sprint(1-place.partition) + ":0": {400, fmt.Sprintf("lies in partition %d", place.partition)},
		"99":                                 {404, fmt.Sprintf("has come to version %d, not to 99", view.Version)},
		"2001-01-01T00:00:00Z":               {404, "began at " + first.OccurredAt.Format(time.RFC3339Nano)},
		fmt.Sprintf("%d:100000", place.partition): {404, "ends before offset 100000"},
		"2999-01-01T00:00:00Z":                    {200, fmt.Sprintf(`"version":%d`, view.Version)},
	} {
		if a := w.want(c.status, w.get("/api/jobs/"+job.ID+"?at="+url.QueryEscape(at))); !strings.Contains(string(a.body), c.says) {
			t.Errorf("at=%s: %s, want %q", at, a.body, c.says)
		}
	}
	w.want(400, w.get("/api/jobs/"+job.ID+"?at=1&position="+job.ID+":1"))
	if a := w.want(404, w.get("/api/jobs/"+uuid.NewString()+"?at=1")); !strings.Contains(string(a.body), "there is no job") {
		t.Errorf("an unknown job: %s", a.body)
	}
	w.logNet.Cut()
	w.within(pastTimeout+2*time.Second, func() answer { return w.want(503, w.get("/api/jobs/"+job.ID+"?at=1")) })
}

func TestEveryReadOfJobsWaitsForATokenAndNotForEver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true, noProjector: true})
	job := w.newJob()
	token := "?position=" + job + ":3"
	reads := []string{"/api/jobs" + token, "/api/jobs/" + job + token, "/api/jobs/" + job + "/events" + token}
	for _, path := range reads {
		if a := w.within(5*time.Second, func() answer { return w.want(503, w.get(path)) }); !strings.Contains(string(a.body), codeTablesBehind) {
			t.Errorf("%s: %s", path, a.body)
		}
		w.want(400, w.get(strings.Replace(path, token, "?position=1", 1)))
	}
	w.stopProjector = w.project()
	for _, path := range reads {
		var a answer
		eventually(t, "the tables have come to the token", func() bool { a = w.get(path); return a.status == 200 })
		if !strings.Contains(string(a.body), `"version":3`) {
			t.Errorf("%s does not show version 3: %s", path, a.body)
		}
	}
	// Every command answers with a token that the next read can wait for.
	var cancelled struct{ Position string }
	w.want(200, w.post("/api/jobs/"+job+"/cancel", "")).decode(t, &cancelled)
	if view, _ := shown(t, w.want(200, w.get("/api/jobs/"+job+"?position="+cancelled.Position))); view.Status != "cancelled" && !view.Cancelling {
		t.Errorf("after its cancellation the job is %s", view.Status)
	}
}
