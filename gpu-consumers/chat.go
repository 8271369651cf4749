// Language models: how one is asked for an object in JSON, how its answer is heard while
// it comes, and how an answer of no use is asked for again.
//
// Rules, each of which answers a trap seen on a real server: an answer counts only if the
// model ended it by itself and it holds what was asked for; one that neither ended nor
// ran out of room looped and was cut by the server; everything is said in one user
// message, because a model without a chat template silently drops any other; the first
// word may take minutes while the model loads, later ones may not.

package gpu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/myspinbot/myspinbot/events"
)

// ChatConfig says where a language model answers. With an empty URL there is none.
type ChatConfig struct {
	URL         string  // such as http://127.0.0.1:11434
	Key         string  // bearer token; empty: none is sent
	Model       string  // as the server names it
	Temperature float64 // 0 to 2; 0 makes answers repeatable
	KeepAlive   string  // how long Ollama keeps the model loaded, such as 10m, 0 or -1; empty: its own choice
	Patience            // FirstByte is until the first word, loading the model included
}

func (c ChatConfig) check(whose string) error {
	if c.Model == "" {
		return fmt.Errorf("cannot use %s without a model: name one that it has", whose)
	}
	if !(c.Temperature >= 0 && c.Temperature <= 2) {
		return fmt.Errorf("cannot use the temperature %g for %s: choose 0 to 2", c.Temperature, whose)
	}
	return nil
}

// chatModel is a language model behind a server. It is safe for concurrent use.
type chatModel interface {
	// identity is the names of engine and model, as results have them.
	identity() (engine, model string)
	// announce asks for the models that the server has, so that an absent one is known
	// before a job needs it. version is what the server tells of the model's, or empty;
	// the gap's task is filled in by the engine around the model.
	announce(ctx context.Context) (version string, gap *events.TaskGap)
	// chat asks once. heard is called with the number of characters so far. Errors are
	// as those of modelServer.do.
	chat(ctx context.Context, q question, heard func(characters int)) (chatAnswer, error)
}

// question is what is asked of a model: an object that follows the schema.
type question struct {
	text        string
	name        string // of what the schema describes
	schema      json.RawMessage
	temperature float64
	seed        int
	tokens      int // bound of the answer
}

// chatAnswer is what a model said, and how it ended.
type chatAnswer struct{ content, end string }

// Ends of an answer. A server may say others.
const (
	endStop   = "stop"   // the model had no more to say
	endLength = "length" // there was no more room
	endLooped = ""       // the server cut it
)

// fault is what is wrong with how the answer ended, or empty.
func (a chatAnswer) fault() string {
	switch a.end {
	case endStop:
		return ""
	case endLooped:
		return "the answer repeated itself until the server cut it"
	case endLength:
		return "the answer was cut because it was too long"
	}
	return fmt.Sprintf("the answer ended with the reason %q", a.end)
}

// object reads the answer into a struct whose members are all that it may have.
func (a chatAnswer) object(into any, members string) (fault string) {
	d := json.NewDecoder(strings.NewReader(a.content))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return "the answer is not a JSON object with " + members
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return "something follows the JSON object"
	}
	return ""
}

const chatTries = 3 // one answer and at most two repairs

// converse asks until check finds no fault with an answer, telling the model each time
// what was wrong with the last. Faults are in words that hold no text of the model's or
// the user's. expected is about how many characters a good answer has, for the progress.
func converse(ctx context.Context, m chatModel, a *Attempt, q question, expected int, check func(chatAnswer) (fault string)) error {
	text, seed := q.text, q.seed
	var last *TaskError
	for try := range chatTries {
		from := float64(try) * 30
		a.report(from, "waiting for the language model")
		q.seed = seed + try
		answer, err := m.chat(ctx, q, func(n int) {
			a.report(from+2+27*min(1, float64(n)/float64(expected)), "the language model is writing")
		})
		if err != nil {
			return err
		}
		fault := answer.fault()
		if fault == "" {
			fault = check(answer)
		}
		if fault == "" {
			return nil
		}
		last = &TaskError{
			Class: events.ClassEngineRejected, Message: "the language model gave no usable answer: " + fault,
			Hint: "use a larger or instruction-tuned model", LogTail: tailOf(answer.content),
		}
		if answer.end == endLength {
			q.tokens *= 2
		}
		q.text = text + "\n\nYour last answer could not be used: " + fault + ". Answer with the JSON object only."
	}
	return last
}

