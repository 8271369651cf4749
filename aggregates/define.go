// Pipelines as JSON: reading one, with every fault at once and each at its place.
//
//	{
//	  "id": "…", "title": "…", "mode": "train_and_generate", "variant": "…",
//	  "parameters": {"pace": {"type": "number", "minimum": 0.8, "maximum": 1.4, "default": 1.1, "description": "…"}},
//	  "nodes": [{"id": "tts", "task": "tts.synthesize", "needs": ["profile"], "in": {"narration": "narration"}, "out": {"speech": "speech"},
//	             "params": {"speed": "$pace", "format": "flac"}, "engine": "…", "weight": 10}],
//	  "results": {"video": "video"}
//	}
//
// What it means is checked in define_check.go.

package aggregates

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/myspinbot/myspinbot/events"
)

// Bounds of a definition, which travels with each of its jobs.
const (
	maxDefinition = 64 << 10 // bytes, without spaces
	maxOwnNodes   = 64
	maxOwnParams  = 64
	maxOwnDepth   = 8
)

var (
	ownName  = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)
	ownWish  = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	ownTitle = regexp.MustCompile(`^[^\x00-\x1f\x7f]{1,200}$`)
)

// ReadPipeline reads a pipeline from JSON. With faults there is none; Field is the JSON
// pointer to each.
func ReadPipeline(text []byte) (Pipeline, []events.Reason) {
	var compact bytes.Buffer
	d := &definition{}
	switch err := json.Compact(&compact, text); {
	case !utf8.Valid(text):
		d.fault("", "json_malformed", "the file is no UTF-8 text")
	case err != nil:
		d.fault("", "json_malformed", "the file is no JSON: "+err.Error())
	case compact.Len() > maxDefinition:
		d.fault("", "too_long", fmt.Sprintf("the pipeline has %d bytes, more than %d", compact.Len(), maxDefinition))
	}
	if len(d.faults) > 0 {
		return Pipeline{}, d.faults
	}
	d.pipe.Definition = compact.String()
	j := json.NewDecoder(&compact)
	v, err := d.decode(j, "", 0)
	if err != nil {
		d.fault("", "json_malformed", err.Error())
		return Pipeline{}, d.faults
	}
	d.read(v)
	d.check()
	if len(d.faults) > 0 {
		slices.SortStableFunc(d.faults, func(a, b events.Reason) int { return comparePointers(a.Field, b.Field) })
		return Pipeline{}, d.faults
	}
	d.pipe.Nodes = inOrder(d.pipe.Nodes)
	return d.pipe, nil
}

// comparePointers orders by place: /nodes/2 before /nodes/10.
func comparePointers(a, b string) int {
	as, bs := strings.Split(a, "/"), strings.Split(b, "/")
	return slices.CompareFunc(as, bs, func(x, y string) int {
		m, err1 := strconv.Atoi(x)
		n, err2 := strconv.Atoi(y)
		if err1 == nil && err2 == nil {
			return m - n
		}
		return strings.Compare(x, y)
	})
}

// definition is a pipeline on its way out of its JSON.
type definition struct {
	pipe   Pipeline
	at     []int      // by node: its place in the file
	needs  [][]string // by node, as written
	faults []events.Reason
}

func (d *definition) fault(at, code, detail string) {
	d.faults = append(d.faults, events.Reason{Code: code, Field: at, Detail: detail})
}

func pointer(at, name string) string {
	return at + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
}

