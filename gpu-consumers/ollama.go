// A language model behind Ollama's native API (https://docs.ollama.com/api/chat;
// behaviour recorded from version 0.17).

package gpu

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/myspinbot/myspinbot/events"
)

type ollama struct {
	ChatConfig
	server *modelServer
	size   atomic.Int64 // of the model's file in bytes, once it is known
}

func newOllama(c ChatConfig) (*ollama, error) {
	server, err := newModelServer("Ollama", c.URL, c.Key, c.Patience)
	if err != nil {
		return nil, err
	}
	return &ollama{ChatConfig: c, server: server}, c.check("Ollama")
}

func (o *ollama) identity() (engine, model string) { return "ollama", o.Model }

func (o *ollama) announce(ctx context.Context) (version string, gap *events.TaskGap) {
	gap = &events.TaskGap{Engine: "ollama"}
	r, err := o.server.get(ctx, "/api/tags")
	if err == nil && r.status != http.StatusOK {
		err = o.server.refusal(r)
	}
	var list struct {
		Models []struct {
			Name, Digest string
			Size         int64
		}
	}
	if err == nil {
		err = json.Unmarshal(r.body, &list)
	}
	if err != nil {
		gap.Reason, gap.Hint = fmt.Sprintf("Ollama at %s does not answer as it should: %v", o.URL, err), "start it, or set its address right"
		return "", gap
	}
	for _, m := range list.Models {
		if m.Name == o.Model || m.Name == o.Model+":latest" {
			o.size.Store(m.Size)
			digest := strings.TrimPrefix(m.Digest, "sha256:")
			return digest[:min(12, len(digest))], nil
		}
	}
	gap.Reason, gap.Hint = fmt.Sprintf("Ollama has no model %q", o.Model), "run: ollama pull "+o.Model
	return "", gap
}

// weighs implements onCard: the weights, and what they work with.
func (o *ollama) weighs() int {
	const room = 512
	if size := int(o.size.Load() >> 20); size > 0 {
		return size*11/10 + room
	}
	return 0
}

// holds implements teller.
func (o *ollama) holds(ctx context.Context) (mib int, loaded bool, err error) {
	r, err := o.server.get(ctx, "/api/ps")
	if err == nil && r.status != http.StatusOK {
		err = o.server.refusal(r)
	}
	var list struct {
		Models []struct {
			Name string
			VRAM int64 `json:"size_vram"`
		}
	}
	if err == nil {
		err = json.Unmarshal(r.body, &list)
	}
	if err != nil {
		return 0, false, err
	}
	for _, m := range list.Models {
		if m.Name == o.Model || m.Name == o.Model+":latest" {
			return int(m.VRAM >> 20), true, nil
		}
	}
	return 0, false, nil
}

// unit implements keeper: each model is unloaded by itself.
func (o *ollama) unit() string { return "ollama " + o.URL + " " + o.Model }

// unload implements keeper.
func (o *ollama) unload(ctx context.Context) error {
	r, err := o.server.post(ctx, "/api/generate", map[string]any{"model": o.Model, "keep_alive": 0}, replyLimit)
	if err == nil && r.status != http.StatusOK {
		err = o.server.refusal(r)
	}
	return err
}

// ollamaMessage is what one side says.
type ollamaMessage struct {
	Role     string `json:"role"`
	Content  string `json:"content"`
	Thinking string `json:"thinking,omitempty"`
}

func (o *ollama) chat(ctx context.Context, q question, heard func(int)) (chatAnswer, error) {
	body := map[string]any{
		"model": o.Model, "messages": []ollamaMessage{{Role: "user", Content: q.text}}, "stream": true, "format": q.schema,
		"think":   false, // thoughts would use up the answer's room
		"options": map[string]any{"temperature": q.temperature, "seed": q.seed, "num_predict": q.tokens},
	}
	if o.KeepAlive != "" {
		body["keep_alive"] = keepAlive(o.KeepAlive)
	}
	return o.server.stream(ctx, "/api/chat", body, o.read, o.refused, heard)
}

// keepAlive is a number of seconds where it is one, for Ollama takes no such text.
func keepAlive(text string) any {
	var seconds json.Number
	if json.Unmarshal([]byte(text), &seconds) == nil {
		return seconds
	}
	return text
}

// read reads a line. The last one says done; one that says otherwise and is the last
// all the same is a loop that the server cut.
func (o *ollama) read(line []byte) (chunk, error) {
	var said struct {
		Message    ollamaMessage
		Done       bool
		DoneReason string `json:"done_reason"`
		Error      string
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return chunk{}, o.server.foreign(err)
	}
	if said.Error != "" {
		return chunk{}, o.refused(&reply{http.StatusInternalServerError, line})
	}
	c := chunk{said: said.Message.Content, thought: said.Message.Thinking != "", last: said.Done}
	if said.Done {
		c.end = said.DoneReason
	}
	return c, nil
}

func (o *ollama) refused(r *reply) error {
	if r.status == http.StatusNotFound {
		return &TaskError{Class: events.ClassEngineUnavailable, Message: fmt.Sprintf("Ollama has no model %q", o.Model), Hint: "run: ollama pull " + o.Model, LogTail: r.reason()}
	}
	return o.server.refusal(r, modelRules...)
}
