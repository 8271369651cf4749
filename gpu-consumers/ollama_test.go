// Tests of the language model against recorded exchanges of a real Ollama server
// (0.17, testdata/ollama).

package gpu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// exchange is one recorded answer.
type exchange struct {
	Case   string
	Status int
	CType  string
	Lines  []string
}

func recorded(t *testing.T) map[string]exchange {
	t.Helper()
	file, err := os.ReadFile("testdata/ollama/exchanges.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]exchange{}
	for line := range bytes.Lines(file) {
		var e exchange
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		all[e.Case] = e
	}
	return all
}

// saying is the recorded good stream with other content.
func saying(t *testing.T, content string) exchange {
	t.Helper()
	e := recorded(t)["chat_stream_schema_ok"]
	var lines []string
	for part := range strings.SplitAfterSeq(content, " ") {
		line, err := json.Marshal(map[string]any{"model": "gemma3t", "message": ollamaMessage{Role: "assistant", Content: part}, "done": false})
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line))
	}
	e.Lines = append(lines, e.Lines[len(e.Lines)-1])
	return e
}

const goodScript = `{"narration": "Green tea is picked in spring. It tastes fresh and a little sweet.", "scene": "A bright kitchen with a kettle."}`

// fakeOllama answers chats with the given exchanges in turn, and keeps the requests.
type fakeOllama struct {
	*httptest.Server
	mu       sync.Mutex
	requests []map[string]any
}

