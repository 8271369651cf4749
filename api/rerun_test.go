// Tests of retry and re-run: what the new job's command names, what of the parent is
// reused, and what is refused.

package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// ended makes a job, lets it go on to its end, and waits for the tables.
func (w *world) ended(body string) accepted {
	w.t.Helper()
	job := w.submit(body)
	w.planned(job.ID)
	w.inTables(job.ID, w.finish(job.ID))
	return job
}

// goOn sends a retry or re-run, lets the new job go on to its end, and reads it.
func (w *world) goOn(parent, verb, body string, header ...string) jobView {
	w.t.Helper()
	var child accepted
	w.want(http.StatusAccepted, w.post("/api/jobs/"+parent+"/"+verb, body, header...)).decode(w.t, &child)
	if child.ID == parent || child.ParentJobID == nil || *child.ParentJobID != parent || !strings.HasPrefix(child.Position, child.ID+":") {
		w.t.Errorf("the new job is %s of parent %v at %s", child.ID, child.ParentJobID, child.Position)
	}
	w.planned(child.ID)
	w.inTables(child.ID, w.finish(child.ID))
	var got jobView
	w.want(http.StatusOK, w.get("/api/jobs/"+child.ID)).decode(w.t, &got)
	return got
}

// ran are the stages of a lane that a worker did; the others were reused.
func ran(job jobView) (ran, reused []string) {
	for _, s := range job.Stages {
		switch {
		case s.Status == aggregates.StageReused:
			reused = append(reused, s.ID)
		case s.Lane != nil && s.Status == aggregates.StageSucceeded:
			ran = append(ran, s.ID)
		}
	}
	return ran, reused
}

// request is what the job was asked for, as it lies on the log.
func (w *world) request(job string) events.Request { return w.decider.state(job).Request }

func TestARetryDoesOnlyWhatDidNotEndWell(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	parent := w.submit(`{"script":"` + canaryScript + `","portrait":"` + w.portrait() + `","profile_name":"canary-name","priority":"batch","options":{"fps":30}}`)
	w.planned(parent.ID)
	for stage := ""; stage != "safety"; {
		stage = w.decider.step(parent.ID)
	}
	// Rendering and speaking wait side by side; the first of them is rendering.
	w.decider.step(parent.ID)
	w.decider.next(parent.ID, func(events.Message) events.Payload { return events.TaskAccepted{LeaseMS: 1000} })
	w.decider.nextFailed(parent.ID, events.ClassInvalidInput)
	w.inTables(parent.ID, w.decider.state(parent.ID).Chain.Version)
	before := w.decider.state(parent.ID)
	if before.State != aggregates.JobFailed {
		t.Fatalf("the parent is %s", before.State)
	}

	got := w.goOn(parent.ID, "retry", "", "Idempotency-Key", "k")
	did, reused := ran(got)
	if !slices.Equal(reused, []string{"script", "safety", "render"}) || !slices.Equal(did, []string{"tts", "lipsync", "assemble", "check"}) || got.Status != "succeeded" {
		t.Errorf("%s: ran %v, reused %v", got.Status, did, reused)
	}
	for _, s := range got.Stages {
		if (s.Status == "reused") != (s.ReusedFrom != nil && s.ReusedFrom.JobID == parent.ID && s.ReusedFrom.Stage == s.ID && s.Progress == 1) {
			t.Errorf("stage %+v, reused from %+v", s, s.ReusedFrom)
		}
	}
	r, p := w.request(got.ID), before.Request
	if r.ProfileID != p.ProfileID || r.Inputs["portrait"].Artifacts[0] != p.Inputs["portrait"].Artifacts[0] || r.Options["fps"] != 30.0 || r.Priority != "batch" ||
		r.KeyDigest == p.KeyDigest || r.BodyDigest == p.BodyDigest || got.Profile.ID != p.ProfileID || got.Priority != "batch" || *got.Request.Script != canaryScript {
		t.Errorf("request %+v of job %+v", r, got)
	}
	if again := w.want(http.StatusAccepted, w.post("/api/jobs/"+parent.ID+"/retry", "", "Idempotency-Key", "k")); !strings.Contains(string(again.body), got.ID) {
		t.Errorf("the same key: %s", again.body)
	}
	var page listOf[jobView]
	w.want(http.StatusOK, w.get("/api/jobs?parent_job_id="+parent.ID)).decode(t, &page)
	if len(page.Items) != 1 || page.Items[0].ID != got.ID {
		t.Errorf("retries of the parent: %+v", page.Items)
	}
	w.noCanary()
}

