// Building a graph from a pipeline, options and inputs.

package aggregates

import (
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/myspinbot/myspinbot/events"
)

// build gives the graph its nodes and edges, and checks it.
func build(g *events.Graph, pipe Pipeline, opts map[string]any, given map[string]bool, jobID string) []events.Reason {
	usual := len(opts) == 0 && pipe.Definition == ""
	if usual {
		if s, ok := shapes.Load(shapeOf(pipe, given)); ok {
			s.(*shape).give(g, jobID)
			return nil
		}
	}
	var seeded []int
	g.Nodes, seeded = buildNodes(pipe, opts, given, jobID)
	g.Edges = buildEdges(pipe)
	addTakes(g, takesOf(opts))
	scaleWeights(g.Nodes)
	reasons := CheckGraph(*g, given)
	if usual && len(reasons) == 0 {
		shapes.Store(shapeOf(pipe, given), &shape{slices.Clone(g.Nodes), slices.Clip(g.Edges), seeded})
	}
	return reasons
}

// shape is a checked graph of a built-in pipeline without options: every job with the same
// inputs has it, but for the seeds. Nobody changes what it holds.
type shape struct {
	nodes  []events.Node
	edges  []events.Edge
	seeded []int // places of nodes whose seed the job decides
}

// shapeKey names a shape: few pipelines and few inputs make few of them.
type shapeKey struct {
	mode, variant string
	gated         bool
	given         string // input keys in order
}

var shapes sync.Map // of *shape by shapeKey

func shapeOf(pipe Pipeline, given map[string]bool) shapeKey {
	return shapeKey{pipe.Mode, pipe.Variant, pipe.has(TaskApproval), strings.Join(slices.Sorted(maps.Keys(given)), " ")}
}

// give makes the job's own graph of the shape.
func (s *shape) give(g *events.Graph, jobID string) {
	g.Nodes, g.Edges = slices.Clone(s.nodes), s.edges
	for _, i := range s.seeded {
		params := maps.Clone(g.Nodes[i].Params)
		params[seed.Name] = seedOf(jobID)
		g.Nodes[i].Params = params
	}
}

// buildNodes also gives the places of the nodes whose seed the job decides.
func buildNodes(pipe Pipeline, opts map[string]any, given map[string]bool, jobID string) (nodes []events.Node, seeded []int) {
	nodes = make([]events.Node, 0, len(pipe.Nodes))
	for i, n := range pipe.Nodes {
		t, _ := Task(n.Task)
		params, own := nodeParams(pipe, n, t, opts, jobID)
		if own {
			seeded = append(seeded, i)
		}
		node := events.Node{ID: n.ID, Task: n.Task, Plane: t.Plane, Lane: t.Lane, Out: n.Out, Pass: n.Pass,
			In: n.In, Params: params, Weight: t.Weight, TimeoutMS: t.Timeout, Engine: n.Engine}
		if n.Weight > 0 {
			node.Weight = n.Weight
		}
		node.Skip = skipReason(n, node.Params, given)
		nodes = append(nodes, node)
	}
	return nodes, seeded
}

// nodeParams are what the pipeline fixes, what the options say, and defaults: first
// those of the pipeline's own options, then the task's. seeded: the job decides the seed.
func nodeParams(pipe Pipeline, n PipelineNode, t TaskSpec, opts map[string]any, jobID string) (params map[string]any, seeded bool) {
	params = map[string]any{}
	for _, p := range t.Params {
		if v, fixed := n.Fixed[p.Name]; fixed {
			params[p.Name] = v
			continue
		}
		option := p.Name
		if other, renamed := n.From[p.Name]; renamed {
			option = other
		}
		v, ok := opts[option]
		if i := slices.IndexFunc(pipe.Params, func(o Param) bool { return o.Name == option }); !ok && i >= 0 && pipe.Params[i].Default != nil {
			v, ok = pipe.Params[i].Default, true
		}
		switch {
		case ok:
			params[p.Name] = v
		case p.Default != nil:
			params[p.Name] = p.Default
		case p.Name == seed.Name:
			params[p.Name], seeded = seedOf(jobID), true
		}
	}
	if len(params) == 0 {
		return nil, false
	}
	return params, seeded
}

// seedOf picks a seed that a repeated plan picks again.
func seedOf(jobID string) float64 {
	h := fnv.New32a()
	h.Write([]byte(jobID)) //nolint:errcheck // a hash's Write never fails
	return float64(h.Sum32() >> 1)
}

func skipReason(n PipelineNode, params map[string]any, given map[string]bool) string {
	switch {
	case n.Task == TaskTrainLora && !given["images"]:
		return "no training images were given"
	case n.Task == TaskTrainVoice && !given["voice"]:
		return noVoice(given)
	case n.Task == TaskUpscale && params["factor"] == 1.0:
		return "factor 1 leaves the picture as it is"
	case n.Task == TaskUpscale && params["draft"] == true:
		return "a draft is not enlarged"
	}
	return ""
}

// buildEdges joins a node to the writers of its inputs and to the nodes it waits for.
func buildEdges(pipe Pipeline) []events.Edge {
	writer := map[string]string{}
	for _, n := range pipe.Nodes {
		for _, k := range n.Out {
			writer[k] = n.ID
		}
	}
	var edges []events.Edge
	for _, n := range pipe.Nodes {
		froms := slices.Clone(n.After)
		for _, k := range n.In {
			name, _ := optionalKey(k)
			if w := writer[name]; w != "" {
				froms = append(froms, w)
			}
		}
		slices.Sort(froms)
		for _, f := range slices.Compact(froms) {
			edges = append(edges, events.Edge{From: f, To: n.ID})
		}
	}
	return edges
}

// scaleWeights makes the weights of the nodes that will run add up to 1.
func scaleWeights(nodes []events.Node) {
	sum := 0.0
	for _, n := range nodes {
		if n.Skip == "" {
			sum += n.Weight
		}
	}
	for i := range nodes {
		if nodes[i].Skip != "" {
			nodes[i].Weight = 0
			continue
		}
		nodes[i].Weight /= sum
	}
}
