// The checks that every graph passes before it is planned, wherever it came from.

package aggregates

import (
	"iter"
	"maps"
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// CheckGraph finds everything wrong with a graph: duplicate ids, unknown tasks,
// parameters out of range, edges to nowhere, cycles, nodes that the entry does
// not reach, values with two writers, required inputs that nobody writes. given
// are the keys that the request fills.
func CheckGraph(g events.Graph, given map[string]bool) []events.Reason {
	c := newGraphCheck(g)
	c.nodes()
	c.edges()
	if len(c.reasons) == 0 { // order means nothing in a graph with dangling edges
		c.order()
		c.values(given)
	}
	return c.reasons
}

type graphCheck struct {
	g       events.Graph
	ids     map[string]int // places of the nodes, of the first where several have one id
	reasons []events.Reason
}

func newGraphCheck(g events.Graph) *graphCheck {
	c := &graphCheck{g: g, ids: make(map[string]int, len(g.Nodes))}
	for i, n := range g.Nodes {
		if _, dup := c.ids[n.ID]; !dup {
			c.ids[n.ID] = i
		}
	}
	return c
}

func (c *graphCheck) refuse(code, node, detail string) {
	c.reasons = append(c.reasons, events.Reason{Code: code, Field: "/graph/" + node, Detail: detail})
}

func (c *graphCheck) nodes() {
	if len(c.g.Nodes) == 0 {
		c.refuse("graph_empty", "", "the graph has no nodes")
	}
	for i, n := range c.g.Nodes {
		if c.ids[n.ID] != i {
			c.refuse("node_duplicate", n.ID, "two nodes are called "+n.ID)
		}
		t, ok := Task(n.Task)
		if !ok {
			c.refuse("task_unknown", n.ID, "task "+n.Task+" is not registered")
			continue
		}
		c.params(n, t)
	}
}

func (c *graphCheck) params(n events.Node, t TaskSpec) {
	known := 0
	for _, p := range t.Params {
		v, given := n.Params[p.Name]
		if !given {
			continue
		}
		known++
		if _, bad := p.Check(v); bad != nil {
			c.refuse("param_invalid", n.ID, bad.Detail)
		}
	}
	if known == len(n.Params) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(n.Params)) {
		if !slices.ContainsFunc(t.Params, func(p Param) bool { return p.Name == name }) {
			c.refuse("param_unknown", n.ID, "task "+n.Task+" has no parameter "+name)
		}
	}
}

func (c *graphCheck) edges() {
	for _, e := range c.g.Edges {
		for _, id := range [2]string{e.From, e.To} {
			if _, ok := c.ids[id]; !ok {
				c.refuse("edge_dangling", id, "an edge names node "+id+", which does not exist")
			}
		}
	}
}

// order finds cycles, and nodes that the first node does not lead to.
func (c *graphCheck) order() {
	waits := make([]int, len(c.g.Nodes))
	for _, e := range c.g.Edges {
		waits[c.ids[e.To]]++
	}
	ready := make([]int, 0, len(c.g.Nodes))
	for i, n := range c.g.Nodes {
		if waits[i] > 0 {
			continue
		}
		ready = append(ready, i)
		if i > 0 {
			c.refuse("node_unreachable", n.ID, "nothing leads to node "+n.ID)
		}
	}
	for done := 0; done < len(ready); done++ {
		id := c.g.Nodes[ready[done]].ID
		for _, e := range c.g.Edges {
			if e.From != id {
				continue
			}
			to := c.ids[e.To]
			if waits[to]--; waits[to] == 0 {
				ready = append(ready, to)
			}
		}
	}
	for i, n := range c.g.Nodes {
		if waits[i] > 0 {
			c.refuse("graph_cycle", n.ID, "node "+n.ID+" waits for itself")
		}
	}
}

// values checks that every key has one writer, before its readers.
func (c *graphCheck) values(given map[string]bool) {
	writer := make(map[string]int, len(c.g.Nodes))
	for i, n := range c.g.Nodes {
		for _, k := range byName(n.Out) {
			if w, dup := writer[k]; dup {
				c.refuse("output_duplicate", n.ID, "nodes "+c.g.Nodes[w].ID+" and "+n.ID+" both write "+k)
			}
			writer[k] = i
		}
	}
	before := c.ancestors()
	for i, n := range c.g.Nodes {
		if n.Skip != "" {
			continue
		}
		for _, k := range byName(n.In) {
			k, optional := optionalKey(k)
			w, written := writer[k]
			switch {
			case written && !before[i][w]:
				c.refuse("input_unordered", n.ID, "node "+n.ID+" reads "+k+" but does not wait for "+c.g.Nodes[w].ID)
			case !written && !given[k] && !optional:
				c.refuse("input_missing", n.ID, "node "+n.ID+" reads "+k+", which nothing provides")
			}
		}
	}
}

// byName are a node's keys in the order of the names that it has for them.
func byName(keys map[string]string) iter.Seq2[string, string] {
	return func(yield func(name, key string) bool) {
		var room [8]string // most nodes have fewer
		names := slices.AppendSeq(room[:0], maps.Keys(keys))
		slices.Sort(names)
		for _, name := range names {
			if !yield(name, keys[name]) {
				return
			}
		}
	}
}

// ancestors says of every node, by its place, which nodes end before it starts.
func (c *graphCheck) ancestors() [][]bool {
	n := len(c.g.Nodes)
	cells, before := make([]bool, n*n), make([][]bool, n)
	for i := range before {
		before[i] = cells[i*n : (i+1)*n]
	}
	for changed := true; changed; {
		changed = false
		for _, e := range c.g.Edges {
			from, isFrom := c.ids[e.From]
			to, isTo := c.ids[e.To]
			if !isFrom || !isTo {
				continue
			}
			changed = changed || !before[to][from]
			before[to][from] = true
			for i, ends := range before[from] {
				changed = changed || ends && !before[to][i]
				before[to][i] = before[to][i] || ends
			}
		}
	}
	return before
}
