// Messages of a running graph: progress that only rises, over a connection that may
// break. Nothing here decides how a prompt ended.

package gpu

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// comfyMessage bounds one message; an execution_error holds the inputs of its node.
const comfyMessage = 16 << 20

// comfyWatch follows one prompt.
type comfyWatch struct {
	client *comfyClient
	id     string
	graph  comfyGraph
	report func(percent float64, message string)
	ended  chan struct{} // holds one when the server has said that the prompt is over, or when messages may have been missed

	mu        sync.Mutex
	connected bool
	heard     time.Time
	done      map[string]bool
	percent   float64
}

// watch follows the prompt's messages until stop is called, which waits for the end of
// everything that was started.
func (c *comfyClient) watch(ctx context.Context, id string, graph comfyGraph, report func(float64, string)) (w *comfyWatch, stop func()) {
	w = &comfyWatch{client: c, id: id, graph: graph, report: report, ended: make(chan struct{}, 1), heard: time.Now(), done: map[string]bool{}}
	ctx, cancel := context.WithCancel(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		w.listen(ctx)
	}()
	return w, func() { cancel(); <-gone }
}

// listen keeps a connection under the prompt's name, and makes it again when it breaks:
// the server sends what follows to the newest of the name.
func (w *comfyWatch) listen(ctx context.Context) {
	wait := w.client.pace.redial
	for {
		began := time.Now()
		w.hear(ctx)
		signal(w.ended) // the end may be among what was missed
		if time.Since(began) > 10*wait {
			wait = w.client.pace.redial
		}
		if !pause(ctx, wait) {
			return
		}
		wait = min(2*wait, 10*time.Second)
	}
}

func (w *comfyWatch) hear(ctx context.Context) {
	header := http.Header{}
	if key := w.client.APIKey; key != "" {
		header.Set("Authorization", "Bearer "+key)
	}
	dialing, cancel := context.WithTimeout(ctx, w.client.Connect+w.client.Answer)
	defer cancel()
	address := "ws" + strings.TrimPrefix(w.client.URL, "http") + "/ws?clientId=" + url.QueryEscape(w.id)
	conn, res, err := websocket.Dial(dialing, address, &websocket.DialOptions{HTTPClient: w.client.http, HTTPHeader: header})
	if res != nil && res.Body != nil {
		defer res.Body.Close()
	}
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }() // nothing is left to be said
	conn.SetReadLimit(comfyMessage)
	w.connect(true)
	defer w.connect(false)
	ctx, over := context.WithCancel(ctx)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		w.prove(ctx, conn)
	}()
	defer func() { over(); <-gone }()
	for {
		kind, text, err := conn.Read(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageText { // the others are previews
			w.take(text)
		}
	}
}

// prove ends a connection whose other side has gone without a word, which else would
// pass for a graph that is silent.
func (w *comfyWatch) prove(ctx context.Context, conn *websocket.Conn) {
	for pause(ctx, w.client.pace.ping) {
		asking, cancel := context.WithTimeout(ctx, w.client.Answer)
		err := conn.Ping(asking)
		cancel()
		if err != nil {
			_ = conn.CloseNow() // ends hear
			return
		}
	}
}

func (w *comfyWatch) connect(up bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.connected, w.heard = up, time.Now()
}

// comfyEvent is the data of every message that is of use.
type comfyEvent struct {
	Prompt string   `json:"prompt_id"`
	Node   *string  `json:"node"`
	Value  float64  `json:"value"`
	Max    float64  `json:"max"`
	Cached []string `json:"-"` // nodes of execution_cached
	Nodes  map[string]struct {
		State string `json:"state"`
	} `json:"-"` // of progress_state
}

// take reads a message. Those about other prompts come over the same connection, and
// one about the node that runs comes without a prompt after a reconnection.
func (w *comfyWatch) take(text []byte) {
	var m struct {
		Type string          `json:"type"`
		Data json.RawMessage `json:"data"`
	}
	var e comfyEvent
	if json.Unmarshal(text, &m) != nil || json.Unmarshal(m.Data, &e) != nil || e.Prompt != w.id {
		return
	}
	switch m.Type {
	case "execution_cached":
		var cached struct{ Nodes []string }
		if json.Unmarshal(m.Data, &cached) == nil {
			e.Cached = cached.Nodes
		}
	case "progress_state":
		var state struct {
			Nodes map[string]struct {
				State string `json:"state"`
			} `json:"nodes"`
		}
		if json.Unmarshal(m.Data, &state) == nil {
			e.Nodes = state.Nodes
		}
	case "execution_success", "execution_error", "execution_interrupted":
		signal(w.ended)
	}
	w.advance(m.Type, e)
}

// advance counts what is done. The share of a node in the whole is its weight.
func (w *comfyWatch) advance(kind string, e comfyEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = time.Now()
	for _, node := range e.Cached {
		w.done[node] = true
	}
	for node, n := range e.Nodes {
		if n.State == "finished" {
			w.done[node] = true
		}
	}
	var at string
	if e.Node != nil {
		at = *e.Node
	}
	if kind == "executed" && at != "" {
		w.done[at] = true
	}
	var done, all float64
	for id, node := range w.graph {
		weight := node.weight()
		all += weight
		switch {
		case w.done[id]:
			done += weight
		case kind == "progress" && id == at && e.Max > 0:
			done += weight * max(0, min(1, e.Value/e.Max))
		}
	}
	if all > 0 {
		w.percent = max(w.percent, 100*done/all)
	}
	message := "ComfyUI is at work"
	if node, known := w.graph[at]; known {
		message = "ComfyUI runs " + node.Class
	}
	w.report(w.percent, message)
}

// weight is about how much of a graph's time a node takes.
func (n comfyNode) weight() float64 {
	switch {
	case strings.Contains(n.Class, "Sampler"):
		return 20
	case strings.Contains(n.Class, "Decode"), strings.Contains(n.Class, "UpscaleWithModel"), strings.Contains(n.Class, "Loader"):
		return 4
	}
	return 1
}

// heardOf takes what a look at the server said: waiting for others is no silence.
func (w *comfyWatch) heardOf(phase comfyPhase) {
	if phase != comfyPending {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = time.Now()
	w.report(w.percent, "waiting in ComfyUI's queue")
}

// silence is how long a running prompt has said nothing. Without a connection it
// cannot be known, and is 0.
func (w *comfyWatch) silence() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.connected {
		return 0
	}
	return time.Since(w.heard)
}
