// Tests of submitting: what lies on the log and in the store afterwards, repeats, names, modes.

package api

import (
	"bytes"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

const canaryScript = "script-canary, spoken to the world"

func (w *world) submit(body string, header ...string) accepted {
	w.t.Helper()
	var job accepted
	w.want(http.StatusAccepted, w.post("/api/jobs", body, header...)).decode(w.t, &job)
	return job
}

func (w *world) portrait() string {
	w.t.Helper()
	return w.uploaded(pngFile(w.t, 80, 64))
}

func TestASubmissionBecomesOneCommandWithEverythingItNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	portrait, voice := w.portrait(), w.uploaded(wavFile(2))
	body := jsonBody(t, map[string]any{
		"variant": "sadtalker", "script": canaryScript, "portrait": portrait, "voice": []string{voice}, "profile_name": "canary-name",
		"voice_transcript": "canary-transcript", "consent": map[string]string{"by": "canary-by", "statement": "canary-statement"},
		"options": map[string]any{"fps": 30},
	})
	a := w.want(http.StatusAccepted, w.post("/api/jobs", body))
	var job accepted
	a.decode(t, &job)
	if a.header.Get("Location") != "/api/jobs/"+job.ID || job.Position != job.ID+":3" || job.Status != "queued" || *job.Profile.Label != "canary-name" {
		t.Errorf("answer %s, Location %q", a.body, a.header.Get("Location"))
	}
	records := w.records(events.TopicJobCommands)
	if len(records) != 1 || records[0].Key != job.ID || records[0].Header("ce_type") != "job.submit" || records[0].Header(traceParent) == "" {
		t.Fatalf("commands %+v", records)
	}
	m, err := events.Decode(records[0].Value)
	ok(t, err)
	r := m.Data.(events.JobSubmit).Request
	folder := "default/" + events.ProfileIDOfJob(job.ID) + "/" + job.ID + "/"
	for _, input := range []string{"portrait", "voice"} {
		got := r.Inputs[input].Artifacts[0]
		if !strings.Contains(got.URI, "/"+folder) || got.Type != input || got.ID == "" {
			t.Errorf("%s is %+v, want it in folder %s", input, got, folder)
		}
		if info, err := w.objects.Stat(t.Context(), got.URI); err != nil || info.SHA256 != got.SHA256 || info.Size != got.Size {
			t.Errorf("the object of %s: %+v, %v", input, info, err)
		}
	}
	if r.ProfileID != events.ProfileIDOfJob(job.ID) || r.Options["fps"] != 30.0 || r.Workflow != aggregates.WorkflowTrainAndGenerate || m.CommandID != m.ID || m.Tenant != "default" {
		t.Errorf("request %+v of message %+v", r, m)
	}
	if text, err := w.keyring.Open(t.Context(), *r.Inputs["script"].Text); err != nil || text != canaryScript {
		t.Errorf("script %q, %v", text, err)
	}
	eventually(t, "the job is in the tables", func() bool { return w.get("/api/jobs/"+job.ID+"?position="+job.Position).status == http.StatusOK })
	w.noCanary()
}

// noCanary searches every record for texts in clear.
func (w *world) noCanary() {
	w.t.Helper()
	for _, topic := range []string{events.TopicJobCommands, events.TopicJobEvents, events.TopicProfileEvents} {
		for _, r := range w.records(topic) {
			if bytes.Contains(r.Value, []byte("canary")) {
				w.t.Errorf("text in clear on %s: %s", topic, r.Value)
			}
		}
	}
}

func TestAJobIsReadWholeAfterItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	job := w.submit(jsonBody(t, map[string]any{"variant": "sadtalker", "script": canaryScript, "portrait": w.portrait()}))
	var got jobView
	eventually(t, "the job succeeds", func() bool {
		a := w.get("/api/jobs/" + job.ID)
		a.decode(t, &got)
		return got.Status == "succeeded"
	})
	if got.Progress != 1 || *got.Request.Script != canaryScript || got.Content != contentAvailable || len(got.Outputs["video"]) != 1 ||
		len(got.Artifacts) == 0 || len(got.RecentEvents) < 20 || len(got.Graph.Nodes) != len(got.Stages) || got.FinishedAt == nil {
		t.Errorf("job %+v", got)
	}
	if want := "Profile " + events.ProfileIDOfJob(job.ID)[:8]; job.Profile == nil || *job.Profile.Label != want {
		t.Errorf("profile %+v, want label %q", job.Profile, want)
	}
	trail := w.want(http.StatusOK, w.get("/api/jobs/"+job.ID+"/events?limit=200"))
	if !bytes.Contains(trail.body, []byte(canaryNarration)) || bytes.Contains(trail.body, []byte(`"sealed"`)) {
		t.Error("the trail does not show its texts opened")
	}
	w.noCanary()

	// Once the key is gone, the job is shown without its content.
	ok(t, w.server.cfg.Keyring.Erase(t.Context(), objectKey(w.decider.state(job.ID))))
	w.want(http.StatusOK, w.get("/api/jobs/"+job.ID)).decode(t, &got)
	if got.Request.Script != nil || got.Content != contentErased {
		t.Errorf("after erasure: script %v, content %s", got.Request.Script, got.Content)
	}
}

func TestARepeatWithTheSameKeyIsTheSameJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	portrait := w.portrait()
	body := `{"variant":"sadtalker","script":"hello","portrait":"` + portrait + `"}`
	reordered := "{\n \"portrait\":\"" + portrait + "\", \"script\":\"hello\", \"variant\":\"sadtalker\"}"
	first := w.submit(body, "Idempotency-Key", "order-17")
	if first.ID != events.JobID("default", "/api/jobs", "order-17") {
		t.Errorf("job id %s is not derived from the key", first.ID)
	}
	if again := w.submit(reordered, "Idempotency-Key", "order-17"); again.ID != first.ID || again.Position != first.Position {
		t.Errorf("repeat is %+v, want %+v", again, first)
	}
	eventually(t, "the job is in the tables", func() bool { return w.get("/api/jobs/"+first.ID+"?position="+first.Position).status == http.StatusOK })

	// A replica that never saw the request finds it in the tables.
	w.server.accepted.clear()
	if again := w.submit(body, "Idempotency-Key", "order-17"); again.ID != first.ID {
		t.Errorf("repeat elsewhere is %s, want %s", again.ID, first.ID)
	}
	for range 2 {
		var p problem
		w.want(http.StatusUnprocessableEntity, w.post("/api/jobs", `{"script":"other","portrait":"`+portrait+`"}`, "Idempotency-Key", "order-17")).decode(t, &p)
		if p.Code != codeKeyConflict || !strings.Contains(p.Detail, first.ID) {
			t.Errorf("another body under the key: %+v", p)
		}
		w.server.accepted.add(first.ID, submission{tenant: tenant, bodyDigest: "something else"})
	}
	// Another route is another name space.
	if other := w.want(http.StatusAccepted, w.post("/api/train", body, "Idempotency-Key", "order-17")); bytes.Contains(other.body, []byte(first.ID)) {
		t.Error("two routes share a key")
	}
	if n := len(w.records(events.TopicJobCommands)); n != 2 {
		t.Errorf("%d commands lie on the log, want 2", n)
	}
}

func TestARepeatWithTablesDownIsTheSameCommand(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	body := `{"variant":"sadtalker","script":"hello","portrait":"` + w.portrait() + `"}`
	first := w.submit(body, "Idempotency-Key", "k")
	w.tableNet.Cut()
	w.server.accepted.clear()
	if again := w.submit(body, "Idempotency-Key", "k"); again.ID != first.ID {
		t.Errorf("job %s, want %s", again.ID, first.ID)
	}
	records := w.records(events.TopicJobCommands)
	if len(records) != 2 {
		t.Fatalf("%d commands, want 2", len(records))
	}
	a, err := events.Decode(records[0].Value)
	ok(t, err)
	b, err := events.Decode(records[1].Value)
	ok(t, err)
	if a.ID != b.ID || a.CommandID != b.CommandID {
		t.Errorf("commands %s and %s, want one id", a.ID, b.ID)
	}
}

