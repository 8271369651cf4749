// Takes: several variants of one job's picture, of which somebody chooses afterwards.
//
//  1. Take 1 is the pipeline as it is. The others repeat every stage that draws a seed,
//     and all that is made from what such a stage made; everything before is shared.
//  2. Take n draws the seed of take 1 plus n-1. A job with that seed and one take makes
//     the same, or reuses it.
//  3. What a stage of take n writes, its id and the job's outputs are called as those of
//     take 1 with _n behind.
//  4. The job ends well when every take does.

package aggregates

import (
	"maps"
	"slices"
	"strconv"

	"github.com/myspinbot/myspinbot/events"
)

const (
	optionTakes = "takes"
	maxTakes    = 4
)

// takesOf is how many takes the options ask for.
func takesOf(opts map[string]any) int {
	if n, ok := opts[optionTakes].(float64); ok {
		return int(n)
	}
	return 1
}

// ofTake is the name of a stage, value or output in a take.
func ofTake(name string, take int) string {
	if take == 1 || name == "" {
		return name
	}
	return name + "_" + strconv.Itoa(take)
}

// addTakes repeats for each further take what differs between takes.
func addTakes(g *events.Graph, takes int) {
	if takes < 2 {
		return
	}
	own := ownOfTake(*g)
	written := map[string]bool{}
	for _, n := range g.Nodes {
		for _, key := range n.Out {
			written[key] = written[key] || own[n.ID]
		}
	}
	// The nodes stay in an order in which none stands before what it waits for.
	last := 0
	for i, n := range g.Nodes {
		if own[n.ID] {
			last = i
		}
	}
	var nodes []events.Node
	var edges []events.Edge
	for take := 2; take <= takes; take++ {
		for _, n := range g.Nodes {
			if own[n.ID] {
				nodes = append(nodes, nodeOfTake(n, take, written))
			}
		}
		for _, e := range g.Edges {
			switch {
			case own[e.From] && own[e.To]:
				edges = append(edges, events.Edge{From: ofTake(e.From, take), To: ofTake(e.To, take)})
			case own[e.From]:
				edges = append(edges, events.Edge{From: ofTake(e.From, take), To: e.To})
			case own[e.To]:
				edges = append(edges, events.Edge{From: e.From, To: ofTake(e.To, take)})
			}
		}
	}
	g.Nodes = slices.Insert(g.Nodes, last+1, nodes...)
	g.Edges = append(g.Edges, edges...)
}

// ownOfTake are the nodes that each take has for itself. What the job handler decides
// itself is there once: it ends the job.
func ownOfTake(g events.Graph) map[string]bool {
	own := map[string]bool{}
	for grown := true; grown; {
		grown = false
		for _, n := range g.Nodes {
			_, draws := n.Params[seed.Name]
			waits := slices.ContainsFunc(g.Edges, func(e events.Edge) bool { return e.To == n.ID && own[e.From] })
			if n.Lane != "" && !own[n.ID] && (draws || waits) {
				own[n.ID], grown = true, true
			}
		}
	}
	return own
}

// nodeOfTake is the node of a further take; written are the keys that takes have apart.
func nodeOfTake(n events.Node, take int, written map[string]bool) events.Node {
	renamed := func(keys map[string]string) map[string]string {
		if keys == nil {
			return nil
		}
		out := make(map[string]string, len(keys))
		for name, key := range keys {
			plain, optional := optionalKey(key)
			if written[plain] {
				key = ofTake(plain, take)
				if optional {
					key += "?"
				}
			}
			out[name] = key
		}
		return out
	}
	n.ID, n.In, n.Out, n.Pass = ofTake(n.ID, take), renamed(n.In), renamed(n.Out), renamed(n.Pass)
	if s, draws := n.Params[seed.Name].(float64); draws {
		n.Params = maps.Clone(n.Params)
		n.Params[seed.Name] = float64((int64(s) + int64(take) - 1) & maxSeed)
	}
	return n
}

// IsDraft says whether the graph makes a draft.
func IsDraft(g *events.Graph) bool { return g != nil && g.Options[draft.Name] == true }