const (
	chatLine    = 1 << 20  // bytes of a line of an answer
	chatContent = 64 << 10 // bytes that a model says; a script is far shorter
)

// chunk is a part of an answer.
type chunk struct {
	said    string
	thought bool   // the model is at work, and says nothing yet
	end     string // set by the part that says how the answer ended
	last    bool   // nothing follows
}

// stream posts body and reads the answer part by part, each a line, or all of it where
// the server answers with one document.
func (s *modelServer) stream(ctx context.Context, path string, body any, read func(line []byte) (chunk, error), refused func(*reply) error,
	heard func(int),
) (answer chatAnswer, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return answer, fmt.Errorf("cannot encode the request to %s: %w", s.name, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	first := time.AfterFunc(s.FirstByte, func() { cancel(errFirstToken) })
	defer first.Stop()
	req, err := s.request(ctx, http.MethodPost, path, text)
	if err != nil {
		return answer, err
	}
	res, err := s.http.Do(req)
	if err != nil {
		return answer, s.explain(ctx, err)
	}
	defer func() { _ = res.Body.Close() }() // read to the end or given up: its error says nothing more
	if res.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(io.LimitReader(res.Body, 4<<10)) // what could be read is enough
		return answer, refused(&reply{res.StatusCode, said})
	}
	idle := time.AfterFunc(s.FirstByte+s.Idle, func() { cancel(errIdle) })
	defer idle.Stop()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, chatLine)
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind == "application/json" {
		lines.Split(wholeDocument)
	}
	var content strings.Builder
	for lines.Scan() {
		part, err := read(lines.Bytes())
		if err != nil {
			return answer, err
		}
		if part.said != "" || part.thought || part.end != "" {
			first.Stop()
			idle.Reset(s.Idle)
		}
		content.WriteString(part.said)
		if part.end != "" {
			answer.end = part.end
		}
		heard(utf8.RuneCountInString(content.String()))
		if content.Len() > chatContent {
			answer.end, part.last = endLength, true
		}
		if part.last {
			answer.content = content.String()
			return answer, nil
		}
	}
	answer.content = content.String()
	return answer, s.streamEnded(ctx, lines.Err())
}

// streamEnded is why an answer is over that did not say so itself; nil where the server
// closed it in good order.
func (s *modelServer) streamEnded(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		return &TaskError{Class: events.ClassEngineRejected, Message: s.name + " answered with a line that has no end", Hint: "is another program listening at its address?"}
	case err != nil:
		return s.explain(ctx, err)
	case ctx.Err() != nil:
		return s.explain(ctx, ctx.Err())
	}
	return nil
}

// wholeDocument is a bufio.SplitFunc that gives everything at once.
func wholeDocument(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if !atEOF || len(data) == 0 {
		return 0, nil, nil
	}
	return len(data), data, nil
}

// foreign says that a server does not speak as its kind does.
func (s *modelServer) foreign(err error) *TaskError {
	return &TaskError{Class: events.ClassEngineRejected, Message: "the answer of " + s.name + " is not in its own format",
		Hint: "is another program listening at its address?", Err: err}
}

// unwrapSSE is the data of a line of server-sent events; nil for any other line.
func unwrapSSE(line []byte) []byte {
	if data, ok := bytes.CutPrefix(line, []byte("data:")); ok {
		return bytes.TrimSpace(data)
	}
	return nil
}

// modelRules read what servers of language models say when they refuse.
var modelRules = []refusalRule{
	{words: []string{"invalid format", "invalid json schema", "response_format", "json_schema", "json schema", "grammar"}, class: events.ClassEngineRejected,
		message: "does not take the JSON schema", hint: "use a version that supports JSON schemas (Ollama 0.5 or newer)"},
	{words: []string{"context length", "context size", "context window"}, class: events.ClassEngineRejected,
		message: "has too little context for the request", hint: "start it with a context of 4096 tokens or more"},
	{words: []string{"more system memory", "memory"}, class: events.ClassOOM,
		message: "does not get the model into memory", hint: "use a smaller model or a stronger quantization"},
}