func TestTheSeedsRoutesTakeCamelCase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	a := w.want(http.StatusAccepted, w.post("/api/train", `{"prompt":"a shop","portrait":"`+w.portrait()+`","options":{"durationSeconds":3},"profileName":"Ada"}`))
	var job accepted
	a.decode(t, &job)
	if job.JobID != job.ID || job.WorkflowID != aggregates.WorkflowTrainAndGenerate || job.Variant != aggregates.VariantSVDWav2Lip ||
		*job.ProfileID != events.ProfileIDOfJob(job.ID) || job.Request.Options["duration_seconds"] != 3.0 || *job.Profile.Label != "Ada" {
		t.Errorf("answer %s", a.body)
	}
	var p problem
	w.want(422, w.post("/api/train", `{"prompt":"a","portrait":"`+w.portrait()+`","options":{"durationSeconds":99}}`)).decode(t, &p)
	if len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Detail, "from 1 to 60") {
		t.Errorf("problem %+v", p)
	}
	w.want(422, w.post("/api/jobs", `{"prompt":"a","profileName":"Ada"}`))
}

func TestWhenAndHowAJobRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	at := time.Now().Add(48 * time.Hour).In(time.FixedZone("", 3600)).Truncate(time.Second)
	body := `{"script":"hi","portrait":"` + w.portrait() + `","approval":true,"priority":"batch","notBefore":"` + at.Format(time.RFC3339) + `"}`
	var job accepted
	w.want(http.StatusAccepted, w.post("/api/train", body)).decode(t, &job)
	if job.Status != "scheduled" || !job.NotBefore.Equal(at) || job.Priority != "batch" || !job.Request.Approval {
		t.Errorf("answer %+v", job)
	}
	w.planned(job.ID)
	if r := w.decider.state(job.ID).Request; r.NotBeforeMS != at.UnixMilli() || r.Priority != "batch" || !r.Approval {
		t.Errorf("request %+v", r)
	}
	var got jobView
	w.want(http.StatusOK, w.get("/api/jobs/"+job.ID+"?position="+job.Position)).decode(t, &got)
	if got.Status != "scheduled" || !got.NotBefore.Equal(at) || got.Priority != "batch" || got.Approval != nil {
		t.Errorf("job %+v", got)
	}
	// A time that has passed is at once.
	late := w.submit(`{"mode":"diagnostic","not_before":"2020-01-01T00:00:00Z"}`)
	if late.Status != "queued" || late.NotBefore != nil || late.Priority != "interactive" {
		t.Errorf("answer %+v", late)
	}
}

func TestGenerateUsesAProfileOfTheTenant(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	mine, foreign := uuid.NewString(), uuid.NewString()
	w.makeProfile(mine, "default", "Grace")
	w.makeProfile(foreign, "somebody-else", "Alan")
	var job accepted
	w.want(http.StatusAccepted, w.post("/api/generate", `{"profileId":"`+mine+`","script":"hi"}`)).decode(t, &job)
	if job.Mode != aggregates.ModeGenerateFromProfile || job.Profile.ID != mine || *job.Profile.Label != "Grace" {
		t.Errorf("job %+v", job)
	}
	var p, q problem
	w.want(422, w.post("/api/generate", `{"profileId":"`+foreign+`","script":"hi"}`)).decode(t, &p)
	w.want(422, w.post("/api/generate", `{"profileId":"`+uuid.NewString()+`","script":"hi"}`)).decode(t, &q)
	if p.Detail != q.Detail || p.Errors[0].Code != "profile_unknown" {
		t.Errorf("a foreign profile answers %+v, an unknown one %+v", p, q)
	}
	eventually(t, "the profile is listed", func() bool { return strings.Contains(string(w.get("/api/profiles").body), "Grace") })
	if list := w.get("/api/profiles"); strings.Contains(string(list.body), foreign) {
		t.Errorf("foreign profile in the list: %s", list.body)
	}
	w.want(http.StatusOK, w.get("/api/profiles/"+mine))
	w.want(http.StatusNotFound, w.get("/api/profiles/"+foreign))
}

func TestPreferWaitAnswersWithTheFinishedJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	body := jsonBody(t, map[string]any{"variant": "sadtalker", "script": "hi", "portrait": w.portrait()})
	var job accepted
	w.want(http.StatusOK, w.post("/api/jobs", body, "Prefer", "respond-async, wait=20")).decode(t, &job)
	if job.Status != "succeeded" || job.Version < 10 {
		t.Errorf("job %s version %d", job.Status, job.Version)
	}
	w.want(http.StatusBadRequest, w.post("/api/jobs", body, "Prefer", "wait=soon"))
}

