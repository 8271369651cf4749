// What a pipeline from JSON has to hold, beside what every graph does:
//
//  1. Its nodes run registered tasks, by their inputs, outputs and parameters, and what
//     one reads another writes, or the request gives, in the same kind.
//  2. It is a DAG with one entry; ids and outputs are had once.
//  3. An option stands for values that the task allows, and is used.
//  4. What is spoken, drawn or made to move has passed the safety filter.
//  5. Its result is a video that was assembled, which labels it, and checked.
//  6. In the mode that makes a profile it resolves one, in the other it loads one.

package aggregates

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/myspinbot/myspinbot/events"
)

func (d *definition) check() {
	p := d.pipe
	if p.Mode != "" && p.Mode != ModeTrainAndGenerate && p.Mode != ModeGenerateFromProfile {
		d.fault("/mode", "mode_unknown", "mode must be "+ModeTrainAndGenerate+" or "+ModeGenerateFromProfile)
	}
	index := map[string]int{}
	for i, n := range p.Nodes {
		if first, dup := index[n.ID]; dup && n.ID != "" {
			d.fault(d.node(i)+"/id", "node_duplicate", fmt.Sprintf("%s is the id of node %d already", n.ID, d.at[first]))
			continue
		}
		index[n.ID] = i
	}
	known := true
	for i := range p.Nodes {
		d.checkNeeds(i, index)
		known = d.checkTask(i) && known
	}
	d.checkUsed()
	d.checkGraph(index)
	d.checkWritten()
	if known {
		d.checkKinds()
		d.checkRules()
	}
}

// node is the pointer to the i-th node.
func (d *definition) node(i int) string { return fmt.Sprintf("/nodes/%d", d.at[i]) }

// checkNeeds keeps the edges that lead somewhere.
func (d *definition) checkNeeds(i int, index map[string]int) {
	for j, id := range d.needs[i] {
		if _, there := index[id]; !there {
			d.fault(fmt.Sprintf("%s/needs/%d", d.node(i), j), "edge_dangling", "there is no node "+id)
			continue
		}
		d.pipe.Nodes[i].After = append(d.pipe.Nodes[i].After, id)
	}
}

// checkTask holds a node against its task, and says whether there is one.
func (d *definition) checkTask(i int) bool {
	n, at := &d.pipe.Nodes[i], d.node(i)
	t, known := Task(n.Task)
	io, user := taskPort[n.Task]
	if !known || !user {
		if n.Task != "" {
			d.fault(at+"/task", "task_unknown", "there is no task "+n.Task+"; there are "+strings.Join(slices.Sorted(maps.Keys(taskPort)), ", "))
		}
		return false
	}
	d.checkPorts(at+"/in", n.In, io.in, "input", t.Name)
	d.checkPorts(at+"/out", n.Out, io.out, "output", t.Name)
	for _, name := range slices.Sorted(maps.Keys(io.in)) {
		if key, wired := n.In[name]; !io.in[name].optional && (!wired || strings.HasSuffix(key, "?")) {
			d.fault(at+"/in/"+name, "input_missing", "task "+t.Name+" needs the input "+name)
		}
	}
	if wired := slices.DeleteFunc(slices.Clone(io.oneOf), func(name string) bool { return n.In[name] == "" }); io.oneOf != nil && len(wired) != 1 {
		d.fault(at+"/in", "input_missing", "task "+t.Name+" needs exactly one of the inputs "+strings.Join(io.oneOf, " and "))
	}
	for name := range n.Out {
		if from := n.In[name]; io.out[name].passes && from != "" {
			key, _ := optionalKey(from)
			n.Pass = map[string]string{name: key} // no task passes on more than one
		}
	}
	if n.Engine != "" && t.Lane == "" {
		d.fault(at+"/engine", "engine_unused", "task "+t.Name+" is decided without an engine")
	}
	d.checkParams(i, t)
	return true
}

func (d *definition) checkPorts(at string, wired map[string]string, ports map[string]port, what, task string) {
	for _, name := range slices.Sorted(maps.Keys(wired)) {
		if _, ok := ports[name]; !ok {
			d.fault(pointer(at, name), what+"_unknown", "task "+task+" has no "+what+" "+name+"; it has "+strings.Join(slices.Sorted(maps.Keys(ports)), ", "))
		}
	}
}

