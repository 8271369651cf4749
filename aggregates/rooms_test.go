// What fits no card is refused, with what would fit.

package aggregates_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

func TestWhatFitsNoCardIsRefusedWithWhatDoes(t *testing.T) {
	t.Parallel()
	can := []events.TaskCapability{{Task: aggregates.TaskRender, Engine: "comfyui-svd"}, {Task: aggregates.TaskLipsync, Engine: "comfyui-s2v"}}
	small := events.WorkerManifest{Tasks: can, VRAMBytes: 8000 << 20, Needs: []events.TaskNeed{
		{Task: aggregates.TaskRender, Engine: "comfyui-svd", Resolution: "576p", MiB: 6000}, {Task: aggregates.TaskRender, Engine: "comfyui-svd", Resolution: "720p", MiB: 8000},
		{Task: aggregates.TaskRender, Engine: "comfyui-svd", Resolution: "1080p", MiB: 12000}, {Task: aggregates.TaskLipsync, Engine: "comfyui-s2v", MiB: 7000},
	}}
	var w aggregates.Workers
	say := func(id string, m events.WorkerManifest) {
		w.Apply(events.Message{AggregateID: id, OccurredAt: start, Data: m})
	}
	ask := func(size string) []events.Reason {
		r := trainRequest()
		r.Options = map[string]any{"resolution": size}
		_, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r, Engines: everyTask(), Rooms: w.Rooms(start)})
		return reasons
	}
	say("a", small)
	if got := ask("720p"); len(got) > 0 {
		t.Errorf("what fits is refused: %v", got)
	}
	want := events.Reason{Code: "vram_exceeded", Field: "/options/resolution",
		Detail: "render_video at 1080p takes 12000 MiB of a graphics card, and no worker's has more than 8000; what fits is 576p or 720p"}
	if got := ask("1080p"); len(got) != 1 || got[0] != want {
		t.Errorf("refused with %v, want %v", got, want)
	}
	larger := small
	larger.Needs = append([]events.TaskNeed{{Task: aggregates.TaskLipsync, Engine: "comfyui-s2v", MiB: 9000}}, small.Needs...)
	say("a", larger)
	if got := ask("576p"); len(got) != 1 || got[0].Field != "/variant" {
		t.Errorf("refused with %v, want one reason that no resolution mends", got)
	}
	say("b", events.WorkerManifest{Tasks: can, VRAMBytes: 24000 << 20, Needs: larger.Needs})
	if got := ask("1080p"); len(got) > 0 {
		t.Errorf("another worker's card has room: %v", got)
	}
	say("b", events.WorkerManifest{Tasks: []events.TaskCapability{{Task: aggregates.TaskRender, Engine: "ken-burns"}, can[1]}})
	if got := ask("1080p"); len(got) > 0 {
		t.Errorf("another worker counts nothing: %v", got)
	}
}

