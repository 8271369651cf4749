// Templates: what is refused, what a server must have for them, and that nothing a user
// writes can change a graph beyond its slot.

package gpu

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/myspinbot/myspinbot/events"
)

func builtinTemplate(t testing.TB, name string) *comfyTemplate {
	t.Helper()
	all, err := loadTemplates("")
	if err != nil {
		t.Fatal(err)
	}
	return all[name]
}

// asJSON is a graph as the server gets it.
func asJSON(t rapid.TB, g comfyGraph) map[string]map[string]any {
	t.Helper()
	text, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNoTextAltersAGraphBeyondItsSlot(t *testing.T) {
	t.Parallel()
	templates, err := loadTemplates("")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]any{"portrait": "p.png", "speech": "s.wav", "video": "v.mp4", "prefix": "p"}
	rapid.Check(t, func(t *rapid.T) {
		template := templates[rapid.SampledFrom([]string{"s2v", "infinitetalk"}).Draw(t, "template")]
		copies := rapid.IntRange(0, 4).Draw(t, "copies")
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`["1",0]`, `"},"99":{"class_type":"Evil"`, "\x00\u2028\\", "%date%", "embedding:x", strings.Repeat("a", 5000)})).Draw(t, "text")
		fill := func(scene string) map[string]map[string]any {
			values := map[string]any{"scene": scene}
			for name, v := range files {
				values[name] = v
			}
			g, err := template.fill(copies, values)
			if err != nil {
				t.Fatal(err)
			}
			return asJSON(t, g)
		}
		plain, got := fill("x"), fill(text)
		var at comfySlot
		for _, s := range template.Slots {
			if s.Name == "scene" {
				at = s
			}
		}
		inputs := func(g map[string]map[string]any) map[string]any { return g[at.Node]["inputs"].(map[string]any) }
		said, is := inputs(got)[at.Input].(string)
		if !is || len([]rune(said)) > int(at.Max) {
			t.Fatalf("the slot holds %T of %d characters", inputs(got)[at.Input], len([]rune(said)))
		}
		inputs(got)[at.Input] = "x"
		if !reflect.DeepEqual(plain, got) {
			t.Fatal("the graph differs beyond the slot")
		}
	})
}

func TestSlotsTakeTheirTypeAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		slot  comfySlot
		value any
		want  any // nil: refused
	}{
		{comfySlot{Type: "integer", Min: 1, Max: 9}, 3.0, int64(3)},
		{comfySlot{Type: "integer", Min: 1, Max: 9}, 3.5, nil},
		{comfySlot{Type: "integer", Min: 1, Max: 9}, 10, nil},
		{comfySlot{Type: "integer", Min: 1, Max: 9}, "3", nil},
		{comfySlot{Type: "integer", Min: 1, Max: 9}, []any{"1", 0}, nil},
		{comfySlot{Type: "number", Min: 0, Max: 1}, 0.5, 0.5},
		{comfySlot{Type: "number", Min: 0, Max: 1}, -0.5, nil},
		{comfySlot{Type: "seed"}, int64(1 << 40), int64(1 << 40)},
		{comfySlot{Type: "seed"}, -1.0, nil},
		{comfySlot{Type: "choice", Options: []string{"a", "b"}}, "b", "b"},
		{comfySlot{Type: "choice", Options: []string{"a", "b"}}, "c", nil},
		{comfySlot{Type: "text"}, "two\x00 words\n", "two  words\n"},
		{comfySlot{Type: "text"}, map[string]any{}, nil},
		{comfySlot{Type: "image"}, []any{"1", 0}, nil},
	} {
		got, err := c.slot.accept(c.value)
		if (err != nil) != (c.want == nil) || got != c.want {
			t.Errorf("%s of %v: %v, %v", c.slot.Type, c.value, got, err)
		}
		if err != nil {
			wantTaskError(t, refusedValue(err), events.ClassInvalidInput)
		}
	}
}

// The part that is repeated continues itself, and whoever follows reads its end.
func TestAChainGrowsWithTheSpeech(t *testing.T) {
	t.Parallel()
	s2v := builtinTemplate(t, "s2v")
	values := map[string]any{"portrait": "p.png", "speech": "s.wav", "prefix": "p", "seed": int64(7)}
	links := func(copies int) map[string]string {
		g, err := s2v.fill(copies, values)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for id, node := range g {
			for name, v := range node.Inputs {
				if from, is := linkOf(v); is {
					out[id+"."+name] = from
					if g[from].Class == "" {
						t.Errorf("with %d copies node %s reads %s, which is not there", copies, id, from)
					}
				}
			}
		}
		return out
	}
	if l := links(0); l["13.samples"] != "12" || l["30_0.vae"] != "" {
		t.Errorf("without copies the end reads %s", l["13.samples"])
	}
	l := links(2)
	for at, want := range map[string]string{
		"30_0.video_latent": "12", "31_0.latent_image": "30_0", "32_0.samples1": "12", "32_0.samples2": "31_0",
		"30_1.video_latent": "32_0", "31_1.latent_image": "30_1", "32_1.samples1": "32_0", "32_1.samples2": "31_1",
		"13.samples": "32_1", "14.samples2": "32_1", "30_1.vae": "4",
	} {
		if l[at] != want {
			t.Errorf("%s reads %s, want %s", at, l[at], want)
		}
	}
}

