// A server that speaks the API's contract from a script, for the tests of the client commands.

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const fakeJob = "6f1c0a52-3a51-5c5e-9b0e-0d4f6a1b2c3d"

// fakeAPI answers like the API. The fields up to mu are set before its first request.
type fakeAPI struct {
	t       *testing.T
	url     string
	files   map[string]string // content by output name
	damaged string            // output whose bytes are changed on the way
	events  []map[string]any  // of the job, in order; the last one ends it
	breakAt []int             // the nth stream ends before this event
	refuse  map[string]any    // problem that submissions get
	outages map[string]int    // by "METHOD path": how many times to answer 503 first
	job     map[string]any    // the Job object at the end
	lost    int               // how many answers to a profile's making get lost

	mu       sync.Mutex
	uploads  map[string]string // content by id
	keys     []string
	requests []map[string]any
	resumed  []string // Last-Event-ID of every stream
	asked    []string // "VERB key body" of everything that was asked of the job
}

func newFakeAPI(t *testing.T) *fakeAPI {
	t.Helper()
	f := &fakeAPI{t: t, uploads: map[string]string{}, outages: map[string]int{},
		files: map[string]string{"video": "an mp4", "thumbnail": "a jpeg", "captions_srt": "1\n", "captions_vtt": "WEBVTT\n"}}
	stage := func(kind, stage string, data map[string]any) map[string]any {
		return map[string]any{"type": kind, "stage": stage, "attempt": 1, "duration_ms": 1500, "model": nil, "data": data}
	}
	f.events = []map[string]any{
		{"type": "job.submitted", "stage": nil, "data": map[string]any{}},
		{"type": "job.planned", "stage": nil, "data": map[string]any{"graph": map[string]any{}}},
		stage("stage.skipped", "train_voice", map[string]any{"reason": "no voice sample was given"}),
		stage("stage.started", "tts", map[string]any{}),
		{"beat": true, "job_id": fakeJob, "stage": "tts", "attempt": 1, "percent": 40.0, "message": "speaking"},
		stage("stage.succeeded", "tts", map[string]any{"engine": "flite", "fidelity": "preview"}),
		stage("stage.started", "lipsync", map[string]any{}),
		stage("stage.succeeded", "lipsync", map[string]any{"engine": "talking-photo", "fidelity": "preview"}),
		{"type": "job.succeeded", "version": 9, "stage": nil, "data": map[string]any{"outputs": map[string]any{}}},
	}
	f.job = f.jobObject("succeeded")
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/uploads", f.upload)
	mux.HandleFunc("POST /api/jobs", f.submit)
	mux.HandleFunc("GET /api/jobs", f.list)
	mux.HandleFunc("GET /api/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		if token := r.URL.Query().Get("position"); token != "" && token != fakeJob+":9" {
			f.problem(w, 503, "tables_behind", "The tables have not caught up yet", token)
			return
		}
		if at := r.URL.Query().Get("at"); at != "" {
			then := f.jobObject("running")
			then["variant"] = "as at " + at
			f.answer(w, 200, then)
			return
		}
		f.answer(w, 200, f.job)
	})
	mux.HandleFunc("GET /api/jobs/{id}/events", f.stream)
	mux.HandleFunc("POST /api/jobs/{id}/{verb}", f.ask)
	mux.HandleFunc("PATCH /api/jobs/{id}", f.patch)
	mux.HandleFunc("POST /api/jobs/bulk", f.bulk)
	mux.HandleFunc("POST /api/profiles", f.makeProfile)
	mux.HandleFunc("GET /api/artifacts/{id}/content", f.content)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.outage(r) {
			w.Header().Set("Retry-After", "2")
			f.problem(w, 503, "log_unavailable", "The log does not answer", "retry with the same Idempotency-Key")
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.url = server.URL
	return f
}

// client is a client of the fake that does not wait between attempts.
func (f *fakeAPI) client() *client {
	c, err := newClient(f.url, "")
	if err != nil {
		f.t.Fatal(err)
	}
	c.pause = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	return c
}

func (f *fakeAPI) outage(r *http.Request) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.Method + " " + r.URL.Path
	if f.outages[key] == 0 {
		return false
	}
	f.outages[key]--
	if r.Method == http.MethodPost {
		f.keys = append(f.keys, r.Header.Get("Idempotency-Key"))
	}
	return true
}

func (f *fakeAPI) jobObject(status string) map[string]any {
	job := map[string]any{"id": fakeJob, "version": 9, "status": status, "progress": 1, "variant": "sadtalker", "mode": "train_and_generate",
		"created_at": "2026-11-23T10:00:00Z", "profile": map[string]any{"id": fakeJob, "label": "Carl"}, "error": nil,
		"stages": []any{map[string]any{"id": "train_voice", "status": "pending"}, map[string]any{"id": "tts", "status": "pending", "engine": nil}, map[string]any{"id": "lipsync", "status": "pending"}}}
	outputs, artifacts := map[string]any{}, []any{}
	for name, ext := range map[string]string{"video": "mp4", "thumbnail": "jpg", "captions_srt": "srt", "captions_vtt": "vtt"} {
		sum := sha256.Sum256([]byte(f.files[name]))
		outputs[name] = []string{"id-" + name}
		artifacts = append(artifacts, map[string]any{"id": "id-" + name, "name": "made." + ext, "sha256": hex.EncodeToString(sum[:]),
			"size": len(f.files[name]), "content_url": "/api/artifacts/id-" + name + "/content"})
	}
	job["outputs"], job["artifacts"] = outputs, artifacts
	return job
}

