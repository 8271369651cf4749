// Engines that a job allows, and pipelines of the installation's own, at the edge.

package api

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/myspinbot/myspinbot/aggregates"
	"github.com/myspinbot/myspinbot/events"
)

// announceAs makes a worker known that runs everything by one engine.
func (w *world) announceAs(worker string, can events.TaskCapability) {
	w.t.Helper()
	var all []events.TaskCapability
	for _, name := range allTasks() {
		can.Task = name
		all = append(all, can)
	}
	w.announceOnly(worker, all...)
}

// announceOnly makes a worker known that has these engines alone.
func (w *world) announceOnly(worker string, can ...events.TaskCapability) {
	w.t.Helper()
	m := events.WorkerManifest{Tasks: can, Slots: map[string]int{"tts": 1}, Running: map[string]int{}}
	w.produce(events.TopicWorkers, events.Message{ID: "m-" + worker, SchemaVersion: m.SchemaVersion(), AggregateType: events.AggregateWorker, AggregateID: worker,
		OccurredAt: time.Now().UTC(), CommandID: "m", CausationID: "m", CorrelationID: "m", Tenant: tenant, Actor: worker, Data: m})
}

func TestAJobSaysWhichEnginesWorkForIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true})
	body := func(engines string) string {
		return `{"script":"a","variant":"sadtalker","portrait":"` + w.portrait() + `","engines":"` + engines + `"}`
	}
	var p problem
	w.want(422, w.post("/api/jobs", body("real"))).decode(t, &p)
	if len(p.Errors) == 0 || p.Errors[0].Pointer != "/engines" || p.Errors[0].Code != "capability_missing" || !strings.Contains(p.Errors[0].Detail, "or ask with engines auto") {
		t.Errorf("real work where there are previews: %+v", p.Errors)
	}
	w.want(422, w.post("/api/jobs", body("best"))).decode(t, &p)
	if len(p.Errors) != 1 || p.Errors[0].Pointer != "/engines" || p.Errors[0].Code != "value_unknown" {
		t.Errorf("a choice that there is not: %+v", p.Errors)
	}
	realSpeech := func() bool {
		var list listOf[taskView]
		w.get("/api/capabilities").decode(t, &list)
		return slices.ContainsFunc(list.Items, func(v taskView) bool { return v.Task == aggregates.TaskSpeech && v.Available && v.Real })
	}
	if realSpeech() {
		t.Error("a preview is shown as real")
	}
	w.announceAs("worker-2", events.TaskCapability{Engine: "card", Fidelity: events.FidelityFull})
	eventually(t, "real engines are shown", realSpeech)
	var pipelines listOf[pipelineView]
	w.get("/api/pipelines").decode(t, &pipelines)
	for _, v := range pipelines.Items { // infinitetalk's own engine alone is not there
		if unreal := strings.Join(v.MissingReal, " "); (unreal == aggregates.TaskLipsync) != (v.Variant == aggregates.VariantInfiniteTalk) {
			t.Errorf("%s %s misses real engines for %q", v.Mode, v.Variant, unreal)
		}
	}
	job := w.submit(body("real"))
	if job.Request == nil || job.Request.Engines != events.EnginesReal || w.request(job.ID).Engines != events.EnginesReal {
		t.Errorf("the request is %+v", job.Request)
	}
	if job = w.submit(body("auto")); job.Request.Engines != events.EnginesAuto || w.request(job.ID).Engines != "" {
		t.Errorf("the request is %+v", job.Request)
	}
}

func TestTheOperatorSetsTheUsualEngines(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{noProjector: true, config: func(c *Config) { c.Engines = events.EnginesReal }})
	body := `{"script":"a","variant":"sadtalker","portrait":"` + w.portrait() + `"`
	if a := w.want(422, w.post("/api/jobs", body+"}")); !strings.Contains(string(a.body), `"/engines"`) {
		t.Errorf("a job that says nothing: %s", a.body)
	}
	if job := w.submit(body + `,"engines":"auto"}`); w.request(job.ID).Engines != "" {
		t.Errorf("the request is %+v", w.request(job.ID))
	}
	if job := w.submit(`{"mode":"diagnostic"}`); w.request(job.ID).Engines != "" {
		t.Error("a job that makes nothing is held to the operator's choice")
	}
}

func TestOwnPipelinesAreOfferedLikeBuiltInOnes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../deploy/pipelines/upright.json")
	ok(t, err)
	pipe, faults := aggregates.ReadPipeline(text)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	w := newWorld(t, options{manual: true, config: func(c *Config) { c.Catalogue.Add(pipe) }})
	var list struct{ Items []pipelineView }
	w.want(200, w.get("/api/pipelines")).decode(t, &list)
	i := slices.IndexFunc(list.Items, func(p pipelineView) bool { return p.ID == "upright_v1" })
	if i < 0 || !list.Items[i].Own || list.Items[i].Variant != "upright" || !list.Items[i].Runnable {
		t.Fatalf("it is pipeline %d of %d, or wrongly told", i, len(list.Items))
	}
	options := asSchema(asSchema(list.Items[i].Options)["properties"])
	if pace := asSchema(options["pace"]); pace["maximum"] != 1.3 || pace["default"] != 1.1 || options["speed"] != nil || options["aspect"] != nil {
		t.Errorf("its options are %v", options)
	}
	if contract := string(w.get("/api/openapi.json").body); !strings.Contains(contract, `"upright"`) || !strings.Contains(contract, `"upright_v1"`) {
		t.Error("the contract does not name it")
	}
	portrait := w.portrait()
	if a := w.want(422, w.post("/api/jobs", `{"variant":"upright","script":"a","portrait":"`+portrait+`","options":{"pace":2,"fps":30}}`)); !strings.Contains(string(a.body), "option pace must be a number from 0.9 to 1.3") || !strings.Contains(string(a.body), "/options/fps") {
		t.Errorf("options beyond its own: %s", a.body)
	}

	// The job handler of this test knows built-in pipelines alone.
	job := w.ended(`{"pipeline":"upright_v1","script":"a","portrait":"` + portrait + `","options":{"pace":1.2}}`)
	if got := w.decider.state(job.ID); got.State != aggregates.JobSucceeded || got.Graph.Variant != "upright" {
		t.Fatalf("the job is %s: %+v", got.State, got.Graph)
	}
	if shown := string(w.get("/api/jobs/" + job.ID).body); !strings.Contains(shown, `"aspect":"9:16"`) {
		t.Error("the job is not shown with what the pipeline fixes")
	}
	w.want(200, w.get("/api/jobs?variant=upright"))

	// Another process, without the file, does not offer it, but goes on from its jobs.
	w.server.cfg.Catalogue = aggregates.Catalogue{}
	other := w.another()
	other.want(422, other.post("/api/jobs", `{"variant":"upright","script":"a","portrait":"`+portrait+`"}`))
	if again := other.goOn(job.ID, "rerun", `{"from":"lipsync","options":{"pace":1.3}}`); again.Status != aggregates.JobSucceeded || again.Variant != "upright" {
		t.Errorf("the re-run is %s", again.Status)
	}
}
