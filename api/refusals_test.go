// Tests of submissions that are refused: the field, the reason, what is allowed, and no trace left.

package api

import (
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// The submissions that must be refused, with the field, the reason and what is allowed.
var badSubmissions = []struct {
	name, path, body string
	status           int
	pointer, code    string
	says             string
}{
	{"no JSON", "/api/jobs", `{"script":`, 400, "", "", "byte"},
	{"not UTF-8", "/api/jobs", "{\"script\":\"\xff\"}", 400, "", "", "UTF-8"},
	{"an array", "/api/jobs", `[]`, 400, "", "", "JSON object"},
	{"two objects", "/api/jobs", `{} {}`, 400, "", "", "follows"},
	{"too deep", "/api/jobs", strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20), 400, "", "", "nested"},
	{"a field twice", "/api/jobs", `{"script":"a","script":"b"}`, 422, "/script", "field_repeated", "twice"},
	{"a field in both spellings", "/api/train", `{"profileName":"a","profile_name":"b"}`, 422, "/profileName", "field_repeated", "twice"},
	{"an unknown field", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","colour":"red"}`, 422, "/colour", "field_unknown", "allowed are approval, audio, consent, engines, images"},
	{"an unknown field within", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","consent":{"by":"a","statement":"b","on":"c"}}`, 422, "/consent/on", "field_unknown", "by, statement"},
	{"half a consent", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","consent":{"by":"a"}}`, 422, "/consent/statement", "field_missing", "consent.statement"},
	{"a wrong type", "/api/jobs", `{"script":7,"portrait":"PORTRAIT"}`, 422, "/script", "type_wrong", "string"},
	{"an unknown variant", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","variant":"hologram"}`, 422, "/variant", "value_unknown", "svd_wav2lip, sadtalker"},
	{"an unknown mode", "/api/train", `{"script":"a","portrait":"PORTRAIT","mode":"guess"}`, 422, "/mode", "value_unknown", "train_and_generate, generate_from_profile"},
	{"a mode that the pipeline is not", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","pipeline":"generate_from_profile_v1"}`, 422, "/pipeline", "workflow_mismatch", "train_and_generate_v1"},
	{"an option out of range", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","options":{"fps":500}}`, 422, "/options/fps", "option_invalid", "from 10 to 60"},
	{"an option of another type", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","options":{"resolution":720}}`, 422, "/options/resolution", "option_invalid", "576p, 720p, 1080p"},
	{"an option that is an object", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","options":{"fps":{}}}`, 422, "/options/fps", "type_wrong", "number, string, boolean"},
	{"an option beyond numbers", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","options":{"seed":1e999}}`, 422, "/options/seed", "", "seed"},
	{"an unknown option", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","options":{"hats":3}}`, 422, "/options/hats", "option_unknown", "resolution"},
	{"nothing to say", "/api/jobs", `{"portrait":"PORTRAIT"}`, 422, "/prompt", "input_missing", "prompt"},
	{"an empty prompt without a script", "/api/jobs", `{"prompt":"  ","portrait":"PORTRAIT"}`, 422, "/prompt", "input_missing", "prompt"},
	{"no portrait", "/api/train", ``, 422, "/portrait", "input_missing", "portrait"},
	{"a long script", "/api/jobs", `{"script":"` + strings.Repeat("ä", 5001) + `","portrait":"PORTRAIT"}`, 422, "/script", "too_long", "5000"},
	{"control characters", "/api/jobs", `{"script":"a\u0000b","portrait":"PORTRAIT"}`, 422, "/script", "format_wrong", "control"},
	{"an id that is none", "/api/jobs", `{"script":"a","portrait":"../../keys"}`, 422, "/portrait", "format_wrong", "UUID"},
	{"an unknown upload", "/api/jobs", `{"script":"a","portrait":"` + "6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d" + `"}`, 422, "/portrait", "upload_unknown", "/api/uploads"},
	{"sound as portrait", "/api/jobs", `{"script":"a","portrait":"VOICE"}`, 422, "/portrait", "upload_wrong_type", "image"},
	{"a picture as music", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","music":"PORTRAIT"}`, 422, "/music", "upload_wrong_type", "audio"},
	{"a picture as audio", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","audio":"PORTRAIT"}`, 422, "/audio", "upload_wrong_type", "audio"},
	{"audio that is not there", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","audio":"6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"}`, 422, "/audio", "upload_unknown", "/api/uploads"},
	{"audio without its words", "/api/jobs", `{"portrait":"PORTRAIT","audio":"VOICE"}`, 422, "/script", "input_missing", "the words that are said in audio"},
	{"audio and a prompt", "/api/train", `{"prompt":"a shop","script":"a","portrait":"PORTRAIT","audio":"VOICE"}`, 422, "/prompt", "input_unused", "leave prompt out"},
	{"audio and a voice", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","audio":"VOICE","options":{"voice":"rms"}}`, 422, "/options/voice", "input_unused", "heard as it was recorded"},
	{"a diagnostic job with audio", "/api/jobs", `{"mode":"diagnostic","audio":"VOICE"}`, 422, "/audio", "input_unused", "takes no audio"},
	{"too many takes", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","options":{"takes":5}}`, 422, "/options/takes", "option_invalid", "from 1 to 4"},
	{"music louder than the speech", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","options":{"music_level":3}}`, 422, "/options/music_level", "option_invalid", "from -40 to 0"},
	{"an unknown shape", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","options":{"aspect":"4:3","fit":"stretch","draft":"yes"}}`, 422, "/options/fit", "option_invalid", "cover, contain, blur"},
	{"a picture as voice", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","voice":["VOICE","PORTRAIT"]}`, 422, "/voice/1", "upload_wrong_type", "audio"},
	{"too many pictures", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","images":[` + strings.Repeat(`"PORTRAIT",`, 60) + `"PORTRAIT"]}`, 422, "/images", "too_many", "60"},
	{"training with a profile", "/api/train", `{"script":"a","portrait":"PORTRAIT","profile_id":"6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"}`, 422, "/profile_id", "input_unused", "generate_from_profile"},
	{"generating without a profile", "/api/generate", `{"script":"a"}`, 422, "/profileId", "input_missing", "profile"},
	{"generating with a portrait", "/api/generate", `{"script":"a","portrait":"PORTRAIT","profile_id":"6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"}`, 422, "/portrait", "input_unused", "portrait"},
	{"generating in another mode", "/api/generate", `{"script":"a","mode":"train_and_generate"}`, 422, "/mode", "mode_mismatch", "/api/jobs"},
	{"an unknown profile", "/api/generate", `{"script":"a","profile_id":"6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"}`, 422, "/profile_id", "profile_unknown", "no such profile"},
	{"an unknown profile, and where to look", "/api/generate", `{"script":"a","profileId":"6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"}`, 422, "/profileId", "profile_unknown", "GET /api/profiles"},
	{"an id that is none, in camelCase", "/api/generate", `{"script":"a","profileId":"abc"}`, 422, "/profileId", "format_wrong", "profileId must be an id"},
	{"an option beyond numbers, with its range", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","options":{"speed":1e400}}`, 422, "/options/speed", "option_invalid", "a number from 0.5 to 2"},
	{"a whole number in plain digits", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","options":{"seed":-1}}`, 422, "/options/seed", "option_invalid", "from 0 to 2147483647"},
	{"a script of emoji", "/api/jobs", `{"script":"🙂🙂","portrait":"PORTRAIT"}`, 422, "/script", "text_empty", "script holds no word: there must be at least one letter or digit"},
	{"a script of signs", "/api/train", `{"script":"...!!!","portrait":"PORTRAIT"}`, 422, "/script", "text_empty", "letter or digit"},
	{"a script without width", "/api/jobs", `{"script":"\u200b","portrait":"PORTRAIT"}`, 422, "/script", "text_empty", "letter or digit"},
	{"a script of fractions", "/api/jobs", `{"script":"½","portrait":"PORTRAIT"}`, 422, "/script", "text_empty", "letter or digit"},
	{"a prompt of signs", "/api/jobs", `{"prompt":"?! …","portrait":"PORTRAIT"}`, 422, "/prompt", "text_empty", "prompt holds no word"},
	{"a script of signs beside a prompt", "/api/jobs", `{"prompt":"a shop","script":"—","portrait":"PORTRAIT"}`, 422, "/script", "text_empty", "script holds no word"},
	{"a priority that is none", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","priority":"urgent"}`, 422, "/priority", "value_unknown", "interactive, batch"},
	{"approval in words", "/api/train", `{"script":"a","portrait":"PORTRAIT","approval":"yes"}`, 422, "/approval", "type_wrong", "boolean"},
	{"a time without a zone", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","not_before":"2026-12-24T18:00:00"}`, 422, "/not_before", "format_wrong", "with its zone"},
	{"a time that does not exist", "/api/train", `{"script":"a","portrait":"PORTRAIT","notBefore":"2026-02-30T18:00:00Z"}`, 422, "/notBefore", "format_wrong", "notBefore must be a time that exists"},
	{"a time far ahead", "/api/train", `{"script":"a","portrait":"PORTRAIT","notBefore":"2999-01-01T00:00:00Z"}`, 422, "/notBefore", "out_of_range", "30 days"},
	{"a time in seconds", "/api/jobs", `{"script":"a","portrait":"PORTRAIT","not_before":1800000000}`, 422, "/not_before", "type_wrong", "string"},
	{"a diagnostic job that says something", "/api/jobs", `{"mode":"diagnostic","variant":"noop","script":"a"}`, 422, "/script", "input_unused", "takes no script"},
	{"a diagnostic job of a person", "/api/jobs", `{"mode":"diagnostic","profile_id":"6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"}`, 422, "/profile_id", "input_unused", "takes no profile_id"},
	{"a diagnostic job that works for long", "/api/jobs", `{"mode":"diagnostic","options":{"work_ms":60001}}`, 422, "/options/work_ms", "option_invalid", "from 0 to 60000"},
	{"a diagnostic job that fails often", "/api/jobs", `{"mode":"diagnostic","options":{"fail_attempts":6}}`, 422, "/options/fail_attempts", "option_invalid", "from 0 to 5"},
	{"a diagnostic job of another variant", "/api/jobs", `{"mode":"diagnostic","variant":"sadtalker"}`, 422, "/variant", "variant_unknown", "sadtalker"},
	{"training diagnosed", "/api/train", `{"mode":"diagnostic"}`, 422, "/mode", "mode_mismatch", "/api/jobs"},
	{"a large body", "/api/jobs", `{"script":"` + strings.Repeat("a", 300_000) + `"}`, 413, "", "", "256 KiB"},
	{"a query", "/api/jobs?dry=1", `{}`, 400, "", "", "dry"},
}

func TestBadSubmissionsAreRefusedAndLeaveNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, manual: true})
	ids := strings.NewReplacer("PORTRAIT", w.portrait(), "VOICE", w.uploaded(wavFile(1)))
	before := w.stored()
	for _, c := range badSubmissions {
		a := w.post(c.path, ids.Replace(c.body))
		var p problem
		a.decode(t, &p)
		if a.status != c.status || !strings.Contains(p.Detail, c.says) {
			t.Errorf("%s: %d %s; want %d with %q", c.name, a.status, a.body, c.status, c.says)
			continue
		}
		found := c.pointer == ""
		for _, f := range p.Errors {
			found = found || f.Pointer == c.pointer && (c.code == "" || f.Code == c.code) && strings.Contains(f.Detail, c.says)
		}
		if !found {
			t.Errorf("%s: no fault at %s with code %s and %q in %s", c.name, c.pointer, c.code, c.says, a.body)
		}
	}
	for _, key := range []string{strings.Repeat("k", 256), "zwei wörter", "a b"} {
		w.want(400, w.post("/api/jobs", ids.Replace(`{"script":"a","portrait":"PORTRAIT"}`), "Idempotency-Key", key))
	}
	if a := w.want(415, w.post("/api/jobs", `{}`, "Content-Type", "text/plain")); !strings.Contains(string(a.body), `"parameter":"Content-Type"`) {
		t.Errorf("another media type: %s", a.body)
	}
	w.nothingHappened(before)
}

func (w *world) nothingHappened(objectsBefore int) {
	w.t.Helper()
	for _, topic := range []string{"jobs.commands", "jobs.events", "profiles.commands"} {
		if n := len(w.records(topic)); n != 0 {
			w.t.Errorf("%d records lie on %s", n, topic)
		}
	}
	if n := w.stored(); n != objectsBefore {
		w.t.Errorf("%d objects in the store, %d before", n, objectsBefore)
	}
}

func TestEveryReasonComesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	var p problem
	w.want(422, w.post("/api/train", `{"colour":"red","variant":3,"options":{"fps":1,"hats":2}}`)).decode(t, &p)
	pointers := map[string]bool{}
	for _, f := range p.Errors {
		pointers[f.Pointer] = true
	}
	for _, want := range []string{"/colour", "/variant", "/options/fps", "/options/hats", "/prompt", "/portrait"} {
		if !pointers[want] {
			t.Errorf("nothing is said about %s: %+v", want, p.Errors)
		}
	}
}

// A field with a fault is neither missing as well, nor does it hide the others.
func TestEveryFaultIsSaidOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	portrait := w.portrait()
	for body, want := range map[string][]string{
		`/api/generate {"script":"a","profileId":"abc"}`:                                                                  {"/profileId format_wrong"},
		`/api/generate {"script":"a","profile_id":"abc"}`:                                                                 {"/profile_id format_wrong"},
		`/api/generate {"script":"…","profileId":7}`:                                                                      {"/profileId type_wrong", "/script text_empty"},
		`/api/jobs {"script":"🙂","portrait":"` + portrait + `"}`:                                                          {"/script text_empty"},
		`/api/jobs {"script":"a","portrait":"` + portrait + `","options":{"speed":1e400,"fps":1,"hats":[]}}`:              {"/options/hats type_wrong", "/options/fps option_invalid", "/options/speed option_invalid"},
		`/api/train {"prompt":"a","portrait":"` + portrait + `","options":{"durationSeconds":1e400},"consent":{"by":""}}`: {"/consent/statement field_missing", "/consent/by too_short", "/options/durationSeconds option_invalid"},
		`/api/train {"prompt":"a","portrait":"` + portrait + `","profileId":"6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"}`:      {"/profileId input_unused"},
		`/api/train {"prompt":"a","portrait":"` + portrait + `","fooBar":1}`:                                              {"/fooBar field_unknown"},
	} {
		path, body, _ := strings.Cut(body, " ")
		var p problem
		w.want(422, w.post(path, body)).decode(t, &p)
		var got []string
		for _, f := range p.Errors {
			got = append(got, f.Pointer+" "+f.Code)
			if name := f.Pointer[strings.LastIndex(f.Pointer, "/")+1:]; !strings.Contains(f.Detail, name) {
				t.Errorf("%s: the sentence about %s does not name it: %s", body, name, f.Detail)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s %s: %q, want %q", path, body, got, want)
		}
	}
}

func TestMissingCapabilitiesAreRefusedWithTheWayOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, noWorker: true})
	body := `{"script":"a","variant":"sadtalker","portrait":"` + w.portrait() + `"}`
	before := w.stored()
	a := w.want(503, w.post("/api/jobs", body))
	if !strings.Contains(string(a.body), codeNoWorkers) || a.header.Get("Retry-After") == "" {
		t.Errorf("without workers: %s", a.body)
	}
	w.announceWithGap()
	eventually(t, "the worker is known", func() bool { return w.server.known.capabilities().alive > 0 })
	a = w.want(422, w.post("/api/jobs", body))
	if !strings.Contains(string(a.body), "capability_missing") || !strings.Contains(string(a.body), "run make deps") {
		t.Errorf("without a face engine: %s", a.body)
	}
	if list := w.want(200, w.get("/api/capabilities")); !strings.Contains(string(list.body), "run make deps") {
		t.Errorf("capabilities: %s", list.body)
	}
	if list := w.want(200, w.get("/api/pipelines")); !strings.Contains(string(list.body), `"missing":["lipsync.apply"]`) {
		t.Errorf("pipelines: %s", list.body)
	}
	if list := w.want(200, w.get("/api/workers")); !strings.Contains(string(list.body), `"alive":true`) {
		t.Errorf("workers: %s", list.body)
	}
	w.nothingHappened(before)
}

func TestTheOperatorsPipelineIsShownWhereItRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, noWorker: true})
	w.announce(slices.DeleteFunc(allTasks(), func(name string) bool { return strings.HasPrefix(name, "noop.") }))
	eventually(t, "the worker is known", func() bool { return w.server.known.capabilities().alive > 0 })
	if list := w.want(200, w.get("/api/pipelines")); strings.Contains(string(list.body), "diagnostic") {
		t.Errorf("pipelines: %s", list.body)
	}
	var p problem
	w.want(422, w.post("/api/jobs", diagnostic)).decode(t, &p)
	if len(p.Errors) != 4 || p.Errors[0].Code != "capability_missing" {
		t.Errorf("problem %+v", p)
	}
	w.announce(allTasks())
	eventually(t, "the pipeline is shown", func() bool { return strings.Contains(string(w.get("/api/pipelines").body), `"diagnostic_v1"`) })
	if job := w.submit(`{"mode":"diagnostic","options":{"work_ms":5,"fail_attempts":1}}`); job.Variant != "noop" || job.Profile != nil || len(job.Stages) != 4 {
		t.Errorf("job %+v", job)
	}
}

// announceWithGap makes a worker known that runs everything but lip-sync.
func (w *world) announceWithGap() {
	w.t.Helper()
	tasks := slices.DeleteFunc(allTasks(), func(name string) bool { return name == aggregates.TaskLipsync })
	w.announce(tasks, events.TaskGap{Task: aggregates.TaskLipsync, Engine: "talking-photo", Reason: "the weights are missing", Hint: "run make deps"})
}