func (d *definition) checkParams(i int, t TaskSpec) {
	n := d.pipe.Nodes[i]
	at := d.node(i) + "/params"
	for _, name := range slices.Concat(slices.Sorted(maps.Keys(n.Fixed)), slices.Sorted(maps.Keys(n.From))) {
		j := slices.IndexFunc(t.Params, func(p Param) bool { return p.Name == name })
		if j < 0 {
			d.fault(pointer(at, name), "param_unknown", "task "+t.Name+" has no parameter "+name+"; it has "+strings.Join(paramNames(t.Params), ", "))
			continue
		}
		if option, renamed := n.From[name]; renamed {
			k := slices.IndexFunc(d.pipe.Params, func(p Param) bool { return p.Name == option })
			if k < 0 {
				d.fault(pointer(at, name), "param_unknown", "the pipeline has no parameter "+option)
				continue
			}
			d.checkWithin(d.pipe.Params[k], t.Params[j], t.Name)
			continue
		}
		if v, bad := t.Params[j].Check(n.Fixed[name]); bad != nil {
			d.fault(pointer(at, name), "param_invalid", "parameter "+name+" of task "+t.Name+" must be "+t.Params[j].Allowed())
		} else {
			n.Fixed[name] = v
		}
	}
	for _, own := range d.pipe.Params {
		for _, of := range t.Params {
			_, fixed := n.Fixed[of.Name]
			if _, renamed := n.From[of.Name]; own.Name == of.Name && !fixed && !renamed {
				d.checkWithin(own, of, t.Name)
			}
		}
	}
}

// checkWithin says where an option allows what the task's parameter does not.
func (d *definition) checkWithin(own, of Param, task string) {
	at := pointer("/parameters", own.Name)
	wrong := func(member string) {
		r := events.Reason{Code: "param_invalid", Field: at + "/" + member, Detail: "parameter " + of.Name + " of task " + task + " must be " + of.Allowed()}
		if !slices.Contains(d.faults, r) {
			d.faults = append(d.faults, r)
		}
	}
	numbers := own.Kind == "number" || own.Kind == "integer"
	switch {
	case own.Kind == "string" && of.Kind == kindLanguage:
		if slices.ContainsFunc(own.Enum, func(word string) bool { code, ok := events.Language(word); return !ok || code != word }) {
			wrong("enum")
		}
	case own.Kind != of.Kind && !(own.Kind == "integer" && of.Kind == "number"):
		wrong("type")
	case own.Kind == "string":
		if slices.ContainsFunc(own.Enum, func(word string) bool { return !slices.Contains(of.Enum, word) }) {
			wrong("enum")
		}
	case numbers && len(of.Enum) > 0:
		if len(own.Enum) == 0 || slices.ContainsFunc(own.Enum, func(word string) bool { return !slices.Contains(of.Enum, word) }) {
			wrong("enum")
		}
	case numbers && own.Min < of.Min:
		wrong("minimum")
	}
	if numbers && own.Max > of.Max {
		wrong("maximum")
	}
}

// checkUsed finds options that set nothing.
func (d *definition) checkUsed() {
	for _, p := range d.pipe.Params {
		used := slices.ContainsFunc(d.pipe.Nodes, func(n PipelineNode) bool {
			t, _ := Task(n.Task)
			_, fixed := n.Fixed[p.Name]
			_, renamed := n.From[p.Name]
			same := !fixed && !renamed && slices.ContainsFunc(t.Params, func(q Param) bool { return q.Name == p.Name })
			return same || slices.Contains(slices.Collect(maps.Values(n.From)), p.Name)
		})
		if !used {
			d.fault(pointer("/parameters", p.Name), "param_unused", "no node uses the parameter "+p.Name)
		}
	}
}

// checkGraph has the graph pass the checks of every graph, and says at which node each
// fault lies. What is told at better places already is left out of it, so that it goes
// on to what is behind that.
func (d *definition) checkGraph(index map[string]int) {
	g := events.Graph{Edges: buildEdges(d.pipe)}
	seen := map[string]bool{}
	for _, n := range inOrder(d.pipe.Nodes) {
		if !seen[n.ID] {
			g.Nodes = append(g.Nodes, events.Node{ID: n.ID, Task: TaskRegister, In: n.In, Out: n.Out})
		}
		seen[n.ID] = true
	}
	given := map[string]bool{}
	for key := range d.given() {
		given[key] = true
	}
	reasons := CheckGraph(g, given)
	// With two nodes or writers of one name the order is anybody's guess.
	unclear := len(g.Nodes) < len(d.pipe.Nodes) || slices.ContainsFunc(reasons, func(r events.Reason) bool { return r.Code == "output_duplicate" })
	for _, r := range reasons {
		if unclear && (r.Code == "graph_cycle" || r.Code == "node_unreachable") {
			continue
		}
		if i, known := index[strings.TrimPrefix(r.Field, "/graph/")]; known && r.Code != "input_missing" {
			d.fault(d.node(i), r.Code, r.Detail)
		}
	}
}

