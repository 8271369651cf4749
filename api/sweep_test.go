// Tests of sweeping: uploads go when their time is over, nothing else does, and no job is
// accepted whose inputs went with them.

package api

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/myspinbot/myspinbot/events"
	"github.com/myspinbot/myspinbot/internal/objects"
)

// keptFor has uploads kept for that long.
func keptFor(d time.Duration) func(*Config) { return func(c *Config) { c.Uploads.Keep = d } }

// keepTold uploads a file and gives the answer.
func (w *world) keepTold(file []byte) (u uploadView) {
	w.t.Helper()
	w.want(http.StatusCreated, w.upload(file)).decode(w.t, &u)
	return u
}

// found says whether the upload is there.
func (w *world) found(id string) bool {
	w.t.Helper()
	_, err := w.server.findUpload(w.t.Context(), tenant, id)
	if err != nil && !errors.Is(err, objects.ErrMissing) {
		w.t.Fatal(err)
	}
	return err == nil
}

func TestUploadsGoWhenTheirTimeIsOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{config: keptFor(2 * time.Hour)})
	first := w.keepTold(pngFile(t, 80, 64))
	if first.ExpiresAt.Sub(first.CreatedAt) != 2*time.Hour {
		t.Errorf("kept from %v to %v, want two hours", first.CreatedAt, first.ExpiresAt)
	}
	ticket, posted := w.ticket(), uploadView{}
	w.postTo(ticket, pngFile(t, 96, 64))
	w.want(http.StatusCreated, w.post(ticket.CompleteURL, "")).decode(t, &posted)
	body := `{"variant":"sadtalker","script":"hello","portrait":"` + first.ID + `"}`
	job := w.submit(body)
	// What was promised holds whatever the configuration says later.
	longer := w.another(keptFor(72 * time.Hour)).keepTold(wavFile(1))
	before := w.stored()

	ok(t, w.server.sweepUploads(t.Context(), first.ExpiresAt.Add(-time.Minute))) // the store tells seconds
	if n := w.stored(); n != before {
		t.Fatalf("%d objects before their time is over, want %d", n, before)
	}
	ok(t, w.server.sweepUploads(t.Context(), posted.ExpiresAt.Add(time.Minute)))
	if w.found(first.ID) || w.found(posted.ID) || !w.found(longer.ID) || w.stored() != before-4 {
		t.Errorf("%d objects are left of %d, want the two of two uploads gone", w.stored(), before)
	}
	if said := string(w.get("/metrics").body); !strings.Contains(said, "myspinbot_api_swept_objects_total{kind=\"upload\"} 4\n") {
		t.Errorf("the metrics say %s", said[max(0, strings.Index(said, "swept_objects")):])
	}
	w.whole(job.ID)
	w.unknown("/portrait", w.post("/api/jobs", body))
	w.want(http.StatusNotFound, w.post(ticket.CompleteURL, ""))
	ok(t, w.server.sweepUploads(t.Context(), longer.ExpiresAt.Add(time.Minute)))
	if w.found(longer.ID) {
		t.Error("the upload with the longest time is still there")
	}
}

// whole fails unless every file that the job's command names is there, as it was sent.
func (w *world) whole(job string) {
	w.t.Helper()
	files := 0
	for name, v := range w.commanded(job).Inputs {
		for _, a := range v.Artifacts {
			files++
			ok(w.t, w.objects.Fetch(w.t.Context(), a, w.t.TempDir()+"/"+a.SHA256))
			if !strings.HasSuffix(strings.TrimSuffix(a.URI, "/"+a.SHA256+a.URI[strings.LastIndexByte(a.URI, '.'):]), job) {
				w.t.Errorf("%s of job %s lies at %s", name, job, a.URI)
			}
		}
	}
	if files == 0 {
		w.t.Errorf("job %s has no files", job)
	}
}

// unknown fails unless the answer says that the upload at the pointer is not known.
func (w *world) unknown(pointer string, a answer) {
	w.t.Helper()
	p := w.problemOf(http.StatusUnprocessableEntity, a)
	if len(p.Errors) != 1 || p.Errors[0].Pointer != pointer || p.Errors[0].Code != "upload_unknown" {
		w.t.Errorf("the faults are %+v, want upload_unknown at %s", p.Errors, pointer)
	}
}

