// Whether the workers at work can do what a plan needs, with the engines that the job
// allows; and if not, what is in the way and what to do.

package aggregates

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/myspinbot/myspinbot/events"
)

// EngineChoices are what a job may say about its engines, the usual one first.
var EngineChoices = []string{events.EnginesAuto, events.EnginesReal, events.EnginesPreview}

func checkCapabilities(g events.Graph, in PlanInput, given map[string]bool) []events.Reason {
	if !in.Engines.Asked() {
		return nil
	}
	there := present(g, given)
	var reasons []events.Reason
	for _, n := range g.Nodes {
		has := func(input string) bool { k, _ := optionalKey(n.In[input]); return there[k] }
		if n.Lane == "" || n.Skip != "" || in.Engines.serve(n, in.Request.Engines, has) {
			continue
		}
		reasons = append(reasons, lacking(n, in, has))
	}
	return reasons
}

// present are the keys that will hold something: what the request gives, what nodes
// that run write, and what others pass on.
func present(g events.Graph, given map[string]bool) map[string]bool {
	there := map[string]bool{}
	for k := range given {
		there[k] = true
	}
	for _, n := range g.Nodes { // in a topological order
		for name, k := range n.Out {
			if from, passes := n.Pass[name]; n.Skip == "" || passes && there[from] {
				there[k] = true
			}
		}
	}
	return there
}

// lacking says why nobody does the node's work.
func lacking(n events.Node, in PlanInput, has func(input string) bool) events.Reason {
	choice := in.Request.Engines
	if in.Engines.serve(withoutLanguage(n), choice, has) {
		return speechless(n, in, has)
	}
	if has(events.InputRecording) {
		return unplayed(n)
	}
	r := events.Reason{Code: "capability_missing", Field: "/variant", Detail: "no worker runs " + n.Task + " now"}
	able := in.Engines.serve(n, "", has)
	switch {
	case choice == events.EnginesReal && able:
		r.Field, r.Detail = "/engines", "no worker has a real engine for "+n.Task+" now"
		if n.Engine != "" {
			r.Detail = "no worker has the engine " + n.Engine + " for " + n.Task + " now"
		}
	case choice == events.EnginesPreview && able:
		r.Field, r.Detail = "/engines", "no worker has a built-in engine for "+n.Task+" now"
	}
	if can := in.Engines.factors(n, choice); can != "" {
		if !able {
			r.Field, r.Detail = "/options/factor", "no worker has an engine for "+n.Task+" now"
		}
		r.Detail += fmt.Sprintf(" that enlarges %d times; there is one for %s", factorOf(n), can)
		if able {
			r.Detail += "; or ask with engines " + events.EnginesAuto
		}
		return r
	}
	gap, told := gapOf(n, in)
	if told {
		r.Detail += ": " + gap.Reason + "; " + gap.Hint
	}
	if r.Field != "/engines" {
		return r
	}
	if !told {
		if wants := in.Engines.needed(n, choice); wants != "" {
			r.Detail += " that works without " + wants
		} else {
			r.Detail += ": none is configured, see docs/engines.md"
		}
	}
	r.Detail += "; or ask with engines " + events.EnginesAuto
	return r
}

// gapOf is the first gap of an engine that might do the node's work.
func gapOf(n events.Node, in PlanInput) (events.TaskGap, bool) {
	for _, gap := range in.Gaps[n.Task] {
		of := events.TaskCapability{Engine: gap.Engine, Builtin: gap.Builtin, Fidelity: events.FidelityFull}
		if (in.Request.Engines != events.EnginesReal || !gap.Builtin) && of.Serves(in.Request.Engines, n.Engine) {
			return gap, true
		}
	}
	return events.TaskGap{}, false
}

func withoutLanguage(n events.Node) events.Node {
	n.Params = maps.Clone(n.Params)
	delete(n.Params, language.Name)
	return n
}

// speechless says why nobody does the node's work in its language, though somebody does in
// another. It is refused whatever engines the job allows: a text that is read with the
// sounds of another language is no preview of anything.
func speechless(n events.Node, in PlanInput, has func(input string) bool) events.Reason {
	r := events.Reason{Code: "language_unavailable", Field: "/options/" + language.Name,
		Detail: "no worker has an engine for " + n.Task + " in the language " + languageOf(n) + " now; there are " + in.Engines.spoken(n, in.Request.Engines, has)}
	if gap, ok := gapOf(n, in); ok && !gap.Builtin {
		r.Detail += "; " + gap.Engine + " might, but " + gap.Reason + ": " + gap.Hint
		return r
	}
	if n.Task == TaskScript {
		r.Detail += "; give a script of your own in that language, or configure a language model (docs/engines.md)"
		return r
	}
	r.Detail += "; configure a voice that speaks it (docs/engines-voices.md)"
	return r
}

// Missing are the tasks of the pipeline that no engine of that choice runs now, given
// every input that it takes but a recording, which most jobs bring none of.
func (p Pipeline) Missing(e Engines, engines string) []string {
	var missing []string
	for _, n := range p.Nodes {
		t, _ := Task(n.Task)
		has := func(input string) bool { return n.In[input] != "" && input != events.InputRecording }
		if t.Lane != "" && !slices.Contains(missing, n.Task) && !e.serve(events.Node{Task: n.Task, Engine: n.Engine}, engines, has) {
			missing = append(missing, n.Task)
		}
	}
	return missing
}

// factors are those of the upscaling engines that may work for the node, but for its factor.
func (e Engines) factors(n events.Node, engines string) string {
	var all []string
	for _, c := range e.byTask[n.Task] {
		if c.Serves(engines, n.Engine) && !c.Enlarges(factorOf(n)) {
			all = append(all, strconv.Itoa(c.Factor))
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " or ")
}

// needed names the inputs that engines which may work for the node miss.
func (e Engines) needed(n events.Node, engines string) string {
	var inputs []string
	for _, c := range e.byTask[n.Task] {
		if c.Serves(engines, n.Engine) && c.Takes != "" && !playsRecordings(c) && !slices.Contains(inputs, c.Takes) {
			inputs = append(inputs, c.Takes)
		}
	}
	slices.Sort(inputs)
	return strings.Join(inputs, " or ")
}
