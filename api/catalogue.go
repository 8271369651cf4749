// What can be asked for, and what can run now: pipelines, capabilities, workers.

package api

import (
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

type pipelineView struct {
	ID       string         `json:"id"` // workflow id
	Mode     string         `json:"mode"`
	Variant  string         `json:"variant"`
	Title    string         `json:"title"`
	Required []string       `json:"required_inputs"` // beside prompt or script, one of which is needed
	Optional []string       `json:"optional_inputs"`
	Options  map[string]any `json:"options"` // JSON Schema of the request's options
	Nodes    []pipelineNode `json:"nodes"`
	Runnable bool           `json:"runnable"`     // now, with every stage
	Missing  []string       `json:"missing"`      // tasks that no worker runs now
	Unreal   []string       `json:"missing_real"` // tasks that no real engine runs now
	Own      bool           `json:"own"`          // this installation's, not built in
}

type pipelineNode struct {
	ID    string  `json:"id"`
	Task  string  `json:"task"`
	Plane string  `json:"plane"`
	Lane  *string `json:"lane"`
	// Engine is the one that the pipeline wants; a built-in one stands in for it.
	Engine *string `json:"engine"`
}

// viewPipeline describes a pipeline; engines are those that can run now.
func viewPipeline(p aggregates.Pipeline, engines aggregates.Engines) pipelineView {
	v := pipelineView{ID: p.Workflow, Mode: p.Mode, Variant: p.Variant, Title: p.Title, Own: p.Definition != "",
		Missing: orEmpty(p.Missing(engines, events.EnginesAuto)), Unreal: orEmpty(p.Missing(engines, events.EnginesReal))}
	v.Required, v.Optional = p.Inputs()
	v.Required, v.Optional = orEmpty(v.Required), orEmpty(v.Optional)
	options := map[string]any{}
	for _, o := range p.Options() {
		options[o.Name] = o.Schema()
	}
	v.Options = map[string]any{"type": "object", "additionalProperties": false, "properties": options}
	for _, n := range p.Nodes {
		t, _ := aggregates.Task(n.Task)
		v.Nodes = append(v.Nodes, pipelineNode{ID: n.ID, Task: n.Task, Plane: t.Plane, Lane: opt(t.Lane), Engine: opt(n.Engine)})
	}
	v.Runnable = len(v.Missing) == 0
	return v
}

func (s *Server) listPipelines(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	engines, _, _ := s.known.capabilities()
	out := listOf[pipelineView]{Items: []pipelineView{}}
	for _, p := range s.cfg.Catalogue.Pipelines() {
		out.Items = append(out.Items, viewPipeline(p, engines))
	}
	// The operators' own is shown only where somebody has set it up.
	if v := viewPipeline(aggregates.Diagnostic(), engines); v.Runnable {
		out.Items = append(out.Items, v)
	}
	return c.JSON(out)
}

type taskView struct {
	Task      string       `json:"task"`
	Plane     string       `json:"plane"`
	Lane      *string      `json:"lane"` // null: decided without a worker
	Available bool         `json:"available"`
	Real      bool         `json:"real"` // some engine makes the real thing, not a preview
	Engines   []engineView `json:"engines"`
	Gaps      []gapView    `json:"gaps"`
}

type engineView struct {
	Worker   string  `json:"worker"`
	Engine   string  `json:"engine"`
	Model    *string `json:"model"`
	Version  *string `json:"version"`
	Fidelity string  `json:"fidelity"` // full, preview, prepared or simulated
	Builtin  bool    `json:"builtin"`  // part of this program
	Takes    *string `json:"takes"`    // input without which it does not work
}

type gapView struct {
	Worker string `json:"worker"`
	Engine string `json:"engine"`
	Reason string `json:"reason"`
	Hint   string `json:"hint"`

	Builtin bool `json:"builtin"`
}

func (s *Server) getCapabilities(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	out := listOf[taskView]{Items: []taskView{}}
	workers := s.known.list()
	for _, t := range aggregates.Tasks() {
		v := taskView{Task: t.Name, Plane: t.Plane, Lane: opt(t.Lane), Available: t.Lane == "", Real: t.Lane == "", Engines: []engineView{}, Gaps: []gapView{}}
		for _, w := range workers {
			if !s.known.alive(w) {
				continue
			}
			for _, e := range w.manifest.Tasks {
				if e.Task == t.Name {
					v.Available, v.Real = true, v.Real || events.IsReal(e.Fidelity)
					v.Engines = append(v.Engines, engineView{w.id, e.Engine, opt(e.Model), opt(e.Version), e.Fidelity, e.Builtin, opt(e.Takes)})
				}
			}
			for _, g := range w.manifest.Unavailable {
				if g.Task == t.Name {
					v.Gaps = append(v.Gaps, gapView{w.id, g.Engine, g.Reason, g.Hint, g.Builtin})
				}
			}
		}
		out.Items = append(out.Items, v)
	}
	return c.JSON(out)
}

type workerView struct {
	ID          string                  `json:"id"`
	Alive       bool                    `json:"alive"`
	Stopped     bool                    `json:"stopped"`
	SeenAt      time.Time               `json:"seen_at"`
	GPU         *string                 `json:"gpu"`
	VRAMBytes   *int64                  `json:"vram_bytes"`
	Slots       map[string]int          `json:"slots"`   // by lane
	Running     map[string]int          `json:"running"` // by lane
	Tasks       []events.TaskCapability `json:"tasks"`
	Unavailable []events.TaskGap        `json:"unavailable"`
}

func (s *Server) listWorkers(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	out := listOf[workerView]{Items: []workerView{}}
	for _, w := range s.known.list() {
		m := w.manifest
		v := workerView{ID: w.id, Alive: s.known.alive(w), Stopped: m.Stopped, SeenAt: w.seen, GPU: opt(m.GPU), VRAMBytes: opt(m.VRAMBytes),
			Slots: m.Slots, Running: m.Running, Tasks: orEmpty(m.Tasks), Unavailable: orEmpty(m.Unavailable)}
		if v.Slots == nil {
			v.Slots = map[string]int{}
		}
		if v.Running == nil {
			v.Running = map[string]int{}
		}
		out.Items = append(out.Items, v)
	}
	return c.JSON(out)
}
