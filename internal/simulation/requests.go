// What clients ask for: any pipeline, with options and inputs that are mostly right.

package simulation

import (
	"fmt"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

func (c *clients) request(tenant string) events.Request {
	w := c.w
	r := c.pipeline(tenant)
	if r.Options == nil {
		r.Options = map[string]any{}
	}
	if w.chance(4) {
		w.saw("a request that no plan is made for")
		r.Options["no_such_option"] = 1.0
	}
	if len(r.Options) == 0 {
		r.Options = nil
	}
	r.Approval = w.chance(25)
	if w.chance(15) {
		w.saw("a request with a not-before")
		r.NotBeforeMS = w.now.Add(time.Duration(w.between(-10, 600)) * time.Second).UnixMilli()
	}
	if w.chance(25) {
		w.saw("a request of low priority")
		r.Priority = events.PriorityBatch
	}
	if w.chance(8) {
		w.saw("a request with an edit")
		edit := w.text(tenant, fmt.Sprint("edit ", c.ids))
		r.Edit = &edit
	}
	return r
}

func (c *clients) pipeline(tenant string) events.Request {
	w := c.w
	if w.chance(55) {
		r := events.Request{Mode: aggregates.ModeDiagnostic, Variant: aggregates.VariantNoop, Options: map[string]any{}}
		if w.chance(30) {
			r.Options["fail_attempts"] = float64(w.between(0, 3))
		}
		return r
	}
	r := events.Request{Mode: aggregates.ModeTrainAndGenerate, Variant: pick(w, []string{aggregates.VariantSVDWav2Lip, aggregates.VariantSadTalker}), Inputs: map[string]events.Value{}}
	// The same few texts and pictures come again, so that results are found again.
	r.Inputs["prompt"] = w.text(tenant, fmt.Sprint("prompt ", w.rng.IntN(2)))
	file := func(name string) events.Value {
		return events.Value{Artifacts: []events.Artifact{w.store.put(tenant+"/-/upload", name, fmt.Sprint(name, w.rng.IntN(2)))}}
	}
	r.Options = map[string]any{"seed": float64(w.rng.IntN(2))}
	if r.Variant == aggregates.VariantSadTalker {
		r.Options = map[string]any{}
	}
	if len(c.asked) > 0 && w.chance(40) {
		w.saw("a request that names a profile")
		r.Mode, r.ProfileID = aggregates.ModeGenerateFromProfile, events.ProfileIDOfJob(pick(w, c.asked).job)
		return r
	}
	if w.chance(95) { // without it the plan is refused
		r.Inputs["portrait"] = file("portrait")
	}
	if w.chance(50) {
		name := *w.text(tenant, "name").Text
		r.ProfileName = &name
		r.Consent = &events.Consent{By: name, Statement: name}
	}
	if w.chance(30) {
		r.Inputs["voice"] = file("voice")
	}
	if w.chance(30) {
		r.Inputs["images"] = file("images")
	}
	if w.chance(30) {
		r.Options["factor"] = 2.0
	}
	return r
}