// Folders that look like an upload's are looked into before they are deleted.
func TestOnlyUploadsAreSwept(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	elsewhere := w.keepTold(pngFile(t, 80, 64))
	other, err := w.server.findUpload(t.Context(), tenant, elsewhere.ID)
	ok(t, err)
	put := func(folder, ext, text string) {
		_, err := w.objects.Put(t.Context(), folder, ext, "application/octet-stream", strings.NewReader(text))
		ok(t, err)
	}
	job, strange, half, foreign := uuid.NewString(), uuid.NewString(), uuid.NewString(), uuid.NewString()
	put(tenant+"/-/"+job, "json", `{"words": [], "id": "timing"}`) // the result of a job without a profile
	put(tenant+"/-/"+job, "mp4", "a video")
	put(tenant+"/-/"+strange, "json", `{"id": "`+strange+`", "uri": "`+other.URI+`"}`)
	put(tenant+"/-/"+half, "png", "the file of an upload whose record is still to come")
	put("another/-/"+foreign, "json", jsonBody(t, upload{ID: foreign, URI: strings.Replace(other.URI, tenant+"/-/"+other.ID, "another/-/"+foreign, 1), CreatedAt: time.Now()}))
	put(tenant+"/"+uuid.NewString()+"/"+job, "json", `{"id": "`+job+`"}`)
	_, _, err = w.keyring.Create(t.Context(), tenant, "", job)
	ok(t, err)
	before := w.stored()
	ok(t, w.server.sweepUploads(t.Context(), time.Now().Add(25*time.Hour)))
	if n := w.stored(); n != before-3 || w.found(elsewhere.ID) { // the upload, and the record of the other tenant's
		t.Errorf("%d objects are left of %d", n, before)
	}
	if _, err := w.freshKeyring().Key(t.Context(), "keys/"+tenant+"/-/"+job); err != nil {
		t.Error("the key of a job:", err)
	}
}

// gate calls before for every request to the store, and after with every answer.
type gate struct {
	before func(*http.Request) error
	after  func(*http.Response)
}

func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	if g.before != nil {
		if err := g.before(r); err != nil {
			return nil, err
		}
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && g.after != nil {
		g.after(res)
	}
	return res, err
}

// gated is the world's store, with a gate before it.
func (w *world) gated(g *gate) *objects.Store {
	w.t.Helper()
	u := w.keepTold(pngFile(w.t, 88, 64))
	known, err := w.server.findUpload(w.t.Context(), tenant, u.ID)
	ok(w.t, err)
	bucket, _, _ := strings.Cut(strings.TrimPrefix(known.URI, "s3://"), "/")
	store, err := objects.Open(w.t.Context(), objects.Config{Endpoint: s3.S3(), AccessKey: s3.AccessKey, SecretKey: s3.SecretKey, Bucket: bucket, Transport: g})
	ok(w.t, err)
	return store
}

