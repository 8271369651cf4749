// What has room on the workers' cards: which attempts can never run, because they take
// more of a card's memory than any worker's has, and what would.

package aggregates

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// Rooms are the engines of the workers at work, by task. A task of which every attempt
// fits is missing.
type Rooms map[string][]Room

// Room is an engine of a worker, with what it can never do on that worker's card.
type Room struct {
	Can  events.TaskCapability
	Over map[string]Excess // by resolution; one that is missing fits, or is not counted
}

// Excess is what an attempt takes of a card's memory at least, and the most that a card
// has of it, both in MiB.
type Excess struct{ Needs, Has int }

// Rooms gathers them from the manifests; equal engines without any excess count once.
func (w *Workers) Rooms(now time.Time) Rooms {
	all, over := Rooms{}, map[string]bool{}
	for _, m := range w.Alive(now) {
		for _, r := range roomsOf(m.Data.(events.WorkerManifest)) {
			task := r.Can.Task
			over[task] = over[task] || len(r.Over) > 0
			if len(r.Over) > 0 || !slices.ContainsFunc(all[task], func(o Room) bool { return o.Can == r.Can && len(o.Over) == 0 }) {
				all[task] = append(all[task], r)
			}
		}
	}
	for task := range all {
		if !over[task] {
			delete(all, task)
		}
	}
	return all
}

// roomsOf are the engines of one worker.
func roomsOf(d events.WorkerManifest) []Room {
	has := int(d.VRAMBytes >> 20)
	rooms := make([]Room, 0, len(d.Tasks))
	for _, t := range d.Tasks {
		r := Room{Can: t}
		for _, size := range resolution.Enum {
			if needs := needOf(d.Needs, t, size); has > 0 && needs > has {
				if r.Over == nil {
					r.Over = map[string]Excess{}
				}
				r.Over[size] = Excess{needs, has}
			}
		}
		rooms = append(rooms, r)
	}
	return rooms
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

// never says whether no engine that the job allows has room for the node at the
// resolution, and how much is missing where least is.
func (rs Rooms) never(n events.Node, engines, resolution string, has func(input string) bool) (least Excess, never bool) {
	for _, r := range rs[n.Task] {
		if !serves(r.Can, n, engines, has) {
			continue
		}
		e, over := r.Over[resolution]
		if !over {
			return Excess{}, false
		}
		if !never || e.Needs-e.Has < least.Needs-least.Has {
			least, never = e, true
		}
	}
	return least, never
}

// resolutionOf is what the node draws.
func resolutionOf(n events.Node) string {
	if asked, ok := n.Params[resolution.Name].(string); ok {
		return asked
	}
	return resolution.Default.(string)
}

// checkRooms refuses what fits no card, and names what would fit: the resolutions with
// which all tasks do, or else the choice of engines.
func checkRooms(pipe Pipeline, g events.Graph, in PlanInput, given map[string]bool) []events.Reason {
	if len(in.Rooms) == 0 {
		return nil
	}
	there := present(g, given)
	over := func(n events.Node, engines, resolution string) (Excess, bool) {
		has := func(input string) bool { k, _ := optionalKey(n.In[input]); return there[k] }
		if n.Lane == "" || n.Skip != "" {
			return Excess{}, false
		}
		return in.Rooms.never(n, engines, resolution, has)
	}
	var reasons []events.Reason
	for _, n := range g.Nodes {
		asked := resolutionOf(n)
		e, never := over(n, in.Request.Engines, asked)
		if !never {
			continue
		}
		r := events.Reason{Code: "vram_exceeded",
			Detail: fmt.Sprintf("%s at %s takes %d MiB of a graphics card, and no worker's has more than %d", n.Task, asked, e.Needs, e.Has)}
		option, sizes := pipe.sizes(n.Task)
		sizes = slices.DeleteFunc(sizes, func(size string) bool {
			return slices.ContainsFunc(g.Nodes, func(other events.Node) bool {
				at := size
				if o, _ := pipe.sizes(other.Task); o != option {
					at = resolutionOf(other)
				}
				_, never := over(other, in.Request.Engines, at)
				return never
			})
		})
		_, never = over(n, events.EnginesAuto, asked)
		r.Field, r.Detail = mended(r.Detail, option, sizes, !never)
		reasons = append(reasons, r)
	}
	return reasons
}

// mended is the field to change so that something fits, and the sentence with how: by
// the option, by engines that take less, or by nothing that a request can say.
func mended(detail, option string, sizes []string, auto bool) (field, sentence string) {
	if len(sizes) > 0 {
		field, sentence = "/options/"+option, detail+"; what fits is "+strings.Join(sizes, " or ")
		if auto {
			sentence += ", or engines " + events.EnginesAuto
		}
		return field, sentence
	}
	if auto {
		return "/engines", detail + "; ask with engines " + events.EnginesAuto + ", or use a smaller model or a larger card"
	}
	return "/variant", detail + "; use a smaller model or a larger card"
}

// sizes are the option that becomes the resolution of the task's picture, and what it
// may be; none where the pipeline fixes it.
func (p Pipeline) sizes(task string) (option string, allowed []string) {
	option = resolution.Name
	for _, n := range p.Nodes {
		if n.Task != task {
			continue
		}
		if other, renamed := n.From[resolution.Name]; renamed {
			option = other
		}
		if _, fixed := n.Fixed[resolution.Name]; fixed {
			return "", nil
		}
	}
	for _, o := range p.Options() {
		if o.Name == option {
			return option, slices.Clone(o.Enum)
		}
	}
	return "", nil
}