// decode is encoding/json into any, but a member that comes twice is a fault.
func (d *definition) decode(j *json.Decoder, at string, depth int) (any, error) {
	if depth > maxOwnDepth {
		return nil, fmt.Errorf("the JSON at %s is nested deeper than %d levels", at, maxOwnDepth)
	}
	t, err := j.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the file is empty")
		}
		return nil, err
	}
	switch t {
	case json.Delim('['):
		list := []any{}
		for j.More() {
			v, err := d.decode(j, fmt.Sprintf("%s/%d", at, len(list)), depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err = j.Token()
		return list, err
	case json.Delim('{'):
		object := map[string]any{}
		for j.More() {
			name, err := j.Token()
			if err != nil {
				return nil, err
			}
			key, _ := name.(string)
			if _, twice := object[key]; twice {
				d.fault(pointer(at, key), "member_twice", "the member "+key+" comes twice")
			}
			if object[key], err = d.decode(j, pointer(at, key), depth+1); err != nil {
				return nil, err
			}
		}
		_, err = j.Token()
		return object, err
	}
	return t, nil
}

// object is a value that must be an object of these members; those that begin with * must be there.
func (d *definition) object(v any, at string, members ...string) map[string]any {
	o, ok := v.(map[string]any)
	if !ok {
		d.fault(at, "type_wrong", "an object is wanted here")
		return nil
	}
	var names []string
	for _, m := range members {
		name, needed := strings.CutPrefix(m, "*")
		if _, there := o[name]; needed && !there {
			d.fault(pointer(at, name), "member_missing", "the member "+name+" is missing")
		}
		names = append(names, name)
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if !slices.Contains(names, name) {
			d.fault(pointer(at, name), "member_unknown", "there is no member "+name+" here; there are "+strings.Join(names, ", "))
		}
	}
	return o
}

// text is a member that must be a text of that form; a missing one is empty.
func (d *definition) text(o map[string]any, at, name string, form *regexp.Regexp) string {
	v, there := o[name]
	if !there {
		return ""
	}
	s, ok := v.(string)
	if !ok || form != nil && !form.MatchString(s) {
		d.fault(pointer(at, name), "value_wrong", name+" must be a text of the form "+form.String())
		return ""
	}
	return s
}

// names is a member that must map names to names.
func (d *definition) names(o map[string]any, at, name string) map[string]string {
	v, there := o[name]
	if !there {
		return nil
	}
	at = pointer(at, name)
	m, ok := v.(map[string]any)
	if !ok {
		d.fault(at, "type_wrong", "an object of names is wanted here")
		return nil
	}
	out := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(m)) {
		s, ok := m[k].(string)
		if key, _ := optionalKey(s); !ok || !ownName.MatchString(key) {
			d.fault(pointer(at, k), "value_wrong", "a name of the form "+ownName.String()+" is wanted here")
			continue
		}
		out[k] = s
	}
	return out
}

func (d *definition) read(v any) {
	o := d.object(v, "", "*id", "*title", "*mode", "*variant", "parameters", "*nodes", "*results")
	p := &d.pipe
	p.Workflow, p.Variant = d.text(o, "", "id", ownName), d.text(o, "", "variant", ownName)
	p.Title, p.Mode = d.text(o, "", "title", ownTitle), d.text(o, "", "mode", ownName)
	p.Results = d.names(o, "", "results")
	if params, there := o["parameters"]; there {
		d.readParams(params)
	}
	nodes, ok := o["nodes"].([]any)
	if _, there := o["nodes"]; there && (!ok || len(nodes) == 0 || len(nodes) > maxOwnNodes) {
		d.fault("/nodes", "type_wrong", fmt.Sprintf("a list of 1 to %d nodes is wanted here", maxOwnNodes))
		return
	}
	for i, n := range nodes {
		d.readNode(n, i)
	}
}

func (d *definition) readNode(v any, i int) {
	at := fmt.Sprintf("/nodes/%d", i)
	o := d.object(v, at, "*id", "*task", "needs", "in", "out", "params", "engine", "weight")
	if o == nil {
		return
	}
	n := PipelineNode{ID: d.text(o, at, "id", ownName), Task: d.text(o, at, "task", ownWish), In: d.names(o, at, "in"), Out: d.names(o, at, "out"),
		Engine: d.text(o, at, "engine", ownWish)}
	for name, key := range n.Out {
		if _, optional := optionalKey(key); optional {
			d.fault(pointer(at+"/out", name), "value_wrong", "what is written is never optional: leave the ? out")
		}
	}
	if w, there := o["weight"]; there {
		f, ok := w.(float64)
		if !ok || f <= 0 || f > 1000 {
			d.fault(at+"/weight", "weight_invalid", "weight must be a number above 0, at most 1000: the node's share of the progress, against that of the others")
		}
		n.Weight = f
	}
	var needs []string
	if v, there := o["needs"]; there {
		list, ok := v.([]any)
		if !ok {
			d.fault(at+"/needs", "type_wrong", "a list of nodes' ids is wanted here")
		}
		for _, v := range list {
			id, _ := v.(string)
			needs = append(needs, id)
		}
	}
	if v, there := o["params"]; there {
		params, ok := v.(map[string]any)
		if !ok {
			d.fault(at+"/params", "type_wrong", "an object of the task's parameters is wanted here")
		}
		for name, v := range params {
			if option, is := v.(string); is && strings.HasPrefix(option, "$") {
				if n.From == nil {
					n.From = map[string]string{}
				}
				n.From[name] = option[1:]
				continue
			}
			if n.Fixed == nil {
				n.Fixed = map[string]any{}
			}
			n.Fixed[name] = v
		}
	}
	d.pipe.Nodes, d.at, d.needs = append(d.pipe.Nodes, n), append(d.at, i), append(d.needs, needs)
}

