// Fake servers of language models, built from recorded exchanges of a real one (Ollama
// 0.17, testdata/ollama): its native API, and the OpenAI-compatible one that others have.

package gpu

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// exchange is one answer, recorded or in the shape of a recorded one.
type exchange struct {
	Case   string
	Status int
	CType  string
	Lines  []string
	then   string // what the server does after the lines: hangs, lost, or nothing
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

// chatWire is one of the two protocols.
type chatWire struct {
	name, path, models, missing, loops string // paths, and names of recorded exchanges
	open                               func(ChatConfig) (chatModel, error)
	line                               func(content string) string // a part of an answer
	end                                []string                    // the parts that end one with the reason %q
	kind                               string                      // content type of a stream
}

var (
	ollamaWire = chatWire{
		name: "ollama", path: "/api/chat", models: "tags", missing: "model_missing", loops: "chat_stream_schema",
		open: func(c ChatConfig) (chatModel, error) { return newOllama(c) }, kind: "application/x-ndjson",
		line: func(content string) string {
			return fmt.Sprintf(`{"model":"gemma3t","message":{"role":"assistant","content":%s},"done":false}`, quoted(content))
		},
		end: []string{`{"model":"gemma3t","message":{"role":"assistant","content":""},"done":true,"done_reason":%q,"eval_count":20}`},
	}
	openAIWire = chatWire{
		name: "openai-chat", path: "/v1/chat/completions", models: "openai_compat_models", missing: "openai_model_missing", loops: "openai_compat",
		open: func(c ChatConfig) (chatModel, error) { return newOpenAIChat(c) }, kind: "text/event-stream",
		line: func(content string) string {
			return fmt.Sprintf(`data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]}`+"\n", quoted(content))
		},
		end: []string{`data: {"object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":%q}]}` + "\n", "data: [DONE]\n"},
	}
	chatWires = []chatWire{ollamaWire, openAIWire}
)

func quoted(s string) string {
	text, _ := json.Marshal(s) // a text always encodes
	return string(text)
}

// says is a stream of the content that ends with the reason.
func (w chatWire) says(content, reason string) exchange {
	e := exchange{Status: http.StatusOK, CType: w.kind}
	for part := range strings.SplitAfterSeq(content, " ") {
		e.Lines = append(e.Lines, w.line(part))
	}
	for i, line := range w.end {
		if i == 0 {
			line = fmt.Sprintf(line, reason)
		}
		e.Lines = append(e.Lines, line)
	}
	return e
}

func (w chatWire) saying(content string) exchange { return w.says(content, "stop") }

// begins is a stream that begins and goes on as then says.
func (w chatWire) begins(then string) exchange {
	return exchange{Status: http.StatusOK, CType: w.kind, Lines: []string{w.line(`{"narr`)}, then: then}
}

// refuses is a refusal in the server's own form.
func (w chatWire) refuses(status int, sentence string) exchange {
	body := fmt.Sprintf(`{"error":%s}`, quoted(sentence))
	if w.name == openAIWire.name {
		body = fmt.Sprintf(`{"error":{"message":%s,"type":"api_error","param":null,"code":null}}`, quoted(sentence))
	}
	return exchange{Status: status, CType: "application/json", Lines: []string{body}}
}

// fakeChat answers with the given exchanges in turn, the last one for ever, and keeps
// the requests.
type fakeChat struct {
	*httptest.Server
	mu       sync.Mutex
	requests []map[string]any
	open     int
	ps       exchange // of /api/ps
}

func (w chatWire) serve(t *testing.T, answers ...exchange) *fakeChat {
	t.Helper()
	all := recorded(t)
	f := &fakeChat{ps: all["ps_loaded"]}
	mux := http.NewServeMux()
	list := func(rw http.ResponseWriter, r *http.Request) { play(rw, r, all[w.models]) }
	mux.HandleFunc("GET /api/tags", list)
	mux.HandleFunc("GET /v1/models", list)
	mux.HandleFunc("GET /api/ps", func(rw http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		ps := f.ps
		f.mu.Unlock()
		play(rw, r, ps)
	})
	mux.HandleFunc("POST "+w.path, func(rw http.ResponseWriter, r *http.Request) {
		var request map[string]any
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
			t.Error(err)
		}
		f.mu.Lock()
		n := len(f.requests)
		f.requests = append(f.requests, request)
		f.open++
		f.mu.Unlock()
		defer func() {
			f.mu.Lock()
			f.open--
			f.mu.Unlock()
		}()
		play(rw, r, answers[min(n, len(answers)-1)])
	})
	f.Server = httptest.NewServer(mux)
	t.Cleanup(f.Close)
	return f
}

// play writes an exchange, line by line as a stream comes.
func play(w http.ResponseWriter, r *http.Request, e exchange) {
	w.Header().Set("Content-Type", e.CType)
	if e.Status != 0 {
		w.WriteHeader(e.Status)
	}
	flush := func() { _ = http.NewResponseController(w).Flush() }
	for _, line := range e.Lines {
		_, _ = fmt.Fprintln(w, line)
		flush()
	}
	switch e.then {
	case hangs:
		flush()
		<-r.Context().Done()
	case lost:
		panic(http.ErrAbortHandler)
	}
}

func (f *fakeChat) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests)
}

func (f *fakeChat) idle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open == 0
}

// said is what the n-th request told the model.
func (f *fakeChat) said(n int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests[n]["messages"].([]any)[0].(map[string]any)["content"].(string)
}

const theModel = "gemma3:270m"

// writer is the script engine around the server.
func (w chatWire) writer(t *testing.T, c ChatConfig) *modelScript {
	t.Helper()
	if c.Model == "" {
		c.Model = theModel
	}
	m, err := w.open(c)
	if err != nil {
		t.Fatal(err)
	}
	asked, err := loadPrompts("")
	if err != nil {
		t.Fatal(err)
	}
	return &modelScript{model: m, temperature: c.Temperature, prompts: asked}
}

// brief is patience for servers that hang: long enough for a busy machine where an
// answer is to come, short where none does.
func brief(first, idle time.Duration) Patience { return Patience{FirstByte: first, Idle: idle} }

const goodScript = `{"narration": "Green tea is picked in spring. It tastes fresh and a little sweet.", "scene": "A bright kitchen with a kettle."}`

func about(topic string) *Attempt {
	return &Attempt{Task: taskScript, Texts: map[string]string{"prompt": topic}, Params: map[string]any{"seconds": 10.0, "tone": "formal"}}
}