// given are the keys that the request fills.
func (d *definition) given() map[string]port {
	given := maps.Clone(requestPort)
	if d.pipe.Mode == ModeGenerateFromProfile {
		for _, key := range []string{"portrait", "images", "voice"} {
			delete(given, key)
		}
	}
	return given
}

// checkWritten finds what is read and never there.
func (d *definition) checkWritten() {
	there := d.given()
	for _, n := range d.pipe.Nodes {
		for _, key := range n.Out {
			there[key] = port{}
		}
	}
	missing := func(at, key string) {
		if _, ok := there[key]; !ok {
			d.fault(at, "input_missing", "nothing provides "+key+": no node writes it, and no request of mode "+d.pipe.Mode+" has it")
		}
	}
	for i, n := range d.pipe.Nodes {
		for name, from := range n.In {
			key, _ := optionalKey(from)
			missing(pointer(d.node(i)+"/in", name), key)
		}
	}
	for name, key := range d.pipe.Results {
		missing(pointer("/results", name), key)
	}
}

// checkKinds compares what is written with what is read.
func (d *definition) checkKinds() {
	written, writer := d.given(), map[string]PipelineNode{}
	for _, n := range d.pipe.Nodes {
		for name, key := range n.Out {
			written[key], writer[key] = taskPort[n.Task].out[name], n
		}
	}
	for i, n := range d.pipe.Nodes {
		for _, name := range slices.Sorted(maps.Keys(n.In)) {
			key, optional := optionalKey(n.In[name])
			want, have := taskPort[n.Task].in[name], written[key]
			at := pointer(d.node(i)+"/in", name)
			if want.kind != "" && have.kind != "" && want.kind != have.kind {
				d.fault(at, "input_wrong", key+" is "+have.kind+", and task "+n.Task+" needs "+want.kind+" here")
			}
			if w, ok := writer[key]; ok && skippable(w.Task) && !optional {
				d.fault(at, "input_missing", key+" is not there when node "+w.ID+" is left out for want of samples: read it as "+key+"?")
			}
		}
	}
}

// checkRules holds the pipeline to what every video of this system promises.
func (d *definition) checkRules() {
	p := d.pipe
	shape := events.Graph{Edges: buildEdges(p)}
	for _, n := range p.Nodes {
		shape.Nodes = append(shape.Nodes, events.Node{ID: n.ID})
	}
	graph := newGraphCheck(shape)
	before := graph.ancestors()
	safe := map[string]bool{} // keys that a safety filter wrote
	for _, n := range p.Nodes {
		for _, key := range n.Out {
			safe[key] = safe[key] || n.Task == TaskSafety
		}
	}
	assembled, checked := "", map[string]bool{}
	count := map[string]int{}
	for i, n := range p.Nodes {
		count[n.Task]++
		switch n.Task {
		case TaskSpeech, TaskRender, TaskLipsync, TaskAssemble:
			for _, name := range []string{"narration", "scene"} {
				if key, _ := optionalKey(n.In[name]); key != "" && !safe[key] {
					d.fault(pointer(d.node(i)+"/in", name), "unsafe", key+" has not passed "+TaskSafety)
				}
			}
		case TaskCheck:
			key, _ := optionalKey(n.In["video"])
			checked[key] = true
		}
		if n.Task == TaskAssemble && n.Out["video"] == p.Results["video"] {
			assembled = n.Out["video"]
		}
		if n.Task == TaskRegister && !slices.ContainsFunc(p.Nodes, func(c PipelineNode) bool { return c.Task == TaskCheck && before[graph.ids[n.ID]][graph.ids[c.ID]] }) {
			d.fault(d.node(i)+"/needs", "unchecked", "outputs are registered once they are checked: wait for the node of "+TaskCheck)
		}
	}
	if assembled == "" || !checked[assembled] {
		d.fault("/results/video", "unchecked", "the result video must be what a node of "+TaskAssemble+" writes and a node of "+TaskCheck+" reads")
	}
	profile, other := TaskProfileResolve, TaskProfileLoad
	if p.Mode == ModeGenerateFromProfile {
		profile, other = other, profile
	}
	if count[profile] != 1 || count[other] > 0 {
		d.fault("/nodes", "profile_wrong", "mode "+p.Mode+" needs one node of "+profile+" and none of "+other)
	}
	if count[TaskApproval] > 1 {
		d.fault("/nodes", "approval_twice", "a script is approved at one node")
	}
}
