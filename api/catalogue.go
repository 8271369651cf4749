// What can be asked for, and what can run now: pipelines, capabilities, workers.

package api

import (
	"github.com/gofiber/fiber/v2"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// viewPipeline describes a pipeline; engines are those that can run now.
func viewPipeline(p aggregates.Pipeline, engines aggregates.Engines) pipelineView {
	v := pipelineView{ID: p.Workflow, Mode: p.Mode, Variant: p.Variant, Title: p.Title, Own: p.Definition != "",
		Missing: orEmpty(p.Missing(engines, events.EnginesAuto)), MissingReal: orEmpty(p.Missing(engines, events.EnginesReal))}
	v.RequiredInputs, v.OptionalInputs = p.Inputs()
	v.RequiredInputs, v.OptionalInputs = orEmpty(v.RequiredInputs), orEmpty(v.OptionalInputs)
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
	engines := s.known.capabilities().engines
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
					if e.Takes != events.InputRecording { // who plays a recording speaks for no job without one
						v.Available, v.Real = true, v.Real || events.IsReal(e.Fidelity)
					}
					v.Engines = append(v.Engines, engineView{Worker: w.id, Engine: e.Engine, Model: opt(e.Model), Version: opt(e.Version), Fidelity: e.Fidelity, Builtin: e.Builtin, Takes: opt(e.Takes), Languages: orEmpty(e.Languages.List()), Factor: opt(e.Factor)})
				}
			}
			for _, g := range w.manifest.Unavailable {
				if g.Task == t.Name {
					v.Gaps = append(v.Gaps, gapView{Worker: w.id, Engine: g.Engine, Reason: g.Reason, Hint: g.Hint, Builtin: g.Builtin})
				}
			}
		}
		out.Items = append(out.Items, v)
	}
	return c.JSON(out)
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
