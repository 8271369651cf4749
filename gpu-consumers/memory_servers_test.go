// What real servers are asked about the card's memory.

package gpu

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func TestComfyUIIsAskedToFreeItsMemory(t *testing.T) {
	t.Parallel()
	f := serveComfy(t, plays("ws_success", "history_success"))
	f.stats = []byte(`{"system":{"comfyui_version":"0.3.64"},"devices":[{"name":"cpu","type":"cpu","vram_total":1,"vram_free":1},` +
		`{"name":"cuda:0 RTX","type":"cuda","vram_total":17179869184,"vram_free":6442450944}]}`)
	e := engineOn(t, f, "talk", nil)
	if r, err := e.readMemory(t.Context()); err != nil || r != (reading{"cuda:0 RTX", 10240, 16384}) {
		t.Errorf("the card reads as %+v, %v", r, err)
	}
	e.t.LeastVRAM = 16
	if e.weighs() != 15564 || e.unit() != "comfyui "+f.URL {
		t.Errorf("an attempt takes %d MiB in unit %q", e.weighs(), e.unit())
	}
	if err := e.unload(t.Context()); err != nil || f.freed != 1 {
		t.Errorf("unloading gave %v; the server was asked %d times", err, f.freed)
	}
}

func TestOllamaIsAskedToUnloadItsModel(t *testing.T) {
	t.Parallel()
	var asked string
	answer := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/api/tags" {
			_, _ = io.WriteString(w, `{"models":[{"name":"llama3.2:latest","digest":"sha256:abc","size":2147483648}]}`)
			return
		}
		asked = r.Method + " " + r.URL.Path + " " + string(body)
		w.WriteHeader(answer)
	}))
	t.Cleanup(s.Close)
	engines, err := TextEngines(TextConfig{Ollama: ChatConfig{URL: s.URL, Model: "llama3.2", Patience: Patience{Connect: time.Minute}}})
	if err != nil {
		t.Fatal(err)
	}
	o, counted := engines[1].(scriptOnCard)
	if !counted {
		t.Fatalf("the card's memory is not counted for %T", engines[1])
	}
	if _, gap := o.Capability(t.Context()); gap != nil {
		t.Fatalf("%+v", gap)
	}
	if got := o.weighs(); got != 2048*11/10+512 {
		t.Errorf("an attempt takes %d MiB", got)
	}
	if err := o.unload(t.Context()); err != nil || asked != `POST /api/generate {"keep_alive":0,"model":"llama3.2"}` {
		t.Errorf("unloading gave %v; the server was asked %s", err, asked)
	}
	answer = http.StatusInternalServerError
	if err := o.unload(t.Context()); err == nil {
		t.Error("a refusal passes for an unloaded model")
	}
}
