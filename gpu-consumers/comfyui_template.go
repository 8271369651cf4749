// Templates: graphs with typed slots. A user's words and files reach a graph through a
// slot alone, as a value of the slot's type, so that they cannot change its shape.

package gpu

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

//go:embed workflows/*.json
var builtinWorkflows embed.FS

// comfyGraph is a graph in ComfyUI's API format: nodes by id.
type comfyGraph map[string]comfyNode

type comfyNode struct {
	Class  string         `json:"class_type"`
	Inputs map[string]any `json:"inputs"`
}

// comfyTemplate is a file of the folder workflows.
type comfyTemplate struct {
	Name    string `json:"-"` // of the file, without .json
	Title   string `json:"title"`
	Task    string `json:"task"`
	Model   string `json:"model"`   // as results name it
	Licence string `json:"licence"` // of the weights, told in the notes
	// Output is the node whose file is the result, and what its name may end in.
	Output struct {
		Node       string   `json:"node"`
		Extensions []string `json:"extensions"`
	} `json:"output"`
	// Picture is the size that the model draws well: pixels of the short side, and what
	// both sides are a multiple of. Unused for upscaling.
	Picture struct {
		Short    int `json:"short"`
		Multiple int `json:"multiple"`
	} `json:"picture"`
	FPS        float64 `json:"fps"`            // of what the graph makes; 0: as its input
	MaxSeconds float64 `json:"max_seconds"`    // longest result; 0: any
	Frames     int     `json:"frame_step"`     // the number of frames is one more than a multiple of it; 0: any
	Factor     float64 `json:"factor"`         // of enlargement, for upscaling
	LeastVRAM  float64 `json:"least_vram_gib"` // 0: any device, the CPU among them
	// Packages are the custom nodes that classes come from; others are ComfyUI's own.
	Packages map[string]string `json:"packages"`
	// Files are the inputs that name model files, and their folders below models/.
	Files []comfyModelFile `json:"files"`
	Slots []comfySlot      `json:"slots"`
	Chain *comfyChain      `json:"chain"`
	Graph comfyGraph       `json:"graph"`

	digest string // of the file, in hex
}

type comfyModelFile struct {
	Node   string `json:"node"`
	Input  string `json:"input"`
	Folder string `json:"folder"`
}

// comfySlot is an input of a node that attempts fill.
type comfySlot struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"` // image, audio, video, integer, number, seed, choice, prefix or text
	Node    string   `json:"node"`
	Input   string   `json:"input"`
	Min     float64  `json:"min"`
	Max     float64  `json:"max"` // of text: characters
	Options []string `json:"options"`
}

// file says that the slot takes the name of an uploaded file.
func (s comfySlot) file() bool { return s.Type == "image" || s.Type == "audio" || s.Type == "video" }

// comfyChain is a part of the graph that is there as often as the length needs. Each
// copy continues the one before it.
type comfyChain struct {
	Nodes  []string `json:"nodes"`
	First  string   `json:"first"`  // what the first copy continues
	Last   string   `json:"last"`   // what others continue, and whoever follows reads
	Frames int      `json:"frames"` // that each copy and the part before it make
}

// overClip says that the template moves the lips of a clip.
func (t *comfyTemplate) overClip() bool {
	return t.Task == "lipsync.apply" && slices.ContainsFunc(t.Slots, func(s comfySlot) bool { return s.Name == "clip" })
}

const (
	comfyTemplateBytes = 4 << 20
	comfyTextLimit     = 4000
	comfyChainLimit    = 64
)

var comfyName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,39}$`)

// loadTemplates reads the built-in templates and those of the folder, which win by name.
func loadTemplates(folder string) (map[string]*comfyTemplate, error) {
	inside, err := fs.Sub(builtinWorkflows, "workflows")
	if err != nil {
		return nil, fmt.Errorf("cannot read the built-in templates: %w", err)
	}
	all, err := readTemplates(inside)
	if err != nil || folder == "" {
		return all, err
	}
	own, err := readTemplates(os.DirFS(folder))
	if err != nil {
		return nil, fmt.Errorf("cannot use the templates of %s: %w", folder, err)
	}
	maps.Copy(all, own)
	return all, nil
}

func readTemplates(folder fs.FS) (map[string]*comfyTemplate, error) {
	files, err := fs.Glob(folder, "*.json")
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		if _, err := fs.ReadDir(folder, "."); err != nil {
			return nil, err
		}
		return nil, errors.New("there is no .json file")
	}
	all := map[string]*comfyTemplate{}
	var faults []error
	for _, file := range files {
		text, err := fs.ReadFile(folder, file)
		var t *comfyTemplate
		if err == nil {
			t, err = parseTemplate(strings.TrimSuffix(file, ".json"), text)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", file, err))
			continue
		}
		all[t.Name] = t
	}
	return all, errors.Join(faults...)
}

// parseTemplate reads and checks a template.
func parseTemplate(name string, text []byte) (*comfyTemplate, error) {
	if !comfyName.MatchString(name) {
		return nil, errors.New("the name must be up to 40 small letters, digits, dashes and underscores")
	}
	if len(text) > comfyTemplateBytes {
		return nil, fmt.Errorf("the file is larger than %d MiB", comfyTemplateBytes>>20)
	}
	if reason := foreignFormat(text); reason != "" {
		return nil, errors.New(reason)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	d.UseNumber() // a seed does not fit into a float
	t := new(comfyTemplate)
	if err := d.Decode(t); err != nil {
		return nil, fmt.Errorf("it is no template: %w", err)
	}
	sum := sha256.Sum256(text)
	t.Name, t.digest = name, hex.EncodeToString(sum[:])
	return t, t.check()
}

// foreignFormat tells what a file is that looks like a graph and is no template.
func foreignFormat(text []byte) string {
	var top map[string]json.RawMessage
	if json.Unmarshal(text, &top) != nil {
		return ""
	}
	inner := top
	if graph, has := top["graph"]; has {
		inner = nil
		_ = json.Unmarshal(graph, &inner) // what is no object is refused later
	}
	_, nodes := inner["nodes"]
	_, links := inner["links"]
	if nodes && links {
		return `the graph is in the format of ComfyUI's editor (nodes and links), which its API does not take: export it with "Export (API)"`
	}
	if _, has := top["graph"]; has {
		return ""
	}
	for _, node := range top {
		var n struct {
			Class string `json:"class_type"`
		}
		if json.Unmarshal(node, &n) == nil && n.Class != "" {
			return `this is a bare graph: put it under "graph" of a template that says its task, output and slots`
		}
	}
	return ""
}

