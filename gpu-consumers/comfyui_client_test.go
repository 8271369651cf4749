// Servers and connections that stop in the middle.

package gpu

import (
	"net/http"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/myspinbot/myspinbot/events"
)

func TestAServerThatHangsIsGivenUp(t *testing.T) {
	t.Parallel()
	f := serveComfy(t, nil)
	f.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/queue" {
			return false
		}
		<-r.Context().Done()
		return true
	}
	a, _ := speaking(t, 1)
	_, err := engineOn(t, f, "talk", func(c *ComfyUIConfig) { c.Answer = 50 * time.Millisecond }).Run(inTime(t), a)
	wantTaskError(t, err, events.ClassEngineUnavailable)
}

// A connection whose other side has gone silently is made again.
func TestADeadConnectionIsNoSilence(t *testing.T) {
	t.Parallel()
	f := serveComfy(t, plays("ws_success", "history_success"))
	f.result = leakyFilm(t, "1.2")
	dead := true
	f.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		f.mu.Lock()
		first := r.URL.Path == "/ws" && dead
		dead = dead && !first
		f.mu.Unlock()
		if first {
			if conn, err := websocket.Accept(w, r, nil); err == nil {
				defer func() { _ = conn.CloseNow() }()
				<-t.Context().Done() // reads nothing, and so answers no ping
			}
		}
		return first
	}
	a, _ := speaking(t, 1)
	e := engineOn(t, f, "talk", func(c *ComfyUIConfig) { c.Answer = time.Second })
	if _, err := e.Run(inTime(t), a); err != nil {
		t.Fatal(err)
	}
}

func TestAServerThatStopsReadingIsGivenUp(t *testing.T) {
	t.Parallel()
	f := serveComfy(t, nil)
	f.intercept = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/upload/image" {
			return false
		}
		<-t.Context().Done()
		return true
	}
	large := writeFile(t, "large.wav", make([]byte, 32<<20)) // more than the connection holds
	c := engineOn(t, f, "talk", func(c *ComfyUIConfig) { c.Answer = 300 * time.Millisecond }).server.client
	_, err := c.upload(inTime(t), large, "f", "large.wav")
	wantTaskError(t, c.explain(t.Context(), err), events.ClassEngineUnavailable)
}