func (f *fakeAPI) answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		f.t.Errorf("cannot answer: %v", err)
	}
}

func (f *fakeAPI) problem(w http.ResponseWriter, status int, code, title, detail string) {
	f.answer(w, status, map[string]any{"status": status, "code": code, "title": title, "detail": detail})
}

func (f *fakeAPI) upload(w http.ResponseWriter, r *http.Request) {
	file, head, err := r.FormFile("file")
	if err != nil || r.ContentLength <= 0 {
		f.problem(w, 422, "file_invalid", "The file cannot be used", fmt.Sprint(err, r.ContentLength))
		return
	}
	data, err := io.ReadAll(file)
	if err != nil {
		f.t.Error(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := "upload-" + head.Filename
	f.uploads[id] = string(data)
	f.answer(w, 201, map[string]any{"id": id})
}

func (f *fakeAPI) submit(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		f.problem(w, 400, "json_malformed", "The body is not valid JSON", err.Error())
		return
	}
	f.mu.Lock()
	f.keys = append(f.keys, r.Header.Get("Idempotency-Key"))
	f.requests = append(f.requests, body)
	f.mu.Unlock()
	if f.refuse != nil {
		f.answer(w, 422, f.refuse)
		return
	}
	job := f.jobObject("queued")
	job["position"] = fakeJob + ":1"
	f.answer(w, 202, job)
}

// makeProfile makes one profile of each key, and answers like submit otherwise.
func (f *fakeAPI) makeProfile(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		f.problem(w, 400, "json_malformed", "The body is not valid JSON", err.Error())
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := r.Header.Get("Idempotency-Key")
	if !slices.Contains(f.keys, key) {
		f.requests = append(f.requests, body)
	}
	f.keys = append(f.keys, key)
	switch {
	case f.refuse != nil:
		f.answer(w, 422, f.refuse)
	case f.lost > 0: // it is made, and the connection breaks
		f.lost--
		panic(http.ErrAbortHandler)
	default:
		f.answer(w, 201, json.RawMessage(adaDoc))
	}
}

// ask answers as a job that can be cancelled, that does not wait for approval, and
// whose denial nobody has handled yet.
func (f *fakeAPI) ask(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	verb := r.PathValue("verb")
	f.mu.Lock()
	f.asked = append(f.asked, verb+" "+r.Header.Get("Idempotency-Key")+" "+string(body))
	f.mu.Unlock()
	switch verb {
	case "cancel":
		job := f.jobObject("running")
		job["cancelling"], job["position"] = true, fakeJob+":9"
		f.answer(w, 200, job)
	case "approve":
		f.problem(w, 409, "not_waiting_for_approval", "The job does not wait for approval", "job is running\x1b[2J")
	case "deny":
		f.answer(w, 202, map[string]any{"id": fakeJob, "command": verb, "outcome": "pending", "detail": "deny is asked for", "status": nil, "version": nil, "position": nil})
	default:
		job := f.jobObject("queued")
		job["position"], job["parent_job_id"] = fakeJob+":3", "11111111-3a51-5c5e-9b0e-0d4f6a1b2c3d"
		f.answer(w, 202, job)
	}
}

func (f *fakeAPI) list(w http.ResponseWriter, r *http.Request) {
	if got := r.URL.Query().Get("status"); got != "" && got != "succeeded" {
		f.problem(w, 400, "query_invalid", "A query parameter is not allowed", "status is a list")
		return
	}
	f.answer(w, 200, map[string]any{"items": []any{f.job}, "next_cursor": nil})
}

// stream sends the events behind Last-Event-ID, up to the next break.
func (f *fakeAPI) stream(w http.ResponseWriter, r *http.Request) {
	last := r.Header.Get("Last-Event-ID")
	f.mu.Lock()
	f.resumed = append(f.resumed, last)
	to := len(f.events)
	if n := len(f.resumed) - 1; n < len(f.breakAt) {
		to = f.breakAt[n]
	}
	f.mu.Unlock()
	if !strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		f.problem(w, 400, "query_invalid", "not a stream", "")
		return
	}
	from := 0
	if last != "" {
		from = slices.IndexFunc(f.events, func(e map[string]any) bool { return f.id(e) == last }) + 1
	}
	if from >= len(f.events) {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 1000\n\n: still here\n\n")
	for _, e := range f.events[min(from, to):to] {
		data, err := json.Marshal(e)
		if err != nil {
			f.t.Error(err)
		}
		if e["beat"] != nil {
			fmt.Fprintf(w, "event: progress\ndata: %s\n\n", data)
			continue
		}
		fmt.Fprintf(w, "id: %s\nevent: event\ndata: %s\n\n", f.id(e), data)
	}
}

// id is the event's place on the log.
func (f *fakeAPI) id(e map[string]any) string {
	i := slices.IndexFunc(f.events, func(x map[string]any) bool { return fmt.Sprint(x) == fmt.Sprint(e) })
	return fmt.Sprintf("3:%d", 40+2*i)
}

func (f *fakeAPI) content(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.PathValue("id"), "id-")
	data, ok := f.files[name]
	if !ok {
		f.problem(w, 404, "not_found", "Not found", "there is no artifact")
		return
	}
	if name == f.damaged {
		data = strings.ToUpper(data)
	}
	fmt.Fprint(w, data)
}

// writeFile makes a file with a name in a folder of its own.
func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