// readParams reads the options that the pipeline offers, each a JSON Schema of a number,
// a truth, one of several words, or a language.
func (d *definition) readParams(v any) {
	d.pipe.Params = []Param{}
	o, ok := v.(map[string]any)
	if !ok || len(o) > maxOwnParams {
		d.fault("/parameters", "type_wrong", fmt.Sprintf("an object of at most %d parameters is wanted here", maxOwnParams))
		return
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		at := pointer("/parameters", name)
		if !ownName.MatchString(name) {
			d.fault(at, "value_wrong", "a parameter's name must be of the form "+ownName.String())
		}
		s := d.object(o[name], at, "*type", "minimum", "maximum", "enum", "format", "default", "*description")
		p := Param{Name: name, Kind: d.text(s, at, "type", regexp.MustCompile(`^(integer|number|string|boolean)$`)), Doc: d.text(s, at, "description", ownTitle)}
		number := p.Kind == "integer" || p.Kind == "number"
		for member, into := range map[string]*float64{"minimum": &p.Min, "maximum": &p.Max} {
			f, ok := s[member].(float64)
			if _, there := s[member]; there != number || there && !ok {
				d.fault(at+"/"+member, "value_wrong", "a number needs "+member+", and nothing else has it")
			}
			*into = f
		}
		if p.Min > p.Max {
			d.fault(at+"/minimum", "value_wrong", "minimum is above maximum")
		}
		if format, there := s["format"]; there && (p.Kind != "string" || format != kindLanguage) {
			d.fault(at+"/format", "value_wrong", "a string may have the format "+kindLanguage+", which takes the place of enum")
		} else if there {
			p.Kind = kindLanguage
		}
		d.readEnum(&p, s, at)
		if v, there := s["default"]; there {
			value, bad := p.Check(v)
			if bad != nil {
				d.fault(at+"/default", "param_invalid", "the default must be "+p.Allowed())
			}
			p.Default = value
		}
		d.pipe.Params = append(d.pipe.Params, p)
	}
}

func (d *definition) readEnum(p *Param, s map[string]any, at string) {
	v, there := s["enum"]
	list, ok := v.([]any)
	if there != (p.Kind == "string") && p.Kind != "integer" || there && (!ok || len(list) == 0 || len(list) > maxOwnParams) {
		d.fault(at+"/enum", "value_wrong", "a string without a format needs enum, the list of its words; a whole number may have it")
		return
	}
	for i, v := range list {
		word, ok := v.(string)
		if f, number := v.(float64); p.Kind == "integer" {
			word, ok = plain(f), number
		}
		if !ok || slices.Contains(p.Enum, word) {
			d.fault(fmt.Sprintf("%s/enum/%d", at, i), "value_wrong", "each value is of the parameter's type and comes once")
			continue
		}
		p.Enum = append(p.Enum, word)
	}
}

// inOrder sorts nodes so that each stands behind those that it waits for, and otherwise
// leaves them as they are.
func inOrder(nodes []PipelineNode) []PipelineNode {
	waits := map[string]map[string]bool{}
	for _, e := range buildEdges(Pipeline{Nodes: nodes}) {
		if waits[e.To] == nil {
			waits[e.To] = map[string]bool{}
		}
		waits[e.To][e.From] = true
	}
	left, out := slices.Clone(nodes), make([]PipelineNode, 0, len(nodes))
	for len(left) > 0 {
		i := slices.IndexFunc(left, func(n PipelineNode) bool { return len(waits[n.ID]) == 0 })
		if i < 0 { // a cycle, which the check tells
			return append(out, left...)
		}
		for _, froms := range waits {
			delete(froms, left[i].ID)
		}
		out, left = append(out, left[i]), slices.Delete(left, i, i+1)
	}
	return out
}
