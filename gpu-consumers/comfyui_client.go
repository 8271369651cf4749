// Speaking to a ComfyUI server over its native API (routes and answers recorded from
// version 0.3.64; /api/jobs read in 0.38): requests, their bounds, and what is said of
// a server that does not answer.

package gpu

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// ComfyUIConfig says where a ComfyUI server answers. With an empty URL there is none.
type ComfyUIConfig struct {
	URL       string        // such as http://127.0.0.1:8188; a path is kept, for a server behind a proxy
	APIKey    string        // sent as "Authorization: Bearer …" when not empty
	Workflows string        // folder with templates of one's own; empty: the built-in ones alone
	Templates []string      // names of the templates to offer, in the order of preference; empty: all
	Idle      time.Duration // longest silence of a running graph; default 10 min, since models load without a word
	Connect   time.Duration // until a connection stands; default 3 s
	Answer    time.Duration // until an answer begins, and the longest pause within one; default 30 s
}

const (
	comfyJSON     = 64 << 20  // bytes of an answer; one of /queue holds every waiting graph
	comfyUpload   = 100 << 20 // the server's own limit unless it was raised
	comfyDownload = 4 << 30   // of one result
)

// comfyClient sends requests to one server. It is safe for concurrent use.
type comfyClient struct {
	ComfyUIConfig
	http *http.Client
	pace comfyPace

	mu      sync.Mutex
	jobsAPI *bool // whether the server has /api/jobs; nil: not asked yet
}

// comfyPace is every interval of the client, so that tests need not wait.
type comfyPace struct {
	poll    time.Duration // between two looks at a prompt
	soon    time.Duration // the same while the answer should change at once
	unknown time.Duration // how long a prompt may be in neither queue nor history before it is lost
	away    time.Duration // how long a server may be away while a prompt runs
	cancel  time.Duration // for taking a prompt back when its attempt ends
	redial  time.Duration // before the messages' connection is made again, at least
	ping    time.Duration // between two proofs that the connection stands
}

var usualComfyPace = comfyPace{
	poll: 2 * time.Second, soon: 250 * time.Millisecond, unknown: 5 * time.Second, away: time.Minute,
	cancel: 3 * time.Second, redial: 250 * time.Millisecond, ping: 20 * time.Second,
}

func newComfyClient(c ComfyUIConfig) (*comfyClient, error) {
	if err := checkServer("ComfyUI", c.URL, true); err != nil {
		return nil, err
	}
	if strings.ContainsAny(c.APIKey, "\r\n") {
		return nil, errors.New("cannot use ComfyUI's key: it has a line break")
	}
	c.URL = strings.TrimRight(c.URL, "/")
	if c.Connect <= 0 {
		c.Connect = 3 * time.Second
	}
	if c.Answer <= 0 {
		c.Answer = 30 * time.Second
	}
	if c.Idle <= 0 {
		c.Idle = 10 * time.Minute
	}
	transport := serverTransport(c.Connect)
	transport.ResponseHeaderTimeout = c.Answer
	client := &http.Client{Transport: transport, CheckRedirect: stayHere}
	return &comfyClient{ComfyUIConfig: c, http: client, pace: usualComfyPace}, nil
}

// comfyStatus is an answer other than 200.
type comfyStatus struct {
	code int
	body string
}

func (e *comfyStatus) Error() string { return fmt.Sprintf("the server answered %d", e.code) }

// errComfyFormat is an answer that is not what ComfyUI says.
var errComfyFormat = errors.New("the answer is not in ComfyUI's format")

// send makes a request and hands the body of a 200 to read. It is stopped after c.Answer
// without a byte in either direction.
func (c *comfyClient) send(ctx context.Context, method, path, ctype string, body io.Reader, read func(*http.Response) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	idle := time.AfterFunc(c.Connect+c.Answer, func() { cancel(errIdle) })
	defer idle.Stop()
	heard := func() { idle.Reset(c.Answer) }
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, body)
	if err != nil {
		return fmt.Errorf("cannot make a request to ComfyUI: %w", err)
	}
	if ctype != "" {
		req.Header.Set("Content-Type", ctype)
	}
	if c.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+c.APIKey)
	}
	if req.Body != nil {
		req.Body = &attentive{req.Body, heard} // a server that stops taking a large file
	}
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	heard()
	res.Body = &attentive{res.Body, heard}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // what could be read is enough
		return &comfyStatus{res.StatusCode, string(text)}
	}
	err = read(res)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errIdle) {
		return errIdle
	}
	return err
}

// get and post exchange JSON. into may be nil for an answer without a body.
func (c *comfyClient) get(ctx context.Context, path string, into any) error {
	return c.send(ctx, http.MethodGet, path, "", nil, func(res *http.Response) error { return decodeComfy(res, into) })
}

