// A language model behind an OpenAI-compatible POST /v1/chat/completions: llama.cpp's
// server, vLLM, LM Studio and others.
//
// Rules: an answer comes as server-sent events, or as one document where a server does
// not stream; comments between events are no sign of a model at work; an answer whose
// finish_reason stays null was cut by the server, whatever its status.

package gpu

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/myspinbot/myspinbot/events"
)

type openAIChat struct {
	ChatConfig
	server *modelServer
}

const chatServerName = "the language model's server"

func newOpenAIChat(c ChatConfig) (*openAIChat, error) {
	c.URL = strings.TrimSuffix(strings.TrimRight(c.URL, "/"), "/v1")
	server, err := newModelServer(chatServerName, c.URL, c.Key, c.Patience)
	if err != nil {
		return nil, err
	}
	return &openAIChat{c, server}, c.check(chatServerName)
}

func (o *openAIChat) identity() (engine, model string) { return "openai-chat", o.Model }

func (o *openAIChat) announce(ctx context.Context) (version string, gap *events.TaskGap) {
	gap = &events.TaskGap{Engine: "openai-chat"}
	models, err := o.server.get(ctx, "/v1/models")
	switch {
	case err != nil:
		gap.Reason, gap.Hint = fmt.Sprintf("%s at %s does not answer", chatServerName, o.URL), "start it, or set its address right"
		return "", gap
	case models.status != http.StatusOK:
		refused := o.server.refusal(models)
		gap.Reason, gap.Hint = refused.Message, refused.Hint
		return "", gap
	}
	names := models.names("data")
	if names[o.Model] || len(names) == 0 { // not every server lists what it has
		return "", nil
	}
	gap.Reason = fmt.Sprintf("%s has no model %q", chatServerName, o.Model)
	gap.Hint = "set engines.chat.model to one that it has: " + strings.Join(slices.Sorted(maps.Keys(names)), ", ")
	return "", gap
}

func (o *openAIChat) chat(ctx context.Context, q question, heard func(int)) (chatAnswer, error) {
	body := map[string]any{
		"model": o.Model, "messages": []ollamaMessage{{Role: "user", Content: q.text}}, "stream": true,
		"temperature": q.temperature, "seed": q.seed, "max_tokens": q.tokens,
		"response_format": map[string]any{"type": "json_schema", "json_schema": map[string]any{"name": q.name, "schema": q.schema, "strict": true}},
	}
	return o.server.stream(ctx, "/v1/chat/completions", body, o.read, o.refused, heard)
}

// openAIPart is an event of a stream, or a whole answer.
type openAIPart struct {
	Choices []struct {
		Delta, Message openAIMessage
		FinishReason   *string `json:"finish_reason"`
	}
	Error json.RawMessage
}

type openAIMessage struct {
	Content   string
	Reasoning string `json:"reasoning_content"`
}

// read reads a line of server-sent events, or a document that is the whole answer.
func (o *openAIChat) read(line []byte) (chunk, error) {
	data, whole := unwrapSSE(line), false
	if data == nil {
		if data = line; len(data) == 0 || data[0] != '{' {
			return o.aside(line)
		}
		whole = true
	}
	if string(data) == "[DONE]" {
		return chunk{last: true}, nil
	}
	var part openAIPart
	if err := json.Unmarshal(data, &part); err != nil {
		return chunk{}, o.server.foreign(err)
	}
	if len(part.Error) > 0 && string(part.Error) != "null" {
		return chunk{}, o.refused(&reply{http.StatusInternalServerError, data})
	}
	c := chunk{last: whole}
	if len(part.Choices) > 0 {
		first := part.Choices[0]
		c.said = first.Delta.Content + first.Message.Content
		c.thought = first.Delta.Reasoning != ""
		if first.FinishReason != nil {
			c.end = *first.FinishReason
		}
	}
	return c, nil
}

// aside reads a line that is no data: empty ones, comments, and fields that matter to
// others belong there; "error:" is llama.cpp's.
func (o *openAIChat) aside(line []byte) (chunk, error) {
	field, value, ok := strings.Cut(string(line), ":")
	switch {
	case ok && field == "error":
		return chunk{}, o.refused(&reply{http.StatusInternalServerError, []byte(value)})
	case len(line) == 0, ok && (field == "" || field == "event" || field == "id" || field == "retry"):
		return chunk{}, nil
	}
	return chunk{}, o.server.foreign(fmt.Errorf("a line of %d bytes is neither an event nor JSON", len(line)))
}

func (o *openAIChat) refused(r *reply) error {
	return o.server.refusal(r, modelRules...)
}
