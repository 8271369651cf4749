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

// Room says of a task's attempts, by resolution, which can never run, because what they
// take is more than any card has. A resolution that is missing fits somewhere, or is not
// counted.
type Room map[string]Excess

// Excess is what an attempt takes of a card's memory at least, and the most that a card
// has of it, both in MiB.
type Excess struct{ Needs, Has int }

// Rooms are the tasks of which not all attempts fit, of the workers at work. An attempt
// fits if any engine of any worker can do it.
func (w *Workers) Rooms(now time.Time) map[string]Room {
	out, fits := map[string]Room{}, map[string]map[string]bool{}
	for _, m := range w.Alive(now) {
		d := m.Data.(events.WorkerManifest)
		has := int(d.VRAMBytes >> 20)
		for _, t := range d.Tasks {
			if fits[t.Task] == nil {
				fits[t.Task], out[t.Task] = map[string]bool{}, Room{}
			}
			for _, r := range resolution.Enum {
				needs := needOf(d.Needs, t, r)
				if has == 0 || needs <= has {
					fits[t.Task][r] = true
					continue
				}
				e, known := out[t.Task][r]
				if !known || needs-has < e.Needs-e.Has {
					out[t.Task][r] = Excess{needs, has}
				}
			}
		}
	}
	for task, room := range out {
		maps.DeleteFunc(room, func(r string, _ Excess) bool { return fits[task][r] })
	}
	maps.DeleteFunc(out, func(_ string, room Room) bool { return len(room) == 0 })
	return out
}

// needOf is what the engine takes at the resolution, in MiB.
func needOf(needs []events.TaskNeed, t events.TaskCapability, resolution string) int {
	for _, n := range needs {
		if n.Task == t.Task && n.Engine == t.Engine && (n.Resolution == "" || n.Resolution == resolution) {
			return n.MiB
		}
	}
	return 0
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
// each that may. It is part of the name of a result, so that another engine or model
// never passes for the one that made it.
func (e Engines) Name(n events.Node, engines string) string {
	if engines == "" && n.Engine == "" {
		return e.all[n.Task]
	}
	return named(slices.DeleteFunc(slices.Clone(e.byTask[n.Task]), func(c events.TaskCapability) bool {
		return !c.Serves(engines, n.Engine) || !c.Enlarges(factorOf(n))
	}))
}

func named(of []events.TaskCapability) string {
	names := map[string]bool{}
	for _, c := range of {
		names[c.Engine+"/"+c.Version+"/"+c.Model] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(names)), " ")
}

// factorOf is the upscaling that a node asks for; 0 where it asks for none.
func factorOf(n events.Node) int {
	f, _ := n.Params["factor"].(float64)
	return int(f)
}

// serve says whether some engine may do the node's work; has says which of the node's
// inputs there will be.
func (e Engines) serve(n events.Node, engines string, has func(input string) bool) bool {
	return slices.ContainsFunc(e.byTask[n.Task], func(c events.TaskCapability) bool {
		return c.Serves(engines, n.Engine) && (c.Takes == "" || has(c.Takes)) && c.Enlarges(factorOf(n))
	})
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