func (c *comfyClient) post(ctx context.Context, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("cannot encode a request to ComfyUI: %w", err)
	}
	return c.send(ctx, http.MethodPost, path, "application/json", bytes.NewReader(text), func(res *http.Response) error {
		if into == nil {
			return nil
		}
		return decodeComfy(res, into)
	})
}

// decodeComfy reads one JSON value. One that is cut off is a broken connection, one
// that is something else is another program.
func decodeComfy(res *http.Response, into any) error {
	text, err := io.ReadAll(io.LimitReader(res.Body, comfyJSON+1))
	if err != nil {
		return err
	}
	if len(text) > comfyJSON {
		return fmt.Errorf("%w: it is longer than %d MiB", errComfyFormat, comfyJSON>>20)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%w: %w", errComfyFormat, err)
	}
	return nil
}

// transient says that asking again may help: the server was away or broke off, and did
// not refuse.
func transient(err error) bool {
	var status *comfyStatus
	if errors.As(err, &status) {
		return status.code >= http.StatusInternalServerError || status.code == http.StatusTooManyRequests
	}
	var known *TaskError
	return err != nil && !errors.Is(err, errComfyFormat) && !errors.As(err, &known)
}

// explain gives a request that failed its class. ctx is the attempt's.
func (c *comfyClient) explain(ctx context.Context, err error) error {
	var known *TaskError
	var status *comfyStatus
	switch {
	case errors.As(err, &known):
		return err
	case ctx.Err() != nil:
		return fmt.Errorf("the work of ComfyUI was stopped: %w", context.Cause(ctx))
	case errors.Is(err, errComfyFormat):
		return &TaskError{Class: events.ClassEngineRejected, Message: "ComfyUI's answer is not in its own format",
			Hint: "is another program listening at its address?", Err: err}
	case errors.As(err, &status):
		return c.explainStatus(status)
	}
	return &TaskError{Class: events.ClassEngineUnavailable, Message: "ComfyUI does not answer", Hint: "is it running at " + c.URL + "?", Err: err}
}

func (c *comfyClient) explainStatus(s *comfyStatus) error {
	e := &TaskError{Class: events.ClassEngineRejected, Message: fmt.Sprintf("ComfyUI refused a request (%d)", s.code), LogTail: tailOf(s.body)}
	switch {
	case s.code == http.StatusUnauthorized, s.code == http.StatusForbidden:
		e.Class, e.Hint = events.ClassEngineUnavailable, "set engines.comfyui.api_key to the key that its proxy asks for"
	case s.code == http.StatusRequestEntityTooLarge:
		e.Class, e.Message, e.Hint = events.ClassInvalidInput, "a file is larger than ComfyUI takes", "use a smaller file, or start ComfyUI with a higher --max-upload-size"
	case s.code == http.StatusTooManyRequests, s.code >= http.StatusInternalServerError:
		e.Class, e.Message, e.Hint = events.ClassEngineUnavailable, fmt.Sprintf("ComfyUI failed (%d)", s.code), "its own log says why"
	case s.code >= http.StatusMultipleChoices && s.code < http.StatusBadRequest:
		e.Hint = "set engines.comfyui.url to the address that it sends on to"
	case s.code == http.StatusNotFound:
		e.Hint = "is another program listening at its address?"
	}
	return e
}

// absence is why the server cannot be used, and what to do.
func (c *comfyClient) absence(ctx context.Context, err error) (reason, hint string) {
	var known *TaskError
	if !errors.As(c.explain(ctx, err), &known) { // the question's time was up
		return fmt.Sprintf("ComfyUI at %s does not answer in time", c.URL), "look at its log"
	}
	return fmt.Sprintf("%s (%s): %v", known.Message, c.URL, err), cmp.Or(known.Hint, "start ComfyUI, or set engines.comfyui.url right")
}

// comfyStats is the part of /system_stats that is used.
type comfyStats struct {
	System struct {
		Version string `json:"comfyui_version"`
	} `json:"system"`
	Devices []comfyDevice `json:"devices"`
}

// comfyDevice is a card, or the CPU. Sizes are in bytes.
type comfyDevice struct {
	Name      string `json:"name"`
	Type      string `json:"type"` // cuda, cpu, mps, …
	VRAMTotal int64  `json:"vram_total"`
	VRAMFree  int64  `json:"vram_free"`
}

func (c *comfyClient) stats(ctx context.Context) (s comfyStats, err error) {
	if err = c.get(ctx, "/system_stats", &s); err == nil && s.System.Version == "" {
		err = errComfyFormat
	}
	return s, err
}

// free has the server unload its models, so that the next graph finds the memory empty.
func (c *comfyClient) free(ctx context.Context) error {
	return c.post(ctx, "/free", map[string]bool{"unload_models": true, "free_memory": true}, nil)
}
