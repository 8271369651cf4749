// A ComfyUI server that plays recorded traffic (0.3.64, testdata/comfyui), good and bad.

package gpu

import (
	"bytes"
	"context"
	"encoding/json"
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

	"github.com/coder/websocket"
)

// comfyRecord is one recorded answer, or the messages of one prompt.
type comfyRecord struct {
	Case     string
	Status   int
	Prompt   string // id in what follows
	Response json.RawMessage
	Messages []json.RawMessage
}

var comfyRecords = sync.OnceValues(func() (map[string]comfyRecord, error) {
	file, err := os.ReadFile("testdata/comfyui/exchanges.jsonl")
	if err != nil {
		return nil, err
	}
	all := map[string]comfyRecord{}
	for line := range bytes.Lines(file) {
		var r comfyRecord
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		all[r.Case] = r
	}
	return all, nil
})

func comfyRecorded(t *testing.T, name string) comfyRecord {
	t.Helper()
	all, err := comfyRecords()
	if err != nil {
		t.Fatal(err)
	}
	r, has := all[name]
	if !has {
		t.Fatalf("nothing was recorded of %s", name)
	}
	return r
}

// as is the text with the recorded prompt's id replaced.
func (r comfyRecord) as(id string, text []byte) []byte {
	return bytes.ReplaceAll(text, []byte(r.Prompt), []byte(id))
}

// comfyPosted is a graph that the server took.
type comfyPosted struct {
	ID     string          `json:"prompt_id"`
	Client string          `json:"client_id"`
	Graph  json.RawMessage `json:"prompt"`
}

// fakeComfy is the server. Its fields are set before the first request.
type fakeComfy struct {
	*httptest.Server
	t *testing.T

	classes   map[string]any                                // of /object_info, by class
	stats     json.RawMessage                               // of /system_stats
	result    []byte                                        // of /view; nil: 404
	key       string                                        // asked for, unless empty
	jobs      bool                                          // has /api/jobs
	node      string                                        // under which results lie, in place of the recorded one
	late      int                                           // how often /history answers {} about a prompt that it knows
	play      func(f *fakeComfy, id string)                 // runs a prompt
	intercept func(http.ResponseWriter, *http.Request) bool // true: has answered

	mu      sync.Mutex
	posted  []comfyPosted
	uploads map[string][]byte
	running []string
	pending []string
	history map[string]json.RawMessage
	conns   map[string]*websocket.Conn
	dials   int
	deleted []string // from the queue
	stopped []string // by /interrupt
	forgot  []string
	freed   int
	read    int // how often /system_stats was
	changed chan struct{}
}

func serveComfy(t *testing.T, play func(*fakeComfy, string)) *fakeComfy {
	t.Helper()
	f := &fakeComfy{
		t: t, play: play, classes: map[string]any{}, stats: comfyRecorded(t, "system_stats").Response,
		uploads: map[string][]byte{}, history: map[string]json.RawMessage{}, conns: map[string]*websocket.Conn{}, changed: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", f.ws)
	mux.HandleFunc("GET /system_stats", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.read++
		_, _ = w.Write(f.stats)
	})
	mux.HandleFunc("GET /object_info/{class}", func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		answer := map[string]any{}
		if c, has := f.classes[r.PathValue("class")]; has {
			answer[r.PathValue("class")] = c
		}
		f.write(w, answer)
	})
	mux.HandleFunc("POST /upload/image", f.upload)
	mux.HandleFunc("POST /prompt", f.prompt)
	mux.HandleFunc("GET /queue", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.write(w, map[string]any{"queue_running": entries(f.running), "queue_pending": entries(f.pending)})
	})
	mux.HandleFunc("POST /queue", f.unqueue)
	mux.HandleFunc("POST /interrupt", f.interrupt)
	mux.HandleFunc("GET /history/{id}", f.past)
	mux.HandleFunc("POST /history", f.forget)
	mux.HandleFunc("POST /free", func(http.ResponseWriter, *http.Request) { f.change(func() { f.freed++ }) })
	mux.HandleFunc("GET /api/jobs", f.job)
	mux.HandleFunc("GET /api/jobs/{id}", f.job)
	mux.HandleFunc("GET /view", func(w http.ResponseWriter, r *http.Request) {
		if f.result == nil || r.URL.Query().Get("type") != "output" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(f.result)
	})
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.key != "" && r.Header.Get("Authorization") != "Bearer "+f.key {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if f.intercept == nil || !f.intercept(w, r) {
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() {
		f.CloseClientConnections()
		f.Close()
	})
	return f
}

func (f *fakeComfy) write(w io.Writer, v any) {
	_ = json.NewEncoder(w).Encode(v) // the client may have gone
}

// entries are queue entries as ComfyUI shows them.
func entries(ids []string) [][]any {
	out := [][]any{}
	for i, id := range ids {
		out = append(out, []any{i, id, map[string]any{}, map[string]any{}, []string{}})
	}
	return out
}

// change alters the state and wakes whoever waits for it.
func (f *fakeComfy) change(what func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what()
	close(f.changed)
	f.changed = make(chan struct{})
}

// await waits until ok holds.
func (f *fakeComfy) await(what string, ok func() bool) {
	f.t.Helper()
	give := time.After(20 * time.Second)
	for {
		f.mu.Lock()
		done, changed := ok(), f.changed
		f.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-give:
			f.t.Errorf("waited in vain for %s", what)
			return
		}
	}
}

func (f *fakeComfy) ws(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	client := r.URL.Query().Get("clientId")
	_ = conn.Write(r.Context(), websocket.MessageText, []byte(`{"type":"status","data":{"status":{"exec_info":{"queue_remaining":0}},"sid":"`+client+`"}}`))
	f.change(func() { f.conns[client] = conn; f.dials++ })
	_, _, _ = conn.Read(r.Context()) // until the client goes
	f.change(func() {
		if f.conns[client] == conn {
			delete(f.conns, client)
		}
	})
}

