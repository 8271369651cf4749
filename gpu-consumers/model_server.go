// Servers of models, for speech and for text: how one is asked, how long it may take,
// how much it may say, and what class each way of failing has.

package gpu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Patience is how long a server may be silent; zero values get the defaults.
type Patience struct {
	Connect   time.Duration // until a connection stands; default 3 s
	FirstByte time.Duration // until the answer begins, loading the model included; default 5 min
	Idle      time.Duration // longest pause within an answer; default 30 s
}

const (
	soundLimit = 64 << 20 // bytes of an answer with sound; ten minutes in 24-bit stereo at 96 kHz are more than any sentence
	replyLimit = 1 << 20  // bytes of any other answer
)

// modelServer asks one server. It is safe for concurrent use.
type modelServer struct {
	name string // what messages call it
	base string // URL without a slash at its end
	key  string // bearer token; never in messages
	Patience
	http *http.Client
}

func newModelServer(name, address, key string, p Patience) (*modelServer, error) {
	if err := checkServer(name, address, true); err != nil {
		return nil, err
	}
	for limit, usual := range map[*time.Duration]time.Duration{&p.Connect: 3 * time.Second, &p.FirstByte: 5 * time.Minute, &p.Idle: 30 * time.Second} {
		if *limit <= 0 {
			*limit = usual
		}
	}
	return &modelServer{name: name, base: strings.TrimRight(address, "/"), key: key, Patience: p, http: &http.Client{Transport: serverTransport(p.Connect), CheckRedirect: stayHere}}, nil
}

// reply is an answer, whatever its status.
type reply struct {
	status int
	body   []byte
}

// get asks for something small, within the time of a connection.
func (s *modelServer) get(ctx context.Context, path string) (*reply, error) {
	ctx, cancel := context.WithTimeout(ctx, s.Connect)
	defer cancel()
	return s.do(ctx, http.MethodGet, path, nil, replyLimit)
}

// post sends body as JSON.
func (s *modelServer) post(ctx context.Context, path string, body any, limit int64) (*reply, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the request to %s: %w", s.name, err)
	}
	return s.do(ctx, http.MethodPost, path, text, limit)
}

// do asks and reads the answer to its end. Errors are *TaskError of class timeout
// (nothing came in time), stalled (it stopped in the middle), engine_unavailable (no
// connection, or one that broke) or engine_rejected (more than limit bytes), or wrap
// ctx.Err() when ctx ended.
func (s *modelServer) do(ctx context.Context, method, path string, body []byte, limit int64) (*reply, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	first := time.AfterFunc(s.FirstByte, func() { cancel(errFirstToken) })
	defer first.Stop()
	req, err := s.request(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	res, err := s.http.Do(req)
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	defer func() { _ = res.Body.Close() }() // read to the end or given up: its error says nothing more
	first.Stop()
	idle := time.AfterFunc(s.Idle, func() { cancel(errIdle) })
	defer idle.Stop()
	said, err := io.ReadAll(io.LimitReader(&attentive{res.Body, func() { idle.Reset(s.Idle) }}, limit+1))
	if err != nil {
		return nil, s.explain(ctx, err)
	}
	if int64(len(said)) > limit {
		return nil, &TaskError{Class: events.ClassEngineRejected, Message: fmt.Sprintf("%s answered with more than %d bytes, which it never should", s.name, limit)}
	}
	return &reply{res.StatusCode, said}, nil
}

// request is one with the key and, where there is a body, its type.
func (s *modelServer) request(ctx context.Context, method, path string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("cannot make the request to %s: %w", s.name, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if s.key != "" {
		req.Header.Set("Authorization", "Bearer "+s.key)
	}
	return req, nil
}

// explain gives a broken exchange its class.
func (s *modelServer) explain(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errFirstToken):
		return &TaskError{Class: events.ClassTimeout, Message: s.name + " did not begin to answer in time",
			Hint: "a cold model may load for minutes: keep it loaded, or look at the server's own log", Err: cause}
	case errors.Is(cause, errIdle):
		return &TaskError{Class: events.ClassStalled, Message: s.name + " stopped in the middle of its answer", Hint: "its own log says why", Err: cause}
	case cause != nil:
		return fmt.Errorf("asking %s was stopped: %w", s.name, cause)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &TaskError{Class: events.ClassEngineUnavailable, Message: s.name + " went away in the middle of its answer", Hint: "its own log says why", Err: err}
	}
	return &TaskError{Class: events.ClassEngineUnavailable, Message: s.name + " does not answer", Hint: "is it running at " + s.base + "?", Err: err}
}

// refusal classifies an answer that is no success. rules come first: words in the
// server's own sentence, in lower case, and what they mean.
func (s *modelServer) refusal(r *reply, rules ...refusalRule) *TaskError {
	said := r.reason()
	e := &TaskError{Class: events.ClassEngineRejected, Message: fmt.Sprintf("%s refused the request (%d)", s.name, r.status), Hint: "the end of its log says why", LogTail: said}
	lower := strings.ToLower(said)
	for _, rule := range append(rules, outOfMemory) {
		for _, word := range rule.words {
			if strings.Contains(lower, word) {
				e.Class, e.Message, e.Hint = rule.class, s.name+" "+rule.message, rule.hint
				return e
			}
		}
	}
	switch {
	case r.status == http.StatusUnauthorized, r.status == http.StatusForbidden:
		e.Class, e.Message, e.Hint = events.ClassEngineUnavailable, s.name+" does not accept our key", "set the key that it expects"
	case r.status == http.StatusNotFound, r.status == http.StatusMethodNotAllowed, r.status/100 == 3:
		e.Class, e.Hint = events.ClassEngineUnavailable, "does its address lead to the right server, and has it the model?"
	case r.status == http.StatusRequestTimeout, r.status == http.StatusGatewayTimeout:
		e.Class, e.Message, e.Hint = events.ClassTimeout, s.name+" gave up in time trouble of its own", "look at its log"
	case r.status == http.StatusTooManyRequests, r.status >= http.StatusInternalServerError:
		e.Class, e.Message = events.ClassEngineUnavailable, fmt.Sprintf("%s failed while answering (%d)", s.name, r.status)
	}
	return e
}

// refusalRule says what words in a server's own sentence mean.
type refusalRule struct {
	words         []string
	class         string
	message, hint string
}

var outOfMemory = refusalRule{words: []string{"out of memory", "outofmemory", "cuda_error_out_of_memory"}, class: events.ClassOOM,
	message: "ran out of memory", hint: "give it more memory, or unload other models from the card"}

// reason finds the server's sentence in its answer: {"error":{"message"}},
// {"error"}, {"detail"} as text, object or list, {"message","Exception"}, or plain text.
func (r *reply) reason() string {
	var said any
	if json.Unmarshal(r.body, &said) != nil {
		return tailOf(string(r.body))
	}
	var parts []string
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case string:
			parts = append(parts, v)
		case []any:
			for _, one := range v {
				collect(one)
			}
		case map[string]any:
			for _, name := range []string{"error", "detail", "message", "msg", "Exception"} {
				collect(v[name])
			}
		}
	}
	collect(said)
	return tailOf(strings.Join(parts, ": "))
}

// tailOf is the end of a text, for a sealed log tail.
func tailOf(s string) string {
	return strings.ToValidUTF8(s[max(0, len(s)-2000):], "�")
}
