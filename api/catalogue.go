// What can be asked for, and what can run now: pipelines, capabilities, workers.

package api

import (
	"slices"
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
	Runnable bool           `json:"runnable"` // now, with every stage
	Missing  []string       `json:"missing"`  // tasks that no worker runs now
}

type pipelineNode struct {
	ID    string  `json:"id"`
	Task  string  `json:"task"`
	Plane string  `json:"plane"`
	Lane  *string `json:"lane"`
}

// viewPipeline describes a pipeline; tasks are those that can run now.
func viewPipeline(p aggregates.Pipeline, tasks map[string]bool) pipelineView {
	v := pipelineView{ID: p.Workflow, Mode: p.Mode, Variant: p.Variant, Title: p.Title, Missing: []string{}}
	v.Required, v.Optional = p.Inputs()
	v.Required, v.Optional = orEmpty(v.Required), orEmpty(v.Optional)
	options := map[string]any{}
	for _, o := range p.Options() {
		options[o.Name] = o.Schema()
	}
	v.Options = map[string]any{"type": "object", "additionalProperties": false, "properties": options}
	for _, n := range p.Nodes {
		t, _ := aggregates.Task(n.Task)
		v.Nodes = append(v.Nodes, pipelineNode{ID: n.ID, Task: n.Task, Plane: t.Plane, Lane: opt(t.Lane)})
		if t.Lane != "" && !tasks[n.Task] && !slices.Contains(v.Missing, n.Task) {
			v.Missing = append(v.Missing, n.Task)
		}
	}
	v.Runnable = len(v.Missing) == 0
	return v
}

func (s *Server) listPipelines(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	tasks, _, _ := s.known.capabilities()
	out := listOf[pipelineView]{Items: []pipelineView{}}
	for _, p := range aggregates.Pipelines() {
		out.Items = append(out.Items, viewPipeline(p, tasks))
	}
	// The operators' own is shown only where somebody has set it up.
	if v := viewPipeline(aggregates.Diagnostic(), tasks); v.Runnable {
		out.Items = append(out.Items, v)
	}
	return c.JSON(out)
}

type taskView struct {
	Task      string       `json:"task"`
	Plane     string       `json:"plane"`
	Lane      *string      `json:"lane"` // null: decided without a worker
	Available bool         `json:"available"`
	Engines   []engineView `json:"engines"`
	Gaps      []gapView    `json:"gaps"`
}

type engineView struct {
	Worker   string  `json:"worker"`
	Engine   string  `json:"engine"`
	Model    *string `json:"model"`
	Version  *string `json:"version"`
	Fidelity string  `json:"fidelity"` // full, preview, prepared or simulated
}

type gapView struct {
	Worker string `json:"worker"`
	Engine string `json:"engine"`
	Reason string `json:"reason"`
	Hint   string `json:"hint"`
}

func (s *Server) getCapabilities(c *fiber.Ctx) error {
	if err := checkQuery(c); err != nil {
		return err
	}
	out := listOf[taskView]{Items: []taskView{}}
	workers := s.known.list()
	for _, t := range aggregates.Tasks() {
		v := taskView{Task: t.Name, Plane: t.Plane, Lane: opt(t.Lane), Available: t.Lane == "", Engines: []engineView{}, Gaps: []gapView{}}
		for _, w := range workers {
			if !s.known.alive(w) {
				continue
			}
			for _, e := range w.manifest.Tasks {
				if e.Task == t.Name {
					v.Available = true
					v.Engines = append(v.Engines, engineView{w.id, e.Engine, opt(e.Model), opt(e.Version), e.Fidelity})
				}
			}
			for _, g := range w.manifest.Unavailable {
				if g.Task == t.Name {
					v.Gaps = append(v.Gaps, gapView{w.id, g.Engine, g.Reason, g.Hint})
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
	Needs       []events.TaskNeed       `json:"needs"`   // of the card's memory
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
		v := workerView{ID: w.id, Alive: s.known.alive(w), Stopped: m.Stopped, SeenAt: w.seen, GPU: opt(m.GPU), VRAMBytes: opt(m.VRAMBytes), Needs: orEmpty(m.Needs),
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
