// Which engine runs what: the roster of the worker's engines and their health.

package gpu

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/myspinbot/myspinbot/events"
)

// taskLanes says where each task runs.
var taskLanes = map[string]string{
	taskScript: events.LaneScript, taskSafety: events.LaneScript,
	"train_lora": events.LaneTrain, "train_voice": events.LaneTrain,
	taskSpeech: events.LaneTTS, "render_video": events.LaneRender,
	"lipsync.apply": events.LaneLipsync, "upscale_video": events.LaneUpscale,
	"media.assemble": events.LaneMedia, "media.check": events.LaneMedia,
	"noop.script": events.LaneScript, "noop.tts": events.LaneTTS, "noop.render": events.LaneRender, "noop.lipsync": events.LaneLipsync,
}

// chooser is an engine that cannot take every attempt of its task.
type chooser interface {
	takes(a *Attempt) bool
}

// lightweight is an engine that needs no folder, and that waits for nothing when it
// is asked what it can: it runs before the others have answered, and is not worth a
// line of the log for each attempt.
type lightweight interface {
	engine
	light()
}

// roster knows what each engine said when it was last asked.
type roster struct {
	engines []engine
	memory  *memory
	slots   map[string]int

	mu      sync.Mutex
	states  []engineState // one per engine
	known   int           // how many of them have answered since the start
	running map[string]int
	owned   map[string][]int32 // partitions of the lanes
	asked   chan struct{}      // closed and replaced after each answer
	changed chan struct{}      // holds one when the manifest is out of date
	recheck chan struct{}      // holds one when an engine should be looked at early
}

type engineState struct {
	known bool // has answered
	can   events.TaskCapability
	gap   *events.TaskGap // nil: can
}

// capabilityTime bounds one engine's answer about itself.
const capabilityTime = 10 * time.Second

func newRoster(engines []engine, slots map[string]int) *roster {
	return &roster{
		engines: engines, slots: maps.Clone(slots), states: make([]engineState, len(engines)), running: map[string]int{}, owned: map[string][]int32{}, memory: &memory{},
		asked: make(chan struct{}), changed: make(chan struct{}, 1), recheck: make(chan struct{}, 1),
	}
}

// lanes are the lanes that this worker hosts.
func (r *roster) lanes() []string { return slices.Sorted(maps.Keys(r.slots)) }

// refresh asks every engine what it can do now.
func (r *roster) refresh(ctx context.Context) {
	var wait sync.WaitGroup
	for i, e := range r.engines {
		wait.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, capabilityTime)
			defer cancel()
			can, gap := e.Capability(ctx)
			r.answer(ctx, i, engineState{known: true, can: can, gap: gap})
		})
	}
	wait.Wait()
}

// answer takes what one engine said; its neighbours may be slower.
func (r *roster) answer(ctx context.Context, i int, s engineState) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return // it is about the end, not about the engine
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !sameState(r.states[i], s) {
		signal(r.changed)
	}
	if !r.states[i].known {
		r.known++
	}
	r.states[i] = s
	close(r.asked)
	r.asked = make(chan struct{})
}

func sameState(a, b engineState) bool {
	if a.known != b.known || a.gap == nil || b.gap == nil {
		return a.known == b.known && a.gap == b.gap && a.can == b.can
	}
	return *a.gap == *b.gap
}

// signal leaves at most one message, and never waits.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// awaitAny waits until some engine of one of the lanes can run, and names all lanes of
// which one can; none when ctx ended first.
func (r *roster) awaitAny(ctx context.Context, lanes []string) (ready []string) {
	r.until(ctx, func() bool {
		ready = slices.DeleteFunc(slices.Clone(lanes), func(lane string) bool { return !r.serves(lane) })
		return len(ready) > 0
	})
	if ctx.Err() != nil {
		return nil
	}
	return ready
}

// serves says whether some engine of the lane can run. The caller holds mu.
func (r *roster) serves(lane string) bool {
	for i, s := range r.states {
		_, light := r.engines[i].(lightweight)
		if s.known && s.gap == nil && taskLanes[s.can.Task] == lane && (light || r.whole()) {
			return true
		}
	}
	return false
}

// whole says whether every engine has answered once. The caller holds mu.
func (r *roster) whole() bool { return r.known == len(r.states) }

