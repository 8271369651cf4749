// The workers: which engines can run tasks now, and why others cannot.

package aggregates

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// WorkerSilence is how long a worker may say nothing before its tasks no longer count.
const WorkerSilence = 45 * time.Second

// Workers is the fold of the manifests: the latest of each worker. The zero value is ready.
type Workers struct {
	latest map[string]events.Message
}

// Apply takes a manifest; other records and older manifests change nothing.
func (w *Workers) Apply(m events.Message) {
	if _, ok := m.Data.(events.WorkerManifest); !ok {
		return
	}
	if have, ok := w.latest[m.AggregateID]; ok && m.OccurredAt.Before(have.OccurredAt) {
		return
	}
	if w.latest == nil {
		w.latest = map[string]events.Message{}
	}
	w.latest[m.AggregateID] = m
}

// Alive lists the manifests of workers that are at work, by worker id.
func (w *Workers) Alive(now time.Time) []events.Message {
	var out []events.Message
	for _, id := range slices.Sorted(maps.Keys(w.latest)) {
		m := w.latest[id]
		if !m.Data.(events.WorkerManifest).Stopped && now.Sub(m.OccurredAt) <= WorkerSilence {
			out = append(out, m)
		}
	}
	return out
}

// Engines are what the workers at work announce, and Gaps why others cannot work.
func (w *Workers) Engines(now time.Time) Engines {
	var all []events.TaskCapability
	for _, m := range w.Alive(now) {
		all = append(all, m.Data.(events.WorkerManifest).Tasks...)
	}
	return EnginesOf(all...)
}

// Gaps are by task, those of configured engines first: they say what somebody wanted.
func (w *Workers) Gaps(now time.Time) map[string][]events.TaskGap {
	gaps := map[string][]events.TaskGap{}
	for _, m := range w.Alive(now) {
		for _, g := range m.Data.(events.WorkerManifest).Unavailable {
			if !slices.Contains(gaps[g.Task], g) {
				gaps[g.Task] = append(gaps[g.Task], g)
			}
		}
	}
	for _, of := range gaps {
		slices.SortStableFunc(of, func(a, b events.TaskGap) int { return rank(a) - rank(b) })
	}
	return gaps
}

func rank(g events.TaskGap) int {
	if g.Builtin {
		return 1
	}
	return 0
}

// Engines are the engines that can run tasks now. The zero value says that nobody
// asked for them. It is never changed.
type Engines struct {
	byTask map[string][]events.TaskCapability
	all    map[string]string // by task: the name of all of them
}

// EnginesOf gathers engines; equal ones of several workers count once.
func EnginesOf(caps ...events.TaskCapability) Engines {
	e := Engines{byTask: map[string][]events.TaskCapability{}, all: map[string]string{}}
	for _, c := range caps {
		if !slices.Contains(e.byTask[c.Task], c) {
			e.byTask[c.Task] = append(e.byTask[c.Task], c)
		}
	}
	for task, of := range e.byTask {
		e.all[task] = named(of)
	}
	return e
}

// Asked says whether anybody asked the workers at all.
func (e Engines) Asked() bool { return e.byTask != nil }

// Tasks are those that some engine runs, sorted.
func (e Engines) Tasks() []string { return slices.Sorted(maps.Keys(e.byTask)) }

// Name says what would make a result of the node now: engine, version and model of
// each that may, in the node's language and at its factor. It is part of the name of a result, so that another engine or model
// never passes for the one that made it. recorded says that the node has a recording.
func (e Engines) Name(n events.Node, engines string, recorded bool) string {
	of, in := e.byTask[n.Task], languageOf(n)
	barred := func(c events.TaskCapability) bool {
		return !c.Serves(engines, n.Engine) || !c.Speaks(in) || !c.Enlarges(factorOf(n)) || playsRecordings(c) != recorded
	}
	if !slices.ContainsFunc(of, barred) {
		return e.all[n.Task]
	}
	return named(slices.DeleteFunc(slices.Clone(of), barred))
}

func named(of []events.TaskCapability) string {
	names := map[string]bool{}
	for _, c := range of {
		names[c.Engine+"/"+c.Version+"/"+c.Model] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), " ")
}

// languageOf is the language that the node works in; empty where its task has none.
func languageOf(n events.Node) string {
	l, _ := n.Params[language.Name].(string)
	return l
}

// factorOf is the upscaling that a node asks for; 0 where it asks for none.
func factorOf(n events.Node) int {
	f, _ := n.Params["factor"].(float64)
	return int(f)
}

// serve says whether some engine may do the node's work; has says which of the node's
// inputs there will be.
func (e Engines) serve(n events.Node, engines string, has func(input string) bool) bool {
	return slices.ContainsFunc(e.byTask[n.Task], func(c events.TaskCapability) bool { return serves(c, n, engines, has) })
}

func serves(c events.TaskCapability, n events.Node, engines string, has func(input string) bool) bool {
	return c.Task == n.Task && c.Serves(engines, n.Engine) && c.Speaks(languageOf(n)) && c.Enlarges(factorOf(n)) &&
		(c.Takes == "" || has(c.Takes)) && (playsRecordings(c) || !has(events.InputRecording))
}

// spoken names the languages of the engines that may do the node's work, those first that
// work with the inputs there will be, then those that miss one, and which.
func (e Engines) spoken(n events.Node, engines string, has func(input string) bool) string {
	by := map[string]map[string]bool{}
	for _, c := range e.byTask[n.Task] {
		if !c.Serves(engines, n.Engine) || c.Languages == "" {
			continue
		}
		missing := ""
		if c.Takes != "" && !has(c.Takes) {
			missing = c.Takes
		}
		if by[missing] == nil {
			by[missing] = map[string]bool{}
		}
		for _, code := range c.Languages.List() {
			by[missing][code] = true
		}
	}
	var parts []string
	for _, missing := range slices.Sorted(maps.Keys(by)) {
		part := strings.Join(slices.Sorted(maps.Keys(by[missing])), ", ")
		if missing != "" {
			part = "with " + missing + " " + part
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}

// allow says whether a result is one that a job with that choice of engines takes.
func (e Engines) allow(task, engines string, r events.Result) bool {
	switch engines {
	case events.EnginesReal:
		return events.IsReal(r.Fidelity)
	case events.EnginesPreview:
		return slices.ContainsFunc(e.byTask[task], func(c events.TaskCapability) bool { return c.Builtin && c.Engine == r.Engine })
	}
	return true
}