// TestPreferRespondAsyncWaitsForNobody has a job handler that never answers: the wait for
// its word would take longer than the whole test may.
func TestPreferRespondAsyncWaitsForNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, config: func(c *Config) { c.ReplyTimeout = time.Hour }})
	w.decider.mute.Store(true)
	got := w.post("/api/jobs", diagnostic, "Prefer", "respond-async")
	var job accepted
	w.want(http.StatusAccepted, got).decode(t, &job)
	if applied := got.header.Get("Preference-Applied"); applied != "respond-async" {
		t.Errorf("Preference-Applied is %q", applied)
	}
	if n := len(w.records(events.TopicJobCommands)); n != 1 {
		t.Errorf("%d commands lie on the log", n)
	}
}

// TestPreferReturnMinimalSaysWhereTheJobIs: what a brief answer says is what the whole one says.
func TestPreferReturnMinimalSaysWhereTheJobIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	w.decider.mute.Store(true)
	got := w.post("/api/jobs", diagnostic, "Prefer", "return=minimal, respond-async", "Idempotency-Key", "brief")
	var brief map[string]any
	w.want(http.StatusAccepted, got).decode(t, &brief)
	if applied := got.header.Get("Preference-Applied"); applied != "respond-async, return=minimal" {
		t.Errorf("Preference-Applied is %q", applied)
	}
	var whole accepted
	w.want(http.StatusAccepted, w.post("/api/jobs", diagnostic, "Prefer", "respond-async", "Idempotency-Key", "brief")).decode(t, &whole)
	want := map[string]any{"id": whole.ID, "status": whole.Status, "version": 0.0, "position": whole.Position}
	if !reflect.DeepEqual(brief, want) || got.header.Get("Location") != "/api/jobs/"+whole.ID {
		t.Errorf("a brief answer is %v at %s, the whole one says %v", brief, got.header.Get("Location"), want)
	}
	later := jsonBody(t, map[string]any{"mode": "diagnostic", "not_before": time.Now().Add(time.Hour).Format(time.RFC3339)})
	w.want(http.StatusAccepted, w.post("/api/jobs", later, "Prefer", "respond-async,return=minimal")).decode(t, &brief)
	if brief["status"] != "scheduled" {
		t.Errorf("a job for later is %v", brief)
	}
}

// A diagnostic job has no text, and so nothing of it to erase lies in the store.
func TestADiagnosticJobHasNoContentKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	before := w.stored()
	var job accepted
	w.want(http.StatusAccepted, w.post("/api/jobs", diagnostic)).decode(t, &job)
	if n := w.stored(); n != before {
		t.Errorf("%d objects in the store, %d before", n, before)
	}
	w.want(http.StatusConflict, w.post("/api/jobs/"+job.ID+"/deny", `{"reason":"because"}`))
}

func TestPagesOfJobs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	portrait := w.portrait()
	want := map[string]bool{}
	var last accepted
	for range 5 {
		last = w.submit(`{"variant":"sadtalker","script":"hello","portrait":"` + portrait + `"}`)
		want[last.ID] = true
	}
	for id := range want {
		eventually(t, "all jobs are in the tables", func() bool { return w.get("/api/jobs/"+id+"?position="+id+":2").status == http.StatusOK })
	}
	seen := 0
	for next := ""; ; {
		var page listOf[jobView]
		w.want(http.StatusOK, w.get("/api/jobs?limit=2&status=queued,running&variant=sadtalker"+next)).decode(t, &page)
		for _, j := range page.Items {
			if !want[j.ID] || j.Graph != nil || j.Request != nil || len(j.Stages) == 0 {
				t.Errorf("row %+v", j)
			}
			delete(want, j.ID)
			seen++
		}
		if page.Next == nil {
			break
		}
		next = "&cursor=" + *page.Next
	}
	if len(want) > 0 || seen != 5 {
		t.Errorf("%d rows, missing %v", seen, want)
	}
	var empty listOf[jobView]
	w.want(http.StatusOK, w.get("/api/jobs?status=failed&mode=train_and_generate")).decode(t, &empty)
	if len(empty.Items) != 0 {
		t.Errorf("failed jobs: %+v", empty)
	}
}

// clear is what a restart does.
func (r *recent) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byJob, r.order, r.next = map[string]submission{}, nil, 0
}