// until waits for an answer after which ok holds; false when ctx ended first.
func (r *roster) until(ctx context.Context, ok func() bool) bool {
	for {
		r.mu.Lock()
		ready, asked := ok(), r.asked
		r.mu.Unlock()
		if ready {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-asked:
		}
	}
}

// light is the lightweight engine of a task that may serve, or nil.
func (r *roster) light(task, engines, wants string) (lightweight, events.TaskCapability) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range r.states {
		if e, light := r.engines[i].(lightweight); light && s.known && s.gap == nil && s.can.Task == task && s.can.Serves(engines, wants) {
			return e, s.can
		}
	}
	return nil, events.TaskCapability{}
}

// pick is the first engine that the job allows and that can run the attempt, and what
// it said of itself, once every engine has answered. Without one the error says what
// to mend.
func (r *roster) pick(ctx context.Context, a *Attempt) (engine, events.TaskCapability, error) {
	if !r.until(ctx, r.whole) {
		return nil, events.TaskCapability{}, ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var reasons, hints []string
	served, barred, foreign, large := false, false, false, (*TaskError)(nil)
	for i, s := range r.states {
		if s.gap != nil {
			// Of an engine that cannot work only the name is known, not what it would make.
			would := events.TaskCapability{Engine: s.gap.Engine, Builtin: s.gap.Builtin, Fidelity: events.FidelityFull}
			if s.gap.Task == a.Task && would.Serves(a.Engines, a.Wants) && !(s.gap.Builtin && a.Engines == events.EnginesReal) {
				reasons, hints = append(reasons, s.gap.Engine+": "+s.gap.Reason), append(hints, s.gap.Hint)
			}
			continue
		}
		if !meantFor(a, s.can) {
			continue
		}
		if !s.can.Serves(a.Engines, a.Wants) {
			barred = true
			continue
		}
		if !s.can.Speaks(a.language()) {
			foreign = true
			continue
		}
		served = true
		if c, picky := r.engines[i].(chooser); picky && !c.takes(a) {
			continue
		}
		if r.memory.fits(r.engines[i], s.can, a) {
			return r.engines[i], s.can, nil
		}
		large = r.memory.tooLarge(r.engines[i], s.can, a)
	}
	if large != nil {
		return nil, events.TaskCapability{}, large
	}
	if served && len(reasons) == 0 {
		return nil, events.TaskCapability{}, &TaskError{
			Class: events.ClassInvalidInput, Message: "no engine for " + a.Task + " takes these inputs", Hint: "is a required input empty?", Misplaced: true,
		}
	}
	e := &TaskError{Class: events.ClassEngineUnavailable, Message: "this worker has no engine for " + a.Task, Hint: "configure one, or leave its lane to other workers", Misplaced: true}
	if foreign {
		e.Message, e.Hint = "this worker has no engine for "+a.Task+" in the language "+a.language(), "configure one that works in it, see docs/engines-voices.md"
	} else if barred {
		e.Message = "this worker has no engine for " + a.Task + " that the job allows"
		e.Hint = "configure " + cmp.Or(a.Wants, "one") + ", or ask with engines " + events.EnginesAuto
		if a.Engines != "" {
			e.Message += " (engines " + a.Engines + ")"
		}
	}
	if len(reasons) > 0 {
		e.Message += ": " + strings.Join(reasons, "; ")
		e.Hint = strings.Join(slices.Compact(hints), "; ")
	}
	return nil, events.TaskCapability{}, e
}

// expect is the engine that is likely to run the attempt, of which only the names of its
// inputs are known yet; nil without one.
func (r *roster) expect(a *Attempt) (engine, events.TaskCapability) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, s := range r.states {
		if !s.known || s.gap != nil || !meantFor(a, s.can) || !s.can.Serves(a.Engines, a.Wants) || !s.can.Speaks(a.language()) {
			continue
		}
		c, picky := r.engines[i].(chooser)
		if (!picky || c.takes(a)) && r.memory.fits(r.engines[i], s.can, a) {
			return r.engines[i], s.can
		}
	}
	return nil, events.TaskCapability{}
}

// began and ended count the running attempts of a lane.
func (r *roster) began(lane string) { r.count(lane, 1) }

func (r *roster) ended(lane string) { r.count(lane, -1) }

func (r *roster) count(lane string, by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running[lane] += by
	signal(r.changed)
}