func TestUnsoundTemplatesAreRefused(t *testing.T) {
	t.Parallel()
	sound, err := os.ReadFile("testdata/comfyui/workflows/talk.json")
	if err != nil {
		t.Fatal(err)
	}
	edit := func(from, to string) string {
		if !bytes.Contains(sound, []byte(from)) {
			t.Fatalf("the template has no %s", from)
		}
		return strings.Replace(string(sound), from, to, 1)
	}
	for want, text := range map[string]string{
		`export it with "Export (API)"`:     `{"last_node_id": 3, "nodes": [{"id": 1, "type": "LoadImage"}], "links": []}`,
		`which its API does not take`:       edit(`"graph": {`, `"graph": {"nodes": [], "links": [],`),
		`this is a bare graph`:              `{"1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}}}`,
		`it is no template`:                 edit(`"fps"`, `"frames_per_second"`),
		`task "paint"`:                      edit(`"lipsync.apply"`, `"paint"`),
		`output: the graph has no node "9"`: edit(`"output": {"node": "6"`, `"output": {"node": "9"`),
		`output: give extensions`:           edit(`".mp4"`, `".exe"`),
		`which is not there`:                edit(`["3", 0]`, `["33", 0]`),
		`node "7" has no input "image"`:     edit(`"node": "1"`, `"node": "7"`),
		`reads another node`:                edit(`"input": "filename_prefix"`, `"input": "video"`),
		`needs one named speech`:            edit(`"name": "speech"`, `"name": "song"`),
		`needs one named prefix`:            edit(`"type": "prefix"`, `"type": "text"`),
		`type "colour"`:                     edit(`"type": "integer"`, `"type": "colour"`),
		`picture and fps`:                   edit(`"fps": 12`, `"fps": 0`),
	} {
		if _, err := parseTemplate("talk", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want a refusal with %q, got %v", want, err)
		}
	}
	if _, err := parseTemplate("Talk Show", sound); err == nil {
		t.Error("a name with capitals and spaces was taken")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "broken.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []ComfyUIConfig{
		{URL: "127.0.0.1:8188"}, {URL: "http://user:pw@h"}, {URL: "http://h", APIKey: "a\nb"}, {URL: "http://h", Workflows: dir},
		{URL: "http://h", Workflows: filepath.Join(dir, "absent")}, {URL: "http://h", Templates: []string{"no-such"}},
	} {
		if _, err := ComfyUIEngines(c, EngineConfig{}); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
	if engines, err := ComfyUIEngines(ComfyUIConfig{}, EngineConfig{}); err != nil || len(engines) != 0 {
		t.Errorf("without an address: %v, %v", engines, err)
	}
}

func TestATemplateOfOnesOwnWinsByName(t *testing.T) {
	t.Parallel()
	own, err := os.ReadFile("testdata/comfyui/workflows/talk.json")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"s2v", "mine"} {
		if err := os.WriteFile(filepath.Join(dir, name+".json"), own, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	engines, err := ComfyUIEngines(ComfyUIConfig{URL: "http://h", Workflows: dir}, EngineConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range engines {
		got = append(got, e.(*comfyEngine).t.engine()+" "+e.(*comfyEngine).t.Model)
	}
	if want := "[comfyui-mine none comfyui-svd svd_xt.safetensors comfyui-s2v none"; !strings.HasPrefix(fmt.Sprint(got), want) {
		t.Errorf("engines %v", got)
	}
}

// What a server lacks is said before a job needs it, with what to do.
func TestWhatAServerLacksIsSaid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		template string
		change   func(*fakeComfy)
		reason   string // empty: it can
		hint     string
	}{
		"all there":         {"s2v", func(*fakeComfy) {}, "", ""},
		"a node of its own": {"s2v", func(f *fakeComfy) { delete(f.classes, "WanSoundImageToVideo") }, "no node WanSoundImageToVideo", "update ComfyUI"},
		"a custom node": {"infinitetalk", func(f *fakeComfy) { delete(f.classes, "WanVideoSampler") },
			"no node WanVideoSampler", "install the custom node ComfyUI-WanVideoWrapper"},
		"a file, old shape": {"svd", func(f *fakeComfy) { f.offer("ImageOnlyCheckpointLoader", "ckpt_name", `[["other.safetensors"], {}]`) },
			"lacks the file svd_xt.safetensors", "put svd_xt.safetensors in models/checkpoints"},
		"a file, new shape": {"svd", func(f *fakeComfy) { f.offer("ImageOnlyCheckpointLoader", "ckpt_name", `["COMBO", {"options": []}]`) },
			"lacks the file svd_xt.safetensors", "models/checkpoints"},
		"a file that is there": {"svd", func(f *fakeComfy) {
			f.offer("ImageOnlyCheckpointLoader", "ckpt_name", `["COMBO", {"options": ["svd_xt.safetensors"]}]`)
		}, "", ""},
		"the recorded classes": {"svd", func(f *fakeComfy) { f.recorded("SaveVideo", "KSampler") }, "", ""},
		"a choice": {"svd", func(f *fakeComfy) { f.offer("SaveVideo", "codec", `["COMBO", {"options": ["auto", "av1"]}]`) },
			`node 8 (SaveVideo) has no choice "h264" for codec`, "change the template"},
		"an input that came later": {"svd", func(f *fakeComfy) { f.offer("KSampler", "shift", `["FLOAT", {}]`) }, "lacks the input shift", "export the graph again"},
		"a small card": {"s2v", func(f *fakeComfy) { f.device(`"vram_total": 25276502016`, `"vram_total": 6276502016`) },
			"needs a card with 16 GiB, this one has 5.8", "smaller model"},
		"no card":     {"s2v", func(f *fakeComfy) { f.device(`"type": "cuda"`, `"type": "cpu"`) }, "runs on the CPU", ""},
		"another key": {"svd", func(f *fakeComfy) { f.key = "k" }, "401", "engines.comfyui.api_key"},
		"another program": {"svd", func(f *fakeComfy) {
			f.intercept = func(w http.ResponseWriter, _ *http.Request) bool { _, _ = w.Write([]byte("<html>")); return true }
		}, "not in its own format", "another program"},
		"away": {"svd", func(f *fakeComfy) { f.Close() }, "does not answer", "is it running at"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := serveComfy(t, nil)
			e := engineOn(t, f, c.template, func(c *ComfyUIConfig) { c.Workflows = "" })
			f.has(map[string]*comfyTemplate{c.template: e.t})
			c.change(f)
			can, gap := e.Capability(t.Context())
			if c.reason == "" {
				if gap != nil || can.Task != e.t.Task || can.Fidelity != events.FidelityFull || can.Model == "" || !strings.Contains(can.Version, "0.3.64") || can.Lane != taskLanes[e.t.Task] {
					t.Errorf("Capability = %+v, %+v", can, gap)
				}
				return
			}
			if gap == nil || gap.Task != e.t.Task || gap.Engine != "comfyui-"+c.template || !strings.Contains(gap.Reason, c.reason) || !strings.Contains(gap.Hint, c.hint) {
				t.Errorf("gap = %+v", gap)
			}
		})
	}
}

