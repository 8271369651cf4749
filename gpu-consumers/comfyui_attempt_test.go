// Attempts on the server that plays recorded traffic, and what they leave behind.

package gpu

import (
	"bytes"
	"context"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// input is a part of a class's inputs, by name.
func (f *fakeComfy) input(class, part string) map[string]any {
	if f.classes[class] == nil {
		f.classes[class] = map[string]any{"input": map[string]any{"required": map[string]any{}, "optional": map[string]any{}}}
	}
	return f.classes[class].(map[string]any)["input"].(map[string]any)[part].(map[string]any)
}

// has announces classes that suit the templates: every input that a node has, and every
// model file that a template names.
func (f *fakeComfy) has(templates map[string]*comfyTemplate) {
	for _, t := range templates {
		for id, node := range t.Graph {
			inputs := map[string]any{}
			for name := range node.Inputs {
				inputs[name] = []any{"ANY", map[string]any{}}
			}
			for _, file := range t.Files {
				if file.Node == id {
					inputs[file.Input] = []any{[]any{node.Inputs[file.Input]}, map[string]any{}}
				}
			}
			for name, spec := range inputs { // what one template leaves out is no input that must be there
				f.input(node.Class, "optional")[name] = spec
			}
		}
	}
}

var quickComfy = comfyPace{
	poll: 20 * time.Millisecond, soon: 5 * time.Millisecond, unknown: 2 * time.Second, away: time.Second,
	cancel: 5 * time.Second, redial: 5 * time.Millisecond, ping: 100 * time.Millisecond,
}

// engineOn is the engine of a template, on the server.
func engineOn(t *testing.T, f *fakeComfy, template string, change func(*ComfyUIConfig)) *comfyEngine {
	t.Helper()
	f.stats = bytes.ReplaceAll(f.stats, []byte(`"type": "cpu"`), []byte(`"type": "cuda"`))
	templates, err := loadTemplates("testdata/comfyui/workflows")
	if err != nil {
		t.Fatal(err)
	}
	f.has(templates)
	c := ComfyUIConfig{URL: f.URL, Workflows: "testdata/comfyui/workflows", Templates: []string{template}}
	if change != nil {
		change(&c)
	}
	engines, err := ComfyUIEngines(c, EngineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	e := engines[0].(*comfyEngine)
	e.server.client.pace = quickComfy
	t.Cleanup(e.server.client.http.CloseIdleConnections)
	return e
}

// comfyJob is a job of the tests; attempts are numbered from 1.
const comfyJob = "0d9b7f5e-1111-7222-8333-444455556666"

// inTime ends what hangs, so that it fails here and not with the whole package.
func inTime(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// speaking is an attempt that has a portrait and a second of speech.
func speaking(t *testing.T, number int) (*Attempt, *[]float64) {
	t.Helper()
	var mu sync.Mutex
	percents := &[]float64{}
	speech := makeMedia(t, "s.wav", "-f", "lavfi", "-i", "sine=frequency=200", "-t", "1")
	return &Attempt{
		ID: events.AttemptID(comfyJob, "lipsync", number), JobID: comfyJob, Stage: "lipsync", Task: "lipsync.apply", Number: number, Dir: t.TempDir(),
		Params: map[string]any{"resolution": "576p", "fps": 10.0},
		Texts:  map[string]string{"scene": "a secret garden"},
		Files: map[string][]File{"portrait": input(portraitPath(t)),
			"speech": {{Path: speech, Artifact: events.Artifact{DurationMS: 1000}}}},
		Progress: func(p float64, _ string) {
			mu.Lock()
			defer mu.Unlock()
			*percents = append(*percents, p)
		},
	}, percents
}

// leakyFilm is a short film with a graph in its metadata, as ComfyUI writes them.
func leakyFilm(t *testing.T, seconds string) []byte {
	t.Helper()
	path := makeMedia(t, "raw.mp4", "-f", "lavfi", "-i", "testsrc=size=256x256:rate=12", "-t", seconds, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p",
		"-movflags", "use_metadata_tags", "-metadata", `prompt={"9":{"inputs":{"text":"a secret garden"}}}`)
	film, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(film, []byte("secret garden")) {
		t.Fatal("the film holds no graph")
	}
	return film
}

// left lists the files of a folder.
func left(t *testing.T, dir string) []string {
	t.Helper()
	found, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range found {
		names[f.Name()] = true
	}
	return slices.Sorted(maps.Keys(names))
}
