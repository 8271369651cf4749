// Whether a template is sound in itself, and whether a server has what it needs.

package gpu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/myspinbot/myspinbot/events"
)

// comfyTasks are the tasks that a template may do, with the slots that it must have.
var comfyTasks = map[string]map[string]string{
	"render_video":  {"portrait": "image"},
	"lipsync.apply": {"portrait": "image", "speech": "audio"}, // or a clip in place of the portrait
	"upscale_video": {"video": "video"},
}

var (
	comfySlotTypes  = []string{"image", "audio", "video", "integer", "number", "seed", "choice", "prefix", "text"}
	comfyExtensions = []string{".mp4", ".mov", ".mkv", ".webm"}
)

// check names every fault of the template at once.
func (t *comfyTemplate) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	needed, known := comfyTasks[t.Task]
	if !known {
		fault("task %q: choose %s", t.Task, strings.Join(slices.Sorted(maps.Keys(comfyTasks)), ", "))
	}
	if _, has := t.Graph[t.Output.Node]; !has {
		fault("output: the graph has no node %q", t.Output.Node)
	}
	if len(t.Output.Extensions) == 0 || slices.ContainsFunc(t.Output.Extensions, func(e string) bool { return !slices.Contains(comfyExtensions, e) }) {
		fault("output: give extensions among %s", strings.Join(comfyExtensions, ", "))
	}
	if t.Task != "upscale_video" && !t.overClip() && (t.Picture.Short < 64 || t.Picture.Multiple < 2 || t.FPS <= 0) {
		fault("picture and fps: give the short side that the model draws, at least 64, what both sides are a multiple of, and frames per second")
	}
	if t.overClip() && t.FPS <= 0 {
		fault("fps: give the frames per second that the graph takes")
	}
	if t.Task == "upscale_video" && t.Factor != 2 && t.Factor != 4 {
		fault("factor: give how many times larger the result is, 2 or 4, which is what jobs ask for")
	}
	for id, node := range t.Graph {
		if node.Class == "" {
			fault("node %s has no class_type", id)
		}
		for name, value := range node.Inputs {
			if from, is := linkOf(value); is && t.Graph[from].Class == "" {
				fault("node %s: input %s reads node %q, which is not there", id, name, from)
			}
		}
	}
	for _, f := range t.Files {
		if _, ok := t.Graph[f.Node].Inputs[f.Input].(string); !ok || f.Folder == "" {
			fault("files: node %q has no input %q that names a file, or the folder is missing", f.Node, f.Input)
		}
	}
	faults = append(faults, t.checkSlots(needed), t.checkChain())
	return errors.Join(faults...)
}

func (t *comfyTemplate) checkSlots(needed map[string]string) error {
	var faults []error
	types := map[string]string{}
	for _, s := range t.Slots {
		fault := func(format string, args ...any) {
			faults = append(faults, fmt.Errorf("slot %q: "+format, append([]any{s.Name}, args...)...))
		}
		if _, twice := types[s.Name]; twice || s.Name == "" {
			fault("give each slot a name of its own")
		}
		types[s.Name] = s.Type
		if !slices.Contains(comfySlotTypes, s.Type) {
			fault("type %q: choose %s", s.Type, strings.Join(comfySlotTypes, ", "))
		}
		value, has := t.Graph[s.Node].Inputs[s.Input]
		if !has {
			fault("node %q has no input %q", s.Node, s.Input)
		}
		if _, link := linkOf(value); link {
			fault("input %q of node %q reads another node", s.Input, s.Node)
		}
		if s.Type == "choice" && len(s.Options) == 0 {
			fault("give its options")
		}
		if s.Type == "prefix" && s.Node != t.Output.Node {
			fault("a prefix belongs to the output node")
		}
	}
	if t.overClip() {
		needed = map[string]string{"clip": "video", "speech": "audio"}
	}
	for name, kind := range needed {
		if types[name] != kind {
			faults = append(faults, fmt.Errorf("slots: %s needs one named %s of type %s", t.Task, name, kind))
		}
	}
	if types["prefix"] != "prefix" { // two attempts would be given one file
		faults = append(faults, errors.New("slots: the output node needs one named prefix of type prefix"))
	}
	return errors.Join(faults...)
}

func (t *comfyTemplate) checkChain() error {
	c := t.Chain
	if c == nil {
		return nil
	}
	for _, id := range append([]string{c.First, c.Last}, c.Nodes...) {
		if t.Graph[id].Class == "" {
			return fmt.Errorf("chain: the graph has no node %q", id)
		}
	}
	if !slices.Contains(c.Nodes, c.Last) || slices.Contains(c.Nodes, c.First) || c.Frames < 1 || t.MaxSeconds <= 0 {
		return errors.New("chain: last must be one of its nodes, first must not, and it needs frames and the template max_seconds")
	}
	if t.MaxSeconds*t.FPS/float64(c.Frames) > comfyChainLimit {
		return fmt.Errorf("chain: max_seconds asks for more than %d copies", comfyChainLimit)
	}
	return nil
}