// offer changes what an input of a class may be.
func (f *fakeComfy) offer(class, input, spec string) {
	f.input(class, "required")[input] = json.RawMessage(spec)
}

// recorded has the server say of classes what a real one said.
func (f *fakeComfy) recorded(classes ...string) {
	for _, class := range classes {
		var answer map[string]any
		if err := json.Unmarshal(comfyRecorded(f.t, "info_"+class).Response, &answer); err != nil {
			f.t.Fatal(err)
		}
		f.classes[class] = answer[class]
	}
}

func (f *fakeComfy) device(from, to string) {
	changed := strings.Replace(string(f.stats), from, to, 1)
	if changed == string(f.stats) {
		f.t.Fatalf("the server's devices have no %s: %s", from, f.stats)
	}
	f.stats = json.RawMessage(changed)
}

// The page for operators names every template with all that it needs.
func TestTheEnginesPageNamesWhatTemplatesNeed(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/engines.md")
	if err != nil {
		t.Fatal(err)
	}
	templates, err := loadTemplates("")
	if err != nil {
		t.Fatal(err)
	}
	if len(templates) != len(builtinTemplates) {
		t.Errorf("%d templates, %d in the order of preference", len(templates), len(builtinTemplates))
	}
	for name, template := range templates {
		wanted := []string{fmt.Sprintf("| `%s` | `%s` |", name, template.Task), template.Licence, fmt.Sprintf("| %g GiB |", template.LeastVRAM)}
		for _, f := range template.Files {
			wanted = append(wanted, fmt.Sprintf("| `%s` | `models/%s` |", template.Graph[f.Node].Inputs[f.Input], f.Folder))
		}
		for _, from := range template.Packages {
			wanted = append(wanted, from)
		}
		for _, want := range wanted {
			if !bytes.Contains(page, []byte(want)) {
				t.Errorf("docs/engines.md does not say of %s: %s", name, want)
			}
		}
	}
}