func (f *fakeComfy) upload(w http.ResponseWriter, r *http.Request) {
	file, header, err := r.FormFile("image")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	text, _ := io.ReadAll(file)
	ext := filepath.Ext(header.Filename)
	name := strings.TrimSuffix(header.Filename, ext) + " (1)" + ext // as if the name were taken
	f.change(func() { f.uploads[r.FormValue("subfolder")+"/"+name] = text })
	f.write(w, map[string]string{"name": name, "subfolder": r.FormValue("subfolder"), "type": r.FormValue("type")})
}

func (f *fakeComfy) prompt(w http.ResponseWriter, r *http.Request) {
	var p comfyPosted
	if err := json.NewDecoder(r.Body).Decode(&p); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	f.accept(p)
	f.write(w, map[string]any{"prompt_id": p.ID, "number": 0, "node_errors": map[string]any{}})
}

// accept puts a prompt on the queue and has it played.
func (f *fakeComfy) accept(p comfyPosted) {
	f.change(func() { f.posted = append(f.posted, p); f.pending = append(f.pending, p.ID) })
	if f.play != nil {
		go f.play(f, p.ID)
	}
}

func (f *fakeComfy) unqueue(_ http.ResponseWriter, r *http.Request) {
	var body struct{ Delete []string }
	_ = json.NewDecoder(r.Body).Decode(&body)
	f.change(func() {
		f.deleted = append(f.deleted, body.Delete...)
		f.pending = slices.DeleteFunc(f.pending, func(id string) bool { return slices.Contains(body.Delete, id) })
	})
}

func (f *fakeComfy) interrupt(_ http.ResponseWriter, r *http.Request) {
	var body struct {
		ID string `json:"prompt_id"`
	}
	_ = json.NewDecoder(r.Body).Decode(&body)
	runs := false
	f.change(func() {
		f.stopped = append(f.stopped, body.ID)
		if runs = slices.Contains(f.running, body.ID); body.ID == "" {
			f.running = nil // whatever it is
		}
	})
	if runs {
		f.end(body.ID, "history_interrupted")
	}
}

func (f *fakeComfy) past(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	f.mu.Lock()
	defer f.mu.Unlock()
	entry, known := f.history[id]
	if known && f.late > 0 {
		f.late--
		known = false
	}
	if !known {
		_, _ = w.Write([]byte("{}"))
		return
	}
	_, _ = w.Write(entry)
}

func (f *fakeComfy) forget(_ http.ResponseWriter, r *http.Request) {
	var body struct{ Delete []string }
	_ = json.NewDecoder(r.Body).Decode(&body)
	f.change(func() {
		for _, id := range body.Delete {
			delete(f.history, id)
			f.forgot = append(f.forgot, id)
		}
	})
}

// job is /api/jobs of newer servers, made of the same history (comfy_execution/jobs.py).
func (f *fakeComfy) job(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	f.mu.Lock()
	defer f.mu.Unlock()
	var entry map[string]map[string]json.RawMessage
	status := ""
	switch {
	case !f.jobs:
	case id == "":
		f.write(w, map[string]any{"jobs": []any{}, "pagination": map[string]any{}})
		return
	case json.Unmarshal(f.history[id], &entry) == nil:
		status = map[bool]string{true: "completed", false: "failed"}[bytes.Contains(entry[id]["status"], []byte(`"success"`))]
	case slices.Contains(f.running, id):
		status = "in_progress"
	case slices.Contains(f.pending, id):
		status = "pending"
	}
	if status == "" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	f.write(w, map[string]any{"id": id, "status": status, "outputs": entry[id]["outputs"], "execution_status": entry[id]["status"]})
}

// begin moves a prompt from waiting to running, once its messages can be heard.
func (f *fakeComfy) begin(id string) {
	f.await("a listener", func() bool { return f.conns[id] != nil })
	f.change(func() {
		f.pending = slices.DeleteFunc(f.pending, func(p string) bool { return p == id })
		f.running = append(f.running, id)
	})
}

// say sends recorded messages about the prompt to whoever listens under its name, and
// returns when they have been read.
func (f *fakeComfy) say(id, recorded string) {
	r := comfyRecorded(f.t, recorded)
	for _, m := range r.Messages {
		f.send(id, r.as(id, m))
	}
	f.mu.Lock()
	conn := f.conns[id]
	f.mu.Unlock()
	if conn != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		_ = conn.Ping(ctx) // answered in turn
	}
}

func (f *fakeComfy) send(id string, message []byte) {
	f.mu.Lock()
	conn := f.conns[id]
	f.mu.Unlock()
	if conn != nil {
		_ = conn.Write(context.Background(), websocket.MessageText, message)
	}
}

// end takes a prompt off the queue and puts a recorded entry into the history.
func (f *fakeComfy) end(id, recorded string) {
	r := comfyRecorded(f.t, recorded)
	entry := r.as(id, r.Response)
	if f.node != "" {
		entry = bytes.Replace(entry, []byte(`"outputs": {"6"`), []byte(`"outputs": {"`+f.node+`"`), 1)
	}
	f.change(func() {
		gone := func(p string) bool { return p == id }
		f.running, f.pending = slices.DeleteFunc(f.running, gone), slices.DeleteFunc(f.pending, gone)
		f.history[id] = entry
	})
}

// plays runs a prompt with recorded messages and a recorded end.
func plays(messages, end string) func(*fakeComfy, string) {
	return func(f *fakeComfy, id string) {
		f.begin(id)
		f.say(id, messages)
		f.end(id, end)
	}
}
