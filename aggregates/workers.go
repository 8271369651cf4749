// The workers: which tasks can run now, and why the others cannot.

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

// Engines names, for every task, what would make a result of it now: engine, version
// and model of each worker at work that offers the task. It is part of the name of a
// result, so that another engine or model never passes for the one that made it.
func (w *Workers) Engines(now time.Time) map[string]string {
	offered := map[string]map[string]bool{}
	for _, m := range w.Alive(now) {
		for _, t := range m.Data.(events.WorkerManifest).Tasks {
			if offered[t.Task] == nil {
				offered[t.Task] = map[string]bool{}
			}
			offered[t.Task][t.Engine+"/"+t.Version+"/"+t.Model] = true
		}
	}
	out := make(map[string]string, len(offered))
	for task, engines := range offered {
		out[task] = strings.Join(slices.Sorted(maps.Keys(engines)), " ")
	}
	return out
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

// Tasks are the tasks that some worker at work announces, and for the others why
// a worker cannot run them.
func (w *Workers) Tasks(now time.Time) (map[string]bool, map[string]events.TaskGap) {
	can, gaps := map[string]bool{}, map[string]events.TaskGap{}
	for _, m := range w.Alive(now) {
		d := m.Data.(events.WorkerManifest)
		for _, t := range d.Tasks {
			can[t.Task] = true
		}
		for _, g := range d.Unavailable {
			gaps[g.Task] = g
		}
	}
	maps.DeleteFunc(gaps, func(task string, _ events.TaskGap) bool { return can[task] })
	return can, gaps
}