// comfyClass is what /object_info says of a node class.
type comfyClass struct {
	Input struct {
		Required map[string]json.RawMessage `json:"required"`
		Optional map[string]json.RawMessage `json:"optional"`
	} `json:"input"`
}

// options are the values that an input may have; false: any of its type. The list comes
// in two shapes: [["a","b"],{…}] and ["COMBO",{"options":["a","b"]}].
func (c comfyClass) options(input string) ([]string, bool) {
	text, has := c.Input.Required[input]
	if !has {
		text = c.Input.Optional[input]
	}
	var spec []json.RawMessage
	if json.Unmarshal(text, &spec) != nil || len(spec) == 0 {
		return nil, false
	}
	if values, is := stringsOf(spec[0]); is {
		return values, true
	}
	var kind string
	if json.Unmarshal(spec[0], &kind) != nil || kind != "COMBO" || len(spec) < 2 {
		return nil, false
	}
	var more struct {
		Options json.RawMessage `json:"options"`
	}
	if json.Unmarshal(spec[1], &more) != nil {
		return nil, false
	}
	return stringsOf(more.Options)
}

// stringsOf reads a list; members that are no strings are left out.
func stringsOf(text json.RawMessage) ([]string, bool) {
	var list []any
	if len(text) == 0 || json.Unmarshal(text, &list) != nil || list == nil {
		return nil, false
	}
	values := []string{}
	for _, v := range list {
		if s, ok := v.(string); ok {
			values = append(values, s)
		}
	}
	return values, true
}

// classes asks for the classes of the graphs, each by its own request: the list of all
// is many MB. A class that the server lacks is not in the answer.
func (c *comfyClient) classes(ctx context.Context, names []string) (map[string]comfyClass, error) {
	all := map[string]comfyClass{}
	for _, name := range names {
		var answer map[string]comfyClass
		if err := c.get(ctx, "/object_info/"+url.PathEscape(name), &answer); err != nil {
			return nil, err
		}
		if class, has := answer[name]; has {
			all[name] = class
		}
	}
	return all, nil
}

// gaps says what the server lacks for the template, and how to mend each.
func (t *comfyTemplate) gaps(classes map[string]comfyClass) (reasons, hints []string) {
	add := func(reason, hint string) {
		if !slices.Contains(reasons, reason) {
			reasons, hints = append(reasons, reason), append(hints, hint)
		}
	}
	slots, files := map[[2]string]bool{}, map[[2]string]string{}
	for _, s := range t.Slots {
		slots[[2]string{s.Node, s.Input}] = true
	}
	for _, f := range t.Files {
		files[[2]string{f.Node, f.Input}] = f.Folder
	}
	for _, id := range slices.Sorted(maps.Keys(t.Graph)) {
		node := t.Graph[id]
		class, has := classes[node.Class]
		if !has {
			hint := "update ComfyUI: the node is one of its own"
			if from := t.Packages[node.Class]; from != "" {
				hint = "install the custom node " + from
			}
			add(fmt.Sprintf("ComfyUI has no node %s", node.Class), hint)
			continue
		}
		for input := range class.Input.Required {
			if _, given := node.Inputs[input]; !given {
				add(fmt.Sprintf("node %s (%s) of the template lacks the input %s", id, node.Class, input), "export the graph again from this version of ComfyUI")
			}
		}
		for input, value := range node.Inputs {
			name, is := value.(string)
			options, limited := class.options(input)
			at := [2]string{id, input}
			if !is || !limited || slots[at] || slices.Contains(options, name) {
				continue
			}
			if folder := files[at]; folder != "" {
				add(fmt.Sprintf("ComfyUI lacks the file %s", name), fmt.Sprintf("put %s in models/%s", name, folder))
				continue
			}
			add(fmt.Sprintf("node %s (%s) has no choice %q for %s", id, node.Class, name, input), "update ComfyUI, or change the template")
		}
	}
	return reasons, hints
}

// tooSmall says why no device of the server can run the template, or nothing.
func (t *comfyTemplate) tooSmall(devices []comfyDevice) string {
	if t.LeastVRAM <= 0 || len(devices) == 0 {
		return ""
	}
	const gib = 1 << 30
	var most int64
	for _, d := range devices {
		if d.Type != "cpu" {
			most = max(most, d.VRAMTotal)
		}
	}
	// A card of 12 GB reports a little less than its name says.
	switch have := float64(most) / gib; {
	case most == 0:
		return "ComfyUI runs on the CPU, where this model takes hours"
	case have < t.LeastVRAM*0.95:
		return fmt.Sprintf("the model needs a card with %g GiB, this one has %.1f", t.LeastVRAM, have)
	}
	return ""
}

// comfyGap is the announcement of what is missing.
func (t *comfyTemplate) gap(reason, hint string) *events.TaskGap {
	return &events.TaskGap{Task: t.Task, Engine: t.engine(), Reason: reason, Hint: hint}
}

// engine is the name under which results say who made them.
func (t *comfyTemplate) engine() string { return "comfyui-" + t.Name }
