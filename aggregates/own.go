// Pipelines of an installation's own beside the built-in ones, and how a request finds
// its pipeline. A job of an own one carries its definition: the process that accepts the
// job is the only one that needs the file, every other plans by the same words, and a
// retry does so after the file has changed.

package aggregates

import (
	"slices"
	"strings"

	"github.com/myspinbot/myspinbot/events"
)

// Catalogue is what can be asked for. The zero value has the built-in pipelines alone.
type Catalogue struct{ own []Pipeline }

// Add takes a pipeline that ReadPipeline gave, or says which name it has in common
// with another. Field is the JSON pointer into the pipeline.
func (c *Catalogue) Add(p Pipeline) []events.Reason {
	var reasons []events.Reason
	taken := func(field, name string) {
		reasons = append(reasons, events.Reason{Code: "name_taken", Field: field, Detail: name + " is the name of another pipeline; choose one of your own"})
	}
	all := append(slices.Clone(pipelines), c.own...)
	if slices.ContainsFunc(all, func(o Pipeline) bool { return o.Workflow == p.Workflow }) {
		taken("/id", p.Workflow)
	}
	builtin := func(o Pipeline) bool { return o.Variant == p.Variant && (o.Definition == "" || o.Mode == p.Mode) }
	if slices.ContainsFunc(all, builtin) {
		taken("/variant", p.Variant)
	}
	if len(reasons) == 0 {
		c.own = append(slices.Clone(c.own), p)
	}
	return reasons
}

// Own lists the pipelines that are none of the built-in ones.
func (c Catalogue) Own() []Pipeline { return slices.Clone(c.own) }

// Pipelines lists what is offered to users.
func (c Catalogue) Pipelines() []Pipeline { return append(Pipelines(), c.own...) }

// Variants lists the variants that are offered, in the catalogue's order.
func (c Catalogue) Variants() []string {
	out := Variants()
	for _, p := range c.own {
		if !slices.Contains(out, p.Variant) {
			out = append(out, p.Variant)
		}
	}
	return out
}

// Defaults fills mode, variant and workflow where the request leaves them open, and
// gives it the definition of its pipeline where that is an own one. The id of an own
// pipeline says its mode and variant.
func (c Catalogue) Defaults(r events.Request) events.Request {
	for _, p := range c.own {
		named := r.Workflow == p.Workflow && (r.Mode == "" || r.Mode == p.Mode) && (r.Variant == "" || r.Variant == p.Variant)
		meant := r.Workflow == "" && r.Variant == p.Variant && (r.Mode == p.Mode || r.Mode == "" && p.Mode == ModeTrainAndGenerate)
		if named || meant {
			r.Workflow, r.Mode, r.Variant, r.Definition = p.Workflow, p.Mode, p.Variant, p.Definition
			return r
		}
	}
	return Defaults(r)
}

// Defaults fills mode, variant and workflow where the request leaves them open.
func Defaults(r events.Request) events.Request {
	if r.Mode == "" {
		r.Mode = ModeTrainAndGenerate
	}
	if r.Variant == "" {
		r.Variant = VariantSVDWav2Lip
	}
	if p, ok := FindPipeline(r.Mode, r.Variant); ok && r.Workflow == "" {
		r.Workflow = p.Workflow
	}
	return r
}

// pipelineOf is the pipeline that a request with its defaults names, or why there is none.
func pipelineOf(r events.Request) (Pipeline, []events.Reason) {
	if r.Definition == "" {
		if p, ok := FindPipeline(r.Mode, r.Variant); ok {
			return p, nil
		}
		return Pipeline{}, unknownPipeline(r)
	}
	p, faults := ReadPipeline([]byte(r.Definition))
	if len(faults) == 0 && (p.Mode != r.Mode || p.Variant != r.Variant) {
		faults = []events.Reason{{Field: "/variant", Detail: "it is for mode " + p.Mode + " and variant " + p.Variant}}
	}
	var reasons []events.Reason
	for _, f := range faults {
		reasons = append(reasons, events.Reason{Code: "pipeline_invalid", Field: "/pipeline", Detail: "the pipeline that the job brings cannot be used here: " + f.Field + ": " + f.Detail})
	}
	return p, reasons
}

func unknownPipeline(r events.Request) []events.Reason {
	var out []events.Reason
	if !slices.ContainsFunc(pipelines, func(p Pipeline) bool { return p.Mode == r.Mode }) {
		out = append(out, events.Reason{Code: "mode_unknown", Field: "/mode", Detail: "mode must be one of " + strings.Join(Modes(), ", ")})
	}
	if !slices.ContainsFunc(pipelines, func(p Pipeline) bool { return p.Variant == r.Variant }) {
		out = append(out, events.Reason{Code: "variant_unknown", Field: "/variant", Detail: "variant must be one of " + strings.Join(Variants(), ", ")})
	}
	if out == nil {
		out = append(out, events.Reason{Code: "variant_unknown", Field: "/variant", Detail: "variant " + r.Variant + " has no pipeline for mode " + r.Mode})
	}
	return out
}
