// Tests of profiles as a resource: made, changed and put aside over HTTP.

package api

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
)

func (w *world) patch(id, body string, header ...string) answer {
	w.t.Helper()
	h := map[string]string{"Content-Type": "application/json"}
	for i := 0; i+1 < len(header); i += 2 {
		h[header[i]] = header[i+1]
	}
	return w.do(http.MethodPatch, "/api/profiles/"+id, h, strings.NewReader(body))
}

// changed is the profile after a change.
func (w *world) changed(id, body string, header ...string) (p profileView) {
	w.t.Helper()
	w.want(http.StatusOK, w.patch(id, body, header...)).decode(w.t, &p)
	return p
}

// profileOf makes a profile with a portrait and a consent.
func (w *world) profileOf(label string) (p profileView) {
	w.t.Helper()
	w.want(http.StatusCreated, w.post("/api/profiles", jsonBody(w.t, map[string]any{
		"label": label, "portrait": w.portrait(), "consent": map[string]string{"by": label + "-by", "statement": label + "-statement"},
	}))).decode(w.t, &p)
	return p
}

// profileFacts are the types of what happened to a profile.
func (w *world) profileFacts(id string) (types []string) {
	w.t.Helper()
	for _, r := range w.records(events.TopicProfileEvents) {
		m, err := events.Decode(r.Value)
		ok(w.t, err)
		if m.AggregateID == id {
			types = append(types, m.Type())
		}
	}
	return types
}

func (w *world) profilesListed(query string) (ids []string) {
	w.t.Helper()
	var page listOf[profileView]
	w.want(http.StatusOK, w.get("/api/profiles"+query)).decode(w.t, &page)
	for _, p := range page.Items {
		ids = append(ids, p.ID)
	}
	return ids
}

func TestAProfileIsMadeOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	portrait, voice := w.portrait(), w.uploaded(wavFile(2))
	body := jsonBody(t, map[string]any{"label": " canary-label ", "portrait": portrait, "voice": voice, "voice_transcript": "canary-transcript",
		"consent": map[string]string{"by": "canary-by", "statement": "canary-statement"}})
	a := w.want(http.StatusCreated, w.post("/api/profiles", body, "Idempotency-Key", "one"))
	var p profileView
	a.decode(t, &p)
	if a.header.Get("Location") != "/api/profiles/"+p.ID || p.Status != "active" || p.Version != 4 || *p.Label != "canary-label" || *p.Consent.By != "canary-by" ||
		*p.Transcript != "canary-transcript" || *p.Portrait.Width != 80 || *p.Voice.DurationMS != 2000 || p.Lora != nil || p.ErasedAt != nil || p.Content != contentAvailable {
		t.Errorf("profile %+v", p)
	}
	var q profileView
	w.want(http.StatusOK, w.get("/api/profiles/"+p.ID)).decode(t, &q)
	if got := w.profilesListed(""); *q.Label != "canary-label" || !slices.Equal(got, []string{p.ID}) {
		t.Errorf("it is read as %+v and listed as %v", q, got)
	}
	var wait sync.WaitGroup
	for range 20 { // the same request again is the same profile
		wait.Go(func() {
			var again profileView
			w.want(http.StatusCreated, w.post("/api/profiles", body, "Idempotency-Key", "one")).decode(t, &again)
			if again.ID != p.ID || again.Version != 4 {
				t.Errorf("again: %+v", again)
			}
		})
	}
	wait.Wait()
	w.refused(422, codeKeyConflict, "/api/profiles", `{"label":"another"}`, "Idempotency-Key", "one")
	if got := w.profileFacts(p.ID); !slices.Equal(got, []string{"profile.created", "profile.consent_recorded", "profile.portrait_attached", "profile.voice_attached"}) {
		t.Errorf("facts %v", got)
	}
	for _, topic := range []string{events.TopicProfileCommands, events.TopicProfileEvents} {
		for _, r := range w.records(topic) {
			if strings.Contains(string(r.Value), "canary") {
				t.Errorf("a text lies in clear on %s: %s", topic, r.Value)
			}
		}
	}
	// A job uses it.
	job := w.submit(`{"mode":"generate_from_profile","profile_id":"` + p.ID + `","variant":"sadtalker","script":"hello"}`)
	eventually(t, "the job's video is there", func() bool { return w.decider.state(job.ID).State == "succeeded" })
}

func TestWhatIsWrongWithAProfileIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	image, long := w.portrait(), w.uploaded(wavFile(61))
	for body, want := range map[string][]string{
		`{}`:                            {"/label field_missing"},
		`{"label":"  "}`:                {"/label text_empty"},
		`{"label":"a","name":"b"}`:      {"/name field_unknown"},
		`{"label":"a","consent":{}}`:    {"/consent/by field_missing", "/consent/statement field_missing"},
		`{"label":"a","consent":null}`:  {"/consent type_wrong"},
		`{"label":"a","archived":true}`: {"/archived field_unknown"},
		`{"label":7,"portrait":"` + uuid.NewString() + `","voice":"` + image + `"}`: {"/label type_wrong", "/portrait upload_unknown", "/voice upload_wrong_type"},
		`{"label":"a","voice":"` + long + `"}`:                                      {"/voice out_of_range"},
		`{"label":"a","voice_transcript":"la"}`:                                     {"/voice_transcript input_unused"},
	} {
		p := w.refused(422, codeInvalid, "/api/profiles", body)
		var got []string
		for _, f := range p.Errors {
			got = append(got, f.Pointer+" "+f.Code)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
	w.want(400, w.get("/api/profiles?status=gone"))
	if n := len(w.records(events.TopicProfileCommands)); n != 0 {
		t.Errorf("%d commands were written", n)
	}
	p := w.profileOf("Ada")
	foreign := uuid.NewString()
	w.makeProfile(foreign, "somebody-else", "Alan")
	for _, id := range []string{uuid.NewString(), foreign} {
		w.want(404, w.patch(id, `{"label":"a"}`))
		w.want(404, w.do(http.MethodDelete, "/api/profiles/"+id, nil, nil))
	}
	w.want(422, w.patch(p.ID, `{"consent":{"by":"a"}}`))
	w.want(422, w.patch(p.ID, `{"nothing":1}`))
	w.want(422, w.patch("abc", `{"label":"a"}`))
	if got := w.changed(p.ID, `{}`); got.Version != p.Version {
		t.Errorf("a change of nothing: %+v", got)
	}
	if got := w.profileFacts(p.ID); len(got) != 3 {
		t.Errorf("facts %v", got)
	}
}

// TestAProfileIsChanged goes through everything that can be changed, and asks for a job
// after each: it is refused where the profile may not be used.
func TestAProfileIsChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	p := w.profileOf("Ada")
	body := `{"mode":"generate_from_profile","profile_id":"` + p.ID + `","variant":"sadtalker","script":"hello"}`
	parent := w.submit(body).ID
	eventually(t, "its video is there", func() bool { return w.decider.state(parent).State == "succeeded" })
	w.inTables(parent, w.decider.state(parent).Chain.Version)
	barred := func(code string) {
		t.Helper()
		eventually(t, "the API knows of the change", func() bool {
			known, err := w.server.known.profile(tenant, p.ID)
			ok(t, err)
			w.decider.mu.Lock()
			defer w.decider.mu.Unlock()
			return known.Chain == w.decider.profiles[p.ID].Chain
		})
		if code == "" {
			w.submit(body)
			return
		}
		for _, path := range []string{"/api/jobs", "/api/jobs/" + parent + "/retry"} {
			sent := body
			if path != "/api/jobs" {
				sent = "{}"
			}
			if got := w.refused(422, codeInvalid, path, sent); got.Errors[0].Code != code || got.Errors[0].Pointer != "/profile_id" || !strings.Contains(got.Detail, "PATCH") {
				t.Errorf("%s: %+v, want %s", path, got, code)
			}
		}
	}
	for _, step := range []struct {
		body, barred string
		holds        func(profileView) bool
	}{
		{`{"label":"Grace"}`, "", func(p profileView) bool { return *p.Label == "Grace" && *p.Consent.By == "Ada-by" }},
		{`{"consent":null}`, "consent_missing", func(p profileView) bool { return p.Consent == nil && p.ConsentWithdrawnAt != nil }},
		{`{"consent":{"by":"G","statement":"again"}}`, "", func(p profileView) bool { return *p.Consent.Statement == "again" && p.ConsentWithdrawnAt == nil }},
		{`{"archived":true}`, "profile_archived", func(p profileView) bool { return p.Status == "archived" && p.ArchivedAt != nil && *p.Label == "Grace" }},
		{`{"label":"Hopper","archived":true}`, "profile_archived", func(p profileView) bool { return p.Status == "archived" && *p.Label == "Hopper" }},
		{`{"archived":false,"portrait":"` + w.uploaded(pngFile(t, 64, 96)) + `","voice":"` + w.uploaded(wavFile(3)) + `","voice_transcript":"la"}`, "",
			func(p profileView) bool {
				return p.Status == "active" && *p.Portrait.Height == 96 && *p.Transcript == "la" && *p.Voice.DurationMS == 3000
			}},
	} {
		before := len(w.profileFacts(p.ID))
		got := w.changed(p.ID, step.body, "Idempotency-Key", step.body[:9])
		if !step.holds(got) {
			t.Errorf("%s: %+v", step.body, got)
		}
		again := w.changed(p.ID, step.body, "Idempotency-Key", step.body[:9])
		if facts := len(w.profileFacts(p.ID)); again.Version != got.Version || facts == before || int64(facts) != got.Version {
			t.Errorf("%s again: version %d, then %d, %d facts", step.body, got.Version, again.Version, facts)
		}
		barred(step.barred)
		want := map[string][]string{"": {p.ID}, "profile_archived": nil}[step.barred]
		if step.barred == "consent_missing" {
			want = []string{p.ID}
		}
		if got := w.profilesListed(""); !slices.Equal(got, want) {
			t.Errorf("%s: listed are %v", step.body, got)
		}
		if got := w.profilesListed("?status=active,archived"); !slices.Equal(got, []string{p.ID}) {
			t.Errorf("%s: asked for all, listed are %v", step.body, got)
		}
	}
}

func TestCommandsToProfilesWhileSomethingIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{config: func(c *Config) { c.ReplyTimeout = time.Second }})
	p := w.profileOf("Ada")
	remove := func() answer { return w.do(http.MethodDelete, "/api/profiles/"+p.ID, nil, nil) }
	// Nobody replies: asked for is all that is known.
	w.decider.mute.Store(true)
	var asked profileAsked
	w.within(3*time.Second, func() answer { return w.want(http.StatusAccepted, w.patch(p.ID, `{"label":"Grace"}`)) }).decode(t, &asked)
	if asked.Outcome != outcomePending || asked.Version != nil || asked.Command != "change" {
		t.Errorf("without a reply: %+v", asked)
	}
	w.decider.mute.Store(false)
	eventually(t, "it is done", func() bool { w.want(200, w.get("/api/profiles/"+p.ID)).decode(t, &p); return *p.Label == "Grace" })
	// The tables do not answer: the reply says what is known.
	w.freeze("tables")
	w.within(3*time.Second, func() answer { return w.want(http.StatusAccepted, w.patch(p.ID, `{"label":"Hopper"}`)) }).decode(t, &asked)
	if asked.Outcome != "accepted" || *asked.Version != p.Version+1 || *asked.Status != "active" {
		t.Errorf("without tables: %+v", asked)
	}
	// The log does not answer: nothing is known, and nothing is lost by asking again.
	w.freeze("log, tables")
	for name, send := range map[string]func() answer{
		"change": func() answer { return w.patch(p.ID, `{"archived":true}`, "Idempotency-Key", "k") },
		"create": func() answer { return w.post("/api/profiles", `{"label":"a"}`) },
		"erase":  remove,
	} {
		if a := w.within(3*time.Second, send); a.status != 503 || !strings.Contains(string(a.body), codeLogUnavailable) || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}