// The built-in engine takes nothing of the card, and does the work where the job allows
// it. A job that wants the real one is refused.
func TestWhatFitsNoCardIsRefusedByTheEnginesThatAJobAllows(t *testing.T) {
	t.Parallel()
	render, draw := full(aggregates.TaskRender, "comfyui-svd"), preview(aggregates.TaskRender, "ken-burns")
	need := func(resolution string, mib int) events.TaskNeed {
		return events.TaskNeed{Task: aggregates.TaskRender, Engine: render.Engine, Resolution: resolution, MiB: mib}
	}
	tells := func(vram int64, caps []events.TaskCapability, needs ...events.TaskNeed) aggregates.Rooms {
		var w aggregates.Workers
		w.Apply(events.Message{AggregateID: "w", OccurredAt: start, Data: events.WorkerManifest{Tasks: caps, VRAMBytes: vram << 20, Needs: needs}})
		return w.Rooms(start)
	}
	large := []events.TaskNeed{need("576p", 6000), need("720p", 9000), need("1080p", 12000)}
	both := slices.Concat(realTasks(aggregates.TaskRender), []events.TaskCapability{render, draw})
	onPortraits := render
	onPortraits.Engine, onPortraits.Takes = "clone", "voice_reference"
	for name, c := range map[string]struct {
		engines string
		rooms   aggregates.Rooms
		want    string
		says    []string
	}{
		"auto":                             {"", tells(8000, both, large...), "", nil},
		"preview":                          {events.EnginesPreview, tells(8000, both, large...), "", nil},
		"real, which a smaller size fits":  {events.EnginesReal, tells(8000, both, large...), "/options/resolution", []string{"takes 9000 MiB", "more than 8000", "what fits is 576p, or engines auto"}},
		"real, which fits at no size":      {events.EnginesReal, tells(4000, both, large...), "/engines", []string{"takes 9000 MiB", "more than 4000", "ask with engines auto"}},
		"real, and nothing stands in":      {events.EnginesReal, tells(4000, append(realTasks(aggregates.TaskRender), render), large...), "/variant", []string{"a larger card"}},
		"real, where another engine fits":  {events.EnginesReal, tells(4000, slices.Concat(both, []events.TaskCapability{full(aggregates.TaskRender, "small")}), large...), "", nil},
		"real, where the other one cannot": {events.EnginesReal, tells(4000, slices.Concat(both, []events.TaskCapability{onPortraits}), large...), "/engines", nil},
		"real, on a card that holds it":    {events.EnginesReal, tells(9000, both, large...), "", nil},
		"real, where nothing is counted":   {events.EnginesReal, tells(0, both, large...), "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := trainRequest()
			r.Variant, r.Engines = "svd_wav2lip", c.engines
			_, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: r, Rooms: c.rooms,
				Engines: aggregates.EnginesOf(slices.Concat(realTasks(), both, announced())...)})
			if c.want == "" && len(reasons) > 0 || c.want != "" && (len(reasons) != 1 || reasons[0].Field != c.want || reasons[0].Code != "vram_exceeded") {
				t.Fatalf("got %v, want one of %q", reasons, c.want)
			}
			for _, part := range c.says {
				if !strings.Contains(reasons[0].Detail, part) {
					t.Errorf("%q is not in %q", part, reasons[0].Detail)
				}
			}
		})
	}
}

// A pipeline of one's own may call the resolution otherwise, allow fewer, or fix it.
func TestWhatWouldFitIsAnOptionOfThePipeline(t *testing.T) {
	t.Parallel()
	talk := full(aggregates.TaskLipsync, "comfyui-infinitetalk")
	var w aggregates.Workers
	w.Apply(events.Message{AggregateID: "w", OccurredAt: start, Data: events.WorkerManifest{Tasks: []events.TaskCapability{talk}, VRAMBytes: 8000 << 20, Needs: []events.TaskNeed{
		{Task: talk.Task, Engine: talk.Engine, Resolution: "576p", MiB: 6000}, {Task: talk.Task, Engine: talk.Engine, Resolution: "720p", MiB: 9000}}}})
	for name, c := range map[string]struct {
		change  func(document)
		options map[string]any
		want    string
	}{
		"by another name": {func(document) {}, map[string]any{"size": "720p"}, "/options/size"},
		"fixed": {func(d document) {
			d.part("lipsync", "params")["resolution"] = "720p"
			delete(d["parameters"].(map[string]any), "size")
		}, nil, "/variant"},
		"not allowed": {func(d document) { d.param("size")["enum"], d.param("size")["default"] = []any{"720p"}, "720p" }, nil, "/variant"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, faults := aggregates.ReadPipeline(changed(t, c.change))
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			var api aggregates.Catalogue
			api.Add(p)
			r := trainRequest()
			r.Variant, r.Options, r.Engines = "upright", c.options, events.EnginesReal
			_, reasons := aggregates.Plan(aggregates.PlanInput{JobID: "j", Request: api.Defaults(r), Engines: aggregates.EnginesOf(append(realTasks(), talk)...), Rooms: w.Rooms(start)})
			if len(reasons) != 1 || reasons[0].Code != "vram_exceeded" || reasons[0].Field != c.want {
				t.Errorf("got %v, want a refusal of %s", reasons, c.want)
			}
		})
	}
}
