// Tests of profiles as a resource: made, changed, put aside and erased over HTTP.

package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/erasure"
	"github.com/myspinbot/myspinbot/internal/objects"
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

// erasing runs what the notifier's role erases with.
func (w *world) erasing() {
	e, err := erasure.New(erasure.Config{Log: w.log, Keys: w.keyring, Objects: w.objects, Quiet: 200 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	ok(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	w.t.Cleanup(func() { cancel(); ok(w.t, <-done) })
}

func (w *world) erase(id string, header map[string]string) (asked profileAsked) {
	w.t.Helper()
	w.want(http.StatusAccepted, w.do(http.MethodDelete, "/api/profiles/"+id, header, nil)).decode(w.t, &asked)
	return asked
}

// TestAfterAnErasureNothingOpens erases a profile of which one job has ended and another
// waits: no key, no object and no row opens a text afterwards, and no request brings it back.
func TestAfterAnErasureNothingOpens(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{manual: true})
	other := w.profileOf("Alan")
	portrait := w.portrait()
	var p profileView
	create := jsonBody(t, map[string]any{"label": "canary-label", "portrait": portrait, "voice": w.uploaded(wavFile(2)), "voice_transcript": "canary-said",
		"consent": map[string]string{"by": "canary-by", "statement": "canary-statement"}})
	w.want(http.StatusCreated, w.post("/api/profiles", create, "Idempotency-Key", "canary")).decode(t, &p)
	body := jsonBody(t, map[string]any{"mode": "generate_from_profile", "profile_id": p.ID, "variant": "sadtalker", "script": canaryScript})
	ended, waiting := w.submit(body).ID, w.submit(body).ID
	w.planned(ended)
	w.inTables(ended, w.finish(ended))
	w.planned(waiting)
	var job jobView
	w.want(http.StatusOK, w.get("/api/jobs/"+ended)).decode(t, &job)
	video := "/api/artifacts/" + job.Outputs["video"][0] + "/content"
	w.want(http.StatusOK, w.get(video))
	sealed := sealedIn(t, w, p.ID, ended, waiting)

	w.erasing()
	if asked := w.erase(p.ID, map[string]string{"Idempotency-Key": "e"}); asked.Outcome != "accepted" || *asked.Status != "erasing" || asked.Command != "erase" {
		t.Errorf("answer %+v", asked)
	}
	eventually(t, "the profile is erased", func() bool {
		w.want(http.StatusOK, w.get("/api/profiles/"+p.ID)).decode(t, &p)
		return p.Status == "erased"
	})
	if p.Label != nil || p.Consent != nil || p.Portrait != nil || p.Voice != nil || p.Transcript != nil || p.Content != contentErased || p.ErasedAt == nil || !p.ErasureCompletedAt.After(*p.ErasedAt) {
		t.Errorf("profile %+v", p)
	}
	// Neither key nor object: not through the log's sealed texts, not by any name.
	fresh := objects.NewKeyring(w.objects, [32]byte{7})
	for _, s := range sealed {
		if text, err := fresh.Open(t.Context(), s); !errors.Is(err, objects.ErrErased) {
			t.Errorf("a text under %s opens: %q, %v", s.Key, text, err)
		}
	}
	for info, err := range w.objects.List(t.Context(), "") {
		ok(t, err)
		if strings.Contains(info.URI, p.ID) || strings.Contains(info.URI, portrait) {
			t.Errorf("%s is left", info.URI)
		}
	}
	// No row: neither the tables nor what the API makes of them.
	var rows int
	ok(t, w.pool.QueryRow(t.Context(), `SELECT count(*) FROM myspinbot.profiles WHERE id = $1 AND num_nulls(name, consent, portrait, voice, lora, transcript) = 6`, p.ID).Scan(&rows))
	if rows != 1 {
		t.Error("the profile's row keeps something of its content")
	}
	eventually(t, "the job that waited is cancelled", func() bool { return w.decider.state(waiting).State == "cancelled" })
	w.inTables(waiting, w.decider.state(waiting).Chain.Version)
	w.server.keyring = w.freshKeyring()
	for _, path := range []string{"/api/jobs/" + ended, "/api/jobs/" + waiting, "/api/jobs", "/api/jobs/" + ended + "/events", "/api/profiles?status=active,erased", "/api/jobs/" + ended + "?at=2999-01-01T00:00:00Z"} {
		if a := w.want(http.StatusOK, w.get(path)); strings.Contains(string(a.body), "canary") {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	w.want(http.StatusOK, w.get("/api/jobs/"+ended)).decode(t, &job)
	if job.Content != contentErased || job.Profile.ID != p.ID || job.Profile.Label != nil {
		t.Errorf("job %+v", job)
	}
	w.want(http.StatusGone, w.get(video))
	w.want(http.StatusGone, w.patch(p.ID, `{"archived":false}`))
	if got := w.refused(422, codeInvalid, "/api/jobs", body); got.Errors[0].Code != "profile_erased" {
		t.Errorf("a job of it: %+v", got)
	}
	w.refused(422, codeInvalid, "/api/jobs/"+ended+"/retry", "{}")
	if again := w.erase(p.ID, nil); *again.Status != "erased" {
		t.Errorf("again: %+v", again)
	}
	w.want(http.StatusCreated, w.post("/api/profiles", create, "Idempotency-Key", "canary")).decode(t, &p) // the same key is the same profile
	if p.Status != "erased" || p.Label != nil {
		t.Errorf("the request that made it, again: %+v", p)
	}
	if got := w.profilesListed(""); !slices.Equal(got, []string{other.ID}) {
		t.Errorf("listed are %v", got)
	}
	w.want(http.StatusOK, w.get("/api/profiles/"+other.ID)).decode(t, &other)
	if *other.Label != "Alan" || other.Content != contentAvailable {
		t.Errorf("another profile: %+v", other)
	}
}

// sealedIn are all texts that lie sealed on the log in facts of these.
func sealedIn(t *testing.T, w *world, ids ...string) (out []events.Sealed) {
	t.Helper()
	clear := 0
	for _, topic := range []string{events.TopicProfileEvents, events.TopicJobEvents} {
		for _, r := range w.records(topic) {
			if !slices.Contains(ids, r.Key) {
				continue
			}
			var walk func(v any)
			walk = func(v any) {
				switch v := v.(type) {
				case []any:
					for _, x := range v {
						walk(x)
					}
				case map[string]any:
					if s, is := asSealed(v); is {
						text, err := w.keyring.Open(t.Context(), *s)
						ok(t, err)
						if out = append(out, *s); strings.Contains(text, "canary") {
							clear++
						}
					}
					for _, x := range v {
						walk(x)
					}
				}
			}
			walk(decodedJSON(t, r.Value))
		}
	}
	if clear < 6 { // the profile's four, and scripts
		t.Fatalf("only %d of %d texts are those that were written", clear, len(out))
	}
	return out
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

// decodedJSON is any JSON value.
func decodedJSON(t *testing.T, text []byte) (v any) {
	t.Helper()
	answer{body: text}.decode(t, &v)
	return v
}