// At whatever moment of a submission its upload goes, the job is accepted whole or refused.
func TestAnUploadThatGoesWhileItIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	var mu sync.Mutex
	var moment func(*http.Request) bool
	store := w.gated(&gate{before: func(r *http.Request) error {
		mu.Lock()
		is := moment != nil && moment(r)
		if is {
			moment = nil
		}
		mu.Unlock()
		if is {
			return w.server.sweepUploads(context.Background(), time.Now().Add(25*time.Hour))
		}
		return nil
	}})
	edge := w.another(func(c *Config) { c.Objects = store })
	of := func(method, id, ending string) func(*http.Request) bool {
		return func(r *http.Request) bool {
			return r.Method == method && strings.Contains(r.URL.Path, "/"+id+"/") && strings.HasSuffix(r.URL.Path, ending)
		}
	}
	for _, tc := range []struct {
		name    string
		moment  func(id string) func(*http.Request) bool
		refused bool
	}{
		{"before it is looked for", func(id string) func(*http.Request) bool {
			return func(r *http.Request) bool { return strings.Contains(r.URL.Query().Get("prefix"), id) }
		}, true},
		{"before its record is looked at", func(id string) func(*http.Request) bool { return of(http.MethodHead, id, ".json") }, true},
		{"before its record is read", func(id string) func(*http.Request) bool { return of(http.MethodGet, id, ".json") }, true},
		{"before its file is looked at", func(id string) func(*http.Request) bool { return of(http.MethodHead, id, "g") }, true},
		{"before its file is read", func(id string) func(*http.Request) bool { return of(http.MethodGet, id, "g") }, true},
		{"while it is copied", func(string) func(*http.Request) bool {
			return func(r *http.Request) bool { return r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "g") }
		}, false},
	} {
		for _, route := range []string{"/api/jobs", "/api/train", "/api/profiles"} {
			u := w.keepTold(pngFile(t, 80, 64))
			body, pointer := `{"script":"hello","images":["`+w.keepTold(pngFile(t, 72, 64)).ID+`","`+u.ID+`"],"portrait":"`+u.ID+`"}`, "/images/1"
			if route == "/api/profiles" {
				body, pointer = `{"label":"Ada","portrait":"`+u.ID+`"}`, "/portrait"
			}
			commands := func() int {
				return len(w.records(events.TopicJobCommands)) + len(w.records(events.TopicProfileCommands))
			}
			before := commands()
			mu.Lock()
			moment = tc.moment(u.ID)
			mu.Unlock()
			a := edge.post(route, body)
			mu.Lock()
			happened := moment == nil
			mu.Unlock()
			switch {
			case !happened || w.found(u.ID):
				t.Errorf("%s, %s: the upload did not go: %d %s", tc.name, route, a.status, a.body)
			case !tc.refused && route == "/api/profiles":
				w.want(http.StatusCreated, a)
			case !tc.refused:
				var job accepted
				w.want(http.StatusAccepted, a).decode(t, &job)
				w.whole(job.ID)
			default:
				p := w.problemOf(http.StatusUnprocessableEntity, a)
				if len(p.Errors) == 0 || !slices.ContainsFunc(p.Errors, func(f fault) bool {
					return f.Code == "upload_unknown" && (f.Pointer == pointer || f.Pointer == "/portrait" || f.Pointer == "/images/0")
				}) {
					t.Errorf("%s, %s: %+v", tc.name, route, p.Errors)
				}
				if commands() != before {
					t.Errorf("%s, %s: a command was written", tc.name, route)
				}
			}
		}
	}
}

// Whoever is killed between two deletions has left the record, by which the next one goes on.
func TestASweepThatBreaksOffIsGoneOnWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	ctx, kill := context.WithCancel(t.Context())
	deletions := 0
	store := w.gated(&gate{before: func(r *http.Request) error {
		if r.Method == http.MethodDelete {
			if deletions++; deletions == 2 {
				kill()
				return context.Canceled
			}
		}
		return nil
	}})
	dying := w.another(func(c *Config) { c.Objects = store })
	later := time.Now().Add(25 * time.Hour)
	ok(t, w.server.sweepUploads(t.Context(), later)) // leaves the one that follows
	u := w.keepTold(pngFile(t, 80, 64))
	if err := dying.server.sweepUploads(ctx, later); !errors.Is(err, context.Canceled) {
		t.Fatalf("the sweep ended with %v", err)
	}
	if n := w.stored(); n != 1 || !w.found(u.ID) {
		t.Fatalf("%d objects are left, want the record", n)
	}
	w.unknown("/portrait", w.post("/api/jobs", `{"variant":"sadtalker","script":"hello","portrait":"`+u.ID+`"}`))
	if n := len(w.records(events.TopicJobCommands)); n != 0 {
		t.Errorf("%d commands were written", n)
	}
	ok(t, w.server.sweepUploads(t.Context(), later))
	if w.found(u.ID) {
		t.Error("the record is still there")
	}
}

func TestTwoSweepersAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, config: keptFor(2 * time.Hour)})
	other := w.another(keptFor(48 * time.Hour))
	var short, long []string
	for i := range 6 {
		short, long = append(short, w.keepTold(pngFile(t, 64+i, 64)).ID), append(long, other.keepTold(pngFile(t, 64+i, 64)).ID)
	}
	var wait sync.WaitGroup
	for _, s := range []*Server{w.server, other.server, w.server, other.server} {
		wait.Go(func() {
			if err := s.sweepUploads(t.Context(), time.Now().Add(3*time.Hour)); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if slices.ContainsFunc(short, w.found) || slices.ContainsFunc(long, func(id string) bool { return !w.found(id) }) || w.stored() != 2*len(long) {
		t.Errorf("%d objects are left, want two of each of the %d whose time is not over", w.stored(), len(long))
	}
}