func TestARerunComputesOnlyWhatDependsOnTheChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	parent := w.ended(`{"script":"` + canaryScript + `","portrait":"` + w.portrait() + `"}`)
	seed := func(job string) any {
		g := w.decider.state(job).Graph
		return g.Nodes[slices.IndexFunc(g.Nodes, func(n events.Node) bool { return n.ID == "render" })].Params["seed"]
	}
	for _, c := range []struct {
		name, body string
		ran        string
		seed       bool // the parent's
	}{
		{"nothing", ``, "", true},
		{"another speed", `{"options":{"speed":1.5}}`, "tts lipsync assemble check", true},
		{"another script", `{"script":"canary of another script"}`, "safety tts lipsync assemble check", true},
		{"from the lips on", `{"from":"lipsync"}`, "lipsync assemble check", true},
		{"another picture", `{"from":"render"}`, "render lipsync assemble check", false},
		{"a chosen seed", `{"from":"render","options":{"seed":7}}`, "render lipsync assemble check", false},
		{"everything", `{"from":"script"}`, "script safety render tts lipsync assemble check", false},
	} {
		got := w.goOn(parent.ID, "rerun", c.body)
		did, reused := ran(got)
		want := strings.Fields(c.ran)
		slices.Sort(did)
		slices.Sort(want)
		if got.Status != "succeeded" || !slices.Equal(did, want) || len(did)+len(reused) != 7 {
			t.Errorf("%s: %s, ran %v, reused %v; want %v run", c.name, got.Status, did, reused, want)
		}
		if (seed(got.ID) == seed(parent.ID)) != c.seed {
			t.Errorf("%s: seed %v, the parent's is %v", c.name, seed(got.ID), seed(parent.ID))
		}
	}
	w.noCanary()
}

// The lips of a talking head are the first to draw a seed; with takes, that of take 1 decides all.
func TestARerunOfATalkingHeadDrawsAnotherSeed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	parent := w.ended(`{"variant":"sadtalker","script":"` + canaryScript + `","portrait":"` + w.portrait() + `","music":"` + w.uploaded(wavFile(2)) + `","options":{"takes":2,"draft":true}}`)
	if !parent.Draft || !parent.Request.Music {
		t.Errorf("draft %v, music %v", parent.Draft, parent.Request.Music)
	}
	seeds := func(job string) (one, two float64) {
		for _, n := range w.decider.state(job).Graph.Nodes {
			switch n.ID {
			case "lipsync":
				one, _ = n.Params["seed"].(float64)
			case "lipsync_2":
				two, _ = n.Params["seed"].(float64)
			}
		}
		return one, two
	}
	one, two := seeds(parent.ID)
	if two != one+1 {
		t.Errorf("seeds %v and %v", one, two)
	}
	for body, same := range map[string]bool{`{}`: true, `{"from":"lipsync"}`: false, `{"options":{"captions":"burned"}}`: true} {
		got := w.goOn(parent.ID, "rerun", body)
		if first, second := seeds(got.ID); (first == one) != same || second != first+1 {
			t.Errorf("%s: seeds %v and %v after %v and %v", body, first, second, one, two)
		}
	}
}

func TestAnEditedScriptIsTheNextRunsWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	parent := w.ended(`{"variant":"sadtalker","prompt":"a shop","portrait":"` + w.portrait() + `"}`)
	const edit = "canary of an edit"
	got := w.goOn(parent.ID, "rerun", `{"script":" `+edit+`\n"}`)
	words := w.decider.state(got.ID).Values["approved_narration"]
	if text, err := w.keyring.Open(t.Context(), *words.Text); err != nil || text != edit || words.Digest != w.keyring.Digest(tenant, edit) ||
		!strings.Contains(words.Text.Key, got.ID) || got.Request.EditedScript == nil || *got.Request.EditedScript != edit || *got.Request.Prompt != "a shop" {
		t.Errorf("words %q under %s with digest %s, %v; request %+v", text, words.Text.Key, words.Digest, err, got.Request)
	}
	// A retry of that keeps the words, and reuses everything; new words are asked for from the script on.
	if did, _ := ran(w.goOn(got.ID, "retry", "")); len(did) != 0 {
		t.Errorf("ran %v", did)
	}
	if third := w.goOn(got.ID, "rerun", `{"from":"script"}`); third.Request.EditedScript != nil || w.request(third.ID).Edit != nil {
		t.Errorf("request %+v", third.Request)
	}
	w.noCanary()
}