// fill makes the graph of one attempt. copies is how often the chain is there; values
// are by slot name; a slot without one keeps what the template has.
func (t *comfyTemplate) fill(copies int, values map[string]any) (comfyGraph, error) {
	graph := comfyGraph{}
	for id, node := range t.Graph {
		graph[id] = comfyNode{node.Class, maps.Clone(node.Inputs)}
	}
	for _, slot := range t.Slots {
		value, given := values[slot.Name]
		if !given {
			if slot.file() || slot.Type == "prefix" {
				return nil, fmt.Errorf("the slot %s of the template %s has no value", slot.Name, t.Name)
			}
			continue
		}
		v, err := slot.accept(value)
		if err != nil {
			return nil, err
		}
		graph[slot.Node].Inputs[slot.Input] = v
	}
	if t.Chain != nil {
		return t.Chain.unroll(graph, copies), nil
	}
	return graph, nil
}

// accept gives a value the slot's type, or says why it cannot.
func (s comfySlot) accept(value any) (any, error) {
	refuse := func(why string) (any, error) {
		return nil, &slotError{fmt.Sprintf("the parameter %s %s", s.Name, why)}
	}
	switch s.Type {
	case "integer", "seed", "number":
		n, ok := asNumber(value)
		if !ok || math.IsNaN(n) || math.IsInf(n, 0) {
			return refuse("is no number")
		}
		if n < s.Min || (s.Max > s.Min && n > s.Max) {
			return refuse(fmt.Sprintf("is %g, outside %g to %g", n, s.Min, s.Max))
		}
		if s.Type == "number" {
			return n, nil
		}
		if n != math.Trunc(n) || math.Abs(n) > 1<<53 {
			return refuse("is no whole number")
		}
		return int64(n), nil
	}
	text, ok := value.(string)
	if !ok {
		return refuse("is no text")
	}
	switch s.Type {
	case "choice":
		if !slices.Contains(s.Options, text) {
			return refuse("is none of " + strings.Join(s.Options, ", "))
		}
		return text, nil
	case "text":
		return clipText(text, s.limit()), nil
	}
	return text, nil // names of our own making
}

func (s comfySlot) limit() int {
	if s.Max > 0 {
		return int(s.Max)
	}
	return comfyTextLimit
}

// slotError is a value that a slot does not take; it shows no text of a user's.
type slotError struct{ text string }

func (e *slotError) Error() string { return e.text }

func asNumber(value any) (float64, bool) {
	switch v := value.(type) {
	case float64:
		return v, true
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	}
	return 0, false
}

// clipText is text without control characters, of at most n characters.
func clipText(text string, n int) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || (unicode.IsControl(r) && r != '\n') {
			return ' '
		}
		return r
	}, text)
	return cutAtWord(text, n)
}

// unroll puts the chain's nodes there as often as it is asked for. Without any, whoever
// reads the last of them reads the first.
func (c *comfyChain) unroll(graph comfyGraph, copies int) comfyGraph {
	out := comfyGraph{}
	name := func(id string, i int) string { return fmt.Sprintf("%s_%d", id, i) }
	last := c.First
	if copies > 0 {
		last = name(c.Last, copies-1)
	}
	for id, node := range graph {
		if !slices.Contains(c.Nodes, id) {
			out[id] = node.relink(func(to string) string {
				if to == c.Last {
					return last
				}
				return to
			})
			continue
		}
		for i := range copies {
			out[name(id, i)] = node.relink(func(to string) string {
				switch {
				case to == c.First && i > 0:
					return name(c.Last, i-1)
				case slices.Contains(c.Nodes, to):
					return name(to, i)
				}
				return to
			})
		}
	}
	return out
}

// relink is the node with its links leading elsewhere.
func (n comfyNode) relink(to func(string) string) comfyNode {
	inputs := make(map[string]any, len(n.Inputs))
	for name, value := range n.Inputs {
		if from, ok := linkOf(value); ok {
			value = []any{to(from), value.([]any)[1]}
		}
		inputs[name] = value
	}
	return comfyNode{n.Class, inputs}
}

// linkOf is the node that an input reads: ["id", output].
func linkOf(value any) (string, bool) {
	pair, ok := value.([]any)
	if !ok || len(pair) != 2 {
		return "", false
	}
	id, ok := pair[0].(string)
	return id, ok
}
