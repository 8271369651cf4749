// The checks that every graph passes before it is planned, wherever it came from.

package aggregates

import (
	"maps"
	"slices"

	"github.com/myspinbot/myspinbot/events"
)

// CheckGraph finds everything wrong with a graph: duplicate ids, unknown tasks,
// parameters out of range, edges to nowhere, cycles, nodes that the entry does
// not reach, values with two writers, required inputs that nobody writes. given
// are the keys that the request fills.
func CheckGraph(g events.Graph, given map[string]bool) []events.Reason {
	c := graphCheck{g: g, ids: map[string]int{}}
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
	ids     map[string]int
	reasons []events.Reason
}

func (c *graphCheck) refuse(code, node, detail string) {
	c.reasons = append(c.reasons, events.Reason{Code: code, Field: "/graph/" + node, Detail: detail})
}

func (c *graphCheck) nodes() {
	if len(c.g.Nodes) == 0 {
		c.refuse("graph_empty", "", "the graph has no nodes")
	}
	for i, n := range c.g.Nodes {
		if _, dup := c.ids[n.ID]; dup {
			c.refuse("node_duplicate", n.ID, "two nodes are called "+n.ID)
		}
		c.ids[n.ID] = i
		t, ok := Task(n.Task)
		if !ok {
			c.refuse("task_unknown", n.ID, "task "+n.Task+" is not registered")
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(n.Params)) {
			j := slices.IndexFunc(t.Params, func(p Param) bool { return p.Name == name })
			if j < 0 {
				c.refuse("param_unknown", n.ID, "task "+n.Task+" has no parameter "+name)
				continue
			}
			if _, bad := t.Params[j].Check(n.Params[name]); bad != nil {
				c.refuse("param_invalid", n.ID, bad.Detail)
			}
		}
	}
}

func (c *graphCheck) edges() {
	for _, e := range c.g.Edges {
		for _, id := range []string{e.From, e.To} {
			if _, ok := c.ids[id]; !ok {
				c.refuse("edge_dangling", id, "an edge names node "+id+", which does not exist")
			}
		}
	}
}

// order finds cycles, and nodes that the first node does not lead to.
func (c *graphCheck) order() {
	waits := make(map[string]int, len(c.ids))
	next := map[string][]string{}
	for _, e := range c.g.Edges {
		waits[e.To]++
		next[e.From] = append(next[e.From], e.To)
	}
	var ready []string
	for i, n := range c.g.Nodes {
		if waits[n.ID] > 0 {
			continue
		}
		ready = append(ready, n.ID)
		if i > 0 {
			c.refuse("node_unreachable", n.ID, "nothing leads to node "+n.ID)
		}
	}
	done := 0
	for len(ready) > 0 {
		id := ready[0]
		ready = ready[1:]
		done++
		for _, to := range next[id] {
			if waits[to]--; waits[to] == 0 {
				ready = append(ready, to)
			}
		}
	}
	if done < len(c.g.Nodes) {
		for _, n := range c.g.Nodes {
			if waits[n.ID] > 0 {
				c.refuse("graph_cycle", n.ID, "node "+n.ID+" waits for itself")
			}
		}
	}
}

// values checks that every key has one writer, before its readers.
func (c *graphCheck) values(given map[string]bool) {
	writer := map[string]string{}
	for _, n := range c.g.Nodes {
		for _, name := range slices.Sorted(maps.Keys(n.Out)) {
			k := n.Out[name]
			if w, dup := writer[k]; dup {
				c.refuse("output_duplicate", n.ID, "nodes "+w+" and "+n.ID+" both write "+k)
			}
			writer[k] = n.ID
		}
	}
	before := c.ancestors()
	for _, n := range c.g.Nodes {
		if n.Skip != "" {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(n.In)) {
			k, optional := optionalKey(n.In[name])
			w, written := writer[k]
			switch {
			case written && !before[n.ID][w]:
				c.refuse("input_unordered", n.ID, "node "+n.ID+" reads "+k+" but does not wait for "+w)
			case !written && !given[k] && !optional:
				c.refuse("input_missing", n.ID, "node "+n.ID+" reads "+k+", which nothing provides")
			}
		}
	}
}

// ancestors maps a node to all nodes that end before it starts.
func (c *graphCheck) ancestors() map[string]map[string]bool {
	before := map[string]map[string]bool{}
	for _, n := range c.g.Nodes {
		before[n.ID] = map[string]bool{}
	}
	for changed := true; changed; {
		changed = false
		for _, e := range c.g.Edges {
			n := len(before[e.To])
			before[e.To][e.From] = true
			maps.Copy(before[e.To], before[e.From])
			changed = changed || len(before[e.To]) > n
		}
	}
	return before
}