func TestAnApprovalHoldsForTheSameWords(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	parent := w.waiting()
	const edit = "canary of an edit"
	w.ask(parent, "approve", `{"script":"`+edit+`"}`)
	w.inTables(parent, w.finish(parent))

	same := w.goOn(parent, "rerun", `{"options":{"speed":1.5}}`)
	if did, _ := ran(same); same.Status != "succeeded" || same.Approval != nil || *same.Request.EditedScript != edit || !slices.Equal(did, []string{"tts", "lipsync", "assemble", "check"}) {
		t.Errorf("%s, approval %+v, request %+v", same.Status, same.Approval, same.Request)
	}
	for _, body := range []string{`{"script":"other words"}`, `{"from":"script"}`, `{"from":"approval"}`} {
		var child accepted
		w.want(http.StatusAccepted, w.post("/api/jobs/"+parent+"/rerun", body)).decode(t, &child)
		w.planned(child.ID)
		for w.decider.step(child.ID) != "" {
		}
		if state := w.decider.state(child.ID); state.State != aggregates.JobWaitingApproval {
			t.Errorf("%s: %s, want it to wait for approval", body, state.State)
		}
	}
}

func TestARerunWithoutTablesIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	parent := w.ended(diagnostic)
	w.tableNet.Cut()
	w.refused(503, codeTablesDown, "/api/jobs/"+parent.ID+"/retry", "")
	w.tableNet.Mend()
	eventually(t, "the tables answer again", func() bool { return w.get("/api/jobs").status == 200 })
	if got := w.goOn(parent.ID, "retry", ""); got.Status != "succeeded" || got.Profile != nil {
		t.Errorf("job %+v", got)
	}
}

func TestRerunsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	parent := w.ended(`{"variant":"sadtalker","script":"hello","portrait":"` + w.portrait() + `"}`)
	noop := w.ended(diagnostic)
	before, stored := len(w.records(events.TopicJobCommands)), w.stored()
	for _, c := range []struct {
		id, verb, body string
		status         int
		pointer, says  string
	}{
		{parent.ID, "retry", `{"from":"script"}`, 422, "/from", "no field"},
		{parent.ID, "rerun", `{"from":"render"}`, 422, "/from", "script, safety, profile, train_voice, tts, lipsync"},
		{parent.ID, "rerun", `{"from":""}`, 422, "/from", "empty"},
		{parent.ID, "rerun", `{"from":7}`, 422, "/from", "string"},
		{parent.ID, "rerun", `{"script":"…"}`, 422, "/script", "letter or digit"},
		{parent.ID, "rerun", `{"script":"  "}`, 422, "/script", "letter or digit"},
		{parent.ID, "rerun", `{"script":"` + strings.Repeat("ä", 5001) + `"}`, 422, "/script", "5000"},
		{parent.ID, "rerun", `{"options":{"fps":500}}`, 422, "/options/fps", "from 10 to 60"},
		{parent.ID, "rerun", `{"options":{"hats":1}}`, 422, "/options/hats", "resolution"},
		{parent.ID, "rerun", `{"options":{"fps":{}}}`, 422, "/options/fps", "number"},
		{parent.ID, "rerun", `{"portrait":"a"}`, 422, "/portrait", "no field"},
		{noop.ID, "rerun", `{"script":"hello"}`, 422, "/script", "says nothing"},
		{noop.ID, "rerun", `{"from":"assemble","options":{"work_ms":60001}}`, 422, "/from", "script, tts, render, lipsync"},
		{parent.ID, "rerun", `[]`, 400, "", "object"},
	} {
		a := w.post("/api/jobs/"+c.id+"/"+c.verb, c.body)
		if a.status != c.status || !strings.Contains(string(a.body), `"pointer":"`+c.pointer) && c.pointer != "" || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s %.60s: %d %s; want %d at %s with %q", c.verb, c.body, a.status, a.body, c.status, c.pointer, c.says)
		}
	}
	ok(t, w.server.cfg.Keyring.Erase(t.Context(), objectKey(w.decider.state(parent.ID))))
	w.refused(http.StatusGone, codeContentErased, "/api/jobs/"+parent.ID+"/retry", "")
	if n, m := len(w.records(events.TopicJobCommands)), w.stored(); n != before || m != stored {
		t.Errorf("%d commands and %d objects, %d and %d before", n, m, before, stored)
	}
	w.refused(http.StatusNotFound, codeNotFound, "/api/jobs/"+uuid.NewString()+"/rerun", `{"from":"script"}`)
}

func TestTheWordsOfARequestHaveDigests(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	job := w.submit(`{"variant":"sadtalker","script":" said ","prompt":"about","voice_transcript":"heard","portrait":"` + w.portrait() + `","voice":["` + w.uploaded(wavFile(2)) + `"]}`)
	w.planned(job.ID)
	for name, text := range map[string]string{"script": "said", "prompt": "about", "voice_transcript": "heard"} {
		if got := w.request(job.ID).Inputs[name].Digest; got != w.keyring.Digest(tenant, text) {
			t.Errorf("%s has digest %q", name, got)
		}
	}
}
