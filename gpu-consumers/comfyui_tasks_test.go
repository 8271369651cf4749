// Which engine does what when a ComfyUI server is there, and what the templates that
// come along send and make.

package gpu

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/events"
)

// The built-in engine takes what a template does not, and everything while the server
// is away.
func TestTheBuiltInEnginesStandIn(t *testing.T) {
	t.Parallel()
	f := serveComfy(t, nil)
	engineOn(t, f, "talk", nil) // a server with a card
	templates, err := loadTemplates("")
	if err != nil {
		t.Fatal(err)
	}
	f.has(templates)
	engines, err := ComfyUIEngines(ComfyUIConfig{URL: f.URL}, EngineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	media := testTool()
	engines = append(engines, &kenBurns{media, &faceNetworks{}}, &lanczos{media})
	lanes := map[string]int{events.LaneRender: 1, events.LaneLipsync: 1, events.LaneUpscale: 1}
	file := func(ms int64) []File { return []File{{Path: "/f", Artifact: events.Artifact{DurationMS: ms}}} }
	render := &Attempt{Task: "render_video", Files: map[string][]File{"portrait": file(0)}}
	enlarge := func(factor float64, ms int64) *Attempt {
		return &Attempt{Task: "upscale_video", Params: map[string]any{"factor": factor}, Files: map[string][]File{"video": file(ms)}}
	}
	talk := func(ms int64, more ...string) *Attempt {
		a := &Attempt{Task: "lipsync.apply", Files: map[string][]File{"portrait": file(0), "speech": file(ms)}}
		for _, name := range more {
			a.Files[name] = file(ms)
		}
		return a
	}
	pick := func(a *Attempt) string {
		r := newRoster(engines, lanes)
		r.refresh(t.Context())
		_, can, err := r.pick(t.Context(), a)
		if err != nil {
			return "none"
		}
		return can.Engine
	}
	for what, c := range map[string]struct {
		a    *Attempt
		want string
	}{
		"a scene": {render, "comfyui-svd"}, "a talking head": {talk(8000), "comfyui-s2v"},
		"an hour of speech": {talk(3_600_000), "none"}, "lips on a clip": {talk(8000, "clip"), "comfyui-latentsync"},
		"lips on a long clip": {talk(61_000, "clip"), "none"}, // talking-photo, which is not in this roster
		"twice as large":      {enlarge(2, 8000), "comfyui-upscale"}, "four times": {enlarge(4, 8000), "lanczos"}, "a long film": {enlarge(2, 60_000), "lanczos"},
	} {
		if got := pick(c.a); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
	f.play = func(f *fakeComfy, id string) {
		f.begin(id)
		f.vanish()
	}
	failing, _ := speaking(t, 1)
	svd := engines[0].(*comfyEngine)
	svd.server.client.pace = quickComfy
	_, err = svd.Run(inTime(t), failing)
	wantTaskError(t, err, events.ClassEngineUnavailable)
	if got := pick(render); got != "ken-burns" {
		t.Errorf("after the server has gone %s renders", got)
	}
}

// vanish is the end of the server. No connection may come about between the two steps:
// it would be served.
func (f *fakeComfy) vanish() {
	f.Listener.Close()
	f.CloseClientConnections()
}

// The templates that come along, through the same server: what each sends and makes.
func TestBuiltInTemplatesRun(t *testing.T) {
	t.Parallel()
	film := writeFile(t, "film.mp4", leakyFilm(t, "1"))
	for name, c := range map[string]struct {
		stage  string
		params map[string]any
		files  map[string][]File
		output string
		w, h   int
		notes  string
		inputs map[string]any
	}{
		"svd": {"render", map[string]any{"resolution": "576p", "aspect": "16:9", "fps": 10.0, "duration_seconds": 3.0, "seed": 5.0},
			map[string][]File{"portrait": input(portraitPath(t))}, "clip", 1024, 576, "does not draw the scene",
			map[string]any{"3.width": 1024.0, "3.height": 576.0, "5.seed": 5.0, "2.image": "portrait (1).png"}},
		"upscale": {"upscale", map[string]any{"factor": 2.0},
			map[string][]File{"video": {{Path: film, Artifact: events.Artifact{DurationMS: 1000}}}}, "video", 512, 512, "",
			map[string]any{"2.file": "video (1).mp4"}},
		"infinitetalk": {"lipsync", map[string]any{"resolution": "576p", "fps": 10.0},
			map[string][]File{"portrait": input(portraitPath(t)), "speech": input(makeMedia(t, "s.wav", "-f", "lavfi", "-i", "sine", "-t", "1"))},
			"talking", 576, 576, "", map[string]any{"11.num_frames": 37.0, "13.width": 640.0, "10.audio": "speech (1).wav"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := serveComfy(t, nil)
			e := engineOn(t, f, name, func(c *ComfyUIConfig) { c.Workflows = "" })
			f.node = e.t.Output.Node
			f.play = func(f *fakeComfy, id string) {
				f.begin(id)
				f.end(id, "history_success")
			}
			f.result = leakyFilm(t, "1.4")
			a := &Attempt{ID: events.AttemptID(comfyJob, c.stage, 1), JobID: comfyJob, Stage: c.stage, Task: e.t.Task, Number: 1, Dir: t.TempDir(), Params: c.params, Files: c.files}
			out, err := e.Run(inTime(t), a)
			if err != nil {
				t.Fatal(err)
			}
			made := out.Files[c.output][0]
			info, err := testTool().probe(t.Context(), made.Path)
			if err != nil || info.Video.Width != c.w || info.Video.Height != c.h || made.Artifact.Width != c.w || made.Artifact.DurationMS <= 0 {
				t.Errorf("made %+v, %+v, %v", info, made.Artifact, err)
			}
			if content, err := os.ReadFile(made.Path); err != nil || bytes.Contains(content, []byte("secret")) {
				t.Errorf("the result tells of its graph: %v", err)
			}
			if !strings.Contains(strings.Join(out.Notes, "; "), c.notes) {
				t.Errorf("notes %q", out.Notes)
			}
			var graph comfyGraph
			if err := json.Unmarshal(f.posted[0].Graph, &graph); err != nil {
				t.Fatal(err)
			}
			for at, want := range c.inputs {
				node, name, _ := strings.Cut(at, ".")
				got := graph[node].Inputs[name]
				if text, is := got.(string); is {
					got = strings.TrimPrefix(text, "myspinbot/"+comfyJob+"/")
				}
				if got != want {
					t.Errorf("%s is %v, want %v", at, got, want)
				}
			}
		})
	}
}
