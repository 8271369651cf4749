// Tests of erasing a profile over HTTP, with what the notifier's role erases it with.

package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/erasure"
	"github.com/myspinbot/myspinbot/internal/objects"
)

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
	w.want(422, w.patch(p.ID, `{"archived":"no"}`))
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

// decodedJSON is any JSON value.
func decodedJSON(t *testing.T, text []byte) (v any) {
	t.Helper()
	answer{body: text}.decode(t, &v)
	return v
}