func serveOllama(t *testing.T, answers ...exchange) *fakeOllama {
	t.Helper()
	all := recorded(t)
	f := &fakeOllama{}
	write := func(w http.ResponseWriter, e exchange) {
		w.Header().Set("Content-Type", e.CType)
		w.WriteHeader(e.Status)
		for _, line := range e.Lines {
			_, _ = fmt.Fprintln(w, line)
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/tags", func(w http.ResponseWriter, _ *http.Request) { write(w, all["tags"]) })
	mux.HandleFunc("POST /api/chat", func(w http.ResponseWriter, r *http.Request) {
		var request map[string]any
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			t.Error(err)
		}
		f.mu.Lock()
		n := len(f.requests)
		f.requests = append(f.requests, request)
		f.mu.Unlock()
		write(w, answers[min(n, len(answers)-1)])
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

func model(t *testing.T, c OllamaConfig) *ollama {
	t.Helper()
	if c.Model == "" {
		c.Model = "gemma3:270m"
	}
	o, err := newOllama(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(o.http.CloseIdleConnections)
	return o
}

func about(topic string) *Attempt {
	return &Attempt{Task: taskScript, Texts: map[string]string{"prompt": topic}, Params: map[string]any{"seconds": 10.0, "tone": "formal"}}
}

func TestTheModelWritesAScript(t *testing.T) {
	t.Parallel()
	server := serveOllama(t, saying(t, goodScript))
	out, err := model(t, OllamaConfig{URL: server.URL + "/", Temperature: 0.3}).Run(t.Context(), about("green tea"))
	if err != nil {
		t.Fatal(err)
	}
	if out.Texts["narration"] != "Green tea is picked in spring. It tastes fresh and a little sweet." || out.Texts["scene"] != "A bright kitchen with a kettle." {
		t.Errorf("texts = %q", out.Texts)
	}
	if out.Engine != "ollama" || out.Model != "gemma3:270m" || out.Fidelity != events.FidelityFull {
		t.Errorf("output = %+v", out)
	}
	r := server.requests[0]
	if options := r["options"].(map[string]any); options["temperature"] != 0.3 || options["num_predict"].(float64) < 100 {
		t.Errorf("options = %v", options)
	}
	messages := r["messages"].([]any)
	first := messages[0].(map[string]any)
	if len(messages) != 1 || first["role"] != "user" || !strings.Contains(first["content"].(string), `"green tea"`) || !strings.Contains(first["content"].(string), "formal") {
		t.Errorf("messages = %v", messages)
	}
	if _, ok := r["format"].(map[string]any); !ok || r["stream"] != true {
		t.Errorf("request = %v", r)
	}
}

func TestUnusableAnswersAreNeverSpoken(t *testing.T) {
	t.Parallel()
	all := recorded(t)
	for name, answer := range map[string]exchange{
		"looped until cut (stream)":    all["chat_stream_schema"],
		"looped until cut (one piece)": all["chat_nostream_schema"],
		"cut by length":                all["chat_schema_cut_by_num_predict"],
		"another schema":               all["chat_stream_schema_ok"],
		"prose":                        saying(t, "Sure! Here is your script about tea."),
		"fenced":                       saying(t, "```json\n"+goodScript+"\n```"),
		"with a tail":                  saying(t, goodScript+" I hope you like it."),
		"empty narration":              saying(t, `{"narration": "", "scene": "A bright kitchen."}`),
		"looping words":                saying(t, `{"narration": "`+strings.Repeat("tea ", 15)+`", "scene": "A bright kitchen."}`),
		"looping digits":               saying(t, `{"narration": "Take 1`+strings.Repeat("0", 40)+`", "scene": "A bright kitchen."}`),
		"too long":                     saying(t, `{"narration": "`+strings.Repeat("one two three four five six ", 30)+`", "scene": "A bright kitchen."}`),
		"JSON inside":                  saying(t, `{"narration": "{narration: hello there}", "scene": "A bright kitchen."}`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serveOllama(t, answer)
			_, err := model(t, OllamaConfig{URL: server.URL}).Run(t.Context(), about("tea"))
			e := wantTaskError(t, err, events.ClassEngineRejected)
			if len(server.requests) != 3 {
				t.Errorf("%d requests, want one and two repairs", len(server.requests))
			}
			if e.LogTail == "" || strings.Contains(e.Message, "tea") {
				t.Errorf("the failure is %q with the tail %q", e.Message, e.LogTail)
			}
		})
	}
}

func TestARepairIsAsked(t *testing.T) {
	t.Parallel()
	server := serveOllama(t, recorded(t)["chat_schema_cut_by_num_predict"], saying(t, goodScript))
	out, err := model(t, OllamaConfig{URL: server.URL}).Run(t.Context(), about("tea"))
	if err != nil || out.Texts["narration"] == "" {
		t.Fatalf("Run = %+v, %v", out, err)
	}
	budget := func(i int) float64 { return server.requests[i]["options"].(map[string]any)["num_predict"].(float64) }
	ask := server.requests[1]["messages"].([]any)[0].(map[string]any)["content"].(string)
	if len(server.requests) != 2 || budget(1) != 2*budget(0) || !strings.Contains(ask, "too long") {
		t.Errorf("the repair asks %q with %v tokens after %v", ask, budget(1), budget(0))
	}
}

func TestRefusalsOfTheServerHaveClasses(t *testing.T) {
	t.Parallel()
	all := recorded(t)
	broken := all["chat_stream_schema_ok"]
	broken.Lines = []string{`{"error":"model requires more system memory (9.1 GiB) than is available (4.0 GiB)"}`}
	foreign := broken
	foreign.Lines = []string{"<html>"}
	crashed := all["bad_schema"]
	crashed.Lines = []string{`{"error":"llama runner process has terminated"}`}
	for name, c := range map[string]struct {
		answer exchange
		class  string
		hint   string
	}{
		"unknown model":  {all["model_missing"], events.ClassEngineUnavailable, "ollama pull gemma3:270m"},
		"schema refused": {all["bad_schema"], events.ClassEngineRejected, "JSON schema"},
		"bad request":    {all["no_model"], events.ClassEngineRejected, ""},
		"out of memory":  {broken, events.ClassOOM, "smaller model"},
		"crashed":        {crashed, events.ClassEngineUnavailable, ""},
		"another server": {foreign, events.ClassEngineRejected, "another program"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := serveOllama(t, c.answer)
			_, err := model(t, OllamaConfig{URL: server.URL}).Run(t.Context(), about("tea"))
			if e := wantTaskError(t, err, c.class); !strings.Contains(e.Hint, c.hint) {
				t.Errorf("hint = %q", e.Hint)
			}
			if len(server.requests) != 1 {
				t.Errorf("%d requests; a refusal is not repaired", len(server.requests))
			}
		})
	}
}

// hanging answers with lines and then with silence until the client goes away.
func hanging(t *testing.T, lines ...string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = new(bytes.Buffer).ReadFrom(r.Body)
		for _, line := range lines {
			_, _ = fmt.Fprintln(w, line)
		}
		if len(lines) > 0 {
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestAModelThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	silent := hanging(t)
	_, err := model(t, OllamaConfig{URL: silent, FirstToken: 30 * time.Millisecond}).Run(t.Context(), about("tea"))
	wantTaskError(t, err, events.ClassTimeout)

	stuck := hanging(t, `{"message":{"role":"assistant","content":"{"},"done":false}`)
	_, err = model(t, OllamaConfig{URL: stuck, Idle: 30 * time.Millisecond}).Run(t.Context(), about("tea"))
	wantTaskError(t, err, events.ClassStalled)

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(30*time.Millisecond, cancel)
	if _, err = model(t, OllamaConfig{URL: silent}).Run(ctx, about("tea")); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run: %v", err)
	}
}

func TestTheModelAnnouncesItselfOrItsGap(t *testing.T) {
	t.Parallel()
	server := serveOllama(t)
	can, gap := model(t, OllamaConfig{URL: server.URL}).Capability(t.Context())
	if gap != nil || can.Model != "gemma3:270m" || can.Version != "c23cc70d7c20" || can.Fidelity != events.FidelityFull {
		t.Errorf("Capability = %+v, %+v", can, gap)
	}
	if _, gap = model(t, OllamaConfig{URL: server.URL, Model: "other"}).Capability(t.Context()); gap == nil || !strings.Contains(gap.Hint, "ollama pull other") {
		t.Errorf("an absent model: %+v", gap)
	}
	server.Close()
	if _, gap = model(t, OllamaConfig{URL: server.URL}).Capability(t.Context()); gap == nil || gap.Task != taskScript {
		t.Errorf("an absent server: %+v", gap)
	}
	_, err := model(t, OllamaConfig{URL: server.URL}).Run(t.Context(), about("tea"))
	wantTaskError(t, err, events.ClassEngineUnavailable)
}

func TestBadOllamaSettingsAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []OllamaConfig{
		{URL: "localhost:11434", Model: "m"}, {URL: "ftp://x", Model: "m"}, {URL: "http://x"}, {URL: "http://x", Model: "m", Temperature: 3},
	} {
		if _, err := TextEngines(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestTheUsersScriptWinsOverTheModel(t *testing.T) {
	t.Parallel()
	server := serveOllama(t, saying(t, goodScript))
	engines, err := TextEngines(OllamaConfig{URL: server.URL, Model: "gemma3:270m"})
	if err != nil {
		t.Fatal(err)
	}
	r := newRoster(engines, map[string]int{events.LaneScript: 1})
	r.refresh(t.Context())
	pick := func(a *Attempt) string {
		_, can, err := r.pick(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		return can.Engine
	}
	both := about("tea")
	both.Texts["script"] = "Hello."
	if got := pick(both); got != "user-text" {
		t.Errorf("with a script %s runs", got)
	}
	if got := pick(about("tea")); got != "ollama" {
		t.Errorf("with a prompt %s runs", got)
	}
	server.Close()
	r.refresh(t.Context())
	if got := pick(about("tea")); got != "template" {
		t.Errorf("without the server %s runs", got)
	}
	_, _, err = r.pick(t.Context(), &Attempt{Task: taskScript})
	wantTaskError(t, err, events.ClassEngineUnavailable)
}
